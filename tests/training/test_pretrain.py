"""Pre-training with tiny recipes: both families, an exact continuation, what is heard."""

import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from oskdft import config
from oskdft.method import teacher
from oskdft.speech import audio
from oskdft.speech.corpora import tables
from oskdft.storage import pretrained
from oskdft.training import run_folder
from oskdft.training.pretraining import data, objectives, pretrain
from oskdft.training.pretraining.objectives import PretrainConfig, load_recipe, utterance_contrast

TINY = PretrainConfig(
    name="tiny", width=16, layers=2, heads=2, cnn=8, steps=4, utterances=3, crop_s=0.5, warmup=0.25,
    clusters=4, relabel_at=0.5, relabel_layer=1, contrast_layer=1,
)  # fmt: skip
FAMILIES = ("hubert", "wav2vec2")
RATES = {"cnn": 0.4, "1": 0.3}


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """Six recordings, one of them shorter than a crop."""
    root, rng = tmp_path_factory.mktemp("speech"), np.random.default_rng(0)
    paths = [root / f"{number}.wav" for number in range(6)]
    for path, seconds in zip(paths, (0.3, 0.8, 1.0, 1.2, 1.5, 2.0), strict=True):
        audio.write(path, rng.normal(0, 0.1, round(seconds * config.SAMPLE_RATE)))
    return data.Speech(paths)


def train(recipe, out, speech, judge=lambda encoder: RATES):
    return pretrain.pretrain(recipe, out, lambda: (speech, [], judge))


@pytest.fixture(scope="module")
def whole(speech, tmp_path_factory):
    """The report of an uninterrupted run."""
    return train(TINY, tmp_path_factory.mktemp("whole"), speech)


def tensors(folder):
    return run_folder.last_state(folder)["tensors"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_teacher_is_made_and_reloads(family, speech, tmp_path):
    report = train(replace(TINY, family=family), tmp_path, speech)
    assert report == json.loads((tmp_path / "pretrain.json").read_text())
    assert [entry["step"] for entry in report["log"]] == [1, 2, 3, 4]
    own = {"hubert": {"accuracy"}, "wav2vec2": {"contrastive", "diversity"}}[family]
    for entry in report["log"]:
        assert entry.keys() == {"step", "loss", "utterance_contrast", "zero_shot_eer"} | own
        assert np.isfinite(entry["loss"]) and entry["zero_shot_eer"] == RATES
    assert report["speech_s"] == round(speech.seconds()) == 7
    encoder = pretrained.load_encoder(str(tmp_path))
    states = teacher.Teacher(encoder)(torch.zeros(1, 8000))
    assert states.shape == (3, 1, 24, 16) and states.isfinite().all()
    trained = run_folder.select(
        tensors(tmp_path), {"hubert": "model.encoder.", "wav2vec2": "model.model.wav2vec2."}[family]
    )
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, trained[name].half().float()), name


