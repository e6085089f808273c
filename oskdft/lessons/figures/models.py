"""Plots of a model: similarity, gradients, attention, embeddings, the two paths, the input speech."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from oskdft.config import SAMPLE_RATE
from oskdft.lessons.figures.style import (
    COLOURS,
    MARKERS,
    Picture,
    joined,
    new,
    plain,
    plot,
    styled,
)
from oskdft.speech.mel import LOWEST, WINDOW, mel_levels

STRETCHES = 1500  # of a stored waveform: the lowest and the highest sample of each
MELS = 64  # bands of the log-mel picture


@plot
def matrix(ax: Axes, values: list[list[float]], xlabel: str, ylabel: str, label: str) -> str:
    """Heat map, with its numbers when it is at most 14 cells wide.

    Args:
        values: [rows, columns]. label: the quantity of a cell, beside the colour bar.

    >>> matrix([[1.0, 0.2], [0.2, 1.0]], "student layer", "teacher layer", "CKA").alt
    'CKA, rows: teacher layer, columns: student layer, 2 x 2 cells from 0.2 to 1, highest at row 0, column 0.'
    """
    values = np.asarray(values, dtype=float)
    rows, columns = values.shape
    width, height = np.clip([3.4 + 0.72 * columns, 1.6 + 0.5 * rows], [7.0, 3.2], [12.8, 7.2])
    ax.figure.set_size_inches(width, height)
    sns.heatmap(
        values, ax=ax, cmap="viridis", annot=columns <= 14, fmt=".2f", annot_kws={"size": 11},
        xticklabels=1, yticklabels=1, cbar_kws={"label": label}, linewidths=0.5, linecolor="white",
    )  # fmt: skip
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.tick_params(axis="y", rotation=0)
    row, column = np.unravel_index(np.argmax(values), values.shape)
    return (
        f"{label}, rows: {ylabel}, columns: {xlabel}, {rows} x {columns} cells from {values.min():.3g} "
        f"to {values.max():.3g}, highest at row {row}, column {column}."
    )


@plot
def gradient_flow(ax: Axes, norms: dict[str, dict[str, float]]) -> str:
    """Gradient norm of each loss in each parameter group; a cell without a gradient is hatched.

    Args:
        norms: parameter group -> {loss: norm of its gradient}; 0 means no gradient arrives.

    >>> gradient_flow({"adapters": {"KD": 0.0, "FT": 2.0}, "layers": {"KD": 1.0, "FT": 2.0}}).alt
    'Gradient norms: KD reaches layers but not adapters; FT reaches everything.'
    """
    groups, losses = list(norms), list(next(iter(norms.values())))
    for group, row in norms.items():
        if set(row) != set(losses):
            raise ValueError(f"{group} has losses {list(row)}, {groups[0]} {losses}; give the same")
    values = np.array([[norms[group][loss] for loss in losses] for group in groups], dtype=float)
    none = values == 0
    size = np.log10(np.where(none, 1, values))
    ax.figure.set_size_inches(max(7.0, 4.4 + 1.9 * len(losses)), 1.5 + 0.62 * len(groups))
    sns.heatmap(
        size, ax=ax, mask=none, cmap="viridis", vmin=size.min(), vmax=max(size.max(), size.min() + 1),
        annot=np.vectorize("{:.2g}".format)(values), fmt="", annot_kws={"size": 13}, linewidths=2,
        xticklabels=losses, yticklabels=groups, cbar_kws={"label": "gradient norm, log10"},
    )  # fmt: skip
    for y, x in zip(*np.nonzero(none), strict=True):
        ax.fill_between([x, x + 1], y, y + 1, fc="#f2f2f2", hatch="//", ec="#b0b0b0", lw=0)
        box = {"facecolor": "white", "edgecolor": "none", "pad": 2}
        ax.text(x + 0.5, y + 0.5, "0", ha="center", va="center", bbox=box)
    ax.set(xlabel="loss", ylabel="")
    ax.tick_params(axis="y", rotation=0)
    ax.grid(False)
    sentences = (_reach(loss, groups, norms) for loss, norms in zip(losses, values.T, strict=True))
    return f"Gradient norms: {'; '.join(sentences)}."


def _reach(loss: str, groups: list[str], norms: np.ndarray) -> str:
    """The groups that receive a gradient from a loss, and the groups that do not, in words."""
    reached = [group for group, norm in zip(groups, norms, strict=True) if norm]
    missed = [group for group in groups if group not in reached]
    if not reached or not missed:
        return f"{loss} reaches {'everything' if reached else 'nothing'}"
    return f"{loss} reaches {joined(reached)} but not {joined(missed)}"


@plot
def embedding_map(
    ax: Axes, points: np.ndarray, labels: list[str], title: str = "", legend: bool = True,
    markers: list[str] | None = None,
) -> str:  # fmt: skip
    """A two-dimensional map of embeddings, one colour and shape per label.

    Args:
        points: [n, 2], without a unit, so the axes carry no numbers. labels: [n], such as speakers.
        legend: list the groups beside the map. markers: [n] a second property, shown as the shape.

    >>> embedding_map([[0, 0], [1, 1]], ["ann", "bob"]).alt
    'Map of 2 embeddings in 2 groups.'
    """
    frame = pd.DataFrame(points, columns=["x", "y"]).assign(label=labels, kind=labels)
    if markers is not None:
        frame["kind"] = markers
    frame = frame.astype({"label": str, "kind": str})
    names, shapes = sorted(set(frame["label"])), sorted(set(frame["kind"]))
    colours = COLOURS if len(names) <= 10 else sns.husl_palette(len(names), l=0.55).as_hex()
    ax.figure.set_figheight(6.0)
    for (label, kind), group in frame.groupby(["label", "kind"]):
        name = plain(label if label == kind else f"{label}, {kind}")
        ax.scatter(
            group["x"], group["y"], s=80, color=colours[names.index(label)], edgecolor="white",
            linewidth=0.6, marker=MARKERS[shapes.index(kind) % len(MARKERS)],
            label=name if legend else None,
        )  # fmt: skip
    ax.set(xticks=[], yticks=[], title=plain(title))
    ax.set(xlabel="map axis 1 (no unit)", ylabel="map axis 2 (no unit)")
    ax.set_aspect("equal", adjustable="datalim")
    if len(ax.get_legend_handles_labels()[1]) > 1:
        ax.figure.legend(loc="outside right upper", ncols=1 + (len(names) - 1) // 16)
    return (
        f"{title + ': map' if title else 'Map'} of {len(points)} embeddings in {len(names)} groups."
    )


def waves_data(clips: dict[str, np.ndarray]) -> dict[str, dict]:
    """The numbers that `waves` draws for each clip, few enough to be stored.

    Args:
        clips: name -> [N] samples at 16 kHz.
    Returns:
        name -> {"seconds", "rate": Hz, "low": [n], "high": [n], "mel": [MELS][frames] dB, whole numbers}.
    Raises:
        ValueError: a clip is not a vector or is shorter than one window of the spectrogram.

    >>> data = waves_data({"tone": np.sin(np.arange(16000) * 0.2)})["tone"]
    >>> data["seconds"], len(data["low"]), len(data["mel"])
    (1.0, 1000, 64)
    """
    result = {}
    for name, wave in clips.items():
        wave = np.asarray(wave, dtype=float)
        if wave.ndim != 1 or len(wave) < WINDOW:
            raise ValueError(f"{name} has shape {wave.shape}; give [N] samples, at least {WINDOW}")
        count = min(STRETCHES, len(wave) // 16)
        starts = np.arange(count) * len(wave) // count
        hop = max(160, len(wave) // 200)  # [samples]; about 200 frames at most
        mel = mel_levels(wave, MELS, hop, centred=True, range_db=80.0)  # [MELS, frames] dB
        result[name] = {
            "seconds": len(wave) / SAMPLE_RATE,
            "rate": SAMPLE_RATE,
            "low": np.minimum.reduceat(wave, starts).round(4).tolist(),
            "high": np.maximum.reduceat(wave, starts).round(4).tolist(),
            "mel": mel.round().astype(int).tolist(),
        }
    return result


@styled
def waves(clips: dict[str, dict]) -> Picture:
    """Waveform and log-mel picture of each clip, one column per clip.

    Args:
        clips: as from `waves_data`.

    >>> waves(waves_data({"tone": np.sin(np.arange(16000) * 0.2)})).alt
    'Waveform and log-mel picture of tone (1.00 s).'
    """
    figure, axes = new(
        len(clips), 2, width=max(7.0, min(4.6 * len(clips), 14)), squeeze=False, sharey="row",
        sharex="col",
    )  # fmt: skip
    wave_columns(axes, clips)
    names = joined(f"{name} ({clip['seconds']:.2f} s)" for name, clip in clips.items())
    figure.alt = f"Waveform and log-mel picture of {names}."
    return figure


def wave_columns(
    axes: np.ndarray, clips: dict[str, dict]
) -> list[tuple[PolyCollection, AxesImage]]:
    """Draw the columns of `waves`; returns waveform and mel picture of each clip.

    Args:
        axes: [2, clips] of the waveforms and of the mel pictures. clips: as from `waves_data`.
    """
    levels = [level for clip in clips.values() for row in clip["mel"] for level in row]
    drawn = []
    for (top, bottom), (name, clip) in zip(axes.T, clips.items(), strict=True):
        time = np.linspace(0, clip["seconds"], len(clip["low"]))
        band = top.fill_between(time, clip["low"], clip["high"], color=COLOURS[0], lw=0.6)
        top.set_title(plain(name))
        top.set_xlim(0, clip["seconds"])
        picture = bottom.imshow(
            clip["mel"], origin="lower", aspect="auto", cmap="magma", vmin=min(levels), vmax=max(levels),
            extent=(0, clip["seconds"], 0, MELS),
        )  # fmt: skip
        bottom.set_xlabel("time [s]")
        bottom.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10], prune="upper"))
        bottom.grid(False)
        drawn.append((band, picture))
    mel_ticks(axes[1, 0], clip["rate"])
    axes[0, 0].set_ylabel("amplitude")
    axes[0, 0].figure.colorbar(picture, ax=axes[1, :].tolist(), label="level [dB]")
    return drawn


def mel_ticks(ax: Axes, rate: int) -> None:
    """Label the mel bands of an axis with their frequencies; ``rate``: of the wave [Hz]."""
    from transformers.audio_utils import hertz_to_mel

    kilohertz = [f for f in (0.5, 1, 2, 4, 8, 16) if f <= rate / 2000]
    low, high = hertz_to_mel(LOWEST), hertz_to_mel(rate / 2)
    bands = [(hertz_to_mel(1000 * f) - low) / (high - low) * MELS for f in kilohertz]
    ax.set_yticks(bands, [f"{f:g}" for f in kilohertz])
    ax.set_ylabel("frequency [kHz]\n(mel scale)")


@plot
def heads(ax: Axes, distances: list[list[float]], alike: float | None = None) -> str:
    """Mean distance between a frame and the frames it attends to, per layer and head, in ms.

    Args:
        distances: [L, heads], ms, layer 1 first.
        alike: distance of a head that looks everywhere alike [ms]; drawn as a line.

    >>> heads([[20.0, 400.0], [100.0, 200.0]]).alt
    'Attention distance, 2 heads in each of 2 layers: lowest mean 150 ms in layer 2, highest 210 in layer 1.'
    """
    values = np.asarray(distances, dtype=float)
    at = np.arange(1, len(values) + 1)
    layers = np.repeat(at, values.shape[1])
    ax.plot(layers, values.ravel(), "o", ms=7, alpha=0.6, ls="", label="one head")
    means = values.mean(1)
    ax.plot(at, means, "D-", ms=9, color="black", label="mean of a layer")
    sentence = ""
    if alike is not None:
        ax.axhline(alike, color="#7f7f7f", ls="--", label="everywhere alike")
        sentence = f" Everywhere alike: {alike:.0f} ms."
    ax.set(xlabel="layer", ylabel="mean attention distance [ms]", xticks=at)
    ax.set_ylim(0, 1.05 * max(values.max(), alike or 0.0))
    low, high = int(means.argmin()), int(means.argmax())
    return (
        f"Attention distance, {values.shape[1]} heads in each of {len(values)} layers: lowest mean "
        f"{means[low]:.0f} ms in layer {low + 1}, highest {means[high]:.0f} in layer {high + 1}."
        f"{sentence}"
    )


@styled
def paths(rows: list[dict]) -> Picture:
    """Difference of the student's two paths, and similarity of each path to the teacher, per layer.

    Args:
        rows: one per layer, {"layer": number, "difference": |v - d| / |d| of the verification path v
            and the distillation path d, "distillation": similarity of d to the teacher,
            "verification": similarity of v to the teacher}.

    >>> row = {"difference": 0.1, "distillation": 0.9, "verification": 0.5}
    >>> paths([row | {"layer": 1}, row | {"layer": 2}]).alt.split("; ")[1]
    'similarity to the teacher in layer 2: distillation path 0.90, verification path 0.50.'
    """
    at = [row["layer"] for row in rows]
    figure, (left, right) = new(2, width=12.8)
    bars = left.bar(at, [row["difference"] for row in rows], color=COLOURS[4], width=0.6)
    left.bar_label(bars, fmt="{:.3g}", padding=3)  # shows a difference of 0 too
    top = 1.1 * max(0.1, *(row["difference"] for row in rows))
    left.set(xlabel="layer", ylabel="relative difference of the paths", xticks=at, ylim=(0, top))
    looks = (("distillation", COLOURS[0], "o-", 15, 4), ("verification", COLOURS[1], "s--", 8, 2))
    # where both are equal, the thick line shows around the thin one
    for key, colour, form, size, width in looks:
        right.plot(
            at, [row[key] for row in rows], form, ms=size, lw=width, color=colour, label=f"{key} path"
        )  # fmt: skip
    lowest = min(0.9, *(row[key] for row in rows for key in ("distillation", "verification")))
    span = (lowest - 0.02, 1.02)  # so that rounding near 1 is not blown up
    right.set(xlabel="layer", ylabel="similarity to the teacher", xticks=at, ylim=span)
    right.legend(loc="lower left")
    first, last = rows[0], rows[-1]
    figure.alt = (
        f"Two paths over layers {at[0]} to {at[-1]}: relative difference from "
        f"{first['difference']:.3g} to {last['difference']:.3g}; similarity to the teacher in layer "
        f"{at[-1]}: distillation path {last['distillation']:.2f}, "
        f"verification path {last['verification']:.2f}."
    )
    return figure
