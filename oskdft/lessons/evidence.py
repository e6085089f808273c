"""The table of a sweep: every row with its seeds, intervals and difference to the reference row.

Letters: S seeds of a row, P trials, D draws of test speakers.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from oskdft.evaluation import bootstrap
from oskdft.lessons import kept
from oskdft.lessons.figures import store
from oskdft.lessons.kept import Finished, Sweep
from oskdft.method.strategies import stages
from oskdft.utils.console import paragraph, percent, table
from oskdft.utils.files import require_new

POINTS = "{:+.2f} points, {:+.2f} to {:+.2f}"
LEVEL = 0.05  # of significance, for corrected p-values
FACTS = ("versions", "python", "commit", "device", "cores", "date")  # provenance of a row


def gather(folder: str | Path, reference: str = "") -> dict:
    """Read the finished runs of a sweep, with their costs, and compare its rows.

    Args:
        folder: of `training.sweep.sweep`, or a kept sweep (`kept.keep`). reference: row that the
            others are compared with; empty: the grid's.
    Returns:
        see `compare`.
    Raises:
        FileNotFoundError: no sweep there. ValueError: no finished run, or no such reference.
    """
    return compare(kept.read(folder, with_costs=True), reference)


def compare(sweep: Sweep, reference: str = "") -> dict:
    """The rows of a sweep, by mean EER.

    Args:
        sweep: from `kept.read`. reference: see `gather`.
    Returns:
        "reference"; "profile", "changes" of the grid; "seeds" of its finished runs; and "rows", each with
        "row", "teacher" (its name), "mean" and "seeds" (EER [S]), "low", "high" (95 % over speakers,
        mean of the seeds), "minus": difference to the reference on common seeds and the same draws
        ("mean", "low", "high", "p", "p_holm"; "agree": all seeds have its sign; None for the
        reference), "dev_eer" and "dev_threshold" [S], "parameters", "train_s" [S], "updates" (of the
        first seed), "scores" (S times [P]), "draws" (EER [D] of the draws, mean of the seeds), "reports"
        (of `evaluate` [S]), the costs of `kept.Sweep`, and the provenance of its first run. Also
        "corpus", "list", "trials", "targets", "recipe";
        "failed": run -> reason; "missing": names of runs.
    Raises:
        ValueError: no such reference.
    """
    reference, test = reference or sweep.grid.reference, sweep.runs[0].reports["test"]
    if reference not in sweep.grid.rows:
        raise ValueError(f"{reference!r} is no row; the sweep has {', '.join(sweep.grid.rows)}")
    trials = sweep.trials()
    speakers = bootstrap.trial_speakers(trials)
    # run -> EER of each draw [D], the same draws for all runs
    drawn = {
        run.name: bootstrap.bootstrap(run.scores["test"], trials.label, speakers)
        for run in sweep.runs
    }
    by_row: dict[str, list[Finished]] = {}
    for run in sweep.runs:
        by_row.setdefault(run.row, []).append(run)
    rows = []
    for row, runs in by_row.items():
        rates = [run.reports["test"]["eer"] for run in runs]
        minus = None
        if row != reference and reference in by_row:
            minus = _difference(runs, by_row[reference], drawn)
        rows.append(
            {"row": row, "mean": float(np.mean(rates)), "seeds": rates}
            | _interval([drawn[run.name] for run in runs])
            | {"draws": np.mean([drawn[run.name] for run in runs], axis=0)}
            | {
                "minus": minus,
                "dev_eer": [run.reports["dev"]["eer"] for run in runs],
                "dev_threshold": [run.reports["dev"]["eer_threshold"] for run in runs],
                "teacher": runs[0].cfg.model.teacher,
                "parameters": runs[0].training["parameters"],
                "train_s": [run.training["seconds"] for run in runs],
                "updates": updates(runs[0]),
                "scores": [run.scores["test"] for run in runs],
                "reports": [run.reports["test"] for run in runs],
            }
            | sweep.costs.get(row, {})
            | {fact: runs[0].training[fact] for fact in FACTS}
        )
    compared = [row["minus"] for row in rows if row["minus"]]
    for minus, p_holm in zip(compared, holm([minus["p"] for minus in compared]), strict=True):
        minus["p_holm"] = p_holm
    return {
        "reference": reference,
        "profile": sweep.grid.profile,
        "changes": sweep.grid.changes,
        "seeds": sorted({run.cfg.seed for run in sweep.runs}),
        "rows": sorted(rows, key=lambda row: row["mean"]),
        "corpus": sweep.runs[0].cfg.data.corpus,
        "list": test["recipe"]["list"],
        "trials": test["trials"],
        "targets": test["targets"],
        "recipe": test["recipe"],
        "failed": sweep.failed,
        "missing": sweep.missing,
    }


def _interval(draws: list[np.ndarray]) -> dict[str, float]:
    """95 % interval of the mean of several runs, from the draws [D] of each."""
    low, high = np.quantile(np.mean(draws, axis=0), bootstrap.INTERVAL)
    return {"low": float(low), "high": float(high)}


def updates(run: Finished) -> dict[str, int]:
    """Number of updates of the student and of the full teacher in the log of a run."""
    counts = {"student": 0, "teacher": 0}
    for number, stage in enumerate(stages(run.cfg)):
        counts[stage.layers] += int(max(row["step"] for row in run.rows if row["stage"] == number))
    return counts


def _difference(
    runs: list[Finished], others: list[Finished], drawn: dict[str, np.ndarray]
) -> dict[str, float] | None:
    """Difference of two rows on the seeds that both have, draw by draw; None without such a seed."""
    partner = {run.cfg.seed: run for run in others}
    pairs = [(run, partner[run.cfg.seed]) for run in runs if run.cfg.seed in partner]
    if not pairs:
        return None
    apart = [drawn[a.name] - drawn[b.name] for a, b in pairs]  # [D] each
    apart_eer = [a.reports["test"]["eer"] - b.reports["test"]["eer"] for a, b in pairs]
    agree = min(apart_eer) > 0 or max(apart_eer) < 0
    told = {"p": p_value(np.mean(apart, axis=0)), "agree": agree}
    return {"mean": float(np.mean(apart_eer))} | _interval(apart) | told


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
            minus = difference(row["minus"])
            p_holm = f"{row['minus']['p_holm']:.3f}"
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


def difference(minus: dict, form: str = "{:+.2f} ({:+.2f} to {:+.2f})") -> str:
    """A difference of `compare` with its interval, in percentage points.

    >>> difference({"mean": 0.02, "low": -0.01, "high": 0.03})
    '+2.00 (-1.00 to +3.00)'
    """
    return form.format(*(100 * minus[name] for name in ("mean", "low", "high")))


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
    lines = []
    for row in result["rows"]:
        minus = row["minus"] or {}
        shared = {name: row[name] for name in ("mean", "low", "high")}
        shared |= {f"minus_{name}": minus.get(name) for name in (*shared, "p", "p_holm")}
        about = ("parameters", "multiply_adds", "ms_per_utterance", *FACTS[1:])
        shared |= {name: row[name] for name in about}
        for number, eer in enumerate(row["seeds"]):
            own = {"row": row["row"], "seed_number": number, "eer": eer}
            own |= {name: row[name][number] for name in ("dev_eer", "train_s")}
            lines.append(own | shared)
    return pd.DataFrame(lines).to_csv(index=False, lineterminator="\r\n")


def drawn(result: dict) -> dict:
    """The arguments of the plot `intervals`."""
    keys = ("mean", "low", "high", "seeds")
    return {"results": {row["row"]: {key: row[key] for key in keys} for row in result["rows"]}}


def kind(minus: dict) -> str:
    """Whether a row is "worse" or "better" than the reference, or "not told apart".

    A row is worse or better where every seed says so and its corrected p is below 0.05.

    Args:
        minus: of a row of `compare`.

    >>> kind({"mean": 0.02, "p_holm": 0.01, "agree": True})
    'worse'
    >>> kind({"mean": 0.02, "p_holm": 0.01, "agree": False})
    'not told apart'
    """
    if not (minus["agree"] and minus["p_holm"] < LEVEL):
        return "not told apart"
    return "worse" if minus["mean"] > 0 else "better"


def verdict(result: dict) -> str:
    """Sentences: which rows are worse or better than the reference, and which cannot be told from it.

    Args:
        result: of `compare`.

    >>> far = {"mean": 0.02, "low": 0.01, "high": 0.03, "p_holm": 0.004, "agree": True}
    >>> near = far | {"low": -0.01, "p_holm": 0.6}
    >>> own = {"row": "a", "mean": 0.1, "seeds": [0.1, 0.1], "minus": None}
    >>> rows = [own, own | {"row": "b", "minus": far}, own | {"row": "c", "minus": near}]
    >>> print(verdict({"reference": "a", "rows": rows}))
    Against a (10.00 %, 2 seeds):
    worse: b (+2.00 points, +1.00 to +3.00)
    better: none
    not told apart: c (+2.00 points, -1.00 to +3.00)
    >>> print(verdict({"reference": "a", "rows": rows + 24 * rows[2:]}).splitlines()[-1])
    So many rows: with 1,000 draws none can be told apart.
    """
    said: dict[str, list[str]] = {"worse": [], "better": [], "not told apart": []}
    for row in result["rows"]:
        minus = row["minus"]
        if row["row"] == result["reference"]:
            seeds = f"{len(row['seeds'])} seed{'s' * (len(row['seeds']) > 1)}"
            lines = [f"Against {row['row']} ({percent(row['mean'])}, {seeds}):"]
        elif minus:
            said[kind(minus)].append(f"{row['row']} ({difference(minus, POINTS)})")
    lines += [f"{word}: {', '.join(rows) or 'none'}" for word, rows in said.items()]
    least = (
        2 * sum(map(len, said.values())) / (bootstrap.SAMPLES + 1)
    )  # p of the clearest difference
    if least > LEVEL:
        lines.append(f"So many rows: with {bootstrap.SAMPLES:,} draws none can be told apart.")
    if min(len(row["seeds"]) for row in result["rows"]) == 1:
        lines.append("One seed: this holds for these runs; another seed may say otherwise.")
    return paragraph("\n".join(lines))


def what_holds(results: dict[str, dict]) -> str:
    """One paragraph on several sweeps: what the reference beats, what beats it, what is not shown.

    Args:
        results: short name of a sweep, empty where there is one -> of `compare`; all with one
            reference.

    >>> far = {"mean": 0.02, "low": 0.01, "high": 0.03, "p_holm": 0.004, "agree": True}
    >>> near = far | {"low": -0.01, "p_holm": 0.6}
    >>> rows = [{"row": "a", "minus": None}, {"row": "b", "minus": far}, {"row": "c", "minus": near}]
    >>> print(what_holds({"long": {"reference": "a", "rows": rows}}))
    What holds: a has a lower error than b (long +2.00 points, +1.00 to +3.00). No other is shown to
    be better. What is not shown: a difference from c (long +2.00 points, -1.00 to +3.00).
    """
    said: dict[str, dict[str, list[str]]] = {"worse": {}, "better": {}, "not told apart": {}}
    for name, result in results.items():
        for row in result["rows"]:
            if minus := row["minus"]:
                found = said[kind(minus)].setdefault(row["row"], [])
                found.append(f"{name} {difference(minus, POINTS)}".strip())
    told = {
        word: ", ".join(f"{row} ({'; '.join(found)})" for row, found in rows.items())
        for word, rows in said.items()
    }
    own = next(iter(results.values()))["reference"]
    worse, better, open_ = told.values()
    sentences = [
        f"What holds: {own} has a lower error than {worse}."
        if worse
        else f"{own} is not shown to be better than any other.",
        f"It has a higher error than {better}." if better else "No other is shown to be better.",
        f"What is not shown: a difference from {open_}." if open_ else "",
    ]
    return paragraph(" ".join(sentences))


def as_json(result: dict) -> str:
    """The numbers of the table and its rows, without scores, draws and reports."""
    large = ("scores", "draws", "reports")
    rows = [{key: row[key] for key in row if key not in large} for row in result["rows"]]
    return json.dumps(result | {"rows": rows}, ensure_ascii=False, allow_nan=False)


FORMS = {"text": text, "markdown": markdown, "csv": as_csv, "json": as_json}


def printed(folder: str | Path, reference: str = "", form: str = "text", figure: str = "") -> str:
    """The table of a sweep in one of `FORMS`; saves a figure where ``figure`` names one.

    Raises:
        ValueError: an unknown form, or a figure of that name; see also `gather`.
    """
    if form not in FORMS:
        raise ValueError(f"--form is {form!r}; choose {', '.join(FORMS)}")
    if figure:
        require_new(f"{figure}.json", "--figure")
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
