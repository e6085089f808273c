"""Checkpoints of other projects as a configuration and named tensors of transformers.

Read are the layouts of fairseq (wav2vec 2.0, XLSR, HuBERT), unilm (WavLM), s3prl's converted files, and
pickled or sharded weights of Hugging Face. Pickles are read by torch's weights-only reader alone, which
makes tensors and plain values and runs nothing.
"""

import argparse
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oskdft.utils.files import inside, read_json

SAFE_TORCH = (2, 10)  # earlier weights-only readers can be made to corrupt memory
MOST_ENTRIES = 100_000  # of a zip file
LARGEST_PICKLE = 16 << 20  # bytes of the pickle beside the tensors
WEIGHTS = "model.safetensors"
PICKLE = "pytorch_model.bin"
CONV = re.compile(r"\(\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*\)")
CONV_TERM = re.compile(r"\[((?:[^\[\]])*)\]\s*(?:\*\s*(\d{1,2}))?")
NAMES = (  # fairseq and unilm -> transformers, applied in this order
    (r"^mask_emb$", "masked_spec_embed"),
    (r"^layer_norm\.", "feature_projection.layer_norm."),
    (r"^post_extract_proj\.", "feature_projection.projection."),
    (r"conv_layers\.(\d+)\.0\.", r"conv_layers.\1.conv."),
    (r"conv_layers\.(\d+)\.2\.(?:1\.)?", r"conv_layers.\1.layer_norm."),
    (r"pos_conv\.0\.", "pos_conv_embed.conv."),
    (r"\.self_attn\.grep_linear\.", ".attention.gru_rel_pos_linear."),
    (r"\.self_attn\.grep_a$", ".attention.gru_rel_pos_const"),
    (r"\.self_attn\.relative_attention_bias\.", ".attention.rel_attn_embed."),
    (r"\.self_attn\.", ".attention."),
    (r"\.self_attn_layer_norm\.", ".layer_norm."),
    (r"\.fc1\.", ".feed_forward.intermediate_dense."),
    (r"\.fc2\.", ".feed_forward.output_dense."),
)
BODY = ("masked_spec_embed", "feature_extractor.", "feature_projection.", "encoder.")
FIELDS = {  # of a fairseq configuration -> of transformers'
    "encoder_layers": "num_hidden_layers",
    "encoder_embed_dim": "hidden_size",
    "encoder_ffn_embed_dim": "intermediate_size",
    "encoder_attention_heads": "num_attention_heads",
    "activation_fn": "hidden_act",
    "layer_norm_first": "do_stable_layer_norm",
    "conv_bias": "conv_bias",
    "conv_pos": "num_conv_pos_embeddings",
    "conv_pos_groups": "num_conv_pos_embedding_groups",
    "dropout": "hidden_dropout",
    "attention_dropout": "attention_dropout",
    "activation_dropout": "activation_dropout",
    "dropout_input": "feat_proj_dropout",
    "encoder_layerdrop": "layerdrop",
}
WAVLM_FIELDS = {"num_buckets": "num_buckets", "max_distance": "max_bucket_distance"}
NORMS = {"default": "group", "layer_norm": "layer"}


def load_pickle(path: str | Path) -> Any:
    """The content of a file of torch.save: tensors and plain values; nothing in it is run.

    Tensors are mapped and not read where the format allows it. Of other classes argparse.Namespace alone is
    made, in which older fairseq stores its settings.

    Raises:
        ValueError: it holds anything else, is damaged, or claims more than the file holds.
    """
    if tuple(int(n) for n in torch.__version__.split(".")[:2]) < SAFE_TORCH:
        need = ".".join(map(str, SAFE_TORCH))
        raise ValueError(f"{path}: torch {torch.__version__} cannot read it safely; needs {need}")
    mapped = zipfile.is_zipfile(path)
    if mapped:
        _check_zip(path)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # a foreign pickle makes torch raise any exception
        reason = " ".join(str(error).split())
        unknown = re.search(r"Unsupported (?:global|class|operand)[^.]*?([\w.]+)", reason)
        named = re.search(r"GLOBAL ([\w.]+)", reason) or unknown
        what = f"asks for {named[1]}, which is never run" if named else reason[:200]
        raise ValueError(
            f"{path} is not a checkpoint of plain tensors ({what}); save its settings and weights alone"
        ) from None


