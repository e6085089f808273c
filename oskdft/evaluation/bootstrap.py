"""Confidence intervals of the EER by bootstrap over speakers."""

from collections.abc import Iterator

import numpy as np

from oskdft.evaluation.metrics import checked_trials, eer_of, ends_of_ties
from oskdft.speech.corpora.trials import Trials
from oskdft.utils.console import say

SAMPLES = 1000  # draws of speakers
INTERVAL = (0.025, 0.975)  # quantiles of the draws at its ends: 95 %
SEED = 0  # of the draws
FEW = 5  # speakers: with fewer, most draws repeat one another (our choice)
BLOCK = 128  # operating points


def trial_speakers(trials: Trials) -> np.ndarray:
    """Numbers of the two speakers of each trial, [P, 2], read from the labels.

    Two recordings belong to one speaker when a chain of target trials links them.

    >>> trials = Trials(np.array([1, 0]), np.array([0, 0]), np.array([1, 2]), ["a", "b", "c"], "mine")
    >>> trial_speakers(trials).tolist()
    [[0, 0], [0, 1]]
    """
    from scipy.sparse import coo_array  # heavy, and `oskdft verify` does without
    from scipy.sparse.csgraph import connected_components

    same = trials.label == 1
    links = (np.ones(same.sum()), (trials.enrol[same], trials.test[same]))
    graph = coo_array(links, shape=(len(trials.paths), len(trials.paths)))
    _, speaker = connected_components(graph, directed=False)
    return np.stack([speaker[trials.enrol], speaker[trials.test]], 1)


def bootstrap(
    scores: np.ndarray,
    labels: np.ndarray,
    speakers: np.ndarray,
    samples: int = SAMPLES,
) -> np.ndarray:
    """The EER over draws of speakers (not of trials) with replacement.

    A target trial weighs as often as its speaker was drawn, a non-target trial the product of the
    counts of its two speakers. Trials of one speaker are not independent, so an interval over trials
    would be too narrow. Two systems on the same trials meet the same draws: the quantiles of the
    difference of their arrays are an interval of the difference.

    Args:
        scores, labels: [P], as for `metrics.eer`.
        speakers: [P, 2] numbers or names of the two speakers of each trial.
        samples: draws, the same in every call.
    Returns:
        [samples] EERs as fractions, or fewer: a draw without both classes has no ROC.
    Raises:
        ValueError: samples below 1, speakers of another shape, or no draw with both classes; see also
            `metrics.checked_trials`.
    Source: METHOD.md section 5.

    >>> pairs = [[0, 0], [1, 1], [0, 1]]
    >>> a, b = (bootstrap(scores, [1, 1, 0], pairs) for scores in ([3, 1, 2], [3, 2, 1]))
    >>> sorted(set((a - b).tolist()))
    [0.5]
    """
    if samples < 1:
        raise ValueError(f"samples is {samples}; give 1 or more")
    scores, target = checked_trials(scores, labels)
    order = np.argsort(scores)
    target, scores, speakers = target[order], scores[order], _numbered(speakers, len(scores))[order]
    # An operating point lies behind each group of equal scores. The points are walked in blocks, and
    # only the block where misses cross false alarms is walked point by point.
    ends = ends_of_ties(scores)
    firsts = np.append(0, ends[BLOCK - 1 : -1 : BLOCK])  # first trial of each block
    at_target = np.flatnonzero(target)
    targets_before = np.append(np.searchsorted(at_target, firsts), len(at_target))
    values = []
    for weight in weights(target, speakers, samples):
        before = np.append(0, np.cumsum(np.add.reduceat(weight, firsts)))
        hits = np.append(0, np.cumsum(weight.take(at_target))).take(targets_before)
        others = before - hits
        if not hits[-1] or not others[-1]:
            continue
        block = np.searchsorted(hits / hits[-1] - (1 - others / others[-1]), 0.0, side="right") - 1
        first, inner = firsts[block], ends[block * BLOCK : (block + 1) * BLOCK]
        own, own_target = weight[first : inner[-1]], target[first : inner[-1]]
        p_miss = np.append(0, np.cumsum(own * own_target)[inner - first - 1]) + hits[block]
        p_reject = np.append(0, np.cumsum(own * ~own_target)[inner - first - 1]) + others[block]
        values.append(eer_of(p_miss / hits[-1], 1 - p_reject / others[-1]))
    if not values:
        raise ValueError("no draw of speakers has both kinds of trials; the list is too small")
    return np.array(values)


def weights(
    target: np.ndarray, speakers: np.ndarray, samples: int = SAMPLES
) -> Iterator[np.ndarray]:
    """How often each trial counts, [P], in each draw of speakers: the draws of `bootstrap`.

    Args:
        target: [P] bool. speakers, samples: see `bootstrap`.

    >>> next(weights(np.array([True, False]), np.array([[0, 0], [0, 1]]), 1)).shape
    (2,)
    """
    number = _numbered(speakers, len(target))
    total = int(number.max()) + 1
    left, right = number.T
    right = np.where(target, total, right)  # of a target trial one speaker counts
    rng = np.random.default_rng(SEED)
    for _ in range(samples):
        times = np.bincount(rng.integers(total, size=total), minlength=total + 1)
        times[total] = 1
        yield times.take(left) * times.take(right)


def _numbered(speakers: np.ndarray, trials: int) -> np.ndarray:
    """Speakers as numbers from 0 on, [P, 2]."""
    _, number = np.unique(speakers, return_inverse=True)
    number = number.reshape(np.shape(speakers))
    if number.shape != (trials, 2):
        raise ValueError(f"speakers has shape {number.shape}; give two per trial, [{trials}, 2]")
    return number


def bootstrap_ci(
    scores: np.ndarray,
    labels: np.ndarray,
    speakers: np.ndarray,
    samples: int = SAMPLES,
) -> tuple[float, float]:
    """95 % confidence interval of the EER: the central draws of `bootstrap`.

    Args:
        scores, labels, speakers, samples: see `bootstrap`.
    Returns:
        (low, high), fractions.
    Raises:
        ValueError: see `bootstrap`.

    >>> pairs = [[0, 0], [1, 1], [2, 2], [0, 1], [1, 2], [0, 2]]
    >>> bootstrap_ci([0.9, 0.8, 0.3, 0.5, 0.2, 0.1], [1, 1, 1, 0, 0, 0], pairs)
    (0.0, 0.3333333333333333)
    """
    warn_of_few(speakers)
    low, high = np.quantile(bootstrap(scores, labels, speakers, samples), INTERVAL)
    return float(low), float(high)


def warn_of_few(speakers: np.ndarray, group: str = "") -> None:
    """Say that an interval over fewer than `FEW` speakers tells little.

    Args:
        speakers: of the trials, any shape. group: its name; empty: all speakers of a list.
    """
    count = len(np.unique(speakers))
    if count < FEW:
        of = f" of {group}" if group else ""
        say(f"warning: an interval over {count} speakers{of} tells little; have at least {FEW}")
