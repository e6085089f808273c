"""Whatever is in a file: a result or one of the documented errors. OSKDFT_LONG=1 tries 12,000 cases."""

import contextlib
import json
import os
import warnings
from pathlib import Path

import numpy as np
import peak_memory
import pytest
import yaml
from bad_inputs import BAD, ROW, wav
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oskdft import (
    audio,
    checkpoint,
    config,
    corpora,
    evaluate,
    layouts,
    metrics,
    model,
    scorefile,
    teacher,
    trials,
)
from oskdft.verifier import Verifier

CASES = 1_500 if os.environ.get("OSKDFT_LONG") else 40  # for each of 8 properties
MEMORY = 1 << 30  # bytes
cases = settings(max_examples=CASES, suppress_health_check=list(HealthCheck))


def speechocean762(path: Path) -> None:
    """Read a corpus of which one table is the file."""
    (path.parent / "train").mkdir(exist_ok=True)
    path.rename(path.parent / "train" / path.name)
    list(layouts.READERS["speechocean762"](path.parent, "train", []))
    corpora.speaker_info("speechocean762", path.parent)


READERS = {
    "yaml": lambda path: config.load(str(path)),
    "trials": trials.read_trials,
    "trials with recordings": lambda path: trials.read_trials(path, path.parent),
    "scores": lambda path: metrics.summary(*scorefile.read_scores(path)),
    "wav.scp": speechocean762,
    "utt2spk": speechocean762,
    "spk2age": speechocean762,
    "utterances.csv": lambda path: list(layouts.READERS["synthetic"](path.parent, "", [])),
    "audio": audio.read,
    "headerless audio": audio.read,
    "safetensors": checkpoint.load_tensors,
}
SUFFIX = {"audio": ".flac", "headerless audio": ".raw"}


@pytest.fixture(autouse=True, scope="module")
def little_memory():
    with peak_memory.at_most(MEMORY):
        yield


@pytest.fixture(scope="module")
def speaker_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    cfg = config.load("smoke")
    made = model.new_model(cfg, teacher.load_encoder(cfg.model.teacher))
    model.save_model(folder, made, cfg, ["a", "b"], {})
    return folder


def read(folder: Path, reader: str, content: str | bytes):
    """Give a reader a file with that content."""
    path = folder / (reader + SUFFIX.get(reader, ""))
    path.write_bytes(
        content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    )
    with warnings.catch_warnings(action="ignore"):  # another rate is no error
        return READERS[reader](path)


@pytest.mark.parametrize(
    ("reader", "content", "message"), BAD, ids=[f"{n} {bad[0]}" for n, bad in enumerate(BAD)]
)
def test_bad_inputs_are_named_in_one_line(tmp_path, reader, content, message):
    with pytest.raises((ValueError, OSError), match=message) as error:
        read(tmp_path, reader, content)
    assert "\n" not in str(error.value) and len(str(error.value)) < 1_000


def test_there_are_fifty_of_them():
    assert len(BAD) >= 50 and len({content for _, content, _ in BAD}) >= 50


def survives(folder: Path, reader: str, content: str | bytes) -> None:
    """Read it; the documented errors are fine, everything else is not."""
    with contextlib.suppress(ValueError, OSError):
        read(folder, reader, content)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(scalars, inner, max_size=4),
    max_leaves=8,
)
names = st.sampled_from(
    ["train", "lr", "seed", "data", "loss", "kd_layers", "switches", "batch", "x"]
)
words = st.sampled_from(
    ["1", "0", "target", "nontarget", "a.wav", "b c", "\t", " ", "\n", "\ufeff", "#", "nan"]
)
lines = st.lists(words | st.text(max_size=10), max_size=30).map(" ".join)


@cases
@given(st.dictionaries(names, trees | st.dictionaries(names, trees, max_size=3), max_size=4))
def test_any_tree_of_settings(tree):
    with contextlib.suppress(ValueError):
        config.from_dict(tree)


@cases
@given(content=st.text() | st.binary() | trees.map(lambda tree: yaml.safe_dump(tree)))
def test_any_yaml(tmp_path_factory, content):
    survives(tmp_path_factory.getbasetemp(), "yaml", content)


@cases
@given(content=lines | st.binary(max_size=200))
def test_any_trial_list(tmp_path_factory, content):
    survives(tmp_path_factory.getbasetemp(), "trials with recordings", content)


