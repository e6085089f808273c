"""Training with profile smoke: strategies, resume, logs, refusals."""

import csv
import itertools
import json
import socket
import subprocess
import sys
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from accelerate import tracking

from oskdft import config
from oskdft.evaluation import calibration
from oskdft.method import encoder, model, strategies, student, teacher
from oskdft.method.encoder import cnn
from oskdft.method.strategies import STRATEGIES
from oskdft.speech import audio, protocol
from oskdft.speech.corpora import tables
from oskdft.storage import model_folder, pretrained, tensors
from oskdft.training import loop, meter, plan, run, run_folder, stage, train, validation
from oskdft.training.loop import StageLoop, seed_all

ONE_STAGE = [name for name, plan in STRATEGIES.items() if len(plan) == 1]


def smoke(**changes):
    """Profile smoke with changes; two underscores stand for a point."""
    named = {name.replace("__", "."): value for name, value in changes.items()}
    return config.load("smoke").override({"device": "cpu"} | named)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return tensors.load_tensors(folder / "model.safetensors")


def with_effect(names) -> set[str]:
    """The weights that two computations of the same run share up to rounding.

    Softmax and batch normalisation cancel the other biases: their gradient is rounding, which Adam scales up.
    """
    without = {name for name in names if name.endswith("k_proj.bias")}
    return set(names) - without - {"backend.linear.bias", "backend.norm.running_mean"}


def rows(folder: Path) -> list[dict]:
    with open(folder / "metrics.csv") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "plain"
    return train.train(smoke(), out), out


@pytest.mark.parametrize("setting", ["data.crop_s", "eval.crop_s"])
def test_crops_too_short_for_the_encoder_are_refused_at_the_start(tmp_path, setting):
    """Ten frames are masked at once, and two have a deviation; a frame has 400 samples, a step 320."""
    least = {"data.crop_s": (9 * 320 + 400) / 16_000, "eval.crop_s": 720 / 16_000}[setting]
    with pytest.raises(ValueError, match=rf"{setting} is .* the encoder needs {least} s for"):
        train.train(smoke(**{setting: least - 1 / 16_000}), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    short = smoke(**{setting: least, "train.epochs": 1, "train.steps_per_epoch": 1})
    train.train(short, tmp_path / "run")


def test_run_folder_is_complete(finished):
    report, out = finished
    assert {p.name for p in out.iterdir()} >= {
        "config.yaml", "metrics.csv", "checkpoints", "best", "last", "report.json",
    }  # fmt: skip
    assert config.load(str(out / "config.yaml")) == config.from_dict(report["config"])
    assert json.loads((out / "report.json").read_text()) == report
    table = rows(out)
    assert [int(r["step"]) for r in table] == [5, 10]
    groups = {f"{kind}_{name}" for kind in ("lr", "grad") for name in ("body", "sv", "adapter")}
    figures = {"loss", "sv", "accuracy", "kd_excess", "kd_layer1", "kd_layer2", "utterances_per_s"}
    assert groups | figures <= table[0].keys()
    assert report["versions"]["torch"] == torch.__version__ and report["device"]


@pytest.mark.slow
def test_loss_falls(tmp_path):
    """On few speakers and enough steps both losses go down."""
    train.train(smoke(train__epochs=1, train__steps_per_epoch=60, train__lr=3e-3), tmp_path / "r")
    table = rows(tmp_path / "r")
    assert float(table[-1]["sv"]) < 0.8 * float(table[0]["sv"])
    assert float(table[-1]["kd_excess"]) < float(table[0]["kd_excess"])


def test_a_channel_of_recordings_elsewhere_trains_as_mono_recordings_of_the_corpus(tmp_path):
    """Kaldi tables with absolute paths of stereo recordings: weights and development EER are equal."""
    rng = np.random.default_rng(0)
    names = [f"{who}-{n}" for who in "abcdef" for n in range(3)]
    for kind in ("mono", "stereo"):
        root = tmp_path / kind
        (root / "train").mkdir(parents=True)
        speech = tmp_path / "elsewhere" if kind == "stereo" else ""
        lines = [f"{name} {speech}{'/' if speech else ''}{name}.wav\n" for name in names]
        (root / "train/wav.scp").write_text("".join(lines))
        (root / "train/utt2spk").write_text("".join(f"{name} {name[0]}\n" for name in names))
    (tmp_path / "elsewhere").mkdir()
    for name in names:
        wave = rng.normal(0, 0.1, (24_000, 2))
        soundfile.write(tmp_path / "elsewhere" / f"{name}.wav", wave, 16_000)
        soundfile.write(tmp_path / "mono" / f"{name}.wav", wave[:, 1], 16_000)
    for kind, channel in (("mono", 0), ("stereo", 2)):
        changes = {"data__corpus": "kaldi", "data__root": str(tmp_path / kind), "train__epochs": 1}
        changes |= {"data__slice_speakers": 0, "data__slice_utterances": 0}
        train.train(smoke(data__channel=channel, **changes), tmp_path / f"run-{kind}")
    mono, stereo = (weights(tmp_path / f"run-{kind}" / "last") for kind in ("mono", "stereo"))
    assert all(torch.equal(mono[name], stereo[name]) for name in mono)
    reports = [
        json.loads((tmp_path / f"run-{k}/report.json").read_text()) for k in ("mono", "stereo")
    ]
    assert reports[0]["validations"] == reports[1]["validations"] != []


@pytest.mark.slow
def test_same_seed_same_run_other_seed_other_run(finished, tmp_path):
    _, out = finished
    train.train(smoke(), tmp_path / "again")
    train.train(smoke(seed=1), tmp_path / "other")
    again, other = weights(tmp_path / "again/last"), weights(tmp_path / "other/last")
    first = weights(out / "last")
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first)


