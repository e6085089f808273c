"""Calibration of a model on development trials: threshold, log-likelihood ratios, and its domain."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from oskdft.config import Config
from oskdft.evaluation import metrics
from oskdft.evaluation.embedding import (
    Share,
    alone,
    embed_by,
    embed_trials,
    scores_by_policy,
)
from oskdft.method.model import SpeakerModel
from oskdft.speech.corpora.tables import Utterances
from oskdft.speech.protocol import Task
from oskdft.speech.quality import LONGEST_WHOLE_S
from oskdft.storage.domain import Domain

INSIDE = 0.98  # share of recordings of new speakers that lie inside the domain
HEARD = 1000  # training recordings that the domain is fitted to, at most
RIDGE = 1e-4  # penalty on the squared scale; without it the scale of separable scores is infinite


def calibrate(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Scale and offset of the log-likelihood ratios llr = scale * score + offset.

    Logistic regression on standardised scores. Both classes weigh the same, so the prior is 1/2, its
    logit 0, and the intercept of the regression is the offset.

    Args:
        scores: [P] of development trials, any unit. labels: [P] 1 same speaker, 0 different.
    Returns:
        (scale, offset): scale in nats per unit of the scores, offset in nats; both 0 if all scores are
        equal.
    Raises:
        ValueError: see `metrics.checked_trials`.
    Source: Brummer and du Preez 2006, linear calibration by logistic regression.

    >>> scale, offset = calibrate([0.0, 1.0, 2.0, 3.0], [0, 1, 0, 1])
    >>> scale > 0, abs(scale * 1.5 + offset) < 1e-6
    (True, True)
    """
    from sklearn.linear_model import LogisticRegression  # heavy

    scores, target = metrics.checked_trials(scores, labels)
    if np.ptp(scores) == 0:
        return 0.0, 0.0  # equal scores carry no evidence
    scores = scores.astype(np.float64)
    mean = scores.mean()
    deviation = scores.std()
    weights = np.where(target, 0.5 / target.sum(), 0.5 / (~target).sum())  # [P], sum 1
    regression = LogisticRegression(C=1 / RIDGE, solver="newton-cholesky", tol=1e-10, max_iter=1000)
    regression.fit((scores[:, None] - mean) / deviation, target, sample_weight=weights)
    scale = regression.coef_[0, 0] / deviation
    return float(scale), float(regression.intercept_[0] - scale * mean)


def calibration(
    model: SpeakerModel, task: Task, cfg: Config, share: Share = alone
) -> tuple[dict, Domain]:
    """Calibration of each scoring policy, from the development trials, and its domain.

    Args:
        model: in evaluation mode. task: its ``dev_trials`` are scored.
        cfg: ``eval`` names the policies and crops. share: see `embed_files`.
    Returns:
        (policy -> `fit` of its scores, see `scores_by_policy`; `fit_domain` of at most `HEARD` training
        recordings and the development recordings).
    Raises:
        ValueError: a recording that cannot be embedded, or development trials of one class.
    """
    trials = task.dev_trials
    embeddings = embed_trials(cfg, model, trials, task.dev.root, share)
    scores = scores_by_policy(embeddings, trials)
    fitted = {policy: fit(scores[policy], trials.label) for policy in scores}
    new = embeddings.single()
    single = replace(cfg.eval, tta="crops" if embeddings.full is None else "full")
    sample = a_sample(task.train)
    heard = new
    if len(sample) > 1:
        heard = embed_by(replace(cfg, eval=single), model, sample, share).single()
    return fitted, fit_domain(heard, new)


def a_sample(utterances: Utterances) -> list[Path]:
    """Paths of at most `HEARD` recordings, spread over the table, without those too long to embed whole."""
    spread = np.linspace(0, len(utterances) - 1, HEARD).astype(int)
    some = utterances.select(np.unique(spread)).measured()  # a table may hold a million rows
    return [some.path(row) for row in np.flatnonzero(some.seconds < LONGEST_WHOLE_S)]


def fit(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Threshold at the equal error rate, and the calibration of the scores.

    Args:
        scores, labels: [P], as for `calibrate`.
    Returns:
        "threshold": score at the EER; "llr_scale", "llr_offset": see `calibrate`.

    >>> sorted(fit([0.0, 1.0, 2.0, 3.0], [0, 1, 0, 1]))
    ['llr_offset', 'llr_scale', 'threshold']
    """
    scale, offset = calibrate(scores, labels)
    threshold = metrics.eer(scores, labels)[1]
    return {"threshold": threshold, "llr_scale": scale, "llr_offset": offset}


def fit_domain(heard: np.ndarray, new: np.ndarray) -> Domain:
    """The Gaussian of training recordings, with the limit that `INSIDE` of new speakers' recordings keep.

    Args:
        heard: [n, E] embeddings of training recordings, not normalised.
        new: [m, E] embeddings of development recordings.
    Source: Ledoit and Wolf 2004 (covariance); Lee et al. 2018 (distance to the training data).

    >>> rng = np.random.default_rng(0)
    >>> domain = fit_domain(rng.normal(size=(500, 8)), rng.normal(size=(100, 8)))
    >>> domain.distance(np.zeros(8)) < domain.limit < domain.distance(np.full(8, 3.0))
    True
    """
    from sklearn.covariance import LedoitWolf  # heavy

    estimate = LedoitWolf().fit(heard.astype(np.float64))
    domain = Domain(estimate.location_, np.linalg.cholesky(estimate.precision_), limit=0.0)
    return replace(domain, limit=float(np.quantile([domain.distance(row) for row in new], INSIDE)))
