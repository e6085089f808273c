"""A training that starts from a trained student: what is taken over, what is refused, what is recorded."""

import json
import shutil

import pytest
import torch

from oskdft import config
from oskdft.storage import export, model_folder, tensors
from oskdft.training import stage, start, train


def smoke(**changes):
    named = {name.replace("__", "."): value for name, value in changes.items()}
    return config.load("smoke").override({"device": "cpu", "train.epochs": 1} | named)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A finished run."""
    out = tmp_path_factory.mktemp("base") / "run"
    train.train(smoke(), out)
    return out


class Seen(Exception):
    """Stops a run behind the set-up of its stage."""


def begin(cfg, out, monkeypatch):
    """The objective that a run starts with."""

    def caught(begun, state):
        raise Seen(begun.loop.objective)

    with monkeypatch.context() as patch:
        patch.setattr(stage.StageRun, "through", caught)
        with pytest.raises(Seen) as seen:
            train.train(cfg, out)
    return seen.value.args[0].state_dict()


def test_the_student_and_its_classifier_are_taken_with_the_same_speakers(
    base, tmp_path, monkeypatch, capsys
):
    """A large-margin stage: larger margin, longer crops, lower rate."""
    stage_ = {"loss__margin": 0.5, "data__crop_s": 2.0, "train__lr": 1e-4}
    begun = begin(smoke(model__init=str(base), **stage_), tmp_path / "r", monkeypatch)
    model = tensors.load_tensors(base / "best/model.safetensors")
    assert all(torch.equal(begun[f"model.{name}"], weight) for name, weight in model.items())
    [state] = (base / "checkpoints").glob("state-*.safetensors")
    last = tensors.load_tensors(state)  # one epoch: the last state is the best
    around = {name for name in begun if not name.startswith("model.")}
    assert {"sv.weight", "kd.heads.0.0.weight"} <= around
    assert all(torch.equal(begun[name], last[f"objective.{name}"]) for name in around)
    assert (
        f"start from {base}: encoder, adapters and back-end, speaker classifier"
        in capsys.readouterr().err
    )


def test_other_speakers_have_a_new_classifier(base, recordings, tmp_path, monkeypatch, capsys):
    own = {"data__corpus": "folder", "data__root": str(recordings), "loss__kd_layers": [2, 2]}
    begun = begin(smoke(model__init=str(base), **own), tmp_path / "r", monkeypatch)
    new = begin(smoke(**own), tmp_path / "new", monkeypatch)
    before = tensors.load_tensors(base / "best" / start.HEADS)
    assert begun["sv.weight"].shape != before["sv.weight"].shape
    around = [name for name in new if not name.startswith("model.")]
    assert all(torch.equal(begun[name], new[name]) for name in around)
    said = capsys.readouterr().err
    assert "back-end, a new speaker classifier, new KD heads\n" in said


def test_an_exported_student_starts_a_run_without_its_classifier(base, tmp_path, monkeypatch):
    export.export(base, "hf", tmp_path / "exported")
    begun = begin(smoke(model__init=str(tmp_path / "exported")), tmp_path / "r", monkeypatch)
    weights = tensors.load_tensors(base / "best/model.safetensors")
    assert all(torch.equal(begun[f"model.{name}"], weight) for name, weight in weights.items())
    before = tensors.load_tensors(base / "best" / start.HEADS)
    assert not torch.equal(begun["sv.weight"], before["sv.weight"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model__adapter_units": 4}, "model.adapter_units is 8 there, 4 here; take its settings"),
        ({"model__embedding": 16}, "model.embedding is 32 there, 16 here"),
        (
            {"strategy": "student-ft"},
            r"model.adapter_units is 8 there, 0 here; .* strategy, os-kdft",
        ),
        ({"switches__layer_weights": "raw"}, "switches.layer_weights is softmax there, raw here"),
        (
            {"model__teacher": "tiny-random-wavlm"},
            "model_type of model.teacher is hubert there, wavlm",
        ),
        ({"strategy": "scratch"}, "strategy scratch starts from random weights; leave out --init"),
    ],
)
def test_a_student_of_another_form_is_refused_by_its_setting(changes, said, base, tmp_path):
    with pytest.raises(ValueError, match=said):
        train.train(smoke(model__init=str(base), **changes), tmp_path / "r")
    with pytest.raises(ValueError, match="nowhere is no model"):
        train.train(smoke(model__init="nowhere"), tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_settings_without_effect_are_not_compared(base, tmp_path, monkeypatch):
    begin(smoke(model__init=str(base), model__backend_channels=64), tmp_path / "r", monkeypatch)


@pytest.mark.slow
def test_a_resumed_run_knows_its_start_and_takes_no_other(base, tmp_path, monkeypatch):
    """Stopped before its first checkpoint; then the same weights as a run that nobody touched."""
    cfg, out = smoke(model__init=str(base)), tmp_path / "cut"
    report = train.train(cfg, tmp_path / "whole")
    begin(cfg, out, monkeypatch)
    other = tmp_path / "other"
    shutil.copytree(base / "best", other)
    with pytest.raises(ValueError, match=r"model\.init is .*run there, .*other now"):
        train.train(smoke(model__init=str(other)), out, resume=True)
    again = train.train(smoke(), out, resume=True)
    assert again["config"]["model"]["init"] == str(base) and again["init"] == report["init"]
    assert again["init"]["model"] == str(base) and len(again["init"]["sha256"]) == 64
    whole, cut = (
        tensors.load_tensors(f / "last/model.safetensors") for f in (tmp_path / "whole", out)
    )
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    assert json.loads((out / "best/model.json").read_text())["config"]["model"]["init"] == str(base)


def test_the_shipped_student_starts_a_run(tmp_path, monkeypatch):
    own = config.from_dict(model_folder.load_model(start.find("classroom"))[2]["config"])
    cfg = own.override({"model.init": "classroom", "device": "cpu", "data.workers": 0})
    small = {"data.corpus": "speechbox", "data.slice_speakers": 8, "data.slice_utterances": 6}
    cfg = cfg.override(small | {"data.root": "", "data.dev_speakers": 2})
    begun = begin(cfg, tmp_path / "r", monkeypatch)
    weights = model_folder.load_model(start.find("classroom"))[0].state_dict()
    assert all(torch.equal(begun[f"model.{name}"], weight) for name, weight in weights.items())
