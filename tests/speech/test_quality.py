"""Every command refuses the same recordings: `data check`, training, evaluation, embedding and verifying."""

import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from oskdft.config import SAMPLE_RATE, EvalConfig
from oskdft.config import load as load_config
from oskdft.evaluation import embedding
from oskdft.evaluation.verifier import Verifier, load
from oskdft.speech import audio, protocol, quality
from oskdft.speech.corpora.check import check
from oskdft.speech.corpora.tables import Utterances
from oskdft.speech.dataset import SpeakerDataset, validate
from oskdft.training.validation import require_heard

MODEL = SimpleNamespace(device="cpu", embed=lambda waves, *_: np.ones((len(waves), 2), np.float32))
SPEECH = np.random.default_rng(0).normal(0, 0.1, 2 * SAMPLE_RATE)
# name -> samples, rate, subtype, whether the recording is refused
RECORDINGS = {
    "sound": (SPEECH, SAMPLE_RATE, "PCM_16", False),
    "shortest": (SPEECH[:8_000], SAMPLE_RATE, "PCM_16", False),
    "too short": (SPEECH[:7_999], SAMPLE_RATE, "PCM_16", True),
    "too short at another rate": (SPEECH[:3_999], 8_000, "PCM_16", True),
    "telephone": (SPEECH, 8_000, "PCM_16", False),
    "silent": (0 * SPEECH, SAMPLE_RATE, "PCM_16", False),
    "clipped": (99 * SPEECH, SAMPLE_RATE, "PCM_16", False),
    "stereo": (np.stack([SPEECH, SPEECH], 1), SAMPLE_RATE, "PCM_16", True),
    "not finite": (np.full(2 * SAMPLE_RATE, np.nan), SAMPLE_RATE, "FLOAT", True),
    "cut off": (SPEECH, SAMPLE_RATE, "PCM_16", True),
}


def check_corpus(path: Path) -> None:
    if not check("folder", path.parents[1], full=True).ok:
        raise ValueError("not ok")


def train(path: Path) -> None:
    rows = [(path.relative_to(path.parents[1]).as_posix(), "anna", "", float("nan"))]
    utterances = Utterances.from_rows(path.parents[1], rows)
    validate(utterances)
    SpeakerDataset(utterances, crop_s=1.0, seed=0)[0, 0]


def verify(path: Path) -> None:
    fitted = {"threshold": 0.5, "llr_scale": 10.0, "llr_offset": -5.0}
    described = {"calibration": {"full": fitted}}
    Verifier(MODEL, EvalConfig(), described).verify(path, path)


