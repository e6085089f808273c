"""Pre-trained encoders: weights of others, from the package, a folder or the hub, checked before use."""

import functools
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.utils import cached_file, logging

from oskdft.method.encoder import FAMILIES, architecture, build_encoder
from oskdft.method.library import PretrainedConfig, PreTrainedModel
from oskdft.storage import foreign
from oskdft.storage.encoder_settings import settings_fault
from oskdft.storage.foreign import PICKLE, WEIGHTS
from oskdft.storage.new_folder import new_folder
from oskdft.storage.tensors import load_tensors, refuse_misfit, shapes_of, stream_tensors
from oskdft.utils.console import say
from oskdft.utils.files import ASSETS, inside, read_json, write_json

logging.disable_progress_bar()  # no bar for each model that is loaded

FOREIGN_CODE = ("auto_map", "attn_implementation", "_attn_implementation", "quantization_config")
# settings that change the states and are not computed, with the value that changes nothing
COMPUTED = {"adapter_attn_dim": None, "add_adapter": False}
# other speech encoders of transformers, and why they cannot be a teacher here
OTHERS = {
    "wav2vec2-bert": "w2v-BERT 2.0 reads mel frames instead of samples, and its layers are conformers",
    "wav2vec2-conformer": "its layers are conformers",
}


def hub_files(name: str) -> tuple[Path, Path]:
    """Paths of config.json and weights of a hub name, from the hub's cache or fetched into it.

    A name without a revision is of the newest one, which its owner may change; the one used is said.

    Args:
        name: OWNER/NAME, or OWNER/NAME@REVISION with the hash of a commit of the hub.
    Raises:
        ValueError: they could not be fetched; names the files to provide and their place.
    """
    repository, _, revision = name.partition("@")
    at = {"revision": revision or None}
    absent = {"_raise_exceptions_for_missing_entries": False} | at
    try:
        settings = cached_file(repository, "config.json", **at)
        weights = cached_file(repository, WEIGHTS, **absent)
        weights = weights or cached_file(repository, PICKLE, **absent)
        found = Path(settings), Path(weights)
        if not revision:
            _say_revision(repository, found[1].parent.name)
        return found
    except Exception:  # hub, network and cache raise many kinds; the fix is the same for all
        raise ValueError(
            f"{name} is not on this machine and could not be fetched; put its config.json and "
            f"{WEIGHTS} or {PICKLE} into $OSKDFT_DATA/weights/{name.split('/')[-1]}/, or pass a folder or "
            "a checkpoint as model.teacher"
        ) from None


@functools.cache  # once in a process
def _say_revision(repository: str, revision: str) -> None:
    say(f"{repository} is of revision {revision}; {repository}@{revision} stays the same")


def local_source(name: str) -> Path | None:
    """The folder or checkpoint of a name: shipped, a path, or in $OSKDFT_DATA/weights; None: there is none.

    >>> local_source("classroom-hubert").name
    'classroom-hubert'
    """
    candidates = [ASSETS / name, Path(name).expanduser()]
    if os.environ.get("OSKDFT_DATA"):
        candidates.append(Path(os.environ["OSKDFT_DATA"]) / "weights" / name.split("/")[-1])
    return next((c for c in candidates if (c / "config.json").is_file() or c.is_file()), None)