class Interrupted(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize(
    ("family", "after"), [("hubert", 1), ("hubert", 2), ("hubert", 3), ("wav2vec2", 2)]
)
def test_continued_equals_uninterrupted(family, after, speech, tmp_path, monkeypatch):
    """Cut before, at and after the new labels."""
    recipe, save = replace(TINY, family=family), pretrain.Loop.save
    whole = train(recipe, tmp_path / "whole", speech)

    def cut(self):
        save(self)
        if self.report["step"] == after:
            raise Interrupted

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(pretrain.Loop, "save", cut)
        train(recipe, tmp_path / "cut", speech)
    torch.rand(7)  # whatever happened in between
    report = train(recipe, tmp_path / "cut", speech)
    assert report["log"] == whole["log"]
    first, second = tensors(tmp_path / "whole"), tensors(tmp_path / "cut")
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize(
    "file", ["model.safetensors", "pretrain.json", "state.safetensors", "state.json"]
)
def test_a_cut_between_two_files_of_a_save_is_repaired(
    file, step, whole, speech, tmp_path, monkeypatch
):
    """The state is written last, so the log never lags behind it."""
    written, replace_ = [], os.replace

    def cut(source, target):
        written.append(re.sub(r"-\d+", "", Path(target).name))
        if written.count(file) == step:
            raise Interrupted
        replace_(source, target)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(os, "replace", cut)
        train(TINY, tmp_path, speech)
    assert train(TINY, tmp_path, speech)["log"] == whole["log"]


@pytest.fixture(scope="module")
def forty(speech, tmp_path_factory):
    """Folders of uninterrupted runs of 40 steps; the layers are judged every second step."""

    @functools.cache
    def make(family: str) -> Path:
        out = tmp_path_factory.mktemp(family)
        train(replace(TINY, family=family, steps=40), out, speech)
        return out

    return make


@pytest.mark.parametrize(
    ("family", "moment", "reached"),
    [("hubert", "a step", 17), ("hubert", "the new labels", 20), ("hubert", "a judgement", 18),
     ("wav2vec2", "a step", 17)],
)  # fmt: skip
@pytest.mark.slow
def test_a_signal_saves_the_state_and_nothing_is_lost(
    family, moment, reached, forty, speech, tmp_path, monkeypatch, capsys
):
    """Inside a step it counts behind it; the rest need not be waited for, and is done again."""
    recipe, whole, judged = replace(TINY, family=family, steps=40), forty(family), []
    step, prepare = pretrain._step, objectives.HubertPretrainer.prepare

    def signalled(model, optimiser, batch, at):
        if moment == "a step" and at == 16:
            signal.raise_signal(signal.SIGTERM)
        return step(model, optimiser, batch, at)

    def labels(self, waves, own_features):
        if moment == "the new labels" and own_features:
            signal.raise_signal(signal.SIGTERM)
        prepare(self, waves, own_features)

    def judge(encoder):
        if moment == "a judgement" and judged.append(1) is None and len(judged) == 9:
            signal.raise_signal(signal.SIGTERM)
        return RATES

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(pretrain, "_step", signalled)
        patch.setattr(objectives.HubertPretrainer, "prepare", labels)
        train(recipe, tmp_path, speech, judge)
    assert stop.value.code == 143 and run_folder.last_state(tmp_path)["step"] == reached
    assert f"stopped after step {reached}; the same command goes on" in capsys.readouterr().err
    log = json.loads((whole / "pretrain.json").read_text())["log"]
    assert train(recipe, tmp_path, speech)["log"] == log
    first, second = tensors(whole), tensors(tmp_path)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def test_a_damaged_state_falls_back_to_the_one_before(whole, speech, tmp_path, capsys):
    train(TINY, tmp_path, speech)
    newest = sorted((tmp_path / "checkpoints").glob("*.safetensors"))[-1]
    newest.write_bytes(newest.read_bytes()[:-1] + b"x")
    assert train(TINY, tmp_path, speech)["log"] == whole["log"]
    assert "is damaged (its checksum" in capsys.readouterr().err


def test_a_second_writer_is_refused_before_it_reads_anything(tmp_path):
    code = "import sys\nfrom pathlib import Path\nfrom oskdft.utils.lock import Lock\n"
    code += f"lock = Lock(Path({str(tmp_path)!r}))\nprint('locked', flush=True)\nsys.stdin.read()"
    first = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout.readline() == "locked\n"
    with pytest.raises(ValueError, match=rf"being written by process {first.pid} on .*wait for it"):
        pretrain.pretrain(TINY, tmp_path, lambda: pytest.fail("it went on"))
    first.communicate("")


def test_room_is_asked_for_before_anything_is_read(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000))
    with pytest.raises(OSError, match=r"0\.00 GB free, the run needs 0\.0\d GB"):
        pretrain.pretrain(TINY, tmp_path, lambda: pytest.fail("it went on"))


def test_a_folder_that_vanishes_stops_the_run(speech, tmp_path):
    def judge(encoder):
        if (tmp_path / "out/pretrain.json").exists():
            (tmp_path / "out").rename(tmp_path / "away")
        return RATES

    with pytest.raises(FileNotFoundError, match="has vanished .*bring the folder back"):
        train(TINY, tmp_path / "out", speech, judge)
    assert run_folder.last_state(tmp_path / "away")["step"] == 1 and not (tmp_path / "out").exists()


def test_another_recipe_in_the_same_folder_is_refused(speech, tmp_path):
    train(replace(TINY, steps=1), tmp_path, speech)
    with pytest.raises(ValueError, match="holds a teacher of another recipe; choose another --out"):
        train(replace(TINY, steps=1, lr=1e-4), tmp_path, speech)


def test_weight_zero_leaves_the_contrast_out(speech, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "utterance_contrast", lambda *_: pytest.fail("it was computed"))
    report = train(replace(TINY, steps=2, contrast_weight=0.0), tmp_path, speech)
    assert "utterance_contrast" not in report["log"][-1]


def test_loss_that_is_not_finite_stops_and_keeps_the_state(speech, tmp_path, monkeypatch):
    values = iter([0.5, float("nan")])
    monkeypatch.setattr(
        pretrain, "utterance_contrast", lambda hidden, *_: hidden.sum() * 0 + next(values)
    )
    with pytest.raises(ValueError, match="loss is nan at step 2; lower lr"):
        train(TINY, tmp_path, speech)
    assert run_folder.last_state(tmp_path)["step"] == 1


