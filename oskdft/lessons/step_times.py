"""Where the time of a training step goes: data, teacher, student, backward, optimiser."""

import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from torch.utils.benchmark.utils.timer import timer

from oskdft.config import Config
from oskdft.method.strategies import STRATEGIES
from oskdft.speech.dataset import loader
from oskdft.training.loop import StageLoop
from oskdft.training.run import Run
from oskdft.utils.process import Interrupts

PARTS = ("data", "teacher forward", "student forward", "backward", "optimiser")


def step_seconds(cfg: Config, repeats: int = 5) -> dict[str, float]:
    """Median time of each part of a step of OS-KDFT [s]; nothing of the training is kept.

    The steps are those of `training.loop`, with a clock in front of and behind losses and optimiser. The
    batch is read in this process, so "data" is the whole work of reading. In a training, processes of
    their own read ahead, and a step waits for less.

    Args:
        cfg: the whole configuration.
        repeats: steps that are timed, after a first one that is not.
    Returns:
        part -> seconds, in the order of `PARTS`.
    Raises:
        ValueError: repeats is below 1.
    """
    if repeats < 1:
        raise ValueError(f"repeats is {repeats}; time at least one step")
    cfg = cfg.override({"train.accumulate": 1, "data.workers": 0})
    marks, spent = [], []

    def mark(*_: object) -> None:
        marks.append(timer())  # waits until a GPU has finished its queued work

    with (
        torch.random.fork_rng(),
        tempfile.TemporaryDirectory(prefix="oskdft-") as folder,
        Interrupts() as interrupts,
        closing(Run(cfg, Path(folder) / "run", False, None, interrupts)) as run,
    ):
        loop = StageLoop(run, cfg, STRATEGIES["os-kdft"][0], 0, None)
        loop.prepare()
        loop.objective.register_forward_pre_hook(mark)
        loop.objective.register_forward_hook(mark)
        loop.optimiser.register_step_pre_hook(mark)
        loop.optimiser.register_step_post_hook(mark)
        batches = iter(loader(loop.data, cfg.train.batch, repeats + 1))
        for _ in range(repeats + 1):
            marks.clear()
            mark()
            batch = next(batches)
            mark()
            loop.step(0, batch)
            spent.append(np.diff(marks))
    return dict(zip(PARTS, map(float, np.median(spent[1:], axis=0)), strict=True))
