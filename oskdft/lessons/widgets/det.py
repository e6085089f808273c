"""DET explorer: one threshold sets the point on the DET curve, the line in the histogram, the counts."""

from collections.abc import Iterable

import numpy as np
from ipywidgets import Button, Checkbox, Dropdown, HBox, Layout, SelectionSlider, VBox, Widget
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from scipy.special import ndtri
from sklearn.metrics import confusion_matrix

from oskdft.evaluation import metrics
from oskdft.evaluation.bands import BAND, band, draws_of_speakers
from oskdft.lessons.figures.scores import det_axes, det_data, histogram_axes
from oskdft.lessons.figures.style import needed, new, styled
from oskdft.lessons.widgets.parts import Panel, Screen, Status, slider, spread, wide

PRIORS = (0.001, 0.01, 0.05, 0.1, 0.2, 0.5, 0.8, 0.9, 0.99)
COSTS = (1, 2, 5, 10, 20, 50, 100, 1000)
CALLERS = 1000
TRIALS, OF_CALLERS = "trials", f"{CALLERS:,} callers"  # what the table counts
STEPS = 400  # of the threshold slider over the range of the scores
CELLS = {  # name -> centre in the table of counts
    "hits": (0.5, 1.5),
    "misses": (1.5, 1.5),
    "false alarms": (0.5, 0.5),
    "rejections": (1.5, 0.5),
}


def counts(scores: np.ndarray, labels: np.ndarray, threshold: float) -> np.ndarray:
    """Trials [2, 2] by truth (same, different speaker) and decision (accepted, rejected).

    Args:
        scores: [P]; a score of at least ``threshold`` is accepted. labels: [P] 1 same speaker.

    >>> counts(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1]), 0.4).tolist()
    [[1, 1], [1, 1]]
    """
    return confusion_matrix(labels == 0, scores < threshold, labels=[False, True])


def effective_prior(p_target: float, c_miss: float, c_fa: float) -> float:
    """The prior that gives the same decisions when both errors cost 1.

    >>> effective_prior(0.5, 1, 9)
    0.1
    """
    return p_target * c_miss / (p_target * c_miss + (1 - p_target) * c_fa)


def detection_cost(miss: np.ndarray, false_alarm: np.ndarray, prior: float) -> np.ndarray:
    """Normalised cost of operating points when both errors cost 1.

    A system that ignores the speech has cost 1.

    >>> detection_cost(np.array([0.5]), np.array([0.0]), 0.01).tolist()
    [0.5]
    """
    return (prior * miss + (1 - prior) * false_alarm) / min(prior, 1 - prior)


def _table(ax: Axes) -> list[Text]:
    """The grid of the four counts, rows by truth; returns its texts in the order of `CELLS`."""
    ax.set(xlim=(0, 2), ylim=(0, 2), title="trials")
    ax.set_xticks((0.5, 1.5), ["accepted", "rejected"])
    rows = ["different\nspeakers", "same\nspeaker"]
    ax.set_yticks((0.5, 1.5), rows, rotation=90, va="center", ma="center")
    ax.tick_params(length=0)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    for name, (x, y) in CELLS.items():
        colour = "#fdecef" if name in ("misses", "false alarms") else "#eef4fb"
        ax.add_patch(Rectangle((x - 0.48, y - 0.48), 0.96, 0.96, color=colour, lw=0))
        ax.text(x, y - 0.2, name, ha="center", va="center", fontsize=12)
    return [ax.text(x, y, "", ha="center", va="bottom", fontsize=18) for x, y in CELLS.values()]


