"""Validation during training: the development EER, and which checkpoint is the best."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from oskdft.config import Config
from oskdft.evaluation import metrics
from oskdft.evaluation.calibration import a_sample
from oskdft.evaluation.embedding import Share, alone, embed_trials, scores_by_policy
from oskdft.method.model import SpeakerModel
from oskdft.speech import quality
from oskdft.speech.corpora.trials import Trials
from oskdft.speech.protocol import Task

# of the crops of a run; a step costs more than its reading, so less than 1 % of its time
SHARE = 0.01


def require_heard(cfg: Config, task: Task, full: bool = False) -> None:
    """Decode what validation will embed, and in a long run what calibration will, before the first step.

    Headers do not show every fault, and validation embeds whole recordings whatever ``eval.tta`` says.
    The training recordings of the calibration are decoded where that is at most `SHARE` of the crops.

    Args:
        full: decode every recording of the run, noise and rooms too.
    Raises:
        ValueError, FileNotFoundError: recordings that are not fit for use; names them.
    """
    paths = [task.dev.root / path for path in task.dev_trials.paths]
    if cfg.switches.checkpoint == "oracle":
        paths += [Path(task.test_root) / path for path in task.test_trials.paths]
    channel = cfg.data.channel
    quality.require_files(paths, whole=True, listen=True, channel=channel)
    if not full:
        sample = a_sample(task.train)
        per_epoch = cfg.train.steps_per_epoch * cfg.train.batch or len(task.train)
        if len(sample) <= SHARE * cfg.train.epochs * per_epoch:
            quality.require_files(sample, whole=True, listen=True, channel=channel)
        return
    for table in (task.train, task.kd):
        if table is not None:
            paths = [table.path(row) for row in range(len(table))]
            quality.require_files(paths, whole=False, listen=True, channel=channel)
    if task.augment is not None:
        for clips in (*task.augment.clips.values(), task.augment.rooms):
            paths = [clips.root / name for name in clips.names]
            quality.require_files(paths, whole=False, listen=True, speech=False)


class Best:
    """The best checkpoint, chosen on development trials or, as released, on the test (surprise 11).

    Validation embeds full utterances only; the crops of the final evaluation cost four times as much.

    Args:
        cfg, task: of the run. log: all validations of the run so far; the caller appends to it.
        stage: number of the stage. share: divides the recordings among the processes of the run.
    """

    def __init__(
        self, cfg: Config, task: Task, log: list[dict], stage: int, share: Share = alone
    ) -> None:
        self.cfg, self.task, self.log, self.stage, self.share = cfg, task, log, stage, share
        self.key = "oracle_eer" if cfg.switches.checkpoint == "oracle" else "dev_eer"

    def measure(self, model: SpeakerModel) -> dict[str, float]:
        """Compute the EER on the development trials, and on the test trials if they choose.

        Every process calls this.
        """
        model.eval()
        rates = {"dev_eer": self._eer(model, self.task.dev_trials, self.task.dev.root)}
        if self.key == "oracle_eer":
            rates["oracle_eer"] = self._eer(model, self.task.test_trials, self.task.test_root)
        return rates

    def stale(self) -> int:
        """Count the validations of this stage since its best; 0 right after a new best."""
        rates = [entry[self.key] for entry in self.log if entry["stage"] == self.stage]
        return len(rates) - 1 - int(np.argmin(rates)) if rates else 0

    def _eer(self, model: SpeakerModel, trials: Trials, root: Path) -> float:
        cfg = replace(self.cfg, eval=replace(self.cfg.eval, tta="full"))
        scores = scores_by_policy(embed_trials(cfg, model, trials, root, self.share), trials)
        return metrics.eer(scores["full"], trials.label)[0]


def shown(rates: dict[str, float]) -> str:
    """The rates of a validation as a line.

    >>> shown({"dev_eer": 0.05, "oracle_eer": 0.1})
    'EER 5.00 % (development), 10.00 % (test)'
    """
    whose = {"dev_eer": "development", "oracle_eer": "test"}
    return "EER " + ", ".join(f"{100 * rate:.2f} % ({whose[name]})" for name, rate in rates.items())
