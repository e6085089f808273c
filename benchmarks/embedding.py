"""Embedding recordings in exact padded batches, against one recording at a time as released.

    python benchmarks/embedding.py [--json] [--quick]

FLAC files of noise; random weights at the sizes of the shipped student and of releases R and P. Each
file is embedded whole and in five crops of 3 s. One at a time: eager attention, a batch of 1 and a
batch of 5. Lengths are drawn between 2 and 10 s, as in read sentences, and from 4 s up as in VoxCeleb.
"""

import tempfile
from collections.abc import Callable
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
from oskdft.speech import audio

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
            cut = audio.segments(wave, round(recipe.crop_s * config.SAMPLE_RATE), recipe.crops)
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
    return rows, [measure.comparison(f"{label}, {lengths}, batches", *taken.values(), target)]


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
    return {"rows": rows, "comparisons": comparisons}


if __name__ == "__main__":
    measure.main("embedding", __doc__, run)
