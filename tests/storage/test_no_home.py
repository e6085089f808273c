"""A user without a home: no HOME, no entry in passwd, as in a container."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from oskdft.speech import audio

USER = 54_321


@pytest.fixture
def place():
    """A folder that every user can read."""
    folder = Path(tempfile.mkdtemp(prefix="oskdft-test-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_a_user_without_a_home_verifies(place):
    for name in ("a.wav", "b.wav"):
        audio.write(place / name, np.random.default_rng(0).normal(0, 0.1, 32_000))
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HOME", "XDG"))}

    def run(*words: str) -> subprocess.CompletedProcess:
        command = [sys.executable, *words]
        return subprocess.run(
            command, env=environment, user=USER, cwd=place, capture_output=True, text=True
        )

    try:
        readable = run("-c", "import oskdft").returncode == 0
    except PermissionError:
        readable = False
    if not readable:
        pytest.skip("another user cannot read this environment")
    done = run("-m", "oskdft", "verify", str(place / "a.wav"), str(place / "b.wav"), "--json")
    assert done.returncode == 0 and '"same": true' in done.stdout.lower(), done.stderr
    done = run("-m", "oskdft", "data", "check", "speechbox")
    assert done.returncode == 0, done.stderr
