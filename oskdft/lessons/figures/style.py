"""One style for every figure: colours, sizes, legend inside, an alternative text with the picture."""

import contextlib
import functools
import io
import threading
from collections.abc import Callable, Iterable, Iterator

import matplotlib as mpl
import numpy as np
import seaborn as sns
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

COLOURS = sns.color_palette("colorblind", 10).as_hex()
MARKERS = "osD^vPXp<>"
GREYS = ["#4d4d4d", "#7f7f7f", "#a6a6a6"]  # of systems without training
FAR = 2.0  # ranges of the data from them to a baseline that is still drawn
DASHES = ["-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.5, 1.2, 1.5)), (0, (8, 3))]
STYLE = {
    **sns.axes_style("ticks"),
    "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same picture everywhere
    "font.size": 13,
    "axes.titlesize": 13,
    "axes.labelsize": 13,
    "xtick.labelsize": 12,
    "ytick.labelsize": 12,
    "legend.fontsize": 12,
    "legend.framealpha": 0.85,
    "legend.edgecolor": "none",
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "lines.linewidth": 2.2,
    # line styles too, so that lines differ without colour
    "axes.prop_cycle": cycler(color=COLOURS[:10]) + cycler(linestyle=(DASHES * 2)[:10]),
    "svg.hashsalt": "oskdft",
    "figure.dpi": 100,
}
ALONE = threading.RLock()  # JupyterLab runs callbacks of controls in two threads


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Use the project's style, one thread at a time, because matplotlib's settings are global."""
    with ALONE, mpl.rc_context(STYLE):
        yield


styled = style()  # as a decorator: a function that draws in the project's style


class Picture(Figure):
    """A Figure outside pyplot's state, with an alternative text; notebooks show both."""

    alt = ""

    def _repr_mimebundle_(self, **_: object) -> tuple[dict, dict]:
        with io.BytesIO() as file, style():
            self.savefig(file, format="png", dpi=100)
            data = {"image/png": file.getvalue(), "text/plain": self.alt}
        return data, {"image/png": {"alt": self.alt}}


def new(
    columns: int = 1, rows: int = 1, width: float = 9.6, height: float = 5.4, **options: object
) -> tuple[Picture, Axes | np.ndarray]:
    """An empty picture and its axes (one, or an array of them); inches, 16:9 unless told.

    >>> new(2)[1].shape
    (2,)
    """
    figure = Picture(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)  # inches
    return figure, figure.subplots(rows, columns, **options)


def legend(ax: Axes) -> None:
    """Put the legend inside ``ax``, where it hides least; none for fewer than two entries."""
    if len(ax.get_legend_handles_labels()[1]) > 1:
        ax.legend(loc="best")


def legend_above(ax: Axes, columns: int) -> None:
    """Put the legend of ``ax`` above it, for plots without free room; the figure grows by its rows."""
    handles, labels = ax.get_legend_handles_labels()
    rows = -(-len(labels) // columns)
    ax.figure.set_figheight(ax.figure.get_figheight() + 0.27 * rows)
    ax.figure.legend(handles, labels, loc="outside upper left", ncols=columns)


def plain_log(ax: Axes) -> None:
    """A logarithmic y axis with plain numbers at 1, 2 and 5 of each decade."""
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())


def plot(function: Callable[..., str]) -> Callable[..., Picture]:
    """Make a plot of a function that draws into axes and returns the alternative text.

    The plot takes the arguments of the function without the axes. It is drawn in the project's style
    and has a legend when there are several labels and the function made none.

    >>> @plot
    ... def dots(ax, values):
    ...     ax.plot(values, "o")
    ...     return f"{len(values)} dots."
    >>> dots([1, 2]).alt
    '2 dots.'
    """

    @styled
    @functools.wraps(function)
    def run(*args, **kwargs) -> Picture:
        figure, ax = new()
        figure.alt = function(ax, *args, **kwargs)
        if not figure.legends and ax.get_legend() is None:
            legend(ax)
        return figure

    return run


def baseline_lines(
    ax: Axes, baselines: dict[str, dict] | None, vertical: bool = False, minus: float = 0.0
) -> str:
    """Draw systems without training as lines across a plot whose data are drawn, with their intervals.

    A line further from the data than `FAR` times their range stands in the legend only.

    Args:
        baselines: name -> {"mean": rate, "low": rate, "high": rate} (low and high may be missing), or the
            rate alone; fractions. vertical: lines at a place of the x axis. minus: zero of the axis [%]; an
            interval is of the rate and not of the difference, so none is drawn then.
    Returns:
        Their sentence in the alternative text, with a blank before it; "" without baselines.

    >>> baseline_lines(new()[1], {"chance": {"mean": 0.5}})
    ' Without training: chance 50.00 %.'
    """
    line, span = (ax.axvline, ax.axvspan) if vertical else (ax.axhline, ax.axhspan)
    first, last = sorted(ax.get_xlim() if vertical else ax.get_ylim())
    room = FAR * (last - first)
    phrases = []
    for index, (name, given) in enumerate((baselines or {}).items()):
        rates = given if isinstance(given, dict) else {"mean": given}
        look = {"color": GREYS[index % len(GREYS)], "zorder": 1}
        dashes = {"ls": DASHES[(index + 1) % len(DASHES)], "lw": 1.8}
        mean, interval = 100 * rates["mean"], ""
        label = plain(f"{name}: {mean:.1f} %")
        near = first - room <= mean - minus <= last + room
        if rates.get("low") is not None:
            low, high = 100 * rates["low"], 100 * rates["high"]
            interval = f" ({low:.2f} to {high:.2f})"
            if near and not minus:
                span(low, high, alpha=0.12, lw=0, **look)
        if near:
            line(mean - minus, label=label, **dashes, **look)
        else:
            ax.plot([], [], label=f"{label}, off the chart", **dashes, **look)
        phrases.append(f"{name} {mean:.2f} %{interval}")
    return f" Without training: {joined(phrases)}." if phrases else ""


def needed(values: Iterable, what: str) -> None:
    """Refuse an empty input by name.

    >>> needed({}, "systems")
    Traceback (most recent call last):
        ...
    ValueError: systems is empty; give at least one to draw
    """
    if not len(values):
        raise ValueError(f"{what} is empty; give at least one to draw")


def plain(name: object) -> str:
    """A name from outside, escaped so that matplotlib shows it letter by letter.

    Matplotlib reads formulas between dollars and leaves names with a leading underscore out of a
    legend. No font has the bytes of a file name that is not UTF-8.

    >>> plain("a$b$.wav"), plain("_ann"), plain("caf\\udce9.wav")
    ('a\\\\$b\\\\$.wav', '\\u200b_ann', 'caf?.wav')
    """
    text = str(name).encode("utf-8", "replace").decode().replace("$", r"\$")
    return f"\u200b{text}" if text.startswith("_") else text


def joined(parts: Iterable[str]) -> str:
    """Words as an enumeration.

    >>> joined(["a", "b", "c"])
    'a, b and c'
    """
    *most, last = map(str, parts)
    return f"{', '.join(most)} and {last}" if most else last
