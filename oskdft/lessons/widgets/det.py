"""DET explorer: one threshold sets the point on the DET curve, the line in the histogram, the counts.

Of scored systems, or of two Gaussians with sliders for their distance and spread.
"""

from collections.abc import Iterable

import numpy as np
from ipywidgets import Button, Checkbox, Dropdown, HBox, Layout, SelectionSlider, VBox
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from scipy.special import ndtr, ndtri

from oskdft.evaluation import bootstrap, metrics
from oskdft.lessons.figures.scores import det_axes, det_data, histogram_axes
from oskdft.lessons.figures.style import Picture, needed, new, styled
from oskdft.lessons.widgets.parts import Panel, Screen, Status, slider, spread, wide

PRIORS = (0.001, 0.01, 0.05, 0.1, 0.2, 0.5, 0.8, 0.9, 0.99)
COSTS = (1, 2, 5, 10, 20, 50, 100, 1000)
CALLERS = 1000
TRIALS, OF_CALLERS = "trials", f"{CALLERS:,} callers"  # what the table counts
DRAWS = 300  # for a band
BAND = ndtr(np.linspace(ndtri(0.0005), ndtri(0.95), 60))  # false-alarm rates of its points
EACH = 500  # trials of each kind of two Gaussians
STEPS = 400  # of the threshold slider over the range of the scores
CELLS = {  # name -> centre in the table of counts
    "hits": (0.5, 1.5),
    "misses": (1.5, 1.5),
    "false alarms": (0.5, 0.5),
    "rejections": (1.5, 0.5),
}


def counts(scores: np.ndarray, labels: np.ndarray, threshold: float) -> dict[str, int]:
    """Trials by truth and decision; a score of at least ``threshold`` is accepted.

    Args:
        scores: [P]. labels: [P] 1 same speaker.

    >>> counts([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1], 0.4)
    {'hits': 1, 'misses': 1, 'false alarms': 1, 'rejections': 1}
    """
    accepted = np.asarray(scores) >= threshold
    target = np.asarray(labels, dtype=bool)
    return {
        "hits": int((accepted & target).sum()),
        "misses": int((~accepted & target).sum()),
        "false alarms": int((accepted & ~target).sum()),
        "rejections": int((~accepted & ~target).sum()),
    }


def effective_prior(p_target: float, c_miss: float, c_fa: float) -> float:
    """The prior that gives the same decisions when both errors cost 1.

    >>> effective_prior(0.5, 1, 9)
    0.1
    """
    return p_target * c_miss / (p_target * c_miss + (1 - p_target) * c_fa)


def of_callers(miss: float, false_alarm: float, p_target: float) -> dict[str, float]:
    """What happens to `CALLERS` callers, in the order of `counts`; ``p_target``: share of genuine ones.

    >>> of_callers(0.1, 0.02, 0.05)
    {'hits': 45.0, 'misses': 5.0, 'false alarms': 19.0, 'rejections': 931.0}
    """
    genuine = round(CALLERS * p_target)
    impostors = CALLERS - genuine
    shares = {
        "hits": genuine * (1 - miss),
        "misses": genuine * miss,
        "false alarms": impostors * false_alarm,
        "rejections": impostors * (1 - false_alarm),
    }
    return {name: float(share) for name, share in shares.items()}


