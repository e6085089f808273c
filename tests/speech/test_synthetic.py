import csv
import errno
import importlib.util
import itertools
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from oskdft.speech import audio, quality
from oskdft.speech.synthetic import corpus as corpus_module
from oskdft.speech.synthetic import espeak, voices
from oskdft.speech.synthetic.corpus import COLUMNS, make_corpus
from oskdft.speech.synthetic.sentences import LANGUAGES, SLOTS, count, sentence
from oskdft.utils import console, files

SIZE = {"speakers": 12, "utterances": 5}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic")
    return folder, make_corpus(folder, **SIZE, seed=3, workers=1)


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def rows(folder):
    with open(folder / "utterances.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_tells_what_lies_in_the_folder(corpus):
    folder, summary = corpus
    table = rows(folder)
    assert tuple(table[0]) == COLUMNS
    assert len(table) == summary["made"] == 60
    assert {row["path"] for row in table} == {
        p.relative_to(folder).as_posix() for p in folder.rglob("*.flac")
    }
    for row in table:
        assert audio.info(folder / row["path"]) == audio.AudioInfo(
            round(float(row["seconds"]) * 16_000), 16_000, 1
        )
        assert row["path"].startswith(f"{row['speaker']}/{row['session']}/")
        assert quality.doubts(row["path"], audio.read(folder / row["path"])) == []
    assert 2.5 < np.median([float(row["seconds"]) for row in table]) < 4
    speakers = {row["speaker"]: row for row in table}
    assert len(speakers) == 12 and {row["language"] for row in table} == set(LANGUAGES)
    test = [row["gender"] for row in speakers.values() if row["split"] == "test"]
    assert sorted(test) == ["f", "f", "m", "m"] and table[-1]["split"] == "test"
    assert {row["session"] for row in table} == {"ses0", "ses1", "ses2", "ses3"}
    assert json.loads((folder / "corpus.json").read_text()) | {"made": 60} == summary


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_workers(corpus, tmp_path):
    folder, _ = corpus
    make_corpus(tmp_path, **SIZE, seed=3, workers=2)
    assert contents(tmp_path) == contents(folder)


def test_a_smaller_corpus_is_a_part_of_a_larger_one(corpus, tmp_path):
    make_corpus(tmp_path, speakers=4, utterances=2, seed=3)
    whole = contents(corpus[0])
    assert all(whole[k] == v for k, v in contents(tmp_path).items() if k.suffix == ".flac")


def test_another_seed_gives_other_voices_and_sentences(corpus, tmp_path):
    folder, _ = corpus
    make_corpus(tmp_path, speakers=4, utterances=2, seed=4)
    first = rows(tmp_path)[0]
    assert first["text"] != rows(folder)[0]["text"]
    assert voices.voice_file(3, 0) != voices.voice_file(4, 0)


def test_no_sentence_comes_twice(corpus):
    texts = [row["text"] for row in rows(corpus[0])]
    assert len(set(texts)) == len(texts)
    many = {(voices.language(s), voices.text_of(0, s, u)) for s in range(400) for u in range(20)}
    assert len(many) == 8_000


def test_sentences_are_a_permutation(monkeypatch):
    monkeypatch.setitem(SLOTS, "en", (("a", "b", "c"), ("d", "e"), ("f", "g", "h", "i", "j")))
    assert len({sentence("en", n, seed=5) for n in range(count("en"))}) == 30
    with pytest.raises(ValueError, match="sentence 30 of 30"):
        sentence("en", 30)


def test_phrases_are_distinct_and_whole():
    assert len(LANGUAGES) >= 5
    for slots in SLOTS.values():
        assert [len(set(slot)) for slot in slots] == [20] * 5
        assert not any("," in phrase or "  " in phrase for slot in slots for phrase in slot)


def test_trials_cross_sessions_and_stay_with_gender_and_language():
    trials = corpus_module.trials(60, 20, seed=1)
    assert len(trials) == 4_000 == len({frozenset(pair) for _, *pair in trials})
    assert sum(label for label, _, _ in trials) == 2_000
    for label, *pair in trials:
        (a, session_a, _), (b, session_b, _) = (path.split("/") for path in pair)
        a, b = int(a[3:]), int(b[3:])
        assert min(a, b) >= 40 and label == (a == b)
        if label:
            assert session_a != session_b
        else:
            assert voices.gender(a) == voices.gender(b)
            assert voices.language(a) == voices.language(b)


@pytest.mark.parametrize(("speakers", "utterances"), [(4, 2), (8, 4), (31, 7)])
def test_small_lists_are_balanced_and_without_repeats(speakers, utterances):
    trials = corpus_module.trials(speakers, utterances)
    labels = [label for label, _, _ in trials]
    assert 0 < sum(labels) == len(labels) / 2
    assert len({frozenset(pair) for _, *pair in trials}) == len(trials)


def test_trials_txt_names_existing_files(corpus):
    folder, summary = corpus
    lines = (folder / "trials.txt").read_text().splitlines()
    assert len(lines) == summary["trials"] == 2 * summary["targets"]
    for line in lines:
        label, a, b = line.split(" ")
        assert label in "01" and (folder / a).is_file() and (folder / b).is_file()


def test_a_complete_corpus_is_left_alone_and_a_damaged_one_completed(corpus, tmp_path):
    folder, _ = corpus
    for path, content in contents(folder).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    assert make_corpus(tmp_path, **SIZE, seed=3)["made"] == 0
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == stamps
    victims = sorted(tmp_path.rglob("*.flac"))[::9]
    for path in victims:
        path.unlink()
    (tmp_path / "trials.txt").unlink()
    assert make_corpus(tmp_path, **SIZE, seed=3)["made"] == len(victims) == 7
    assert contents(tmp_path) == contents(folder)


def test_an_interrupted_corpus_goes_on(tmp_path, monkeypatch):
    def stop_early(items, label, total):
        yield from itertools.islice(items, 2)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(console, "progress", stop_early)
        make_corpus(tmp_path, speakers=4, utterances=2)
    assert not (tmp_path / "corpus.json").exists() and len(list(tmp_path.rglob("*.flac"))) == 4
    with pytest.raises(ValueError, match="seed 0 instead of 1"):
        make_corpus(tmp_path, speakers=4, utterances=2, seed=1)
    assert make_corpus(tmp_path, speakers=4, utterances=2)["made"] == 4
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == [
        "corpus.json", "trials.txt", "utterances.csv",
    ]  # fmt: skip


def test_other_folders_are_refused(corpus, tmp_path):
    with pytest.raises(ValueError, match="holds another corpus .speakers 12 instead of 13.;"):
        make_corpus(corpus[0], speakers=13, utterances=5, seed=3)
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match="is not empty and holds no synthetic corpus"):
        make_corpus(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"speakers": 3}, "speakers is 3; give 4"),
        ({"speakers": 10**6}, "speakers is 1000000; give 4 .* to 15850"),
        ({"utterances": 1}, "utterances is 1; give 2 to 1009"),
        ({"utterances": 1010}, "utterances is 1010; give 2 to 1009"),
        ({"seed": -1}, "seed is -1"),
        ({"workers": 0}, "workers 0"),
    ],
)
def test_impossible_sizes_are_refused_before_anything_is_written(tmp_path, sizes, message):
    with pytest.raises(ValueError, match=message):
        make_corpus(tmp_path / "new", **sizes)
    assert not (tmp_path / "new").exists()


