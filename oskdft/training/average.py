"""Checkpoint averaging: the mean of the weights after the last epochs, as a model of its own.

Every tensor is averaged as it is stored: weights, the two factors of a weight-normalised convolution, and
the running means and variances of batch normalisation. The latter are means of the statistics of the
epochs, not statistics of the averaged weights. Counts of batches are those of the last epoch.
"""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from oskdft.config import Config
from oskdft.method.objective import Objective
from oskdft.method.strategies import Stage
from oskdft.storage.tensors import load_tensors, save_tensors


def check_average(cfg: Config, last: Stage) -> None:
    """Raise ValueError when ``train.average`` asks for more epochs than the last stage has."""
    epochs = last.epochs(cfg.train.epochs)
    if cfg.train.average > epochs:
        raise ValueError(
            f"train.average is {cfg.train.average}; the last stage has {epochs} epochs, choose fewer"
        )


def keep_weights(out: Path, step: int, objective: Objective, count: int) -> None:
    """Write the weights after an epoch of the last stage, and remove those before the last ``count``.

    Weights of later steps are removed, too: the run went back to an earlier state.
    """
    folder = out / "checkpoints"
    newest = folder / f"weights-{step:09d}.safetensors"
    save_tensors(newest, objective.state_dict())
    kept = kept_weights(out)
    place = kept.index(newest) + 1
    for path in kept[: max(place - count, 0)] + kept[place:]:
        path.unlink()


def kept_weights(out: Path) -> list[Path]:
    """The files of `keep_weights`, in the order of their epochs."""
    return sorted((out / "checkpoints").glob("weights-*.safetensors"))


def step_of(path: Path) -> int:
    """The step after which `keep_weights` wrote a file.

    >>> step_of(Path("checkpoints/weights-000000010.safetensors"))
    10
    """
    return int(path.stem.partition("-")[2])


def mean_of(paths: Sequence[Path]) -> dict[str, Tensor]:
    """Mean of each tensor over files of the same names; whole numbers are those of the last file.

    >>> import tempfile
    >>> files = [Path(tempfile.mkdtemp()) / f"{number}.safetensors" for number in (1, 3)]
    >>> _ = save_tensors(files[0], {"weight": Tensor([1, 2]), "count": Tensor([5]).long()})
    >>> _ = save_tensors(files[1], {"weight": Tensor([3, 4]), "count": Tensor([10]).long()})
    >>> mean_of(files)
    {'count': tensor([10]), 'weight': tensor([2., 3.])}
    """
    sums: dict[str, Tensor] = {}
    for path in paths:
        tensors = load_tensors(path)
        for name, tensor in tensors.items():
            if tensor.is_floating_point():
                sums[name] = sums.get(name, 0.0) + tensor.double()
    means = {name: (total / len(paths)).to(tensors[name].dtype) for name, total in sums.items()}
    return {name: means.get(name, tensor) for name, tensor in sorted(tensors.items())}
