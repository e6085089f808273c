"""Start-up of `oskdft verify`, against importing its libraries alone; and what a further pair costs.

    python benchmarks/startup.py [--json] [--quick]

Two recordings of speechbox, cut to 3 s. Each start is a new process; files are in the system's cache. The
model is the shipped student.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import measure
import numpy as np
import torch

import oskdft
from oskdft import config
from oskdft.lessons.costs import multiply_adds
from oskdft.speech import audio
from oskdft.speech.corpora.tables import load_corpus

LIBRARIES = "import torch, transformers.models.hubert.modeling_hubert"


def further_pair(pair: list[str], quick: bool) -> dict:
    """Row of one more pair in a process that has verified before."""
    verifier = oskdft.load("classroom", "cpu")
    wave = torch.zeros(2, 3 * config.SAMPLE_RATE)
    verifier.model.student.encoder.set_attn_implementation("eager")  # the counter sees its products
    with torch.no_grad():
        count = multiply_adds(lambda: verifier.model(wave))
    verifier.model.student.encoder.set_attn_implementation("sdpa")
    work = {"pair": lambda: verifier.verify(*pair)}
    taken = measure.interleaved(work, 2 if quick else 20)["pair"]
    peak = measure.peak(torch.float32, 128 if quick else 2_048)
    return measure.row("a further pair", taken, multiply_adds=count, peak=peak, times_s=taken)


def recordings(seconds: float) -> list[np.ndarray]:
    """The first two test recordings of speechbox that are long enough, cut to ``seconds``."""
    test = load_corpus("speechbox", split="test").measured()
    rows = np.flatnonzero(test.seconds >= seconds)[:2]
    return [audio.read(test.path(row), 0, round(seconds * config.SAMPLE_RATE)) for row in rows]


def run(quick: bool) -> dict:
    """All rows and comparisons."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pair = [str(folder / f"{i}.wav") for i in range(2)]
        for path, wave in zip(pair, recordings(3.0), strict=True):
            audio.write(path, wave)
        verify = [sys.executable, "-m", "oskdft", "verify", *pair, "--model", "classroom"]
        verify += ["--device", "cpu", "--json"]
        starts = {
            "importing torch and transformers": [sys.executable, "-c", LIBRARIES],
            "oskdft verify, shipped student": verify,
        }
        works = {
            key: lambda command=command: subprocess.run(command, check=True, capture_output=True)
            for key, command in starts.items()
        }
        if quick:  # each run costs a start of Python
            taken = {key: [measure.once(command)] for key, command in works.items()}
        else:
            taken = measure.interleaved(works, 5)
        further = further_pair(pair, quick)
    floor, start = taken.values()
    again = further["times_s"]
    comparisons = [
        measure.comparison("imports over start-up", floor, start, "reported"),
        measure.comparison("4 s over start-up", [4.0] * len(start), start, "at least 1"),
        measure.comparison("30 ms over a pair", [0.03] * len(again), again, "at least 1"),
    ]
    rows = [measure.row(key, value) for key, value in taken.items()]
    return {"rows": [*rows, further], "comparisons": comparisons}


if __name__ == "__main__":
    measure.main("startup", __doc__, run)
