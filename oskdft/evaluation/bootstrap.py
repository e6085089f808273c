"""TODO evaluation.bootstrap."""

from collections.abc import Callable

import numpy as np

from oskdft.evaluation.metrics import _checked, _ends_of_ties, eer, eer_of
from oskdft.speech.corpora.trials import Trials


def trial_speakers(trials: Trials) -> np.ndarray:
    """Speakers of each trial, [P, 2]: recordings that target trials link belong to one speaker."""
    from scipy.sparse import coo_array  # heavy, and `oskdft verify` does without
    from scipy.sparse.csgraph import connected_components

    same = trials.label == 1
    links = (np.ones(same.sum()), (trials.enrol[same], trials.test[same]))
    _, speaker = connected_components(
        coo_array(links, shape=(len(trials.paths),) * 2), directed=False
    )
    return np.stack([speaker[trials.enrol], speaker[trials.test]], 1)


SAMPLES, LEVEL = 1000, 0.95  # bootstrap


RocMetric = Callable[[np.ndarray, np.ndarray], float]


def bootstrap(
    scores: np.ndarray, labels: np.ndarray, speakers: np.ndarray, metric: RocMetric = eer_of,
    samples: int = SAMPLES, seed: int = 0,
) -> np.ndarray:  # fmt: skip
    """The metric over draws of speakers, not trials, with replacement.

    A speaker drawn twice counts twice: a target trial weighs as often as its speaker was drawn, a
    non-target trial the product for its two speakers. Trials of one speaker are not independent, so
    an interval over trials would be too narrow. Two systems on the same trials see the same draws:
    the quantiles of the difference of their arrays are an interval of the difference.

    Args:
        scores, labels: [P]. speakers: [P, 2] numbers of the two speakers of each trial.
        metric: function of (p_miss, p_fa), e.g. `eer_of`.
    Returns:
        [samples], or fewer: a draw without targets or without non-targets has no ROC.

    >>> pairs = [[0, 0], [1, 1], [0, 1]]
    >>> a, b = (bootstrap(scores, [1, 1, 0], pairs) for scores in ([3, 1, 2], [3, 2, 1]))
    >>> sorted(set((a - b).tolist()))
    [0.5]
    """
    if samples < 1:
        raise ValueError(f"samples is {samples}; give 1 or more")
    scores, target = _checked(scores, labels)
    _, who = np.unique(speakers, return_inverse=True)
    who = who.reshape(np.shape(speakers))
    if who.shape != (len(scores), 2):
        raise ValueError(f"speakers has shape {who.shape}; give two per trial, [{len(scores)}, 2]")
    order = np.argsort(scores)
    ends, target = _ends_of_ties(scores[order]), target[order]
    left, right = who[order].T
    total, rng, drawn = int(who.max()) + 1, np.random.default_rng(seed), []
    for _ in range(samples):
        times = np.bincount(rng.integers(total, size=total), minlength=total).astype(np.float64)
        weight = np.where(target, times[left], times[left] * times[right])
        hits = np.concatenate([[0.0], np.cumsum(weight * target)[ends - 1]])
        others = np.concatenate([[0.0], np.cumsum(weight * ~target)[ends - 1]])
        if hits[-1] and others[-1]:
            drawn.append(metric(hits / hits[-1], 1 - others / others[-1]))
    if not drawn:
        raise ValueError("no draw of speakers has both kinds of trials; the list is too small")
    return np.array(drawn)


def bootstrap_ci(
    scores: np.ndarray, labels: np.ndarray, speakers: np.ndarray, metric: RocMetric = eer_of,
    samples: int = SAMPLES, level: float = LEVEL, seed: int = 0,
) -> tuple[float, float]:  # fmt: skip
    """Confidence interval (low, high): the central ``level`` of `bootstrap`'s draws.

    >>> pairs = [[0, 0], [1, 1], [2, 2], [0, 1], [1, 2], [0, 2]]
    >>> bootstrap_ci([0.9, 0.8, 0.3, 0.5, 0.2, 0.1], [1, 1, 1, 0, 0, 0], pairs)
    (0.0, 0.3333333333333333)
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; give a share inside (0, 1)")
    drawn = bootstrap(scores, labels, speakers, metric, samples, seed)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def undecided(results: dict[str, dict], trials: Trials, samples: int = 200) -> list[str]:
    """Names that cannot be told from the lowest mean, itself first: there is no winner among them.

    A result is worse only if every seed says so (one seed decides nothing) and the 95 % interval of
    its difference lies above 0. That is a bootstrap over speakers in which both meet the same draw.

    Args:
        results: as from `measure`, with mean, seeds and scores. trials: that were scored.
        samples: draws of the test speakers.
    """
    order = sorted(results, key=lambda name: results[name]["mean"])
    rng, who = np.random.default_rng(0), trial_speakers(trials)
    draws = [draw for _ in range(samples) if (draw := _drawn_trials(rng, who, trials.label)).size]
    best = results[order[0]]
    reference, left = _rates(best["scores"], trials.label, draws), order[:1]
    for name in order[1:]:
        apart = _rates(results[name]["scores"], trials.label, draws) - reference
        steady = len(best["seeds"]) > 1 and np.all(
            np.subtract(results[name]["seeds"], best["seeds"]) > 0
        )
        if not (steady and len(apart) and np.quantile(apart, 0.025) > 0):
            left.append(name)
    return left


def _drawn_trials(rng: np.random.Generator, speakers: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Numbers of the trials, with repetition, when speakers are drawn again; none without both kinds."""
    total = int(speakers.max()) + 1
    times = np.bincount(rng.integers(total, size=total), minlength=total)
    left, right = times[speakers].T
    drawn = np.repeat(np.arange(len(labels)), np.where(labels == 1, left, left * right))
    return drawn if 0 < labels[drawn].sum() < len(drawn) else drawn[:0]


def _rates(scores: list[np.ndarray], labels: np.ndarray, draws: list[np.ndarray]) -> np.ndarray:
    """EER of each draw, mean of the seeds."""
    return np.array([np.mean([eer(s[draw], labels[draw])[0] for s in scores]) for draw in draws])
