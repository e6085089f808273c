"""Embeddings of many recordings: resumed, shared, faulty files left out, scored without audio."""

import json
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from oskdft.commands.cli import app
from oskdft.evaluation import embed_many
from oskdft.evaluation.embed_many import read_embeddings, recordings
from oskdft.evaluation.verifier import load
from oskdft.speech import audio


@pytest.fixture
def speech(tmp_path) -> Path:
    """Seven recordings of three speakers, one of them with a blank in its name."""
    root, rng = tmp_path / "speech", np.random.default_rng(0)
    for name in ("a/1", "a/2", "b/1", "b/my voice", "c/1", "c/2", "c/3"):
        audio.write(root / f"{name}.wav", rng.normal(0, 0.1, rng.integers(12_000, 30_000)))
    return root


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr(embed_many, "PART", 3)


def run(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_a_folder_is_embedded_as_one_by_one(speech, tmp_path):
    assert run("embed", "--root", speech, "--out", tmp_path / "e").exit_code == 0
    rows = read_embeddings(tmp_path / "e")
    assert len(rows) == 7 and "b/my voice.wav" in rows
    student = load("classroom")
    for name, row in rows.items():
        assert np.allclose(row, student.embed(audio.read(speech / name)), atol=1e-5)


def test_lists_and_wav_scp_name_the_same_recordings(speech, tmp_path):
    lines = [f"u{i}\t{name}" for i, (name, _) in enumerate(recordings(root=speech))]
    (speech / "list.txt").write_text("\n".join(lines) + "\n")
    named = recordings(listed=speech / "list.txt")
    assert [path for _, path in named] == [path for _, path in recordings(root=speech)]
    assert named[0][0] == "u0"
    (speech / "wav.scp").write_text("u0 a/1.wav\nu1 b/1.wav\n")
    assert list(recordings(scp=speech / "wav.scp")) == [named[0], ("u1", str(speech / "b/1.wav"))]
    (speech / "test").mkdir()
    (speech / "test" / "wav.scp").write_text("u0 a/1.wav\n")  # as in speechbox
    assert list(recordings(scp=speech / "test" / "wav.scp")) == [("u0", str(speech / "a/1.wav"))]
    (speech / "plain.txt").write_text("b/my voice.wav\n")
    assert recordings(listed=speech / "plain.txt")[0][0] == "b/my voice.wav"


def test_a_killed_call_is_resumed(speech, tmp_path, monkeypatch):
    made = embed_many._make

    def killed(model, checked, part, channel):
        if part.name == "part-000001.npz":
            raise KeyboardInterrupt
        made(model, checked, part, channel)

    found = recordings(root=speech)
    monkeypatch.setattr(embed_many, "_make", killed)
    with pytest.raises(KeyboardInterrupt):
        embed_many.embed_many(found, tmp_path / "e", "classroom")
    with pytest.raises(ValueError, match=r"lacks part-000001\.npz; run oskdft embed again"):
        read_embeddings(tmp_path / "e")
    before = (tmp_path / "e" / "part-000000.npz").stat().st_mtime_ns
    monkeypatch.setattr(embed_many, "_make", made)
    assert embed_many.embed_many(found, tmp_path / "e", "classroom").embedded == 7
    assert (tmp_path / "e" / "part-000000.npz").stat().st_mtime_ns == before


def test_processes_share_the_parts(speech, tmp_path, monkeypatch):
    found = recordings(root=speech)
    monkeypatch.setenv("WORLD_SIZE", "2")
    counts = []
    for rank in ("0", "1"):  # the second finds the folder claimed
        monkeypatch.setenv("RANK", rank)
        counts.append(embed_many.embed_many(found, tmp_path / "two", "classroom").embedded)
    assert counts == [4, 3]
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.delenv("RANK")
    embed_many.embed_many(found, tmp_path / "one", "classroom")
    one, two = read_embeddings(tmp_path / "one"), read_embeddings(tmp_path / "two")
    assert one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)


