"""Where the weights of a pre-trained teacher lie: in the package, in a folder, or on the hub."""

import os
from pathlib import Path
from typing import Any

import torch
from transformers import (
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.safetensors_conversion import auto_conversion
from transformers.utils import cached_file, logging

from oskdft.method.encoder import FAMILIES, architecture, build_encoder
from oskdft.storage.tensors import load_tensors, refuse_misfit, shapes, shapes_of
from oskdft.utils.console import some
from oskdft.utils.files import ASSETS, inside, read_json

logging.disable_progress_bar()  # no bar for each model that is loaded

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


PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
FOREIGN_CODE = ("auto_map", "attn_implementation", "_attn_implementation", "quantization_config")
MOST_LAYERS, LARGEST_SIZE = 200, 1_000_000  # beyond them a configuration is damaged or hostile


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
    own = shapes_of(lambda: made(config), str(settings))
    given = {_present_name(name): shape for name, shape in shapes(weights).items()}
    missing = sorted(own.keys() - given.keys())
    if missing:
        raise ValueError(
            f"{weights} lacks {len(missing)} tensors: {some(missing, len(missing))}; get it again"
        )
    refuse_misfit(own, {name: given[name] for name in own}, str(weights))
    tensors = load_tensors(weights)
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
