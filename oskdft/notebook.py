"""What the notebooks share: set-up, runs trained once and found again, exercises, comparison with the paper."""

import base64
import dataclasses
import functools
import html
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from oskdft import config, evaluate, figures, metrics, provenance, runfolder, task
from oskdft.config import Config
from oskdft.console import say
from oskdft.drawing import Picture
from oskdft.files import read_json, write_json
from oskdft.memory import keep_freed_memory
from oskdft.model import device_of
from oskdft.teacher import Teacher
from oskdft.worker import Worker

ROOT = Path(__file__).parents[1]  # of the project; outputs never depend on the working folder
SMOKE = "smoke: random teacher, eight voices; these numbers carry no meaning"


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """A trained run on the test trials of its corpus.

    Args:
        folder: the run. scores: [P] cosines. labels: [P] 1 same speaker.
        report: what `oskdft evaluate --json` prints.
    """

    folder: Path
    scores: np.ndarray
    labels: np.ndarray
    report: dict


class Lesson:
    """One notebook at work; made by `setup`.

    Args:
        number: of the notebook, "00" to "10". cfg: of the profile, seed and device applied.
        out: folder for runs, speech and figures. save_figures: keep what `show` draws.
    """

    def __init__(self, number: str, cfg: Config, out: Path, save_figures: bool) -> None:
        self.number, self.cfg, self.out, self.save_figures = number, cfg, out, save_figures

    @functools.cached_property
    def speech(self) -> task.Task:
        """Training, development and test speech of the profile; synthetic voices are made once."""
        return task.prepare(self.cfg)

    @property
    def smoke(self) -> bool:
        """Whether numbers carry no meaning."""
        return self.cfg.name == "smoke"

    def folder(self, changes: dict[str, Any]) -> Path:
        """Run folder of the profile with ``changes``: one configuration, one folder."""
        cfg = self.cfg.override(changes)
        digest = provenance.digest(json.dumps(config.to_dict(cfg), sort_keys=True))
        return self.out / "runs" / f"{cfg.strategy}-{digest}"

    def train(
        self,
        changes: dict[str, Any] | None = None,
        live: bool = False,
        teacher: Teacher | None = None,
    ) -> Path:
        """Train the profile with ``changes`` and return the run folder.

        A finished run is found again, an interrupted one goes on, nothing is overwritten.

        Args:
            changes: settings by dotted name, as for `oskdft train`.
            live: redraw the learning curves while it trains.
            teacher: when it is loaded already (`sweep.shared_teacher`).
        """
        cfg, out = self.cfg.override(changes or {}), self.folder(changes or {})
        if (out / "report.json").is_file():
            say(f"found {cfg.strategy}, seed {cfg.seed}: {_shown(out)}")
            return out
        resume = (out / "config.yaml").is_file()
        self.speech  # noqa: B018  missing data is said here, before anything starts
        if live:
            _train_beside(cfg, out)
        else:
            from oskdft.train import train

            say(f"training {cfg.strategy}, seed {cfg.seed}: {_shown(out)}")
            train(cfg, out, resume, teacher)
        return out

    def result(self, run: Path, which: str = "best", tta: bool = True) -> Result:
        """Scores of a run on the test trials, computed once and kept beside the run.

        Args:
            run: folder from `train`. which: "best" or "last" checkpoint. tta: with crops.
        """
        if self.speech.test_trials is None:
            raise ValueError(f"{self.cfg.data.corpus} has no test trials; set data.trials")
        stem = f"test-{which}{'' if tta else '-full'}"
        scores_file, report_file = run / f"{stem}.txt", run / f"{stem}.json"
        if not report_file.is_file():
            scores_file.unlink(missing_ok=True)  # of an evaluation that was cut off
            where = self.speech.test_path, self.speech.test_root
            made = evaluate.evaluate(run / which, *where, scores_file, None, tta, self.cfg.device)
            write_json(report_file, made)
        scores, labels = metrics.read_scores(scores_file)
        return Result(run, scores, labels, read_json(report_file))

    def rows(self, run: Path) -> list[dict[str, float]]:
        """metrics.csv of a run, one dictionary per row."""
        return runfolder.read_metrics(run / "metrics.csv")

    def show(self, name: str, plot: str, caption: str, **data: Any) -> None:
        """Draw a figure, show it with its alternative text, and keep it when figures are saved.

        Args:
            name: short, for the file. plot: function of `oskdft.plots`. data: its arguments.
        """
        note = SMOKE if self.smoke else ""
        _display(figures.draw(plot, data, note), caption)
        if self.save_figures:
            placeless = config.to_dict(self.cfg.override({"data.root": ""}))
            figures.save(
                f"{self.number}_{name}_{self.cfg.name}", self.out / "figures", plot, data, caption,
                config=placeless, seed=self.cfg.seed, replace=True, note=note,
            )  # fmt: skip

    def compare(self, rows: list[tuple[str, str, str, str]], seeds: int = 1) -> None:
        """Print the paper's figures beside ours, and keep the table for the report.

        Args:
            rows: (quantity, theirs, where it is printed and on which trials, ours); "not measured"
                is a fine entry for ours.
            seeds: over how many ours is a mean; 0: no trial was scored for it.
        """
        head = ("quantity", "published", "source and trials", "ours")
        note = f"ours: profile {self.cfg.name}, {self._trials(seeds) if seeds else 'no trials'}"
        if seeds and self.cfg.name not in ("vox1", "vox2"):
            note += "; other speech, teacher and sizes: not comparable"
        ours = [(*row[:3], "not comparable" if self.smoke else row[3]) for row in rows]
        print(table([head, *ours]), note, sep="\n")
        saved = {"head": head, "rows": ours, "note": note}
        write_json(self.out / "tables" / f"{self.number}.json", saved)

    def _trials(self, seeds: int) -> str:
        """What a rate was measured on."""
        test, corpus = self.speech.test_trials, self.cfg.data.corpus
        known = "" if corpus == "synthetic" or not test else f" ({test.name})"
        trials = f"{len(test):,} trials of {corpus}{known}" if test else "no test trials"
        return f"{trials}, {seeds} seed{'s' * (seeds > 1)}"


