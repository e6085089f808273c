"""model.json: what a model folder says about its model, checked before anyone relies on it. No torch."""

from pathlib import Path
from typing import Any

from oskdft.config import Config, from_dict, shown
from oskdft.files import inside, read_json

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
        ValueError: it describes no model, or its calibration holds something else than numbers.

    >>> from oskdft.files import ASSETS
    >>> cfg, described = read_described(ASSETS / "classroom")
    >>> cfg.strategy, sorted(described["calibration"])
    ('os-kdft', ['both', 'crops', 'full'])
    """
    path = inside(folder, "model.json")
    described = read_json(path)
    try:
        cfg = from_dict(described.get("config") if isinstance(described, dict) else None)
        _check_calibration(described.get("calibration", {}))
    except ValueError as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())[:300]}") from None
    return cfg, described


def _check_calibration(fitted: Any) -> None:
    """Refuse what `verify` could not use; a model without development speakers has none."""
    if not isinstance(fitted, dict):
        raise ValueError(f"calibration is {shown(fitted)}; export the model again")
    for policy, values in fitted.items():
        for name in FITTED:
            value = values.get(name) if isinstance(values, dict) else None
            if type(value) not in (int, float) or not abs(value) <= 1e300:
                raise ValueError(
                    f"calibration of {shown(policy)} has {name} {shown(value)}, not a finite number; "
                    "export the model again"
                )
