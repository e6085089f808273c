"""Embedding recordings in exact padded batches, against one recording at a time as released.

    python benchmarks/embedding.py [--json] [--quick]

FLAC files of noise; random weights at the sizes of the shipped student and of releases R and P. Each
file is embedded whole and in five crops of 3 s. One at a time: eager attention, a batch of 1 and a
batch of 5. Lengths are drawn between 2 and 10 s, as in read sentences, and from 4 s up as in VoxCeleb.

Also: how many recordings a second one thread decodes, beside the number that the model embeds; and two
processes of one thread that share the recordings, against one. On busy cores the time that the busier
process computes is the fairer measure: it is what two idle cores would take.
"""

import contextlib
import functools
import multiprocessing
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from unittest import mock

import measure
import numpy as np
import torch

from oskdft import config
from oskdft.config import EvalConfig
from oskdft.evaluation.embedding import Embeddings, embed_files
from oskdft.lessons.costs import multiply_adds
from oskdft.method import encoder
from oskdft.method.model import SpeakerModel
from oskdft.speech import audio, cutting
from oskdft.utils import torchrun
from oskdft.utils.process import keep_freed_memory

RECIPE = EvalConfig()
LENGTHS = {"2 to 10 s": (2.0, 10.0), "4 to 20 s": (4.0, 20.0)}
# name -> (architecture, layers, back-end, changes, files per device)
STUDENTS = {
    "shipped size": (measure.BASE, 2, "linear", measure.CLASSROOM, {"cpu": 40, "cuda": 200}),
    "base/2": (measure.BASE, 2, "linear", {}, {"cpu": 4, "cuda": 200}),
    "XLSR/4": (measure.LARGE, 4, "ecapa", {}, {"cpu": 0, "cuda": 200}),
}
QUICK = {"tiny": (measure.TINY, 1, "linear", {}, {"cpu": 4, "cuda": 4})}


def recordings(folder: Path, count: int, low: float, high: float) -> list[Path]:
    """Files of noise, lengths [s] spread evenly on a logarithmic scale, in random order."""
    rng = np.random.default_rng(0)
    paths = []
    for number, seconds in enumerate(rng.permutation(np.geomspace(low, high, count))):
        paths.append(folder / f"{low:g}-{number}.flac")
        audio.write(paths[-1], rng.normal(0, 0.1, int(seconds * config.SAMPLE_RATE)))
    return paths


@torch.no_grad()
def one_by_one(model: SpeakerModel, paths: list[Path], recipe: EvalConfig) -> Embeddings:
    """Each recording on its own: whole, then its crops; with transformers' positional convolution."""
    full, crops = [], []
    with mock.patch.object(encoder, "convolve_positions", lambda embed, hidden: embed(hidden)):
        for path in paths:
            wave = audio.read(path)
            cut = cutting.segments(wave, round(recipe.crop_s * config.SAMPLE_RATE), recipe.crops)
            full.append(model(torch.from_numpy(wave)[None].to(model.device))[0].cpu().numpy())
            crops.append(model(torch.from_numpy(cut).to(model.device)).cpu().numpy())
    return Embeddings(np.stack(full), np.stack(crops))


def with_attention(kind: str, work: Callable, model: SpeakerModel, *rest) -> Callable[[], object]:
    """``work`` on the model with eager or fused attention."""

    def call() -> object:
        model.student.encoder.set_attn_implementation(kind)
        return work(model, *rest)

    return call


def student_rows(name: str, paths: list[Path], peak: float, turns: int) -> tuple[list, list]:
    """Rows and the comparison of one student on one set of recordings."""
    label, lengths = name.split(", ")
    architecture, layers, backend, changes, _ = (STUDENTS | QUICK)[label]
    model = measure.random_student(architecture, layers, backend, **changes)
    seconds = sum(audio.info(path).samples / audio.info(path).rate for path in paths)
    works = {
        f"{name}, one by one": with_attention("eager", one_by_one, model, paths, RECIPE),
        f"{name}, batches": with_attention("sdpa", embed_files, model, paths, RECIPE),
    }
    counts = {key: multiply_adds(work) for key, work in works.items()}
    taken = measure.interleaved(works, turns, 20.0)
    rows = [
        measure.row(
            key, value, multiply_adds=counts[key], peak=peak, files=len(paths), seconds_of_audio=seconds
        )
        for key, value in taken.items()
    ]  # fmt: skip
    target = "at least 1.5" if measure.DEVICE == "cpu" else "at least 10"
    comparisons = [measure.comparison(f"{label}, {lengths}, batches", *taken.values(), target)]
    whole = EvalConfig(tta="full")
    pace = measure.interleaved(
        {
            f"{name}, embedded whole": lambda: embed_files(model, paths, whole),
            f"{name}, read by one thread": lambda: [audio.read(path) for path in paths],
        },
        turns,
        20.0,
    )
    rows += [measure.row(key, value, per_s=len(paths) / min(value)) for key, value in pace.items()]
    reading = f"{label}, {lengths}, one reading thread against the model's need"
    return rows, [*comparisons, measure.comparison(reading, *pace.values(), "at least 1")]