def setup(
    number: str,
    profile: str = "smoke",
    seed: int = 0,
    device: str = "auto",
    data_root: str = "",
    output_dir: str = "",
    save_figures: bool = False,
) -> Lesson:
    """Start a notebook: the profile's configuration, an output folder, a line on what runs where.

    Args:
        number: of the notebook. profile, seed, device: of the run.
        data_root: folder of the corpus; empty: $OSKDFT_DATA, synthetic voices are made.
        output_dir: empty: runs/<profile>; relative paths start at the project.
        save_figures: keep every figure as PNG, SVG and JSON below the output folder.
    Raises:
        ValueError: unknown profile or device.
    """
    keep_freed_memory()
    cfg = config.load(profile)
    out = ROOT / (output_dir or f"runs/{Path(profile).stem}")
    root = data_root and str(ROOT / data_root)
    if not root and cfg.data.corpus == "synthetic":
        root = str(out / f"voices-{cfg.data.speakers}x{cfg.data.utterances}")
    cfg = cfg.override({"seed": seed, "device": device, "data.root": root})
    facts = provenance.facts()
    used = str(device_of(device))
    versions = ", ".join(f"{name} {facts['versions'][name]}" for name in ("oskdft", "torch"))
    print(f"profile {cfg.name} · seed {seed} · {used} ({facts['device']}) · {versions}")
    if cfg.name == "smoke":
        print(SMOKE)
    return Lesson(number, cfg, out, save_figures)


def show_kept(name: str) -> None:
    """Show a figure that longer runs have left in figures/, drawn again from its stored numbers.

    Args:
        name: such as 05_strategies_speechocean762; one that is not there is said and passed over.

    >>> show_kept("05_no_such_figure")
    05_no_such_figure: not measured yet
    """
    path = ROOT / "figures" / f"{name}.json"
    if not path.is_file():
        print(f"{name}: not measured yet")
        return
    _display(figures.redraw(path), figures.read(path)["caption"])


