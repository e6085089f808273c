"""Whatever is in a file: a result or one of the documented errors. OSKDFT_LONG=1 tries 21,000 cases."""

import contextlib
import io
import json
import os
import signal
import tarfile
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import peak_memory
import pytest
import soundfile
import torch
import yaml
from bad_inputs import BAD, wav
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from oskdft import config
from oskdft.evaluation import metrics, score_file
from oskdft.evaluation.verifier import Verifier, load
from oskdft.method import model
from oskdft.speech import audio
from oskdft.speech.corpora import layouts, people, shards, trials
from oskdft.storage import foreign, model_folder, onnx_model, pretrained, tensors
from oskdft.training.grid import read_grid

pytestmark = pytest.mark.slow

CASES = 1_500 if os.environ.get("OSKDFT_LONG") else 40  # for each of 14 properties
MEMORY = 1 << 30  # bytes
PATIENCE_S = 20.0  # a case that takes longer hangs; far more than any needs
cases = settings(max_examples=CASES, suppress_health_check=list(HealthCheck))


def speakers(corpus: str):
    """A reader of a table of speakers, in a folder where no other test looks for it."""

    def read(path: Path) -> None:
        root = path.parent / corpus
        root.mkdir(exist_ok=True)
        path.rename(root / path.name)
        people.speaker_info(corpus, root)

    return read


def speechocean762(path: Path) -> None:
    """Read a corpus of which one table is the file."""
    (path.parent / "train").mkdir(exist_ok=True)
    path.rename(path.parent / "train" / path.name)
    list(layouts.READERS["speechocean762"](path.parent, "train", []))
    people.speaker_info("speechocean762", path.parent)


READERS = {
    "yaml": lambda path: config.load(str(path)),
    "trials": trials.read_trials,
    "trials with recordings": lambda path: trials.read_trials(path, path.parent),
    "scores": lambda path: metrics.summary(*score_file.read_scores(path)),
    "wav.scp": speechocean762,
    "utt2spk": speechocean762,
    "spk2age": speechocean762,
    "spk2gender": speechocean762,
    "SPEAKERS.TXT": speakers("librispeech"),
    "vox1_meta.csv": speakers("voxceleb1"),
    "audio": audio.read,
    "headerless audio": audio.read,
    "safetensors": tensors.load_tensors,
}
SUFFIX = {"audio": ".flac", "headerless audio": ".raw"}


@pytest.fixture(autouse=True, scope="module")
def little_memory():
    with peak_memory.at_most(MEMORY):
        yield


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory):
    """Indices of shards go into a cache that ends with the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def speaker_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    cfg = config.load("smoke")
    made = model.new_model(cfg, pretrained.load_encoder(cfg.model.teacher))
    model_folder.save_model(folder, made, cfg, ["a", "b"], {})
    return folder


@pytest.fixture(scope="module")
def onnx_folder(tmp_path_factory):
    """A small sound export: operations with weights, a shape and attributes to be spoilt."""
    from onnx import helper, numpy_helper

    tensors = {"shape": np.array([0, 1, -1]), "w": np.ones((4, 1, 10), np.float32)}
    nodes = [
        helper.make_node("Reshape", ["wave", "shape"], ["x"]),
        helper.make_node("Conv", ["x", "w"], ["y"], strides=[5]),
        helper.make_node("ReduceMean", ["y"], ["embedding"], axes=[2], keepdims=0),
    ]
    ends = [helper.make_tensor_value_info(name, 1, None) for name in ("wave", "embedding")]
    weights = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], initializer=weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    folder = tmp_path_factory.mktemp("onnx")
    (folder / onnx_model.FILE).write_bytes(made.SerializeToString())
    (folder / "model.json").write_text(json.dumps({"config": config.to_dict(config.load("smoke"))}))
    return folder


@contextlib.contextmanager
def in_time(case: object) -> Iterator[None]:
    """Fail, and name the case, when the block has not ended in time (as soon as Python code runs)."""

    def late(*_):
        raise AssertionError(f"no end within {PATIENCE_S:g} s: {str(case)[:300]}")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_case_that_hangs_is_named(monkeypatch):
    monkeypatch.setitem(globals(), "PATIENCE_S", 0.1)
    named = r"no end within 0\.1 s: .'yaml', 'a: 1'."
    with pytest.raises(AssertionError, match=named), in_time(("yaml", "a: 1")):
        time.sleep(20)  # goes on after any other signal, as of a child process that ends


def read(folder: Path, reader: str, content: str | bytes):
    """Give a reader a file with that content."""
    path = folder / (reader + SUFFIX.get(reader, ""))
    path.write_bytes(
        content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    )
    # another rate is no error
    with warnings.catch_warnings(action="ignore"), in_time((reader, content)):
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
    with contextlib.suppress(ValueError), in_time(tree):
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


TABLES = {  # of a corpus: what its first line says
    "wav.scp": "",
    "utt2spk": "",
    "spk2age": "",
    "spk2gender": "",
    "SPEAKERS.TXT": ";ID |SEX|SUBSET\n",
    "vox1_meta.csv": "VoxCeleb1 ID\tVGGFace1 ID\tGender\n",
}


@cases
@given(
    reader=st.sampled_from(list(TABLES)),
    content=lines | st.binary(max_size=200),
    head=st.booleans(),
    separator=st.sampled_from(" ,\t|"),
)
def test_any_table_of_a_corpus(tmp_path_factory, reader, content, head, separator):
    if isinstance(content, str):
        content = TABLES[reader] * head + content.replace(" ", separator)
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
spots = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), max_size=4)


@cases
@given(original=st.sampled_from(sounds), changes=edits, keep=st.integers(0, 200))
def test_any_audio_header(tmp_path_factory, original, changes, keep):
    survives(tmp_path_factory.getbasetemp(), "audio", changed(original, changes, keep))


streams = [wav(3_200, form=form, kind=kind) for form, kind in (
    ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"),
)]  # fmt: skip


@cases
@given(
    parts=st.lists(st.tuples(st.sampled_from(streams), st.floats(0, 1)), min_size=1, max_size=3),
    changes=st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=3),
    rubbish=st.binary(max_size=100),
)
def test_any_stream(tmp_path_factory, parts, changes, rubbish):
    """Streams in a row, each cut somewhere, with a few other bytes, and something behind them."""
    content = b"".join(stream[: round(len(stream) * share)] for stream, share in parts) + rubbish
    if content:
        survives(tmp_path_factory.getbasetemp(), "audio", changed(content, changes, 0))


member_names = st.sampled_from(
    ["a.wav", "b.flac", "../c.wav", "/d.wav", "a.wav/e.wav", "", "f.txt"]
)
kinds = st.sampled_from([tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, b"7"])


def archive(members: list[tuple[str, bytes, bytes]]) -> bytes:
    """A tar of members (name, type, content); a link points to the first name."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as made:
        for name, kind, data in members:
            header = tarfile.TarInfo(name)
            header.type, header.size, header.linkname = kind, len(data), members[0][0]
            made.addfile(header, io.BytesIO(data))
    return content.getvalue()