def one_of_two(rank: int, port: int, student: tuple, paths: list[Path], pipe: Connection) -> None:
    """In a process of its own: embed alone or together when told so, and tell the processor time."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    keep_freed_memory()
    architecture, layers, backend, changes = student
    model = measure.random_student(architecture, layers, backend, **changes)
    shared = functools.partial(embed_files, share=torchrun.shared)
    works = {"alone": embed_files, "together": shared}
    with torchrun.together():
        while work := works.get(pipe.recv()):
            start = time.process_time()
            work(model, paths, RECIPE)
            pipe.send(time.process_time() - start)


@contextlib.contextmanager
def two_processes(student: tuple, paths: list[Path]) -> Iterator[list[Connection]]:
    """Pipes to two processes of one thread, which `one_of_two` describes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    spawn = multiprocessing.get_context("spawn")
    pipes = [spawn.Pipe() for _ in range(2)]
    started = [
        spawn.Process(target=one_of_two, args=(rank, port, student, paths, theirs))
        for rank, (_, theirs) in enumerate(pipes)
    ]
    for process in started:
        process.start()
    try:
        yield [ours for ours, _ in pipes]
    finally:
        for ours, _ in pipes:
            ours.send("end")
        for process in started:
            process.join()


def sharing_rows(label: str, paths: list[Path], turns: int) -> tuple[list, list]:
    """Rows and comparisons of one process and of two that share the recordings."""
    *student, _ = (STUDENTS | QUICK)[label]
    names = {"alone": f"{label}, one process, one thread", "together": f"{label}, two processes"}
    busy: dict[str, list[float]] = {word: [] for word in names}  # processor time of the busier one
    with two_processes(tuple(student), paths) as pipes:

        def told(word: str) -> None:
            used = pipes[:1] if word == "alone" else pipes
            for pipe in used:
                pipe.send(word)
            busy[word].append(max(pipe.recv() for pipe in used))

        works = {word: lambda word=word: told(word) for word in names}
        wall = measure.interleaved(works, turns, 60.0)
    busy = {word: seconds[1:] for word, seconds in busy.items()}  # the first turn does not count
    rows = [measure.row(names[word], wall[word]) for word in names]
    rows += [measure.row(f"{names[word]}, processor time", busy[word]) for word in names]
    target = "at least 1.7 on two idle cores"
    name = f"{label}, two processes against one"
    return rows, [
        measure.comparison(name, wall["alone"], wall["together"], target),
        measure.comparison(f"{name}, processor time", busy["alone"], busy["together"], target),
    ]


def run(quick: bool) -> dict:
    """All rows and comparisons."""
    rows, comparisons = [], []
    peak = measure.peak(torch.float32, 128 if quick else 2_048)
    with tempfile.TemporaryDirectory() as folder:
        for label, (*_, files) in (QUICK if quick else STUDENTS).items():
            for lengths, span in LENGTHS.items():
                name = f"{label}, {lengths}"
                if not files[measure.DEVICE]:
                    rows.append(measure.unmeasured(f"{name}, batches", "needs a GPU"))
                    comparisons.append(
                        measure.comparison(f"{name}, batches", None, None, "at least 10 on a GPU")
                    )
                    continue
                paths = recordings(Path(folder), files[measure.DEVICE], *span)
                one, two = student_rows(name, paths, peak, 2 if quick else 5)
                rows, comparisons = rows + one, comparisons + two
        if measure.DEVICE == "cpu":
            label = next(iter(QUICK if quick else STUDENTS))
            paths = recordings(Path(folder), 8 if quick else 200, 2.0, 10.0)
            one, two = sharing_rows(label, paths, 2 if quick else 5)
            rows, comparisons = rows + one, comparisons + two
    return {"rows": rows, "comparisons": comparisons}


if __name__ == "__main__":
    measure.main("embedding", __doc__, run)
