"""Grids, their runs on this machine, and the table of a sweep."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from oskdft.commands import cli
from oskdft.config import load, to_dict, to_yaml
from oskdft.evaluation import bootstrap, metrics, score_file
from oskdft.lessons import evidence, kept
from oskdft.speech import protocol
from oskdft.storage.tensors import load_tensors
from oskdft.training.grid import Grid, read_grid
from oskdft.training.sweep import attempt, sweep
from oskdft.utils.files import read_json, write_json

ROWS = "rows: {os-kdft: {}, student-ft: {strategy: student-ft}}"
SMALL = f"profile: smoke\nchanges: {{train.epochs: 1, train.steps_per_epoch: 2, eval.tta: full}}\n{ROWS}\n"


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def swept(grid: Path, *place, **options) -> dict:
    return sweep(read_grid(grid), *place, **options)


def weights(out: Path) -> dict[str, str]:
    """Digest of the best weights of every run."""
    files = sorted(out.glob("*/best/model.safetensors"))
    return {f.parts[-3]: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A sweep of two rows and two seeds, and one row that cannot run."""
    folder = tmp_path_factory.mktemp("sweep")
    text = SMALL.replace("rows: {", "rows: {absent: {data.root: /no/such/folder}, ")
    grid = written(folder / "grid.yaml", f"{text}seeds: [0, 1]\nreference: student-ft\n")
    return grid, folder / "out", swept(grid, folder / "out")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rows: {a: {train.lrr: 1}}", r"row 'a' of the grid: unknown setting train\.lrr"),
        ("changes: {loss.margin: wide}\nrows: {a: {}}", r"loss\.margin is 'wide'"),
        ("rows: {a: {}, b: {}}", "rows 'a' and 'b' of the grid are one configuration"),
        ("rows: {a: {}}\nlines: 3", "unknown entry 'lines'; a grid has changes, profile"),
        ("rows: [a, b]", "write `rows:` and below it"),
        ("rows: {../a: {}}", "row '../a' of the grid names a folder"),
        ("rows: {a: 3}", "row 'a' is no `NAME"),
        ("rows: {a: {}}\nseeds: 3", "seeds is 3; write a list"),
        ("rows: {a: {}}\nseeds: [1, 1]", "write each seed once"),
        ("rows: {a: {}}\nreference: b", "reference is 'b'; choose one of the rows"),
        ("rows: {a: [", "while parsing"),
        ("", "write `rows:`"),
        ("profile: nothing\nrows: {a: {}}", "nothing"),
    ],
)
def test_faulty_grids_are_refused_before_anything_is_written(text, message, tmp_path):
    grid = written(tmp_path / "grid.yaml", text)
    with pytest.raises(ValueError, match=message):
        swept(grid, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_runs_come_seed_by_seed_and_differ_in_their_settings(tmp_path):
    grid = read_grid(written(tmp_path / "grid.yaml", SMALL + "seeds: [3, 1]"))
    runs = grid.runs()
    assert [run.folder for run in runs] == [
        "os-kdft_3",
        "student-ft_3",
        "os-kdft_1",
        "student-ft_1",
    ]
    assert [run.cfg.seed for run in runs] == [3, 3, 1, 1]
    assert [run.cfg.strategy for run in runs[:2]] == ["os-kdft", "student-ft"]
    assert all(run.cfg.train.steps_per_epoch == 2 for run in runs)


@pytest.mark.slow
def test_a_failed_run_stops_no_other(finished):
    _, out, result = finished
    assert sorted(result["done"]) == ["os-kdft_0", "os-kdft_1", "student-ft_0", "student-ft_1"]
    assert sorted(result["failed"]) == ["absent_0", "absent_1"]
    assert "/no/such/folder" in result["failed"]["absent_0"]
    assert "failed: absent_0: FileNotFoundError" in evidence.printed(out)


@pytest.mark.slow
def test_the_table_holds_what_the_runs_hold(finished):
    _, out, _ = finished
    table = evidence.gather(out)
    assert [row["row"] for row in table["rows"]] == sorted(
        ("os-kdft", "student-ft"), key=lambda name: np.mean(rates_of(out, name))
    )
    rows = {row["row"]: row for row in table["rows"]}
    reference, other = rows["student-ft"], rows["os-kdft"]
    assert reference["minus"] is None and table["reference"] == "student-ft"
    for name, row in rows.items():
        assert row["seeds"] == rates_of(out, name)
        assert row["low"] <= row["mean"] <= row["high"]
        assert row["multiply_adds"] > 1e6 and row["ms_per_utterance"] > 0
    assert other["minus"]["mean"] == pytest.approx(other["mean"] - reference["mean"])
    draws = {name: draws_of(out, name) for name in rows}
    apart = draws["os-kdft"] - draws["student-ft"]
    assert [other["minus"]["low"], other["minus"]["high"]] == pytest.approx(
        np.quantile(apart, [0.025, 0.975]).tolist()
    )
    assert other["minus"]["p"] == other["minus"]["p_holm"]  # one comparison needs no correction


def rates_of(out: Path, row: str) -> list[float]:
    """EER of each seed, from the scores."""
    files = [out / f"{row}_{seed}" / "test.txt" for seed in (0, 1)]
    return [metrics.eer(*score_file.read_scores(file))[0] for file in files]


def draws_of(out: Path, row: str) -> np.ndarray:
    run = next(run for run in read_grid(out / "grid.yaml").runs() if run.row == row)
    root = protocol.find_root("speechbox", "", "data.root")
    trials, _ = protocol.read_test_list(run.cfg, root)
    speakers = bootstrap.trial_speakers(trials)
    files = [out / f"{row}_{seed}" / "test.txt" for seed in (0, 1)]
    return np.mean(
        [bootstrap.bootstrap(score_file.read_scores(f)[0], trials.label, speakers) for f in files],
        0,
    )


@pytest.mark.slow
def test_every_form_of_the_table_has_the_numbers(finished, tmp_path):
    _, out, _ = finished
    rows = evidence.gather(out)["rows"]
    for form in ("text", "markdown"):
        assert f"{100 * rows[0]['mean']:.2f}" in evidence.printed(out, form=form)
    assert json.loads(evidence.printed(out, form="json"))["rows"][0]["mean"] == rows[0]["mean"]
    lines = evidence.printed(out, form="csv").splitlines()
    assert len(lines) == 5 and repr(rows[0]["seeds"][1]) in lines[2]
    figure = tmp_path / "figures" / "mine"
    evidence.printed(out, figure=str(figure))
    assert {path.suffix for path in figure.parent.iterdir()} == {".json", ".png", ".svg"}
    with pytest.raises(ValueError, match="exists and is not overwritten; choose another --figure"):
        evidence.printed(out, figure=str(figure))
    with pytest.raises(ValueError, match="choose text, markdown, csv, json"):
        evidence.printed(out, form="html")
    with pytest.raises(ValueError, match="'mine' is no row"):
        evidence.printed(out, reference="mine")


@pytest.mark.slow
def test_a_kept_sweep_gives_the_same_table(finished, tmp_path):
    _, out, _ = finished
    before = evidence.gather(out)
    where = kept.keep(out, tmp_path / "kept")
    assert {path.name for path in where.iterdir()} == {
        "grid.yaml",
        "runs.json",
        "scores.safetensors",
    }
    assert str(tmp_path.parent) not in (where / "runs.json").read_text(), "no path of this machine"
    after = evidence.gather(where)
    assert after["trials"] == before["trials"] and after["missing"] == before["missing"]
    for old, new in zip(before["rows"], after["rows"], strict=True):
        for name in ("row", "mean", "seeds", "dev_eer", "parameters", "train_s", "updates"):
            assert new[name] == old[name]
        assert (new["low"], new["high"]) == pytest.approx((old["low"], old["high"]), abs=1e-4)
        for one, other in zip(old["scores"], new["scores"], strict=True):
            assert np.abs(one - other).max() < 1e-3 * (1 + np.abs(one).max())
    with pytest.raises(ValueError, match="not empty; choose another --out"):
        kept.keep(out, where)


@pytest.mark.slow
def test_seeds_that_were_run_elsewhere_join_a_kept_sweep(finished, tmp_path):
    """Each seed lies in a folder of its own; what is kept of both is what is kept of one sweep."""
    grid, out, _ = finished
    for seed in (0, 1):
        own = written(
            tmp_path / f"{seed}/grid.yaml", grid.read_text().replace("[0, 1]", f"[{seed}]")
        )
        for row in ("os-kdft", "student-ft"):
            shutil.copytree(out / f"{row}_{seed}", own.parent / f"{row}_{seed}")
    whole = kept.keep(out, tmp_path / "whole")
    parts = kept.keep(tmp_path / "1", tmp_path / "parts")
    with pytest.raises(ValueError, match="parts exists and is not empty; choose another --out"):
        kept.keep(tmp_path / "0", parts)
    kept.keep(tmp_path / "0", parts, add=True)
    one, other = read_json(whole / "runs.json"), read_json(parts / "runs.json")
    assert list(one["runs"]) == list(other["runs"]) and one["runs"] == other["runs"]
    assert one["missing"] == other["missing"] == ["absent_0", "absent_1"]
    assert read_grid(whole / "grid.yaml") == read_grid(parts / "grid.yaml")
    scores = [load_tensors(folder / "scores.safetensors") for folder in (whole, parts)]
    assert scores[0].keys() == scores[1].keys()
    assert all(torch.equal(scores[0][name], scores[1][name]) for name in scores[0])
    before = {path.name: path.read_bytes() for path in parts.iterdir()}
    with pytest.raises(ValueError, match="keeps os-kdft_0 already"):
        kept.keep(tmp_path / "0", parts, add=True)
    written(tmp_path / "0/grid.yaml", grid.read_text().replace("epochs: 1", "epochs: 3"))
    with pytest.raises(ValueError, match="keeps another grid; only the seeds may differ"):
        kept.keep(tmp_path / "0", parts, add=True)
    with pytest.raises(ValueError, match="new is no kept sweep; leave out --add"):
        kept.keep(tmp_path / "0", tmp_path / "new", add=True)
    assert before == {path.name: path.read_bytes() for path in parts.iterdir()}


@pytest.mark.slow
def test_a_damaged_kept_sweep_is_named(finished, tmp_path):
    _, out, _ = finished
    where = kept.keep(out, tmp_path / "kept")
    (where / "scores.safetensors").write_bytes(b"\0" * 20)
    with pytest.raises(ValueError, match=r"scores\.safetensors is not a readable"):
        kept.read(where)


@pytest.mark.slow
def test_rounding_that_would_change_a_rate_is_refused(finished, tmp_path, monkeypatch):
    _, out, _ = finished
    monkeypatch.setattr(kept, "CLOSE", -1.0)  # no rounding is close enough
    with pytest.raises(ValueError, match="float16 changes the EER"):
        kept.keep(out, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_a_row_without_test_trials_is_refused_before_the_first_run(tmp_path):
    (tmp_path / "speech" / "a").mkdir(parents=True)
    changes = {"data.corpus": "folder", "data.root": str(tmp_path / "speech")}
    grid = Grid("smoke", {}, {"a": {}, "own": changes}, (0,), "a")
    with pytest.raises(ValueError, match="folder of row 'own' has no test trials; set data.trials"):
        sweep(grid, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_edited_profile_does_not_join_finished_runs(tmp_path):
    """The grid names the profile's file alone, so the runs are compared, too."""
    profile = written(tmp_path / "mine.yaml", to_yaml(load("smoke")))
    grid, out = Grid(str(profile), {}, {"a": {}}, (0,), "a"), tmp_path / "out"
    written(out / "grid.yaml", grid.text())
    written(out / "a_0" / "config.yaml", to_yaml(grid.runs()[0].cfg))
    written(out / "a_0" / "test.json", "{}")
    assert sweep(grid, out, resume=True) == {"done": ["a_0"], "failed": {}}
    written(profile, to_yaml(load("smoke").override({"train.lr": 0.5})))
    with pytest.raises(ValueError, match=r"a_0 is a run of another configuration: train\.lr is"):
        sweep(grid, out, resume=True)


@pytest.mark.slow
def test_runs_of_one_row_have_one_configuration(finished, tmp_path):
    _, out, _ = finished
    where = kept.keep(out, tmp_path / "kept")
    tree = read_json(where / "runs.json")
    tree["runs"]["os-kdft_1"]["training"]["config"]["train"]["lr"] *= 2
    write_json(where / "runs.json", tree)
    with pytest.raises(ValueError, match=r"os-kdft_1 and os-kdft_0 differ in train\.lr"):
        kept.read(where)


@pytest.mark.slow
def test_a_finished_sweep_is_left_alone(finished, tmp_path, monkeypatch, capsys):
    grid, out, _ = finished
    before = weights(out)
    with pytest.raises(ValueError, match="holds a sweep of this grid; add --resume"):
        swept(grid, out)
    other = written(tmp_path / "grid.yaml", SMALL)
    with pytest.raises(ValueError, match="holds the runs of another grid"):
        swept(other, out, resume=True)
    written(tmp_path / "full" / "thesis.txt", "mine")
    with pytest.raises(ValueError, match="not empty; choose another --out"):
        swept(grid, tmp_path / "full")
    words = ["oskdft", "sweep", str(grid), "--out", str(out), "--on", "local:1", "--resume"]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit, match="1"):
        cli.main()
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("oskdft: 2 of 6 runs failed, the first absent_0: FileNotFoundError")
    assert last.endswith("; mend the cause, then add --resume")
    assert weights(out) == before


def test_rows_that_differ_by_a_blank_have_folders_of_their_own(tmp_path):
    text = "profile: smoke\nrows: {no KD: {loss.kd_weight: 0.0}, no-KD: {loss.kd_weight: 0.5}}"
    folders = [run.folder for run in read_grid(written(tmp_path / "grid.yaml", text)).runs()]
    assert len(set(folders)) == 2


@pytest.mark.parametrize("on", ["moon", "local:0", "local:x"])
def test_an_unknown_engine_is_refused(on, tmp_path):
    with pytest.raises(ValueError, match="write local, local:4, ray or ray:ADDRESS"):
        swept(written(tmp_path / "grid.yaml", SMALL), tmp_path / "out", on)


GRIDS = sorted((Path(__file__).parents[2] / "benchmarks" / "grids").glob("*.yaml"))


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_grids_of_the_evidence_can_run(path):
    assert read_grid(path).runs()


def test_holm_by_hand():
    assert evidence.holm([0.04, 0.01, 0.03, 0.5]) == pytest.approx([0.09, 0.04, 0.09, 0.5])
    assert evidence.holm([]) == []


@pytest.mark.slow
def test_a_killed_process_is_replaced_and_the_weights_stay(tmp_path):
    """SIGKILL in the middle of a training; the run is resumed in a new process."""
    text = SMALL.replace("steps_per_epoch: 2", "steps_per_epoch: 20")
    grid = written(tmp_path / "grid.yaml", text.replace(ROWS, "rows: {os-kdft: {}}"))
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    swept(grid, whole)
    process = begun(grid, cut)
    children = [
        int(pid) for pid in os.listdir("/proc") if pid.isdecimal() and trains(pid, process.pid)
    ]
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    log = process.communicate(timeout=300)[1]
    assert process.returncode == 0 and children, log
    assert "was killed; the run is resumed in another" in log
    assert weights(cut) == weights(whole)


def test_a_run_takes_no_more_threads_than_its_process_has(finished):
    """OMP_NUM_THREADS=1 in the environment holds for the runs of a sweep too."""
    grid, out, _ = finished
    run = next(run for run in read_grid(grid).runs() if run.folder == "os-kdft_0")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert attempt(str(out / run.folder), to_dict(run.cfg), threads=2) == ""
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize("suspended", [False, True])
def test_a_stopped_sweep_ends_soon_and_is_resumed_to_the_same_weights(suspended, tmp_path):
    """SIGTERM to the sweep alone, as a cluster sends it: its runs save their state and end.

    A suspended process may hear the signal in any of its threads once it goes on.
    """
    text = SMALL.replace("steps_per_epoch: 2", "steps_per_epoch: 80")
    grid = written(tmp_path / "grid.yaml", text)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    swept(grid, whole)
    words = ["-m", "oskdft", "sweep", str(grid), "--out", str(cut), "--on", "local:2"]
    process = begun(grid, cut, words)
    if suspended:
        os.killpg(process.pid, signal.SIGSTOP)
        time.sleep(0.5)
    process.terminate()
    os.killpg(process.pid, signal.SIGCONT)
    began = time.monotonic()
    log = process.communicate(timeout=120)[1]
    assert process.returncode == 143, log
    assert time.monotonic() - began < 60
    assert not (cut / "os-kdft_0" / "report.json").exists()  # it was stopped in the first run
    swept(grid, cut, resume=True)
    assert weights(cut) == weights(whole)


KERNEL = """
import sys
from oskdft.training.grid import read_grid
from oskdft.training.sweep import sweep
sweep(read_grid(sys.argv[1]), sys.argv[2], "local:1")
"""  # a notebook's kernel sweeps in itself, and nothing in it turns SIGTERM into an exception


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("everyone", [False, True])
def test_no_run_outlives_its_sweep(number, everyone, tmp_path):
    """The sweep ends without a word, alone or with its whole group; the run in training ends too."""
    text = SMALL.replace("steps_per_epoch: 2", "steps_per_epoch: 4000")
    grid, out = written(tmp_path / "grid.yaml", text), tmp_path / "out"
    process = begun(grid, out, ["-c", KERNEL, str(grid), str(out)])
    family = psutil.Process(process.pid).children(recursive=True)
    assert any("spawn_main" in " ".join(child.cmdline()) for child in family)
    busy = sum(child.cpu_times().user for child in family) + 3  # [s] into the steps, however slow
    while sum(child.cpu_times().user for child in family) < busy:
        time.sleep(0.05)
    (os.killpg if everyone else os.kill)(process.pid, number)
    process.wait(timeout=60)
    alive = psutil.wait_procs(family, timeout=30)[1]
    for left in alive:
        left.kill()
    assert not alive
    if not (everyone and number == signal.SIGKILL):
        assert list((out / "os-kdft_0" / "checkpoints").glob("state-*.json"))


def begun(grid: Path, out: Path, words: list[str] | None = None) -> subprocess.Popen:
    """The command in a process group of its own, its first run begun."""
    words = words or ["-m", "oskdft", "sweep", str(grid), "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, *words], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 300
    while not (out / "os-kdft_0" / "config.yaml").is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    return process


def trains(pid: str, parent: int) -> bool:
    """Whether a process was spawned by the sweep to run runs."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (
            int(status[1]) == parent and b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
    except OSError:
        return False


@pytest.mark.slow
def test_the_report_of_a_run_is_that_of_evaluate(finished):
    _, out, _ = finished
    report = read_json(out / "os-kdft_0" / "test.json")
    assert report["recipe"]["strategy"] == "os-kdft" and report["trials"] > 100
