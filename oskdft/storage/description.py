"""Reader of model.json: the configuration of a saved model and the facts beside it. No torch."""

from pathlib import Path
from typing import Any

from oskdft.config import Config, from_dict
from oskdft.utils.files import inside, read_json
from oskdft.utils.schema import shown

KINDS = {  # types of optional facts
    "speakers": list,
    "dev_eer": (int, float),
    "calibration": dict,
    "speech": str,
    "measured": list,
}
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


def _check(described: dict[str, Any]) -> None:
    """Refuse facts that `verify` and `export` cannot use."""
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