@cases
@given(
    members=st.lists(
        st.tuples(
            member_names | st.text(max_size=20), kinds, st.sampled_from(sounds) | st.binary()
        ),
        max_size=4,
    ),
    changes=edits,
    keep=st.just(0) | st.integers(0, 20_000),
)
def test_any_shard_of_a_corpus(own_cache, members, changes, keep):
    with (
        contextlib.suppress(ValueError, OSError),
        warnings.catch_warnings(action="ignore"),
        tempfile.TemporaryDirectory() as root,
        in_time((members, changes, keep)),
    ):
        Path(root, "x.tar").write_bytes(changed(archive(members), changes, keep))
        for name in shards.shards_of(root).names():
            with contextlib.suppress(ValueError):
                audio.read(Path(root, name))


@pytest.fixture(scope="module")
def pickled(tmp_path_factory):
    """A small checkpoint as torch writes it."""
    path = tmp_path_factory.mktemp("pickled") / "x.pt"
    encoder = pretrained.load_encoder(config.load("smoke").model.teacher)
    torch.save({"cfg": {"model": {"encoder_layers": 2}}, "model": encoder.state_dict()}, path)
    return path


@cases
@given(changes=edits | spots, keep=st.just(0) | st.integers(0, 5_000))
def test_any_bytes_of_a_foreign_checkpoint(pickled, changes, keep):
    sound = pickled.read_bytes()
    try:
        pickled.write_bytes(changed(sound, changes, keep))
        with contextlib.suppress(ValueError, OSError), in_time((changes, keep)):
            foreign.convert(foreign.load_pickle(pickled), str(pickled))
    finally:
        pickled.write_bytes(sound)


@cases
@given(
    st.dictionaries(
        st.sampled_from(["profile", "changes", "rows", "seeds", "reference", "x"]),
        trees | st.dictionaries(names, trees, max_size=3) | st.just("smoke"),
        max_size=5,
    )
)
@example({"rows": {"train": {None: None}}})
def test_any_grid(tmp_path_factory, tree):
    path = tmp_path_factory.getbasetemp() / "grid.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    with contextlib.suppress(ValueError), in_time(tree):
        read_grid(path).runs()


@cases
@given(
    content=lines | st.binary(max_size=200),
    columns=st.lists(st.sampled_from(["id", "label", "score", "", "ignored", "Score"]), max_size=6),
)
def test_any_columns_of_a_score_file(tmp_path_factory, content, columns):
    path = tmp_path_factory.getbasetemp() / "scores with columns"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "replace"))
    with contextlib.suppress(ValueError), in_time((content, columns)):
        result = score_file.score_file(path, columns)
        assert 0 <= result["eer"] <= 1


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
@example(
    name="model.json",
    key="calibration",
    value={"full": {"threshold": -(2**63) - 1, "llr_scale": 0, "llr_offset": 0}},
)
def test_any_setting_of_an_exported_model(speaker_folder, name, key, value):
    path = speaker_folder / name
    sound = path.read_bytes()
    try:
        path.write_text(json.dumps(json.loads(sound) | {key: value}, skipkeys=True))
        with contextlib.suppress(ValueError, OSError), in_time((name, key, value)):
            made, cfg, described = model_folder.load_model(speaker_folder)
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
        with contextlib.suppress(ValueError, OSError), in_time((path.name, changes, keep)):
            model_folder.load_model(speaker_folder)
    finally:
        path.write_bytes(sound)


@cases
@given(changes=spots, keep=st.just(0) | st.integers(0, 500))
def test_any_bytes_of_an_onnx_model(onnx_folder, changes, keep):
    path = onnx_folder / onnx_model.FILE
    sound, waves = path.read_bytes(), [np.ones(1_600, np.float32), np.ones(900, np.float32)]
    try:
        path.write_bytes(changed(sound, changes, keep))
        with contextlib.suppress(ValueError, OSError), in_time((path.name, changes, keep)):
            assert onnx_model.load_onnx(onnx_folder)[0].embed(waves).shape[0] == 2
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
    soundfile.write(tmp_path / "telephone.wav", noise, 8_000)
    verifier = load(model_folder)
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
