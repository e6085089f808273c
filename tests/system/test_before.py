"""A run folder, exported models and a figure of the version before load as before (fixtures/before)."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import oskdft
from oskdft import config
from oskdft.lessons.figures import store
from oskdft.speech import audio
from oskdft.training import run_folder, train
from oskdft.utils.files import read_json

BEFORE = Path(__file__).parents[1] / "fixtures" / "before"
EMBEDDINGS = np.load(BEFORE / "embeddings.npz")
TOLERANCE = 1e-5
RESUMED_TOLERANCE = 1e-3  # five updates by Adam magnify the rounding of another processor


def embedding(folder: Path) -> np.ndarray:
    """What a model makes of the two tones that the stored embeddings belong to."""
    time = np.arange(24_000) / config.SAMPLE_RATE
    wave = 0.2 * np.sin(2 * np.pi * 130 * time) + 0.1 * np.sin(2 * np.pi * 701 * time)
    return oskdft.load(folder, "cpu").embed(wave.astype(np.float32))


def write_voices(root: Path) -> None:
    """The corpus of the run: SPEAKER/SESSION/FILE.wav of five speakers of hum and noise."""
    rng = np.random.default_rng(0)
    time = np.arange(24_000) / config.SAMPLE_RATE
    for speaker in range(5):
        hum = np.sin(2 * np.pi * (100 + 60 * speaker) * time)
        for number in range(4):
            wave = 0.2 * hum + 0.05 * rng.standard_normal(len(time))
            audio.write(root / f"s{speaker}" / str(number % 2) / f"{number}.wav", wave)


@pytest.mark.parametrize("name", ["run", "hf", "onnx"])
def test_a_model_gives_the_embedding_that_it_gave(name):
    assert np.abs(embedding(BEFORE / name) - EMBEDDINGS[name]).max() <= TOLERANCE


def test_a_run_folder_is_read():
    described = read_json(BEFORE / "run" / "best" / "model.json")
    cfg = config.load(str(BEFORE / "run" / "config.yaml"))
    stored = described["config"]
    assert stored == read_json(BEFORE / "run/report.json")["config"]
    assert config.from_dict(stored) == cfg
    retired = {name: stored["data"].pop(name) for name in config.DataConfig.RETIRED}
    assert retired == {"speakers": 8, "utterances": 6}  # sizes of a corpus that was generated
    now, before = config.flat(config.to_dict(cfg)), config.flat(stored)
    later = {name: value for name, value in now.items() if name not in before}
    assert later == {
        "data.slice_speakers": 0, "data.slice_utterances": 0, "data.channel": 0, "model.init": "",
        "model.init_layers": [], "train.accumulate": 1, "train.checkpointing": False,
        "train.compile": False, "train.average": 0, "train.tracker": "auto",
    }  # fmt: skip
    assert now == before | later
    rows = run_folder.read_metrics(BEFORE / "run" / "metrics.csv")
    assert [row["step"] for row in rows] == [5, 10] and rows[1]["loss"] == 9.22429
    state = run_folder.last_state(BEFORE / "run")
    assert (state["stage"], state["step"]) == (0, 5) and len(state["tensors"]) > 200


def test_an_interrupted_run_is_finished(tmp_path, monkeypatch):
    """From the state after its first epoch: the same log and the same last model."""
    monkeypatch.chdir(tmp_path)
    write_voices(tmp_path / "voices")
    out = tmp_path / "run"
    shutil.copytree(BEFORE / "run", out)
    (out / "report.json").unlink()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in the order of the run before
    try:
        train.train(config.load(str(out / "config.yaml")), out, resume=True)
    finally:
        torch.set_num_threads(threads)
    assert np.abs(embedding(out / "last") - EMBEDDINGS["resumed"]).max() <= RESUMED_TOLERANCE
    rows, rows_before = (
        run_folder.read_metrics(folder / "metrics.csv") for folder in (out, BEFORE / "run")
    )
    losses = ("step", "loss", "sv", "kd_excess")
    for row, row_before in zip(rows, rows_before, strict=True):
        assert [row[key] for key in losses] == pytest.approx(
            [row_before[key] for key in losses], rel=RESUMED_TOLERANCE
        )


def test_a_figure_is_drawn_from_its_numbers():
    record = store.read(BEFORE / "curves.json")
    figure = store.redraw(record)
    assert figure.alt == record["alt"]
    drawn = {tuple(line.get_ydata()) for line in figure.axes[0].lines}
    for name in record["data"]["y"]:
        assert tuple(row[name] for row in record["data"]["rows"]) in drawn
