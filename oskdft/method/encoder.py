"""The pre-trained speech encoders: architectures, and the steps from a waveform to hidden states.

wav2vec 2.0, HuBERT, WavLM, UniSpeech-SAT and data2vec are one construction: a CNN makes a frame of
features each 20 ms, a projection and a positional convolution lead to hidden state 0, and each
Transformer layer adds its attention and its feed-forward block. The weights and layers are those of
transformers. The steps are functions here, because the student needs them one by one: it adds an adapter
in the middle of a layer.
"""

import warnings

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from oskdft.method.library import CONFIG_MAPPING, MODEL_MAPPING, PretrainedConfig, PreTrainedModel

# WavLM of transformers mixes a boolean padding mask with float position biases: exact, but torch warns.
warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
# `convolve_by_spectra` is complex: a compiled model calls torch's own functions there, as a plain one does.
warnings.filterwarnings(
    "ignore", message="Torchinductor does not support code generation for complex"
)

FAMILIES = {  # transformers' name of a family -> classes of its configuration and its encoder
    family: (CONFIG_MAPPING[family], MODEL_MAPPING[CONFIG_MAPPING[family]])
    for family in ("wav2vec2", "hubert", "wavlm", "unispeech-sat", "data2vec-audio")
}

_LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "conv_bias": True,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
}
_TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
# Architectures whose sizes are known without weights: (family, differences from its defaults).
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
    "tiny-random-unispeech-sat": ("unispeech-sat", _TINY),
    # data2vec counts its positional convolutions where the others name the width of their only one
    "tiny-random-data2vec-audio": (
        "data2vec-audio",
        _TINY | {"num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 7},
    ),
}


def architecture(name: str, **changes) -> PretrainedConfig:
    """Return the configuration of a known architecture, without weights.

    Args:
        name: one of `ARCHITECTURES`.
        changes: fields of the configuration to set otherwise.
    Raises:
        ValueError: unknown name.

    >>> architecture("facebook/wav2vec2-large-xlsr-53").num_hidden_layers
    24
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"no architecture {name!r}; known: {', '.join(ARCHITECTURES)}")
    family, differences = ARCHITECTURES[name]
    return FAMILIES[family][0](**(differences | changes))


def build_encoder(config: PretrainedConfig) -> PreTrainedModel:
    """Build a randomly initialised encoder; ``config.model_type`` names its family.

    Raises:
        ValueError: a family other than `FAMILIES`.

    >>> type(build_encoder(architecture("tiny-random-wavlm"))).__name__
    'WavLMModel'
    """
    if config.model_type not in FAMILIES:
        raise ValueError(f"model_type {config.model_type!r} is not one of {', '.join(FAMILIES)}")
    return FAMILIES[config.model_type][1](config)


def is_pre_norm(encoder: PreTrainedModel) -> bool:
    """Return True for the "stable layer norm" family (XLSR-53), False for base models and data2vec.

    >>> is_pre_norm(build_encoder(architecture("tiny-random-hubert")))
    False
    """
    return getattr(encoder.config, "do_stable_layer_norm", False)  # data2vec has no such setting


# From samples to frames


def frame_count(config: PretrainedConfig, samples):
    """Count the frames of 20 ms that the CNN makes of a number of samples.

    Args:
        samples: at 16 kHz; an int, or a Tensor of ints.

    >>> frame_count(architecture("facebook/hubert-base-ls960"), 48_000)
    149
    """
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        samples = (samples - kernel) // stride + 1
    return samples


def least_samples(config: PretrainedConfig, frames: int = 1) -> int:
    """Count the samples that make a number of frames: the least for which `frame_count` gives it.

    >>> least_samples(architecture("facebook/hubert-base-ls960"), 149)
    47760
    """
    samples = frames
    for kernel, stride in zip(config.conv_kernel[::-1], config.conv_stride[::-1], strict=True):
        samples = (samples - 1) * stride + kernel
    return samples


def frame_mask(config: PretrainedConfig, lengths: Tensor | None, samples: int) -> Tensor | None:
    """Return [B, T], True where a frame holds speech and False where it is padding.

    Args:
        lengths: [B] samples of each utterance, or None.
        samples: N, the padded length.
    Returns:
        the mask, or None when no row is padded.

    >>> config = architecture("tiny-random-hubert")
    >>> frame_mask(config, torch.tensor([720, 400]), 720)
    tensor([[ True,  True],
            [ True, False]])
    """
    if lengths is None or bool((lengths == samples).all()):
        return None
    frames = torch.arange(frame_count(config, samples), device=lengths.device)
    return frames[None, :] < frame_count(config, lengths)[:, None]


def cnn(encoder: PreTrainedModel, wave: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Run the convolutional front-end: [B, N] waveform -> [B, T, C] features, a frame each 20 ms.

    Args:
        lengths: [B] valid samples of zero-padded rows; None when no row is padded.

    >>> cnn(build_encoder(architecture("tiny-random-hubert")), torch.zeros(2, 8000)).shape
    torch.Size([2, 24, 16])
    """
    hidden = wave[:, None]  # [B, 1, N]
    learns = torch.is_grad_enabled() and wave.device.type == "cpu"
    for layer in encoder.feature_extractor.conv_layers:
        norm = getattr(layer, "layer_norm", None)
        if lengths is not None:
            conv = layer.conv
            lengths = (lengths - conv.kernel_size[0]) // conv.stride[0] + 1
        if lengths is not None and isinstance(norm, nn.GroupNorm):
            hidden = layer.activation(_group_norm_of_valid(norm, layer.conv(hidden), lengths))
        elif isinstance(norm, nn.LayerNorm) and learns:
            hidden = channels_last(layer, hidden)
        else:
            hidden = layer(hidden)
    return hidden.transpose(1, 2)


