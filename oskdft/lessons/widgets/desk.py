"""Training desk: start, watch, stop and resume a small run while the notebook stays responsive."""

import asyncio
from typing import Any

from ipywidgets import Button, HBox, Layout

from oskdft.lessons.figures.store import learning_curves
from oskdft.lessons.figures.style import new
from oskdft.lessons.lesson import Lesson
from oskdft.lessons.widgets.parts import Panel, Screen, Status
from oskdft.method.strategies import stages
from oskdft.training.background import Worker

LOOK_EVERY_S = 1.0  # between two looks at the run folder
HELP = (
    "Start trains in a process of its own, so that the notebook stays responsive. Stop saves the state "
    "and ends the process; Resume continues from that state."
)


class Desk(Panel):
    """Buttons that start, stop and resume a run, and its curves as they grow.

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
    """

    def __init__(self, lesson: Lesson, changes: dict[str, Any] | None = None) -> None:
        cfg = lesson.cfg.override(changes or {})
        self.worker = Worker(cfg, lesson.folder(changes or {}))
        self.watch: asyncio.Task | None = None
        self.rows: list[dict[str, float]] = []
        self.epochs = sum(max(round(cfg.train.epochs * stage.share), 1) for stage in stages(cfg))
        self.start, self.stop, self.resume = (
            Button(description=name, layout=Layout(width="120px"))
            for name in ("Start", "Stop", "Resume")
        )
        self.screen, self.status = Screen(new()[0]), Status()
        self.screen.image.layout.max_width = "680px"  # buttons and curves in one view
        self.look()
        buttons = HBox([self.start, self.stop, self.resume])
        screens = [self.screen] if self.rows else []
        super().__init__([buttons, self.status, self.screen.image], screens, [self.status])
        self.status.when(self._begin, self.start, self.resume)
        self.status.when(self._end, self.stop)

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
        """Update picture, status line and buttons."""
        state = self.worker.state
        for button, fits in ((self.start, "new"), (self.stop, "running"), (self.resume, "stopped")):
            button.disabled = state != fits
        rows = self.worker.rows()
        if len(rows) > len(self.rows):
            self.rows = rows
            self.screen.show(learning_curves(rows, self.worker.cfg.name))
        self.screen.image.layout.display = "" if self.rows else "none"
        if self.worker.failed:
            self.status.say(self.worker.why(), bad=True)
        else:
            self.status.say(self._progress(state))

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
        return f"{words}\n{self.worker.last_line()}" if state == "running" else words


training_desk = Desk  # its name in notebooks
