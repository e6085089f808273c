"""Finished runs: those of a sweep's folder, and those kept in the package, without their weights.

A kept sweep is three files: grid.yaml, runs.json (reports, logs, costs) and scores.safetensors (float16).
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from oskdft.config import SAMPLE_RATE, Config, from_dict
from oskdft.evaluation import metrics, score_file
from oskdft.evaluation.verifier import load
from oskdft.lessons.costs import UTTERANCE_S, median_seconds, multiply_adds
from oskdft.speech import protocol
from oskdft.speech.corpora.catalogue import find_root
from oskdft.speech.corpora.trials import Trials
from oskdft.storage.tensors import load_tensors, save_tensors
from oskdft.training.grid import Grid, read_grid
from oskdft.training.run_folder import read_metrics, unlike
from oskdft.training.sweep import GRID
from oskdft.utils.files import ASSETS, atomic, read_json, require_new_folder, write_json

EVIDENCE = ASSETS / "evidence"
RUNS, SCORES = "runs.json", "scores.safetensors"
LISTS = ("dev", "test")
CLOSE = 1e-4  # difference of EER that rounding to float16 may make: 0.01 points
LARGEST = 64 << 20  # bytes of runs.json
DIGITS = 4  # significant, of a number of a kept log that is not whole
TURNS = 15  # of the clock, for the time of an utterance


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished run.

    Attributes:
        row, name: of the grid, and of the run. cfg: its configuration.
        training: report.json. reports: list ("dev", "test") -> report of `evaluate`.
        scores: list -> [P] cosines. rows: of metrics.csv.
    """

    row: str
    name: str
    cfg: Config
    training: dict
    reports: dict[str, dict]
    scores: dict[str, np.ndarray]
    rows: list[dict[str, float]]


@dataclass(frozen=True, slots=True)
class Sweep:
    """The finished runs of a grid, in its order.

    Attributes:
        costs: row -> "multiply_adds" and "ms_per_utterance" (3 s, one thread).
        failed: run -> reason. missing: names of runs that are not finished.
    """

    grid: Grid
    runs: list[Finished]
    costs: dict[str, dict[str, float]]
    failed: dict[str, str]
    missing: list[str]

    def trials(self) -> Trials:
        """The test trials of the runs.

        Raises:
            ValueError: the list is another than the scored one.
        """
        data = self.runs[0].cfg.data
        root = find_root(data.corpus, data.root, "data.root")
        trials = protocol.read_test_list(self.runs[0].cfg, root)[0]
        if any(len(run.scores["test"]) != len(trials) for run in self.runs):
            raise ValueError(f"the scores are of another list than {trials.name}")
        return trials


def read(folder: str | Path, with_costs: bool = False) -> Sweep:
    """Read a sweep's folder or a kept sweep.

    Args:
        folder: of `training.sweep.sweep` or of `keep`.
        with_costs: measure the costs of the rows of a sweep's folder; a kept sweep has them.
    Raises:
        FileNotFoundError: no sweep there. ValueError: no finished run, a damaged file, or runs of one row
            with different settings.
    """
    folder = Path(folder)
    if not (folder / GRID).is_file():
        raise FileNotFoundError(f"{folder} holds no {GRID}; give the --out of oskdft sweep")
    grid = read_grid(folder / GRID)
    if (folder / RUNS).is_file():
        return _kept(folder, grid)
    names = {run.folder: run.row for run in grid.runs()}
    runs = [
        _finished(row, folder / name)
        for name, row in names.items()
        if (folder / name / "test.json").is_file()
    ]
    if not runs:
        raise ValueError(f"no run in {folder} is finished; go on with oskdft sweep ... --resume")
    _require_one_configuration(runs)
    costs = _costs({run.row: folder / run.name for run in reversed(runs)}) if with_costs else {}
    failed = folder / "failed.json"
    missing = [name for name in names if name not in {run.name for run in runs}]
    return Sweep(grid, runs, costs, read_json(failed) if failed.is_file() else {}, missing)


def _require_one_configuration(runs: list[Finished]) -> None:
    """Refuse runs of one row that differ in more than the seed: its profile file was edited between."""
    firsts: dict[str, Finished] = {}
    for run in runs:
        first = firsts.setdefault(run.row, run)
        if changed := unlike(first.cfg, run.cfg).keys() - {"seed", "device"}:
            raise ValueError(
                f"{run.name} and {first.name} differ in {', '.join(sorted(changed))}; "
                "run the row again in a new --out"
            )


def _finished(row: str, own: Path) -> Finished:
    training = read_json(own / "report.json")
    reports = {name: read_json(own / f"{name}.json") for name in LISTS}
    scores = {name: score_file.read_scores(own / f"{name}.txt")[0] for name in LISTS}
    rows, cfg = read_metrics(own / "metrics.csv"), from_dict(training["config"])
    return Finished(row, own.name, cfg, training, reports, scores, rows)


def _kept(folder: Path, grid: Grid) -> Sweep:
    tree = read_json(folder / RUNS, LARGEST)
    tensors = load_tensors(folder / SCORES)
    runs = []
    for name, own in tree["runs"].items():
        scores = {}
        for kind, centre in own["centre"].items():
            scores[kind] = tensors[f"{name}/{kind}"].numpy().astype(np.float64) + centre
        training, rows = own["training"], _rows(own["log"])
        cfg = from_dict(training["config"])
        runs.append(Finished(own["row"], name, cfg, training, own["reports"], scores, rows))
    _require_one_configuration(runs)
    return Sweep(grid, runs, tree["costs"], {}, tree["missing"])


