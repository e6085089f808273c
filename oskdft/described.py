"""What a model folder says about its model, and what its recipe changes in the profile. No torch."""

from pathlib import Path
from typing import Any

from oskdft.config import PROFILES, Config, from_dict, load, shown, to_dict
from oskdft.files import inside, read_json

PLACES = (  # settings of a machine, not of a recipe
    "device", "data.root", "data.trials", "data.trials_root", "data.kd_root", "data.workers",
)  # fmt: skip
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

    >>> from oskdft.files import ASSETS
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


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted name.

    >>> flat({"seed": 0, "data": {"corpus": "synthetic"}})
    {'seed': 0, 'data.corpus': 'synthetic'}
    """
    out = {}
    for key, value in tree.items():
        nested = isinstance(value, dict)
        out |= flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return out


def changes(cfg: Config) -> dict[str, Any]:
    """What a recipe changes in its profile, by dotted name; a profile of one's own is not known.

    >>> changes(load("smoke").override({"train.lr": 1e-3, "mode": "published", "data.root": "here"}))
    {'mode': 'published', 'train.lr': 0.001}
    """
    if cfg.name not in PROFILES:
        return {}
    base = load(cfg.name)
    followed = flat(to_dict(base.override({"mode": cfg.mode}))) | {"mode": base.mode}
    settings = flat(to_dict(cfg)).items()
    return {k: v for k, v in settings if v != followed[k] and k not in PLACES}