def channels_last(layer: nn.Module, hidden: Tensor) -> Tensor:
    """A CNN layer with layer norm, the channels of a frame side by side in memory: [B, C, T] -> [B, D, T].

    The numbers are those of ``layer(hidden)`` up to rounding. There the norm and the gradient of the GELU read
    memory across its order, which takes a processor twice as long (`benchmarks/cnn.py`).

    >>> config = architecture("tiny-random-wav2vec2", feat_extract_norm="layer")
    >>> channels_last(build_encoder(config).feature_extractor.conv_layers[0], torch.zeros(2, 1, 400)).shape
    torch.Size([2, 16, 79])
    """
    conv, last = layer.conv, torch.channels_last
    weight = conv.weight[:, :, None].contiguous(memory_format=last)  # [D, C, 1, K]
    hidden = hidden[:, :, None].contiguous(memory_format=last)  # [B, C, 1, T]
    hidden = nn.functional.conv2d(hidden, weight, conv.bias, (1, conv.stride[0]))
    hidden = hidden.contiguous(memory_format=last)[:, :, 0].transpose(1, 2)  # [B, T, D]
    return layer.activation(layer.layer_norm(hidden)).transpose(1, 2)


def _group_norm_of_valid(norm: nn.GroupNorm, hidden: Tensor, lengths: Tensor) -> Tensor:
    """Group norm of base models over the valid frames only ([B, C, T], one group per channel)."""
    out = torch.zeros_like(hidden)
    for row, frames in enumerate(lengths.tolist()):
        out[row, :, :frames] = norm(hidden[row : row + 1, :, :frames])[0]
    return out


def project(encoder: PreTrainedModel, features: Tensor) -> Tensor:
    """Project CNN features to the width of the layers: [B, T, C] -> [B, T, D]."""
    hidden = encoder.feature_projection(features)
    return hidden[0] if isinstance(hidden, tuple) else hidden  # HuBERT returns no second value


# Positions


def add_positions(encoder: PreTrainedModel, hidden: Tensor, mask: Tensor | None) -> Tensor:
    """Add convolutional positions: [B, T, D] -> hidden state 0 (normalised in post-norm models)."""
    body = encoder.encoder
    hidden = _zero_padding(hidden, mask)
    if hasattr(body.pos_conv_embed, "layers"):  # data2vec
        positions = convolve_positions_in_turn(body.pos_conv_embed, hidden, mask)
    else:
        positions = convolve_positions(body.pos_conv_embed, hidden)
    hidden = hidden + positions
    return body.dropout(hidden if is_pre_norm(encoder) else body.layer_norm(hidden))