def test_bad_files_are_left_out_and_named(speech, tmp_path):
    (speech / "a" / "notes.wav").write_bytes(b"Dear diary")
    (speech / "c" / "empty.wav").touch()
    whole = (speech / "c" / "2.wav").read_bytes()
    flac = speech / "c" / "cut.flac"
    audio.write(flac, np.random.default_rng(1).normal(0, 0.1, 40_000))
    flac.write_bytes(flac.read_bytes()[:30_000])  # only decoding shows it
    result = run("embed", "--root", speech, "--out", tmp_path / "e")
    assert result.exit_code == 1
    assert (speech / "c" / "2.wav").read_bytes() == whole
    rows = read_embeddings(tmp_path / "e")
    assert len(rows) == 7
    again = run("embed", "--root", speech, "--out", tmp_path / "e")
    for name in ("a/notes.wav", "c/empty.wav", "c/cut.flac"):
        assert name not in rows and f"left out: {name}: " in again.stderr
    assert "7 embeddings" in again.stderr and "3 recordings left out" in again.stderr


def test_lists_are_scored_without_audio(speech, tmp_path):
    trials = tmp_path / "list.txt"
    trials.write_text(
        "1 a/1.wav a/2.wav\n0 a/1.wav b/1.wav\n1 c/1.wav c/2.wav\n0 c/3.wav b/1.wav\n"
    )
    run("embed", "--root", speech, "--out", tmp_path / "e")
    words = ["evaluate", "--trials", trials]
    direct = run(
        *words, "--model", "classroom", "--root", speech, "--no-tta", "--scores", tmp_path / "s1"
    )
    assert direct.exit_code == 0
    for path in sorted(speech.rglob("*.wav")):
        path.unlink()
    assert run(*words, "--embeddings", tmp_path / "e", "--scores", tmp_path / "s2").exit_code == 0
    scores = [
        [float(x.split()[-1]) for x in (tmp_path / s).read_text().splitlines()]
        for s in ("s1", "s2")
    ]
    assert np.allclose(*scores, atol=1e-5)
    (tmp_path / "enrol.txt").write_text("a a/1.wav\nc c/1.wav c/2.wav\n")
    trials.write_text("a a/2.wav\nc c/3.wav\n")
    words += ["--embeddings", tmp_path / "e", "--enrol", tmp_path / "enrol.txt"]
    assert run(*words, "--scores", tmp_path / "s3").exit_code == 0
    rows = {name: row / np.sqrt(row @ row) for name, row in read_embeddings(tmp_path / "e").items()}
    mean = rows["c/1.wav"] + rows["c/2.wav"]
    found = [line.split() for line in (tmp_path / "s3").read_text().splitlines()]
    assert [line[:2] for line in found] == [["a", "a/2.wav"], ["c", "c/3.wav"]]
    want = [rows["a/1.wav"] @ rows["a/2.wav"], mean @ rows["c/3.wav"] / np.sqrt(mean @ mean)]
    assert np.allclose([float(line[2]) for line in found], want, atol=1e-6)
    trials.write_text("1 a/1.wav a/9.wav\n0 a/1.wav b/1.wav\n")
    refused = run(*words[:-2])
    assert "no embedding of 1 of 3 recordings" in str(refused.exception) and "a/9.wav" in str(
        refused.exception
    )


def test_a_listed_recording_takes_little_memory(tmp_path):
    """VoxCeleb2 has 1,092,009: at 60 bytes each 66 MB, and at most 200 MB while they are checked."""
    count = 20_000
    lines = (f"id{n % 6000:05d}/21Uxsk56VDQ/{n:05d}.wav\n" for n in range(count))
    (tmp_path / "list.txt").write_text("".join(lines))
    tracemalloc.start()
    found = recordings(listed=tmp_path / "list.txt")
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == count and kept < 60 * count and peak < 200 * count
    assert found[7] == (
        "id00007/21Uxsk56VDQ/00007.wav",
        f"{tmp_path}/id00007/21Uxsk56VDQ/00007.wav",
    )
    assert found[count - 1 :] == [found[-1]] and found[-1][0].endswith("19999.wav")


