"""`oskdft evaluate` by two processes of torchrun, against one: the whole command, start-up included.

    python benchmarks/processes.py [--json] [--quick]

The recordings are of the train part of speechbox, whole and in crops. Each process has one thread, as
torchrun gives it; the row with all threads is what the command does without torchrun. Each run is a
new process, and files are in the system's cache.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import measure
import torch

from oskdft.speech.corpora.tables import load_corpus

ONE = [sys.executable, "-m", "oskdft"]
TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
# recordings of a row: one process needs most of a minute on a core of today
COUNTS = {"shipped size": 1_000, "base/2": 60}
SIZES = {"shipped size": measure.CLASSROOM, "base/2": {}}
TURNS = 3


def write_list(file: Path, count: int) -> str:
    """Write trials that name ``count`` recordings, each with the next; returns their folder."""
    corpus = load_corpus("speechbox", split="train")
    names = list(corpus.names())[:count]
    lines = [f"{i % 2} {a} {b}\n" for i, (a, b) in enumerate(zip(names, names[1:], strict=False))]
    file.write_text("".join(lines), encoding="utf-8")
    return str(corpus.root)


def starting(arguments: list[str], threads: int) -> measure.Work:
    """A run of the command in an environment with so many threads."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    return lambda: subprocess.run(arguments, check=True, capture_output=True, env=environment)


def run(quick: bool) -> dict:
    """All rows and comparisons."""
    rows, comparisons = [], []
    for name, count in {"shipped size": 8}.items() if quick else COUNTS.items():
        with tempfile.TemporaryDirectory() as made:
            trials = Path(made, "trials.txt")
            root, model = (
                write_list(trials, count),
                measure.write_student(Path(made, "model"), **SIZES[name]),
            )
            work = ["evaluate", "--model", model, "--trials", str(trials), "--root", root]
            work += ["--device", "cpu", "--json"]
            runs = {
                "one process": starting([*ONE, *work], 1),
                "two processes": starting([*TWO, "-m", "oskdft", *work], 1),
                "one process, all threads": starting([*ONE, *work], torch.get_num_threads()),
            }
            if quick:  # each run costs a start of Python
                taken = {key: [measure.once(command)] for key, command in runs.items()}
            else:
                taken = measure.interleaved(runs, TURNS)
        one, two, threads = taken.values()
        rows += [
            measure.row(f"{name}, {count} recordings, {key}", seconds, per_s=count / min(seconds))
            for key, seconds in taken.items()
        ]
        comparisons += [
            measure.comparison(f"{name}, two processes", one, two, "at least 1.7"),
            measure.comparison(
                f"{name}, two processes against one of all threads", threads, two, "reported"
            ),
        ]
    return {"rows": rows, "comparisons": comparisons}


if __name__ == "__main__":
    measure.main("processes", __doc__, run)
