"""Exercises of notebook 06."""

from collections.abc import Callable
from typing import Any

import numpy as np

from oskdft import config
from oskdft.lessons.exercise import EXACT, Exercise, agrees


def turned_off(changes: Any) -> str:
    """What is wrong with overrides that take adapters and distillation from the classroom profile."""
    if not isinstance(changes, dict):
        return 'a dictionary of overrides is asked for, such as {"train.epochs": 3}'
    before = config.load("classroom")
    after = before.override(changes)
    if after.strategy != before.strategy:
        return "the strategy stays os-kdft; change what it uses"
    if after.model.adapter_units:
        return "the adapters are still there: how wide is a bottleneck that is none?"
    if after.loss.kd_weight:
        return "distillation still counts: which weight says that it does not?"
    units, weight = before.model.adapter_units, before.loss.kd_weight
    undone = after.override({"model.adapter_units": units, "loss.kd_weight": weight})
    return "" if undone == before else "more than these two settings has changed"


def paired(answer: Callable) -> str:
    """What is wrong with a function (base, other) -> mean difference and its standard error."""
    rng = np.random.default_rng(0)
    for seeds in (3, 5, 8):
        base = 0.12 + 0.02 * rng.normal(size=seeds)
        other = base + 0.01 + 0.004 * rng.normal(size=seeds)
        mean, error = answer(base.tolist(), other.tolist())
        apart = other - base
        if not agrees(abs(mean), float(abs(apart.mean())), EXACT):
            return "the first number is the mean of the differences, seed by seed"
        apart_from_seeds = np.hypot(base.std(ddof=1), other.std(ddof=1)) / seeds**0.5
        if agrees(error, float(apart_from_seeds), EXACT):
            return "these are the spreads of both, as if their seeds had nothing in common"
        if agrees(error, float(apart.std(ddof=1)), EXACT):
            return "that is the deviation of one difference; divide by the root of their number"
        if agrees(error, float(apart.std() / seeds**0.5), EXACT):
            return "NumPy divides by n unless it is told ddof=1"
        if not agrees(error, float(apart.std(ddof=1) / seeds**0.5), EXACT):
            return "take differences seed by seed first; spread that both share then cancels"
    return ""


EXERCISES = {
    "1": Exercise(
        1 - (1 - 0.05) ** 14,
        "what is the probability that none of the 14 is called significant?",
        (
            (0.05, "that is the probability for one row that was chosen beforehand"),
            (14 * 0.05, "probabilities of events that may come together do not simply add"),
            (0.95**14, "that is the probability that none is; at least one is asked for"),
        ),
        fraction=True,
    ),
    "2": Exercise(turned_off, "two dotted names: one of the model, one of the loss"),
    "3": Exercise(paired, "return two numbers: mean and standard error of the differences"),
    "4": Exercise(
        "b",
        "a difference that is not seen is neither a difference nor equality",
        (
            ("a", "true as arithmetic on two numbers, not as a statement about two systems"),
            ("c", "one seed inside the spread does not prove equality"),
        ),
    ),
}
