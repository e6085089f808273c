"""The shallow student: the teacher's CNN and first layers, run along two paths.

The distillation path has no adapters and imitates the teacher. The verification path has a bottleneck
adapter beside the feed-forward block of each layer, and feeds the speaker back-end (METHOD.md, section 1):

    pre-norm:   distillation y = h + FFN(LN(h));   verification y = h + FFN(LN(h)) + A(h)
    post-norm:  distillation y = LN(h + FFN(h));   verification y = LN(h + FFN(h) + A(h))

The paths are equal before the first adapter, so `forward_two_paths` computes that part once; the
released code doubles the batch before the CNN.
"""

import copy

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from oskdft.config import ModelConfig, Switches
from oskdft.method.encoder import (
    add_feed_forward,
    add_positions,
    attend,
    build_encoder,
    cnn,
    finish_layer,
    frame_mask,
    is_pre_norm,
    project,
)
from oskdft.method.library import PretrainedConfig, PreTrainedModel

INIT_STD = 0.02  # the released code's generic initialiser of linear layers
ACTIVATIONS = {"relu": nn.ReLU, "elu": nn.ELU}


class Adapter(nn.Module):
    """Bottleneck A(h) = scale * up(act(down([LN](h)))), beside the feed-forward block.

    Args:
        width: D of the student.
        model: adapter_units, adapter_activation, adapter_norm, adapter_scale, adapter_noise.
        switches: adapter_residual "doubled" adds h to the output, which the layer adds again
            (surprise 2); adapter_init "normal" draws the up-projection, "zero" starts as identity
            (surprise 3).

    >>> adapter = Adapter(8, ModelConfig(adapter_units=4), Switches("all", "single", "zero"))
    >>> adapter(torch.ones(1, 3, 8)).abs().max().item()  # starts without any effect
    0.0
    """

    def __init__(self, width: int, model: ModelConfig, switches: Switches) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width) if model.adapter_norm else nn.Identity()
        self.down = nn.Linear(width, model.adapter_units)
        self.activation = ACTIVATIONS[model.adapter_activation]()
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
        if self.training:
            bottleneck = add_noise(bottleneck, self.noise)
        out = self.scale * self.up(bottleneck)
        return hidden + out if self.doubled else out


def add_noise(bottleneck: Tensor, share: tuple[float, float]) -> Tensor:
    """Add noise N(0, u mean|h|) with one u ~ U(low, high) a batch (release R, training only).

    Args:
        bottleneck: [B, T, units]. share: (low, high); high 0 leaves the input as it is.
    """
    low, high = share
    if high <= 0:
        return bottleneck
    u = low + (high - low) * torch.rand((), device=bottleneck.device)
    deviation = u * bottleneck.detach().abs().mean()
    return bottleneck + deviation * torch.randn_like(bottleneck)


