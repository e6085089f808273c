"""Training desk: choose, start, watch, stop, resume and compare small runs while the notebook answers."""

import asyncio
import itertools
from typing import Any

from ipywidgets import Button, Dropdown, HBox, Layout
from matplotlib.lines import Line2D

from oskdft.lessons.figures.style import COLOURS, Picture, joined, new, plain, styled
from oskdft.lessons.lesson import Lesson
from oskdft.lessons.widgets.parts import Panel, Screen, Status, spread, wide
from oskdft.method.strategies import stages
from oskdft.training.background import Worker

LOOK_EVERY_S = 1.0  # between two looks at the run folder
FACTORS = {"loss.kd_weight": (0.0, 0.1, 1.0, 10.0), "train.lr": (0.3, 1.0, 3.0)}
NARROW = 8  # units of an adapter
LOSSES = {"sv": "-", "kd_excess": "--"}  # column of metrics.csv -> line
ALONE = "no second run"
OWN = "the run of this notebook"
HELP = (
    "Choose the settings. Start trains in a process of its own, so that the notebook stays responsive. "
    "Stop saves the state and ends the process; Resume continues from that state. Each choice of settings "
    "is a run of its own; Beside lays a second run over it."
)


class Desk(Panel):
    """Settings of a run, buttons that start, stop and resume it, and its curves beside those of another.

    Nothing is trained before a click. A finished run is shown, a stopped run can be resumed. When the
    kernel ends, the process saves its state and ends.

    Args:
        lesson: of the notebook. changes: settings by dotted name that make the run small.

    >>> import tempfile
    >>> from oskdft.lessons.lesson import setup
    >>> lesson = setup("04", output_dir=tempfile.mkdtemp())  # doctest: +ELLIPSIS
    profile smoke ...
    >>> desk = training_desk(lesson)
    >>> [button.disabled for button in (desk.start, desk.stop, desk.resume)]
    [False, True, True]
    >>> desk.kd_weight.value = "x 10"
    >>> desk.worker.cfg.loss.kd_weight == 10 * lesson.cfg.loss.kd_weight
    True
    """

    def __init__(self, lesson: Lesson, changes: dict[str, Any] | None = None) -> None:
        self.lesson, self.base = lesson, lesson.cfg.override(changes or {})
        self.changes = changes or {}
        units = self.base.model.adapter_units
        self.kd_weight = _choice(
            "KD weight", [f"x {f:g}" for f in FACTORS["loss.kd_weight"]], "x 1"
        )
        self.rate = _choice("learning rate", [f"x {f:g}" for f in FACTORS["train.lr"]], "x 1")
        sizes = [f"{size} units" for size in sorted({NARROW, units})]
        self.adapters = _choice("adapters", ["none, one path", *sizes], f"{units} units")
        self.settings = (self.kd_weight, self.rate, self.adapters)
        self.runs: dict[str, Worker] = {}  # by their settings in words
        self.beside = _choice("Beside", [ALONE], ALONE)
        self.watch: asyncio.Task | None = None
        self.start, self.stop, self.resume = (
            Button(description=name, layout=Layout(width="120px"))
            for name in ("Start", "Stop", "Resume")
        )
        self.screen, self.status = Screen(new()[0]), Status()
        self.screen.image.layout.max_width = "820px"  # controls and curves in one view
        self._find_runs()
        self.choose()
        buttons = HBox([self.start, self.stop, self.resume])
        controls = [spread(self.settings), spread([buttons, self.beside])]
        screens = [self.screen] if self.rows else []
        super().__init__([*controls, self.status, self.screen.image], screens, [self.status])
        self.status.when(self._begin, self.start, self.resume)
        self.status.when(self._end, self.stop)
        self.status.when(self.choose, *self.settings)
        self.status.when(self.draw, self.beside)

    def _worker(self, key: tuple[str, ...]) -> Worker:
        """The run of these settings."""
        weight, rate, adapters = key
        changes = dict(self.changes)
        if weight != "x 1":
            changes["loss.kd_weight"] = float(weight[2:]) * self.base.loss.kd_weight
        if rate != "x 1":
            changes["train.lr"] = float(rate[2:]) * self.base.train.lr
        if adapters == "none, one path":
            changes["strategy"] = "joint-no-adapter"
        elif adapters != f"{self.base.model.adapter_units} units":
            changes["model.adapter_units"] = int(adapters.split()[0])
        return Worker(self.lesson.cfg.override(changes), self.lesson.folder(changes))

    def _find_runs(self) -> None:
        """Add the run of the notebook, and the runs that an earlier session left in the folder."""
        found = {OWN: Worker(self.lesson.cfg, self.lesson.folder({}))}
        for key in itertools.product(*(control.options for control in self.settings)):
            found[_label(key)] = self._worker(key)
        self.runs |= {name: run for name, run in found.items() if run.state != "new"}

    def choose(self) -> None:
        """Turn to the run of the settings."""
        key = tuple(control.value for control in self.settings)
        self.name = _label(key)
        self.worker = self.runs.setdefault(self.name, self._worker(key))
        train = self.worker.cfg.train
        plan = stages(self.worker.cfg)
        self.epochs = sum(max(round(train.epochs * stage.share), 1) for stage in plan)
        self.rows: list[dict[str, float]] = []
        self.look()

    def _begin(self) -> None:
        self.worker.start()
        self.look()
        self.watch = asyncio.get_running_loop().create_task(self._watch())

    def _end(self) -> None:
        self.worker.stop()
        self.stop.disabled = True
        self.status.say("stopping: the step at hand is finished and the state saved")

    async def _watch(self) -> None:
        """Call `look` regularly until the process has ended."""
        look = self.status.guard(self.look)
        while self.worker.state == "running":
            if not self.stop.disabled:
                look()
            await asyncio.sleep(LOOK_EVERY_S)
        look()

    def look(self) -> None:
        """Update picture, status line, lists and buttons."""
        state = self.worker.state
        for button, fits in ((self.start, "new"), (self.stop, "running"), (self.resume, "stopped")):
            button.disabled = state != fits
        for control in self.settings:
            control.disabled = state == "running"
        rows = self.worker.rows()
        if len(rows) != len(self.rows) or state != "running":
            self.rows = rows
            self._list_runs()
            self.draw()
        if self.worker.failed:
            self.status.say(self.worker.why(), bad=True)
        else:
            self.status.say(self._progress(state))

    def _list_runs(self) -> None:
        """Offer every other run that has curves as the second one."""
        others = [name for name, run in self.runs.items() if name != self.name and run.rows()]
        options = [ALONE, *others]
        if options != list(self.beside.options):
            chosen = self.beside.value if self.beside.value in options else ALONE
            self.beside.options = options
            self.beside.value = chosen

    def draw(self) -> None:
        """Draw the curves of the run, and of the run beside it."""
        runs = {}
        for name in (self.name, self.beside.value):
            if name != ALONE and (rows := self.runs[name].rows()):
                runs[name] = rows, self.runs[name].validations()
        if runs:
            self.screen.show(curves(runs))
        self.screen.image.layout.display = "" if runs else "none"

    def _progress(self, state: str) -> str:
        """Progress of the run, in words."""
        if state == "new":
            return HELP
        done = len({(row["stage"], row["epoch"]) for row in self.rows})
        words = f"{state}: {done} of {self.epochs} epochs"
        if self.rows:
            last = self.rows[-1]
            columns = ("loss", "sv", "kd_excess", "accuracy")
            numbers = [f"{name} {last[name]:.3g}" for name in columns if name in last]
            words += f", update {last['step']:.0f}, {', '.join(numbers)}"
        if validations := self.worker.validations():
            words += f", development EER {100 * validations[-1]['dev_eer']:.1f} %"
        return f"{words}\n{self.worker.last_line()}" if state == "running" else words