@pytest.mark.slow
def test_workers_change_nothing(finished, tmp_path):
    _, out = finished
    train.train(smoke(data__workers=2), tmp_path / "r")
    first, second = weights(out / "last"), weights(tmp_path / "r/last")
    assert all(torch.equal(first[k], second[k]) for k in first)


class Interrupted(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize(
    ("strategy", "after", "changes"),
    [
        ("os-kdft", 1, {}),
        ("precomp", 1, {}),
        ("postcomp", 3, {}),
        ("os-kdft", 1, {"train__accumulate": 2}),
    ],
)
@pytest.mark.slow
def test_resumed_equals_uninterrupted(strategy, after, changes, tmp_path, monkeypatch):
    """Killed behind a checkpoint, in any stage: same weights, same log."""
    cfg = smoke(strategy=strategy, **changes)
    train.train(cfg, tmp_path / "whole")
    original, calls = stage.StageRun.end_of_epoch, []

    def killed(self, step):
        stop = original(self, step)
        calls.append(step)
        if len(calls) == after:
            raise Interrupted
        return stop

    monkeypatch.setattr(stage.StageRun, "end_of_epoch", killed)
    with pytest.raises(Interrupted):
        train.train(cfg, tmp_path / "cut")
    monkeypatch.undo()
    train.train(cfg, tmp_path / "cut", resume=True)
    whole, cut = weights(tmp_path / "whole/last"), weights(tmp_path / "cut/last")
    assert all(torch.equal(whole[k], cut[k]) for k in whole)
    timing = {"utterances_per_s", "waiting_for_data"}
    kept = [
        [{k: v for k, v in r.items() if k not in timing} for r in rows(tmp_path / name)]
        for name in ("whole", "cut")
    ]
    assert kept[0] == kept[1]


def test_damaged_newest_state_falls_back(tmp_path, capsys):
    cfg = smoke(train__epochs=3, train__steps_per_epoch=1)
    train.train(cfg, tmp_path / "r")
    newest = sorted((tmp_path / "r/checkpoints").glob("*.safetensors"))[-1]
    newest.write_bytes(newest.read_bytes()[:100])
    place = run_folder.last_state(tmp_path / "r")
    assert place["step"] == 2
    assert "going back" in capsys.readouterr().err


@pytest.mark.parametrize(
    "strategy",
    [
        pytest.param(name, marks=() if name in ("os-kdft", "postcomp") else pytest.mark.slow)
        for name in STRATEGIES
    ],
)
def test_strategies_spend_the_same_student_updates(strategy, tmp_path):
    report = train.train(smoke(strategy=strategy), tmp_path / "r")
    plan, table = STRATEGIES[strategy], rows(tmp_path / "r")
    per_stage = {
        n: max(int(r["step"]) for r in table if int(r["stage"]) == n) for n in range(len(plan))
    }
    student = sum(steps for n, steps in per_stage.items() if plan[n].layers == "student")
    teacher = sum(steps for n, steps in per_stage.items() if plan[n].layers == "teacher")
    assert (student, teacher) == {"postcomp": (10, 10), "teacher-ft": (0, 10)}.get(
        strategy, (10, 0)
    )
    made, cfg, described = model_folder.load_model(tmp_path / "r")
    assert len(made.student.encoder.encoder.layers) == (2 if strategy == "teacher-ft" else 1)
    assert bool(made.student.adapters) == (strategy == "os-kdft")
    assert described["speakers"] == sorted(described["speakers"])
    assert described["calibration"].keys() == {"full", "crops", "both"}
    assert report["validations"]


def test_two_runs_do_not_mix(finished, tmp_path):
    _, out = finished
    with pytest.raises(ValueError, match="holds a run; add --resume"):
        train.train(smoke(), out)
    with pytest.raises(
        ValueError, match=r"another configuration: train\.lr is 0\.002 there, 0\.001 now"
    ):
        train.train(smoke(train__lr=0.001), out, resume=True)
    with pytest.raises(ValueError, match="no run to resume"):
        train.train(smoke(), tmp_path / "new", resume=True)
    # the corpus has moved, and there are more cores: no number depends on that
    moved = smoke(data__workers=3, data__root=str(tmp_path))
    run_folder.claim(out, moved, resume=True).release()


WANDB = """
class Run:
    def log(self, values, step):
        lines.append((step, values))
    def finish(self):
        lines.append("finished")
class config:
    def update(values, allow_val_change):
        lines.append(values)
lines = []
def init(**settings):
    lines.append(settings)
    return Run()
"""


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_tracker_that_is_not_installed_is_refused_first(name, tmp_path):
    if find_spec(name):
        pytest.skip(f"{name} is installed")
    with pytest.raises(ImportError, match=f"{name} not installed; do: pip install {name}"):
        train.train(smoke(train__tracker=name), tmp_path / "r")
    assert not (tmp_path / "r").exists()


@pytest.mark.slow
def test_a_tracker_receives_the_recipe_the_log_and_the_development_eer(tmp_path, monkeypatch):
    """A stand-in for wandb behind Accelerate's own tracker; steps rise over the stages of a run."""
    (tmp_path / "wandb.py").write_text(WANDB)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(
        tracking, "_available_trackers", [*tracking._available_trackers, tracking.LoggerType.WANDB]
    )
    stand_in = import_module("wandb")
    plan.plan(smoke(train__tracker="wandb"))
    assert stand_in.lines == [], "a plan tells nobody"
    cfg = smoke(train__tracker="wandb", strategy="precomp", data__workers=0, train__epochs=4)
    report = train.train(cfg, tmp_path / "r")
    begun, recipe, *lines, end = stand_in.lines
    assert begun == {"project": "oskdft", "name": "r", "dir": str(tmp_path / "r")}
    assert recipe["train.lr"] == 0.002 and "data.root" not in recipe and end == "finished"
    steps = [step for step, _ in lines]
    assert steps == sorted(steps) and steps[-1] == 20
    eers = [values["dev_eer"] for _, values in lines if "dev_eer" in values]
    assert eers == [entry["dev_eer"] for entry in report["validations"]] and eers
    assert not (tmp_path / "r/tensorboard").exists()


def test_tensorboard_shows_the_development_eer(finished):
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    report, out = finished
    events = event_accumulator.EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    eers = [event.value for event in events.Scalars("dev_eer")]
    assert eers == pytest.approx([entry["dev_eer"] for entry in report["validations"]])


def test_what_is_missing_is_said_before_the_folder_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("OSKDFT_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="oskdft data get speechocean762"):
        train.train(smoke(data__corpus="speechocean762", data__root=""), tmp_path / "r")
    with pytest.raises(ValueError, match="put its config.json and model.safetensors"):
        train.train(smoke(model__teacher="facebook/hubert-base-ls960"), tmp_path / "r")
    with pytest.raises(ValueError, match="the teacher has 2 layers"):
        train.train(smoke(loss__kd_layers=[1, 3]), tmp_path / "r")
    with pytest.raises(ValueError, match="no strategy 'magic'; choose os-kdft"):
        train.train(smoke(strategy="magic"), tmp_path / "r")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            config.to_dict(config.load("vox2"))["augment"],
            "oskdft data get musan.*augment.noise_root",
        ),
        ({"rir_root": "rirs_noises"}, "oskdft data get rirs_noises.*augment.rir_root"),
        ({"noise_root": "nowhere"}, "augment.noise_root=nowhere is not a folder"),
        ({"data.kd_corpus": "librispeech"}, "openslr.org/12.*data.kd_root"),
        (
            {"data.kd_corpus": "folder", "data.kd_root": "nowhere"},
            r"correct the root \(data.kd_root",
        ),
    ],
)
def test_noise_rooms_and_second_corpus_are_asked_for_first(changes, said, tmp_path, monkeypatch):
    monkeypatch.setenv("OSKDFT_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "load_encoder", lambda name: pytest.fail("the teacher was loaded"))
    cfg = smoke().override({k if "." in k else f"augment.{k}": v for k, v in changes.items()})
    with pytest.raises(FileNotFoundError, match=said):
        train.train(cfg, tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_noise_of_a_known_corpus_is_read_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setenv("OSKDFT_DATA", str(tmp_path))
    folder = tmp_path / "musan" / "noise"
    audio.write(folder / "rain.wav", np.full(16_000, 0.1, np.float32))
    cfg = smoke(augment__noise_root="musan")
    assert len(protocol.prepare(cfg).augment.clips["noise"]) == 1
    (folder / "wind.wav").write_bytes(b"no audio")
    with pytest.raises(ValueError, match=r"1 files cannot be used: .*wind\.wav"):
        protocol.prepare(cfg)


def times_from_step(monkeypatch, factor, first, last=10**9):
    """Multiply the sum of the losses by a factor in the steps from ``first`` to ``last``."""
    original, steps = loop.total_loss, itertools.count(1)

    def scaled(parts, weight):
        total = original(parts, weight)
        return total * factor if first <= next(steps) <= last else total

    monkeypatch.setattr(loop, "total_loss", scaled)


def test_loss_that_is_not_finite_stops_and_keeps_the_state(tmp_path, monkeypatch):
    times_from_step(monkeypatch, float("nan"), 6)
    with pytest.raises(ValueError, match="the loss is nan at step 6 of stage 'one step'"):
        train.train(smoke(), tmp_path / "r")
    assert run_folder.last_state(tmp_path / "r")["step"] == 5


@pytest.mark.slow
def test_a_loss_that_explodes_but_stays_finite_is_warned_of(tmp_path, monkeypatch, capsys):
    times_from_step(monkeypatch, 100, 6, 10)
    train.train(smoke(train__epochs=3), tmp_path / "r")
    warnings = [line for line in capsys.readouterr().err.splitlines() if "diverges" in line]
    assert len(warnings) == 1
    assert "the mean loss of stage 'one step' is " in warnings[0] and "in epoch 2 " in warnings[0]


def test_early_stop(tmp_path, monkeypatch):
    monkeypatch.setattr(validation.Best, "measure", lambda self, model: {"dev_eer": 0.5})
    report = train.train(
        smoke(train__epochs=9, train__steps_per_epoch=1, train__patience=2), tmp_path / "r"
    )
    assert [v["epoch"] for v in report["validations"]] == [1, 2, 3]


def test_oracle_checkpoint_is_labelled(finished, tmp_path):
    """Surprise 11: as released, the test trials choose the checkpoint; the log says so."""
    short = {"train__epochs": 1, "train__steps_per_epoch": 1}
    report = train.train(smoke(switches__checkpoint="oracle", **short), tmp_path / "r")
    assert report["validations"]
    assert all({"oracle_eer", "dev_eer"} <= v.keys() for v in report["validations"])
    assert all("oracle_eer" not in v for v in finished[0]["validations"])


def test_rebuilt_optimiser_differs(finished, tmp_path):
    """Surprise 6: moments lost at each epoch."""
    _, out = finished
    train.train(smoke(switches__optimiser="rebuilt"), tmp_path / "r")
    first, second = weights(out / "last"), weights(tmp_path / "r/last")
    assert any(not torch.equal(first[k], second[k]) for k in first)


def test_second_corpus_is_read_or_ignored(recordings, tmp_path):
    """Surprise 10: as released the KD corpus is chosen and then ignored."""
    base = {"data__kd_corpus": "folder", "data__kd_root": str(recordings)}
    found = {}
    for choice in ("target", "as_chosen"):
        cfg = smoke(switches__kd_data=choice, **base)
        cfg = cfg.override({"augment.probability": 0.0})
        quiet = protocol.dataset(cfg, protocol.prepare(cfg), laps=4)[0, 0]
        found[choice] = torch.equal(quiet[0], quiet[1])
    assert found == {"target": True, "as_chosen": False}
    short = {"train__epochs": 1, "train__steps_per_epoch": 1}
    train.train(smoke(switches__kd_data="as_chosen", **base, **short), tmp_path / "r")


def test_development_speakers_are_nobody_else():
    made = protocol.prepare(smoke())
    whole = tables.load_corpus("speechbox")
    labels = dict(zip(whole.names(), tables.labels_of("speechbox", whole)["speaker"], strict=True))
    test = {labels[path] for path in made.test_trials.paths}
    train_, dev = set(made.train.speakers), set(made.dev.speakers)
    assert not (train_ & dev or train_ & test or dev & test)
    assert (len(train_), len(dev)) == (6, 2) and 2 <= len(test) <= 8
    other = protocol.prepare(smoke(seed=5))
    assert other.dev.speakers == made.dev.speakers  # whatever the seed of the run


def test_few_labels():
    made = protocol.prepare(smoke(data__labelled_speakers=2))
    assert len(made.train.speakers) == 2
    with pytest.raises(ValueError, match="labelled_speakers is 99"):
        protocol.prepare(smoke(data__labelled_speakers=99))


def test_the_second_corpus_is_heard_without_its_test_and_development_speakers():
    second = {"data__kd_corpus": "speechbox", "switches__kd_data": "as_chosen"}
    made = protocol.prepare(smoke(data__labelled_speakers=2, **second))
    alone = protocol.prepare(smoke())
    assert len(made.train.speakers) == 2 and len(made.kd.speakers) == 6
    assert list(made.kd.names()) == list(alone.train.names())
    root = protocol.find_root("speechbox", "", "data.root")
    other = smoke(data__corpus="folder", data__root=str(root), **second)
    elsewhere = root / ".." / root.name  # the same folder in other words
    again = protocol.kd_corpus(smoke(data__kd_root=str(elsewhere), **second))
    assert list(again.names()) == list(alone.train.names())
    heard = protocol.kd_corpus(other)  # the run trains on another corpus
    assert (len(heard.speakers), len(heard)) == (125, 2500)


@pytest.mark.parametrize("heard", ["train", "dev", "kd"])
def test_a_test_list_with_recordings_that_the_run_hears_is_refused(heard, recordings, tmp_path):
    second = {"data__kd_corpus": "folder", "data__kd_root": str(recordings)}
    whole = {"data__slice_speakers": 0, "data__slice_utterances": 0}
    cfg = smoke(switches__kd_data="as_chosen", **second, **whole)
    found = getattr(protocol.prepare(cfg), heard)
    listed = tmp_path / "trials.txt"
    listed.write_text(f"1 {found.name(0)} {found.name(1)}\n0 {found.name(0)} {found.name(-1)}\n")
    elsewhere = found.root / ".." / found.root.name  # the same folder in other words
    given = {"data.trials": str(listed), "data.trials_root": str(elsewhere)}
    with pytest.raises(ValueError, match="3 recordings of the test list are heard in training"):
        protocol.prepare(cfg.override(given))


def test_a_folder_that_holds_a_run_is_refused_before_the_corpus_is_listed(tmp_path, monkeypatch):
    (tmp_path / "config.yaml").write_text(config.to_yaml(smoke()))
    monkeypatch.setattr(protocol, "prepare", lambda cfg: pytest.fail("the corpus was listed"))
    with pytest.raises(ValueError, match="holds a run; add --resume to go on"):
        train.train(smoke(), tmp_path)
    with pytest.raises(ValueError, match="seed is 0 there, 1 now; --profile .*config.yaml has its"):
        train.train(smoke(seed=1), tmp_path, resume=True)


FROZEN = {"train__freeze_cnn": True, "augment__probability": 0.5}
OTHERS = [
    pytest.param(n, marks=pytest.mark.slow) for n in ("os-kdft2", "postcomp", "joint-no-adapter")
]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["os-kdft", *OTHERS])
def test_frozen_cnn_runs_once_for_what_both_hear_and_changes_no_number(
    strategy, recordings, tmp_path, monkeypatch
):
    """Rows without augmentation share the teacher's features; the others are computed alone."""
    second = {}
    if strategy == "os-kdft2":  # the distillation path hears the teacher's crop
        second = {"data__kd_corpus": "folder", "data__kd_root": str(recordings)}
    cfg, counted = smoke(strategy=strategy, **FROZEN, **second), {}
    for shared in (True, False):
        rows_seen = counted[shared] = []
        front_end = encoder.cnn

        def counting(encoder, wave, *rest, seen=rows_seen, front_end=front_end):
            seen.append(len(wave))
            return front_end(encoder, wave, *rest)

        with monkeypatch.context() as patch:
            for module in (encoder, student, teacher):
                patch.setattr(module, "cnn", counting)
            if not shared:
                patch.setattr(teacher, "same_cnn", lambda *_: False)
            train.train(cfg, tmp_path / str(shared))
    assert sum(counted[True]) < sum(counted[False])
    ours, theirs = weights(tmp_path / "True/last"), weights(tmp_path / "False/last")
    for name in with_effect(
        ours
    ):  # rounding, which Adam scales up; an update moves a weight by 1e-3
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-5, rtol=1e-5, msg=name)
    start = pretrained.load_encoder(cfg.model.teacher).feature_extractor.state_dict()
    for name, value in start.items():
        assert torch.equal(ours[f"student.encoder.feature_extractor.{name}"], value)


