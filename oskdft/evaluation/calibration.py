"""TODO evaluation.calibration."""

import math
from pathlib import Path

import numpy as np

from oskdft.config import Config
from oskdft.evaluation import metrics
from oskdft.evaluation.embedding import embed_files, scores_by_policy
from oskdft.evaluation.metrics import _check_prior, _checked
from oskdft.method.model import SpeakerModel
from oskdft.speech.corpora.trials import Trials
from oskdft.speech.protocol import Task

RIDGE = 1e-4  # keeps the calibration of separable scores finite


def calibrate(scores: np.ndarray, labels: np.ndarray, p_target: float = 0.5) -> tuple[float, float]:
    """Scale and offset that turn scores into log-likelihood ratios: llr = scale * score + offset.

    Args:
        scores, labels: [P], of development trials. p_target: prior the fit is best for.
    Returns:
        (scale, offset), by prior-weighted logistic regression (Newton); a small ridge on the scale
        of standardised scores keeps separable data finite.

    >>> scale, offset = calibrate([0.0, 1.0, 2.0, 3.0], [0, 1, 0, 1])
    >>> scale > 0, round(scale * 1.5 + offset, 6)
    (True, 0.0)
    """
    _check_prior(p_target)
    scores, target = _checked(scores, labels)
    mean, spread = float(scores.mean(dtype=np.float64)), float(scores.std(dtype=np.float64)) or 1.0
    x = np.stack([(scores - mean) / spread, np.ones(len(scores))], 1)
    weight = np.where(target, p_target / target.sum(), (1 - p_target) / (~target).sum())
    prior, ridge = math.log(p_target / (1 - p_target)), np.diag([RIDGE, 0.0])
    beta = np.zeros(2)

    def cost(beta: np.ndarray) -> float:
        logit = x @ beta + prior
        return float(
            weight @ np.logaddexp(0, np.where(target, -logit, logit)) + beta @ ridge @ beta / 2
        )

    for _ in range(100):
        p = 1 / (1 + np.exp(-np.clip(x @ beta + prior, -500, 500)))
        gradient = x.T @ (weight * (p - target)) + ridge @ beta
        hessian = (x * (weight * p * (1 - p))[:, None]).T @ x + ridge + 1e-12 * np.eye(2)
        step, size = np.linalg.solve(hessian, gradient), 1.0
        while cost(beta - size * step) > cost(beta) and size > 1e-6:
            size /= 2  # a full Newton step can overshoot on separable scores
        beta = beta - size * step
        if np.abs(size * step).max() < 1e-10:
            break
    return float(beta[0] / spread), float(beta[1] - beta[0] * mean / spread)


def calibration(model: SpeakerModel, task: Task, cfg: Config) -> dict[str, dict[str, float]]:
    """Threshold, scale and offset for each scoring policy, from the development trials.

    Returns:
        {"full": {...}} and the policy of ``cfg.eval``; each has threshold (at the EER), llr_scale
        and llr_offset (scores to natural-log likelihood ratios).
    """
    trials, fitted = task.dev_trials, {}
    for policy, scores in _scores(model, trials, task.dev.root, cfg).items():
        scale, offset = calibrate(scores, trials.label)
        threshold = metrics.eer(scores, trials.label)[1]
        fitted[policy] = {"threshold": threshold, "llr_scale": scale, "llr_offset": offset}
    return fitted


def _scores(model: SpeakerModel, trials: Trials, root: Path, cfg: Config) -> dict[str, np.ndarray]:
    half_batch = cfg.switches.eval_path == "half_batch"
    made = embed_files(model, [Path(root) / path for path in trials.paths], cfg.eval, half_batch)
    return scores_by_policy(made, trials)
