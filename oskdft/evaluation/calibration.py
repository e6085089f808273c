"""Calibration of a model on development trials: threshold, log-likelihood ratios, and its domain."""

from dataclasses import replace

import numpy as np

from oskdft.config import Config
from oskdft.evaluation import metrics
from oskdft.evaluation.bootstrap import recording_speakers
from oskdft.evaluation.embedding import embed_files, scores_by_policy
from oskdft.method.model import SpeakerModel
from oskdft.speech.protocol import Task
from oskdft.storage.domain import Domain

INSIDE = 0.98  # share of recordings of unseen speakers that lie inside the domain
FOLDS = 10  # of speakers, for the limit of the domain
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


def calibration(model: SpeakerModel, task: Task, cfg: Config) -> tuple[dict, Domain]:
    """Calibration of each scoring policy and its domain, from the development recordings.

    Args:
        model: in evaluation mode. task: its ``dev_trials`` are scored.
        cfg: ``eval`` names the policies and crops.
    Returns:
        (policy -> `fit` of its scores, see `scores_by_policy`; `fit_domain` of the embeddings).
    Raises:
        ValueError: a recording that cannot be embedded, or development trials of one class.
    """
    trials, half_batch = task.dev_trials, cfg.switches.eval_path == "half_batch"
    paths = [task.dev.root / path for path in trials.paths]
    embeddings = embed_files(model, paths, cfg.eval, half_batch)
    scores = scores_by_policy(embeddings, trials)
    fitted = {policy: fit(scores[policy], trials.label) for policy in scores}
    return fitted, fit_domain(embeddings.single(), recording_speakers(trials))


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


def fit_domain(embeddings: np.ndarray, speakers: np.ndarray) -> Domain:
    """The Gaussian of the embeddings, with the limit that `INSIDE` of unseen speakers' recordings keep.

    The distances for the limit are those of each fold of speakers to the Gaussian of the others.

    Args:
        embeddings: [n, E], not normalised. speakers: [n] speaker of each.
    Source: Ledoit and Wolf 2004 (covariance); Lee et al. 2018 (distance to the training data).

    >>> embeddings = np.random.default_rng(0).normal(size=(200, 8))
    >>> domain = fit_domain(embeddings, np.arange(200) % 20)
    >>> domain.distance(np.zeros(8)) < domain.limit < domain.distance(np.full(8, 3.0))
    True
    """
    from sklearn.model_selection import GroupKFold  # heavy

    distances: list[float] = []
    folds = GroupKFold(min(FOLDS, len(np.unique(speakers))))
    for others, held in folds.split(embeddings, groups=speakers):
        domain = _gaussian(embeddings[others])
        distances += [domain.distance(embeddings[row]) for row in held]
    return replace(_gaussian(embeddings), limit=float(np.quantile(distances, INSIDE)))


def _gaussian(embeddings: np.ndarray) -> Domain:
    from sklearn.covariance import LedoitWolf  # heavy

    estimate = LedoitWolf().fit(embeddings.astype(np.float64))
    return Domain(estimate.location_, np.linalg.cholesky(estimate.precision_), limit=0.0)
