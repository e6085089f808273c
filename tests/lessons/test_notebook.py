"""What the notebooks share, on smoke in a temporary folder."""

import dataclasses
import shutil
import time

import numpy as np
import pytest

from oskdft import config
from oskdft.lessons import kept
from oskdft.lessons import lesson as module
from oskdft.lessons.figures.store import SMOKE
from oskdft.lessons.lesson import ROOT, Lesson, setup
from oskdft.training import stage
from oskdft.training.background import Worker
from oskdft.utils.console import percent, table
from oskdft.utils.files import read_json


@pytest.fixture(scope="module")
def lesson(tmp_path_factory) -> Lesson:
    out = tmp_path_factory.mktemp("lesson")
    return setup("04", "smoke", device="cpu", output_dir=str(out), save_figures=True)


@pytest.fixture(scope="module")
def run(lesson):
    return lesson.train()


def test_setup_says_what_runs_where(capsys, tmp_path):
    made = setup("01", "smoke", seed=3, device="cpu", output_dir=str(tmp_path))
    printed = capsys.readouterr().out
    assert "profile smoke · seed 3 · cpu" in printed and SMOKE in printed
    assert made.smoke and made.cfg.seed == 3 and made.out == tmp_path
    classroom = setup("01", "classroom", device="cpu", output_dir=str(tmp_path))
    assert SMOKE not in capsys.readouterr().out and not classroom.smoke


