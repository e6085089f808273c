"""Exercises of notebook 07."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from oskdft.lessons.exercise import Exercise


def as_norm(
    score: float,
    cohort_a: np.ndarray,
    cohort_b: np.ndarray,
    centre: Callable = np.mean,
    ddof: int = 1,
) -> float:
    """AS-normalised score of one trial."""
    return np.mean([(score - centre(c)) / c.std(ddof=ddof) for c in (cohort_a, cohort_b)])


def one_cohort(score: float, cohort_a: np.ndarray, cohort_b: np.ndarray) -> float:
    """Both sides measured against one common cohort."""
    both = np.concatenate([cohort_a, cohort_b])
    return (score - both.mean()) / both.std(ddof=1)


def common_mean(score: float, cohort_a: np.ndarray, cohort_b: np.ndarray) -> float:
    """Each side with its own deviation, and one mean for both."""
    mean = np.concatenate([cohort_a, cohort_b]).mean()
    return np.mean([(score - mean) / c.std(ddof=1) for c in (cohort_a, cohort_b)])


def swapped(score: float, cohort_a: np.ndarray, cohort_b: np.ndarray) -> float:
    """The mean of one side with the deviation of the other."""
    pairs = ((cohort_a, cohort_b), (cohort_b, cohort_a))
    return np.mean([(score - one.mean()) / two.std(ddof=1) for one, two in pairs])


def trial(rng: np.random.Generator) -> tuple:
    """A score and two cohorts of one size with means and deviations of their own."""
    size = rng.integers(4, 9)
    return rng.uniform(0.2, 0.8), rng.normal(0.3, 0.1, size), rng.normal(0.1, 0.2, size)


EXERCISES = {
    "1": Exercise(
        5 * 1000,
        "a recording is embedded once, however many trials it is in",
        (
            (2 * 5 * 40_000, "this embeds both sides of every trial anew"),
            (5 * 40_000, "this embeds once per trial; a recording is in many trials"),
            (1000, "that is one embedding per recording; there are 5 crops of each"),
        ),
    ),
    "2": Exercise(
        math.log(0.1 * 50 / 0.9),
        "both the prior and the costs enter",
        (
            (math.log(50), "this looks at the costs alone and forgets how rare impostors are"),
            (math.log(0.1 / 0.9), "this looks at the prior alone and forgets the costs"),
            (0.1 * 50 / 0.9, "that is the ratio; an LLR is its natural logarithm"),
            (math.log10(0.1 * 50 / 0.9), "an LLR is a natural logarithm: no log10"),
        ),
    ),
    "3": Exercise(
        as_norm,
        "standardise the score with each side's mean and deviation, then take the mean",
        (
            (one_cohort, "each side has a cohort of its own; this is one cohort for both"),
            (common_mean, "each side has a mean of its own; this is one mean for both"),
            (swapped, "mean and deviation of a side belong together"),
            (partial(as_norm, centre=np.median), "the mean is asked for, not the median"),
            (partial(as_norm, ddof=0), "NumPy divides by n unless it is told ddof=1"),
        ),
        draw=trial,
    ),
    "4": Exercise(
        "cannot be told",
        "does the interval of the difference contain 0?",
        (
            ("X", "X has the smaller number in the table; with other speakers Y may have it"),
            ("Y", "Y has the larger error rate in the table"),
        ),
    ),
}