def test_another_unicode_form_and_a_folder(speech, tmp_path):
    """A list made elsewhere names Zoe composed, the disk decomposed: matched, and said."""
    composed, decomposed = f"Zo{chr(0xEB)}", f"Zoe{chr(0x308)}"
    (speech / "a").rename(speech / decomposed)
    (speech / "d.wav").mkdir()
    (speech / "list.txt").write_text(f"{composed}/1.wav\nb/1.wav\nd.wav\n{composed}/9.wav\n")
    done = run("embed", "--list", speech / "list.txt", "--out", tmp_path / "e")
    assert done.exit_code == 1
    assert "part-000000.npz: 1 names match files whose names are in another unicode" in done.stderr
    assert "left out: d.wav: " in done.stderr and "Is a directory" in done.stderr
    assert f"left out: {composed}/9.wav: " in done.stderr and "does not exist" in done.stderr
    rows = read_embeddings(tmp_path / "e")
    assert list(rows) == [f"{composed}/1.wav", "b/1.wav"]
    assert list(read_embeddings(tmp_path / "e", {"b/1.wav"})) == ["b/1.wav"]
    (tmp_path / "trials.txt").write_text(f"{decomposed}/1.wav b/1.wav\n")
    words = "--embeddings", tmp_path / "e", "--scores", tmp_path / "s"
    done = run("evaluate", "--trials", tmp_path / "trials.txt", *words)
    assert done.exit_code == 0 and "1 names match ids of" in done.stderr
    assert (tmp_path / "s").read_text().startswith(f"{decomposed}/1.wav b/1.wav ")
    want = load("classroom").embed(speech / decomposed / "1.wav")
    assert np.allclose(rows[f"{composed}/1.wav"], want, atol=1e-5)


def test_kaldi_vectors(speech, tmp_path):
    (speech / "b" / "my voice.wav").rename(speech / "b" / "2.wav")
    assert (
        run("embed", "--root", speech, "--out", tmp_path / "e", "--ark", tmp_path / "x").exit_code
        == 0
    )
    rows = read_embeddings(tmp_path / "e")
    for line in (tmp_path / "x.scp").read_text().splitlines():
        name, _, place = line.partition(" ")
        ark, _, at = place.rpartition(":")
        with open(ark, "rb") as file:
            file.seek(int(at))
            assert file.read(6) == b"\0BFV \4"
            (size,) = struct.unpack("<i", file.read(4))
            assert np.array_equal(np.frombuffer(file.read(4 * size), "<f4"), rows[name])


def test_nothing_is_overwritten(speech, tmp_path):
    first, second = speech / "a/1.wav", speech / "a/2.wav"
    before = second.read_bytes()
    refused = run("embed", first, "--out", second)
    assert "exists and is not overwritten; choose another --out" in str(refused.exception)
    trials = tmp_path / "list.txt"
    trials.write_text("1 a/1.wav a/2.wav\n0 a/1.wav b/1.wav\n")
    words = ["evaluate", "--model", "classroom", "--root", speech, "--trials", trials]
    refused = run(*words, "--scores", trials)
    assert "exists and is not overwritten; choose another --scores" in str(refused.exception)
    assert trials.read_text().startswith("1 a/1.wav") and second.read_bytes() == before
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    refused = run("embed", "--root", speech, "--out", tmp_path / "full")
    assert "exists and is not empty; choose another --out" in str(refused.exception)
    run("embed", "--root", speech, "--out", tmp_path / "e")
    os.unlink(speech / "c/3.wav")
    refused = run("embed", "--root", speech, "--out", tmp_path / "e")
    assert "other recordings or of another model or channel" in str(refused.exception)


def test_a_channel_is_chosen(speech, tmp_path):
    """`embed` and `evaluate` read the second channel of stereo recordings as they read mono ones."""
    trials, stereo = tmp_path / "list.txt", tmp_path / "stereo"
    trials.write_text("1 a/1.wav a/2.wav\n0 a/1.wav b/1.wav\n")
    for path in sorted(speech.rglob("*.wav")):
        wave = audio.read(path)
        copy = stereo / path.relative_to(speech)
        copy.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(copy, np.stack([wave[::-1], wave], 1), 16_000)
    found = []
    for root, words in ((speech, []), (stereo, ["--channel", 2])):
        done = run(
            "evaluate", "--model", "classroom", "--trials", trials, "--root", root, "--json", *words
        )
        assert done.exit_code == 0, done.exception
        found.append({key: json.loads(done.stdout)[key] for key in ("eer", "cllr")})
        assert (
            run("embed", "--root", root, "--out", tmp_path / f"e-{root.name}", *words).exit_code
            == 0
        )
    mono, second = (read_embeddings(tmp_path / f"e-{r.name}") for r in (speech, stereo))
    assert found[0] == found[1] and all(np.array_equal(mono[name], second[name]) for name in mono)
    refused = run("embed", "--root", stereo, "--out", tmp_path / "e-stereo", "--channel", 1)
    assert "or of another model or channel; choose another --out" in str(refused.exception)
    refused = run("evaluate", "--model", "classroom", "--trials", trials, "--root", stereo)
    assert "has 2 channels; make it mono, or choose one: --channel 1" in str(refused.exception)


