"""Exercises of notebook 03b."""

import math
from functools import partial

import numpy as np
from scipy.special import softmax

from oskdft.lessons.exercise import Exercise


def compared(cosines: np.ndarray, label: int, margin: float) -> np.ndarray:
    """Cosines [K] with the margin on the angle to the right speaker."""
    changed = np.array(cosines)
    changed[label] = np.cos(np.arccos(changed[label]) + margin)
    return changed


def minus_margin(cosines: np.ndarray, label: int, margin: float) -> np.ndarray:
    """The margin taken off the cosine."""
    changed = np.array(cosines)
    changed[label] -= margin
    return changed


def on_all(cosines: np.ndarray, label: int, margin: float) -> np.ndarray:
    """The margin on the angle to each speaker."""
    return np.cos(np.arccos(cosines) + margin)


def one_embedding(rng: np.random.Generator) -> tuple:
    """Cosines with some speakers, the right one, and a margin."""
    cosines = rng.uniform(-0.9, 0.9, int(rng.integers(3, 9)))
    return cosines, int(rng.integers(len(cosines))), float(rng.uniform(0.1, 0.5))


def pooled(states: np.ndarray, weights: np.ndarray, ddof: int = 1) -> np.ndarray:
    """Mean and deviation over time of the softmax-weighted sum, [L+1, T, D] -> [2 D]."""
    return mean_and_deviation(states, softmax(weights), ddof)


def mean_and_deviation(states: np.ndarray, shares: np.ndarray, ddof: int = 1) -> np.ndarray:
    """Mean and deviation over time of a sum with given shares."""
    summed = np.tensordot(shares, states, 1)
    return np.concatenate([summed.mean(0), summed.std(0, ddof=ddof)])


def utterance(rng: np.random.Generator) -> tuple:
    """States of an utterance, and weights before the softmax."""
    layers, frames, width = (int(rng.integers(2, 7)) for _ in range(3))
    return rng.normal(size=(layers, frames + 2, width)), rng.normal(size=layers)


EXERCISES = {
    "1": Exercise(
        compared,
        "arccos gives the angle to the right speaker; add the margin; cos gives the new cosine",
        (
            (minus_margin, "the margin is added to the angle, not taken off the cosine"),
            (on_all, "only the angle to the right speaker changes"),
            (
                lambda cosines, label, margin: compared(cosines, label, -margin),
                "the margin makes the task harder: the angle grows",
            ),
        ),
        draw=one_embedding,
    ),
    "2": Exercise(
        math.log(1 + 2 * math.exp(-math.cos(0.5))),
        "the right speaker is at angle 0: which cosine does the loss compare with 0 and 0?",
        (
            (math.log(1 + 2 * math.exp(-1)), "that is the loss without a margin"),
            (0.0, "the right one wins, but two others still have a share of the softmax"),
            (math.log(3), "that would be three equal cosines"),
        ),
    ),
    "3": Exercise(
        "B",
        "what is asked of an embedding with a margin, and what without?",
        (
            ("A", "within one training, yes; but here the losses are two different ones"),
            ("C", "for one and the same embedding it is lower: less is asked"),
        ),
    ),
    "4": Exercise(
        pooled,
        "softmax of the weights, sum over the states, then mean and deviation over time",
        (
            (mean_and_deviation, "the weights go through a softmax first, so that they sum to 1"),
            (partial(pooled, ddof=0), "NumPy divides by T unless it is told ddof=1"),
            (
                lambda states, weights: pooled(states, weights)[: states.shape[2]],
                "that is the mean alone; the deviation is asked for as well",
            ),
        ),
        draw=utterance,
    ),
}