def test_a_full_disk_names_the_path_and_keeps_what_is_whole(tmp_path, monkeypatch):
    synced = []

    def full(descriptor):
        synced.append(descriptor)
        if len(synced) > 4:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device.*spk0001.*0001\.flac"):
        make_corpus(tmp_path, speakers=4, utterances=2)
    assert len(list(tmp_path.rglob("*.flac"))) == 3 and not list(tmp_path.rglob("*.part"))


def test_room_is_asked_for_before_the_first_voice(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=700_000))
    with pytest.raises(OSError, match=r"0\.00 GB free, the voices need 0\.00 GB; free some space"):
        make_corpus(tmp_path, speakers=4, utterances=2)
    assert not list(tmp_path.rglob("*.flac"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=800_000))
    assert make_corpus(tmp_path, speakers=4, utterances=2)["made"] == 8


def test_a_missing_or_broken_library_is_one_line(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "espeakng_loader", None)
        with pytest.raises(OSError, match="pip install espeakng-loader") as caught:
            make_corpus(tmp_path / "a", speakers=4, utterances=2)
        assert "\n" not in str(caught.value)
    import espeakng_loader

    (tmp_path / "broken.so").write_text("not a library")
    monkeypatch.setattr(espeakng_loader, "get_library_path", lambda: str(tmp_path / "broken.so"))
    with pytest.raises(OSError, match="eSpeak NG cannot be loaded") as caught:
        make_corpus(tmp_path / "b", speakers=4, utterances=2)
    assert "\n" not in str(caught.value)


def test_what_was_said_before_changes_nothing():
    voice = "language variant\nname one\npitch 90 140\nflutter 9\nroughness 3\nbreath 0 3 3 3\n"
    with espeak.home({"one": voice}, ("en", "de")) as data:
        first = espeak.speak(data, "en+one", "One, two, three.", seed=1)
        espeak.speak(data, "de+one", "Etwas ganz anderes, und viel lauter!", words_per_minute=220)
        again = espeak.speak(data, "en+one", "One, two, three.", seed=1)
        assert np.array_equal(first, again)
        with pytest.raises(OSError, match="cannot say"):
            espeak.speak(data, "xx+none", "One.")


def median_pitch(wave):
    """Autocorrelation pitch of the louder half of 50-ms frames, in Hz."""
    frames = np.lib.stride_tricks.sliding_window_view(wave, 800)[::400]
    frames = frames[(frames**2).mean(1) > (wave**2).mean()]
    power = np.abs(np.fft.rfft(frames - frames.mean(1, keepdims=True), 2_048)) ** 2
    lags = np.fft.irfft(power)[:, 40:250]  # 64 to 400 Hz
    return 16_000 / np.median(40 + lags.argmax(1))


def test_women_speak_higher_than_men_and_all_as_people_do(corpus):
    folder, _ = corpus
    pitch = {"m": [], "f": []}
    for row in rows(folder):
        pitch[row["gender"]].append(median_pitch(audio.read(folder / row["path"])))
    assert 80 < np.median(pitch["m"]) < 150 < np.median(pitch["f"]) < 270


def test_the_task_is_neither_trivial_nor_hopeless(tmp_path):
    path = Path(__file__).parents[2] / "benchmarks" / "speech.py"
    spec = importlib.util.spec_from_file_location("speech_benchmark", path)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    make_corpus(tmp_path, speakers=24, utterances=4)
    assert 0.10 < benchmark.mfcc_eer(tmp_path) < 0.35  # 60 x 20: 0.15 to 0.30, see benchmarks