def keep(folder: str | Path, out: str | Path, add: bool = False) -> Path:
    """Keep the finished runs of a sweep without their weights.

    A score is stored as its float16 distance from the run's EER threshold: float16 is finest near 0.

    Args:
        folder: of `training.sweep.sweep`. out: a new folder; with ``add`` a kept sweep of the same grid,
            whose seeds may differ, which the runs join. The costs are then those measured last.
    Returns:
        ``out``.
    Raises:
        ValueError: out exists, or is to be added to and is no such sweep or keeps one of the runs
            already; or rounding would change an EER by more than 0.01 points.
    """
    out = Path(out) if add else require_new_folder(out)
    grid, runs, costs, tensors = _joined(read_grid(Path(folder) / GRID), out, add)
    sweep = read(folder, with_costs=True)
    for run in sweep.runs:
        if run.name in runs:
            raise ValueError(f"{out} keeps {run.name} already; a run is kept once")
    for run in sweep.runs:
        centre = {}
        for kind in LISTS:
            labels = score_file.read_scores(Path(folder) / run.name / f"{kind}.txt")[1]
            rate, centre[kind] = metrics.eer(run.scores[kind], labels)
            small = (run.scores[kind] - centre[kind]).astype(np.float16)
            if abs(metrics.eer(small.astype(np.float64), labels)[0] - rate) > CLOSE:
                raise ValueError(f"{run.name}: float16 changes the EER of its {kind} trials")
            tensors[f"{run.name}/{kind}"] = torch.from_numpy(small)
        runs[run.name] = {
            "row": run.row,
            "training": run.training,
            "reports": {
                kind: report | {"recipe": report["recipe"] | {"model": run.name}}  # no path
                for kind, report in run.reports.items()
            },
            "centre": centre,
            "log": _columns(run.rows),
        }
    names = [run.folder for run in grid.runs()]
    tree = {
        "runs": {name: runs[name] for name in names if name in runs},
        "costs": costs | sweep.costs,
        "missing": [name for name in names if name not in runs],
    }
    out.mkdir(parents=True, exist_ok=True)
    save_tensors(out / SCORES, tensors)  # first: what is kept stays readable if this is interrupted
    write_json(out / RUNS, tree, indent=None)
    with atomic(out / GRID) as file:
        file.write(grid.text())
    return out


def _joined(grid: Grid, out: Path, add: bool) -> tuple[Grid, dict, dict, dict[str, torch.Tensor]]:
    """The grid of what will be kept, and what is kept of it already: runs, costs and scores."""
    if not add:
        return grid, {}, {}, {}
    if not (out / RUNS).is_file():
        raise ValueError(f"{out} is no kept sweep; leave out --add")
    before, tree = read_grid(out / GRID), read_json(out / RUNS, LARGEST)
    seeds = tuple(sorted({*before.seeds, *grid.seeds}))
    if replace(before, seeds=seeds) != replace(grid, seeds=seeds):
        raise ValueError(f"{out} keeps another grid; only the seeds may differ")
    return replace(grid, seeds=seeds), tree["runs"], tree["costs"], load_tensors(out / SCORES)


def _columns(rows: list[dict[str, float]]) -> dict[str, list[float | None]]:
    """A log as columns, which JSON holds in fewer bytes; None where a row lacks the column."""
    return {name: [*map(_short, column)] for name, column in pd.DataFrame(rows).items()}


def _short(value: float) -> float | None:
    if np.isnan(value):
        return None
    return int(value) if float(value).is_integer() else float(f"{value:.{DIGITS}g}")


def _rows(columns: dict[str, list[float | None]]) -> list[dict[str, float]]:
    """The inverse of `_columns`, but for rounding.

    >>> _rows(_columns([{"step": 12345.0}, {"step": 2.0, "sv": 0.1234567}]))
    [{'step': 12345.0}, {'step': 2.0, 'sv': 0.1235}]
    """
    records = pd.DataFrame(columns, dtype=float).to_dict("records")
    return [{name: x for name, x in row.items() if not np.isnan(x)} for row in records]


@torch.no_grad()
def _costs(folders: dict[str, Path]) -> dict[str, dict[str, float]]:
    """Multiply-adds of the model of each row for 3 s, and median time with one thread [ms]."""
    models = {row: load(folder, "cpu") for row, folder in folders.items()}
    wave = np.random.default_rng(0).normal(0, 0.1, round(UTTERANCE_S * SAMPLE_RATE))
    wave = wave.astype(np.float32)
    calls = {row: partial(model.embed, wave) for row, model in models.items()}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = median_seconds(calls, TURNS)  # the models take turns
    finally:
        torch.set_num_threads(threads)
    shape = torch.zeros(1, len(wave), device="meta")
    return {
        row: {
            "multiply_adds": multiply_adds(verifier.model.to("meta"), shape),
            "ms_per_utterance": 1000 * seconds[row],
        }
        for row, verifier in models.items()
    }
