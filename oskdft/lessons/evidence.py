"""The table of a sweep: every row with its seeds, intervals and difference to the reference row.

Letters: S seeds of a row, P trials, D draws of test speakers.
"""

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from oskdft.config import SAMPLE_RATE
from oskdft.evaluation import bootstrap, score_file
from oskdft.evaluation.verifier import Verifier, load
from oskdft.lessons.costs import UTTERANCE_S, median_seconds, multiply_adds
from oskdft.lessons.exercise import table
from oskdft.lessons.figures import store
from oskdft.speech import protocol
from oskdft.speech.corpora.catalogue import find_root
from oskdft.speech.corpora.trials import Trials
from oskdft.training.grid import Grid, Run, read_grid
from oskdft.training.sweep import GRID
from oskdft.utils.files import read_json

TURNS = 15  # of the clock, for the time of an utterance
FACTS = ("versions", "python", "commit", "device", "cores", "date")  # provenance of a row


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished run: its place in the grid, its folder, its reports and its test scores [P]."""

    run: Run
    folder: Path
    training: dict
    test: dict
    scores: np.ndarray


def gather(folder: str | Path, reference: str = "") -> dict:
    """Read the finished runs of a sweep and compare its rows.

    Args:
        folder: of `training.sweep.sweep`. reference: row that the others are compared with; empty: the
            grid's.
    Returns:
        "reference", "corpus", "trials", "targets", "list", "recipe", and "rows", by mean EER: each with
        "row", "mean" and "seeds" (EER [S]), "low", "high" (95 % over speakers, mean of the seeds),
        "minus": difference to the reference on common seeds and the same draws ("mean", "low", "high",
        "p", "p_holm"; None for the reference), "dev_eer" [S], "parameters", "multiply_adds" and
        "ms_per_utterance" (3 s, one thread), "train_s" [S], and the provenance of its first run;
        "failed" and "missing": names of runs.
    Raises:
        FileNotFoundError: no sweep there. ValueError: no finished run, or no such reference.
    """
    folder = Path(folder)
    if not (folder / GRID).is_file():
        raise FileNotFoundError(f"{folder} holds no {GRID}; give the --out of oskdft sweep")
    grid = read_grid(folder / GRID)
    reference = reference or grid.reference
    if reference not in grid.rows:
        raise ValueError(
            f"{reference!r} is no row of {folder / GRID}; it has {', '.join(grid.rows)}"
        )
    runs = grid.runs()
    finished = [
        _finished(run, folder) for run in runs if (folder / run.folder / "test.json").is_file()
    ]
    if not finished:
        raise ValueError(f"no run in {folder} is finished; go on with oskdft sweep ... --resume")
    first = finished[0]
    trials = _trials(first.run)
    if len(trials) != len(first.scores):
        raise ValueError(f"the scores of {first.folder} are of another list than {trials.name}")
    failed = folder / "failed.json"
    return {
        "reference": reference,
        "corpus": first.run.cfg.data.corpus,
        "list": first.test["recipe"]["list"],
        "trials": first.test["trials"],
        "targets": first.test["targets"],
        "recipe": first.test["recipe"],
        "rows": _rows(grid, finished, reference, trials),
        "failed": read_json(failed) if failed.is_file() else {},
        "missing": [
            run.folder for run in runs if run.folder not in {f.run.folder for f in finished}
        ],
    }


def _finished(run: Run, folder: Path) -> Finished:
    own = folder / run.folder
    scores, _ = score_file.read_scores(own / "test.txt")
    return Finished(run, own, read_json(own / "report.json"), read_json(own / "test.json"), scores)


def _trials(run: Run) -> Trials:
    """The test trials of a run."""
    data = run.cfg.data
    return protocol.read_test_list(run.cfg, find_root(data.corpus, data.root, "data.root"))[0]


def _rows(grid: Grid, finished: list[Finished], reference: str, trials: Trials) -> list[dict]:
    """One row of the table for each row of the grid that has a finished run."""
    speakers = bootstrap.trial_speakers(trials)
    drawn = {}  # run -> EER of each draw [D], the same draws for all runs
    for one in finished:
        drawn[one.run.folder] = bootstrap.bootstrap(one.scores, trials.label, speakers)
    by_row = {row: [one for one in finished if one.run.row == row] for row in grid.rows}
    by_row = {row: runs for row, runs in by_row.items() if runs}
    models = {row: load(runs[0].folder, "cpu") for row, runs in by_row.items()}
    times = _milliseconds(models)
    rows = []
    for row, runs in by_row.items():
        rates = [one.test["eer"] for one in runs]
        low, high = np.quantile(
            np.mean([drawn[one.run.folder] for one in runs], axis=0), bootstrap.INTERVAL
        )
        minus = None
        if row != reference and reference in by_row:
            minus = _difference(runs, by_row[reference], drawn)
        rows.append(
            {
                "row": row,
                "mean": float(np.mean(rates)),
                "seeds": rates,
                "low": float(low),
                "high": float(high),
                "minus": minus,
                "dev_eer": [min(v["dev_eer"] for v in one.training["validations"]) for one in runs],
                "parameters": runs[0].training["parameters"],
                "multiply_adds": _work(models[row]),
                "ms_per_utterance": times[row],
                "train_s": [one.training["seconds"] for one in runs],
            }
            | {fact: runs[0].training[fact] for fact in FACTS}
        )
    compared = [row["minus"] for row in rows if row["minus"]]
    for minus, p_holm in zip(compared, holm([minus["p"] for minus in compared]), strict=True):
        minus["p_holm"] = p_holm
    return sorted(rows, key=lambda row: row["mean"])


def _difference(
    runs: list[Finished], others: list[Finished], drawn: dict[str, np.ndarray]
) -> dict[str, float] | None:
    """Difference of two rows on the seeds that both have, draw by draw; None without such a seed."""
    partner = {one.run.cfg.seed: one for one in others}
    pairs = [(one, partner[one.run.cfg.seed]) for one in runs if one.run.cfg.seed in partner]
    if not pairs:
        return None
    apart = np.mean([drawn[a.run.folder] - drawn[b.run.folder] for a, b in pairs], axis=0)  # [D]
    low, high = np.quantile(apart, bootstrap.INTERVAL)
    return {
        "mean": float(np.mean([a.test["eer"] - b.test["eer"] for a, b in pairs])),
        "low": float(low),
        "high": float(high),
        "p": p_value(apart),
    }


def p_value(apart: np.ndarray) -> float:
    """Two-sided p-value of a difference from its bootstrap draws [D]: at least 2 / (D + 1).

    >>> p_value(np.array([1.0, 2.0, 3.0])), p_value(np.array([-1.0, 1.0]))
    (0.5, 1.0)
    """
    below, above = np.sum(apart <= 0), np.sum(apart >= 0)
    return float(min(1.0, 2 * (min(below, above) + 1) / (len(apart) + 1)))


def holm(p_values: list[float]) -> list[float]:
    """Holm's correction of p-values of several comparisons, in the given order.

    Source: Holm 1979.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected = np.zeros(len(p_values))
    largest = 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected.tolist()


