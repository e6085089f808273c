"""The speech in the package: complete, unchanged, labelled, licensed; its slices; no synthetic voices left."""

import functools
import hashlib
import json
import re
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from oskdft import config
from oskdft.speech import audio, protocol
from oskdft.speech.corpora import catalogue, tables
from oskdft.speech.corpora.check import check
from oskdft.speech.corpora.people import age_group, speaker_info
from oskdft.speech.corpora.trials import Trials, read_trials

ROOT = Path(__file__).parents[2]
BOX = catalogue.SPEECHBOX
LIST = BOX / protocol.TEST_LISTS["speechbox"]
SIZES = {"train": (125, 20), "test": (80, 8)}  # split -> speakers, utterances of each
MOST_BYTES = 34_000_000


@functools.cache
def split(name: str) -> tables.Utterances:
    return tables.load_corpus("speechbox", split=name)


def speakers_of(utterances: tables.Utterances) -> dict[str, str]:
    """Path below the root -> speaker."""
    return dict(
        zip(utterances.names(), tables.labels_of("speechbox", utterances)["speaker"], strict=True)
    )


def people() -> dict[str, tuple[str, str]]:
    """Speaker -> gender and age group."""
    info = speaker_info("speechbox", BOX)
    return {speaker: (who["gender"], age_group(who)) for speaker, who in info.items()}


# --- what is in the folder


@pytest.mark.parametrize("name", SIZES)
def test_every_speaker_has_the_same_number_of_utterances(name):
    speakers, each = SIZES[name]
    assert split(name).counts().tolist() == [each] * speakers
    assert catalogue.known("speechbox").expected[name] == (speakers, speakers * each)


def test_no_speaker_is_in_both_splits():
    assert not set(split("train").speakers) & set(split("test").speakers)


@pytest.mark.parametrize("name", SIZES)
def test_every_utterance_has_all_labels(name):
    labels = tables.labels_of("speechbox", split(name))
    assert labels.keys() == {"speaker", "gender", "age", "text", "phones"}
    assert all(len(values) == len(split(name)) for values in labels.values())
    assert set(labels["gender"]) == {"f", "m"} and set(labels["age"]) == {"child", "adult"}
    assert all(re.fullmatch(r"[A-Z' ]+", text) for text in labels["text"])
    phone = r"[A-Z]+[0-2]?_[BIES]"
    for phones in labels["phones"]:
        assert all(re.fullmatch(phone, each) for each in phones.split()), phones


@pytest.mark.parametrize("name", SIZES)
def test_the_table_of_a_speaker_s_utterances_fits_that_of_the_utterances(name):
    listed = {}
    for line in (BOX / name / "spk2utt").read_text().splitlines():
        speaker, *utterances = line.split()
        listed |= dict.fromkeys(utterances, speaker)
    lines = (line.split() for line in (BOX / name / "utt2spk").read_text().splitlines())
    assert listed == {utterance: speaker for utterance, speaker in lines}


@pytest.mark.slow
def test_children_and_adults_of_both_genders_are_in_both_splits():
    for name in SIZES:
        kinds = Counter(people()[speaker] for speaker in split(name).speakers)
        assert len(kinds) == 4 and min(kinds.values()) >= 15, kinds


def test_shards_are_unchanged():
    manifest = json.loads((BOX / "manifest.json").read_text())
    assert {shard["name"] for shard in manifest["shards"]} == {p.name for p in BOX.glob("*.tar")}
    for shard in manifest["shards"]:
        content = (BOX / shard["name"]).read_bytes()
        assert len(content) == shard["bytes"], shard["name"]
        assert hashlib.sha256(content).hexdigest() == shard["sha256"], shard["name"]
    total = sum(speakers * each for speakers, each in SIZES.values())
    assert manifest["utterances"] == sum(shard["members"] for shard in manifest["shards"]) == total
    seconds = sum(split(name).measured().seconds.sum(dtype=float) for name in SIZES)
    assert seconds == pytest.approx(manifest["seconds"], rel=1e-3)


def test_the_folder_is_small():
    assert sum(path.stat().st_size for path in BOX.rglob("*") if path.is_file()) <= MOST_BYTES


def test_the_check_of_corpora_finds_no_fault(monkeypatch):
    monkeypatch.delenv("OSKDFT_DATA", raising=False)
    report = check("speechbox")
    assert report.ok, report.lines()
    assert (report.speakers, report.utterances) == (205, 3_140) and not report.extra


def test_licence_notice_and_data_card_are_there():
    assert "Apache License" in (BOX / "LICENSE").read_text()
    notice, card = ((BOX / name).read_text() for name in ("NOTICE", "README.md"))
    assert "openslr.org/101" in notice and all("speechocean762" in text for text in (notice, card))
    for words in ("Mandarin", "Child: under 16", "What was changed", "Opus", "identifies a person",
                  "wishes to be removed", "Apache-2.0"):  # fmt: skip
        assert words in card, words


def test_the_data_card_counts_the_speakers():
    info = speaker_info("speechbox", BOX)
    kinds = (("f", "child"), ("m", "child"), ("f", "adult"), ("m", "adult"))
    for name in SIZES:
        counts = Counter(people()[speaker] for speaker in split(name).speakers)
        ages = [info[speaker]["age"] for speaker in split(name).speakers]
        row = [name, *(counts[kind] for kind in kinds), min(ages), max(ages)]
        assert f"| {' | '.join(map(str, row))} |" in (BOX / "README.md").read_text()


# --- the trial list


