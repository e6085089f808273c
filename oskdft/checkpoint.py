"""Weights and optimiser moments as safetensors: written whole, read strictly, never unpickled."""

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from oskdft.files import atomic


def save_tensors(path: str | Path, tensors: dict[str, Tensor]) -> str:
    """Write named tensors atomically and return the file's `digest`; strided memory is copied first."""
    data = save(
        {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, {"format": "pt"}
    )
    with atomic(path, "wb") as file:
        file.write(data)
    return hashlib.sha256(data).hexdigest()


def digest(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal: safetensors itself notices lost bytes, not changed ones."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read named tensors; a damaged or foreign file is a ValueError that names it."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{path} is not a readable safetensors file ({reason}); restore or remake it"
        ) from None


def load_strictly(module: nn.Module, tensors: dict[str, Tensor], name: str) -> None:
    """Load weights that fit exactly.

    Raises:
        ValueError: lists the keys that are missing, left over or of another shape.

    >>> tensors = {"weight": torch.zeros(1, 1), "extra": torch.zeros(1)}
    >>> load_strictly(nn.Linear(1, 1), tensors, "model.safetensors")
    Traceback (most recent call last):
    ValueError: model.safetensors does not fit the model: missing bias; left over extra
    """
    own = module.state_dict()
    faults = {
        "missing": sorted(own.keys() - tensors.keys()),
        "left over": sorted(tensors.keys() - own.keys()),
        "of another shape": sorted(
            k for k in own.keys() & tensors.keys() if own[k].shape != tensors[k].shape
        ),
    }
    listed = [f"{what} {', '.join(keys)}" for what, keys in faults.items() if keys]
    if listed:
        raise ValueError(f"{name} does not fit the model: {'; '.join(listed)}")
    module.load_state_dict(tensors)


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Moments and step counts by parameter number: {"3.exp_avg": ...}; copies, not views."""
    state = optimiser.state_dict()["state"]
    return {
        f"{i}.{key}": torch.as_tensor(value).clone()
        for i, entry in state.items()
        for key, value in entry.items()
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimiser_tensors` gave; rates and groups stay those of ``optimiser``."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict(
        {"state": state, "param_groups": optimiser.state_dict()["param_groups"]}
    )


def select(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with ``prefix``, without it.

    >>> select({"a.x": torch.zeros(1), "b.x": torch.zeros(1)}, "a.").keys()
    dict_keys(['x'])
    """
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}


def prefixed(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The same tensors with ``prefix`` before each name."""
    return {f"{prefix}{k}": v for k, v in tensors.items()}
