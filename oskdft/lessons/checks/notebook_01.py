"""Exercises of notebook 01."""

from functools import partial

import numpy as np
from scipy.stats import norm

from oskdft.evaluation import metrics
from oskdft.lessons.exercise import Exercise


def cost(llrs: np.ndarray, labels: np.ndarray, p: float, threshold: float) -> float:
    """Normalised cost of LLRs [P] at a threshold."""
    accepted = llrs >= threshold
    miss, false_alarm = np.mean(~accepted[labels == 1]), np.mean(accepted[labels == 0])
    return (p * miss + (1 - p) * false_alarm) / min(p, 1 - p)


def actual_cost(llrs: np.ndarray, labels: np.ndarray, p: float) -> float:
    """The cost at the threshold that the prior dictates."""
    return cost(llrs, labels, p, np.log((1 - p) / p))


def with_log10(llrs: np.ndarray, labels: np.ndarray, p: float) -> float:
    """The cost at a threshold in decades."""
    return cost(llrs, labels, p, np.log10((1 - p) / p))


def trials(rng: np.random.Generator) -> tuple:
    """LLRs [400] of both kinds, labels and a prior on either side of one half."""
    labels = rng.permutation(np.repeat([1, 0], 200))
    return rng.normal(4 * labels - 2, 3), labels, float(rng.uniform(0.03, 0.97))


refused_impostors, refused_customers = 0.001 * 0.98, 0.999 * 0.02

EXERCISES = {
    "1": Exercise(
        refused_impostors / (refused_impostors + refused_customers),
        "count the refused callers of both kinds among 100,000",
        (
            (0.98, "0.98 is the rate among impostors, not their share of the refused"),
            (0.001, "that is the share of impostors among all callers"),
            (
                0.001 / 0.02,
                "nearly: the refused are 2 % of the customers and 98 % of the impostors",
            ),
        ),
        fraction=True,
    ),
    "2": Exercise(
        float(-2 * norm.ppf(0.0098)),
        "the EER is the normal distribution function at -d/2",
        ((float(-norm.ppf(0.0098)), "that is d/2: the threshold lies half way between the means"),),
    ),
    "3": Exercise(
        float(metrics.eer([1.0, 1.0, 1.0, 1.0], [1, 1, 0, 0])[0]),
        "there are two operating points, accept all (0, 1) and refuse all (1, 0); join them",
        (
            (0.0, "no threshold tells equal scores apart, so it cannot be perfect"),
            (1.0, "it accepts all or refuses all; neither makes every error of both kinds"),
        ),
        fraction=True,
    ),
    "4": Exercise(
        actual_cost,
        "accept at llr >= ln((1 - p) / p); divide by min(p, 1 - p)",
        (
            (partial(cost, threshold=0.0), "0 is the threshold of p = 0.5; here it depends on p"),
            (with_log10, "an LLR is a natural logarithm: no log10"),
            (
                lambda llrs, labels, p: actual_cost(llrs, labels, p) * min(p, 1 - p) / p,
                "the better of the two that do not listen costs min(p, 1 - p), not p",
            ),
            (
                lambda llrs, labels, p: actual_cost(llrs, labels, p) * min(p, 1 - p),
                "this is the cost before it is divided by min(p, 1 - p)",
            ),
        ),
        draw=trials,
    ),
}
