"""Many short runs of a notebook: settings, missing runs, one teacher for all, results over seeds."""

import functools
import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from oskdft.config import Config
from oskdft.lessons.lesson import Lesson
from oskdft.method.strategies import stages
from oskdft.method.teacher import Teacher
from oskdft.storage.pretrained import load_encoder
from oskdft.utils.files import read_json

# profile -> (updates of a short run, other changes); other profiles run in full
SHORT: dict[str, tuple[int, dict[str, Any]]] = {
    "smoke": (4, {"eval.tta": "full"}),
    # crops of 1 s: twice the updates in the same time; 5 development speakers are enough for one
    # checkpoint; scoring whole recordings only takes a quarter of the time
    "classroom": (
        30,
        {"data.crop_s": 1.0, "data.workers": 0, "data.dev_speakers": 5, "eval.tta": "full"},
    ),
}
SEEDS = {"smoke": 1, "classroom": 2}  # profile -> number of seeds; 3 for other profiles
CACHE_BYTES = 512 * 2**20  # of the states that a `RememberingTeacher` keeps
HALVES = 2  # epochs of a short run: each stage of a two-stage strategy gets one


def short(cfg: Config, updates: int = 0) -> dict[str, Any]:
    """Changes that make a run short; none for profiles that run in full.

    Args:
        cfg: of the profile. updates: of the student; 0: from `SHORT`.
    Raises:
        ValueError: updates is odd or negative, so two stages cannot share them equally.

    >>> from oskdft.config import load
    >>> short(load("smoke"))["train.steps_per_epoch"], short(load("vox1"))
    (2, {})
    """
    default, changes = SHORT.get(cfg.name, (0, {}))
    updates = updates or default
    if updates % HALVES or updates < 0:
        raise ValueError(f"{updates} updates cannot be shared by two stages; choose an even number")
    if not updates:
        return {}
    budget = {"train.epochs": HALVES, "train.steps_per_epoch": updates // HALVES}
    return changes | budget | {"train.validate_every": HALVES}


def seeds_of(cfg: Config, count: int = 0) -> list[int]:
    """``count`` consecutive seeds starting at cfg.seed; 0: the number of the profile in `SEEDS`.

    >>> from oskdft.config import load
    >>> seeds_of(load("classroom").override({"seed": 5}))
    [5, 6]
    """
    return [cfg.seed + i for i in range(count or SEEDS.get(cfg.name, 3))]


def missing(lesson: Lesson, variants: Iterable[dict[str, Any]], seeds: list[int]) -> list[dict]:
    """Runs without a report: the changes of each, with its seed."""
    runs = [changes | {"seed": seed} for changes in variants for seed in seeds]
    return [run for run in runs if not (lesson.folder(run) / "report.json").is_file()]


class RememberingTeacher(Teacher):
    """A teacher that keeps its states: runs of one seed train on the same crops.

    Attributes:
        cache: key of a batch -> states. room: bytes that the cache may still grow by.

    >>> teacher = RememberingTeacher(load_encoder("tiny-random-hubert"))
    >>> wave = torch.ones(1, 8000)
    >>> teacher(wave, keep=(1,)) is teacher(wave, keep=(1,))
    True
    """

    def __init__(self, encoder: PreTrainedModel) -> None:
        super().__init__(encoder)
        self.cache: dict[tuple, Tensor] = {}
        self.room = CACHE_BYTES

    def forward(
        self, wave: Tensor, lengths: Tensor | None = None, keep: tuple[int, ...] | None = None
    ) -> Tensor:
        """`Teacher.forward`; callers must not change the returned states in place."""
        if lengths is not None:
            return super().forward(wave, lengths, keep)
        crops = hashlib.sha256(wave.cpu().numpy().tobytes()).digest()
        key = (crops, wave.shape, keep, torch.is_autocast_enabled(wave.device.type))
        if key in self.cache:
            return self.cache[key]
        states = super().forward(wave, None, keep)
        if states.nbytes <= self.room:  # a full cache leaves later crops to be computed each time
            self.room -= states.nbytes
            self.cache[key] = states
        return states


@functools.cache
def shared_teacher(name: str) -> RememberingTeacher:
    """One `RememberingTeacher` per name for all runs of a notebook."""
    return RememberingTeacher(load_encoder(name))


def measure(lesson: Lesson, changes: dict[str, Any], seeds: list[int]) -> dict[str, Any]:
    """Train the missing runs of one variant, score the test trials, and summarise the seeds.

    Args:
        changes: settings by dotted name. seeds: one run each.
    Returns:
        mean (EER over the seeds), seeds (EER of each), low and high (95 % interval over speakers, mean
        of the seeds' own ends), minutes of training (mean), parameters, updates (see `updates`),
        scores ([P] of each seed). The plots `intervals` and `ablation` draw the first four.
    """
    cfg = lesson.cfg.override(changes)
    unfinished = missing(lesson, [changes], seeds)
    teacher = shared_teacher(cfg.model.teacher) if unfinished else None
    runs = [lesson.train(changes | {"seed": seed}, teacher=teacher) for seed in seeds]
    results = [lesson.result(run) for run in runs]
    training_reports = [read_json(run / "report.json") for run in runs]
    rates = [result.report["eer"] for result in results]
    low, high = np.mean([result.report["eer_ci"] for result in results], axis=0)
    return {
        "scores": [result.scores for result in results],
        "mean": float(np.mean(rates)),
        "seeds": rates,
        "low": float(low),
        "high": float(high),
        "minutes": float(np.mean([report["seconds"] for report in training_reports])) / 60,
        "parameters": training_reports[0]["parameters"],
        "updates": [updates(lesson.rows(run), cfg) for run in runs],
    }


def updates(rows: list[dict[str, float]], cfg: Config) -> dict[str, int]:
    """Number of updates of the student and of the full teacher in a log.

    Args:
        rows: of metrics.csv. cfg: of the run, for its stages.

    >>> rows = [{"stage": 0.0, "step": 20.0}, {"stage": 1.0, "step": 10.0}, {"stage": 1.0, "step": 20.0}]
    >>> updates(rows, Config(strategy="postcomp"))
    {'student': 20, 'teacher': 20}
    """
    counts = {"student": 0, "teacher": 0}
    for number, stage in enumerate(stages(cfg)):
        counts[stage.layers] += int(max(row["step"] for row in rows if row["stage"] == number))
    return counts
