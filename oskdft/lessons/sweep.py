"""Many short runs of a notebook: their settings, their cost, what they gave over seeds."""

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

# by profile: updates of a short run, and what else it changes; other profiles run in full
SHORT: dict[str, tuple[int, dict[str, Any]]] = {
    "smoke": (4, {"eval.tta": "full"}),
    # crops of 1 s: twice the updates in the same time; few development speakers, for there is one
    # checkpoint to choose from; whole recordings only: a quarter of the scoring
    "classroom": (
        30,
        {"data.crop_s": 1.0, "data.workers": 0, "data.dev_speakers": 5, "eval.tta": "full"},
    ),
}
SEEDS = {"smoke": 1, "classroom": 2}
ROOM = 512 * 2**20  # bytes that a teacher may keep of what it said
HALVES = 2  # epochs of a short run: a strategy of two stages gives one to each


def short(cfg: Config, updates: int = 0) -> dict[str, Any]:
    """Changes that make a run short; none for the profiles that are run in full.

    Args:
        cfg: of the profile. updates: of the student; 0: from `SHORT`.
    Raises:
        ValueError: an odd number, which two stages cannot share equally.

    >>> from oskdft.config import load
    >>> short(load("smoke"))["train.steps_per_epoch"], short(load("vox1"))
    (2, {})
    """
    known, changes = SHORT.get(cfg.name, (0, {}))
    updates = updates or known
    if updates % HALVES or updates < 0:
        raise ValueError(f"{updates} updates cannot be shared by two stages; choose an even number")
    if not updates:
        return {}
    budget = {"train.epochs": HALVES, "train.steps_per_epoch": updates // HALVES}
    return changes | budget | {"train.validate_every": HALVES}


def seeds_of(cfg: Config, count: int = 0) -> list[int]:
    """Seeds of a sweep, from that of the profile on; 0: as many as `SEEDS` says, else 3.

    >>> from oskdft.config import load
    >>> seeds_of(load("classroom").override({"seed": 5}))
    [5, 6]
    """
    return [cfg.seed + i for i in range(count or SEEDS.get(cfg.name, 3))]


def missing(lesson: Lesson, variants: Iterable[dict[str, Any]], seeds: list[int]) -> list[dict]:
    """The runs that are not finished yet, as changes with their seed."""
    runs = [changes | {"seed": seed} for changes in variants for seed in seeds]
    return [run for run in runs if not (lesson.folder(run) / "report.json").is_file()]


class RememberingTeacher(Teacher):
    """A teacher that answers at once for crops it has heard: runs of one seed hear the same ones.

    >>> teacher = RememberingTeacher(load_encoder("tiny-random-hubert"))
    >>> wave = torch.ones(1, 8000)
    >>> teacher(wave, keep=(1,)) is teacher(wave, keep=(1,))
    True
    """

    def __init__(self, encoder: PreTrainedModel, room: int = ROOM) -> None:
        super().__init__(encoder)
        self.heard, self.room = {}, room  # bytes that are left

    def forward(
        self, wave: Tensor, lengths: Tensor | None = None, keep: tuple[int, ...] | None = None
    ) -> Tensor:
        """`Teacher.forward`; what is given out must not be changed in place."""
        if lengths is not None:
            return super().forward(wave, lengths, keep)
        crops = hashlib.sha256(wave.cpu().numpy().tobytes()).digest()
        key = (crops, wave.shape, keep, torch.is_autocast_enabled(wave.device.type))
        if key in self.heard:
            return self.heard[key]
        states = super().forward(wave, None, keep)
        if states.nbytes <= self.room:  # when it is full, later crops are computed each time
            self.room -= states.nbytes
            self.heard[key] = states
        return states


@functools.cache
def shared_teacher(name: str) -> RememberingTeacher:
    """One `RememberingTeacher` per name for all runs of a notebook."""
    return RememberingTeacher(load_encoder(name))


def measure(lesson: Lesson, changes: dict[str, Any], seeds: list[int]) -> dict[str, Any]:
    """Train what is missing, score the test trials, and gather the seeds.

    Returns:
        mean, seeds (EER of each), low and high (95 % interval over speakers, mean of the seeds'
        own ends), minutes of training (mean), parameters, updates (see `updates`),
        scores ([P] of each seed). `plots.intervals` and `plots.ablation` draw the first four.
    """
    left = missing(lesson, [changes], seeds)
    teacher = shared_teacher(lesson.cfg.override(changes).model.teacher) if left else None
    runs = [lesson.train(changes | {"seed": seed}, teacher=teacher) for seed in seeds]
    scored = [lesson.result(run) for run in runs]
    found = [result.report for result in scored]
    trained = [read_json(run / "report.json") for run in runs]
    low, high = np.mean([report["eer_ci"] for report in found], axis=0)
    rates = [report["eer"] for report in found]
    return {
        "scores": [result.scores for result in scored],
        "mean": float(np.mean(rates)), "seeds": rates, "low": float(low), "high": float(high),
        "minutes": float(np.mean([report["seconds"] for report in trained])) / 60,
        "parameters": trained[0]["parameters"],
        "updates": [updates(lesson.rows(run), lesson.cfg.override(changes)) for run in runs],
    }  # fmt: skip


def updates(rows: list[dict[str, float]], cfg: Config) -> dict[str, int]:
    """Updates of the student and of the full teacher that a log shows.

    >>> rows = [{"stage": 0.0, "step": 20.0}, {"stage": 1.0, "step": 10.0}, {"stage": 1.0, "step": 20.0}]
    >>> updates(rows, Config(strategy="postcomp"))
    {'student': 20, 'teacher': 20}
    """
    made = {"student": 0, "teacher": 0}
    for number, stage in enumerate(stages(cfg)):
        made[stage.layers] += int(max(row["step"] for row in rows if row["stage"] == number))
    return made
