"""Bands of DET curves: where the curves of other speakers, or of other tests, lie."""

from collections.abc import Iterable

import numpy as np
from scipy.special import ndtr, ndtri

from oskdft.evaluation import bootstrap

DRAWS = 300  # for a band
BAND = ndtr(np.linspace(ndtri(0.0005), ndtri(0.95), 60))  # false-alarm rates of its points


def band(rates: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Where 95 % of drawn DET curves lie: miss rates [n], low and high, at the false-alarm rates `BAND`.

    Args:
        rates: (false alarms, misses) of each draw, both [m], from rejecting all to accepting all.

    >>> low, high = band([(np.array([0.0, 1.0]), np.array([1.0, 0.0]))])
    >>> bool(np.allclose(low, 1 - BAND)), bool(np.allclose(low, high))
    (True, True)
    """
    misses = [np.interp(BAND, alarm, miss) for alarm, miss in rates]
    low, high = np.quantile(misses, bootstrap.INTERVAL, axis=0)
    return low, high


def draws_of_speakers(
    scores: np.ndarray, labels: np.ndarray, speakers: np.ndarray
) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """DET curves of drawn speakers, for `band`.

    Args:
        scores: [P]. labels: [P] 1 same speaker. speakers: [P, 2] of the trials.
    Source: the draws of `bootstrap.bootstrap`.

    >>> draws = draws_of_speakers([2.0, 1.0, 0.0], [1, 1, 0], np.array([[0, 0], [1, 1], [0, 1]]))
    >>> alarm, miss = next(iter(draws))
    >>> alarm.tolist(), miss.tolist()
    ([0.0, 0.0, 1.0], [0.5, 0.0, 0.0])
    """
    order = np.argsort(-np.asarray(scores))
    target = np.asarray(labels)[order] == 1
    for weight in bootstrap.weights(target, speakers[order], DRAWS):
        hits, alarms = np.cumsum(weight * target), np.cumsum(weight * ~target)
        if hits[-1] and alarms[-1]:
            yield alarms / alarms[-1], 1 - hits / hits[-1]
