"""Exercises of notebook 09."""

import numpy as np

from oskdft.lessons.exercise import Exercise
from oskdft.method.encoder import architecture, frame_count

frames = [frame_count(architecture("tiny-random-hubert"), s * 16_000) for s in (2, 3, 5)]


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
        2**4,
        "each layer turns h into h + h; what does the next one do with that?",
        (
            (2 * 4, "each layer adds the h that it received, not the h of the first one"),
            (4 + 1, "each layer adds the h that it received, not the h of the first one"),
        ),
    ),
    "2": Exercise(
        frames,
        "the factor is the number of frames: count windows of 400 in steps of 320",
        (([100, 150, 250], "50 frames per second, but the last window has to fit as well"),),
    ),
    "3": Exercise(
        (10 - 10 // 2) ** 2,
        "how many crops of each recording keep their adapters? pair them",
        (
            (50, "half of the crops have adapters, but a pair needs them on both sides"),
            (100, "that holds for the corrected code; the released one splits the batch"),
            (75, "that counts the pairs with adapters on one side as well"),
        ),
    ),
    "4": Exercise(
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
