"""What a model folder says about its model, and what its recipe changes in the profile. No torch."""

from pathlib import Path
from typing import Any

from oskdft.config import Config, from_dict
from oskdft.utils.files import inside, read_json
from oskdft.utils.schema import shown

KINDS = {"speakers": list, "dev_eer": (int, float), "calibration": dict}  # where they are there
FITTED = (
    "threshold",
    "llr_scale",
    "llr_offset",
)  # of each scoring policy, see `validation.calibration`


def read_described(folder: str | Path) -> tuple[Config, dict]:
    """The configuration in a model.json, and everything else that stands there.

    Args:
        folder: of a saved or exported model; it may come from elsewhere.
    Raises:
        ValueError: it describes no model, or a calibration without finite numbers.

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
    """Refuse what `verify` and `export` could not use."""
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
