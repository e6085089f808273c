"""What a user would pick instead: Resemblyzer beside the shipped student, on the same lists.

    python benchmarks/peers.py [--venv runs/peers/venv] [--corpus runs/student/corpus] [--json FILE]

Makes a virtual environment for the peer and installs it there from the package registry, with its
own weights; nothing of it enters this package. Each system treats a recording as its documentation says: the
peer trims silence and levels the volume first. With --corpus (see benchmarks/student.py) the test
speakers of the LibriSpeech excerpts are a second list. Times: one thread, 3 s of audio, median of 15;
the systems run one after the other, in processes of their own.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from oskdft.config import SAMPLE_RATE
from oskdft.evaluation import bootstrap, metrics, scoring
from oskdft.evaluation.verifier import load
from oskdft.lessons.costs import median_seconds
from oskdft.method.model import count
from oskdft.speech import audio
from oskdft.speech.corpora.catalogue import SPEECHBOX
from oskdft.speech.corpora.trials import Trials, read_trials
from oskdft.speech.protocol import TEST_LISTS
from oskdft.utils import provenance
from oskdft.utils.console import progress, table
from oskdft.utils.files import write_json

ROOT = Path(__file__).parents[1]
TURNS = 15
SECONDS = 3.0
PEER = "resemblyzer==0.1.4"
NEEDS = (
    "librosa",
    "webrtcvad-wheels",
    "setuptools<81",
)  # of the peer; torch as this project pins it
PROGRAM = """
import sys, time
import numpy as np, resemblyzer, torch
from pathlib import Path
torch.set_num_threads(1)
folder = Path(sys.argv[1])
encoder = resemblyzer.VoiceEncoder("cpu", verbose=False)
rows = []
for file in sorted(folder.glob("*.npy")):
    wave = resemblyzer.preprocess_wav(np.load(file), source_sr=16000)
    rows.append(encoder.embed_utterance(wave))
probe = np.load(folder / "probe" / "3s.npy")
def embed():
    encoder.embed_utterance(resemblyzer.preprocess_wav(probe, source_sr=16000))
embed()
times = []
for _ in range(int(sys.argv[2])):
    began = time.perf_counter()
    embed()
    times.append(time.perf_counter() - began)
weights = Path(resemblyzer.__file__).parent / "pretrained.pt"
np.savez(folder / "out.npz", embeddings=np.array(rows), seconds=float(np.median(times)),
    parameters=sum(p.numel() for p in encoder.parameters()), bytes=weights.stat().st_size)
"""


def set_up(venv: Path) -> Path:
    """The environment's Python, with the peer installed."""
    python = venv / "bin" / "python"
    if not (venv / ".ready").is_file():
        torch_pin = re.search(r'"(torch==[^"]*)"', (ROOT / "pyproject.toml").read_text())[1]
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        install = [str(python), "-m", "pip", "--quiet", "install"]
        subprocess.run([*install, torch_pin, *NEEDS], check=True)
        subprocess.run([*install, "--no-deps", PEER], check=True)
        (venv / ".ready").touch()
    return python


def of_peer(python: Path, waves: list[np.ndarray], probe: np.ndarray) -> dict:
    """Embeddings of the recordings, seconds for the probe, parameters and bytes of the peer."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "probe").mkdir()
        np.save(folder / "probe" / "3s.npy", probe)
        for number, wave in enumerate(waves):
            np.save(folder / f"{number:06d}.npy", wave)
        subprocess.run([str(python), "-c", PROGRAM, str(folder), str(TURNS)], check=True)
        with np.load(folder / "out.npz") as out:
            return {name: out[name] for name in out.files}


def of_student(waves: list[np.ndarray], probe: np.ndarray) -> dict:
    """The same of the shipped student."""
    student = load("classroom", "cpu")
    embeddings = np.stack([student.embed(wave) for wave in progress(waves, "student")])
    torch.set_num_threads(1)
    seconds = median_seconds({"student": lambda: student.embed(probe)}, TURNS)["student"]
    file = ROOT / "oskdft/assets/classroom/model.safetensors"
    parameters, size = count(student.model), file.stat().st_size
    return {
        "embeddings": embeddings,
        "seconds": seconds,
        "parameters": parameters,
        "bytes": size,
    }


def rate(embeddings: np.ndarray, trials: Trials) -> dict:
    """EER and its interval of cosines."""
    rows = scoring.normalise(np.asarray(embeddings, np.float64))
    scores = (rows[trials.enrol] * rows[trials.test]).sum(1)
    speakers = bootstrap.trial_speakers(trials)
    low, high = bootstrap.bootstrap_ci(scores, trials.label, speakers)
    return {"eer": metrics.eer(scores, trials.label)[0], "interval": [low, high]}


def main() -> None:
    """Measure both systems on each list."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--venv", type=Path, default=ROOT / "runs/peers/venv")
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    lists = {"speechbox, 80 test speakers": (SPEECHBOX, SPEECHBOX / TEST_LISTS["speechbox"])}
    if options.corpus:
        file = options.corpus / "trials_test_excerpts.txt"
        lists["LibriSpeech excerpts, 22 test speakers"] = (options.corpus, file)
    python = set_up(options.venv.resolve())
    probe = np.random.default_rng(0).normal(0, 0.1, round(SECONDS * SAMPLE_RATE)).astype(np.float32)
    rows: dict[str, dict] = {}
    for name, (root, file) in lists.items():
        trials = read_trials(file, root)
        waves = [audio.read(root / path) for path in progress(trials.paths, "reading")]
        found = {
            PEER: of_peer(python, waves, probe),
            "oskdft classroom": of_student(waves, probe),
        }
        for system, made in found.items():
            row = rows.setdefault(
                system,
                {
                    "parameters": int(made["parameters"]),
                    "bytes": int(made["bytes"]),
                    "ms_per_utterance": 1000 * float(made["seconds"]),
                    "lists": {},
                },
            )
            row["lists"][name] = rate(made["embeddings"], trials) | {"trials": len(trials)}
    head = ("system", "parameters", "file [MB]", "ms per 3 s", *(f"EER, {name}" for name in lists))
    lines = [head]
    for system, row in rows.items():
        rates = [
            f"{100 * r['eer']:.2f} % ({100 * r['interval'][0]:.2f} to {100 * r['interval'][1]:.2f})"
            for r in row["lists"].values()
        ]
        size, ms = f"{row['bytes'] / 1e6:.1f}", f"{row['ms_per_utterance']:.0f}"
        lines.append((system, f"{row['parameters']:,}", size, ms, *rates))
    print(table(lines))
    if options.json:
        write_json(options.json, {"systems": rows} | provenance.facts())


if __name__ == "__main__":
    main()
