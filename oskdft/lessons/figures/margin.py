"""The geometry of AAM-softmax: two speakers on a circle, and the gap that the margin opens."""

import numpy as np
from matplotlib.axes import Axes

from oskdft.lessons.figures.style import COLOURS, plot

APART = 70.0  # degrees between the two speakers
FIRST = 55.0  # direction of the first speaker


@plot
def margin(ax: Axes, radians: float = 0.2) -> str:
    """Where an embedding counts for one of two speakers, with a margin.

    An embedding counts for a speaker when its angle to that speaker, plus the margin, is smaller than its angle
    to the other one. Without a margin the border is half way; with it a gap of this width opens.

    Args:
        radians: the margin m, from 0 to 1.
    Raises:
        ValueError: another margin.
    Source: Deng et al. 2019, the figure of the decision margins.

    >>> margin(0.2).alt[:83]
    'AAM-softmax on a circle: speakers A and B 70 degrees apart. The margin of 0.2 rad o'
    """
    if not 0 <= radians <= 1:
        raise ValueError(f"the margin is {radians}; give 0 to 1 rad")
    half = np.degrees(radians) / 2
    middle = FIRST + APART / 2
    ax.figure.set_size_inches(9.6, 5.8)
    ax.plot(*_at(1, np.linspace(0, 180, 181)), color="#888888", lw=1.5, ls="-")
    sides = (
        ("A", (0.0, middle - half), FIRST, FIRST / 2),
        ("B", (middle + half, 180.0), FIRST + APART, 180 - FIRST / 2),
    )
    for (name, ends, angle, inside), colour in zip(sides, COLOURS, strict=False):
        x, y = _at(1, np.linspace(*ends, 60))
        ax.fill(np.append(0, x), np.append(0, y), color=colour, alpha=0.25, lw=0)
        arrow = {"arrowstyle": "-|>", "color": colour, "lw": 2.5}
        ax.annotate("", _at(1, angle), (0, 0), arrowprops=arrow)
        ax.text(*_at(1.08, angle), f"speaker {name}", ha="center", va="bottom")
        ax.text(*_at(0.65, inside), f"counts\nfor {name}", ha="center", va="center")
    ax.plot(*_at(np.array([0, 1.02]), middle), color="black", lw=1.5, ls=":")
    ax.text(*_at(1.2, middle), f"gap: the margin, {radians:g} rad", ha="center", va="bottom")
    ax.set(xlim=(-1.35, 1.35), ylim=(-0.05, 1.4), aspect="equal")
    ax.set_axis_off()
    return (
        f"AAM-softmax on a circle: speakers A and B {APART:g} degrees apart. The margin of {radians:g} rad "
        f"opens a gap of {2 * half:.1f} degrees around the line half way, in which an embedding counts for "
        "neither."
    )


def _at(radius: np.ndarray, degrees: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places x, y at a distance and a direction from the middle of the circle."""
    return radius * np.cos(np.radians(degrees)), radius * np.sin(np.radians(degrees))
