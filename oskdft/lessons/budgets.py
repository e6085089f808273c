"""Budgets of the runs that a notebook trains itself: short ones for the small profiles."""

from typing import Any

from oskdft.config import Config

# profile -> (updates of a short run, other changes); other profiles run in full
SHORT: dict[str, tuple[int, dict[str, Any]]] = {
    "smoke": (4, {"eval.tta": "full"}),
    # crops of 1 s: twice the updates in the same time; 5 development speakers are enough for one
    # checkpoint; scoring whole recordings only takes a quarter of the time
    "classroom": (
        30,
        {"data.crop_s": 1.0, "data.workers": 0, "data.dev_speakers": 5, "eval.tta": "full"},
    ),
}
SEEDS = {"smoke": 1, "classroom": 2}  # profile -> number of seeds; 3 for other profiles
HALVES = 2  # epochs of a short run: each stage of a two-stage strategy gets one


def short(cfg: Config, updates: int = 0) -> dict[str, Any]:
    """Changes that make a run short; none for profiles that run in full.

    Args:
        cfg: of the profile. updates: of the student; 0: from `SHORT`.
    Raises:
        ValueError: updates is odd or negative, so two stages cannot share them equally.

    >>> from oskdft.config import load
    >>> short(load("smoke"))["train.steps_per_epoch"], short(load("vox1"))
    (2, {})
    """
    default, changes = SHORT.get(cfg.name, (0, {}))
    updates = updates or default
    if updates % HALVES or updates < 0:
        raise ValueError(f"{updates} updates cannot be shared by two stages; choose an even number")
    if not updates:
        return {}
    budget = {"train.epochs": HALVES, "train.steps_per_epoch": updates // HALVES}
    return changes | budget | {"train.validate_every": HALVES}


def seeds_of(cfg: Config, count: int = 0) -> list[int]:
    """``count`` consecutive seeds starting at cfg.seed; 0: the number of the profile in `SEEDS`.

    >>> from oskdft.config import load
    >>> seeds_of(load("classroom").override({"seed": 5}))
    [5, 6]
    """
    return [cfg.seed + i for i in range(count or SEEDS.get(cfg.name, 3))]
