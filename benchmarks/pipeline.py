"""Input pipeline: utterances per second of the loader, against those that a training step consumes.

    python benchmarks/pipeline.py [--json] [--quick]

Random 2-s crops, augmented as in release P (noise, rooms, clipping, easing) or with every step on every
crop. Speech: speechbox. Noise: noise/ and rir/ of $OSKDFT_DATA where they are, else files made on the spot. The
steps are those of `training.py`, with random weights: bf16 and fused attention on a GPU, float32 on a
CPU. `per_s` of a step over `per_s` of one worker is the number of workers that the step keeps busy.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import measure
import numpy as np
from training import Case, Trainer

from oskdft import config
from oskdft.config import AugmentConfig
from oskdft.speech import audio
from oskdft.speech.augment import Augment
from oskdft.speech.corpora import tables
from oskdft.speech.dataset import SpeakerDataset, loader

RATE = config.SAMPLE_RATE
CROP_S, BATCH, BATCHES = 2.0, 32, 20  # batches per worker and turn
STEPS = (
    Case("desk", "desk", measure.BASE, 2, CROP_S, {"cpu": 2, "cuda": 64}, ""),
    Case("classroom", "classroom", measure.BASE, 2, CROP_S, {"cpu": 32, "cuda": 32}, "",
         measure.CLASSROOM),
)  # fmt: skip
QUICK = (Case("tiny", "desk", measure.TINY, 1, 0.5, {"cpu": 2, "cuda": 2}, ""),)


def make_noise(folder: Path, count: int, seconds: float, decay_s: float = 0.0) -> None:
    """Noise that lies in the low frequencies as speech does; decaying for rooms."""
    rng = np.random.default_rng(count)
    for number in range(count):
        wave = np.cumsum(rng.normal(0, 1, int(seconds * RATE))) * 1e-3
        wave = wave - np.convolve(wave, np.ones(400) / 400, mode="same")
        if decay_s:
            wave = rng.normal(0, 0.2, len(wave)) * np.exp(-np.arange(len(wave)) / decay_s / RATE)
            wave[10] = 0.9
        audio.write(folder / f"{number}.wav", wave / np.abs(wave).max() / 2)


def sources(folder: Path, made: bool) -> tuple[tables.Utterances, AugmentConfig]:
    """Speech, and release P's augmentation.

    ``made``: four recordings; noise is made even where real noise is.
    """
    table = tables.load_corpus("speechbox", split="train")
    data = os.environ.get("OSKDFT_DATA", "")
    noise, rooms = Path(data, "noise"), Path(data, "rir")
    if not made and data and noise.is_dir() and rooms.is_dir():
        return table, AugmentConfig(noise_root=str(noise), rir_root=str(rooms))
    if made:
        table = tables.few(table, speakers=2, each=2)
    count = 2 if made else 10
    for category in ("noise", "speech", "music"):
        make_noise(folder / "noise" / category, count, 20.0)
    make_noise(folder / "rir", count, 0.5, decay_s=0.1)
    return table, AugmentConfig(noise_root=str(folder / "noise"), rir_root=str(folder / "rir"))


def loading(data: SpeakerDataset, batch: int, batches: int, workers: int) -> float:
    """Seconds for so many batches, once the workers have delivered those they start with."""
    first = 2 * workers
    stream = iter(loader(data, batch, first + batches, workers))
    for _ in range(first):
        next(stream)
    start = time.perf_counter()
    for _ in stream:
        pass
    return time.perf_counter() - start


def loader_works(folder: Path, quick: bool) -> dict[str, tuple[Callable[[], float], int]]:
    """Row -> (a call that returns its seconds, utterances it loads)."""
    table, published = sources(folder, quick)
    every = replace(published, probability=1.0, clipping=1.0, easing=1.0)
    policies = {"no augmentation": None, "release P": published, "all on every crop": every}
    batch, batches, many = (2, 2, 2) if quick else (BATCH, BATCHES, os.cpu_count())
    works = {}
    for name, policy in policies.items():
        augment = policy and Augment(policy, seed=0)
        data = SpeakerDataset(table, CROP_S, seed=0, augment=augment)
        for workers in (1,) if policy is None else (1, many):
            steps = batches * workers
            call = lambda data=data, steps=steps, n=workers: loading(data, batch, steps, n)  # noqa: E731
            label = f"loader, {name}, {workers} worker{'s' * (workers > 1)}"
            works[label] = call, batch * steps
    return works


def step_works(quick: bool) -> dict[str, tuple[Callable[[], float], int]]:
    """The same of training steps."""
    works = {}
    for case in QUICK if quick else STEPS:
        trainer = Trainer(case)
        step = trainer.optimised if measure.DEVICE == "cuda" else trainer.two_paths
        call = lambda step=step: measure.once(step)  # noqa: E731
        works[f"step, {case.name}"] = call, case.batch[measure.DEVICE]
    return works


def run(quick: bool) -> dict:
    """All rows and comparisons."""
    with tempfile.TemporaryDirectory() as folder:
        works = loader_works(Path(folder), quick)
        steps = step_works(quick)
        calls = {name: call for name, (call, _) in (works | steps).items()}
        taken = measure.interleaved(calls, 2 if quick else 5, 120.0, clock=lambda call: call())
    counts = {name: count for name, (_, count) in (works | steps).items()}
    rows, each = [], {}
    for name, seconds in taken.items():
        per_s = counts[name] / statistics.median(seconds)
        rows.append(measure.row(name, seconds, utterances=counts[name], per_s=per_s))
        each[name] = [s / counts[name] for s in seconds]  # per utterance
    comparisons = [
        measure.comparison(f"{one}, over {step}", each[step], each[one], "reported")
        for step in steps
        for one in works
    ]
    return {"rows": rows, "comparisons": comparisons}


if __name__ == "__main__":
    measure.main("pipeline", __doc__, run)
