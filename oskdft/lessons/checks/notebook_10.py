"""Exercises of notebook 10."""

from collections.abc import Callable

import numpy as np

from oskdft.lessons.exercise import Exercise


def eight_bits(quantise: Callable) -> str:
    """What is wrong with a function weight [out, in] -> whole numbers and one scale per row."""
    rng = np.random.default_rng(0)
    for _ in range(3):
        rows = int(rng.integers(3, 7))
        weight = rng.normal(size=(rows, 64)) * 10.0 ** rng.uniform(-3, 2, (rows, 1))
        whole, scale = (np.asarray(part) for part in quantise(weight.copy()))
        if whole.shape != weight.shape or scale.shape != (rows, 1):
            return "whole numbers [out, in] and one scale per row [out, 1] are asked for"
        if not np.array_equal(whole, np.round(whole)) or np.abs(whole).max() > 127:
            return "the first part holds whole numbers from -127 to 127"
        step = np.abs(weight).max(1, keepdims=True) / 127
        if np.ptp(scale) == 0:
            return "one scale for all rows: the smallest rows become zero"
        if not (np.abs(whole * scale - weight) <= 0.501 * step).all():
            return "some entry is further off than half a step of its own row"
    return ""


EXERCISES = {
    "1": Exercise(
        0.21 * 1.02 - 0.16,
        "what may the whole student take? the CNN is part of it",
        (
            (0.21 * (1.02 - 0.16), "this takes 79 % off the part without the CNN alone"),
            (0.21 * 1.02, "that is the whole student; the CNN is part of it"),
            (
                1.02 / 1.79 - 0.16,
                "1.79 times as fast is something else: 79 % less time is asked for",
            ),
        ),
    ),
    "2": Exercise(
        3,
        "the back-end stays the same size; count it on both sides",
        (
            (4, "20 of 24 layers are gone, but layers are not all there is: read what is printed"),
            (2, "one more is possible: read what is printed"),
        ),
    ),
    "3": Exercise(eight_bits, "look at the smallest row: how many steps does it get?"),
    "4": Exercise(
        int(3 / 0.34),
        "each microphone brings one request every 3 s; how many fit into that time?",
        (
            (9, "the ninth request is not finished in time"),
            (3 / 0.34, "microphones come in whole numbers"),
            (2, "that is for requests of 1 s or less; here each covers 3 s of speech"),
        ),
    ),
}