def test_batches_follow_from_seed_and_step(speech):
    batches = data.CropPairs(TINY, speech, [np.ones(4000, np.float32)])
    wave, rows, starts = batches(3)
    assert wave.shape == (6, 8000) and wave.dtype == torch.float32
    assert rows[:3].tolist() == rows[3:].tolist() and len(set(rows)) == 3
    assert not torch.equal(wave[:3], wave[3:]), "two crops of different noise"
    again, other = batches(3), batches(4)
    assert torch.equal(wave, again[0]) and starts.tolist() == again[2].tolist()
    assert not torch.equal(wave, other[0])


def test_labels_stay_with_their_frames(speech):
    """A crop that starts at frame f is labelled from f on; a short clip repeats."""
    assert objectives._span(np.arange(5), 3, 4).tolist() == [3, 4, 0, 1]
    for wave in speech.waves:
        frames = (len(wave) - 400) // 320 + 1
        assert objectives.mfcc(wave).shape == (frames, 39)


def contrast_by_hand(hidden, heard, temperature):
    pooled = []
    for row, kept in zip(hidden, heard, strict=True):
        frames = row[kept]
        pooled.append(np.concatenate([frames.mean(0), np.sqrt(frames.var(0) + 1e-6)]))
    pooled = np.stack(pooled)
    pooled = (pooled - pooled.mean(0)) / (pooled.std(0, ddof=1) + 1e-4)
    pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
    losses = []
    for i in range(len(pooled)):
        partner = (i + len(pooled) // 2) % len(pooled)
        others = [j for j in range(len(pooled)) if j != i]
        logits = pooled[others] @ pooled[i] / temperature
        losses.append(np.log(np.exp(logits).sum()) - logits[others.index(partner)])
    return np.mean(losses)


def test_contrast_by_hand_with_masked_frames():
    hidden = np.random.default_rng(0).normal(size=(6, 5, 3))
    heard = np.ones((6, 5), bool)
    heard[1, :2] = heard[4, 3:] = False
    got = utterance_contrast(torch.from_numpy(hidden), torch.from_numpy(heard), 0.2).item()
    assert got == pytest.approx(contrast_by_hand(hidden, heard, 0.2), rel=1e-6)
    hidden[~heard] = 99.0  # the model's guess is not heard
    again = utterance_contrast(torch.from_numpy(hidden), torch.from_numpy(heard), 0.2).item()
    assert again == pytest.approx(got)


def test_test_speakers_are_never_read(tmp_path, monkeypatch):
    """Neither to train on nor to judge; development speakers only judge."""
    monkeypatch.setenv("OSKDFT_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    kept, extra = (tmp_path / "librispeech_cohort" / who / "1.flac" for who in ("13", "14"))
    for path in (kept, extra):
        path.parent.mkdir(parents=True)
        path.touch()
    trained, judged = [], []
    monkeypatch.setattr(pretrain, "Speech", trained.extend)
    monkeypatch.setattr(audio, "read", judged.append)
    pretrain.hear(replace(TINY, dev_speakers=15))
    everyone = tables.load_corpus("speechbox", split="train")
    speaker = {
        everyone.path(row): everyone.speakers[label] for row, label in enumerate(everyone.speaker)
    }
    assert kept not in trained, "the first of five excerpts is kept for development"
    assert extra in trained and set(trained) - {extra} < speaker.keys()
    assert len(judged) > 15 and set(judged) < speaker.keys(), "a recording of another split"
    train_speakers = {speaker[path] for path in trained if path != extra}
    dev_speakers = {speaker[path] for path in judged}
    assert (len(train_speakers), len(dev_speakers)) == (110, 15)
    assert not train_speakers & dev_speakers


@pytest.mark.parametrize("name", objectives.CONFIGS)
def test_recipes_load(name):
    assert load_recipe(name).name == name


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("step: 5", "unknown setting step; did you mean steps"),
        ("lr: fast", "lr is 'fast'; write a number"),
        ("lr: 1e-4", None),
        ("family: bert", "family is 'bert'; choose hubert, wav2vec2"),
        ("precision: half", "precision is 'half'; choose float32, bf16"),
        ("layers: 3", "must be at most layers \\(3\\)"),
        ("steps: 0", "steps is 0; it must be more than 0"),
        ("warmup: 0", "warmup is 0.0; it must be more than 0"),
        ("a: [", "is not valid YAML"),
    ],
)
def test_bad_recipes_are_one_line(tmp_path, text, says):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    if says is None:  # YAML reads it as text
        assert load_recipe(str(path)).lr == 1e-4
        return
    with pytest.raises(ValueError, match=says) as caught:
        load_recipe(str(path))
    assert "\n" not in str(caught.value) and "recipe.yaml" in str(caught.value)


def test_no_speech_is_said():
    with pytest.raises(ValueError, match="no speech to pre-train on; give at least one recording"):
        data.Speech([])