@pytest.mark.parametrize("strategy", ["student-ft", "joint-no-adapter"])
def test_frozen_cnn_has_no_backward_pass(strategy):
    cfg = smoke(strategy=strategy, **FROZEN)
    run = SimpleNamespace(task=protocol.prepare(cfg), validations=[], teacher=None, start=None)
    run.teacher = teacher.Teacher(pretrained.load_encoder(cfg.model.teacher))
    first = strategies.stages(cfg)[0]
    cfg = strategies.stage_config(cfg, first, 2)
    loop = StageLoop(run, cfg, first, 0, None)
    encoder = loop.model.student.encoder
    assert not cnn(encoder, torch.randn(1, 8_000)).requires_grad
    trained = {id(p) for group in loop.optimiser.param_groups for p in group["params"]}
    assert trained and not trained & {id(p) for p in encoder.feature_extractor.parameters()}


def test_standardised_targets_change_what_is_imitated_and_nothing_else(finished, tmp_path):
    raw, made = finished[1], tmp_path / "standardised"
    train.train(smoke(loss__kd_targets="standardised"), made)
    one, other = (run_folder.read_metrics(out / "metrics.csv")[0] for out in (raw, made))
    kd = [name for name in one if name.startswith("kd_")]
    assert kd and all(one[name] != other[name] for name in kd)
    assert one["lr_body"] == other["lr_body"] and one["sv"] == pytest.approx(other["sv"], rel=0.1)