def load_encoder(name: str) -> PreTrainedModel:
    """Load pre-trained weights.

    Args:
        name: shipped (`classroom-hubert`), `tiny-random-*`, or searched as a folder or file, in
            $OSKDFT_DATA/weights/<last part of the name>, and then on the hub (or in its cache). A file
            is a checkpoint of fairseq, unilm or s3prl; a folder holds config.json and the weights, as
            safetensors or pickled, in one file or several. Pickles run nothing, see
            `foreign.load_pickle`.
    Returns:
        The encoder in evaluation mode, float32, on the CPU.
    Raises:
        ValueError: not found, damaged, a model that cannot be computed here, or tensors missing, left
            over or of another shape; names the file and the fix.

    >>> load_encoder("tiny-random-hubert").config.num_hidden_layers
    2
    """
    if name.startswith("tiny-random-"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the same "random" teacher in every process
            return build_encoder(architecture(name)).eval()
    config, tensors, source = read_encoder(name)
    with torch.device("meta"):
        encoder = FAMILIES[config.model_type][1](config)
    encoder.load_state_dict(
        {name: tensor.to(torch.float32, copy=True) for name, tensor in tensors.items()}, assign=True
    )
    return encoder.eval()


def find_weights(name: str) -> Path | tuple[Path, Path] | None:
    """The source that `load_encoder` reads.

    Args:
        name: as for `load_encoder`.
    Returns:
        A folder or a checkpoint; or config.json and weights from the hub; None for `tiny-random-*`.
    Raises:
        ValueError: not found; names the files to provide and their place.

    >>> find_weights("classroom-hubert").name, find_weights("tiny-random-hubert")
    ('classroom-hubert', None)
    """
    if name.startswith("tiny-random-"):
        return None
    source = local_source(name)
    if source is None and "w2v-bert" in name.lower():
        raise ValueError(f"model.teacher {name!r} cannot be a teacher: {OTHERS['wav2vec2-bert']}")
    if source is None and not any(family in name.lower() for family in FAMILIES):
        raise ValueError(
            f"model.teacher {name!r} is no folder with config.json, no checkpoint, no shipped teacher and no "
            f"hub name of a {', '.join(FAMILIES)} model"
        )
    return source or hub_files(name)


def read_encoder(name: str) -> tuple[PretrainedConfig, dict[str, Tensor], str]:
    """Configuration and tensors of an encoder, checked against one another, and their source.

    Args:
        name: as for `load_encoder`, but for `tiny-random-*`.
    Returns:
        config; tensors as stored, named as the encoder's; the file or folder, for messages.
    Raises:
        ValueError: see `load_encoder`.
    """
    found = find_weights(name)
    source = str(found[1] if isinstance(found, tuple) else found)
    if isinstance(found, Path) and found.is_file():
        settings, tensors = foreign.convert(foreign.load_pickle(found), source)
    elif isinstance(found, Path):
        settings, tensors = read_json(inside(found, "config.json")), _folder_tensors(found)
    else:
        settings, tensors = read_json(found[0]), _file_tensors(found[1])
    config = foreign_config(settings, source)
    tensors = foreign.of_encoder(tensors)
    own = shapes_of(lambda: FAMILIES[config.model_type][1](config), source)
    if "masked_spec_embed" not in own:  # its settings mask nothing, so it has no such vector
        tensors.pop("masked_spec_embed", None)
    refuse_misfit(own, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, source)
    return config, tensors, source


def import_encoder(name: str, out: str | Path) -> Path:
    """Write an encoder of any readable kind as config.json and model.safetensors.

    Tensors are written one by one, as stored: a checkpoint larger than the memory can be imported.

    Args:
        name: as for `load_encoder`, but for `tiny-random-*`. out: a new folder.
    Returns:
        ``out``.
    Raises:
        ValueError: out is not empty; see also `load_encoder`.

    >>> import tempfile
    >>> folder = import_encoder("classroom-hubert", Path(tempfile.mkdtemp()) / "hubert")
    >>> sorted(path.name for path in folder.iterdir())
    ['config.json', 'model.safetensors']
    """
    with new_folder(Path(out)) as folder:
        config, tensors, _ = read_encoder(name)
        stream_tensors(folder / WEIGHTS, tensors)
        settings = config.to_diff_dict() | {"model_type": config.model_type}
        write_json(folder / "config.json", settings)
    return Path(out)


def _folder_tensors(folder: Path) -> dict[str, Tensor]:
    """Tensors of a folder: safetensors before pickles, one file before several."""
    for weights in (WEIGHTS, PICKLE):
        if inside(folder, weights).is_file():
            return _file_tensors(folder / weights)
        if inside(folder, f"{weights}.index.json").is_file():
            tensors: dict[str, Tensor] = {}
            for part in foreign.parts_of(folder, weights):
                tensors |= _file_tensors(part)
            return tensors
    raise ValueError(f"{folder} needs config.json and {WEIGHTS} or {PICKLE}")


def _file_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a file of Hugging Face."""
    if path.suffix == ".safetensors":
        return load_tensors(path)
    tree = foreign.load_pickle(path)
    if not isinstance(tree, dict) or not all(isinstance(t, Tensor) for t in tree.values()):
        raise ValueError(
            f"{path} holds more than named tensors; name the file itself, not its folder"
        )
    return tree


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
    if family in tuple(OTHERS):
        raise ValueError(f"{source}: {family} cannot be a teacher: {OTHERS[family]}")
    if family not in tuple(FAMILIES):
        raise ValueError(f"{source}: model_type must be one of {', '.join(FAMILIES)}")
    for name, usual in COMPUTED.items():
        if settings.get(name, usual) != usual:
            raise ValueError(
                f"{source}: {name} is {settings[name]!r}, a model whose states would be wrong here; only "
                f"{usual!r} is computed"
            )
    code = [name for name in FOREIGN_CODE if settings.get(name)]
    if code:
        raise ValueError(
            f"{source} asks for code from elsewhere ({code[0]}), which is never run; take it out"
        )
    if fault := settings_fault(settings):
        raise ValueError(f"{source}: {fault}; get it again")
    try:
        return FAMILIES[family][0].from_dict(settings)
    except Exception as error:  # foreign settings make transformers raise any exception
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{source} is no {family} configuration ({reason}); get it again"
        ) from None