def exercise(answer: Any, check: Any, hint: str) -> None:
    """Feedback on an exercise.

    Args:
        answer: None: not attempted, which passes.
        check: the right value (numbers within 0.1 %), or a function answer -> bool.
        hint: shown with a wrong answer.
    Raises:
        AssertionError: wrong; says what to think about.

    >>> exercise(None, 4, "count again")
    not attempted: set `answer` and run both cells again
    >>> exercise(4.0, 4, "count again")
    right
    >>> exercise(5, 4, "count again")
    Traceback (most recent call last):
    AssertionError: not yet: count again
    """
    if answer is None:
        print("not attempted: set `answer` and run both cells again")
        return
    try:
        right = bool(check(answer)) if isinstance(check, Callable) else _same(answer, check)
    except Exception as error:  # an answer can be anything, and so can what goes wrong with it
        reason = f"{type(error).__name__}: {error}"
        raise AssertionError(f"not yet: {hint} (checking it gave {reason})") from None
    if not right:
        raise AssertionError(f"not yet: {hint}")
    print("right")


def _same(answer: Any, expected: Any) -> bool:
    if isinstance(expected, bool | str):
        return answer == expected
    if isinstance(expected, int | float):
        return math.isclose(answer, expected, rel_tol=1e-3, abs_tol=1e-9)
    return bool(np.allclose(answer, expected, rtol=1e-3)) and len(answer) == len(expected)


def table(rows: list[tuple]) -> str:
    """Rows as text with aligned columns; the first row is the head.

    >>> print(table([("a", "b"), ("long", "x")]))
    a    | b
    -----+--
    long | x
    """
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells
    ]
    return "\n".join([lines[0], "-+-".join("-" * w for w in widths), *lines[1:]])


def percent(rate: float) -> str:
    """A fraction as per cent with two decimals.

    >>> percent(0.0475)
    '4.75 %'
    """
    return f"{100 * rate:.2f} %"


def learning_curves(rows: list[dict[str, float]], profile: str) -> Picture:
    """The losses of a run so far.

    Args:
        rows: of metrics.csv, at least one. profile: its name; smoke carries a warning.

    >>> learning_curves([{"step": 10, "sv": 2.0}, {"step": 20, "sv": 1.5}], "classroom").alt
    'Lines over update: SV from 2 to 1.5.'
    """
    names = {"sv": "SV", "kd_excess": "KD above its floor"}
    wanted = [name for name in names if any(name in row for row in rows)]
    data = {"rows": rows, "y": wanted, "ylabel": "loss", "xlabel": "update"}
    data["labels"] = [names[name] for name in wanted]
    return figures.draw("curves", data, SMOKE if profile == "smoke" else "")


def _display(figure: Picture, caption: str) -> None:
    """With its alternative text, for those who see it and for those who have it read to them."""
    from IPython.display import display

    shown = f"<figure>{_img(figure)}<figcaption>{html.escape(caption)}</figcaption></figure>"
    display({"text/html": shown, "text/plain": f"Figure: {caption}\n{figure.alt}"}, raw=True)


def _img(figure: Picture) -> str:
    """As HTML. Not as inline SVG: JupyterLab takes that out of a notebook executed elsewhere."""
    picture = base64.b64encode(figures.svg(figure).encode()).decode()
    source = f"data:image/svg+xml;base64,{picture}"
    return f'<img alt="{html.escape(figure.alt)}" style="max-width:100%" src="{source}">'


def _train_beside(cfg: Config, out: Path) -> None:
    """Train in a process of its own and redraw the curves; stopping the cell stops the training."""
    from IPython.display import Pretty, display

    worker = Worker(cfg, out)
    picture = display(Pretty("the curves appear after the first epoch"), display_id=True)
    line, shown = display(Pretty("training starts"), display_id=True), 0
    worker.start()
    try:
        while worker.state == "running":
            time.sleep(1)
            shown = _redraw(picture, worker, shown)
            line.update(Pretty(worker.last_line() or "training starts"))
    except KeyboardInterrupt:
        worker.stop()
        raise
    finally:
        worker.wait()
    if worker.process.returncode:
        raise RuntimeError(f"training stopped: {worker.last_line()} (all of it in {worker.log})")
    _redraw(picture, worker, shown)
    line.update(Pretty("training is finished"))


def _redraw(picture: Any, worker: Worker, shown: int) -> int:
    """Draw the losses of metrics.csv when it has grown; returns its number of rows."""
    from IPython.display import HTML

    rows = worker.rows()
    if len(rows) > shown:
        picture.update(HTML(_img(learning_curves(rows, worker.cfg.name))))
    return len(rows)


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