def _check_zip(path: str | Path) -> None:
    """Refuse a zip file whose entries are compressed or claim more than the file holds."""
    try:
        with zipfile.ZipFile(path) as file:
            entries = file.infolist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}); get it again") from None
    size = Path(path).stat().st_size
    pickles = [entry for entry in entries if entry.filename.endswith(".pkl")]
    if (
        len(entries) > MOST_ENTRIES
        or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
        or sum(entry.file_size for entry in entries) > size
        or any(entry.file_size > LARGEST_PICKLE for entry in pickles)
    ):
        raise ValueError(f"{path} claims more than a checkpoint of its size holds; get it again")


def convert(tree: Any, source: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A checkpoint of fairseq, unilm or s3prl as settings and tensors of transformers.

    Args:
        tree: content of the file, see `load_pickle`. source: its name, for messages.
    Returns:
        settings: as in a config.json. tensors: named as in the encoders of transformers, heads left out.
    Raises:
        ValueError: another layout or another model, with the reason.
    """
    if not isinstance(tree, dict):
        raise ValueError(
            f"{source} holds no dictionary; give a checkpoint of fairseq, unilm or s3prl"
        )
    weights = tree.get("model_weight", tree.get("model"))
    settings = _settings_of(tree)
    if not isinstance(weights, dict) or not settings:
        raise ValueError(
            f"{source} has neither the layout of fairseq, of unilm nor of s3prl (settings and weights); "
            f"it holds {', '.join(map(str, list(tree)[:8])) or 'nothing'}"
        )
    weights = {str(k): v for k, v in weights.items() if isinstance(v, Tensor)}
    return _config(settings, weights, source), _renamed(weights, source)


def _settings_of(tree: dict) -> dict[str, Any]:
    """The settings of the encoder: cfg of fairseq or unilm, args of older fairseq, model_cfg of s3prl."""
    for found in (tree.get("model_cfg"), tree.get("cfg"), tree.get("args")):
        settings = _plain(found)
        # a fine-tuned model names its encoder's settings
        for key in ("model", "w2v_args", "model"):
            settings = _plain(settings.get(key)) or settings
        if "encoder_layers" in settings:
            return settings
    return {}


def _plain(settings: Any) -> dict[str, Any]:
    """Settings as a dictionary; anything else holds none."""
    if isinstance(settings, argparse.Namespace):
        settings = vars(settings)
    return settings if isinstance(settings, dict) else {}


def _config(settings: dict[str, Any], weights: dict[str, Tensor], source: str) -> dict[str, Any]:
    """The settings as in a config.json of transformers."""
    odd = {"layer_type": "transformer", "pos_conv_depth": 1, "conv_pos_batch_norm": False}
    for name, usual in odd.items():
        if settings.get(name, usual) != usual:
            raise ValueError(
                f"{source}: {name} is {settings[name]!r}; only {usual!r} can be read from such a file; "
                "a data2vec teacher is named by its folder of Hugging Face"
            )
    norm = settings.get("extractor_mode", "default")
    if norm not in NORMS:
        raise ValueError(f"{source}: extractor_mode is {norm!r}; known are {', '.join(NORMS)}")
    family = _family(settings, weights)
    kernels = _convolutions(settings.get("conv_feature_layers", ""), source)
    fields = FIELDS | (WAVLM_FIELDS if family == "wavlm" else {})
    config = {ours: settings[theirs] for theirs, ours in fields.items() if theirs in settings}
    config |= {
        "model_type": family,
        "feat_extract_norm": NORMS[norm],
        "conv_dim": [dim for dim, _, _ in kernels],
        "conv_kernel": [kernel for _, kernel, _ in kernels],
        "conv_stride": [stride for _, _, stride in kernels],
        "num_feat_extract_layers": len(kernels),
    }
    return config


def _family(settings: dict[str, Any], weights: dict[str, Tensor]) -> str:
    """wavlm has relative positions; hubert predicts clusters, wav2vec2 quantises."""
    if settings.get("relative_position_embedding") or any("grep_a" in name for name in weights):
        return "wavlm"
    named = str(settings.get("_name") or settings.get("arch") or "")
    is_hubert = "hubert" in named or "label_rate" in settings or "untie_final_proj" in settings
    return "hubert" if is_hubert and "wav2vec" not in named else "wav2vec2"


def _convolutions(text: Any, source: str) -> list[tuple[int, int, int]]:
    """(channels, kernel, stride) of each layer, from fairseq's "[(512,10,5)] + [(512,3,2)] * 4".

    >>> _convolutions("[(512, 10, 5)] + [(512,3,2)]*2", "a.pt")
    [(512, 10, 5), (512, 3, 2), (512, 3, 2)]
    """
    text = str(text)
    layers: list[tuple[int, int, int]] = []
    for inner, times in CONV_TERM.findall(text):
        found = [tuple(map(int, each)) for each in CONV.findall(inner)]
        layers += found * int(times or 1)
    rest = CONV.sub("", CONV_TERM.sub("", text)).replace("+", "").strip()
    if not layers or rest or len(layers) > 50:
        raise ValueError(f"{source}: conv_feature_layers {text[:80]!r} cannot be read")
    return layers


def _renamed(weights: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """Tensors of the encoder under the names of transformers."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        for prefix in ("w2v_encoder.", "w2v_model.", "encoder.w2v_model.", "module."):
            name = name.removeprefix(prefix)
        for pattern, ours in NAMES:
            name = re.sub(pattern, ours, name)
        if name in renamed:
            raise ValueError(f"{source}: two tensors become {name}; it is no single encoder")
        renamed[name] = tensor
    return renamed


def present(name: str) -> str:
    """Name of a tensor without the prefix of a model with a head, in torch's present naming of weight norms.

    >>> present("hubert.encoder.pos_conv_embed.conv.weight_g")
    'encoder.pos_conv_embed.conv.parametrizations.weight.original0'
    """
    for head in ("wav2vec2.", "hubert.", "wavlm.", "unispeech_sat.", "data2vec_audio."):
        name = name.removeprefix(head)
    for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
        if name.endswith(f".{old}"):
            return f"{name.removesuffix(old)}parametrizations.weight.{new}"
    return name


def of_encoder(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of an encoder alone, in present names; heads are left out.

    A positional convolution whose weight norm was computed once (a single weight) is split again. The
    vector that replaces masked frames counts in training only; where it is missing it is 0.
    """
    found = {present(name): tensor for name, tensor in tensors.items()}
    found = {name: tensor for name, tensor in found.items() if name.startswith(BODY)}
    conv = "encoder.pos_conv_embed.conv"
    fused = found.pop(f"{conv}.weight", None)
    if fused is not None:
        found[f"{conv}.parametrizations.weight.original0"] = fused.norm(dim=(0, 1), keepdim=True)
        found[f"{conv}.parametrizations.weight.original1"] = fused
    width = found.get("encoder.layer_norm.weight")
    if "masked_spec_embed" not in found and width is not None:
        found["masked_spec_embed"] = torch.zeros_like(width)
    return found


def parts_of(folder: Path, weights: str) -> Iterable[Path]:
    """The files of weights that an index names, each a plain name inside the folder.

    Args:
        weights: `WEIGHTS` or `PICKLE`; its index is WEIGHTS.index.json.
    Raises:
        ValueError: no index of files, or a name that leads elsewhere.
    """
    index = inside(folder, f"{weights}.index.json")
    tree = read_json(index)
    names = tree.get("weight_map") if isinstance(tree, dict) else None
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise ValueError(f"{index} names no files; get it again")
    files = sorted(set(names.values()))
    for name in files:
        if Path(name).name != name or Path(name).suffix != Path(weights).suffix:
            raise ValueError(f"{index} names {name}, which is no file of weights in this folder")
    return [inside(folder, name) for name in files]