class Explorer(Panel):
    """A threshold slider that DET curve, histogram and counts follow; prior and costs of minDCF.

    Args:
        systems: name -> (scores [P], labels [P], 1 same speaker). note: which trials these are.
        speakers: [P, 2] of the trials, which give the chosen curve a 95 % band over speakers.
    Raises:
        ValueError: no system, or scores that cannot be scored.

    >>> widget = det_explorer({"mine": ([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])})
    >>> widget.threshold.value = 0.5
    >>> widget.status.text.splitlines()[0]
    'mine, threshold 0.500: 50.00 % misses, 0.00 % false alarms.'
    """

    def __init__(
        self,
        systems: dict[str, tuple[np.ndarray, np.ndarray]],
        note: str = "",
        speakers: np.ndarray | None = None,
    ) -> None:
        needed(systems, "systems")
        self.systems = {name: tuple(map(np.asarray, pair)) for name, pair in systems.items()}
        self.speakers, self.status = speakers, Status()
        self._make_controls()
        self._draw_first()
        self.screen = Screen(self.axes[0].figure, self.moving)
        self._move()
        columns = (
            [*self._choosers(), HBox([self.count, self.to_eer])],
            [self.threshold, self.prior],
            [self.miss_cost, self.false_alarm_cost],
        )
        controls, lines = spread([VBox(column) for column in columns]), [self.status, Status(note)]
        super().__init__([controls, self.screen.image, *lines], [self.screen], lines)
        when = self.status.when
        when(self._move, self.threshold, self.prior, self.miss_cost, self.false_alarm_cost)
        when(self._redraw, self.count, *self.shown.values())
        when(self._look, self.system)
        when(self._set_threshold, self.to_eer)

    def _make_controls(self) -> None:
        self.shown = {
            name: Checkbox(True, description=name, indent=False, layout=Layout(width="auto"))
            for name in self.systems
        }
        self.system = Dropdown(options=list(self.systems), description="look at", **wide())
        self.threshold = slider("threshold", 0, 0, 1, 1, ".3f")
        self.to_eer = Button(description="Jump to EER", layout=Layout(width="120px"))
        self.count = Dropdown(options=(TRIALS, OF_CALLERS), description="count", **wide("180px"))
        self.prior = SelectionSlider(
            options=PRIORS, value=0.05, description="prior of same speaker", **wide()
        )
        self.miss_cost, self.false_alarm_cost = (
            SelectionSlider(options=COSTS, value=1, description=f"cost of a {name}", **wide())
            for name in ("miss", "false alarm")
        )

    def _choosers(self) -> list[Widget]:
        """The controls that choose what is shown."""
        boxes = HBox(list(self.shown.values()), layout=Layout(flex_flow="row wrap"))
        return [HBox([self.system]), boxes]

    @styled
    def _draw_first(self) -> None:
        """Draw everything that the scores decide: points, curves, histogram, the grid of the counts."""
        self.points = {name: metrics.det_points(*pair) for name, pair in self.systems.items()}
        curves = {name: det_data(*pair) for name, pair in self.systems.items()}
        _, self.axes = new(3, width=12.4, height=4.8, width_ratios=(1.1, 1.1, 0.85))
        det, histogram, table = self.axes
        self.lines = det_axes(det, curves)
        det.set_title("● threshold   ◇ least cost")
        diamond = {"ms": 14, "mfc": "none", "mec": "black", "mew": 2, "zorder": 4}
        (least,) = det.plot([], [], "D", clip_on=False, **diamond)
        (point,) = det.plot([], [], "o", ms=13, color="black", mec="white", zorder=5, clip_on=False)
        best = histogram.axvline(0, color="black", lw=1.8, ls=":", label="least cost")
        line = histogram.axvline(0, color="black", lw=2.4, ls="-", label="threshold")
        self.moving: list[Artist] = [least, point, best, line, *_table(table)]
        self.band = None  # of the chosen system
        self._set_system()
        self._set_shown()

    def _draws(self) -> Iterable[tuple[np.ndarray, np.ndarray]] | None:
        """Drawn DET curves of the chosen system, for its band; None: the speakers are not known."""
        if self.speakers is None:
            return None
        return draws_of_speakers(*self.systems[self.system.value], self.speakers)

    def _set_band(self) -> None:
        """Draw the 95 % band of the chosen system."""
        if self.band:
            self.band.remove()
        draws = self._draws()
        if draws is not None:
            frame = self.axes[0].get_xlim()
            low, high = (np.clip(ndtri(np.clip(x, 1e-9, 1 - 1e-9)), *frame) for x in band(draws))
            colour = self.lines[self.system.value][0].get_color()
            self.band = self.axes[0].fill_between(
                ndtri(BAND), low, high, color=colour, alpha=0.2, lw=0, zorder=0
            )

    def _look(self) -> None:
        self._set_system()
        self._redraw()

    def _redraw(self) -> None:
        self._set_shown()
        self.screen.refresh()
        self._move()

    @styled
    def _set_system(self) -> None:
        """Set histogram and range of the chosen system; the threshold starts at its EER."""
        scores, labels = self.systems[self.system.value]
        ax = self.axes[1]
        step = float(np.ptp(scores) or 1) / STEPS
        low = float(scores.min()) - step
        high = float(scores.max()) + step
        # the slider refuses a maximum below its minimum
        self.threshold.max = max(self.threshold.max, high)
        self.threshold.min, self.threshold.max, self.threshold.step = low, high, step
        self._set_threshold()
        self._set_band()
        while ax.containers:
            ax.containers[0].remove()
        histogram_axes(ax, scores[labels == 1], scores[labels == 0])
        ax.set_xlim(low, high)
        ax.relim()
        ax.autoscale_view(scalex=False)
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, columnspacing=1.0)

    def _set_threshold(self) -> None:
        self.threshold.value = metrics.eer(*self.systems[self.system.value])[1]

    @styled
    def _set_shown(self) -> None:
        """Show the curves of the ticked systems and always the curve of the chosen system."""
        for name, box in self.shown.items():
            box.disabled = name == self.system.value
            box.value = box.value or box.disabled
            for line in self.lines[name]:
                line.set_visible(box.value)
        curves = [curve for curve, _ in self.lines.values() if curve.get_visible()]
        legend = self.axes[0].legend(
            handles=curves, loc="best", fontsize=11, frameon=True, handlelength=1.6
        )
        legend.set_in_layout(False)  # long names must not shrink the curves
        self.axes[2].set_title(self.count.value)

    def _move(self) -> None:
        """Update everything that depends on threshold, prior and costs."""
        threshold, name = self.threshold.value, self.system.value
        trials = counts(*self.systems[name], threshold)
        rates = trials / trials.sum(1, keepdims=True)
        (_, miss), (false_alarm, _) = rates
        genuine = round(CALLERS * self.prior.value)
        callers = rates * [[genuine], [CALLERS - genuine]]
        prior = effective_prior(self.prior.value, self.miss_cost.value, self.false_alarm_cost.value)
        p_miss, p_fa, levels = self.points[name]
        costs = detection_cost(p_miss, p_fa, prior)
        best = int(np.argmin(costs))

        # both points on the DET curve (within its frame) and both lines in the histogram
        places = (p_fa[best], p_miss[best], levels[best]), (false_alarm, miss, threshold)
        frame = self.axes[0].get_xlim()  # the same on both axes
        for point, line, (x, y, level) in zip(
            self.moving[:2], self.moving[2:4], places, strict=True
        ):
            point.set_data(*np.clip(ndtri([[x], [y]]), *frame))
            line.set_xdata([level, level])
        shown = (trials if self.count.value == TRIALS else callers).ravel()
        for text, count in zip(self.moving[4:], shown, strict=True):
            text.set_text(f"{count:,.0f}")
        self.status.say(
            f"{name}, threshold {threshold:.3f}: {100 * miss:.2f} % misses, "
            f"{100 * false_alarm:.2f} % false alarms.\n"
            f"DCF {detection_cost(miss, false_alarm, prior):.3f} here; minDCF {costs[best]:.3f} at "
            f"threshold {levels[best]:.3f} (normalised: 1 is a verifier that ignores the speech).\n"
            f"Of {CALLERS:,} callers, {genuine} are who they say: {callers[0, 1]:.0f} of them are "
            f"turned away, and {callers[1, 0]:.0f} impostors are let in."
        )
        self.screen.draw(
            f"DET curves, histogram and counts. {self.status.text} "
            + ", ".join(f"{count:,.0f} {cell}" for count, cell in zip(shown, CELLS, strict=True))
        )


det_explorer = Explorer  # its name in notebooks