def _choice(name: str, options: list[str], value: str) -> Dropdown:
    return Dropdown(description=name, options=options, value=value, **wide("270px"))


def _label(key: tuple[str, ...]) -> str:
    """Settings in words, as they stand in the list and in the legend."""
    weight, rate, adapters = key
    return f"KD {weight}, rate {rate}, adapters: {adapters}"


@styled
def curves(runs: dict[str, tuple[list[dict], list[dict]]]) -> Picture:
    """Losses and development EER of one or two runs over their updates.

    Args:
        runs: name -> rows of metrics.csv, and the validations ("step", "dev_eer" in [0, 1]).

    >>> curves({"a": ([{"step": 10, "sv": 2.0}], [{"step": 10, "dev_eer": 0.25}])}).alt
    'Curves of a. Development EER at the end: a 25.0 %.'
    """
    figure, (losses, rates) = new(2, height=4.8)
    for (rows, validations), colour in zip(runs.values(), COLOURS, strict=False):
        for column, dashes in LOSSES.items():
            points = [(row["step"], row[column]) for row in rows if column in row]
            if points:
                losses.plot(*zip(*points, strict=True), dashes, color=colour)
        points = [(entry["step"], 100 * entry["dev_eer"]) for entry in validations]
        if points:
            rates.plot(*zip(*points, strict=True), "o-", color=colour)
    losses.set(xlabel="update", ylabel="loss (line: SV, dashes: KD above its floor)")
    rates.set(xlabel="update", ylabel="development EER [%]")
    keys = [Line2D([], [], color=colour) for colour in COLOURS[: len(runs)]]
    figure.legend(keys, list(map(plain, runs)), loc="outside upper center", ncols=1)
    ends = [
        f"{name} {100 * validations[-1]['dev_eer']:.1f} %"
        for name, (_, validations) in runs.items()
        if validations
    ]
    figure.alt = f"Curves of {joined(runs)}."
    figure.alt += f" Development EER at the end: {joined(ends)}." if ends else ""
    return figure


training_desk = Desk  # its name in notebooks
