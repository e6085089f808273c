"""The example of docs/extend.md, outside the repository: trained, saved, loaded, evaluated, exported.

And its safety: a model that names code is refused before anything of that code is imported.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import oskdft
from oskdft import config
from oskdft.commands.cli import app
from oskdft.lessons import evidence
from oskdft.method import strategies
from oskdft.storage import export
from oskdft.storage.model_folder import load_model
from oskdft.training import train
from oskdft.utils import named_code

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
SETTINGS = {
    "strategy": "mykit:PLAN",
    "model.backend": "mykit:MeanOfLastState",
    "loss.kd": "mykit:CosineToTwoStates",
    "loss.sv": "mykit:ScaledCosine",
    "train.steps_per_epoch": 1,
    "device": "cpu",
}
WAVE = np.random.default_rng(0).normal(0, 0.1, 20_000).astype(np.float32)


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> Path:
    """A folder with the example as mykit.py; importing it leaves a mark."""
    folder = tmp_path_factory.mktemp("kit")
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "docs/extend.md").read_text(), re.DOTALL)
    assert 35 <= len([line for line in code.splitlines() if line.strip()]) <= 50
    mark = f"\n\nopen({str(folder / 'imported')!r}, 'a').close()\n"
    (folder / "mykit.py").write_text(code + mark)
    return folder


@pytest.fixture(scope="module")
def trained(kit) -> Path:
    """Two steps, one of each stage, by the command, in a process of its own outside the repository."""
    words = [f"{name}={value}" for name, value in SETTINGS.items()]
    out = kit / "runs" / "mine"
    environment = os.environ | {"PYTHONPATH": f"{kit}{os.pathsep}{ROOT}"}
    environment.pop(named_code.TRUST, None)
    command = [sys.executable, "-m", "oskdft", "train", "--profile", "smoke", "--out", str(out)]
    done = subprocess.run(
        [*command, *words], cwd=kit, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (kit / "imported").unlink()
    return out


@pytest.fixture
def stranger(kit, monkeypatch):
    """This process knows the folder, has imported nothing of it and consented to nothing."""
    monkeypatch.syspath_prepend(kit)
    monkeypatch.setattr(named_code, "_consented", set())
    monkeypatch.delenv(named_code.TRUST, raising=False)
    monkeypatch.delitem(sys.modules, "mykit", raising=False)
    (kit / "imported").unlink(missing_ok=True)
    yield monkeypatch
    sys.modules.pop("mykit", None)


def test_the_example_is_trained_on_both_losses(trained):
    report = json.loads((trained / "report.json").read_text())
    assert report["config"]["model"]["backend"] == "mykit:MeanOfLastState"
    rows = (trained / "metrics.csv").read_text().splitlines()
    assert len(rows) == 3 and {"kd_layer1", "kd_layer2", "sv"} <= set(rows[0].split(","))


def test_loaded_evaluated_and_exported_with_trust(trained, kit, stranger, recordings, tmp_path):
    stranger.setenv(named_code.TRUST, "other.kit, mykit")
    verifier = oskdft.load(trained, "cpu")
    assert type(verifier.model.backend).__name__ == "MeanOfLastState"
    words = ["--trials", str(recordings / "trials.txt"), "--root", str(recordings), "--json"]
    done = CliRunner().invoke(app, ["evaluate", "--model", str(trained), *words])
    assert done.exit_code == 0 and 0 <= json.loads(done.stdout)["eer"] <= 1
    done = CliRunner().invoke(
        app, ["export", "--model", str(trained), "--to", "onnx", "--out", str(tmp_path / "onnx")]
    )
    assert done.exit_code == 0, done.exception
    oskdft_folder = tmp_path / "hf"
    export.export(trained, "hf", oskdft_folder)
    assert type(oskdft.load(oskdft_folder, "cpu").model.backend).__name__ == "MeanOfLastState"
    assert (
        "code that this folder does not hold: `mykit:Mean"
        in (oskdft_folder / "README.md").read_text()
    )
    # a stranger's ONNX file is run without any of the code that its description names
    stranger.delenv(named_code.TRUST)
    stranger.delitem(sys.modules, "mykit")
    (kit / "imported").unlink()
    exported = oskdft.load(tmp_path / "onnx")
    assert np.abs(exported.embed(WAVE) - verifier.embed(WAVE)).max() < 1e-4
    assert not (kit / "imported").exists()


def test_a_model_that_names_code_is_refused_before_it_is_imported(
    trained, kit, stranger, recordings, tmp_path
):
    stranger.setenv(named_code.TRUST, "mykit.other,mykitt")  # of other modules
    a, b = sorted((recordings / "s0").iterdir())[:2]
    words = {
        "evaluate": ["--trials", str(recordings / "trials.txt"), "--root", str(recordings)],
        "export": ["--to", "hf", "--out", str(tmp_path / "hf")],
        "verify": [str(a), str(b)],
        "embed": [str(a), "--out", str(tmp_path / "a.npz")],
    }
    for command, rest in words.items():
        done = CliRunner().invoke(app, [command, "--model", str(trained), *rest])
        message = str(done.exception)
        assert isinstance(done.exception, ValueError), command
        assert "model.backend is mykit:MeanOfLastState, code outside oskdft" in message
        assert message.endswith("if you trust it, set OSKDFT_TRUST=mykit") and "\n" not in message
    with pytest.raises(ValueError, match="OSKDFT_TRUST=mykit"):
        load_model(trained)
    # tables of a stranger's sweep ask for the stages of its runs
    cfg = config.load(str(trained / "config.yaml"))
    with pytest.raises(ValueError, match="strategy is mykit:PLAN.*OSKDFT_TRUST=mykit"):
        evidence.updates(type("Run", (), {"cfg": cfg, "rows": []}))
    assert not (kit / "imported").exists() and "mykit" not in sys.modules
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_run_of_ones_own_is_resumed_to_the_same_weights(kit, stranger, tmp_path):
    """Starting the run and resuming it are consent; states of both losses are stored."""
    cfg = config.load("smoke").override(SETTINGS | {"train.epochs": 4, "train.validate_every": 4})
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train.train(cfg, whole)

    class Stop(Exception):
        pass

    def stop(*_):
        raise Stop

    with stranger.context() as patch:
        patch.setattr(train, "_finish", stop)  # as killed behind the last state
        with pytest.raises(Stop):
            train.train(cfg, cut)
    states = sorted(path.name for path in (cut / "checkpoints").glob("state-*.json"))
    assert states == ["state-001-000000001.json", "state-001-000000002.json"]
    (cut / "checkpoints" / states[-1]).unlink()  # the last step is done again
    stranger.setattr(named_code, "_consented", set())
    train.train(cfg, cut, resume=True)
    one, other = (load_model(folder / "last")[0].state_dict() for folder in (whole, cut))
    assert all(torch.allclose(one[name], other[name], atol=1e-6) for name in one)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("model.backend", "mykit:Absent", "mykit.py has no Absent; correct it"),
        ("model.backend", "absent.kit:Pool", "absent.kit cannot be imported .*PYTHONPATH"),
        ("strategy", "mykit:ScaledCosine", "mykit:ScaledCosine must be a tuple of Stage objects"),
    ],
)
def test_names_that_lead_nowhere(setting, value, message, stranger, tmp_path):
    cfg = config.load("smoke").override({setting: value})
    with pytest.raises(ValueError, match=message):
        train.train(cfg, tmp_path / "run")


@pytest.mark.parametrize(
    "value", ["resnet", "mykit", "my kit:Pool", "mykit:", "../kit:Pool", "a.:B"]
)
def test_other_words_are_no_names_of_code(value):
    with pytest.raises(ValueError, match="choose ecapa, linear, tft or package.module:Class"):
        config.load("smoke").override({"model.backend": value})


def test_a_function_of_the_configuration_may_give_the_stages(stranger, tmp_path):
    (tmp_path / "plans.py").write_text(
        "from oskdft.method.strategies import STRATEGIES\n"
        "def plan(cfg):\n    return list(STRATEGIES['precomp'])[:cfg.seed]\n"
    )
    stranger.syspath_prepend(tmp_path)
    stranger.setenv(named_code.TRUST, "plans")
    cfg = config.Config(strategy="plans:plan", seed=2)
    assert strategies.stages(cfg) == strategies.STRATEGIES["precomp"]
    with pytest.raises(ValueError, match="plans:plan must be a tuple of Stage objects"):
        strategies.stages(cfg.override({"seed": 0}))
