"""Exercises of notebook 04."""

import math
from collections.abc import Callable

import numpy as np

from oskdft import config
from oskdft.lessons.exercise import Exercise
from oskdft.training import optim

floor = math.log(1 + math.exp(-1))  # of the cosine term, per frame and layer
UPDATES, ITEMS, BATCH = 400, 50, 8


def peak(warmup: float) -> int:
    """Number of updates after which the classroom profile reaches its full rate, of `UPDATES`."""
    train = config.load("classroom").override({"train.warmup": warmup}).train
    rates = [optim.rates(train, 1, step / UPDATES)["sv"] for step in range(UPDATES)]
    return rates.index(max(rates))


def batches(order: Callable) -> str:
    """What is wrong with a function (seed, step, items, batch) -> indices of a batch."""
    np.random.seed(1)  # somebody else draws
    before = np.random.get_state()[1].tolist()
    drawn = {(a, b): list(order(a, b, ITEMS, BATCH)) for a in range(6) for b in range(12)}
    if np.random.get_state()[1].tolist() != before:
        return "it draws from NumPy's global generator, or seeds it: others draw from it, too"
    np.random.seed(2)
    if any(list(order(a, b, ITEMS, BATCH)) != drawn[a, b] for a, b in ((3, 2), (0, 11), (5, 0))):
        return "asked again for the same seed and step, it returns another batch"
    for batch in drawn.values():
        if len(batch) != BATCH or len(set(batch)) != BATCH:
            return f"a batch of {BATCH} has to hold {BATCH} different recordings, at every step"
        if min(batch) < 0 or max(batch) >= ITEMS:
            return "an index is outside 0 to items - 1"
    if len({tuple(batch) for batch in drawn.values()}) < len(drawn):
        return "two pairs (seed, step) give the same batch: are both used, and not their sum alone?"
    steps = [np.diff(batch) % ITEMS for batch in drawn.values()]
    if np.mean([(step == 1).all() for step in steps]) > 0.5:
        return "the batch is a window of neighbouring recordings and is not drawn"
    return ""


EXERCISES = {
    "1": Exercise(
        2 * floor,
        "a cosine of 1 is not a loss of 0; and an average does not count frames",
        (
            (0.0, "the L1 term is 0; the log-sigmoid of a cosine of 1 is not"),
            (floor, "that is one layer; two are imitated"),
            (2 * 99 * floor, "that is the sum over the frames; here they are averaged"),
        ),
    ),
    "2": Exercise(
        peak(0.15),
        "warmup is a share of all updates",
        (
            (15, "0.15 is a share and not a number of per cent of 100 updates"),
            (0.15, "that is the share; the number of updates is asked for"),
            (UPDATES, "at the end the cosine has brought the rate down"),
        ),
    ),
    "3": Exercise(
        {"c", "e"},
        "ask of each: can it be computed again from the configuration and the number of updates?",
        (
            ({"b", "c", "e"}, "without Adam's moments training goes on, but not as it would have"),
            ({"c", "d", "e"}, "without the number of updates nobody knows where to go on"),
            ({"c"}, "there is one more: section 5 seeds something anew in each update"),
            ({"e"}, "there is one more: the schedule knows it"),
        ),
    ),
    "4": Exercise(
        batches,
        "make a generator inside the function, from seed and step, and draw from that one only",
    ),
}
