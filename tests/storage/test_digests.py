"""model.json binds the files beside it: each of them is compared where it is loaded."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import oskdft
from oskdft import config
from oskdft.evaluation import verifier
from oskdft.method import model
from oskdft.method.model import SpeakerModel
from oskdft.storage import export, pretrained
from oskdft.storage.domain import FILE as DOMAIN
from oskdft.storage.domain import Domain
from oskdft.storage.model_folder import annotate, save_model
from oskdft.storage.onnx_model import OnnxModel
from oskdft.training import start, train
from oskdft.utils.files import ASSETS, read_json, write_json

ANOTHER = "is not the file that model.json was written with"
WAVE = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)


def spoil(path: Path) -> bytes:
    """Change the last byte of a file that is no white space; returns the content it had."""
    whole = path.read_bytes()
    at = len(whole.rstrip()) - 1
    changed = b"]" if whole[at : at + 1] == b"}" else bytes([whole[at] ^ 1])
    path.write_bytes(whole[:at] + changed + whole[at + 1 :])
    return whole


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of two stages."""
    out = tmp_path_factory.mktemp("run") / "run"
    cfg = config.load("smoke").override(
        {"device": "cpu", "strategy": "postcomp", "train.epochs": 2, "train.steps_per_epoch": 2}
    )
    train.train(cfg, out)
    return cfg, out


@pytest.fixture
def best(run, tmp_path):
    """A copy of its best model, to be spoilt."""
    return Path(shutil.copytree(run[1] / "best", tmp_path / "best"))


def test_a_run_names_every_file_of_its_models(run):
    for name in ("best", "last"):
        described = read_json(run[1] / name / "model.json")
        files = {path.name for path in (run[1] / name).iterdir()} - {"model.json"}
        bound = set(described["files_sha256"]) | {"model.safetensors"}
        assert files == bound == {"model.safetensors", "encoder.json", start.HEADS, DOMAIN}
        assert len(described["weights_sha256"]) == 64


def test_a_changed_setting_of_the_encoder_is_noticed(best):
    """A valid one, with which the weights still fit: the states would be others."""
    path = best / "encoder.json"
    settings = json.loads(path.read_text())
    write_json(path, settings | {"layer_norm_eps": 0.1})
    with pytest.raises(ValueError, match=f"encoder.json {ANOTHER}"):
        oskdft.load(best, "cpu")
    stored = read_json(best / "model.json")
    stored.pop("files_sha256")  # as earlier versions wrote it
    write_json(best / "model.json", stored)
    assert oskdft.load(best, "cpu").embed(WAVE).shape == (32,)


def test_a_changed_domain_is_noticed_and_so_is_none(best, tmp_path):
    row = oskdft.load(best, "cpu").embed(WAVE)
    Domain(row - 1, np.eye(len(row)), 1e9).save(best)  # nothing lies outside
    for load in (
        lambda: oskdft.load(best, "cpu"),
        lambda: export.export(best, "onnx", tmp_path / "out"),
    ):
        with pytest.raises(ValueError, match=f"{DOMAIN} {ANOTHER}"):
            load()
    (best / DOMAIN).unlink()
    with pytest.raises(ValueError, match=f"{DOMAIN} is not there, and model.json was written"):
        oskdft.load(best, "cpu")


def test_a_changed_classifier_is_noticed_by_a_training_that_starts_from_it(run, best, tmp_path):
    cfg, _ = run
    spoil(best / start.HEADS)
    assert oskdft.load(best, "cpu").embed(WAVE).shape == (32,)  # an embedding needs no classifier
    again = cfg.override({"model.init": str(best)})
    with pytest.raises(ValueError, match=f"{start.HEADS} {ANOTHER}"):
        train.train(again, tmp_path / "r")


@pytest.mark.parametrize("name", ["model.safetensors", "encoder.json"])
def test_a_stage_before_is_compared_when_a_run_is_resumed(run, tmp_path, name):
    cfg, whole = run
    out = Path(shutil.copytree(whole, tmp_path / "r"))
    for later in ("report.json", "best", "last"):
        path = out / later
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if name == "encoder.json":
        write_json(
            out / "stage0" / name, read_json(out / "stage0" / name) | {"layer_norm_eps": 0.1}
        )
    else:
        spoil(out / "stage0" / name)
    with pytest.raises(ValueError, match=f"stage0/{name} {ANOTHER}"):
        train.train(cfg, out, resume=True)


@pytest.mark.parametrize(("to", "name"), [("onnx", "model.onnx"), ("int8", "model.onnx")])
def test_another_onnx_file_in_an_export_is_refused(model_folder, tmp_path, to, name):
    out = tmp_path / "out"
    export.export(model_folder, to, out)
    described = read_json(out / "model.json")
    assert (
        described["weights_sha256"]
        == read_json(Path(model_folder) / "model.json")["weights_sha256"]
    )
    assert oskdft.load(out).embed(WAVE).shape == (32,)
    spoil(out / name)
    with pytest.raises(ValueError, match=f"{name} {ANOTHER}"):
        oskdft.load(out)


@pytest.fixture
def both(model_folder, tmp_path):
    """A folder that holds the weights, and their ONNX form as model.json says."""
    export.export(model_folder, "hf", tmp_path / "both")
    export.export(model_folder, "onnx", tmp_path / "onnx")
    shutil.copy(tmp_path / "onnx/model.onnx", tmp_path / "both")
    return tmp_path / "both"


def test_an_onnx_form_is_used_beside_the_weights_that_it_was_made_from_alone(both, tmp_path):
    exact = oskdft.load(both, "cpu").embed(WAVE)
    alone = verifier.load(both, quick=True)  # nothing says what model.onnx was made from
    assert isinstance(alone.model, SpeakerModel) and np.array_equal(alone.embed(WAVE), exact)
    onnx = {
        "files_sha256": {
            "model.onnx": read_json(tmp_path / "onnx/model.json")["files_sha256"]["model.onnx"]
        }
    }
    annotate(both, onnx)
    quick = verifier.load(both, quick=True)
    assert isinstance(quick.model, OnnxModel) and np.abs(quick.embed(WAVE) - exact).max() < 1e-4
    cfg = config.load("smoke").override({"eval.crops": 5})
    torch.manual_seed(1)
    other = model.new_model(cfg, pretrained.load_encoder(cfg.model.teacher))
    torch.nn.init.normal_(other.backend.linear.weight)
    save_model(tmp_path / "other", other, cfg, [], {})
    export.export(tmp_path / "other", "onnx", tmp_path / "other onnx")
    shutil.copy(tmp_path / "other onnx/model.onnx", both)
    with pytest.raises(ValueError, match=f"model.onnx {ANOTHER}"):
        verifier.load(both, quick=True)
    shutil.copy(tmp_path / "onnx/model.onnx", both)
    shutil.copy(tmp_path / "other/model.safetensors", both)
    for quick in (True, False):
        with pytest.raises(ValueError, match=f"model.safetensors {ANOTHER}"):
            verifier.load(both, "cpu", quick)


def test_the_shipped_student_is_bound(tmp_path):
    described = read_json(ASSETS / "classroom" / "model.json")
    files = {path.name for path in (ASSETS / "classroom").iterdir()} - {"model.json", "README.md"}
    assert set(described["files_sha256"]) == files
    for name in files - {"encoder.json"}:
        folder = Path(shutil.copytree(ASSETS / "classroom", tmp_path / name))
        spoil(folder / name)
        with pytest.raises(ValueError, match=f"{name} {ANOTHER}"):
            verifier.load(folder, quick=True)
