"""Exercises of notebook 08."""

import numpy as np
from sklearn.decomposition import PCA

from oskdft.evaluation.probes import same_label
from oskdft.lessons.exercise import Exercise

points = np.random.default_rng(0).normal(size=(500, 20)) * 0.9 ** np.arange(20)
held = PCA().fit(points).explained_variance_ratio_.cumsum()


def nearest_share(points: np.ndarray, labels: np.ndarray) -> float:
    """Share of points whose nearest other point has their label."""
    return same_label(points, labels, 1, "euclidean")


def cloud(rng: np.random.Generator) -> tuple:
    """Points [n, 3] and labels [n] of three groups."""
    count = rng.integers(20, 60)
    labels = rng.integers(0, 3, count)
    return rng.normal(size=(count, 3)) + labels[:, None], labels


EXERCISES = {
    "1": Exercise(
        "B",
        "section 4 moved the islands; section 5 compared distances on the map with those in the space",
        (
            ("A", "another seed puts the islands elsewhere, and the scores stay what they are"),
            ("C", "the rank correlation of distances in section 5 is above 0"),
        ),
    ),
    "2": Exercise(
        int(np.searchsorted(held, 0.9)) + 1,
        "add up explained_variance_ratio_ from the largest on until it reaches 0.9",
        (
            (18, "90 % of 20 directions would do if all of them held the same"),
            (
                int(np.searchsorted(held, 0.9)),
                "these hold a little less than 90 %: indices start at 0",
            ),
        ),
    ),
    "3": Exercise(
        nearest_share,
        "all pairwise distances; a point is not its own neighbour; argmin; compare labels",
        ((lambda points, labels: 1.0, "each point is nearest to itself: leave it out"),),
        draw=cloud,
    ),
    "4": Exercise(
        19 / 199,
        "how many other utterances are there, and how many of them are of the same speaker?",
        ((20 / 200, "this counts the point as its own neighbour"),),
        fraction=True,
    ),
}
