"""Averaged checkpoints: a hand-made mean, kept over a stop, and refused where there are too few epochs."""

import itertools

import numpy as np
import pytest
import torch

from oskdft import config
from oskdft.storage import model_folder, tensors
from oskdft.training import run_folder, stage, train


def smoke(**changes):
    named = {name.replace("__", "."): value for name, value in changes.items()}
    return config.load("smoke").override({"device": "cpu"} | named)


def snapshots(monkeypatch) -> list[dict[str, np.ndarray]]:
    """The weights at each end of an epoch, as they come."""
    seen, end_of_epoch = [], stage.StageRun.end_of_epoch

    def watched(self, step):
        seen.append({k: t.clone().numpy() for k, t in self.loop.objective.state_dict().items()})
        return end_of_epoch(self, step)

    monkeypatch.setattr(stage.StageRun, "end_of_epoch", watched)
    return seen


class Killed(Exception):
    """Stands for a kill."""


@pytest.mark.slow
def test_the_mean_of_the_last_epochs_over_a_kill(tmp_path, monkeypatch):
    """Stopped behind the second of four epochs: the same mean of the last two."""
    cfg = smoke(train__epochs=4, train__average=2)
    seen = snapshots(monkeypatch)
    report = train.train(cfg, tmp_path / "whole")
    monkeypatch.undo()
    average, last = (
        tensors.load_tensors(tmp_path / "whole" / name / "model.safetensors")
        for name in ("average", "last")
    )
    for name, weight in average.items():
        one, two = (epoch[f"model.{name}"] for epoch in seen[2:])
        if name.endswith("num_batches_tracked"):
            assert int(weight) == int(two)
        else:
            np.testing.assert_allclose(weight.numpy(), (one + two) / 2, rtol=1e-6, atol=1e-8)
    assert any(not torch.equal(average[name], last[name]) for name in last)
    described = model_folder.load_model(tmp_path / "whole/average")[2]
    assert described["averaged_steps"] == report["average"]["steps"] == [15, 20]
    assert described["dev_eer"] == report["average"]["dev_eer"]
    assert described["calibration"].keys() == {"full", "crops", "both"}

    save, calls = run_folder.save_state, itertools.count(1)

    def killed(*arguments):
        if next(calls) == 3:  # the weights of the third epoch are there, its state is not
            raise Killed
        save(*arguments)

    monkeypatch.setattr(run_folder, "save_state", killed)
    with pytest.raises(Killed):
        train.train(cfg, tmp_path / "cut")
    monkeypatch.undo()
    train.train(cfg, tmp_path / "cut", resume=True)
    again = tensors.load_tensors(tmp_path / "cut/average/model.safetensors")
    assert all(torch.equal(average[name], again[name]) for name in average)


def test_more_epochs_than_the_last_stage_has_are_refused(tmp_path):
    with pytest.raises(ValueError, match="train.average is 2; the last stage has 1 epochs"):
        train.train(smoke(strategy="precomp", train__average=2), tmp_path / "r")
    assert not (tmp_path / "r").exists()
