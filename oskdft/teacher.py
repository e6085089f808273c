"""The frozen teacher, and the steps of a speech encoder that teacher and student share.

An encoder is one of transformers' own models (wav2vec 2.0, HuBERT, WavLM). Its forward pass is spelt
out here step by step, because the student must branch in the middle of a layer and because padded
frames must never reach a score. Both layer forms of METHOD.md section 1 are covered:

    pre-norm  (XLSR, "stable"):  h = x + Attn(LN(x));  y = h + FFN(LN(h))
    post-norm (base models):     h = LN(x + Attn(x));  y = LN(h + FFN(h))
"""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import (
    HubertConfig,
    HubertModel,
    PretrainedConfig,
    PreTrainedModel,
    Wav2Vec2Config,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
)
from transformers.utils import logging

from oskdft import checkpoint
from oskdft.files import inside, read_json
from oskdft.layouts import some
from oskdft.positions import convolve_positions
from oskdft.weights import WEIGHTS, hub_files, local_folder

# WavLM of transformers mixes a boolean padding mask with float position biases: exact, but torch says so
warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")

logging.disable_progress_bar()  # a bar for each loaded model says nothing

FAMILIES = {
    "wav2vec2": (Wav2Vec2Config, Wav2Vec2Model),
    "hubert": (HubertConfig, HubertModel),
    "wavlm": (WavLMConfig, WavLMModel),
}
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
FOREIGN_CODE = ("auto_map", "attn_implementation", "_attn_implementation", "quantization_config")
MOST_LAYERS, LARGEST_SIZE = 200, 1_000_000  # beyond them a configuration is damaged or hostile
_LARGE = {
    "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
    "conv_bias": True, "feat_extract_norm": "layer", "do_stable_layer_norm": True,
}  # fmt: skip
_TINY = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "conv_dim": (16,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
# architectures whose sizes can be told without any weights: (family, what differs from its defaults)
ARCHITECTURES = {
    "facebook/wav2vec2-large-xlsr-53": ("wav2vec2", _LARGE),
    "facebook/wav2vec2-base": ("wav2vec2", {}),
    "facebook/hubert-base-ls960": ("hubert", {}),
    "microsoft/wavlm-base-plus": ("wavlm", {}),
    "tiny-random-wav2vec2": (
        "wav2vec2",
        _TINY | {"do_stable_layer_norm": True, "feat_extract_norm": "layer"},
    ),
    "tiny-random-hubert": ("hubert", _TINY),
    "tiny-random-wavlm": ("wavlm", _TINY),
}


def architecture(name: str, **changes) -> PretrainedConfig:
    """Configuration of a known architecture, without weights.

    >>> architecture("facebook/wav2vec2-large-xlsr-53").num_hidden_layers
    24
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"no architecture {name!r}; known: {', '.join(ARCHITECTURES)}")
    family, differs = ARCHITECTURES[name]
    return FAMILIES[family][0](**(differs | changes))


def build_encoder(config: PretrainedConfig) -> PreTrainedModel:
    """A randomly initialised encoder of ``config``; its family is ``config.model_type``."""
    if config.model_type not in FAMILIES:
        raise ValueError(f"model_type {config.model_type!r} is not one of {', '.join(FAMILIES)}")
    return FAMILIES[config.model_type][1](config)


def load_encoder(name: str) -> PreTrainedModel:
    """Load pre-trained weights: shipped (`classroom-hubert`), a folder, a hub name, or `tiny-random-*`.

    Args:
        name: looked for in the package's assets, as a folder, in $OSKDFT_DATA/weights/<last part of
            the name>, and then on the hub (or in its cache).
    Raises:
        ValueError: not found, only pickled weights, or tensors missing, left over or of another
            shape; the line says what to put where.

    >>> load_encoder("tiny-random-hubert").config.num_hidden_layers
    2
    """
    if name.startswith("tiny-random-"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the same "random" teacher in every process
            return build_encoder(architecture(name)).eval()
    found = find_weights(name)
    return _from_folder(found) if isinstance(found, Path) else _from_files(*found)


def find_weights(name: str) -> Path | tuple[Path, Path] | None:
    """What `load_encoder` reads: a folder, or config.json and weights of the hub; None: nothing.

    Args:
        name: as in `load_encoder`.
    Raises:
        ValueError: not found, or only pickled weights; the line says what to put where.

    >>> find_weights("classroom-hubert").name, find_weights("tiny-random-hubert")
    ('classroom-hubert', None)
    """
    if name.startswith("tiny-random-"):
        return None
    folder = local_folder(name)
    if folder is None and not any(family in name.lower() for family in FAMILIES):
        raise ValueError(
            f"model.teacher {name!r} is no folder with config.json, no shipped teacher and no hub name "
            f"of a {', '.join(FAMILIES)} model"
        )
    return folder or hub_files(name)


def _from_folder(folder: Path) -> PreTrainedModel:
    """Weights of a folder, from its config.json and model.safetensors; nothing else there is read."""
    settings, weights = inside(folder, "config.json"), inside(folder, WEIGHTS)
    if not weights.is_file():
        pickled = [path.name for ending in PICKLED for path in folder.glob(f"*{ending}")]
        why = f"; {pickled[0]} can run code when it is read and is left alone" if pickled else ""
        raise ValueError(f"{folder} needs config.json and model.safetensors{why}")
    return _from_files(settings, weights)


def _from_files(settings: Path, weights: Path) -> PreTrainedModel:
    """The one way into an encoder: sizes are checked before memory is taken for them."""
    config = foreign_config(read_json(settings), str(settings))
    made = FAMILIES[config.model_type][1]
    own = checkpoint.shapes_of(lambda: made(config), str(settings))
    given = {_present_name(name): shape for name, shape in checkpoint.shapes(weights).items()}
    missing = sorted(own.keys() - given.keys())
    if missing:
        raise ValueError(
            f"{weights} lacks {len(missing)} tensors: {some(missing, len(missing))}; get it again"
        )
    checkpoint.refuse_misfit(own, {name: given[name] for name in own}, str(weights))
    tensors = checkpoint.load_tensors(weights)
    return made.from_pretrained(None, config=config, state_dict=tensors, dtype=torch.float32).eval()


def _present_name(name: str) -> str:
    """A tensor's name without the prefix of a model with a head, and as torch names weight norms now."""
    name = name.removeprefix("wav2vec2.").removeprefix("hubert.").removeprefix("wavlm.")
    for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
        if name.endswith(f".{old}"):
            return f"{name.removesuffix(old)}parametrizations.weight.{new}"
    return name


def foreign_config(settings: Any, source: str) -> PretrainedConfig:
    """An encoder's configuration from JSON that may come from anywhere.

    Args:
        settings: what the JSON holds. source: its name, for messages.
    Raises:
        ValueError: another family, a wish for code of its own, or sizes that no speech encoder has.

    >>> foreign_config({"model_type": "hubert", "auto_map": {"AutoModel": "a.B"}}, "config.json")
    Traceback (most recent call last):
    ValueError: config.json asks for code from elsewhere (auto_map), which is never run; take it out
    """
    family = settings.get("model_type") if isinstance(settings, dict) else None
    if family not in tuple(FAMILIES):
        raise ValueError(f"{source}: model_type must be one of {', '.join(FAMILIES)}")
    code = [name for name in FOREIGN_CODE if settings.get(name)]
    if code:
        raise ValueError(
            f"{source} asks for code from elsewhere ({code[0]}), which is never run; take it out"
        )
    for name, value in settings.items():
        numbers = value if isinstance(value, list) else [value]
        most = MOST_LAYERS if name.endswith("_layers") else LARGEST_SIZE
        if len(numbers) > MOST_LAYERS or any(type(n) is int and n > most for n in numbers):
            raise ValueError(f"{source}: {name} is larger than any speech encoder's; get it again")
    try:
        return FAMILIES[family][0].from_dict(settings)
    except Exception as error:  # transformers raises whatever foreign settings run into
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{source} is no {family} configuration ({reason}); get it again"
        ) from None


