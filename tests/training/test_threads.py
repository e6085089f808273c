"""A run that goes on with another number of threads rounds otherwise: said, by training and pre-training."""

import shutil

import pytest
import torch

from oskdft import config
from oskdft.training import run_folder, train
from oskdft.utils.files import read_json, write_json

pytestmark = pytest.mark.slow


@pytest.fixture
def interrupted(tmp_path):
    """A run whose last epoch is missing."""
    cfg = config.load("smoke").override(
        {"device": "cpu", "train.epochs": 2, "train.steps_per_epoch": 1}
    )
    train.train(cfg, tmp_path / "r")
    newest = max((tmp_path / "r/checkpoints").glob("state-*.json"))
    for path in (newest, newest.with_suffix(".safetensors"), tmp_path / "r/report.json"):
        path.unlink()
    shutil.rmtree(tmp_path / "r/last")
    return cfg, tmp_path / "r"


@pytest.mark.parametrize("stored", ["same", "other", "none"])
def test_another_number_of_threads_is_said(interrupted, capsys, stored):
    cfg, out = interrupted
    (state,) = (out / "checkpoints").glob("state-*.json")
    now = torch.get_num_threads()
    assert read_json(state)["threads"] == now
    if stored != "same":
        facts = read_json(state) | {"threads": now + 3}
        if stored == "none":
            del facts["threads"]  # as earlier versions wrote it
        write_json(state, facts)
    train.train(cfg, out, resume=True)
    said = capsys.readouterr().err
    line = f"warning: the run had {now + 3} threads and goes on with {now} (OMP_NUM_THREADS)"
    assert (line in said) == (stored == "other")


def test_a_state_of_a_pre_training_tells_its_threads_too(tmp_path):
    """Both write their states by one function."""
    position = {"stage": 0, "step": 1, "seconds": 0, "rows": [], "validations": [], "window": {}}
    (tmp_path / "checkpoints").mkdir()
    run_folder.write_state(tmp_path, position, {"a": torch.zeros(1)})
    assert run_folder.last_state(tmp_path)["threads"] == torch.get_num_threads()
