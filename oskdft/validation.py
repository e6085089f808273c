"""Validation during training: development EER, calibration, and which model is the best one."""

from pathlib import Path

import numpy as np

from oskdft import metrics
from oskdft.config import Config
from oskdft.console import say
from oskdft.corpora import Trials
from oskdft.evaluate import score_list
from oskdft.model import SpeakerModel, save_model
from oskdft.task import Task


class Best:
    """The checkpoint that the switch `checkpoint` chooses: development speakers, or as released the test.

    Args:
        out: the run folder, whose best/ is kept up to date.
        cfg, task: of the run. log: all validations so far; new ones are appended.
        stage: number of the stage.
    """

    def __init__(self, out: Path, cfg: Config, task: Task, log: list[dict], stage: int) -> None:
        self.out, self.cfg, self.task, self.log, self.stage = out, cfg, task, log, stage
        self.key = "oracle_eer" if cfg.switches.checkpoint == "oracle" else "dev_eer"  # surprise 11
        self.best = min((v[self.key] for v in log if v["stage"] == stage), default=float("inf"))
        self.stale = 0  # validations since the best one

    def validate(self, model: SpeakerModel, step: int, epoch: int) -> None:
        """Measure, log, keep the better model."""
        task = self.task
        model.eval()
        scores = self._scores(model, task.dev_trials, task.dev.root)
        entry = {"stage": self.stage, "step": step, "epoch": epoch}
        entry["dev_eer"] = metrics.eer(scores, task.dev_trials.label)[0]
        if self.key == "oracle_eer":
            entry["oracle_eer"] = self._oracle(model)
        model.train()
        self.log.append(entry)
        rates = [f"{name} {100 * rate:.2f} %" for name, rate in entry.items() if "eer" in name]
        say(f"epoch {epoch}: {', '.join(rates)}")
        self.stale += 1
        if entry[self.key] < self.best:
            self.best, self.stale = entry[self.key], 0
            facts = calibration(scores, task.dev_trials.label) | {"step": step, self.key: self.best}
            save_model(self.out / "best", model, self.cfg, task.train.speakers, facts)

    def _oracle(self, model: SpeakerModel) -> float:
        trials = self.task.test_trials
        if trials is None:
            raise ValueError(
                "switches.checkpoint=oracle needs test trials; set data.trials or choose dev"
            )
        return metrics.eer(self._scores(model, trials, self.task.test_root), trials.label)[0]

    def _scores(self, model: SpeakerModel, trials: Trials, root: Path) -> np.ndarray:
        half_batch = self.cfg.switches.eval_path == "half_batch"
        return score_list(model, trials, root, self.cfg.eval, half_batch)


def calibration(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Threshold at the development EER, and scale and offset that turn scores into log-likelihood ratios."""
    scale, offset = metrics.calibrate(scores, labels)
    return {
        "threshold": float(metrics.eer(scores, labels)[1]),
        "llr_scale": scale,
        "llr_offset": offset,
    }


def calibrated(model: SpeakerModel, task: Task, cfg: Config) -> dict[str, float]:
    """Threshold and calibration of a model on the development trials."""
    scores = score_list(model.eval(), task.dev_trials, task.dev.root, cfg.eval)
    return calibration(scores, task.dev_trials.label)
