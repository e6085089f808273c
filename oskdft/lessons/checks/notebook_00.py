"""Exercises of notebook 00."""

import numpy as np

from oskdft.config import SAMPLE_RATE
from oskdft.lessons.exercise import Exercise


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of two vectors [E]."""
    return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))


def two_vectors(rng: np.random.Generator) -> tuple:
    """Two vectors of one random length."""
    size = rng.integers(2, 20)
    return rng.normal(0, 3, size), rng.normal(0, 3, size)


EXERCISES = {
    "1": Exercise(
        10 * 9 // 2,
        "each of the ten meets nine others; is A-B another trial than B-A?",
        (
            (10 * 9, "this counts A-B and B-A as two trials, and the score is the same"),
            (10 * 10, "this pairs recordings with themselves, and counts A-B and B-A twice"),
        ),
    ),
    "2": Exercise(
        round(2.5 * SAMPLE_RATE),
        "seconds times samples per second",
        (
            (
                110_250,
                "44,100 samples per second is the rate of a compact disc, not of this package",
            ),
            (20_000, "8,000 samples per second is the rate of the old telephone"),
        ),
    ),
    "3": Exercise(
        cosine,
        "divide the dot product by both lengths",
        (
            (lambda a, b: a @ b, "a dot product is a cosine only for vectors of length 1"),
            (
                lambda a, b: abs(cosine(a, b)),
                "vectors that point in opposite directions have a negative cosine",
            ),
        ),
        draw=two_vectors,
    ),
    "4": Exercise(
        "B",
        "what does section 4 need before it can name a probability?",
        (
            ("A", "another system may give 0.6 to nearly all pairs of strangers"),
            ("C", "nothing says that 0.5 is the threshold: look at the one of section 4"),
        ),
    ),
}
