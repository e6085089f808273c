"""Reader of model.json: the configuration of a saved model and the facts beside it. No torch."""

from pathlib import Path
from typing import Any

from oskdft.config import Config, from_dict
from oskdft.utils.files import inside, read_json, sha256
from oskdft.utils.schema import shown

KINDS = {  # types of optional facts
    "speakers": list,
    "dev_eer": (int, float),
    "calibration": dict,
    "speech": str,
    "measured": list,
    "files_sha256": dict,
}
WEIGHTS = "model.safetensors"
FITTED = ("threshold", "llr_scale", "llr_offset")  # numbers in the calibration of a scoring policy


def read_described(folder: str | Path) -> tuple[Config, dict]:
    """Read the model.json of a folder.

    Args:
        folder: of a saved or exported model; it may come from a stranger.
    Returns:
        (configuration, whole content of model.json).
    Raises:
        ValueError: the file describes no model, or a calibration without finite numbers.

    >>> from oskdft.utils.files import ASSETS
    >>> cfg, described = read_described(ASSETS / "classroom")
    >>> cfg.strategy, sorted(described["calibration"])
    ('os-kdft', ['both', 'crops', 'full'])
    """
    path = inside(folder, "model.json")
    described = read_json(path)
    try:
        cfg = from_dict(described.get("config") if isinstance(described, dict) else None)
        _check(described)
    except ValueError as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())[:300]}") from None
    return cfg, described


def digests(folder: str | Path, *names: str) -> dict[str, dict[str, str]]:
    """The entry of model.json that binds files to it: "files_sha256" name -> SHA-256, of those that are there.

    `save_model` gives the weights an entry of their own, "weights_sha256".

    >>> from oskdft.utils.files import ASSETS
    >>> digests(ASSETS / "classroom", "encoder.json", "no such file")["files_sha256"].keys()
    dict_keys(['encoder.json'])
    """
    there = [name for name in names if (Path(folder) / name).is_file()]
    return {"files_sha256": {name: sha256(Path(folder) / name) for name in there}}


def digest_of(described: dict[str, Any], name: str) -> str | None:
    """SHA-256 that model.json has of a file beside it; None where it has none, as in earlier versions.

    >>> digest_of({"weights_sha256": "e3b0"}, "model.safetensors"), digest_of({}, "encoder.json")
    ('e3b0', None)
    """
    own = described.get("weights_sha256") if name == WEIGHTS else None
    return own or described.get("files_sha256", {}).get(name)


def require_own(folder: str | Path, described: dict[str, Any], name: str) -> None:
    """Refuse a file that model.json was not written with.

    Args:
        folder: of the model. described: content of its model.json. name: of the file.
    Raises:
        ValueError: the file is absent or another one; names it.

    >>> from oskdft.utils.files import ASSETS
    >>> folder = ASSETS / "classroom"
    >>> require_own(folder, digests(folder, "encoder.json"), "encoder.json")
    """
    digest = digest_of(described, name)
    if digest is None:
        return
    path = inside(folder, name)
    if not path.is_file():
        raise ValueError(
            f"{path} is not there, and model.json was written with it; get the model again"
        )
    if sha256(path) != digest:
        raise ValueError(
            f"{path} is not the file that model.json was written with: it is damaged, or the run was "
            "killed while it saved; go on with --resume, or get the model again"
        )


def _check(described: dict[str, Any]) -> None:
    """Refuse facts that `verify` and `export` cannot use; the numbers of a calibration become floats."""
    for name, kind in KINDS.items():
        if name in described and not isinstance(described[name], kind):
            raise ValueError(f"{name} is {shown(described[name])}; export the model again")
    for policy, values in described.get("calibration", {}).items():
        for name in FITTED:
            value = values.get(name) if isinstance(values, dict) else None
            if type(value) not in (int, float) or not abs(value) <= 1e300:
                raise ValueError(
                    f"calibration of {shown(policy)} has {name} {shown(value)}, not a finite number; "
                    "export the model again"
                )
            values[name] = float(value)  # NumPy has no whole numbers as long as those of JSON
