"""A notebook at work: set-up, runs that are trained once, figures, comparison with the paper."""

import dataclasses
import functools
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from oskdft import config
from oskdft.config import Config
from oskdft.evaluation import evaluate, score_file
from oskdft.lessons.exercise import table
from oskdft.lessons.figures import store
from oskdft.lessons.figures.store import SMOKE, as_html, display_figure, learning_curves
from oskdft.method.model import device_of
from oskdft.method.teacher import Teacher
from oskdft.speech import protocol
from oskdft.training import run_folder
from oskdft.training.background import Worker
from oskdft.utils import provenance
from oskdft.utils.console import say
from oskdft.utils.files import read_json, write_json
from oskdft.utils.process import keep_freed_memory

ROOT = Path(__file__).parents[2]  # the project; outputs never depend on the working folder


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """A trained run on the test trials of its corpus.

    Args:
        scores: [P] cosines. labels: [P] 1 same speaker.
        report: the dictionary that `oskdft evaluate --json` prints.
    """

    scores: np.ndarray
    labels: np.ndarray
    report: dict


class Lesson:
    """One notebook at work; made by `setup`.

    Args:
        number: of the notebook, "00" to "10". cfg: of the profile, with seed and device.
        out: folder for runs, speech and figures. save_figures: keep the figures of `show`.
    """

    def __init__(self, number: str, cfg: Config, out: Path, save_figures: bool) -> None:
        self.number, self.cfg, self.out, self.save_figures = number, cfg, out, save_figures

    @functools.cached_property
    def speech(self) -> protocol.Task:
        """Training, development and test speech of the profile; prepared on first use."""
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

        A finished run is returned at once, an interrupted run is resumed, nothing is overwritten.

        Args:
            changes: settings by dotted name, as for `oskdft train`.
            live: train in a process of its own and redraw the learning curves meanwhile.
            teacher: a loaded teacher, such as `sweep.shared_teacher`; not used with ``live``.
        """
        cfg = self.cfg.override(changes or {})
        out = self.folder(changes or {})
        if (out / "report.json").is_file():
            say(f"found {cfg.strategy}, seed {cfg.seed}: {_shown(out)}")
            return out
        resume = (out / "config.yaml").is_file()
        self.speech  # noqa: B018  refuses missing data before anything starts
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
            run: folder from `train`. which: "best" or "last" checkpoint.
            tta: score whole recordings and crops; False: whole recordings only.
        Raises:
            ValueError: the corpus has no test trials.
        """
        if self.speech.test_trials is None:
            raise ValueError(f"{self.cfg.data.corpus} has no test trials; set data.trials")
        stem = f"test-{which}{'' if tta else '-full'}"
        scores_file, report_file = run / f"{stem}.txt", run / f"{stem}.json"
        if not report_file.is_file():
            scores_file.unlink(missing_ok=True)  # left by an interrupted evaluation
            trials, root = self.speech.test_trials, self.speech.test_root
            report = evaluate.evaluate(
                run / which, trials, root, scores_file, None, tta, self.cfg.device
            )
            write_json(report_file, report)
        scores, labels = score_file.read_scores(scores_file)
        return Result(scores, labels, read_json(report_file))

    def rows(self, run: Path) -> list[dict[str, float]]:
        """Rows of metrics.csv of a run, column -> number."""
        return run_folder.read_metrics(run / "metrics.csv")

    def show(self, name: str, plot: str, caption: str, **data: Any) -> None:
        """Draw a figure and show it with its alternative text; save it when ``save_figures`` is set.

        Args:
            name: short, for the file. plot: a name in `figures.plots.PLOTS`. data: its arguments.
        """
        note = SMOKE if self.smoke else ""
        display_figure(store.draw(plot, data, note), caption)
        if self.save_figures:
            recipe = config.to_dict(self.cfg.override({"data.root": ""}))  # no path of this machine
            store.save(
                f"{self.number}_{name}_{self.cfg.name}", self.out / "figures", plot, data, caption,
                config=recipe, seed=self.cfg.seed, replace=True, note=note,
            )  # fmt: skip

    def compare(self, rows: list[tuple[str, str, str, str]], seeds: int = 1) -> None:
        """Print published figures beside ours, and save the table for the report.

        Args:
            rows: (quantity, published figure, its source and trials, our figure or "not measured").
            seeds: number of seeds our figures are means over; 0: no trial was scored.
        """
        head = ("quantity", "published", "source and trials", "ours")
        test, corpus = self.speech.test_trials, self.cfg.data.corpus
        trials = "no trials"
        if seeds:
            listed = f"{len(test):,} trials of {corpus} ({test.name})" if test else "no test trials"
            trials = f"{listed}, {seeds} seed{'s' * (seeds > 1)}"
        note = f"ours: profile {self.cfg.name}, {trials}"
        if seeds and self.cfg.name not in ("vox1", "vox2"):
            note += "; other speech, teacher and sizes: not comparable"
        if self.smoke:
            rows = [(*row[:3], "not comparable") for row in rows]
        print(table([head, *rows]), note, sep="\n")
        record = {"head": head, "rows": rows, "note": note}
        write_json(self.out / "tables" / f"{self.number}.json", record)


