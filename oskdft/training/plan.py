"""Before a training: all its checks, and what it would take."""

import statistics
import time
from contextlib import closing

import torch

from oskdft.config import Config
from oskdft.method.model import count
from oskdft.method.strategies import stage_config
from oskdft.speech.dataset import loader
from oskdft.training.loop import StageLoop
from oskdft.training.run import Run
from oskdft.utils.lock import scratch_folder
from oskdft.utils.process import Interrupts

STEPS = 3  # that a plan times; the first is left out


def plan(cfg: Config, full_check: bool = False) -> dict:
    """Do all checks of a training and time a few steps of its first stage; nothing is kept.

    Args:
        cfg: the whole configuration. full_check: as for `train.train`.
    Returns:
        "stages": name -> updates; "parameters" (of the student of the first stage), "train_utterances",
        "train_speakers", "step_s" (median), "hours" (all updates at that rate, without validation),
        "gigabytes" (peak of this process on a GPU; None on a CPU), "device".
    Raises:
        As `train.train`.
    """
    with (
        scratch_folder() as folder,
        Interrupts() as interrupts,
        closing(Run(cfg, folder / "run", False, None, interrupts, full_check)) as run,
    ):
        layers = run.teacher.encoder.config.num_hidden_layers
        first = run.plan[0]
        loop = StageLoop(run, stage_config(cfg, first, layers), first, 0, None)
        updates = {
            stage.name: stage.epochs(cfg.train.epochs) * loop.steps_per_epoch for stage in run.plan
        }
        loop.prepare()
        loop.meter.reset(None)
        batches = loader(loop.data, cfg.train.batch, STEPS, 0)
        seconds = []
        for step, batch in enumerate(batches):
            began = time.perf_counter()
            loop.step(step, batch)
            seconds.append(time.perf_counter() - began)
        device = run.accelerator.device
        peak = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None
        step_s = statistics.median_high(seconds[1:])
        return {
            "stages": updates,
            "parameters": count(loop.model),
            "train_utterances": len(run.task.train),
            "train_speakers": len(run.task.train.speakers),
            "step_s": step_s,
            "hours": step_s * sum(updates.values()) / 3600,
            "gigabytes": peak,
            "device": str(device),
        }


def plan_text(found: dict) -> str:
    """The plan in lines.

    >>> print(plan_text({"stages": {"one step": 300}, "parameters": 5, "train_utterances": 10,
    ...     "train_speakers": 2, "step_s": 1.0, "hours": 0.1, "gigabytes": None, "device": "cpu"}))
    everything is here: 10 recordings of 2 speakers, a student of 5 parameters
    one step: 300 updates
    1.00 s per update of the first stage on cpu: about 0.1 h without validation
    """
    lines = [
        f"everything is here: {found['train_utterances']:,} recordings of {found['train_speakers']:,} "
        f"speakers, a student of {found['parameters']:,} parameters",
        *(f"{name}: {count:,} updates" for name, count in found["stages"].items()),
        f"{found['step_s']:.2f} s per update of the first stage on {found['device']}: about "
        f"{found['hours']:.1f} h without validation",
    ]
    if found["gigabytes"] is not None:
        lines.append(f"peak memory of the GPU: {found['gigabytes']:.1f} GB")
    return "\n".join(lines)