COMMANDS = {
    "data check": check_corpus,
    "train": train,
    "evaluate": lambda path: embedding.embed_files(MODEL, [path], EvalConfig(tta="both")),
    "evaluate crops": lambda path: embedding.embed_files(MODEL, [path], EvalConfig(tta="crops")),
    "embed": Verifier(MODEL, EvalConfig(), {}).embed,
    "verify": verify,
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", RECORDINGS)
@pytest.mark.filterwarnings("ignore:.*resampled")
def test_what_one_command_refuses_none_accepts(tmp_path, monkeypatch, name, command):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    samples, rate, subtype, is_refused = RECORDINGS[name]
    path = tmp_path / "corpus" / "anna" / "1.wav"
    path.parent.mkdir(parents=True)
    soundfile.write(path, np.clip(samples, -1, 1), rate, subtype=subtype)
    if name == "cut off":
        path.write_bytes(path.read_bytes()[:-SAMPLE_RATE])
    if is_refused:
        with pytest.raises(ValueError):
            COMMANDS[command](path)
    else:
        COMMANDS[command](path)


def test_a_chosen_channel_is_what_training_and_embedding_read(tmp_path, monkeypatch):
    """Stereo recordings with channel=2 give what mono recordings of that channel give."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    both = np.random.default_rng(1).normal(0, 0.1, (2 * SAMPLE_RATE, 2))
    model = SimpleNamespace(device="cpu", embed=lambda waves, *_: np.stack([w[:9] for w in waves]))
    crops, rows = [], []
    for name, samples, channel in (("stereo", both, 2), ("mono", both[:, 1], 0)):
        path = tmp_path / name / "anna" / "1.wav"
        path.parent.mkdir(parents=True)
        soundfile.write(path, samples, SAMPLE_RATE)
        table = Utterances.from_rows(path.parents[1], [("anna/1.wav", "anna", "", float("nan"))])
        validate(table, channel=channel)
        crops.append(SpeakerDataset(table, crop_s=1.0, seed=0, channel=channel)[0, 0][0])
        rows.append(embedding.embed_files(model, [path], EvalConfig(tta="full"), channel=channel))
        with pytest.raises(ValueError, match="no channel 3; choose another one"):
            validate(table, channel=3)
    assert np.array_equal(*crops) and np.array_equal(rows[0].full, rows[1].full)


def test_limits_of_a_wave():
    assert quality.length_fault(3600 * SAMPLE_RATE, SAMPLE_RATE, whole=True) == ""
    assert "cut it" in quality.length_fault(3600 * SAMPLE_RATE + 1, SAMPLE_RATE, whole=True)
    most = quality.audio.MOST_SAMPLES  # at 48 kHz fewer than 3600 s
    assert quality.length_fault(most, 48_000, whole=True) == ""
    assert "at most 2796 s" in quality.length_fault(most + 1, 48_000, whole=True)
    assert quality.length_fault(9999 * SAMPLE_RATE, SAMPLE_RATE) == ""
    long = 0.5 * np.sin(np.arange(151 * SAMPLE_RATE))
    assert quality.doubts("clip", long) == ["clip is 151 s long, embedded in windows"]
    assert quality.doubts("clip", long[:-SAMPLE_RATE]) == []
    click = np.zeros(9_999)
    click[5] = 9e-4
    assert quality.is_silent(click) and not quality.is_silent(-1.2 * click)
    assert quality.doubts("clip", 0.5 * np.sin(np.arange(2 * SAMPLE_RATE))) == []


def test_a_constant_is_silence_in_every_form_of_a_model():
    exact, quick = load("classroom", "cpu"), load("classroom", quick=True)
    for offset in (0.0, 0.3, -1.0, 1e-3):
        wave = np.full(SAMPLE_RATE, offset, np.float32)
        assert quality.is_silent(wave)
        found = quick.verify(wave, SPEECH)
        assert found["probability"] is None and "wave is silent" in found["warnings"]
        assert exact.score(wave, SPEECH) == pytest.approx(found["score"], abs=1e-5)


def folder_of(root: Path, kind: str = "") -> list[Path]:
    """A corpus of 4 speakers; each has one recording of a bad kind beside sound ones."""
    paths = []
    for speaker in range(4):
        for name in ("0", "1", kind):
            path = root / f"s{speaker}" / f"{name or 2}.flac"
            audio.write(path, np.tile(SPEECH, 76) if name == "long" else SPEECH)
            if name == "cut":  # only decoding shows it: the cut is inside the last frame
                path.write_bytes(path.read_bytes()[:-200])
            elif name == "nan":
                path.unlink()
                path = path.with_suffix(".wav")
                soundfile.write(path, np.full(16_000, np.nan), SAMPLE_RATE, subtype="FLOAT")
            paths.append(path)
    return paths


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("cut", "cut off|cannot be read"), ("nan", "NaN")],
)
def test_training_refuses_at_its_start_what_validation_cannot_embed(
    tmp_path, monkeypatch, kind, reason
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder_of(tmp_path / "c", kind)
    changes = {"data.corpus": "folder", "data.root": str(tmp_path / "c"), "eval.tta": "crops"}
    changes |= {"data.slice_speakers": 0, "data.slice_utterances": 0}
    cfg = load_config("smoke").override(changes)
    task = protocol.prepare(cfg)  # by headers alone nothing is wrong
    with pytest.raises(ValueError, match=f"{kind}.*({reason})"):
        require_heard(cfg, task)
    if kind != "long":  # a long one may train
        sound = replace(
            task, dev_trials=task.dev_trials.select(np.zeros(len(task.dev_trials), bool))
        )
        sound = replace(sound, dev_trials=replace(sound.dev_trials, paths=[]))
        with pytest.raises(ValueError, match=f"{kind}.*({reason})"):
            require_heard(cfg, sound, full=True)


def test_every_bad_recording_is_named_in_one_message(tmp_path):
    paths = folder_of(tmp_path)
    for number, path in enumerate(paths[:5]):
        path.write_bytes(path.read_bytes()[: 9_000 * (number + 1)])
    for step in (
        lambda: embedding.embed_files(MODEL, paths, EvalConfig(tta="both")),
        lambda: quality.lengths(paths, EvalConfig(tta="crops")),
    ):
        with pytest.raises(ValueError) as caught:
            step()
        message = str(caught.value)
        assert message.startswith("5 of 12 recordings cannot be used: ") and "\n" not in message
        assert all(str(path) in message for path in paths[:5])
    missing = [tmp_path / f"{number}.wav" for number in range(30)]
    with pytest.raises(
        FileNotFoundError, match=r"^30 of 30 .*19\.wav does not exist.*and 10 more$"
    ):
        quality.lengths(missing, EvalConfig())


@pytest.mark.filterwarnings("ignore:.*resampled")
@settings(max_examples=25)
@given(
    samples=st.integers(1, 40_000),
    rate=st.sampled_from([3_999, 4_000, 8_000, 16_000, 44_100, 192_001]),
    kind=st.sampled_from(["WAV", "FLAC", "OGG", "MP3"]),
    channels=st.integers(1, 2),
    cut=st.sampled_from([0, 1, 100, 5_000]),
    level=st.sampled_from([0.0, 0.3, 30.0]),
    offset=st.sampled_from([0.0, 0.5]),
)
def test_whatever_the_check_accepts_every_command_accepts(
    samples, rate, kind, channels, cut, level, offset
):
    wave = np.random.default_rng(0).normal(offset, level / 10, (samples, channels)).clip(-1, 1)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(Path(folder) / "cache"))
        path = Path(folder) / "corpus" / "anna" / f"1.{kind.lower()}"
        path.parent.mkdir(parents=True)
        try:
            soundfile.write(path, wave, rate, format=kind)
        except soundfile.LibsndfileError:
            return  # the format does not know this rate
        path.write_bytes(path.read_bytes()[: path.stat().st_size - cut])
        accepted = check("folder", path.parents[1], full=True).ok
        for name, command in COMMANDS.items():
            try:
                command(path)
            except (ValueError, OSError) as error:
                assert not accepted, f"{name} refuses what the check accepts: {error}"