def frame_count(config: PretrainedConfig, samples):
    """Frames of 20 ms that the CNN makes of so many samples (int or Tensor of ints).

    >>> frame_count(architecture("facebook/hubert-base-ls960"), 48_000)
    149
    """
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        samples = (samples - kernel) // stride + 1
    return samples


def frame_mask(config: PretrainedConfig, lengths: Tensor | None, samples: int) -> Tensor | None:
    """[B, T] True where a frame holds speech, False where it is padding; None when nothing is padded.

    Args:
        lengths: [B] samples of each utterance, or None.
        samples: N, the padded length.
    """
    if lengths is None or bool((lengths == samples).all()):
        return None
    frames = torch.arange(frame_count(config, samples), device=lengths.device)
    return frames[None, :] < frame_count(config, lengths)[:, None]


def cnn(encoder: PreTrainedModel, wave: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Convolutional front-end: [B, N] waveform -> [B, T, C] features, one frame each 20 ms."""
    hidden = wave[:, None]  # [B, 1, N]
    for layer in encoder.feature_extractor.conv_layers:
        norm = getattr(layer, "layer_norm", None)
        if lengths is not None:
            conv = layer.conv
            lengths = (lengths - conv.kernel_size[0]) // conv.stride[0] + 1
        if lengths is not None and isinstance(norm, nn.GroupNorm):
            hidden = layer.activation(_masked_group_norm(norm, layer.conv(hidden), lengths))
        else:
            hidden = layer(hidden)
    return hidden.transpose(1, 2)


def _masked_group_norm(norm: nn.GroupNorm, hidden: Tensor, lengths: Tensor) -> Tensor:
    """Group norm of base models over the valid frames only ([B, C, T], one group per channel)."""
    out = torch.zeros_like(hidden)
    for row, frames in enumerate(lengths.tolist()):  # torch's kernel, without masks of this size
        out[row, :, :frames] = norm(hidden[row : row + 1, :, :frames])[0]
    return out


def project(encoder: PreTrainedModel, features: Tensor) -> Tensor:
    """Feature projection: [B, T, C] -> [B, T, D]."""
    hidden = encoder.feature_projection(features)
    return hidden[0] if isinstance(hidden, tuple) else hidden  # HuBERT returns no second value


def add_positions(encoder: PreTrainedModel, hidden: Tensor, mask: Tensor | None) -> Tensor:
    """Convolutional positions: [B, T, D] -> hidden state 0 (normalised in post-norm models)."""
    body = encoder.encoder
    if mask is not None:
        hidden = (
            hidden * mask[..., None]
        )  # the convolution must see the zeros it sees at a true end
    hidden = hidden + convolve_positions(body.pos_conv_embed, hidden)
    return body.dropout(hidden if is_pre_norm(encoder) else body.layer_norm(hidden))


def fold_weight_norm(module: nn.Module) -> nn.Module:
    """Give weight-normalised convolutions their product once, instead of at each call; for use only.

    Changes ``module`` and returns it. What is saved afterwards no longer fits `load_model`.

    >>> layer = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv1d(2, 2, 3)))
    >>> sorted(dict(fold_weight_norm(layer).named_parameters()))
    ['0.bias', '0.weight']
    """
    for parent in list(module.modules()):
        for name, conv in parent.named_children():
            if not parametrize.is_parametrized(conv, "weight"):
                continue
            # remove_parametrizations would change the class, which copies of the layer share
            plain = nn.Conv1d(
                conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding,
                conv.dilation, conv.groups,
            )  # fmt: skip
            plain.load_state_dict({"weight": conv.weight.detach(), "bias": conv.bias.detach()})
            setattr(parent, name, plain.to(conv.bias.device))
    return module


def is_pre_norm(encoder: PreTrainedModel) -> bool:
    """True for the "stable layer norm" family (XLSR), False for base models."""
    return encoder.config.do_stable_layer_norm


def attend(layer, hidden: Tensor, mask: Tensor | None, bias: Tensor | None, pre_norm: bool):
    """Attention half of a layer: [B, T, D] -> (h [B, T, D], position bias of WavLM or None)."""
    query = layer.layer_norm(hidden) if pre_norm else hidden
    if hasattr(layer.attention, "gru_rel_pos_linear"):  # WavLM
        keep = None if mask is None else mask.long()
        out, _, bias = layer.attention(query, attention_mask=keep, position_bias=bias)
    else:
        out, _ = layer.attention(query, attention_mask=_additive(mask, query))
    hidden = hidden + layer.dropout(out)
    return (hidden if pre_norm else layer.layer_norm(hidden)), bias


def _additive(mask: Tensor | None, like: Tensor) -> Tensor | None:
    """[B, T] mask -> [B, 1, 1, T] of 0 and -inf, the form that every attention kernel understands."""
    if mask is None:
        return None
    zeros = torch.zeros(mask.shape, dtype=like.dtype, device=like.device)
    return zeros.masked_fill(~mask, torch.finfo(like.dtype).min)[:, None, None]


def finish_layer(layer, hidden: Tensor, pre_norm: bool, extra: Tensor | None = None) -> Tensor:
    """Feed-forward half of a layer on [B, T, D]; ``extra`` (the adapter's output) joins the sum."""
    out = hidden + layer.feed_forward(layer.final_layer_norm(hidden) if pre_norm else hidden)
    if extra is not None:
        out = out + extra
    return out if pre_norm else layer.final_layer_norm(out)


def hidden_states(
    encoder: PreTrainedModel,
    wave: Tensor,
    lengths: Tensor | None = None,
    keep: tuple[int, ...] | None = None,
) -> Tensor:
    """All hidden states of an encoder.

    Args:
        wave: [B, N] samples at 16 kHz, in [-1, 1], not normalised (as released).
        lengths: [B] valid samples of each row when rows are zero-padded; None when all are N long.
        keep: which hidden states to return, None for all; 0 is the input of layer 1.
    Returns:
        [L+1, B, T, D], or [len(keep), B, T, D]. In pre-norm models the last state is after the
        final layer norm, the others are raw; in post-norm models every state is normalised.
    """
    mask = frame_mask(encoder.config, lengths, wave.shape[1])
    features = cnn(encoder, wave, None if mask is None else lengths)
    return states_of_features(encoder, features, mask, keep)


def states_of_features(
    encoder: PreTrainedModel,
    features: Tensor,
    mask: Tensor | None = None,
    keep: tuple[int, ...] | None = None,
) -> Tensor:
    """Hidden states from CNN features [B, T, C]; for a student that shares a frozen CNN."""
    pre_norm, bias = is_pre_norm(encoder), None
    hidden = add_positions(encoder, project(encoder, features), mask)
    states = [hidden]
    for layer in encoder.encoder.layers:
        hidden, bias = attend(layer, hidden, mask, bias, pre_norm)
        hidden = finish_layer(layer, hidden, pre_norm)
        states.append(hidden)
    if pre_norm:
        states[-1] = encoder.encoder.layer_norm(hidden)
    return torch.stack(states if keep is None else [states[i] for i in keep])


class Teacher(nn.Module):
    """Frozen SSL encoder: no gradient, always in evaluation mode.

    >>> Teacher(load_encoder("tiny-random-wavlm"))(torch.zeros(2, 8000)).shape  # [L+1, B, T, D]
    torch.Size([3, 2, 24, 32])
    """

    def __init__(self, encoder: PreTrainedModel) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "Teacher":
        """Stay in evaluation mode, whatever the surrounding training loop does."""
        return super().train(False)

    @torch.no_grad()
    def forward(
        self, wave: Tensor, lengths: Tensor | None = None, keep: tuple[int, ...] | None = None
    ) -> Tensor:
        """`hidden_states` without gradient."""
        return hidden_states(self.encoder, wave, lengths, keep)
