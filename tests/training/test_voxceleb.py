"""VoxCeleb as people have it: each tree in small, two steps of the published recipes, lists over both parts."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from oskdft import config
from oskdft.commands.cli import app
from oskdft.evaluation import score_file
from oskdft.evaluation.evaluate import evaluate
from oskdft.speech import audio, protocol
from oskdft.speech.corpora.trials import read_trials
from oskdft.training.train import train
from oskdft.utils.files import read_json

RNG = np.random.default_rng(0)
VOX1_DEV = ["id10001", "id10002", "id10003", "id10004", "id10005", "id10006"]
VOX1_TEST = ["id10270", "id10271"]
VOX2_DEV = ["id00012", "id00015", "id00016", "id00018", "id00019", "id00020"]
TREES = {  # of VoxCeleb1: where development and test speakers lie
    "plain": ("", ""),
    "wav": ("wav", "wav"),
    "dev and test": ("dev/wav", "test/wav"),
    "archive names": ("vox1_dev_wav/wav", "vox1_test_wav/wav"),
}
SMALL = {
    "data.dev_speakers": 2, "data.workers": 0, "train.epochs": 1, "train.steps_per_epoch": 2,
    "train.batch": 4, "model.student_layers": 1, "model.backend_channels": 32, "device": "cpu",
}  # fmt: skip


def speak(folder: Path, speakers: list[str], suffix: str = ".wav") -> list[str]:
    """Two videos of two utterances of 3.1 s for each speaker; returns speaker/video/file."""
    made = []
    for speaker in speakers:
        for video in ("aBc-1", "dEf_2"):
            for number in (1, 2):
                path = f"{speaker}/{video}/{number:05d}{suffix}"
                audio.write(folder / path, RNG.normal(0, 0.05, 49_600))
                made.append(path)
    return made


def a_list(path: Path, names: list[str], prefix: str = "") -> Path:
    """Every pair of recordings."""
    lines = [
        f"{int(a[:7] == b[:7])} {prefix}{a} {prefix}{b}"
        for i, a in enumerate(names)
        for b in names[:i]
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def vox1(root: Path, tree: str) -> Path:
    dev, test = TREES[tree]
    speak(root / dev, VOX1_DEV)
    a_list(root / "veri_test2.txt", speak(root / test, VOX1_TEST))
    return root


@pytest.mark.parametrize("tree", TREES)
def test_vox1_trains_and_evaluates_on_the_tree(tree, tmp_path):
    root = vox1(tmp_path / "voxceleb1", tree)
    changes = {
        "data.root": str(root),
        "model.teacher": "tiny-random-hubert",
        "loss.kd_layers": [1, 2],
    }
    cfg = config.load("vox1").override(SMALL | changes)
    report = train(cfg, tmp_path / "run")
    assert report["train_speakers"] == 4 and report["dev_speakers"] == 2
    trials, _ = protocol.read_test_list(cfg, root)
    assert len(trials) == 28 and {path[-23:-16] for path in trials.paths} <= set(VOX1_TEST)
    result = evaluate(tmp_path / "run", root / "veri_test2.txt", root, tta=False, device="cpu")
    assert result["trials"] == 28
    with_prefix = a_list(root / "with.txt", [p[-23:] for p in trials.paths], "wav/")
    assert (
        evaluate(tmp_path / "run", with_prefix, root, tta=False, device="cpu")["eer"]
        == result["eer"]
    )


def test_a_list_over_both_parts(tmp_path):
    """As Vox1-E and Vox1-H: development and test speakers together."""
    root = vox1(tmp_path / "voxceleb1", "dev and test")
    names = [f"{s}/aBc-1/00001.wav" for s in (*VOX1_DEV, *VOX1_TEST)]
    names += [f"{s}/dEf_2/00002.wav" for s in (*VOX1_DEV, *VOX1_TEST)]
    trials = read_trials(a_list(tmp_path / "list_test_hard2.txt", names), root)
    assert {path.partition("/")[0] for path in trials.paths} == {"dev", "test"}
    assert all((root / path).is_file() for path in trials.paths)


def test_wav_is_taken_before_aac(tmp_path):
    speak(tmp_path / "dev/wav", ["id00012"])
    speak(tmp_path / "dev/aac", ["id00012"])
    names = ["id00012/aBc-1/00001.m4a", "id00012/dEf_2/00001.m4a"]
    trials = read_trials(a_list(tmp_path / "mine.txt", names), tmp_path)
    assert all(path.startswith("dev/wav/") and path.endswith(".wav") for path in trials.paths)


def test_an_absent_recording_is_named(tmp_path):
    root = vox1(tmp_path / "voxceleb1", "wav")
    wrong = a_list(root / "wrong.txt", ["id10270/aBc-1/00001.wav", "id10299/x/00001.wav"])
    with pytest.raises(FileNotFoundError, match=r"1 of 2 recordings.*id10299/x/00001\.wav"):
        read_trials(wrong, root)


@pytest.mark.slow
def test_vox2_runs_its_published_mode(tmp_path, monkeypatch):
    """It chooses the checkpoint on Vox1-O, which lies beside it; noise and rooms are in $OSKDFT_DATA."""
    monkeypatch.setenv("OSKDFT_DATA", str(tmp_path))
    vox1(tmp_path / "voxceleb1", "dev and test")
    root = tmp_path / "voxceleb2"
    speak(root / "dev/wav", VOX2_DEV)
    for kind in ("noise", "speech", "music"):
        audio.write(tmp_path / "musan" / kind / "set" / "a.wav", RNG.normal(0, 0.05, 64_000))
    room = np.exp(-np.arange(1_600) / 200.0)
    audio.write(tmp_path / "rirs_noises" / "real" / "r.wav", 0.5 * room)
    changes = {"model.teacher": "tiny-random-wav2vec2", "model.student_layers": 1}
    cfg = config.load("vox2").override(SMALL | changes)
    assert cfg.mode == "published" and cfg.switches.checkpoint == "oracle"
    report = train(cfg, tmp_path / "run")
    assert set(report["validations"][0]) >= {"dev_eer", "oracle_eer"}
    scores = tmp_path / "scores.txt"
    evaluate(
        tmp_path / "run",
        tmp_path / "voxceleb1/veri_test2.txt",
        tmp_path / "voxceleb1",
        scores,
        tta=False,
    )
    assert len(score_file.read_scores(scores)[0]) == 28
    assert read_json(tmp_path / "run/report.json")["config"]["mode"] == "published"


@pytest.mark.parametrize("device", ["banana", "cuda:99", "mps", "gpu"])
def test_an_unknown_or_absent_device_is_refused_before_anything_is_written(device, tmp_path):
    cfg = config.load("smoke").override({"device": device})
    with pytest.raises(ValueError, match=f"device is '{device}'"):
        train(cfg, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_everything_that_is_missing_is_said_at_once(tmp_path, monkeypatch):
    """Weights, speech, noise and rooms; nothing is scanned, no folder is left behind."""
    monkeypatch.setenv("OSKDFT_DATA", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FileNotFoundError) as refused:
        train(config.load("vox2"), tmp_path / "run")
    said = str(refused.value)
    assert said.startswith("4 things are missing: (1) ") and "\n" not in said
    for what in ("wav2vec2-large-xlsr-53", "voxceleb2", "about 2,400 hours", "11 GB", "1.3 GB"):
        assert what in said
    assert not (tmp_path / "run").exists()


def test_a_list_that_the_recipe_needs_is_asked_for_at_the_start(tmp_path, monkeypatch):
    monkeypatch.setenv("OSKDFT_DATA", str(tmp_path))
    root = vox1(tmp_path / "voxceleb1", "wav")
    (root / "veri_test2.txt").unlink()
    changes = {"model.teacher": "tiny-random-hubert", "loss.kd_layers": [1, 2]}
    with pytest.raises(FileNotFoundError, match=r"oracle needs test trials, and .*veri_test2\.txt"):
        train(config.load("vox1").override(SMALL | changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_dry_run_checks_times_and_keeps_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["train", "--profile", "smoke", "--dry-run", "--json"])
    found = json.loads(result.stdout)
    assert found["train_speakers"] and found["step_s"] > 0 and sum(found["stages"].values()) > 0
    assert found["hours"] == pytest.approx(found["step_s"] * sum(found["stages"].values()) / 3600)
    assert not list(tmp_path.iterdir())
    said = CliRunner().invoke(
        app, ["train", "--profile", "smoke", "--dry-run", "--strategy", "precomp"]
    )
    assert "everything is here" in said.stdout and "h without validation" in said.stdout
    refused = CliRunner().invoke(app, ["train", "--profile", "smoke"])
    assert refused.exit_code == 2 and "name the run folder" in refused.stderr
