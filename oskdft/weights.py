"""Where the weights of a pre-trained teacher lie: in the package, in a folder, or on the hub."""

import os
from pathlib import Path

from transformers.safetensors_conversion import auto_conversion
from transformers.utils import cached_file

from oskdft.files import ASSETS

WEIGHTS = "model.safetensors"


def hub_files(name: str) -> tuple[Path, Path]:
    """config.json and model.safetensors of a hub name, from the hub's cache or fetched into it.

    Raises:
        ValueError: it cannot be had as safetensors; the line says what to put where.
    """
    try:
        settings = cached_file(name, "config.json")
        weights = cached_file(name, WEIGHTS, _raise_exceptions_for_missing_entries=False)
        # where a model has pickled weights only, the hub's own converter is asked for safetensors
        weights = weights or auto_conversion(name)[0]
        return Path(settings), Path(weights)
    except Exception:  # hub, network and cache raise whatever went wrong; the fix is the same
        raise ValueError(
            f"{name} is not on this machine and could not be fetched as safetensors; put its config.json "
            f"and model.safetensors into $OSKDFT_DATA/weights/{name.split('/')[-1]}/, or pass a folder "
            "as model.teacher"
        ) from None


def local_folder(name: str) -> Path | None:
    """The shipped or local folder of that name, in $OSKDFT_DATA/weights too; None: there is none.

    >>> local_folder("classroom-hubert").name
    'classroom-hubert'
    """
    candidates = [ASSETS / name, Path(name)]
    if os.environ.get("OSKDFT_DATA"):
        candidates.append(Path(os.environ["OSKDFT_DATA"]) / "weights" / name.split("/")[-1])
    return next((c for c in candidates if (c / "config.json").is_file()), None)
