"""Speaker verification on one line: what a recording was turned into, from GMM to SSL."""

from matplotlib.axes import Axes

from oskdft.lessons.figures.style import COLOURS, joined, needed, plain, plot

HEIGHTS = (1.0, -1.0)  # of the words, above and below the line in turn


@plot
def history(ax: Axes, steps: list[dict]) -> str:
    """A line of years with a dot and words for each step.

    Args:
        steps: {"year": number, "name": of the method, "words": what was new}, in order of the years.
    Raises:
        ValueError: no step, or years that go back.

    >>> history([{"year": 2000, "name": "GMM", "words": "densities"}]).alt
    'Speaker verification in 1 step: 2000 GMM (densities).'
    """
    needed(steps, "steps")
    years = [step["year"] for step in steps]
    if years != sorted(years):
        raise ValueError(f"the years are {years}; give the steps in their order")
    ax.figure.set_size_inches(12.8, 3.9)
    ax.axhline(0, color="#888888", lw=2, ls="-")
    for place, step in enumerate(steps):
        height = HEIGHTS[place % 2]
        colour = COLOURS[place % len(COLOURS)]
        ax.plot([place, place], [0, 0.45 * height], color=colour, lw=1.5, ls="-")
        ax.plot(place, 0, "o", ms=13, color=colour, mec="white")
        look = {"ha": "center", "va": "bottom" if height > 0 else "top"}
        text = f"{step['year']}\n{plain(step['name'])}\n{plain(step['words'])}"
        ax.text(place, 0.5 * height, text, fontsize=11.5, linespacing=1.4, **look)
    ax.set(xlim=(-0.6, len(steps) - 0.4), ylim=(-1.6, 1.6))
    ax.set_axis_off()
    said = joined(
        f"{step['year']} {step['name']} ({' '.join(step['words'].split())})" for step in steps
    )
    return f"Speaker verification in {len(steps)} step{'s' * (len(steps) > 1)}: {said}."
