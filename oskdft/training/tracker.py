"""Trackers of a run, by Accelerate: tensorboard (in the run folder), wandb, mlflow, or none."""

import importlib.util

from oskdft.config import PLACES, Config, flat, to_dict, without_places
from oskdft.storage.onnx_model import require

PROJECT = "oskdft"  # of wandb and mlflow


def chosen(name: str) -> str | None:
    """Package of the tracker that ``train.tracker`` names, None for none.

    Args:
        name: "auto" is tensorboard where it is installed, else none; it writes into the run folder.
    Raises:
        ImportError: the package is not installed; names the command that installs it.

    >>> chosen("none") is None, chosen("auto") in ("tensorboard", None)
    (True, True)
    """
    if name == "auto":
        return "tensorboard" if importlib.util.find_spec("tensorboard") else None
    if name == "none":
        return None
    require(name)
    return name


def recipe(cfg: Config) -> dict[str, str | int | float | bool]:
    """What a tracker receives of a configuration: plain values, without paths of this machine.

    >>> from oskdft.config import load
    >>> sent = recipe(load("smoke").override({"data.root": "corpora/mine"}))
    >>> sent["train.batch"], sent["loss.kd_layers"], "data.root" in sent
    (8, '[1, 2]', False)
    >>> recipe(load("smoke").override({"model.init": "/data/ada/runs/v2"}))["model.init"]
    'v2'
    """
    settings = flat(to_dict(without_places(cfg))).items()
    return {
        name: str(value) if isinstance(value, list) else value
        for name, value in settings
        if name not in PLACES
    }
