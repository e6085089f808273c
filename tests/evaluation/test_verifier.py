"""Loading for use: which form of a model answers, and that a quick answer is the same one."""

import subprocess
import sys

import numpy as np
import pytest

import oskdft
from oskdft.evaluation import verifier, windows
from oskdft.method.model import SpeakerModel
from oskdft.speech import quality
from oskdft.storage.onnx_model import OnnxModel
from oskdft.utils.files import ASSETS


def noise(*seconds: float) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(0, 0.1, round(s * 16_000)).astype(np.float32) for s in seconds]


def test_shipped_onnx_file_is_the_shipped_student(monkeypatch):
    exact, quick = oskdft.load("classroom", "cpu"), verifier.load("classroom", quick=True)
    assert isinstance(exact.model, SpeakerModel) and isinstance(quick.model, OnnxModel)
    assert exact.threshold == quick.threshold is not None
    for wave in noise(0.5, 2.3, 7.0):
        ours, theirs = exact.embed(wave), quick.embed(wave)
        assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(ours).max()
    monkeypatch.setattr(quality, "LONGEST_WHOLE_S", 2.0)  # the last one in windows
    monkeypatch.setattr(windows, "WINDOW_S", 1.0)
    assert np.abs(exact.embed(wave) - ours).max() > 1e-2 * np.abs(ours).max()
    ours, theirs = exact.embed(wave), quick.embed(wave)
    assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(ours).max()
    pair = noise(1.1, 3.0)
    assert quick.score(*pair) == pytest.approx(exact.score(*pair), abs=1e-5)


def test_onnx_is_taken_only_for_a_processor(monkeypatch):
    with pytest.raises(ValueError, match="cuda"):
        verifier.load("classroom", "cuda:99", quick=True)
    monkeypatch.setattr("oskdft.storage.onnx_model.installed", lambda: False)
    assert isinstance(verifier.load("classroom", "cpu", quick=True).model, SpeakerModel)


def test_a_pair_is_verified_without_torch(recordings):
    """Importing torch and transformers would be five of six seconds."""
    files = sorted(recordings.glob("**/*.wav"))[:2]
    code = (
        "import sys\nfrom oskdft.evaluation import verifier\n"
        "print(verifier.load('classroom', quick=True).verify(*sys.argv[1:])['same'])\n"
        "assert not {'torch', 'transformers', 'scipy', 'sklearn'} & sys.modules.keys()"
    )
    command = [sys.executable, "-c", code, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("True", "False")


def test_the_shipped_student_is_small():
    assert sum(path.stat().st_size for path in (ASSETS / "classroom").iterdir()) < 15e6
