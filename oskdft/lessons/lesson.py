"""A notebook at work: set-up, runs that are trained once, figures, comparison with the paper."""

import dataclasses
import functools
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from oskdft import config
from oskdft.config import Config
from oskdft.evaluation import bootstrap, evaluate, score_file
from oskdft.lessons import budgets, evidence, kept
from oskdft.lessons.figures import store
from oskdft.lessons.figures.store import SMOKE, as_html, display_figure, learning_curves
from oskdft.method.model import device_of
from oskdft.speech import protocol
from oskdft.training import run_folder
from oskdft.training.background import Worker
from oskdft.training.grid import Grid, read_grid
from oskdft.training.sweep import GRID
from oskdft.training.sweep import sweep as run_sweep
from oskdft.utils import provenance
from oskdft.utils.console import paragraph, say, table
from oskdft.utils.files import read_json, write_json
from oskdft.utils.process import keep_freed_memory

ROOT = Path(__file__).parents[2]  # the project; outputs never depend on the working folder
KEPT_RUN = kept.EVIDENCE / "run"  # of the profile classroom, seed 0
PROCESSES = 1  # of a sweep beside a notebook: a second would not fit into 4 GB


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


@dataclasses.dataclass(eq=False)
class Lesson:
    """One notebook at work; made by `setup`.

    Args:
        number: of the notebook, such as "02b". cfg: of the profile, with seed and device.
        out: folder for runs, speech and figures. save_figures: keep the figures of `show`.
        profile: preset or YAML file of ``cfg``.
        retrain: train again what is kept in the package.
    """

    number: str
    cfg: Config
    out: Path
    save_figures: bool
    profile: str = ""
    retrain: bool = False

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
        if not self.retrain and _is_kept(cfg):
            return self.out / "runs" / f"{cfg.strategy}-kept"
        digest = provenance.digest(json.dumps(config.to_dict(cfg), sort_keys=True))
        return self.out / "runs" / f"{cfg.strategy}-{digest}"

    def train(self, changes: dict[str, Any] | None = None, live: bool = False) -> Path:
        """Train the profile with ``changes`` and return the run folder.

        A finished run is returned at once, and so is the run that the package keeps, unless ``retrain``
        is set. An interrupted run is resumed, nothing is overwritten.

        Args:
            changes: settings by dotted name, as for `oskdft train`.
            live: train in a process of its own and redraw the learning curves meanwhile.
        """
        cfg = self.cfg.override(changes or {})
        out = self.folder(changes or {})
        if not out.exists() and out.name.endswith("-kept"):
            copied = out.with_name(f"{out.name}.part")
            shutil.copytree(KEPT_RUN, copied, dirs_exist_ok=True)
            copied.rename(out)
        if (out / "report.json").is_file():
            say(paragraph(f"found {cfg.strategy}, seed {cfg.seed}: {_shown(out)}{_origin(out)}"))
            if live:
                display_figure(learning_curves(self.rows(out), cfg.name), "The curves of the run.")
            return out
        resume = (out / "config.yaml").is_file()
        self.speech  # noqa: B018  refuses missing data before anything starts
        if live:
            _train_beside(cfg, out)
        else:
            from oskdft.training.train import train

            say(f"training {cfg.strategy}, seed {cfg.seed}: {_shown(out)}")
            train(cfg, out, resume)
        return out

    def sweep(
        self,
        name: str,
        rows: dict[str, dict[str, Any]],
        steps: int = 0,
        seeds: int = 0,
        full: bool = False,
    ) -> dict:
        """The runs of a comparison, as `evidence.compare` returns them.

        Runs of this profile and these rows that the package keeps are shown; with ``retrain`` they are
        trained again. Other runs are trained where they are missing. Says which runs these are.

        Args:
            name: of the kept sweep. rows: name -> changes of `base`; the first is the reference.
            steps, seeds: updates and number of runs of each row that is trained; 0: those of the
                kept sweep, or of `budgets`.
            full: one seed with the updates of the profile instead.
        Raises:
            ValueError: runs that failed, with their reasons.
        """
        grid, folder, base = self.kept_grid(name), kept.EVIDENCE / name, self.base(name)
        wanted = {row: base.override(changes) for row, changes in rows.items()}
        same = grid and wanted == {row: base.override(own) for row, own in grid.rows.items()}
        if self.retrain or not same:
            place = {"device": self.cfg.device, "data.root": self.cfg.data.root}
            changes = (grid.changes if grid else {}) | place
            if same and not steps and not seeds:
                grid = dataclasses.replace(grid, changes=changes)
            else:
                changes |= {} if full else budgets.short(self.cfg, steps)
                chosen = tuple(budgets.seeds_of(self.cfg, 1 if full else seeds))
                grid = Grid(self.profile, changes, rows, chosen, next(iter(rows)))
            folder = self.out / "sweeps" / f"{name}-{provenance.digest(grid.text())}"
            failed = run_sweep(grid, folder, f"local:{PROCESSES}", resume=True)["failed"]
            if failed:
                raise ValueError("; ".join(f"{run}: {reason}" for run, reason in failed.items()))
        return self._compared(folder)

    def swept(self, name: str) -> dict | None:
        """What `sweep` returned for a name, in this or another notebook; nothing is trained.

        None where no run of it is kept or finished in the output folder.
        """
        if self.kept_grid(name) and not self.retrain:
            return self._compared(kept.EVIDENCE / name)
        finished = sorted(self.out.glob(f"sweeps/{name}-*/*/test.json"), key=os.path.getmtime)
        return self._compared(finished[-1].parents[1]) if finished else None

    def _compared(self, folder: Path) -> dict:
        swept = evidence.compare(kept.read(folder))
        first, counted = swept["rows"][0], f"{len(swept['rows'])} rows, {len(swept['seeds'])} seeds"
        trained = f"{first['date']} on {first['device']}, commit {first['commit']}"
        say(paragraph(f"{counted}, {_shown(folder)}: trained {trained}"))
        return swept

    def base(self, name: str) -> Config:
        """The configuration that the rows of a sweep change: the profile, with the kept grid's changes."""
        grid = self.kept_grid(name)
        return self.cfg.override(grid.changes) if grid else self.cfg

    def kept_grid(self, name: str) -> Grid | None:
        """The grid of the sweep that the package keeps under a name, if it is of this profile."""
        file = kept.EVIDENCE / name / GRID
        grid = read_grid(file) if file.is_file() else None
        return grid if grid and grid.profile == self.profile else None

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
            listed = self.speech.test_trials, self.speech.test_root
            options = {"device": self.cfg.device, "channel": self.cfg.data.channel, "tta": tta}
            report = evaluate.evaluate(run / which, *listed, scores_file, **options)
            write_json(report_file, report)
        scores, labels = score_file.read_scores(scores_file)
        return Result(scores, labels, read_json(report_file))

    def draws(self, result: Result) -> np.ndarray:
        """EER [D] of a result in each draw of test speakers, as `bootstrap.bootstrap` draws them."""
        speakers = bootstrap.trial_speakers(self.speech.test_trials)
        return bootstrap.bootstrap(result.scores, result.labels, speakers)

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

    def happened(self, prediction: str, *sentences: str) -> None:
        """Print what a student predicted, and below it what happened and why.

        Args:
            prediction: the student's words; empty: none was written.
            sentences: with numbers of this run.
        """
        predicted = " ".join(str(prediction).split()) or "(nothing was written down)"
        print(paragraph(f"you predicted: {predicted}"))
        print(paragraph(f"what happened: {' '.join(sentences)}"))
        if self.smoke:
            print(f"({SMOKE})")

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
        print(table([head, *rows]), paragraph(note), sep="\n")
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
    retrain: bool = False,
) -> Lesson:
    """Start a notebook: load the profile, choose the output folder, print device and versions.

    Args:
        number: of the notebook. seed, device: of the run.
        profile: a preset or a YAML file; empty: $OSKDFT_PROFILE, else classroom.
        data_root: folder of the corpus; empty: the speech in the package, or below $OSKDFT_DATA.
        output_dir: empty: runs/<profile>; relative paths start at the project.
        save_figures: save every figure as PNG, SVG and JSON below the output folder.
        retrain: train again what is kept in the package.
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
    place = f"{device_of(device)} ({facts['device']})"
    print(f"profile {cfg.name} · seed {seed} · {place} · {versions}")
    if cfg.name == "smoke":
        print(SMOKE)
    return Lesson(number, cfg, out, save_figures, profile, retrain)


def _train_beside(cfg: Config, out: Path) -> None:
    """Train in a process of its own and redraw the curves; stopping the cell stops the training."""
    from IPython.display import HTML, Pretty, display

    worker, rows = Worker(cfg, out), []
    picture = display(Pretty("the curves appear after the first epoch"), display_id=True)
    line = display(Pretty("training starts"), display_id=True)
    worker.start()
    try:
        while worker.state == "running" or worker.rows() != rows:
            if worker.rows() != rows:
                rows = worker.rows()
                picture.update(HTML(as_html(learning_curves(rows, cfg.name))))
            line.update(Pretty(worker.last_line() or "training starts"))
            time.sleep(1)
    except KeyboardInterrupt:
        worker.stop()
        raise
    finally:
        worker.wait()
    if worker.process.returncode:
        raise RuntimeError(worker.why())
    line.update(Pretty("training is finished"))


def _is_kept(cfg: Config) -> bool:
    """Whether the package keeps the run of a configuration; device and folder do not matter."""
    if not (KEPT_RUN / "report.json").is_file():
        return False
    of_place = {"device": cfg.device, "data.root": cfg.data.root}
    report = read_json(KEPT_RUN / "report.json")
    return config.from_dict(report["config"]).override(of_place) == cfg


def _origin(run: Path) -> str:
    """Where and when a run of the package was trained; nothing for other runs."""
    if not run.name.endswith("-kept"):
        return ""
    report = read_json(run / "report.json")
    trained = f"{report['date']} on {report['device']} in {report['seconds'] / 60:.0f} min"
    return f"; trained {trained}; retrain = True trains it again"


def _shown(path: Path) -> str:
    """A path as printed: relative to the project where possible."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