def _work(verifier: Verifier) -> int:
    """Multiply-adds of an embedding of 3 s; the model is of no use afterwards."""
    wave = torch.zeros(1, round(UTTERANCE_S * SAMPLE_RATE), device="meta")
    with torch.no_grad():
        return multiply_adds(verifier.model.to("meta"), wave)


def _milliseconds(models: dict[str, Verifier]) -> dict[str, float]:
    """Median time to embed 3 s with one thread [ms]; the models take turns."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        wave = np.random.default_rng(0).normal(0, 0.1, round(UTTERANCE_S * SAMPLE_RATE))
        wave = wave.astype(np.float32)
        calls = {row: lambda model=model: model.embed(wave) for row, model in models.items()}
        return {row: 1000 * s for row, s in median_seconds(calls, TURNS).items()}
    finally:
        torch.set_num_threads(threads)


def cells(result: dict) -> list[tuple[str, ...]]:
    """Head and rows of the printed table of `gather`."""
    head = (
        "row", "EER % (mean)", "seeds", "95 % interval", f"minus {result['reference']} (95 %)",
        "p (Holm)", "parameters", "multiply-adds", "ms per 3 s", "training s",
    )  # fmt: skip
    lines = [head]
    for row in result["rows"]:
        minus, p_holm = "", ""
        if row["minus"]:
            mean, low, high = (100 * row["minus"][name] for name in ("mean", "low", "high"))
            minus, p_holm = (
                f"{mean:+.2f} ({low:+.2f} to {high:+.2f})",
                f"{row['minus']['p_holm']:.3f}",
            )
        lines.append(
            (
                row["row"],
                f"{100 * row['mean']:.2f}",
                ", ".join(f"{100 * rate:.2f}" for rate in row["seeds"]),
                f"{100 * row['low']:.2f} to {100 * row['high']:.2f}",
                minus,
                p_holm,
                f"{row['parameters']:,}",
                f"{row['multiply_adds'] / 1e6:,.0f} M",
                f"{row['ms_per_utterance']:.0f}",
                f"{np.mean(row['train_s']):.0f}",
            )
        )
    return lines


def text(result: dict) -> str:
    """The table with what it rests on, and the runs that are missing or failed."""
    recipe = result["recipe"]
    lines = [
        table(cells(result)),
        f"{result['trials']:,} trials of {result['corpus']} ({result['list']}), {result['targets']:,} "
        f"of one speaker; {recipe['policy']}; interval: 95 %, bootstrap over speakers, mean over seeds; "
        "p: two-sided, from the same draws, Holm's correction over the rows",
    ]
    for name, reason in result["failed"].items():
        lines.append(f"failed: {name}: {reason}")
    waiting = [name for name in result["missing"] if name not in result["failed"]]
    if waiting:
        lines.append(f"not finished: {', '.join(waiting)}")
    return "\n".join(lines)


def markdown(result: dict) -> str:
    """The table for a document.

    >>> print(markdown({"reference": "a", "rows": []}).splitlines()[1])
    | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
    """
    head, *rows = cells(result)
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def as_csv(result: dict) -> str:
    """The numbers of the table, one line per row and seed, fractions and seconds."""
    out = io.StringIO()
    writer = csv.writer(out)
    names = ("mean", "low", "high", "p", "p_holm")
    plain = ("parameters", "multiply_adds", "ms_per_utterance")
    writer.writerow(
        ["row", "seed_number", "eer", "dev_eer", "train_s", "mean", "low", "high"]
        + [f"minus_{name}" for name in names]
        + [*plain, *FACTS[1:]]
    )
    for row in result["rows"]:
        minus = row["minus"] or {}
        shared = [row["mean"], row["low"], row["high"], *(minus.get(name, "") for name in names)]
        shared += [row[name] for name in (*plain, *FACTS[1:])]
        runs = zip(row["seeds"], row["dev_eer"], row["train_s"], strict=True)
        for number, own in enumerate(runs):
            writer.writerow([row["row"], number, *own, *shared])
    return out.getvalue()


def drawn(result: dict) -> dict:
    """The arguments of the plot `intervals`."""
    keys = ("mean", "low", "high", "seeds")
    return {"results": {row["row"]: {key: row[key] for key in keys} for row in result["rows"]}}


FORMS = {
    "text": text,
    "markdown": markdown,
    "csv": as_csv,
    "json": lambda result: json.dumps(result, ensure_ascii=False, allow_nan=False),
}


def printed(folder: str | Path, reference: str = "", form: str = "text", figure: str = "") -> str:
    """The table of a sweep in one of `FORMS`; saves a figure where ``figure`` names one.

    Raises:
        ValueError: an unknown form, or a figure of that name; see also `gather`.
    """
    if form not in FORMS:
        raise ValueError(f"--form is {form!r}; choose {', '.join(FORMS)}")
    if figure and Path(f"{figure}.json").exists():
        raise ValueError(f"{figure}.json exists; choose another --figure")
    result = gather(folder, reference)
    if figure:
        caption = (
            f"EER on {result['trials']:,} trials of {result['corpus']}, lowest first; interval: 95 %, "
            "bootstrap over speakers."
        )
        place = Path(figure)
        place.parent.mkdir(parents=True, exist_ok=True)
        store.save(place.name, place.parent, "intervals", drawn(result), caption)
    return FORMS[form](result)