def test_the_trial_list_has_no_repeats_and_compares_like_with_like():
    trials = read_trials(LIST, BOX)
    pairs = {frozenset(pair) for pair in zip(trials.enrol, trials.test, strict=True)}
    assert len(pairs) == len(trials) and trials.duplicates == 0
    assert all(len(pair) == 2 for pair in pairs), "a recording is compared with itself"
    speaker, who = speakers_of(split("test")), people()
    sides = [[speaker[trials.paths[i]] for i in side] for side in (trials.enrol, trials.test)]
    assert [int(a == b) for a, b in zip(*sides, strict=True)] == trials.label.tolist()
    assert all(who[a] == who[b] for a, b in zip(*sides, strict=True))


def test_the_trial_list_uses_every_test_speaker_and_is_known_by_name():
    trials, speaker = read_trials(LIST, BOX), speakers_of(split("test"))
    targets = trials.enrol[trials.label == 1]
    assert {speaker[trials.paths[i]] for i in targets} == set(split("test").speakers)
    [published] = catalogue.known("speechbox").trials
    assert trials.name == published.title and len(trials) == published.trials


# --- slices


def test_profile_smoke_has_trials_of_both_kinds():
    task = protocol.prepare(config.load("smoke"))
    assert (len(task.train.speakers), len(task.dev.speakers)) == (6, 2)
    assert max(task.train.counts()) == max(task.dev.counts()) == 6
    for trials in (task.test_trials, task.dev_trials):
        assert 20 <= trials.label.sum() < len(trials)


@pytest.mark.parametrize(("speakers", "each"), [(3, 2), (0, 2), (3, 0), (500, 500)])
def test_a_slice_holds_the_first_speakers_and_utterances(speakers, each):
    changes = {"data.slice_speakers": speakers, "data.slice_utterances": each}
    cfg = config.load("smoke").override(changes)
    part = protocol.a_slice(cfg, split("train"))
    most, most_each = SIZES["train"]
    expected = min(speakers or most, most)
    assert part.speakers == split("train").speakers[:expected]
    assert part.counts().tolist() == [min(each or most_each, most_each)] * expected
    assert set(part.names()) <= set(split("train").names())


@pytest.mark.parametrize(("speakers", "each"), [(12, 4), (0, 4), (12, 0)])
def test_a_slice_of_the_test_list_holds_all_trials_of_its_recordings(speakers, each):
    changes = {"data.slice_speakers": speakers, "data.slice_utterances": each}
    cfg = config.load("smoke").override(changes)
    trials, root = protocol.read_test_list(cfg, BOX)
    used = set(protocol.a_slice(cfg, split("test")).names())
    whole = read_trials(LIST, BOX)
    lines = zip(whole.label, whole.enrol, whole.test, strict=True)
    expected = [(label, whole.paths[a], whole.paths[b]) for label, a, b in lines]
    expected = [line for line in expected if set(line[1:]) <= used]
    rows = zip(trials.label, trials.enrol, trials.test, strict=True)
    assert [(label, trials.paths[a], trials.paths[b]) for label, a, b in rows] == expected
    assert root == BOX and trials.name == f"part of {whole.name}"


def test_without_a_slice_the_test_list_is_whole():
    cfg = config.load("classroom")
    trials, _ = protocol.read_test_list(cfg, BOX)
    assert (cfg.data.slice_speakers, cfg.data.slice_utterances) == (0, 0)
    [published] = catalogue.known("speechbox").trials
    assert len(trials) == published.trials and trials.name == published.title


def test_selected_trials_keep_their_recordings_and_no_others():
    label = np.array([1, 0, 0, 1], np.uint8)
    enrol, test = np.array([0, 0, 3, 2], np.int32), np.array([1, 2, 1, 3], np.int32)
    trials = Trials(label, enrol, test, ["a/1", "a/2", "b/1", "b/2"], "mine")
    part = trials.select(np.array([False, False, True, True]))
    assert part.paths == ["a/2", "b/1", "b/2"] and part.label.tolist() == [0, 1]
    assert [(part.paths[i], part.paths[j]) for i, j in zip(part.enrol, part.test, strict=True)] == [
        ("b/2", "a/2"),
        ("b/1", "b/2"),
    ]
    assert part.enrol.dtype == part.test.dtype == np.int32 and part.name == "part of mine"
    everything = trials.select(np.ones(4, bool))
    assert everything.paths == trials.paths and everything.enrol.tolist() == enrol.tolist()
    assert len(trials.select(np.zeros(4, bool))) == 0


# --- reading


def test_recordings_are_read_from_the_shards():
    test = split("test").measured()
    row = int(np.argmax(test.seconds))
    wave = audio.read(test.path(row))
    assert not test.path(row).exists(), "a folder of files hides the shards"
    assert len(wave) / config.SAMPLE_RATE == pytest.approx(float(test.seconds[row]), abs=0.01)
    assert 0.01 < np.abs(wave).max() <= 1


# --- nothing else

SYNTHETIC = re.compile(
    r"(?<!w)espeak|synthetic[ -]+(voice|speech|speaker|utterance|corpus)|synthetic_speakers:"
    r"|speech[./]synthetic|corpus[\"'=: ]+synthetic|data make|make_corpus",
    re.IGNORECASE,
)
RECORDS = (  # of past runs; the figures are drawn again with the next classroom batch
    "oskdft/assets/classroom", "benchmarks/results/", "figures/",
)  # fmt: skip


def test_no_synthetic_voice_and_no_espeak():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    lines = []
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if name.startswith(RECORDS) or path == Path(__file__).resolve() or not path.is_file():
            continue
        content = path.read_bytes()
        if b"\0" in content:  # not text
            continue
        for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
            if SYNTHETIC.search(line):
                lines.append(f"{name}:{number}: {line.strip()[:80]}")
    assert lines == []
