"""Environments of batch systems: a long temporary folder, a home that cannot be written."""

import os
import subprocess
import sys

import numpy as np
import pytest

from oskdft.speech import audio

TRAIN = "train --profile smoke --out run device=cpu data.workers=2 train.epochs=1 train.steps_per_epoch=2"
COMMANDS = {
    "train": TRAIN,
    "verify": "verify a.wav b.wav",
    "export": "export --to onnx --out exported",
    "data check": "data check folder --root speech",
}


@pytest.fixture
def here(tmp_path):
    for name in ("a", "b", "speech/ann/1"):
        wave = np.random.default_rng(0).normal(0, 0.1, 32_000)
        audio.write(tmp_path / f"{name}.wav", wave)
    return tmp_path


def run(here, words: str, **changes: str) -> subprocess.CompletedProcess:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("XDG")} | changes
    command = [sys.executable, "-m", "oskdft", *words.split()]
    return subprocess.run(
        command, env=environment, cwd=here, capture_output=True, text=True, timeout=300
    )


@pytest.mark.slow
def test_data_workers_of_a_job_with_a_long_temporary_folder(here):
    """multiprocessing's sockets would not fit: the training waited for ever and said nothing."""
    long = here / ("a" * 60) / ("b" * 60)
    long.mkdir(parents=True)
    done = run(here, TRAIN, TMPDIR=str(long))
    assert done.returncode == 0 and (here / "run/report.json").is_file(), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_home_that_cannot_be_written(here, name):
    """No cache can be made: what is not remembered is said, and nothing else is lost."""
    done = run(here, COMMANDS[name], HOME="/dev/null")
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr


NOBODY = """
import os, pwd, sys
def unknown(number):
    raise KeyError(f"getpwuid(): uid not found: {number}")
pwd.getpwuid = unknown
os.environ.pop("HOME", None)
sys.argv[0] = "oskdft"
from oskdft.commands import cli
cli.main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", [*COMMANDS, "doctor"])
def test_a_user_without_an_entry_in_passwd_and_without_a_home(here, name):
    """As in a container that runs under any number."""
    words = COMMANDS.get(name, name).split()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("XDG")}
    done = subprocess.run(
        [sys.executable, "-c", NOBODY, *words], env=environment | {"TMPDIR": str(here)}, cwd=here,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