class Student(nn.Module):
    """Shallow encoder with adapters; one implementation for all families of `encoder`.

    With ``checkpointed`` set, training keeps the input of each layer and computes the layer again in the
    backward pass: less memory, more time, the same numbers.

    Args:
        config: the encoder's architecture, with the student's number of layers.
        model: the adapters' settings; adapter_layers says which layers have one, empty: all.
        switches: see `Adapter`.

    >>> from oskdft.method.encoder import architecture
    >>> student = Student(architecture("tiny-random-hubert"), ModelConfig(), Switches())
    >>> [states.shape for states in student.forward_two_paths(torch.zeros(2, 8000))]  # [L+1, B, T, D]
    [torch.Size([3, 2, 24, 32]), torch.Size([3, 2, 24, 32])]
    """

    def __init__(self, config: PretrainedConfig, model: ModelConfig, switches: Switches) -> None:
        super().__init__()
        self.checkpointed = False
        self.encoder: PreTrainedModel = build_encoder(config)
        count = config.num_hidden_layers if model.adapter_units else 0
        chosen = model.adapter_layers or range(1, count + 1)
        self.adapters = nn.ModuleList(  # None keeps the names of the others
            Adapter(config.hidden_size, model, switches) if layer in chosen else None
            for layer in range(1, count + 1)
        )

    def forward(
        self,
        wave: Tensor,
        lengths: Tensor | None = None,
        distilled_rows: int = 0,
        features: Tensor | None = None,
    ) -> Tensor:
        """Compute the hidden states along one path.

        Args:
            wave: [B, N] samples at 16 kHz, in [-1, 1].
            lengths: [B] valid samples of zero-padded rows; None when no row is padded.
            distilled_rows: number of leading rows that take the distillation path; the others take
                the verification path. 0: verification for all; B: distillation for all; B // 2:
                release P at evaluation (surprise 1).
            features: [B, T, C] of ``wave``, when the CNN is frozen and the teacher has run it.
        Returns:
            [L+1, B, T, D], in the order and with the norms of `Teacher.forward`.
        """
        hidden, mask = self._input(wave, lengths, features)
        bias = None
        # a copy: gradients of state 0 add up in the same order on one path and on two
        states = [hidden.clone()]
        for index in range(len(self.encoder.encoder.layers)):
            if index == 0 or not self._layer_dropped():
                hidden, bias = self._layer(index, hidden, mask, bias, distilled_rows, False)
            states.append(hidden)
        return self._stacked(states)

    def forward_two_paths(
        self, wave: Tensor, features: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Compute both paths over one input; the part before the first adapter is computed once.

        Args:
            wave: [B, N] samples, no row padded.
            features: [B, T, C] of ``wave``, when the CNN is frozen and the teacher has run it.
        Returns:
            (distillation, verification), each [L+1, B, T, D].
        """
        rows = len(wave)
        hidden, _ = self._input(wave, None, features)
        bias = None
        states = [torch.cat([hidden, hidden])]
        for index in range(len(self.encoder.encoder.layers)):
            if index == 0 or not self._layer_dropped():
                # the paths part in layer 0: from then on 2 B rows
                hidden, bias = self._layer(index, hidden, None, bias, rows, index == 0)
            states.append(hidden)
        stacked = self._stacked(states)
        return stacked[:, :rows], stacked[:, rows:]

    def _layer(self, *given: object) -> tuple[Tensor, Tensor | None]:
        """`_layer_itself`, computed again in the backward pass where ``checkpointed`` is set."""
        if self.checkpointed and self.training:
            return checkpoint(self._layer_itself, *given, use_reentrant=False)
        return self._layer_itself(*given)

    def _layer_itself(
        self,
        index: int,
        hidden: Tensor,
        mask: Tensor | None,
        bias: Tensor | None,
        distilled_rows: int,
        parting: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Run a layer with its adapter: -> (hidden, position bias of WavLM or None).

        Args:
            parting: double the rows before the first adapter, for both paths.
        """
        layer, pre_norm = self.encoder.encoder.layers[index], is_pre_norm(self.encoder)
        hidden, bias = attend(layer, hidden, mask, bias, pre_norm)
        total = add_feed_forward(layer, hidden, pre_norm)
        if parting:
            hidden = torch.cat([hidden, hidden])
            total = torch.cat([total, total])
            bias = None if bias is None else torch.cat([bias, bias])
        total = self._add_adapter(index, total, hidden, distilled_rows)
        return finish_layer(layer, total, pre_norm), bias

    def _input(
        self, wave: Tensor, lengths: Tensor | None, features: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Hidden state 0 [B, T, D] and the frame mask."""
        mask = frame_mask(self.encoder.config, lengths, wave.shape[1])
        if features is None:
            features = cnn(self.encoder, wave, None if mask is None else lengths)
        hidden = project(self.encoder, features)
        if self.training:
            hidden = mask_randomly(self.encoder, hidden)
        return add_positions(self.encoder, hidden, mask), mask

    def _add_adapter(
        self, index: int, total: Tensor, hidden: Tensor, distilled_rows: int
    ) -> Tensor:
        """Add A(h) to the sum of a layer, on all rows behind the first ``distilled_rows``."""
        adapter = self.adapters[index] if self.adapters else None
        if adapter is None or distilled_rows >= len(hidden):
            return total
        verified = total[distilled_rows:] + adapter(hidden[distilled_rows:])
        return torch.cat([total[:distilled_rows], verified]) if distilled_rows else verified

    def _layer_dropped(self) -> bool:
        """LayerDrop in training. NumPy's generator, as in SpecAugment; the loop seeds it (surprise 13)."""
        rate = self.encoder.config.layerdrop
        return self.training and rate > 0 and drawn() < rate

    def _stacked(self, states: list[Tensor]) -> Tensor:
        if is_pre_norm(self.encoder):
            states[-1] = self.encoder.encoder.layer_norm(states[-1])
        return torch.stack(states)


@torch.compiler.disable
def mask_randomly(encoder: PreTrainedModel, hidden: Tensor) -> Tensor:
    """SpecAugment as the encoder's configuration says: [B, T, D] -> [B, T, D]."""
    return encoder._mask_hidden_states(hidden)


@torch.compiler.disable  # a compiled model would draw from torch's generator
def drawn() -> float:
    """Draw a number in [0, 1) from NumPy's generator."""
    return np.random.random()


def from_teacher(teacher: PreTrainedModel, model: ModelConfig, switches: Switches) -> Student:
    """Build a student that starts as the teacher's CNN, projection and layers ``model.init_layers``.

    Without init_layers it starts as the teacher's first layers. WavLM keeps the relative position
    embedding, which serves all layers, in layer 1: the student's is the teacher's in any case. With
    student_init "random" the positional convolution, the encoder's layer norm and the mask
    vector stay random, as in the released code (surprise 4); with "copied" they are the teacher's.

    Raises:
        ValueError: more student layers than the teacher has, or a layer that it does not have.

    >>> from oskdft.method.encoder import architecture
    >>> encoder = build_encoder(architecture("tiny-random-hubert"))
    >>> student = from_teacher(encoder, ModelConfig(student_layers=1, init_layers=(2,)), Switches())
    >>> own, theirs = student.encoder.encoder.layers, encoder.encoder.layers
    >>> len(own), torch.equal(own[0].attention.k_proj.weight, theirs[1].attention.k_proj.weight)
    (1, True)
    """
    student = Student(student_config(teacher.config, model.student_layers), model, switches)
    check_init_layers(model.init_layers, teacher.config.num_hidden_layers)
    copied = teacher.state_dict()
    for own, theirs in enumerate(model.init_layers):
        for name, weight in teacher.encoder.layers[theirs - 1].state_dict().items():
            copied[f"encoder.layers.{own}.{name}"] = weight
    if switches.student_init == "random":
        kept_random = ("encoder.pos_conv_embed.", "encoder.layer_norm.", "masked_spec_embed")
        copied = {name: w for name, w in copied.items() if not name.startswith(kept_random)}
    weights = student.encoder.state_dict()
    weights |= {name: weight for name, weight in copied.items() if name in weights}
    student.encoder.load_state_dict(weights)
    return student


def check_init_layers(layers: tuple[int, ...], teacher_layers: int) -> None:
    """Refuse student layers that would start from a layer that the teacher does not have.

    >>> check_init_layers((1, 3), teacher_layers=2)
    Traceback (most recent call last):
    ValueError: model.init_layers is [1, 3], the teacher has layers 1 to 2
    """
    if layers and max(layers) > teacher_layers:
        raise ValueError(
            f"model.init_layers is {list(layers)}, the teacher has layers 1 to {teacher_layers}"
        )


def student_config(teacher: PretrainedConfig, layers: int) -> PretrainedConfig:
    """Return the teacher's configuration with fewer layers.

    Raises:
        ValueError: more layers than the teacher has.
    """
    if layers > teacher.num_hidden_layers:
        raise ValueError(
            f"model.student_layers is {layers}, the teacher has {teacher.num_hidden_layers}; choose fewer"
        )
    config = copy.deepcopy(teacher)
    config.num_hidden_layers = layers
    return config
