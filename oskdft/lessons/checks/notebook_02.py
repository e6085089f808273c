"""Exercises of notebook 02."""

import numpy as np

from oskdft.lessons.exercise import Exercise
from oskdft.method.encoder import architecture, frame_count

changed = architecture("facebook/hubert-base-ls960", conv_stride=(5, 2, 2, 2, 2, 2, 1))


def distance_ms(weights: np.ndarray) -> float:
    """Mean attention distance of a head [T, T]."""
    frame = np.arange(len(weights))
    return 20 * (weights * abs(frame[:, None] - frame)).sum(1).mean()


def signed_ms(weights: np.ndarray) -> float:
    """The same without the absolute value."""
    frame = np.arange(len(weights))
    return 20 * (weights * (frame[:, None] - frame)).sum(1).mean()


def attention(rng: np.random.Generator) -> tuple:
    """Weights [T, T] of a random head; each row sums to 1."""
    frames = rng.integers(3, 12)
    weights = rng.exponential(size=(frames, frames))
    return (weights / weights.sum(1, keepdims=True),)


EXERCISES = {
    "1": Exercise(
        "B",
        "what do the fitting half and the testing half share, besides gender?",
        (
            ("A", "length could help only if it went with gender; look for something safer"),
            ("C", "no utterance occurs in both halves, but every speaker does"),
        ),
    ),
    "2": Exercise(
        frame_count(changed, 48_000),
        "apply floor((N - kernel) / stride) + 1 seven times",
        (
            (300, "3 s / 10 ms, but the last windows would reach beyond the end"),
            (299, "that is what the sixth convolution gives; the seventh has a kernel of 2"),
            (149, "that is the number with the old stride of 2"),
        ),
    ),
    "3": Exercise(
        distance_ms,
        "weigh |i - j| with each row, sum over j, take the mean over i, and mind the unit",
        (
            (signed_ms, "without the absolute value, looking back and looking ahead cancel"),
            (lambda weights: distance_ms(weights) / 20, "that is in frames; a frame lasts 20 ms"),
            (
                lambda weights: distance_ms(weights) * len(weights),
                "that is the sum over the frames; the mean is asked for",
            ),
        ),
        draw=attention,
    ),
    "4": Exercise(
        (4 + 12) / (4 + 2),
        "what does the whole teacher cost, and what the whole student?",
        (
            (6.0, "12 / 2 forgets that the student keeps the CNN"),
            ((4 + 2) / (4 + 12), "that is the share that is left; the factor is its inverse"),
        ),
    ),
}