def _zero_padding(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """Zeros behind the end of each row: what a convolution reads there in an unpadded row."""
    return hidden if mask is None else hidden * mask[..., None]


def convolve_positions_in_turn(embed: nn.Module, hidden: Tensor, mask: Tensor | None) -> Tensor:
    """Run data2vec's positional convolutions, one after the other, on [B, T, D].

    Each has a short kernel, a layer norm without weights and an activation.

    Args:
        embed: ``pos_conv_embed`` of data2vec. mask: [B, T], see `frame_mask`.

    >>> encoder = build_encoder(architecture("tiny-random-data2vec-audio"))
    >>> convolve_positions_in_turn(encoder.encoder.pos_conv_embed, torch.zeros(1, 9, 32), None).shape
    torch.Size([1, 9, 32])
    """
    for layer in embed.layers:
        hidden = layer(_zero_padding(hidden, mask).transpose(1, 2)).transpose(1, 2)
    return hidden


def convolve_positions(embed: nn.Module, hidden: Tensor) -> Tensor:
    """Run the positional convolution on [B, T, D]; on a CPU by a product of spectra.

    The kernel spans 128 frames, more than most inputs, and its groups are narrow for the matrix product
    of a CPU: a product of spectra is 3 to 5 times faster at the size of the shipped student, 2 to 3
    times at the size of HuBERT base (benchmarks/positions.py). It pays from two rows on, because all
    rows share the spectrum of the kernel. GPUs were not measured and keep the convolution; so does a
    model that is traced for export.
    """
    direct = (
        hidden.device.type != "cpu"
        or hidden.dtype != torch.float32
        or len(hidden) == 1
        or torch.jit.is_tracing()
        or getattr(embed, "batch_norm", None) is not None
    )
    return embed(hidden) if direct else embed.activation(convolve_by_spectra(embed.conv, hidden))


def convolve_by_spectra(conv: nn.Conv1d, hidden: Tensor) -> Tensor:
    """Grouped convolution over time by the convolution theorem: [B, T, D] -> [B, T, D].

    >>> conv = nn.Conv1d(8, 8, 16, padding=8, groups=2)
    >>> hidden = torch.randn(2, 30, 8)
    >>> direct = conv(hidden.transpose(1, 2)).transpose(1, 2)[:, :30]
    >>> torch.allclose(convolve_by_spectra(conv, hidden), direct, atol=1e-5)
    True
    """
    frames, before = hidden.shape[1], conv.kernel_size[0] // 2
    size = -(-(frames + before) // 32) * 32  # circular wrap meets zeros; 32 keeps prime factors few
    spectrum = torch.fft.rfft(nn.functional.pad(hidden, (0, 0, before, 0)), size, dim=1)
    kernel = torch.fft.rfft(conv.weight, size).conj()  # [D, D / groups, F]
    spectrum = spectrum.unflatten(2, (conv.groups, -1))
    kernel = kernel.unflatten(0, (conv.groups, -1))
    product = torch.einsum("bfgi,goif->bfgo", spectrum, kernel).flatten(2)
    return torch.fft.irfft(product, size, dim=1)[:, :frames] + conv.bias


def fold_weight_norm(module: nn.Module) -> nn.Module:
    """Replace weight-normalised convolutions by plain ones with the same weights; for use only.

    Changes ``module`` and returns it. A model saved afterwards no longer fits `load_model`.

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
                conv.in_channels,
                conv.out_channels,
                conv.kernel_size,
                conv.stride,
                conv.padding,
                conv.dilation,
                conv.groups,
            )
            plain.load_state_dict({"weight": conv.weight.detach(), "bias": conv.bias.detach()})
            setattr(parent, name, plain.to(conv.bias.device))
    return module


# Transformer layers


def attend(layer, hidden: Tensor, mask: Tensor | None, bias: Tensor | None, pre_norm: bool):
    """Run the attention half of a layer: [B, T, D] -> (h [B, T, D], position bias of WavLM or None)."""
    query = layer.layer_norm(hidden) if pre_norm else hidden
    if hasattr(layer.attention, "gru_rel_pos_linear"):  # WavLM
        keep = None if mask is None else mask.long()
        out, _, bias = layer.attention(query, attention_mask=keep, position_bias=bias)
    else:
        out, _ = layer.attention(query, attention_mask=_additive(mask, query))
    hidden = hidden + layer.dropout(out)
    return (hidden if pre_norm else layer.layer_norm(hidden)), bias


def _additive(mask: Tensor | None, like: Tensor) -> Tensor | None:
    """[B, T] mask -> [B, 1, 1, T] of 0 and -inf, the form that every attention kernel accepts."""
    if mask is None:
        return None
    zeros = torch.zeros(mask.shape, dtype=like.dtype, device=like.device)
    return zeros.masked_fill(~mask, torch.finfo(like.dtype).min)[:, None, None]


def add_feed_forward(layer, hidden: Tensor, pre_norm: bool) -> Tensor:
    """Return h + FFN([LN](h)) of [B, T, D]: the sum that an adapter joins."""
    return hidden + layer.feed_forward(layer.final_layer_norm(hidden) if pre_norm else hidden)


def finish_layer(layer, total: Tensor, pre_norm: bool) -> Tensor:
    """Normalise the sum of a post-norm layer; a pre-norm layer leaves it as it is."""
    return total if pre_norm else layer.final_layer_norm(total)


def hidden_states(
    encoder: PreTrainedModel,
    wave: Tensor,
    lengths: Tensor | None = None,
    keep: tuple[int, ...] | None = None,
) -> Tensor:
    """Compute the hidden states of an encoder.

    Args:
        wave: [B, N] samples at 16 kHz, in [-1, 1], not normalised (as released).
        lengths: [B] valid samples of each row when rows are zero-padded; None when all are N long.
        keep: which hidden states to return, None for all; 0 is the input of layer 1.
    Returns:
        [L+1, B, T, D], or [len(keep), B, T, D]. In pre-norm models the last state is after the
        final layer norm, the others are raw; in post-norm models every state is normalised.

    >>> encoder = build_encoder(architecture("tiny-random-hubert"))
    >>> hidden_states(encoder, torch.zeros(2, 8000), keep=(1, 2)).shape
    torch.Size([2, 2, 24, 32])
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
    """Compute the hidden states of CNN features [B, T, C]; see `hidden_states`."""
    pre_norm, bias = is_pre_norm(encoder), None
    hidden = add_positions(encoder, project(encoder, features), mask)
    states = [hidden]
    for layer in encoder.encoder.layers:
        hidden, bias = attend(layer, hidden, mask, bias, pre_norm)
        hidden = finish_layer(layer, add_feed_forward(layer, hidden, pre_norm), pre_norm)
        states.append(hidden)
    if pre_norm:
        states[-1] = encoder.encoder.layer_norm(hidden)
    return torch.stack(states if keep is None else [states[i] for i in keep])
