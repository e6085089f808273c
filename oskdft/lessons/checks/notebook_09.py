"""Exercises of notebook 09."""

import numpy as np

from oskdft.lessons.exercise import Exercise
from oskdft.method.encoder import architecture, frame_count

frames = [frame_count(architecture("tiny-random-hubert"), s * 16_000) for s in (2, 3, 5)]


def first_step(gradient: np.ndarray, rate: float) -> np.ndarray:
    """Change of the weights by Adam's first step."""
    return -rate * gradient / (np.abs(gradient) + 1e-8)


def gradients(rng: np.random.Generator) -> tuple:
    """A gradient and a learning rate."""
    return rng.normal(0, 10.0 ** rng.uniform(-4, 1), 7), float(10.0 ** rng.uniform(-4, -1))


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
        first_step,
        "divide the corrected first moment by the root of the second; mind the sign",
        (
            (
                lambda gradient, rate: -rate * gradient,
                "this step shrinks with the gradient; Adam divides by the root of the second moment",
            ),
            (
                lambda gradient, rate: -first_step(gradient, rate),
                "the weights move against the gradient",
            ),
            (
                lambda gradient, rate: 0.1 * first_step(gradient, rate),
                "the bias correction undoes the factor 1 - beta of the first moment",
            ),
        ),
        draw=gradients,
    ),
}
