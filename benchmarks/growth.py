"""How time and memory grow over three decades: embedding with seconds of audio, scoring with trials.

    python benchmarks/growth.py [--json] [--quick]

Embedding: recordings of 5 s, a random student of the shipped size, in batches and one by one. Scoring:
trials over 5,000 utterances, with TTA and pair by pair. Memory is what the work adds at its peak, each
size in a process of its own. The slope is that of a line through the logarithms, by least squares: 1 is
linear growth, 0 is none. Notebook 10 draws the times.
"""

import multiprocessing
import resource
import sys
import tempfile
from pathlib import Path

import embedding
import measure
import numpy as np
import scoring as pairwise

from oskdft import config
from oskdft.evaluation import scoring
from oskdft.evaluation.embedding import embed_files
from oskdft.speech import audio

SIZES = {"embedding": (5, 50, 500, 5_000), "scoring": (1_000, 10_000, 100_000, 1_000_000)}
QUICK = {"embedding": (5, 10), "scoring": (100, 200)}
SLOW_UP_TO = {"embedding": 500, "scoring": 10_000}  # the slow way is not worth more waiting
FILE_S, UTTERANCES = 5, 5_000
WAYS = {"embedding": ("batches", "one by one"), "scoring": ("mean embeddings", "pair by pair")}
UNITS = {"embedding": "seconds of audio", "scoring": "trials"}


def works_for(kind: str, size: int, folder: Path, quick: bool) -> dict[str, measure.Work]:
    """The fast way, and for small sizes the slow one."""
    if kind == "scoring":
        utterances = 50 if quick else UTTERANCES
        full, crops, pairs = pairwise.embeddings(utterances, size)
        fast = lambda: scoring.score_trials(full, crops, pairs)  # noqa: E731
        slow = lambda: pairwise.pair_by_pair(full, crops, pairs)  # noqa: E731
    else:
        changes = {} if quick else measure.CLASSROOM
        name = measure.TINY if quick else measure.BASE
        model = measure.random_student(name, 1 if quick else 2, "linear", **changes)
        files = [folder / f"{i % 100}.wav" for i in range(size // FILE_S)]
        fast = lambda: embed_files(model, files, embedding.RECIPE)  # noqa: E731
        slow = lambda: embedding.one_by_one(model, files, embedding.RECIPE)  # noqa: E731
    works = {WAYS[kind][0]: fast}
    return works | ({WAYS[kind][1]: slow} if size <= SLOW_UP_TO[kind] else {})


def peak_mb() -> float:
    """Largest memory of this process so far [MB]."""
    unit = 1 if sys.platform == "darwin" else 1_024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def one_size(kind: str, size: int, folder: str, quick: bool) -> dict:
    """Times of one size and the memory that the fast way adds; runs in a process of its own."""
    works = works_for(kind, size, Path(folder), quick)
    fast = WAYS[kind][0]
    smallest = works_for(kind, SIZES[kind][0] if not quick else size, Path(folder), quick)
    smallest[fast]()  # libraries and kernels are loaded now
    before = peak_mb()
    works[fast]()
    added = peak_mb() - before
    turns = 3 if size <= SLOW_UP_TO[kind] else 1
    return {"taken": measure.interleaved(works, turns, 30.0), "added_mb": added}


def run(quick: bool) -> dict:
    """Rows, slopes and memory."""
    rows, comparisons = [], []
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)
        for number in range(100):
            wave = rng.normal(0, 0.1, FILE_S * config.SAMPLE_RATE)
            audio.write(Path(folder) / f"{number}.wav", wave)
        for kind, sizes in (QUICK if quick else SIZES).items():
            for size in sizes:
                job = (kind, size, folder, quick)
                if quick:
                    found = one_size(*job)
                else:
                    with spawn.Pool(1) as process:
                        found = process.apply(one_size, job)
                for way, seconds in found["taken"].items():
                    memory = {"added_mb": found["added_mb"]} if way == WAYS[kind][0] else {}
                    name = f"{kind}, {way}, {size:,} {UNITS[kind]}"
                    rows.append(measure.row(name, seconds, kind=kind, way=way, size=size, **memory))
    for kind in SIZES:
        for way in WAYS[kind]:
            chosen = [entry for entry in rows if (entry["kind"], entry["way"]) == (kind, way)]
            comparisons.append(slope(f"{kind}, {way}, slope of time", chosen))
        comparisons.append(pairwise_gain(kind, rows))
    return {"rows": rows, "comparisons": comparisons}


def slope(name: str, rows: list[dict]) -> dict:
    """Exponent of growth of the median time."""
    size, seconds = (np.log([entry[key] for entry in rows]) for key in ("size", "median_s"))
    return {"name": name, "times": float(np.polyfit(size, seconds, 1)[0]), "target": "about 1"}


def pairwise_gain(kind: str, rows: list[dict]) -> dict:
    """How many times faster the fast way is, at the largest size of both."""
    fast, slow = (
        {entry["size"]: entry["median_s"] for entry in rows if (entry["kind"], entry["way"]) == key}
        for key in ((kind, way) for way in WAYS[kind])
    )
    size = max(slow)
    return {
        "name": f"{kind}, {' against '.join(WAYS[kind])}, {size:,} {UNITS[kind]}",
        "times": slow[size] / fast[size], "target": "reported",
    }  # fmt: skip


if __name__ == "__main__":
    measure.main("growth", __doc__, run)