def test_scratch_has_no_cnn_to_freeze(tmp_path):
    with pytest.raises(ValueError, match="the CNN of strategy scratch random; set it to false"):
        train.train(smoke(strategy="scratch", **FROZEN), tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_the_log_names_the_bottleneck(tmp_path, capsys, monkeypatch):
    cfg = smoke(train__epochs=1, train__steps_per_epoch=1)
    train.train(cfg, tmp_path / "short")
    assert "bottleneck" not in capsys.readouterr().err
    monkeypatch.setattr(train, "WORTH_TUNING_S", 0.0)
    report = train.train(cfg, tmp_path / "r")
    assert meter.bottleneck(report["waiting_for_data"], 0) in capsys.readouterr().err
    assert meter.bottleneck(0.1, 0).startswith("the model is the bottleneck: 10 % of the time")
    line = meter.bottleneck(0.41, 3)
    assert line.startswith("data is the bottleneck: 41 % of the time went into waiting for it; ")
    assert "raise data.workers (3 on " in line


@pytest.mark.slow
def test_validation_is_not_waiting_for_data(tmp_path, monkeypatch):
    measure, slow_s = validation.Best.measure, 3.0

    def slowly(best, made):
        time.sleep(slow_s)
        return measure(best, made)

    monkeypatch.setattr(validation.Best, "measure", slowly)
    cfg = smoke(train__epochs=3)
    report = train.train(cfg, tmp_path / "r")
    read = run_folder.read_metrics(tmp_path / "r" / "metrics.csv")
    assert len(report["validations"]) == len(read) == 3, "a row and a validation each epoch"
    utterances = cfg.train.batch * cfg.train.steps_per_epoch
    spent = [utterances / row["utterances_per_s"] for row in read]
    assert sum(spent) < report["seconds"] - 3 * slow_s
    waited = [row["waiting_for_data"] * s for row, s in zip(read, spent, strict=True)]
    assert max(waited) < slow_s


def test_seeds_and_ranks():
    """Surprise 13: the same noise on all ranks, or one of its own."""
    draws = []
    for words in ((0, 1, 2), (0, 1, 2), (0, 1, 3)):
        loop.seed_all(*words)
        draws.append((torch.rand(1).item(), np.random.random()))
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.parametrize("noise", ["same_on_all_ranks", "per_rank"])
def test_noise_of_the_student_on_two_ranks(noise):
    """Surprise 13 on random weights: SpecAugment and dropout of two processes, alike or not."""
    cfg = config.load("smoke").override({"switches.student_noise": noise})
    made = model.new_model(cfg, pretrained.load_encoder(cfg.model.teacher)).train()
    wave = torch.randn(2, 16_000, generator=torch.Generator().manual_seed(0))
    states = []
    for rank in (0, 1):
        run = SimpleNamespace(accelerator=SimpleNamespace(process_index=rank))
        loop = SimpleNamespace(cfg=cfg, run=run)
        seed_all(0, 0, 7, StageLoop.noise_rank(loop))
        states.append(made.student(wave))
    assert torch.equal(*states) == (noise == "same_on_all_ranks")


@pytest.mark.parametrize("choice", ["whole_second", "any_sample"])
def test_crops_start_as_the_switch_says(choice, recordings):
    """Surprise 7, on WAV files: a crop of an Ogg file may start some milliseconds off."""
    own = {"data__corpus": "folder", "data__root": str(recordings)}
    cfg = smoke(switches__crop_start=choice, **own)
    data = protocol.dataset(cfg, protocol.prepare(cfg), laps=9)
    longest = int(np.argmax(data.utterances.seconds))
    whole = audio.read(data.utterances.path(longest))
    crops = [data[lap, longest][0].numpy() for lap in range(9)]
    seconds = range(0, len(whole), config.SAMPLE_RATE)
    on_second = [any(np.array_equal(whole[s : s + len(c)], c) for s in seconds) for c in crops]
    assert all(on_second) == (choice == "whole_second")


def test_odd_corpora_can_be_trained_on(tmp_path):
    """A speaker with one utterance, clips shorter than a crop, classes absent from an epoch."""
    rng = np.random.default_rng(0)
    lengths = {"a": [0.6], "b": [0.5, 0.7], "c": [2.0, 1.5], "d": [1.2, 3.0], "e": [0.8]}
    for who, seconds in lengths.items():
        for number, s in enumerate(seconds):
            wave = rng.normal(0, 0.1, round(s * config.SAMPLE_RATE))
            audio.write(tmp_path / f"corpus/{who}/{number}.wav", wave)
    own = {"data__corpus": "folder", "data__root": str(tmp_path / "corpus")}
    cfg = smoke(**own, train__steps_per_epoch=1, train__batch=2)
    made = protocol.prepare(cfg)
    assert made.test_trials is None and made.dev.counts().tolist() == [2, 1]
    assert made.train.counts().tolist() == [1, 2, 2], "3 classes, 2 utterances an epoch"
    report = train.train(cfg, tmp_path / "r")
    assert report["train_speakers"] == 3 and report["dev_trials"] < 1000
    assert all(np.isfinite(float(row["loss"])) for row in rows(tmp_path / "r"))


def test_unknown_strategy_lists_the_known_ones():
    with pytest.raises(ValueError, match="choose os-kdft, precomp, postcomp"):
        strategies.stages(config.load("smoke").override({"strategy": "x"}))


TWO_PROCESSES = """
import sys
from pathlib import Path
import torch
from torch import distributed
from oskdft import config
from oskdft.storage import pretrained
from oskdft.training import run, train

load = pretrained.load_encoder


def without_chance(name):
    if distributed.is_initialized():
        backend = distributed.group.WORLD._get_backend(torch.device("cpu"))
        assert backend.options._timeout == run.PATIENCE
    made = load(name)
    made.config.mask_time_prob = 0.0
    for part in ("hidden", "attention", "activation"):
        setattr(made.config, f"{part}_dropout", 0.0)
    made.config.layerdrop = made.config.feat_proj_dropout = 0.0
    return made


run.load_encoder = without_chance
for parts in map(int, sys.argv[2:]):
    changes = {"device": "cpu", "train.epochs": 1, "augment.probability": 0.0}
    changes |= {"train.steps_per_epoch": 20 // parts, "train.accumulate": parts}
    train.train(config.load("smoke").override(changes), Path(sys.argv[1], f"parts {parts}"))
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_python(*arguments) -> None:
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    """Same global batch: weights, log and calibration agree after some steps (gloo, CPU)."""
    script = tmp_path / "run.py"
    script.write_text(TWO_PROCESSES)
    run_python(script, tmp_path / "one", 1, 2)
    for parts in (1, 2):  # a process group serves one training
        launch = ["-m", "torch.distributed.run", "--nproc-per-node", 2]
        launch += ["--master-addr", "127.0.0.1", "--master-port", free_port()]
        run_python(*launch, script, tmp_path / "two", parts)
    for parts in (1, 2):
        ours, theirs = (tmp_path / name / f"parts {parts}" for name in ("one", "two"))
        first, second = weights(ours / "last"), weights(theirs / "last")
        for name in with_effect(first):
            torch.testing.assert_close(first[name], second[name], atol=1e-4, rtol=0, msg=name)
        logs = [run_folder.read_metrics(folder / "metrics.csv") for folder in (ours, theirs)]
        for one, two in zip(*logs, strict=True):
            for name in one.keys() - {"utterances_per_s", "waiting_for_data"}:
                assert two[name] == pytest.approx(one[name], rel=1e-3, abs=1e-4), name
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as the two processes have
        loaded, cfg, described = model_folder.load_model(theirs / "last")
        fitted, _ = calibration.calibration(loaded, protocol.prepare(cfg), cfg)
        torch.set_num_threads(threads)
        assert described["calibration"] == fitted, "shared by two: bit by bit what one computes"
