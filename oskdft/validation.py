"""Validation during training: development EER, calibration, and which model is the best one."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from oskdft import metrics
from oskdft.config import Config
from oskdft.console import say
from oskdft.corpora import Trials
from oskdft.evaluate import embed_files, scores_by_policy
from oskdft.model import SpeakerModel
from oskdft.task import Task


class Best:
    """Which checkpoint is best, on development trials or, as released, on the test (surprise 11).

    Validation embeds full utterances only; the recipe of the final evaluation costs four times that.

    Args:
        cfg, task: of the run. log: all validations of the run so far; the caller appends to it.
        stage: number of the stage.
    """

    def __init__(self, cfg: Config, task: Task, log: list[dict], stage: int) -> None:
        self.cfg, self.task, self.log, self.stage = cfg, task, log, stage
        self.key = "oracle_eer" if cfg.switches.checkpoint == "oracle" else "dev_eer"
        if self.key == "oracle_eer" and task.test_trials is None:
            raise ValueError(
                "switches.checkpoint=oracle needs test trials; set data.trials or choose dev"
            )

    def measure(self, model: SpeakerModel) -> dict[str, float]:
        """EER on the development trials, and on the test trials where those choose."""
        model.eval()
        rates = {"dev_eer": self._eer(model, self.task.dev_trials, self.task.dev.root)}
        if self.key == "oracle_eer":
            rates["oracle_eer"] = self._eer(model, self.task.test_trials, self.task.test_root)
        whose = {"dev_eer": "development", "oracle_eer": "test"}
        found = ", ".join(f"{100 * rate:.2f} % ({whose[name]})" for name, rate in rates.items())
        say(f"EER {found}")
        return rates

    def stale(self) -> int:
        """Validations of this stage since its best one; 0 right after a new best."""
        rates = [entry[self.key] for entry in self.log if entry["stage"] == self.stage]
        return len(rates) - 1 - int(np.argmin(rates)) if rates else 0

    def _eer(self, model: SpeakerModel, trials: Trials, root: Path) -> float:
        scores = _scores(
            model, trials, root, replace(self.cfg, eval=replace(self.cfg.eval, tta="full"))
        )
        return metrics.eer(scores["full"], trials.label)[0]


def calibration(model: SpeakerModel, task: Task, cfg: Config) -> dict[str, dict[str, float]]:
    """Threshold, scale and offset for each scoring policy, from the development trials.

    Returns:
        {"full": {...}} and the policy of ``cfg.eval``; each has threshold (at the EER), llr_scale
        and llr_offset (scores to natural-log likelihood ratios).
    """
    trials, fitted = task.dev_trials, {}
    for policy, scores in _scores(model, trials, task.dev.root, cfg).items():
        scale, offset = metrics.calibrate(scores, trials.label)
        threshold = metrics.eer(scores, trials.label)[1]
        fitted[policy] = {"threshold": threshold, "llr_scale": scale, "llr_offset": offset}
    return fitted


def _scores(model: SpeakerModel, trials: Trials, root: Path, cfg: Config) -> dict[str, np.ndarray]:
    half_batch = cfg.switches.eval_path == "half_batch"
    made = embed_files(model, [Path(root) / path for path in trials.paths], cfg.eval, half_batch)
    return scores_by_policy(made, trials)
