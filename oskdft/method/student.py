"""The shallow student: the teacher's CNN and first layers, run along two paths.

Distillation path (no adapters) imitates the teacher; verification path (one bottleneck adapter per
layer, or in some of them, parallel to the feed-forward block) feeds the speaker back-end. METHOD.md section 1:

    pre-norm:   distillation y = h + FFN(LN(h));   verification y = h + FFN(LN(h)) + A(h)
    post-norm:  distillation y = LN(h + FFN(h));   verification y = LN(h + FFN(h) + A(h))

Nothing differs before the first adapter, so `forward_two_paths` computes that part once; the
released code doubles the batch before the CNN.
"""

import copy

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from oskdft.config import ModelConfig, Switches
from oskdft.method.encoder import (
    add_positions,
    attend,
    build_encoder,
    cnn,
    finish_layer,
    frame_mask,
    is_pre_norm,
    project,
)

INIT_STD = 0.02  # the released code's generic initialiser of linear layers
_ACTIVATIONS = {"relu": nn.ReLU, "elu": nn.ELU}


class Adapter(nn.Module):
    """Bottleneck A(h) = scale * up(act(down([LN](h)))), beside the feed-forward block.

    Args:
        width: D of the student.
        model: adapter_units, adapter_activation, adapter_norm, adapter_scale, adapter_noise.
        switches: adapter_residual "doubled" adds h to the output, which the layer adds again
            (surprise 2); adapter_init "normal" draws the up-projection, "zero" starts as identity
            (surprise 3).
    """

    def __init__(self, width: int, model: ModelConfig, switches: Switches) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width) if model.adapter_norm else nn.Identity()
        self.down = nn.Linear(width, model.adapter_units)
        self.activation = _ACTIVATIONS[model.adapter_activation]()
        self.up = nn.Linear(model.adapter_units, width)
        self.scale = model.adapter_scale
        self.noise = model.adapter_noise
        self.doubled = switches.adapter_residual == "doubled"
        for linear in (self.down, self.up):
            nn.init.normal_(linear.weight, std=INIT_STD)
            nn.init.zeros_(linear.bias)
        if switches.adapter_init == "zero":
            nn.init.zeros_(self.up.weight)

    def forward(self, hidden: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        bottleneck = self.activation(self.down(self.norm(hidden)))
        low, high = self.noise
        if self.training and high > 0:  # N(0, u mean|h|), u ~ U(low, high), release R
            size = (
                low + (high - low) * torch.rand((), device=hidden.device)
            ) * bottleneck.detach().abs().mean()
            bottleneck = bottleneck + size * torch.randn_like(bottleneck)
        out = self.scale * self.up(bottleneck)
        return hidden + out if self.doubled else out


class Student(nn.Module):
    """Shallow encoder with adapters; one implementation for wav2vec 2.0, HuBERT and WavLM.

    >>> from oskdft.storage.pretrained import load_encoder
    >>> student = from_teacher(load_encoder("tiny-random-hubert"), ModelConfig(student_layers=1), Switches())
    >>> [states.shape for states in student.forward_two_paths(torch.zeros(2, 8000))]  # [L+1, B, T, D]
    [torch.Size([2, 2, 24, 32]), torch.Size([2, 2, 24, 32])]
    """

    def __init__(self, config: PretrainedConfig, model: ModelConfig, switches: Switches) -> None:
        super().__init__()
        self.encoder: PreTrainedModel = build_encoder(config)
        count = config.num_hidden_layers if model.adapter_units else 0
        places = model.adapter_layers or range(1, count + 1)
        self.adapters = nn.ModuleList(  # None: a layer without; the names of the others stay
            Adapter(config.hidden_size, model, switches) if layer in places else None
            for layer in range(1, count + 1)
        )

    def forward(
        self,
        wave: Tensor,
        lengths: Tensor | None = None,
        without_adapters: int = 0,
        features: Tensor | None = None,
    ) -> Tensor:
        """Hidden states along one path.

        Args:
            wave: [B, N] samples at 16 kHz, in [-1, 1].
            lengths: [B] valid samples of zero-padded rows; None when nothing is padded.
            without_adapters: so many leading rows take the distillation path, the others the
                verification path; 0 is verification for all, B is distillation for all, B // 2 is
                what release P does at evaluation (surprise 1).
            features: [B, T, C] of ``wave``, when the CNN is frozen and the teacher has run it.
        Returns:
            [L+1, B, T, D], in the order and with the norms of `Teacher.forward`.
        """
        hidden, mask = self._input(wave, lengths, features)
        return self._run(hidden, mask, without_adapters)

    def forward_two_paths(
        self, wave: Tensor, features: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Both paths over the same input, the part before the first adapter computed once.

        Args:
            wave: [B, N] samples, nothing padded.
            features: [B, T, C] of ``wave``, when the CNN is frozen and the teacher has run it.
        Returns:
            (distillation, verification), each [L+1, B, T, D].
        """
        hidden, _ = self._input(wave, None, features)
        states = self._run(hidden, None, without_adapters=len(wave), two_paths=True)
        return states[:, : len(wave)], states[:, len(wave) :]

    def _input(
        self, wave: Tensor, lengths: Tensor | None, features: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        mask = frame_mask(self.encoder.config, lengths, wave.shape[1])
        if features is None:
            features = cnn(self.encoder, wave, None if mask is None else lengths)
        hidden = project(self.encoder, features)
        if self.training:
            hidden = self.encoder._mask_hidden_states(hidden)  # SpecAugment, as the config says
        return add_positions(self.encoder, hidden, mask), mask

    def _run(
        self, hidden: Tensor, mask: Tensor | None, without_adapters: int, two_paths: bool = False
    ) -> Tensor:
        """All layers; with ``two_paths`` the batch is doubled behind the first feed-forward block."""
        body, pre_norm, bias = self.encoder.encoder, is_pre_norm(self.encoder), None
        rows = 2 if two_paths else 1
        states = [torch.cat([hidden] * rows)]
        for index, layer in enumerate(body.layers):
            first_of_two = two_paths and index == 0
            if index > 0 and self._dropped():
                states.append(hidden)
                continue
            hidden, bias = attend(layer, hidden, mask, bias, pre_norm)
            if first_of_two and bias is not None:
                bias = torch.cat([bias, bias])
            hidden = self._branch(layer, index, hidden, without_adapters, pre_norm, first_of_two)
            states.append(hidden)
        if pre_norm:
            states[-1] = body.layer_norm(hidden)
        return torch.stack(states)

    def _branch(
        self, layer, index: int, hidden: Tensor, plain: int, pre_norm: bool, split: bool
    ) -> Tensor:
        """Feed-forward block, with the adapter on all rows after the first ``plain`` ones."""
        adapter = self.adapters[index] if self.adapters else None
        if split:  # both paths share this block: compute its sum once, add the adapter to a copy
            out = hidden + layer.feed_forward(
                layer.final_layer_norm(hidden) if pre_norm else hidden
            )
            out = torch.cat([out, out if adapter is None else out + adapter(hidden)])
            return out if pre_norm else layer.final_layer_norm(out)
        if adapter is None or plain >= len(hidden):
            return finish_layer(layer, hidden, pre_norm)
        extra = adapter(hidden[plain:])
        if plain:
            extra = torch.cat([torch.zeros_like(hidden[:plain]), extra])
        return finish_layer(layer, hidden, pre_norm, extra)

    def _dropped(self) -> bool:
        """LayerDrop in training. NumPy's generator, as in SpecAugment; the loop seeds it (surprise 13)."""
        rate = self.encoder.config.layerdrop
        return self.training and rate > 0 and np.random.random() < rate


def from_teacher(teacher: PreTrainedModel, model: ModelConfig, switches: Switches) -> Student:
    """A student that starts as the teacher's CNN, projection and first layers.

    With student_init "random" the positional convolution, the encoder's layer norm and the mask
    vector stay random, as in the released code (surprise 4); with "copied" they are the teacher's.

    Raises:
        ValueError: more student layers than the teacher has.
    """
    student = Student(student_config(teacher.config, model.student_layers), model, switches)
    parts = teacher.state_dict()
    own = {"encoder.pos_conv_embed.", "encoder.layer_norm.", "masked_spec_embed"}
    if switches.student_init == "random":
        parts = {k: v for k, v in parts.items() if not k.startswith(tuple(own))}
    wanted = student.encoder.state_dict()
    student.encoder.load_state_dict(wanted | {k: v for k, v in parts.items() if k in wanted})
    return student


def student_config(teacher: PretrainedConfig, layers: int) -> PretrainedConfig:
    """The teacher's configuration with fewer layers."""
    if layers > teacher.num_hidden_layers:
        raise ValueError(
            f"model.student_layers is {layers}, the teacher has {teacher.num_hidden_layers}; choose fewer"
        )
    config = copy.deepcopy(teacher)
    config.num_hidden_layers = layers
    return config
