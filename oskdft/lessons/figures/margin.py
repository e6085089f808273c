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
    circle = np.radians(np.linspace(0, 180, 181))
    ax.figure.set_size_inches(9.6, 5.8)
    ax.plot(np.cos(circle), np.sin(circle), color="#888888", lw=1.5, ls="-")
    sides = ((0.0, middle - half, "A"), (middle + half, 180.0, "B"))
    for (start, end, name), colour in zip(sides, COLOURS, strict=False):
        arc = np.radians(np.linspace(start, end, 60))
        wedge = np.append(0, np.cos(arc)), np.append(0, np.sin(arc))
        ax.fill(*wedge, color=colour, alpha=0.25, lw=0)
        angle = np.radians(FIRST if name == "A" else FIRST + APART)
        tip = np.cos(angle), np.sin(angle)
        arrow = {"arrowstyle": "-|>", "color": colour, "lw": 2.5}
        ax.annotate("", tip, (0, 0), arrowprops=arrow)
        ax.text(1.08 * tip[0], 1.08 * tip[1], f"speaker {name}", ha="center", va="bottom")
        inside = np.radians(FIRST / 2 if name == "A" else 180 - FIRST / 2)
        ax.text(
            0.65 * np.cos(inside),
            0.65 * np.sin(inside),
            f"counts\nfor {name}",
            ha="center",
            va="center",
        )
    line = np.radians(middle)
    ax.plot([0, 1.02 * np.cos(line)], [0, 1.02 * np.sin(line)], color="black", lw=1.5, ls=":")
    top = (1.2 * np.cos(line), 1.2 * np.sin(line))
    ax.text(*top, f"gap: the margin, {radians:g} rad", ha="center", va="bottom")
    ax.set(xlim=(-1.35, 1.35), ylim=(-0.05, 1.4), aspect="equal")
    ax.set_axis_off()
    return (
        f"AAM-softmax on a circle: speakers A and B {APART:g} degrees apart. The margin of {radians:g} rad "
        f"opens a gap of {2 * half:.1f} degrees around the line half way, in which an embedding counts for "
        "neither."
    )
