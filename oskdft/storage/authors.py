"""The trained students that the authors published (release R) as model folders of this package.

A student is two files of tensors, FT_checkpoint_N_student.pt and FT_checkpoint_N_backend.pt; neither holds
settings. Sizes are read off the tensors; the rest is release R's recipe (profile vox1).
"""

import re
from pathlib import Path

import torch
from torch import Tensor

from oskdft import config
from oskdft.storage.foreign import load_pickle, present
from oskdft.storage.model_folder import build_model, save_model
from oskdft.storage.new_folder import new_folder
from oskdft.storage.pretrained import foreign_config
from oskdft.storage.tensors import load_strictly
from oskdft.utils.files import require_new_folder

HEAD = 64  # units of an attention head, of base and large models
TEACHERS = {  # family -> teacher and activation of the adapters
    "hubert": ("facebook/hubert-base-ls960", "relu"),
    "wavlm": ("microsoft/wavlm-base-plus", "elu"),
}
BACKEND = ((r"^w$", "weights"), (r"^fc1\.", "linear."), (r"^bn1\.", "norm."))  # theirs -> ours
ADAPTER = re.compile(r"encoder\.layers\.(\d+)\.os_kdft_adapter\.(.+)")


def import_student(
    student: str | Path, out: str | Path, backend: str | Path = "", sizes: dict | None = None
) -> Path:
    """Write a published student and its back-end as a model folder.

    Args:
        student: FT_checkpoint_N_student.pt. out: a new folder.
        backend: FT_checkpoint_N_backend.pt; empty: beside the student.
        sizes: settings of the encoder that the tensors do not tell, where they are not those of base
            models: num_attention_heads of HuBERT, max_bucket_distance of WavLM.
    Returns:
        ``out``; `oskdft evaluate --model` takes it.
    Raises:
        ValueError: out is not empty, no back-end, or tensors of another model.
    Source: release R.
    """
    student, out = Path(student), require_new_folder(out)
    beside = student.with_name(student.name.replace("student", "backend"))
    backend = Path(backend or beside)
    if not backend.is_file() or backend == student:
        raise ValueError(f"{student} needs its back-end, such as {beside.name}; name it: --backend")
    family, tensors = _student_tensors(load_pickle(student), str(student))
    back = _backend_tensors(load_pickle(backend), str(backend))
    encoder = foreign_config(_encoder_settings(family, tensors) | (sizes or {}), str(student))
    teacher, activation = TEACHERS[family]
    changes = {
        "model.teacher": teacher,
        "model.student_layers": encoder.num_hidden_layers,
        "model.adapter_units": len(tensors["adapters.0.down.weight"]),
        "model.adapter_activation": activation,
        "model.embedding": len(back["linear.weight"]),
    }
    cfg = config.load("vox1").override(changes)
    model = build_model(encoder, cfg)
    load_strictly(model.student, tensors, str(student))
    load_strictly(model.backend, back, str(backend))
    facts = {
        "training_speakers": 1_211,
        "speech": "VoxCeleb1, by the authors of the paper (release R)",
    }
    with new_folder(out) as folder:
        save_model(folder, model, cfg, [], facts)
    return out


def is_student(tree: object) -> bool:
    """Whether a checkpoint holds a student of release R: adapters inside the layers."""
    return isinstance(tree, dict) and any(ADAPTER.search(str(name)) for name in tree)


def _student_tensors(tree: object, source: str) -> tuple[str, dict[str, Tensor]]:
    """Family, and tensors under the names of `Student`."""
    if not is_student(tree):
        raise ValueError(f"{source} holds no student of release R: it has no os_kdft_adapter")
    names = {name.removeprefix("module."): tensor for name, tensor in tree.items()}
    family = next((f for f in TEACHERS if all(name.startswith(f"{f}.") for name in names)), None)
    if family is None:
        raise ValueError(f"{source} holds tensors of none of {', '.join(TEACHERS)}")
    tensors = {}
    for name, tensor in names.items():
        name = present(name)
        adapter = ADAPTER.fullmatch(name)
        ours = f"adapters.{adapter[1]}.{adapter[2]}" if adapter else f"encoder.{name}"
        tensors[ours] = tensor.float()
    width = tensors["encoder.encoder.layer_norm.weight"]
    tensors.setdefault(
        "encoder.masked_spec_embed", torch.zeros_like(width)
    )  # of use in training only
    return family, tensors


def _backend_tensors(tree: object, source: str) -> dict[str, Tensor]:
    """Tensors under the names of `WeightedSumLinear`."""
    given = tree if isinstance(tree, dict) else {}
    given = {str(name).removeprefix("module."): tensor for name, tensor in given.items()}
    if "w" not in given:
        raise ValueError(f"{source} holds no back-end of release R: it has no layer weights w")
    tensors = {}
    for name, tensor in given.items():
        for theirs, ours in BACKEND:
            name = re.sub(theirs, ours, name)
        tensors[name] = tensor.flatten() if name == "weights" else tensor
    return tensors


def _encoder_settings(family: str, tensors: dict[str, Tensor]) -> dict:
    """The settings of the encoder as far as its tensors tell them; the rest as in base models."""
    weight = re.compile(r"encoder\.feature_extractor\.conv_layers\.\d\.conv\.weight")
    convolutions = [tensors[name] for name in sorted(tensors) if weight.fullmatch(name)]
    layers = "encoder.encoder.layers"
    width = len(tensors["encoder.encoder.layer_norm.weight"])
    position = tensors["encoder.encoder.pos_conv_embed.conv.parametrizations.weight.original1"]
    settings = {
        "model_type": family,
        "hidden_size": width,
        "num_hidden_layers": sum(name.endswith(".attention.q_proj.weight") for name in tensors),
        "num_attention_heads": max(width // HEAD, 1),
        "intermediate_size": len(tensors[f"{layers}.0.feed_forward.intermediate_dense.weight"]),
        "conv_dim": [len(weight) for weight in convolutions],
        "conv_kernel": [weight.shape[2] for weight in convolutions],
        "conv_stride": [5] + [2] * (len(convolutions) - 1),
        "num_feat_extract_layers": len(convolutions),
        "num_conv_pos_embeddings": position.shape[2],
        "num_conv_pos_embedding_groups": width // position.shape[1],
    }
    if family == "wavlm":
        buckets, heads = tensors[f"{layers}.0.attention.rel_attn_embed.weight"].shape
        settings |= {"num_buckets": buckets, "num_attention_heads": heads}
    return settings
