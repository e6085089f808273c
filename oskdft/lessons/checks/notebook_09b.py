"""Exercises of notebook 09b."""

import numpy as np

from oskdft.lessons.exercise import Exercise


def reported_gap(dev: np.ndarray, test: np.ndarray) -> float:
    """Test EER at the development choice minus the lowest test EER, mean over runs."""
    return (test[np.arange(len(test)), dev.argmin(1)] - test.min(1)).mean()


def gaps(dev: np.ndarray, test: np.ndarray) -> np.ndarray:
    """The same of each run."""
    return test[np.arange(len(test)), dev.argmin(1)] - test.min(1)


def logs(rng: np.random.Generator) -> tuple:
    """EERs [runs, epochs] on development and on test trials, related but not equal."""
    shape = tuple(rng.integers(4, 9, 2))
    quality = rng.uniform(0.03, 0.1, shape)
    return quality + rng.normal(0, 0.01, shape), quality + rng.normal(0, 0.01, shape)


EXERCISES = {
    "1": Exercise(
        int(7.6 - 3) + 1,
        "on which whole seconds can a crop start that ends before the file does?",
        (
            (4, "the start at 0 s counts as well"),
            (8, "the last crop has to end before the file does"),
            (2, "crops may overlap: a start is drawn for each"),
        ),
    ),
    "2": Exercise(
        "B",
        "how low is the lowest of many equally good, noisy numbers?",
        (
            ("A", "the rule is the same, but not the number of checkpoints to choose from"),
            ("C", "on one list, with one rule, two EERs can be compared"),
        ),
    ),
    "3": Exercise(
        reported_gap,
        "choose an epoch per run; then look up what the test EER of that epoch is",
        (
            (
                lambda dev, test: (dev.min(1) - test.min(1)).mean(),
                "this compares two lowest numbers of different trials",
            ),
            (lambda dev, test: gaps(dev, test)[0], "this is the first run; a mean is asked for"),
            (
                lambda dev, test: gaps(dev, test).max(),
                "this is the largest gap; a mean is asked for",
            ),
            (lambda dev, test: -reported_gap(dev, test), "the number is never negative"),
        ),
        draw=logs,
    ),
}
