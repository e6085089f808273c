"""Start-up of `oskdft verify`, against importing its libraries alone; and what a further pair costs.

    python benchmarks/startup.py [--json] [--quick]

Two recordings of speechbox, cut to 3 s. Each start is a new process; files are in the system's cache. The
model is the shipped student, or one of its size with random weights where none is shipped.
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
from oskdft.storage.model_folder import annotate, save_model
from oskdft.utils.files import ASSETS

LIBRARIES = "import torch, transformers.models.hubert.modeling_hubert"


def model_for(folder: Path) -> tuple[str, str]:
    """What --model gets, and what to call it."""
    if (ASSETS / "classroom" / "model.json").is_file():
        return "classroom", "shipped student"
    model = measure.random_student(measure.BASE, 2, "linear", **measure.CLASSROOM).cpu()
    cfg = config.load("classroom").override({"model.adapter_units": 64})
    save_model(folder / "model", model, cfg, [], {})
    annotate(folder / "model", {"calibration": {"full": {"threshold": 0.5}}})
    return str(folder / "model"), "random student of the shipped size"


def further_pair(model: str, pair: list[str], quick: bool) -> dict:
    """Row of one more pair in a process that has verified before."""
    verifier = oskdft.load(model, "cpu")
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
        model, title = model_for(folder)
        verify = [sys.executable, "-m", "oskdft", "verify", *pair, "--model", model]
        verify += ["--device", "cpu", "--json"]
        starts = {
            "importing torch and transformers": [sys.executable, "-c", LIBRARIES],
            f"oskdft verify, {title}": verify,
        }
        works = {
            key: lambda command=command: subprocess.run(command, check=True, capture_output=True)
            for key, command in starts.items()
        }
        taken = measure.interleaved(works, 1 if quick else 5)
        further = further_pair(model, pair, quick)
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