def band(rates: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Where 95 % of drawn DET curves lie: miss rates [n], low and high, at the false-alarm rates `BAND`.

    Args:
        rates: (false alarms, misses) of each draw, both [m], from rejecting all to accepting all.

    >>> low, high = band([(np.array([0.0, 1.0]), np.array([1.0, 0.0]))])
    >>> bool(np.allclose(low, 1 - BAND)), bool(np.allclose(low, high))
    (True, True)
    """
    misses = [np.interp(BAND, alarm, miss) for alarm, miss in rates]
    low, high = np.quantile(misses, bootstrap.INTERVAL, axis=0)
    return low, high


def draws_of_speakers(
    scores: np.ndarray, labels: np.ndarray, speakers: np.ndarray
) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """DET curves of drawn speakers, for `band`.

    Args:
        scores: [P]. labels: [P] 1 same speaker. speakers: [P, 2] of the trials.
    """
    order = np.argsort(-np.asarray(scores))
    target = np.asarray(labels)[order] == 1
    for weight in bootstrap.weights(target, speakers[order], DRAWS):
        hits, alarms = np.cumsum(weight * target), np.cumsum(weight * ~target)
        if hits[-1] and alarms[-1]:
            yield alarms / alarms[-1], 1 - hits / hits[-1]


def draws_of_gaussians(distance: float, spread: float) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """DET curves of tests with `EACH` trials of each kind, for `band`; the same draws each time."""
    rng = np.random.default_rng(0)
    for _ in range(DRAWS):
        other, target = np.sort(rng.normal(size=(2, EACH)))
        below = np.searchsorted(distance + spread * target, other[::-1])  # misses at each alarm
        alarm = np.arange(EACH + 1) / EACH
        yield alarm, np.r_[1.0, below / EACH]


def detection_cost(miss: np.ndarray, false_alarm: np.ndarray, prior: float) -> np.ndarray:
    """Normalised cost of operating points when both errors cost 1.

    A system that ignores the speech has cost 1.

    >>> detection_cost(np.array([0.5]), np.array([0.0]), 0.01).tolist()
    [0.5]
    """
    return (prior * miss + (1 - prior) * false_alarm) / min(prior, 1 - prior)


@styled
def _figure(curves: dict[str, dict]) -> tuple[Picture, np.ndarray, dict, list[Artist]]:
    """DET curves, empty histogram, table of counts: figure, axes, lines by system, moving artists."""
    figure, axes = new(3, width=12.4, height=4.8, width_ratios=(1.1, 1.1, 0.85))
    lines = det_axes(axes[0], curves)
    axes[0].set_title("● threshold   ◇ least cost")
    (least,) = axes[0].plot(
        [], [], "D", ms=14, mfc="none", mec="black", mew=2, zorder=4, clip_on=False
    )
    (point,) = axes[0].plot([], [], "o", ms=13, color="black", mec="white", zorder=5, clip_on=False)
    best = axes[1].axvline(0, color="black", lw=1.8, ls=":", label="least cost")
    line = axes[1].axvline(0, color="black", lw=2.4, ls="-", label="threshold")
    return figure, axes, lines, [least, point, best, line, *_table(axes[2])]


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
    """The widget that `det_explorer` makes; its controls are attributes."""

    def __init__(
        self,
        systems: dict[str, tuple[np.ndarray, np.ndarray]],
        note: str,
        speakers: np.ndarray | None = None,
    ) -> None:
        needed(systems, "systems")
        self.systems = {name: tuple(map(np.asarray, pair)) for name, pair in systems.items()}
        self.speakers = speakers
        figure = self._picture()
        self._make_controls()
        self._set_system()
        self._set_shown()
        self.screen, self.status = Screen(figure, self.moving), Status()
        self._move()
        lines = [self.status, Status(note)]
        super().__init__([self._arranged(), self.screen.image, *lines], [self.screen], lines)
        self._listen()

    def _picture(self) -> Picture:
        """Everything that the scores decide: points, curves, and an empty place for the band."""
        self.points = {name: metrics.det_points(*pair) for name, pair in self.systems.items()}
        curves = {name: det_data(*pair) for name, pair in self.systems.items()}
        figure, self.axes, self.lines, self.moving = _figure(curves)
        self.band = None  # of the chosen system
        return figure

    def _draws(self) -> Iterable[tuple[np.ndarray, np.ndarray]] | None:
        """Drawn DET curves of the chosen system, for its band; None: the speakers are not known."""
        if self.speakers is None:
            return None
        return draws_of_speakers(*self.systems[self.system.value], self.speakers)

    def _set_band(self) -> None:
        """Draw the 95 % band of the chosen system."""
        if self.band:
            self.band.remove()
            self.band = None
        draws = self._draws()
        if draws is not None:
            frame = self.axes[0].get_xlim()
            low, high = (np.clip(ndtri(np.clip(x, 1e-9, 1 - 1e-9)), *frame) for x in band(draws))
            colour = self.lines[self.system.value][0].get_color()
            self.band = self.axes[0].fill_between(
                ndtri(BAND), low, high, color=colour, alpha=0.2, lw=0, zorder=0
            )

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

    def _arranged(self) -> HBox:
        boxes = HBox(list(self.shown.values()), layout=Layout(flex_flow="row wrap"))
        columns = (
            [HBox([self.system]), boxes, HBox([self.count, self.to_eer])],
            [self.threshold, self.prior],
            [self.miss_cost, self.false_alarm_cost],
        )
        return spread([VBox(column) for column in columns])

    def _listen(self) -> None:
        """Connect the controls; an error in a callback becomes a line in the widget."""
        for control in (self.threshold, self.prior, self.miss_cost, self.false_alarm_cost):
            control.observe(self.status.guard(self._move), "value")
        for box in self.shown.values():
            box.observe(self.status.guard(self._redraw), "value")
        self.system.observe(self.status.guard(self._look), "value")
        self.count.observe(self.status.guard(self._redraw), "value")
        self.to_eer.on_click(self.status.guard(lambda _: self._set_threshold()))

    def _look(self, change: dict) -> None:
        self._set_system()
        self._redraw(change)

    def _redraw(self, change: dict) -> None:
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

    def _move(self, *_: object) -> None:
        """Update everything that depends on threshold, prior and costs."""
        threshold = self.threshold.value
        trials = counts(*self.systems[self.system.value], threshold)
        miss = trials["misses"] / (trials["misses"] + trials["hits"])
        false_alarm = trials["false alarms"] / (trials["false alarms"] + trials["rejections"])
        prior = effective_prior(self.prior.value, self.miss_cost.value, self.false_alarm_cost.value)
        p_miss, p_fa, levels = self.points[self.system.value]
        best = int(np.argmin(detection_cost(p_miss, p_fa, prior)))
        self._place([(p_fa[best], p_miss[best]), (false_alarm, miss)], [levels[best], threshold])
        callers = of_callers(miss, false_alarm, self.prior.value)
        shown = trials if self.count.value == TRIALS else callers
        for text, count in zip(self.moving[4:], shown.values(), strict=True):
            text.set_text(f"{count:,.0f}")
        here = float(detection_cost(miss, false_alarm, prior))
        least = metrics.min_dcf_of(p_miss, p_fa, prior)
        self.status.say(
            f"{self.system.value}, threshold {threshold:.3f}: {100 * miss:.2f} % misses, "
            f"{100 * false_alarm:.2f} % false alarms.\n"
            f"DCF {here:.3f} here; minDCF {least:.3f} at threshold {levels[best]:.3f} "
            f"(normalised: 1 is a verifier that ignores the speech).\n"
            f"Of {CALLERS:,} callers, {callers['hits'] + callers['misses']:.0f} are who they say: "
            f"{callers['misses']:.0f} of them are turned away, and {callers['false alarms']:.0f} "
            f"impostors are let in."
        )
        self.screen.draw(
            f"DET curves, histogram and counts. {self.status.text} "
            + ", ".join(f"{count:,.0f} {name}" for name, count in shown.items())
        )

    def _place(self, rates: list[tuple[float, float]], thresholds: list[float]) -> None:
        """Move both points on the DET curve (within its frame) and both lines in the histogram."""
        frame = self.axes[0].get_xlim()  # the same on both axes
        for point, pair in zip(self.moving[:2], rates, strict=True):
            x, y = np.clip(ndtri(pair), *frame)
            point.set_data([x], [y])
        for line, threshold in zip(self.moving[2:4], thresholds, strict=True):
            line.set_xdata([threshold, threshold])


class Gaussians(Explorer):
    """The widget that `gaussian_explorer` makes: two Gaussians in the place of scores."""

    NAME = "two Gaussians"

    def __init__(self, distance: float, spread: float) -> None:
        self.distance, self.spread = (
            slider(name, value, low, high, 0.05)
            for name, value, low, high in (
                ("distance of the means", distance, 0.0, 6.0),
                ("spread of the same speaker", spread, 0.25, 3.0),
            )
        )
        note = (
            f"Scores of different speakers around 0 with spread 1, of the same speaker around the distance. "
            f"Band: where 95 % of tests with {EACH} trials of each kind lie."
        )
        super().__init__({self.NAME: self._scores()}, note)
        for control in (self.distance, self.spread):
            control.continuous_update = False  # the whole picture is drawn again
            control.observe(self.status.guard(self._shape), "value")

    def _scores(self) -> tuple[np.ndarray, np.ndarray]:
        """Scores that are spread as the Gaussians say, without chance, and labels."""
        place = ndtri((np.arange(EACH) + 0.5) / EACH)
        target = self.distance.value + self.spread.value * place
        return np.r_[target, place], np.repeat([1, 0], EACH)

    def _draws(self) -> Iterable[tuple[np.ndarray, np.ndarray]]:
        return draws_of_gaussians(self.distance.value, self.spread.value)

    def _arranged(self) -> HBox:
        columns = (
            [self.distance, self.spread, HBox([self.count, self.to_eer])],
            [self.threshold, self.prior],
            [self.miss_cost, self.false_alarm_cost],
        )
        return spread([VBox(column) for column in columns])

    def _shape(self, _: dict) -> None:
        """Draw other Gaussians; the threshold goes to their EER."""
        self.systems = {self.NAME: self._scores()}
        figure = self._picture()
        self._set_system()
        self._set_shown()
        self.screen.show(figure, self.moving)
        self._move()


def gaussian_explorer(distance: float = 3.0, spread: float = 1.0) -> Gaussians:
    """Two Gaussians with sliders for distance and spread, and everything of `det_explorer` on them.

    Args:
        distance: of the means, in deviations of the scores of different speakers, 0 to 6.
        spread: deviation of the scores of the same speaker, 0.25 to 3.
    Returns:
        The widget; its last value in a cell shows it, without a front end as a still.

    >>> widget = gaussian_explorer(2.0)
    >>> widget.status.text.splitlines()[0]
    'two Gaussians, threshold 1.000: 15.80 % misses, 15.80 % false alarms.'
    >>> widget.distance.value = 4.0
    >>> widget.status.text.splitlines()[0]
    'two Gaussians, threshold 2.000: 2.20 % misses, 2.20 % false alarms.'
    """
    return Gaussians(distance, spread)


def det_explorer(
    systems: dict[str, tuple[np.ndarray, np.ndarray]],
    note: str = "",
    speakers: np.ndarray | None = None,
) -> Explorer:
    """A threshold slider that DET curve, histogram and counts follow; prior and costs of minDCF.

    Args:
        systems: name -> (scores [P], labels [P], 1 same speaker). note: which trials these are.
        speakers: [P, 2] of the trials, which give the chosen curve a 95 % band over speakers.
    Returns:
        The widget; its last value in a cell shows it, without a front end as a still.
    Raises:
        ValueError: no system, or scores that cannot be scored.

    >>> widget = det_explorer({"mine": ([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])})
    >>> widget.threshold.value = 0.5
    >>> widget.status.text.splitlines()[0]
    'mine, threshold 0.500: 50.00 % misses, 0.00 % false alarms.'
    """
    return Explorer(systems, note, speakers)