def setup(
    number: str,
    profile: str = "",
    seed: int = 0,
    device: str = "auto",
    data_root: str = "",
    output_dir: str = "",
    save_figures: bool = False,
) -> Lesson:
    """Start a notebook: load the profile, choose the output folder, print device and versions.

    Args:
        number: of the notebook. seed, device: of the run.
        profile: a preset or a YAML file; empty: $OSKDFT_PROFILE, else classroom.
        data_root: folder of the corpus; empty: the speech in the package, or below $OSKDFT_DATA.
        output_dir: empty: runs/<profile>; relative paths start at the project.
        save_figures: save every figure as PNG, SVG and JSON below the output folder.
    Raises:
        ValueError: unknown profile or device.
    """
    keep_freed_memory()
    profile = profile or os.environ.get("OSKDFT_PROFILE") or "classroom"
    cfg = config.load(profile)
    out = ROOT / (output_dir or f"runs/{Path(profile).stem}")
    root = data_root and str(ROOT / data_root)
    cfg = cfg.override({"seed": seed, "device": device, "data.root": root})
    facts = provenance.facts()
    versions = ", ".join(f"{name} {facts['versions'][name]}" for name in ("oskdft", "torch"))
    print(
        f"profile {cfg.name} · seed {seed} · {device_of(device)} ({facts['device']}) · {versions}"
    )
    if cfg.name == "smoke":
        print(SMOKE)
    return Lesson(number, cfg, out, save_figures)


def show_kept(name: str) -> None:
    """Show a figure of longer runs, drawn again from its numbers in figures/.

    Args:
        name: such as 05_strategies_speechocean762; a missing figure is reported, not an error.

    >>> show_kept("05_no_such_figure")
    05_no_such_figure: not measured yet
    """
    path = ROOT / "figures" / f"{name}.json"
    if not path.is_file():
        print(f"{name}: not measured yet")
        return
    display_figure(store.redraw(path), store.read(path)["caption"])


def _train_beside(cfg: Config, out: Path) -> None:
    """Train in a process of its own and redraw the curves; stopping the cell stops the training."""
    from IPython.display import HTML, Pretty, display

    worker = Worker(cfg, out)
    picture = display(Pretty("the curves appear after the first epoch"), display_id=True)
    line = display(Pretty("training starts"), display_id=True)
    shown, running = 0, True
    worker.start()
    try:
        while running:
            time.sleep(1)
            running = worker.state == "running"
            line.update(Pretty(worker.last_line() or "training starts"))
            rows = worker.rows()
            if len(rows) > shown:
                picture.update(HTML(as_html(learning_curves(rows, cfg.name))))
                shown = len(rows)
    except KeyboardInterrupt:
        worker.stop()
        raise
    finally:
        worker.wait()
    if worker.process.returncode:
        raise RuntimeError(f"training stopped: {worker.last_line()} (full log: {worker.log})")
    line.update(Pretty("training is finished"))


def _shown(path: Path) -> str:
    """A path as printed: relative to the project where possible."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
