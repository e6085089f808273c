"""Calibration of a model on development trials: scores to log-likelihood ratios, and the threshold."""

import numpy as np

from oskdft.config import Config
from oskdft.evaluation import metrics
from oskdft.evaluation.embedding import embed_and_score
from oskdft.method.model import SpeakerModel
from oskdft.speech.protocol import Task

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


def calibration(model: SpeakerModel, task: Task, cfg: Config) -> dict[str, dict[str, float]]:
    """Threshold, scale and offset of each scoring policy, from the development trials.

    Args:
        model: in evaluation mode. task: its ``dev_trials`` are scored.
        cfg: ``eval`` names the policies and crops.
    Returns:
        policy ("full", "crops", "both") -> {"threshold": score at the EER, "llr_scale",
        "llr_offset": see `calibrate`}.
    Raises:
        ValueError: a recording that cannot be embedded, or development trials of one class.
    """
    trials = task.dev_trials
    fitted = {}
    for policy, scores in embed_and_score(model, trials, task.dev.root, cfg).items():
        scale, offset = calibrate(scores, trials.label)
        threshold = metrics.eer(scores, trials.label)[1]
        fitted[policy] = {"threshold": threshold, "llr_scale": scale, "llr_offset": offset}
    return fitted
