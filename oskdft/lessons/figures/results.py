"""Plots of runs: training curves, schedules, costs, probes of layers, trustworthiness of maps."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from oskdft.lessons.figures.style import (
    COLOURS,
    DASHES,
    MARKERS,
    Picture,
    baseline_lines,
    joined,
    legend_above,
    new,
    plain,
    plain_log,
    plot,
    styled,
)

HATCHES = ("", "//", "", "..", "", "xx")  # of `stacked`, so that parts differ without colour
CLEAR = {"facecolor": "white", "edgecolor": "none", "pad": 1.5, "alpha": 0.85}  # behind a number
WIDE = 0.07  # share of the longest bar that a part of `stacked` needs to hold its number

# Validation EER [%] of the released students on Vox1-O (cleaned), at the epochs of LOG_EPOCHS.
LOG_SOURCE = "training logs of the released code: VoxCeleb1, Vox1-O cleaned"
LOG_EPOCHS = (1, 5, 10, 20, 50, 80, 100)
LOGS = {
    "HuBERT": {"eer": (16.67, 8.85, 7.33, 6.87, 7.92, 5.62, 5.47), "best": (98, 5.090)},
    "WavLM": {"eer": (16.18, 7.97, 5.73, 5.39, 6.56, 4.71, 4.59), "best": (99, 4.094)},
}


def _band(line: Line2D, x: np.ndarray, low: np.ndarray, high: np.ndarray, name: str) -> None:
    """Draw the band of a line in its colour; ``name``: in the legend; empty: none."""
    look = {"color": line.get_color(), "alpha": 0.18, "lw": 0, "label": name or None}
    line.axes.fill_between(x, low, high, **look)


@plot
def curves(
    ax: Axes, rows: list[dict], y: list[str], x: str = "step", labels: list[str] | None = None,
    ylabel: str = "", log: bool = False, xlabel: str = "", bands: dict[str, list[str]] | None = None,
    band: str = "", baselines: dict[str, dict] | None = None,
) -> str:  # fmt: skip
    """Columns of a log as lines.

    Args:
        rows: of metrics.csv; a row may lack a column. y: columns to draw.
        x: column of the x axis.
        labels: one per column. ylabel: with its unit. log: logarithmic y axis.
        bands: column of y -> the two columns of its lower and upper end. band: what the bands are.
        baselines: for a y axis in per cent, see `style.baseline_lines`.
    Raises:
        ValueError: a column is missing.

    >>> curves([{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}], ["loss"]).alt
    'Lines over step: loss from 2 to 1.'
    """
    table, bands = pd.DataFrame(rows), bands or {}
    ends = [name for pair in bands.values() for name in pair]
    if missing := [name for name in (x, *y, *ends) if name not in table]:
        raise ValueError(f"no column {missing[0]!r}; there are {', '.join(table)}")
    phrases = []
    for name, label in zip(y, labels or y, strict=True):
        points = table[[x, name]].dropna()
        values = points[name].to_numpy()
        marker = "o" if len(values) < 15 else None
        (line,) = ax.plot(points[x], values, label=plain(label), marker=marker, ms=6)
        if name in bands:
            low, high = bands[name]
            _band(line, table[x], table[low], table[high], band * (name == next(iter(bands))))
        phrases.append(f"{label} from {values[0]:.3g} to {values[-1]:.3g}")
    sentence = f" Bands: {band}." if bands else ""
    sentence += baseline_lines(ax, baselines)
    ax.set(xlabel=xlabel or x, ylabel=ylabel or (y[0] if len(y) == 1 else ""))
    if log:
        plain_log(ax)
    return f"Lines over {xlabel or x}: {joined(phrases)}.{sentence}"


@plot
def schedule(ax: Axes, rates: dict[str, list[float]]) -> str:
    """Learning rate of each parameter group per epoch, logarithmic; a rate of 0 is a gap.

    Args:
        rates: group -> one rate per epoch, from epoch 1.

    >>> schedule({"back-end": [1e-3, 1e-4], "student": [0.0, 1e-4]}).alt
    'Learning rate per epoch: back-end from 0.001 to 0.0001 and student 0 until epoch 1, last 0.0001.'
    """
    phrases = []
    for index, (name, values) in enumerate(rates.items()):
        values = np.asarray(values, dtype=float)
        some = np.flatnonzero(values > 0)
        shown = np.where(values > 0, values, np.nan)
        marker = MARKERS[index % len(MARKERS)] if len(values) < 30 else None
        label = name if len(some) else f"{name} (0: frozen)"
        ax.plot(np.arange(1, len(values) + 1), shown, marker=marker, label=label)
        said = "0 throughout"
        if len(some):
            start = f"0 until epoch {some[0]}, last" if some[0] else f"from {values[0]:.3g} to"
            said = f"{start} {values[some[-1]]:.3g}"
        phrases.append(f"{name} {said}")
    ax.set(xlabel="epoch", ylabel="learning rate", yscale="log")
    ax.xaxis.get_major_locator().set_params(integer=True)
    return f"Learning rate per epoch: {joined(phrases)}."


@plot
def bars(
    ax: Axes, values: dict[str, float], unit: str, reference: dict | None = None, xlabel: str = "",
    whole: float = 0.0,
) -> str:  # fmt: skip
    """Horizontal bars with their numbers: sizes, times, reductions.

    Args:
        values: name -> number, drawn in this order. unit: of all of them, shown on the axis.
        reference: name -> the published figure, drawn as a black stroke over the bar.
        whole: what no value can exceed, such as 100 %: the axis ends there, and the numbers stand in the
            bars; 0: there is no such value.
    Raises:
        ValueError: a value above ``whole``.

    >>> bars({"teacher": 94.4, "student": 23.7}, "million parameters").alt
    'Bars in million parameters: teacher 94.4 and student 23.7.'
    """
    reference = {name: value for name, value in (reference or {}).items() if name in values}
    if whole and max(values.values()) > whole:
        raise ValueError(f"a bar of {max(values.values()):.4g} is above the whole, {whole:.4g}")
    ax.figure.set_figheight(1.3 + 0.55 * len(values))
    names, texts, ends = list(values), [], []
    ax.barh([*map(plain, names)], list(values.values()), height=0.62, color=COLOURS[0])
    for row, (name, value) in enumerate(values.items()):
        other = reference.get(name, value)
        if name in reference:
            ax.plot([other, other], [row - 0.42, row + 0.42], color="black", lw=3, ls="-")
        suffix = f" (published {other:.4g})" if name in reference else ""
        texts.append(f"{value:.4g}{suffix}")
        ends.append(max(value, other, key=abs))
        inside = value > whole / 2 > 0  # else there is room beside the bar
        place = 0 if inside else ends[-1]
        ax.annotate(
            texts[-1], (place, row), xytext=(6 if place >= 0 else -6, 0), va="center",
            textcoords="offset points", ha="left" if place >= 0 else "right",
            color="white" if inside else None,
        )  # fmt: skip
    # a letter takes about 0.11 of the 9 inches that names, bars and texts share
    text, drawn = max(map(len, texts)) * 0.11 + 0.15, 9 - max(map(len, names)) * 0.11
    room = text / max(drawn - text, 1.0) * (max(*ends, 0) - min(*ends, 0) or 1.0)
    highest = max(*ends, 0) + room * (max(ends) > 0)
    ax.set_xlim(min(*ends, 0) - room * (min(ends) < 0), whole or highest)
    ax.set_xlabel(f"{xlabel} [{unit}]" if xlabel else unit)
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    return f"Bars in {unit}: {joined(f'{n} {t}' for n, t in zip(names, texts, strict=True))}."


@plot
def stacked(ax: Axes, parts: dict[str, dict[str, float]], unit: str) -> str:
    """Horizontal bars of parts that add up: where a cost lies.

    Args:
        parts: bar -> {part: number}, not negative, drawn from left to right; a part has one colour in all bars.
        unit: of the numbers.
    Raises:
        ValueError: a negative number.

    >>> stacked({"teacher": {"CNN": 1.0, "layers": 3.0}, "student": {"CNN": 1.0, "layers": 1.0}}, "ms").alt
    'Parts in ms: teacher 4 (CNN 25 %, layers 75 %) and student 2 (CNN 50 %, layers 50 %).'
    """
    kinds = list(dict.fromkeys(part for bar in parts.values() for part in bar))
    if any(value < 0 for bar in parts.values() for value in bar.values()):
        raise ValueError("a part is negative; parts that add up to a bar are 0 or more")
    longest = max(sum(bar.values()) for bar in parts.values())
    phrases, shown = [], set()
    for row, (name, bar) in enumerate(parts.items()):
        start, total = 0.0, sum(bar.values())
        for part, value in bar.items():
            kind = kinds.index(part)
            look = {"color": COLOURS[kind % len(COLOURS)], "hatch": HATCHES[kind % len(HATCHES)]}
            label = None if part in shown else plain(part)
            ax.barh(row, value, left=start, height=0.6, edgecolor="white", label=label, **look)
            if value > WIDE * longest:
                text = ax.text(start + value / 2, row, f"{100 * value / total:.0f} %")
                text.set(ha="center", va="center", bbox=CLEAR)
            start += value
            shown.add(part)
        ax.annotate(
            f"{total:.4g}", (start, row), xytext=(6, 0), textcoords="offset points", va="center"
        )
        shares = ", ".join(f"{part} {100 * value / total:.0f} %" for part, value in bar.items())
        phrases.append(f"{name} {total:.4g} ({shares})")
    ax.figure.set_figheight(1.2 + 0.8 * len(parts))
    legend_above(ax, columns=min(len(kinds), 4))
    ax.set_yticks(range(len(parts)), [*map(plain, parts)])
    ax.set(xlabel=unit, xlim=(0, 1.1 * longest), ylim=(len(parts) - 0.5, -0.5))
    ax.grid(False, axis="y")
    return f"Parts in {unit}: {joined(phrases)}."


@styled
def published_logs(
    ours: dict | None = None, ours_label: str = "this run", baselines: dict | None = None
) -> Picture:
    """Validation EER in the published training logs; our own, if given, in a second panel.

    The two panels show different lists and corpora; do not compare them point by point.

    Args:
        ours: {"epochs": [n], "eer": [n]}, rates as fractions.
        baselines: on our list, see `layers`.

    >>> published_logs().alt[:92]
    'Published validation EER per epoch: HuBERT from 16.67 % to 5.47 %, best 5.090 % at epoch 98;'
    """
    figure, axes = new(columns=2 if ours else 1, width=12.8 if ours else 9.6, squeeze=False)
    ax = axes[0, 0]
    phrases = []
    for index, (name, log) in enumerate(LOGS.items()):
        epoch, best = log["best"]
        colour = COLOURS[index]
        dots = {"marker": MARKERS[index], "ms": 8, "ls": ":", "lw": 1.2, "color": colour}
        ax.plot(LOG_EPOCHS, log["eer"], label=name, **dots)
        label = f"{name}, best: {best:.3f} % at {epoch}"
        ax.plot(epoch, best, "*", ms=15, color=colour, mec="black", ls="", label=label)
        phrases.append(
            f"{name} from {log['eer'][0]} % to {log['eer'][-1]} %, best {best:.3f} % at epoch {epoch}"
        )
    xlabel = "epoch (points known; dots only guide the eye)"
    ax.set(xlabel=xlabel, ylabel="EER on Vox1-O cleaned [%]", ylim=(0, None))
    ax.set_title(f"Published ({LOG_SOURCE})", fontsize=11)
    ax.legend(loc="upper right")
    figure.alt = f"Published validation EER per epoch: {'; '.join(phrases)}."
    if ours:
        values = 100 * np.asarray(ours["eer"], dtype=float)
        axes[0, 1].plot(ours["epochs"], values, marker="o", color=COLOURS[2], ls="-")
        axes[0, 1].xaxis.set_major_locator(MaxNLocator(integer=True))
        axes[0, 1].set(xlabel="epoch", ylabel="EER on its own trial list [%]")
        sentence = baseline_lines(axes[0, 1], baselines)
        axes[0, 1].set_ylim(0, None)
        if sentence:
            axes[0, 1].legend()
        axes[0, 1].set_title(f"{ours_label}: other data, other list; not comparable", fontsize=11)
        figure.alt += (
            f" Beside it {ours_label}, from {values[0]:.2f} % to {values[-1]:.2f} %, on another list."
            f"{sentence}"
        )
    return figure


@plot
def pareto(
    ax: Axes, points: dict[str, dict], xlabel: str, ylabel: str, baselines: dict | None = None
) -> str:
    """Cost against error: a circle per system, and a line through those that no other beats on both.

    Args:
        points: name -> {"x": number, "y": number}, y in per cent. A name stands in its circle: three
            letters fit. Filled: nothing is better on both.
        baselines: see `layers`.

    >>> points = {"small": {"x": 1, "y": 9}, "large": {"x": 5, "y": 5}, "bad": {"x": 6, "y": 8}}
    >>> pareto(points, "size", "EER [%]").alt
    'EER [%] against size for 3 systems; nothing is better on both than small and large.'
    """
    best = []
    for name in sorted(points, key=lambda n: (points[n]["x"], points[n]["y"])):
        if not best or points[name]["y"] < points[best[-1]]["y"]:
            best.append(name)
    front = np.array([[points[n]["x"], points[n]["y"]] for n in best])
    ax.step(*front.T, where="post", color="grey", lw=1.2, ls=":")
    for name, p in points.items():
        fill, ink = (COLOURS[0], "white") if name in best else ("white", "black")
        ax.plot(p["x"], p["y"], "o", ms=21, mfc=fill, mec=COLOURS[0], mew=1.6)
        ax.text(p["x"], p["y"], plain(name), color=ink, ha="center", va="center", size=11)
    sentence = baseline_lines(ax, baselines)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.margins(0.1)
    return (
        f"{ylabel} against {xlabel} for {len(points)} systems; nothing is better on both than "
        f"{joined(best)}.{sentence}"
    )


@plot
def growth(ax: Axes, series: dict[str, dict], xlabel: str, ylabel: str) -> str:
    """Growth of a cost: log-log lines with their slope (1: proportional, 2: quadratic).

    Args:
        series: name -> {"x": [n], "y": [n]}, all positive.

    >>> growth({"ours": {"x": [1, 10, 100], "y": [2, 20, 200]}}, "trials", "time [s]").alt
    'time [s] against trials, both logarithmic: ours has slope 1.00.'
    """
    phrases = []
    for index, (name, s) in enumerate(series.items()):
        x, y = np.asarray(s["x"], dtype=float), np.asarray(s["y"], dtype=float)
        if (x <= 0).any() or (y <= 0).any():
            raise ValueError(f"{name} holds numbers <= 0; a logarithmic axis needs positive ones")
        slope = f"{np.polyfit(np.log(x), np.log(y), 1)[0]:.2f}" if len(x) > 1 else "unknown"
        look = {"marker": MARKERS[index % len(MARKERS)], "ls": DASHES[index % len(DASHES)], "ms": 8}
        ax.plot(x, y, label=plain(f"{name}  (slope {slope})"), **look)
        phrases.append(f"{name} has slope {slope}")
    ax.set(xlabel=xlabel, ylabel=ylabel, xscale="log", yscale="log")
    return f"{ylabel} against {xlabel}, both logarithmic: {joined(phrases)}."


MOST_INSIDE = 5  # entries of a legend that hides no line of `layers`
RINGS = {"max": "; ring = highest", "min": "; ring = lowest", "": ""}  # of `layers`


@plot
def layers(
    ax: Axes, probes: dict[str, list[float]], ylabel: str, best: str = "max",
    baselines: dict | None = None, log: bool = False, bands: dict[str, list] | None = None,
    band: str = "",
) -> str:  # fmt: skip
    """One line per probe over the hidden states, in per cent; the best state of each is ringed.

    Args:
        probes: name -> a fraction per state 0..L; 0 is the input of layer 1. ylabel: the quantity.
        best: "max" or "min", the better end; "": neither is better, and nothing is ringed.
        log: logarithmic axis of the quantity.
        bands: name -> [L + 1] pairs, the lower and upper end of each fraction. band: what they are.
        baselines: systems without training, see `style.baseline_lines`; drawn as horizontal lines.

    >>> layers({"speaker": [0.2, 0.6, 0.4]}, "accuracy", baselines={"guessing": 0.1}).alt
    'accuracy over layers 0 to 2: speaker is best at layer 1 (60.0 %). Without training: guessing 10.00 %.'
    """
    if best not in RINGS:
        raise ValueError(f'best is {best!r}; give "max", "min" or ""')
    phrases, bands = [], bands or {}
    for index, (name, values) in enumerate(probes.items()):
        values = 100 * np.asarray(values, dtype=float)
        (line,) = ax.plot(values, marker=MARKERS[index % len(MARKERS)], ms=7, label=plain(name))
        if name in bands:
            low, high = 100 * np.asarray(bands[name], dtype=float).T  # [L + 1]
            _band(line, np.arange(len(values)), low, high, band * (name == next(iter(bands))))
        if not best:
            phrases.append(f"{name} from {values.min():.2g} to {values.max():.2g} %")
            continue
        top = int(values.argmax() if best == "max" else values.argmin())
        ax.plot(top, values[top], "o", ms=17, mfc="none", mew=2, color=line.get_color())
        phrases.append(f"{name} is best at layer {top} ({values[top]:.1f} %)")
    sentence = f" Bands: {band}." if bands else ""
    sentence += baseline_lines(ax, baselines)
    last = max(len(values) for values in probes.values()) - 1
    ax.set(xlabel=f"layer (0 = input of layer 1{RINGS[best]})", ylabel=f"{ylabel} [%]")
    if log:
        plain_log(ax)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=13))
    if len(ax.get_legend_handles_labels()[1]) > MOST_INSIDE:
        legend_above(ax, columns=2)
    return f"{ylabel} over layers 0 to {last}: {joined(phrases)}.{sentence}"


@plot
def trust(ax: Axes, values: dict[str, list[float]], k: list[int]) -> str:
    """Trustworthiness of maps against the number of neighbours.

    Args:
        values: map -> one trustworthiness in [0, 1] per entry of k. k: numbers of neighbours.

    >>> trust({"UMAP": [0.99, 0.95], "PCA": [0.8, 0.85]}, [5, 20]).alt
    'Trustworthiness for 5 to 20 neighbours: UMAP from 0.99 to 0.95 and PCA from 0.80 to 0.85.'
    """
    for index, (name, line) in enumerate(values.items()):
        ax.plot(k, line, marker=MARKERS[index % len(MARKERS)], ms=8, label=plain(name))
    ax.set(xlabel="neighbours k", ylabel="trustworthiness (1 = all true)", xticks=k)
    ax.set_ylim(min(min(line) for line in values.values()) - 0.05, 1.01)
    phrases = (f"{name} from {line[0]:.2f} to {line[-1]:.2f}" for name, line in values.items())
    return f"Trustworthiness for {k[0]} to {k[-1]} neighbours: {joined(phrases)}."