@cases
@given(content=lines | st.binary(max_size=200))
def test_any_score_file(tmp_path_factory, content):
    survives(tmp_path_factory.getbasetemp(), "scores", content)


@cases
@given(
    reader=st.sampled_from(["wav.scp", "utt2spk", "spk2age", "utterances.csv"]),
    content=lines | st.binary(max_size=200) | lines.map(lambda text: ROW + text.replace(" ", ",")),
)
def test_any_table_of_a_corpus(tmp_path_factory, reader, content):
    survives(tmp_path_factory.getbasetemp(), reader, content)


KINDS = {"WAV": ["PCM_16", "FLOAT"], "FLAC": ["PCM_16"], "OGG": ["VORBIS"], "AIFF": ["PCM_16"]}
sounds = [wav(form=form, kind=kind) for form, kinds in KINDS.items() for kind in kinds]


def changed(original: bytes, changes: list[tuple[int, int]], keep: int) -> bytes:
    """A file with some bytes replaced and its end cut off; most changes fall into the header."""
    data = bytearray(original)
    for place, byte in changes:
        data[place % len(data)] = byte
    return bytes(data[: keep or None])


edits = st.lists(st.tuples(st.integers(0, 120) | st.integers(0), st.integers(0, 255)), max_size=8)


@cases
@given(original=st.sampled_from(sounds), changes=edits, keep=st.integers(0, 200))
def test_any_audio_header(tmp_path_factory, original, changes, keep):
    survives(tmp_path_factory.getbasetemp(), "audio", changed(original, changes, keep))


numbers = st.floats() | st.integers() | scalars
fitted = st.fixed_dictionaries({key: numbers for key in ("threshold", "llr_scale", "llr_offset")})


@cases
@given(
    name=st.sampled_from(["model.json", "encoder.json"]),
    key=st.sampled_from(
        ["hidden_size", "conv_dim", "model_type", "config", "num_hidden_layers", "hidden_act", "x"]
        + ["calibration"] * 3
    ),
    value=trees | st.fixed_dictionaries({"full": fitted}),
)
def test_any_setting_of_an_exported_model(speaker_folder, name, key, value):
    path = speaker_folder / name
    sound = path.read_bytes()
    try:
        path.write_text(json.dumps(json.loads(sound) | {key: value}, skipkeys=True))
        with contextlib.suppress(ValueError, OSError):
            made, cfg, described = model.load_model(speaker_folder)
            threshold = Verifier(made, cfg.eval, described).threshold
            assert threshold is None or np.isfinite(threshold)
    finally:
        path.write_bytes(sound)


@cases
@given(changes=edits, keep=st.integers(0, 2_000))
def test_any_bytes_of_exported_weights(speaker_folder, changes, keep):
    path = speaker_folder / "model.safetensors"
    sound = path.read_bytes()
    try:
        path.write_bytes(changed(sound, changes, keep))
        with contextlib.suppress(ValueError, OSError):
            model.load_model(speaker_folder)
    finally:
        path.write_bytes(sound)


def test_verify_says_when_a_recording_is_unlike_those_of_the_calibration(
    model_folder, tmp_path, capsys
):
    rng = np.random.default_rng(0)
    noise = 0.2 * rng.standard_normal(32_000)
    made = {
        "sound.wav": noise,
        "short.wav": noise[:12_000],
        "silent.wav": 0 * noise,
        "clipped.wav": 9 * noise,
    }
    for name, wave in made.items():
        audio.write(tmp_path / name, wave)
    audio.write(tmp_path / "telephone.wav", noise, rate=8_000)
    verifier = evaluate.load(model_folder)
    expected = {
        "sound": "", "short": "is 0.75 s long", "silent": "is silent", "clipped": "is clipped",
        "telephone": "has 8000 Hz, not 16000",
    }  # fmt: skip
    with warnings.catch_warnings(action="ignore"):
        for name, wanted in expected.items():
            path = tmp_path / f"{name}.wav"
            found = verifier.verify(tmp_path / "sound.wav", path)
            assert found["warnings"] == ([f"{path} {wanted}"] if wanted else [])
            assert np.isfinite(found["score"])
            assert (f"warning: {path} {wanted};" in capsys.readouterr().err) == bool(wanted)
