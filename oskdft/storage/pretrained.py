"""Pre-trained encoders: weights of others, from the package, a folder or the hub, checked before use."""

import os
from pathlib import Path
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel
from transformers.safetensors_conversion import auto_conversion
from transformers.utils import cached_file, logging

from oskdft.method.encoder import FAMILIES, architecture, build_encoder
from oskdft.storage.tensors import load_tensors, refuse_misfit, shapes, shapes_of
from oskdft.utils.console import some
from oskdft.utils.files import ASSETS, inside, read_json

logging.disable_progress_bar()  # no bar for each model that is loaded

WEIGHTS = "model.safetensors"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
FOREIGN_CODE = ("auto_map", "attn_implementation", "_attn_implementation", "quantization_config")
MOST_LAYERS = 200  # a configuration with more layers is damaged or hostile
LARGEST_SIZE = 1_000_000  # and so is one with a larger size of any other kind


def hub_files(name: str) -> tuple[Path, Path]:
    """Paths of config.json and model.safetensors of a hub name, from the hub's cache or fetched into it.

    Raises:
        ValueError: no safetensors could be fetched; names the files to provide and their place.
    """
    try:
        settings = cached_file(name, "config.json")
        weights = cached_file(name, WEIGHTS, _raise_exceptions_for_missing_entries=False)
        # for a model with pickled weights only, the hub's own converter makes safetensors
        weights = weights or auto_conversion(name)[0]
        return Path(settings), Path(weights)
    except Exception:  # hub, network and cache raise many kinds; the fix is the same for all
        raise ValueError(
            f"{name} is not on this machine and could not be fetched as safetensors; put its config.json "
            f"and model.safetensors into $OSKDFT_DATA/weights/{name.split('/')[-1]}/, or pass a folder "
            "as model.teacher"
        ) from None


def local_folder(name: str) -> Path | None:
    """The folder of a name: shipped, a path, or in $OSKDFT_DATA/weights; None: there is none.

    >>> local_folder("classroom-hubert").name
    'classroom-hubert'
    """
    candidates = [ASSETS / name, Path(name)]
    if os.environ.get("OSKDFT_DATA"):
        candidates.append(Path(os.environ["OSKDFT_DATA"]) / "weights" / name.split("/")[-1])
    return next((c for c in candidates if (c / "config.json").is_file()), None)


def load_encoder(name: str) -> PreTrainedModel:
    """Load pre-trained weights: shipped (`classroom-hubert`), a folder, a hub name, or `tiny-random-*`.

    Args:
        name: searched in the package's assets, as a folder, in $OSKDFT_DATA/weights/<last part of the
            name>, and then on the hub (or in its cache).
    Returns:
        The encoder in evaluation mode, float32, on the CPU.
    Raises:
        ValueError: not found, only pickled weights, or tensors missing or of another shape; names the
            files to provide and their place.

    >>> load_encoder("tiny-random-hubert").config.num_hidden_layers
    2
    """
    if name.startswith("tiny-random-"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the same "random" teacher in every process
            return build_encoder(architecture(name)).eval()
    source = find_weights(name)
    return _from_folder(source) if isinstance(source, Path) else _from_files(*source)


def find_weights(name: str) -> Path | tuple[Path, Path] | None:
    """The source that `load_encoder` reads.

    Args:
        name: as for `load_encoder`.
    Returns:
        A folder; or config.json and model.safetensors from the hub; None for `tiny-random-*`.
    Raises:
        ValueError: not found; names the files to provide and their place.

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
    """Encoder of a folder's config.json and model.safetensors; no other file of the folder is read."""
    settings, weights = inside(folder, "config.json"), inside(folder, WEIGHTS)
    if not weights.is_file():
        pickled = [path.name for ending in PICKLED for path in folder.glob(f"*{ending}")]
        why = f"; {pickled[0]} can run code when it is read, so it is not opened" if pickled else ""
        raise ValueError(f"{folder} needs config.json and model.safetensors{why}")
    return _from_files(settings, weights)


def _from_files(settings: Path, weights: Path) -> PreTrainedModel:
    """Encoder of two files; sizes are checked before memory is allocated."""
    config = foreign_config(read_json(settings), str(settings))
    model_class = FAMILIES[config.model_type][1]
    own = shapes_of(lambda: model_class(config), str(settings))
    given = {_present_name(name): shape for name, shape in shapes(weights).items()}
    missing = sorted(own.keys() - given.keys())
    if missing:
        raise ValueError(
            f"{weights} lacks {len(missing)} tensors: {some(missing, len(missing))}; get it again"
        )
    refuse_misfit(own, {name: given[name] for name in own}, str(weights))
    return model_class.from_pretrained(
        None, config=config, state_dict=load_tensors(weights), dtype=torch.float32
    ).eval()


def _present_name(name: str) -> str:
    """Name of a tensor without the prefix of a model with a head, in torch's present naming of weight norms."""
    name = name.removeprefix("wav2vec2.").removeprefix("hubert.").removeprefix("wavlm.")
    for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
        if name.endswith(f".{old}"):
            return f"{name.removesuffix(old)}parametrizations.weight.{new}"
    return name


def foreign_config(settings: Any, source: str) -> PretrainedConfig:
    """An encoder's configuration from JSON that may come from a stranger.

    Args:
        settings: content of the JSON. source: its file, for messages.
    Raises:
        ValueError: another family, a request for foreign code, or sizes that no speech encoder has.

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
    except Exception as error:  # foreign settings make transformers raise any exception
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{source} is no {family} configuration ({reason}); get it again"
        ) from None
