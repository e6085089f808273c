"""Plots of scores: DET curves, histograms, the trade-off, calibration, error rates with intervals."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from scipy.special import ndtri
from sklearn.isotonic import IsotonicRegression

from oskdft.evaluation import metrics
from oskdft.lessons.figures.style import (
    COLOURS,
    DASHES,
    GREYS,
    baseline_lines,
    joined,
    legend_above,
    needed,
    plain,
    plot,
)
from oskdft.utils.console import percent

DET_POINTS = 400  # operating points that are stored of a curve
SPEAKERS = "95 % interval over speakers"  # name of an interval in a legend
PROBIT_TICKS = (0.001, 0.01, 0.1, 0.5, 1, 2, 5, 10, 20, 40, 60, 80, 90)  # per cent


def det_data(scores: np.ndarray, labels: np.ndarray) -> dict:
    """The numbers that `det` draws for one system: at most `DET_POINTS` operating points.

    The points are evenly spaced along the curve as drawn, on probit axes.

    Args:
        scores, labels: [P].
    Returns:
        {"miss": [..], "false_alarm": [..], "eer": rate}, fractions.

    >>> det_data([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
    {'miss': [0.0, 0.0, 0.5, 0.5, 1.0], 'false_alarm': [1.0, 0.5, 0.5, 0.0, 0.0], 'eer': 0.5}
    """
    miss, false_alarm, _ = metrics.det_points(scores, labels)
    x, y = (ndtri(np.clip(rate, 1e-6, 1 - 1e-6)) for rate in (false_alarm, miss))
    eer = metrics.eer_of(miss, false_alarm)
    if len(miss) > DET_POINTS:
        length = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
        kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], DET_POINTS)))
        miss, false_alarm = miss[kept], false_alarm[kept]
    return {"miss": miss.tolist(), "false_alarm": false_alarm.tolist(), "eer": eer}


@plot
def det(ax: Axes, systems: dict[str, dict], baselines: dict[str, dict] | None = None) -> str:
    """Detection error trade-off: miss against false-alarm rate on probit axes, in per cent.

    Args:
        systems: name -> {"miss": [n], "false_alarm": [n], "eer": rate}, fractions; see `det_data`.
        baselines: the same of systems without training, drawn in grey.
    Returns:
        Figure; dots mark the EER, where a curve meets the diagonal.
    Source: Martin et al. 1997 (axes).

    >>> curve = det_data([0.0, 2.0, 1.0, 3.0], [0, 0, 1, 1])
    >>> det({"ours": curve}).alt
    'DET curves of 1 system. Lowest EER: ours, 50.00 %.'
    """
    ax.figure.set_size_inches(7.2, 6.8)
    det_axes(ax, systems, baselines)
    ax.figure.set_layout_engine("compressed", w_pad=0.12, h_pad=0.12)  # the engine for square axes
    ax.legend(loc="best", title="system  (EER)", alignment="left")
    best = min(systems, key=lambda name: systems[name]["eer"])
    alt = (
        f"DET curves of {len(systems)} system{'s' * (len(systems) > 1)}. "
        f"Lowest EER: {best}, {percent(systems[best]['eer'])}."
    )
    if baselines:
        rates = (f"{name} {percent(system['eer'])}" for name, system in baselines.items())
        alt += f" Without training: {joined(rates)}."
    return alt


def det_axes(
    ax: Axes, systems: dict[str, dict], baselines: dict[str, dict] | None = None
) -> dict[str, list[Line2D]]:
    """Draw `det` into ``ax``, square; returns the curve and the EER's dot of each system."""
    baselines = baselines or {}
    rooms = [1.4 * s["eer"] for s in systems.values()]
    rooms += [1.15 * s["eer"] for s in baselines.values()]
    high = min(max(0.42, *rooms), 0.95)
    rates = np.concatenate([[s["miss"], s["false_alarm"]] for s in systems.values()], 1)
    inner = rates[:, rates.max(0) <= high]  # inside the axes
    eers = [system["eer"] for system in systems.values() if system["eer"]]
    low = max(0.8 * min([*inner[inner > 0], *eers, 0.1]), 1e-5)

    def curve(name: str, system: dict, **look: object) -> Line2D:
        alarm = ndtri(np.clip(system["false_alarm"], low / 10, 1 - low / 10))
        miss = ndtri(np.clip(system["miss"], low / 10, 1 - low / 10))
        label = plain(f"{name}  ({percent(system['eer'])})")
        return ax.plot(alarm, miss, label=label, **look)[0]

    drawn = {}
    for name, system in systems.items():
        line = curve(name, system)
        spot = ndtri(np.clip(system["eer"], low, 0.999))
        (dot,) = ax.plot(spot, spot, "o", ms=9, color=line.get_color(), mec="white", zorder=3)
        drawn[name] = [line, dot]
    for index, (name, system) in enumerate(baselines.items()):
        look = {"color": GREYS[index % len(GREYS)], "ls": DASHES[index % len(DASHES)], "lw": 1.6}
        curve(name, system, zorder=1, **look)
    ends = ndtri([low, high])
    ax.plot(ends, ends, color="grey", lw=1, ls=":")
    ticks = [tick for tick in PROBIT_TICKS if low <= tick / 100 <= high]
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_ticks(ndtri(np.array(ticks) / 100), [f"{tick:g}" for tick in ticks])
    ax.set(xlim=ends, ylim=ends, xlabel="false alarms [%]", ylabel="misses [%]", aspect="equal")
    return drawn


def _both(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores of target and of non-target trials; refuses lists without one kind."""
    metrics.eer(scores, labels)  # refuses bad input
    scores = np.asarray(scores, dtype=float)
    target = np.asarray(labels, dtype=bool)
    return scores[target], scores[~target]


@plot
def histogram(
    ax: Axes, scores: np.ndarray, labels: np.ndarray, threshold: float | None = None
) -> str:
    """Scores of target and non-target trials, and the error rates at a threshold.

    Args:
        scores, labels: [P]. threshold: drawn as a line; a score of at least it is accepted.

    >>> histogram([0.1, 0.2, 0.7, 0.9], [0, 0, 1, 1], threshold=0.5).alt.split(". ")[1]
    'Threshold 0.50: 0.0 % misses, 0.0 % false alarms.'
    """
    target, other = _both(scores, labels)
    histogram_axes(ax, target, other)
    alt = (
        f"Scores of {len(target)} target trials (mean {target.mean():.2f}) and "
        f"{len(other)} non-target trials (mean {other.mean():.2f})."
    )
    if threshold is not None:
        ax.axvline(threshold, color="black", ls="--", lw=1.8, label=f"threshold {threshold:.3g}")
        miss, false_alarm = np.mean(target < threshold), np.mean(other >= threshold)
        alt += (
            f" Threshold {threshold:.2f}: {100 * miss:.1f} % misses, "
            f"{100 * false_alarm:.1f} % false alarms."
        )
    return alt


def histogram_axes(ax: Axes, target: np.ndarray, other: np.ndarray) -> None:
    """Draw the bars of `histogram` into ``ax``: scores of target and of non-target trials."""
    trials = len(target) + len(other)
    bins = np.histogram_bin_edges(np.r_[target, other], bins=min(60, 8 + trials // 10))
    kinds = (
        (other, "different speakers", COLOURS[1], "//"),
        (target, "same speaker", COLOURS[0], ""),
    )
    for values, name, colour, hatch in kinds:
        share = np.full(len(values), 100 / len(values))
        ax.hist(
            values, bins, weights=share, color=colour, alpha=0.55, hatch=hatch, edgecolor="white",
            label=f"{name} ({len(values):,})",
        )  # fmt: skip
    ax.set(xlabel="score", ylabel="share of the trials of a kind [%]")


@plot
def trade_off(ax: Axes, scores: np.ndarray, labels: np.ndarray) -> str:
    """Miss and false-alarm rate against the threshold; they cross at the EER.

    Args:
        scores, labels: [P].

    >>> trade_off([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]).alt
    'Misses rise and false alarms fall with the threshold; they are equal, 50.00 %, at 0.375.'
    """
    miss, false_alarm, thresholds = metrics.det_points(scores, labels)
    rate, level = metrics.eer(scores, labels)
    ax.step(thresholds, 100 * miss, where="pre", label="misses", color=COLOURS[0])
    line = {"label": "false alarms", "color": COLOURS[1], "ls": DASHES[1]}
    ax.step(thresholds, 100 * false_alarm, where="pre", **line)
    dot = {"ms": 11, "color": "black", "mec": "white", "ls": "", "label": f"EER {100 * rate:.2f} %"}
    ax.plot(level, 100 * rate, "o", **dot)
    ax.axvline(level, color="grey", lw=1, ls=":")
    ax.set(xlabel="threshold", ylabel="error rate [%]", ylim=(0, 101))
    return (
        "Misses rise and false alarms fall with the threshold; they are equal, "
        f"{100 * rate:.2f} %, at {level:.3g}."
    )


@plot
def calibration(
    ax: Axes, scores: np.ndarray, labels: np.ndarray, scale: float, offset: float
) -> str:
    """Score to log-likelihood ratio: the best monotone mapping (PAV) and a straight line.

    Args:
        scores, labels: [P]. scale, offset: llr = scale * score + offset, see `metrics.calibrate`.

    >>> calibration([0.0, 1.0, 2.0, 3.0], [0, 1, 0, 1], 2.0, -3.0).alt
    'Log-likelihood ratio against score: PAV steps and the line 2 x score - 3, which crosses zero at 1.5.'
    """
    target, other = _both(scores, labels)
    x = np.sort(np.asarray(scores, dtype=float))
    fitted = IsotonicRegression(y_min=0, y_max=1).fit(scores, labels)
    share = fitted.predict(x)
    with np.errstate(divide="ignore"):
        pav = np.log(share) - np.log1p(-share) - np.log(len(target) / len(other))
    finite = np.isfinite(pav)
    ax.step(x[finite], pav[finite], where="mid", color=COLOURS[0], label="PAV (best monotone)")
    line = np.array([x[0], x[-1]])
    ax.plot(line, scale * line + offset, color=COLOURS[1], ls=DASHES[1], label="logistic (a line)")
    bottom, top = ax.get_ylim()
    room = 0.09 * (top - bottom)
    rugs = (
        (target, top + room / 2, top - room / 2, 0.01, "left", "same speaker"),
        (other, bottom - room / 2, bottom + room / 2, 0.99, "right", "different speakers"),
    )
    marks = {"ms": 12, "color": "#555555", "alpha": 0.5}
    for values, height, text_height, side, align, words in rugs:
        # rasterized: tens of thousands would make an SVG of megabytes
        ax.plot(values, np.full(len(values), height), "|", rasterized=True, **marks)
        across = ax.get_yaxis_transform()
        ax.text(side, text_height, words, transform=across, ha=align, va="center")
    ax.axhline(0, color="grey", lw=1, ls=":")
    ax.legend(loc="center left")
    ax.set(xlabel="score", ylabel="log-likelihood ratio [nat]", ylim=(bottom - room, top + room))
    return (
        f"Log-likelihood ratio against score: PAV steps and the line {scale:.3g} x score "
        f"{'-' if offset < 0 else '+'} {abs(offset):.3g}, which crosses zero at {-offset / scale:.3g}."
    )


def _rows(ax: Axes, rows: list[tuple[str, list[float], np.ndarray, float, str]]) -> None:
    """Draw the systems of `intervals` and `ablation`, the first on top.

    Args:
        rows: name, ends of the interval, seeds, mean, and name of the interval in the legend.
    """
    ax.figure.set_figheight(1.0 + max(1.2, 0.6 * len(rows)))
    ax.set_yticks(range(len(rows)), [plain(name) for name, *_ in rows])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.grid(False, axis="y")
    look = {"color": COLOURS[0], "lw": 5, "ls": "-", "alpha": 0.45, "solid_capstyle": "butt"}
    for row, (_, line, seeds, mean, ci) in enumerate(rows):
        first = row == 0  # the legend needs each sign once
        ax.plot(line, [row] * len(line), label=ci if first and len(line) else None, **look)
        several = len(seeds) > 1  # one seed is the point estimate itself
        if several:
            below, label = np.full(len(seeds), row + 0.24), "one seed" if first else None
            ax.plot(seeds, below, "o", ls="", color=COLOURS[1], ms=6, label=label)
        label = "mean of the seeds" if several else "point estimate"
        ax.plot(mean, row, "D", ms=9, color="black", ls="", label=label if first else None)


@plot
def intervals(
    ax: Axes, results: dict[str, dict], xlabel: str = "EER", ci: str = SPEAKERS,
    baselines: dict[str, dict] | None = None, difference: bool = False,
) -> str:  # fmt: skip
    """Error rates with interval and seeds, best first, in per cent.

    Args:
        results: name -> {"mean": rate, "low": rate, "high": rate, "seeds": [rates]}, fractions;
            low and high, or seeds, may be missing. ci: name of the interval in the legend.
        baselines: the same of systems without training, drawn as vertical lines with their interval.
        difference: the rates are differences: percentage points with signs, and a line at zero.

    >>> one = {"mean": 0.05, "low": 0.04, "high": 0.06, "seeds": [0.049, 0.051]}
    >>> intervals({"worse": one | {"mean": 0.08}, "better": one}).alt
    'EER, lowest first: better 5.00 % (4.00 to 6.00) and worse 8.00 % (4.00 to 6.00).'
    >>> intervals({"b": one}, "EER minus that of a", difference=True).alt
    'EER minus that of a, lowest first: b +5.00 points (+4.00 to +6.00).'
    """
    sign, unit = ("+", "points") if difference else ("", "%")
    if difference:
        ax.axvline(0, color="grey", lw=1.5, ls="-")
    rows, phrases = [], []
    for name, rates in sorted(results.items(), key=lambda item: item[1]["mean"]):
        ends = [rates.get("low"), rates.get("high")]
        line = [] if None in ends else [100 * end for end in ends]
        mean = 100 * rates["mean"]
        rows.append((name, line, 100 * np.asarray(rates.get("seeds", [])), mean, ci))
        interval = f" ({line[0]:{sign}.2f} to {line[1]:{sign}.2f})" if line else ""
        phrases.append(f"{name} {mean:{sign}.2f} {unit}{interval}")
    _rows(ax, rows)
    sentence = baseline_lines(ax, baselines, vertical=True)
    legend_above(ax, columns=2)
    ax.set_xlabel(f"{xlabel} [{'percentage points' if difference else '%'}]")
    return f"{xlabel}, lowest first: {joined(phrases)}.{sentence}"


@plot
def ablation(
    ax: Axes, results: dict[str, dict], baseline: str, untrained: dict[str, dict] | None = None
) -> str:
    """Effect of each change: difference from the baseline, with its interval or the spread of the seeds.

    Args:
        results: name -> {"mean": rate, "seeds": [rates], "minus": {"low": rate, "high": rate}}, fractions.
            The same seeds in the same order for every entry, so that differences are taken seed by
            seed; without that, from the baseline's mean. minus: 95 % interval of the difference; may be
            missing or None, and then the line spans the seeds.
        baseline: one of the names.
        untrained: systems without training as for `intervals`, drawn as vertical lines.
    Returns:
        Figure; grey is the spread of the baseline's own seeds: a difference inside the grey is noise.

    >>> full, without = {"mean": 0.05, "seeds": [0.04, 0.06]}, {"mean": 0.07, "seeds": [0.06, 0.08]}
    >>> ablation({"full": full, "no KD": without}, "full").alt
    'EER against full (5.00 %, seeds within -1.00 to +1.00 points): no KD +2.00 points.'
    """
    if baseline not in results:
        raise ValueError(f"no {baseline!r} in results; the baseline is one of {', '.join(results)}")
    centre = 100 * results[baseline]["mean"]
    own = 100 * np.asarray(results[baseline].get("seeds") or [results[baseline]["mean"]])
    others = {name: rates for name, rates in results.items() if name != baseline}
    needed(others, "results without the baseline")
    low, high = own.min() - centre, own.max() - centre
    if len(own) > 1:
        ax.axvspan(low, high, color="#d9d9d9", lw=0, label=f"seeds of {plain(baseline)}")
    ax.axvline(0, color="grey", lw=1.5)
    rows, phrases = [], []
    for name, rates in sorted(others.items(), key=lambda item: item[1]["mean"]):
        seeds = 100 * np.asarray(rates.get("seeds", []), dtype=float)
        differences = seeds - (own if len(seeds) == len(own) else centre)
        minus, said = rates.get("minus"), ""
        if minus:
            span = [100 * minus[end] for end in ("low", "high")]
            said = f" ({span[0]:+.2f} to {span[1]:+.2f})"
        else:
            span = [differences.min(), differences.max()] if len(differences) > 1 else []
        change = 100 * rates["mean"] - centre
        rows.append((name, span, differences, change, SPEAKERS if minus else "its seeds"))
        phrases.append(f"{name} {change:+.2f} points{said}")
    _rows(ax, rows)
    sentence = baseline_lines(ax, untrained, vertical=True, minus=centre)
    legend_above(ax, columns=2)
    ax.set_xlabel(f"EER minus that of {plain(baseline)} [percentage points]")
    spread = f", seeds within {low:+.2f} to {high:+.2f} points" if len(own) > 1 else ""
    return f"EER against {baseline} ({centre:.2f} %{spread}): {joined(phrases)}.{sentence}"