def test_paths_start_at_the_project(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    made = setup("01", "smoke", device="cpu", data_root="voices", output_dir="here")
    assert made.out == ROOT / "here" and made.cfg.data.root == str(ROOT / "voices")
    assert setup("01", "smoke", device="cpu").out == ROOT / "runs" / "smoke"
    assert not list(tmp_path.iterdir())


def test_setup_refuses_in_one_line():
    with pytest.raises(ValueError, match="no profile 'smok'; choose smoke, classroom"):
        setup("01", "smok")
    with pytest.raises(ValueError, match="device is 'gpu'; choose auto, cpu or cuda"):
        setup("01", "smoke", device="gpu")


@pytest.mark.slow
def test_train_finds_its_run_again(lesson, run, capsys):
    assert run == lesson.folder({}) and read_json(run / "report.json")["seconds"] > 0
    written = (run / "report.json").stat().st_mtime_ns
    assert lesson.train() == run and (run / "report.json").stat().st_mtime_ns == written
    assert "found os-kdft, seed 0" in capsys.readouterr().err


ROWS = {"os-kdft": {}, "scratch": {"strategy": "scratch"}}


@pytest.mark.slow
def test_a_sweep_trains_what_is_missing_and_is_found_again(lesson, capsys):
    assert lesson.swept("pair") is None
    made = lesson.sweep("pair", ROWS, steps=2)
    assert {row["row"] for row in made["rows"]} == set(ROWS) and made["reference"] == "os-kdft"
    assert all(row["updates"] == {"student": 2, "teacher": 0} for row in made["rows"])
    assert "2 rows, 1 seeds" in capsys.readouterr().err
    again = lesson.swept("pair")
    assert [row["seeds"] for row in again["rows"]] == [row["seeds"] for row in made["rows"]]


@pytest.mark.slow
def test_a_failed_run_of_a_sweep_is_named(lesson):
    rows = ROWS | {"absent": {"model.teacher": "/no/such/folder"}}
    with pytest.raises(ValueError, match="absent_0: .*no/such/folder"):
        lesson.sweep("broken", rows, steps=2)


@pytest.fixture
def packed(lesson, tmp_path, monkeypatch):
    """A package that keeps a sweep and a run of the profile smoke."""
    lesson.sweep("pair", ROWS, steps=2)
    (folder,) = {path.parents[1] for path in lesson.out.glob("sweeps/pair-*/*/test.json")}
    kept.keep(folder, tmp_path / "pair")
    shutil.copytree(lesson.folder({}), tmp_path / "run")
    monkeypatch.setattr(kept, "EVIDENCE", tmp_path)
    monkeypatch.setattr(module, "KEPT_RUN", tmp_path / "run")
    return tmp_path


@pytest.mark.slow
def test_kept_runs_are_shown_and_not_trained(lesson, run, packed, tmp_path_factory, capsys):
    other = setup("05", "smoke", device="cpu", output_dir=str(tmp_path_factory.mktemp("other")))
    shown = other.sweep("pair", ROWS)
    assert [row["seeds"] for row in shown["rows"]] == [
        row["seeds"] for row in lesson.swept("pair")["rows"]
    ]
    found = other.train()
    told = {name: row | {"eval.tta": "full"} for name, row in ROWS.items()}  # as the grid has it
    assert other.sweep("pair", told)["seeds"] == shown["seeds"]
    assert not list(other.out.glob("sweeps/*")) and found.name == "os-kdft-kept"
    assert (found / "best/model.safetensors").read_bytes() == (
        run / "best/model.safetensors"
    ).read_bytes()
    assert "retrain = True trains it again" in capsys.readouterr().err
    assert other.folder({"seed": 1}).name != found.name


@pytest.mark.slow
def test_other_rows_than_the_kept_ones_are_trained_with_its_changes(packed, tmp_path_factory):
    out = str(tmp_path_factory.mktemp("more"))
    other = setup("05", "smoke", device="cpu", output_dir=out)
    assert other.base("pair").train.steps_per_epoch == 1  # of the kept grid: 2 updates, 2 epochs
    made = other.sweep("pair", {"os-kdft": {}, "constant": {"loss.kd_weight": 0.1}}, steps=2)
    assert {row["row"] for row in made["rows"]} == {"os-kdft", "constant"}
    assert len(list(other.out.glob("sweeps/pair-*/*/test.json"))) == 2


@pytest.mark.slow
def test_retrain_trains_what_is_kept(packed, tmp_path_factory):
    out = str(tmp_path_factory.mktemp("again"))
    again = setup("05", "smoke", device="cpu", output_dir=out, retrain=True)
    made = again.sweep("pair", ROWS)  # seeds and updates of the kept grid
    assert {row["row"] for row in made["rows"]} == set(ROWS)
    assert all(row["updates"]["student"] == 2 for row in made["rows"])
    assert (
        list(again.out.glob("sweeps/pair-*/scratch_0/best"))
        and again.folder({}).name != "os-kdft-kept"
    )


def test_one_configuration_one_folder(lesson):
    folders = {lesson.folder(c) for c in ({}, {"seed": 1}, {"strategy": "scratch"})}
    assert len(folders) == 3 and lesson.folder({"seed": 0}) == lesson.folder({})
    with pytest.raises(ValueError, match="unknown setting train.eposch; did you mean epochs"):
        lesson.folder({"train.eposch": 1})


def test_interrupted_training_goes_on(lesson, monkeypatch):
    """Killed after the first epoch; the next call finishes the same folder."""
    original = stage.StageRun.end_of_epoch

    def killed(self, step):
        original(self, step)
        raise KeyboardInterrupt

    monkeypatch.setattr(stage.StageRun, "end_of_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        lesson.train({"strategy": "scratch"})
    monkeypatch.undo()
    folder = lesson.folder({"strategy": "scratch"})
    assert not (folder / "report.json").is_file()
    assert lesson.train({"strategy": "scratch"}) == folder
    assert [row["step"] for row in lesson.rows(folder)] == [5, 10]


def test_result_is_computed_once(lesson, run):
    first = lesson.result(run)
    assert len(first.scores) == len(first.labels) == len(lesson.speech.test_trials)
    assert first.report["trials"] == len(first.scores) and 0 <= first.report["eer"] <= 1
    full = lesson.result(run, "last", tta=False)
    assert not np.array_equal(full.scores, first.scores)
    written = (run / "test-best.json").stat().st_mtime_ns
    again = lesson.result(run)
    assert (run / "test-best.json").stat().st_mtime_ns == written
    assert np.array_equal(again.scores, first.scores) and again.report == first.report


def test_evaluation_that_was_cut_off_is_done_again(lesson, run):
    (run / "test-last.txt").write_text("1 0.5\n")
    made = lesson.result(run, "last")
    assert len(made.scores) == len(lesson.speech.test_trials)


def test_result_without_test_trials(lesson, run, monkeypatch):
    monkeypatch.setitem(
        lesson.__dict__, "speech", dataclasses.replace(lesson.speech, test_trials=None)
    )
    with pytest.raises(ValueError, match="speechbox has no test trials; set data.trials"):
        lesson.result(run)


def test_show_keeps_figure_and_numbers(lesson, capsys):
    lesson.show("sizes", "bars", "Two bars.", values={"a": 1.0, "b": 2.0}, unit="MB")
    printed = capsys.readouterr().out
    assert "Two bars." in printed and SMOKE in printed and "a 1 and b 2" in printed
    kept = lesson.out / "figures" / "04_sizes_smoke"
    assert kept.with_suffix(".png").is_file() and kept.with_suffix(".svg").is_file()
    record = read_json(kept.with_suffix(".json"))
    assert record["data"]["values"] == {"a": 1.0, "b": 2.0} and record["seed"] == 0


def test_figures_are_kept_on_request_only(tmp_path):
    quiet = setup("04", "smoke", device="cpu", output_dir=str(tmp_path))
    quiet.show("sizes", "bars", "One bar.", values={"a": 1.0}, unit="MB")
    assert not (tmp_path / "figures").exists()


def test_a_prediction_stands_beside_what_happened(lesson, capsys):
    lesson.happened("the first\n  one", "It was the second.", "Because of 3.")
    said = "you predicted: the first one\nwhat happened: It was the second. Because of 3.\n"
    assert capsys.readouterr().out == f"{said}({SMOKE})\n"
    Lesson("04", dataclasses.replace(lesson.cfg, name="desk"), lesson.out, False).happened("", "4.")
    nothing = "you predicted: (nothing was written down)\nwhat happened: 4.\n"
    assert capsys.readouterr().out == nothing


def test_compare_under_smoke_compares_nothing(lesson, capsys):
    rows = [("EER", "0.98 %", "abstract", "12.00 %"), ("size", "-76.2 %", "abstract", "x")]
    lesson.compare(rows, seeds=2)
    printed = " ".join(capsys.readouterr().out.split())  # lines are broken
    assert "12.00 %" not in printed and printed.count("not comparable") == 3
    trials = len(lesson.speech.test_trials)
    label = (
        f"{trials:,} trials of speechbox (part of speechbox, same gender and age group), 2 seeds"
    )
    assert label in printed and label in read_json(lesson.out / "tables" / "04.json")["note"]
    saved = read_json(lesson.out / "tables" / "04.json")
    assert [row[1] for row in saved["rows"]] == ["0.98 %", "-76.2 %"]


def test_compare_of_another_profile_prints_ours(lesson, tmp_path, capsys):
    other = dataclasses.replace(lesson.cfg, name="classroom")
    Lesson("04", other, tmp_path, save_figures=False).compare(
        [("EER", "0.98 %", "abstract", "12.00 %")]
    )
    printed = capsys.readouterr().out
    assert "12.00 %" in printed and "profile classroom" in printed and "1 seed;" in printed


def test_table_and_percent():
    assert table([("a", "b"), (1, "two"), ("", "")]).splitlines() == [
        "a | b",
        "--+----",
        "1 | two",
        "  |",
    ]
    assert percent(0.1234) == "12.34 %"


@pytest.mark.slow
def test_a_training_that_is_killed_says_what_killed_it(tmp_path):
    worker = Worker(config.load("smoke").override({"train.steps_per_epoch": 200}), tmp_path / "run")
    worker.start()
    while not (tmp_path / "run" / "config.yaml").is_file():
        time.sleep(0.1)
        assert worker.process.poll() is None, worker.last_line()
    worker.process.kill()
    worker.wait()
    why = worker.why()
    assert "killed by SIGKILL, most likely because the memory was full" in why
    assert "goes on from the last checkpoint" in why and str(worker.log) in why and "\n" not in why
