"""Loading for use: which form of a model answers, and that a quick answer is the same one."""

import io
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

import oskdft
from oskdft.commands.cli import app
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
        "import sys\nimport numpy as np\nfrom oskdft.evaluation import verifier\n"
        "student, (a, b) = verifier.load('classroom', quick=True), sys.argv[1:]\n"
        "print(student.verify(a, b)['same'])\n"
        "assert student.score(open(a, 'rb'), np.ones(9000)) <= 1\n"
        "assert not {'torch', 'transformers', 'scipy', 'sklearn'} & sys.modules.keys()"
    )
    command = [sys.executable, "-c", code, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("True", "False")


@pytest.fixture(scope="module")
def student():
    return verifier.load("classroom", quick=True)


def test_every_form_of_a_recording_has_the_same_embedding(student, tmp_path):
    """A path, a file object from its start on, samples at a rate, tensors of several kinds."""
    wave = noise(1.5)[0]
    want = student.embed(wave)
    soundfile.write(tmp_path / "a.wav", wave, 16_000, "FLOAT")
    soundfile.write(tmp_path / "two.wav", np.stack([0 * wave, wave], 1), 16_000, "FLOAT")
    content = (tmp_path / "a.wav").read_bytes()
    with open(tmp_path / "a.wav", "rb") as file:
        forms = [tmp_path / "a.wav", str(tmp_path / "a.wav"), file, io.BytesIO(content)]
        forms += [wave.astype(np.float64), torch.from_numpy(wave), torch.from_numpy(wave)[None]]
        forms += [torch.from_numpy(wave).double().requires_grad_()]
        for form in forms:
            assert np.array_equal(student.embed(form), want), form
    assert np.array_equal(student.embed(wave, rate=16_000), want)
    assert np.array_equal(student.embed(tmp_path / "two.wav", channel=2), want)
    tones = [0.3 * np.sin(2 * np.pi * 200 * np.arange(2 * r) / r) for r in (16_000, 24_000)]
    low, high = student.embed(tones[0]), student.embed(tones[1], rate=24_000)
    assert low @ high > 0.99 * np.linalg.norm(low) * np.linalg.norm(high)
    found = student.verify(tones[1], tones[1], rate=24_000)
    assert "wave has 24000 Hz, not 16000" in found["warnings"]
    ogg = io.BytesIO()
    soundfile.write(ogg, wave, 16_000, format="OGG")
    ogg.seek(0)
    assert student.score(ogg, wave) > 0.9
    result = CliRunner().invoke(app, ["verify", *[str(tmp_path / "two.wav")] * 2, "--channel", "2"])
    assert result.exit_code == 0 and "score 1.0000" in result.stdout


@pytest.mark.parametrize(
    ("source", "words", "says"),
    [
        (np.zeros(16_000, np.int16), {}, "wave has type int16; give float samples in"),
        (torch.zeros(16_000, dtype=torch.int16), {}, "wave has type torch.int16; give float samples"),
        (torch.zeros(2, 16_000), {}, r"wave has shape \(2, 16000\); give \[N\] samples at 16000 Hz"),
        (np.zeros((1, 16_000)), {}, r"wave has shape \(1, 16000\); give \[N\] samples"),
        (np.full(16_000, 300.0), {}, r"wave has samples up to 300; give them in \[-1, 1\]"),
        (torch.full((16_000,), torch.inf), {}, "wave has samples that are not finite"),
        (np.zeros(16_000), {"rate": 0}, "wave is at 0 Hz; resample it to 4000 to 192000 Hz"),
        (np.zeros(16_000), {"rate": 16e3}, "rate is 16000.0; give a whole number of Hz"),
        (np.zeros(16_000), {"rate": 44_100}, "wave is 0.36 s long; give at least"),
        (np.zeros(16_000), {"channel": 1}, "channel is 1, but samples are of one channel"),
        ("a.wav", {"rate": 8_000}, "rate is 8000, but a.wav is a file, which has its own"),
        (io.BytesIO(b"Dear diary"), {}, r"file object cannot be read \(.*it is not audio or damaged"),
        (io.BytesIO(), {}, "file object is empty"),
        (io.StringIO("text"), {}, "file object gives str, not bytes; open it in mode 'rb'"),
        ([0.0] * 16_000, {}, "a recording is a list; give a path, a file object opened in mode 'rb'"),
        (None, {}, "a recording is a NoneType; give a path"),
    ],
)  # fmt: skip
def test_what_is_no_recording_is_refused_by_name(student, source, words, says):
    with pytest.raises(ValueError, match=says) as caught:
        student.embed(source, **words)
    assert "\n" not in str(caught.value)


def test_the_shipped_student_is_small():
    assert sum(path.stat().st_size for path in (ASSETS / "classroom").iterdir()) < 15e6


def test_an_onnx_model_alone_says_where_it_runs(tmp_path, capsys):
    """No word for a device is passed over: others are refused, a GPU is not used, and that is said."""
    (tmp_path / "m").mkdir()
    for name in ("model.onnx", "model.json", "domain.safetensors"):
        (tmp_path / "m" / name).write_bytes((ASSETS / "classroom" / name).read_bytes())
    for device in ("mps", "gpu", "nonsense", ""):
        with pytest.raises(ValueError, match=f"device is '{device}'; choose auto, cpu or cuda"):
            oskdft.load(tmp_path / "m", device)
    for device in ("auto", "cpu", "cuda", "cuda:1"):
        assert oskdft.load(tmp_path / "m", device).embed(noise(0.7)[0]).shape == (192,)
        told = f"runs on the processor, not on {device}" in capsys.readouterr().err
        assert told == device.startswith("cuda")