def test_a_voxceleb_list_finds_its_recordings_in_every_tree(tmp_path):
    """Ids name the tree and the suffix on disk; the list names neither."""
    root, rng = tmp_path / "vox", np.random.default_rng(0)
    names = ("dev/wav/id10001/v/00001", "dev/wav/id10001/w/00002", "test/wav/id10270/v/00001")
    for name in names:
        audio.write(root / f"{name}.flac", rng.normal(0, 0.1, 16_000))
    trials = tmp_path / "list.txt"
    trials.write_text(
        "1 id10001/v/00001.wav id10001/w/00002.wav\n0 id10001/v/00001.wav id10270/v/00001.wav\n"
    )
    assert run("embed", "--root", root, "--out", tmp_path / "e").exit_code == 0
    words = ("evaluate", "--trials", trials, "--embeddings", tmp_path / "e", "--scores")
    done = run(*words, tmp_path / "s1")
    assert done.exit_code == 0, done.exception
    rows = {name: row / np.sqrt(row @ row) for name, row in read_embeddings(tmp_path / "e").items()}
    a, b, c = (rows[f"{name}.flac"] for name in names)
    found = [float(line.split()[-1]) for line in (tmp_path / "s1").read_text().splitlines()]
    assert np.allclose(found, [a @ b, a @ c], atol=1e-6)
    audio.write(root / "dev/aac/id10001/v/00001.wav", rng.normal(0, 0.1, 16_000))
    assert run("embed", "--root", root, "--out", tmp_path / "e2").exit_code == 0
    refused = run(*words[:4], tmp_path / "e2", "--scores", tmp_path / "s2")
    assert "holds id10001/v/00001 twice; embed one tree" in str(refused.exception)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--root", "ROOT", "--scp", "x"], "by one of --root, --list and --scp"),
        ([], "by one of --root, --list and --scp"),
        (["--root", "ROOT/none"], "is not a folder"),
        (["--list", "ROOT/none.txt"], "is not a file"),
        (["--scp", "ROOT/pipe.scp"], "u1 is a command; list recordings only"),
        (["--list", "ROOT/twice.txt"], "names an id twice, u; give"),
        (["--list", "ROOT/one.txt"], "u and v are one file, a/1.wav; list it once"),
        (["--list", "ROOT/forms.txt"], f"names Zo{chr(0xEB)} in two unicode forms"),
        (["--list", "ROOT/empty.txt"], "names no recordings"),
        (["--scp", "ROOT/cut/wav.scp"], "cuts recordings into utterances, which is not supported"),
    ],
)
def test_bad_requests(words, message, speech, tmp_path):
    (speech / "pipe.scp").write_text("u1 sox a.wav -t wav - |\n")
    (speech / "twice.txt").write_text("u\ta/1.wav\nu\ta/2.wav\n")
    (speech / "one.txt").write_text("u\ta/1.wav\nw\ta/2.wav\nv\t./a/1.wav\n")
    (speech / "forms.txt").write_text(f"Zo{chr(0xEB)}\ta/1.wav\nZoe{chr(0x308)}\ta/2.wav\n")
    (speech / "empty.txt").touch()
    (speech / "cut").mkdir()
    (speech / "cut" / "wav.scp").write_text("r a/1.wav\n")
    (speech / "cut" / "segments").write_text("u r 0 1\n")
    words = [word.replace("ROOT", str(speech)) for word in words]
    refused = run("embed", *words, "--out", tmp_path / "e")
    assert message in str(refused.exception) and not (tmp_path / "e").exists()
