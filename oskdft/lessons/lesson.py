"""What the notebooks share: set-up, runs trained once and found again, exercises, comparison with the paper."""

import dataclasses
import functools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from oskdft import config
from oskdft.config import Config
from oskdft.evaluation import evaluate, score_file
from oskdft.lessons.exercise import table
from oskdft.lessons.figures import store
from oskdft.lessons.figures.store import _display, _img, learning_curves
from oskdft.method.model import device_of
from oskdft.method.teacher import Teacher
from oskdft.speech import protocol
from oskdft.training import run_folder
from oskdft.training.background import Worker
from oskdft.utils import provenance
from oskdft.utils.console import say
from oskdft.utils.files import read_json, write_json
from oskdft.utils.process import keep_freed_memory

ROOT = Path(__file__).parents[2]  # of the project; outputs never depend on the working folder


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
    def speech(self) -> protocol.Task:
        """Training, development and test speech of the profile; synthetic voices are made once."""
        return protocol.prepare(self.cfg)

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
            from oskdft.training.train import train

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
        scores, labels = score_file.read_scores(scores_file)
        return Result(run, scores, labels, read_json(report_file))

    def rows(self, run: Path) -> list[dict[str, float]]:
        """metrics.csv of a run, one dictionary per row."""
        return run_folder.read_metrics(run / "metrics.csv")

    def show(self, name: str, plot: str, caption: str, **data: Any) -> None:
        """Draw a figure, show it with its alternative text, and keep it when figures are saved.

        Args:
            name: short, for the file. plot: function of `oskdft.lessons.figures.plots`. data: its arguments.
        """
        note = SMOKE if self.smoke else ""
        _display(store.draw(plot, data, note), caption)
        if self.save_figures:
            placeless = config.to_dict(self.cfg.override({"data.root": ""}))
            store.save(
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
    _display(store.redraw(path), store.read(path)["caption"])


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
