"""Weights and optimiser moments as safetensors: written atomically, read strictly, never unpickled."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save, save_file
from torch import Tensor, nn

from oskdft.storage.header import check_header
from oskdft.utils.console import some
from oskdft.utils.files import atomic, require_replaceable, usual_mode

FLOATS = torch.float64, torch.float32, torch.float16, torch.bfloat16


def save_tensors(path: str | Path, tensors: dict[str, Tensor]) -> str:
    """Write named tensors atomically and return the SHA-256 of the file."""
    # safetensors refuses strided and shared memory, so each tensor is copied
    copies = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    data = save(copies, {"format": "pt"})
    with atomic(path, "wb") as file:
        file.write(data)
    return hashlib.sha256(data).hexdigest()


def stream_tensors(path: str | Path, tensors: dict[str, Tensor]) -> None:
    """Write named tensors of floats to a new folder, from the memory where they lie.

    `save_tensors` holds all of them twice; here mapped tensors are read as they are written.

    Raises:
        ValueError: a tensor that holds no floats.
        OSError: the disk is full.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.safetensors"
    >>> stream_tensors(path, {"a": torch.ones(2, 3)})
    >>> load_tensors(path)["a"].shape
    torch.Size([2, 3])
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in FLOATS:
            raise ValueError(f"{path}: {name} holds {tensor.dtype}, no floats")
    require_replaceable(path)
    try:
        save_file({name: t.detach().contiguous() for name, t in tensors.items()}, path)
        usual_mode(path)
    except SafetensorError as error:
        raise OSError(f"{path}: {error}; free some space or write elsewhere") from None


def load_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read named tensors.

    Raises:
        ValueError: the file is damaged or no safetensors file, or numbers in it are not finite.
    """
    with _readable(path):
        tensors = load_file(path)
    _require_finite(tensors, str(path))
    return tensors


def _require_finite(tensors: dict[str, Tensor], name: str) -> None:
    for tensor in tensors.values():
        # in parts: the check takes as much memory as what it is given
        if not all(part.isfinite().all() for part in tensor.flatten().split(1 << 20)):
            raise ValueError(f"{name} holds weights that are not finite; train or get it again")


def shapes(path: str | Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors in a file, from its header alone.

    Raises:
        ValueError: no safetensors file, or a header that claims more than the file holds.
    """
    with _readable(path), safe_open(path, "pt") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


@contextlib.contextmanager
def _readable(path: str | Path) -> Iterator[None]:
    """Turn the errors of reading safetensors into a ValueError that names the file."""
    try:
        check_header(path)
        yield
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{path} is not a readable safetensors file ({reason}); restore or remake it"
        ) from None


def shapes_of(build: Callable[[], nn.Module], source: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a module's state, without memory for its weights.

    Args:
        build: makes the module. source: the file of its settings, for the message.
    Raises:
        ValueError: the settings describe no module that can be built.

    >>> shapes_of(lambda: nn.Linear(10**9, 10**6, bias=False), "config.json")
    {'weight': (1000000, 1000000000)}
    """
    try:
        with torch.device("meta"):
            return {name: tuple(t.shape) for name, t in build().state_dict().items()}
    except Exception as error:  # foreign settings make torch and transformers raise any exception
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{source} describes no model ({reason}); get it again") from None


def refuse_misfit(
    own: dict[str, tuple[int, ...]], given: dict[str, tuple[int, ...]], name: str
) -> None:
    """Refuse a file whose shapes are not the shapes of the model.

    Args:
        own: name -> shape of the model. given: name -> shape of the file. name: of the file.
    Raises:
        ValueError: lists the tensors that are missing, left over or of another shape.
    """
    faults = {
        "missing": sorted(own.keys() - given.keys()),
        "left over": sorted(given.keys() - own.keys()),
        "of another shape": sorted(k for k in own.keys() & given.keys() if own[k] != given[k]),
    }
    listed = [f"{what} {some(keys, len(keys))}" for what, keys in faults.items() if keys]
    if listed:
        raise ValueError(f"{name} does not fit the model: {'; '.join(listed)}")


def load_strictly(module: nn.Module, tensors: dict[str, Tensor], name: str) -> None:
    """Load weights whose names and shapes are the module's.

    Args:
        name: of their file, for the message.
    Raises:
        ValueError: see `refuse_misfit`; numbers of another kind than the module's, or not finite.

    >>> tensors = {"weight": torch.zeros(1, 1), "extra": torch.zeros(1)}
    >>> load_strictly(nn.Linear(1, 1), tensors, "model.safetensors")
    Traceback (most recent call last):
    ValueError: model.safetensors does not fit the model: missing bias; left over extra
    """
    state = module.state_dict()
    own = {key: tuple(tensor.shape) for key, tensor in state.items()}
    given = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    refuse_misfit(own, given, name)
    for key, tensor in tensors.items():
        if tensor.is_floating_point() != state[key].is_floating_point():
            raise ValueError(
                f"{name}: {key} holds {tensor.dtype}, not {state[key].dtype}; get it again"
            )
    _require_finite(tensors, name)
    module.load_state_dict(tensors)
