"""Figures on disk: the picture, and beside it the numbers, to draw the picture again and check it.

Also how a notebook shows a figure: with its alternative text and caption.
"""

import base64
import hashlib
import html
import inspect
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from oskdft.lessons.figures.plots import PLOTS
from oskdft.lessons.figures.style import Picture, needed, style
from oskdft.utils import provenance
from oskdft.utils.files import atomic, read_json, write_json

SMOKE = "smoke: random teacher, eight speakers; these numbers carry no meaning"
DPI = 150
DRAWN = ("plot", "data", "note")  # entries of a record that the picture depends on
DIGITS = 6  # significant digits of stored numbers
# Mean absolute difference of grey levels, 0-255. A redraw on one machine gives 0; another release of
# the font renderer gives some tenths. The digest finds a changed number, however small.
GREY_TOLERANCE = 1.0


def storable(value: Any, where: str = "data") -> Any:
    """``value`` as JSON can hold it: arrays as lists, numbers at six significant digits.

    Args:
        where: name of the value in error messages.
    Raises:
        ValueError: a number is NaN or infinite, or the type is unknown; names the entry.

    >>> storable({"a": np.array([1 / 3, 2.0])})
    {'a': [0.333333, 2.0]}
    """
    if isinstance(value, dict):
        return {str(key): storable(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [storable(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, np.ndarray | np.generic):
        return storable(value.tolist(), where)
    if isinstance(value, float):
        if not np.isfinite(value):
            raise ValueError(f"{where} is {value}; a figure stores finite numbers, or None")
        return float(f"{value:.{DIGITS}g}")
    if value is None or isinstance(value, str | int):
        return value
    raise ValueError(
        f"{where} is a {type(value).__name__}; a figure stores numbers, text and lists"
    )


def draw(plot: str, data: dict, note: str = "") -> Picture:
    """Draw a plot from its stored arguments.

    Args:
        plot: a name in `plots.PLOTS`. data: the arguments of the plot.
        note: a warning below the picture and in its alternative text, such as `SMOKE`.
    Raises:
        ValueError: the plot is unknown, or its arguments do not fit.

    >>> draw("bars", {"values": {"x": 1}, "unit": "s"}, note="Random weights.").alt
    'Bars in s: x 1. Random weights.'
    """
    if plot not in PLOTS:
        raise ValueError(f"no plot called {plot!r}; there are {', '.join(PLOTS)}")
    drawn = next(name for name in inspect.signature(PLOTS[plot]).parameters if name != "ax")
    if hasattr(data.get(drawn), "__len__"):
        needed(data[drawn], drawn)
    figure = PLOTS[plot](**data)
    if note:
        figure.supxlabel(note, fontsize=12, color="#b00020")
        figure.alt += f" {note}"
    return figure


def save(
    fig_name: str, folder: str | Path, plot: str, data: dict, caption: str,
    config: dict | None = None, seed: int | None = None, replace: bool = False, note: str = "",
) -> Picture:  # fmt: skip
    """Draw a figure and write NAME.png, NAME.svg and NAME.json.

    The JSON holds numbers, caption, alternative text and origin. The picture is drawn from the
    rounded numbers that are stored, so a redraw gives the same picture.

    Args:
        fig_name: NAME, such as 07_det_classroom.
        plot, data, note: as for `draw`.
        config, seed: of the run that produced the numbers.
        replace: overwrite a figure of this name.
    Returns:
        The figure.
    Raises:
        FileExistsError: the name is taken. ValueError: a number is NaN, or the plot is unknown.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> save("a", folder, "bars", {"values": {"x": 1 / 3}, "unit": "s"}, "One bar.").alt
    'Bars in s: x 0.3333.'
    >>> sorted(path.name for path in folder.iterdir())
    ['a.json', 'a.png', 'a.svg']
    """
    target = Path(folder) / f"{fig_name}.json"
    if target.exists() and not replace:
        raise FileExistsError(f"{target} exists; choose another name or replace=True")
    record = {"plot": plot, "data": storable(data), "note": note, "caption": caption, "alt": ""}
    record |= {"config": storable(config, "config"), "seed": seed} | provenance.facts()
    return _write(target, record)


def _digest(record: dict) -> str:
    """Fingerprint of the numbers of a figure; the PNG carries the fingerprint it was drawn with."""
    drawn = json.dumps([record[key] for key in DRAWN])
    return hashlib.sha256(drawn.encode()).hexdigest()


def _png(figure: Picture, record: dict) -> bytes:
    about = {"Software": None, "Description": figure.alt, "Digest": _digest(record)}
    with io.BytesIO() as file, style():
        figure.savefig(file, format="png", dpi=DPI, metadata=about)
        return file.getvalue()


def svg(figure: Picture, title: str = "") -> str:
    """A figure as SVG text; equal figures give equal text (no date, no random names).

    >>> svg(draw("bars", {"values": {"x": 2.0}, "unit": "s"})).startswith("<svg")
    True
    """
    about = {"Date": None, "Creator": None, "Title": title, "Description": figure.alt}
    with io.StringIO() as picture, style():
        figure.savefig(picture, format="svg", metadata=about)
        text = picture.getvalue()
    return text[text.index("<svg") :]


def _write(target: Path, record: dict) -> Picture:
    """Draw a record; write it and beside it PNG and SVG: equal numbers give equal bytes."""
    figure = redraw(record)
    record["alt"] = figure.alt
    head = '<?xml version="1.0" encoding="utf-8" standalone="no"?>'
    with atomic(target.with_suffix(".png"), "wb") as file:
        file.write(_png(figure, record))
    with atomic(target.with_suffix(".svg")) as file:
        file.write(f"{head}\n{svg(figure, target.stem)}")
    write_json(target, record)
    return figure


def read(path: str | Path) -> dict:
    """The record of a figure; ValueError names entries that are missing."""
    record = read_json(path)
    keys = (*DRAWN, "caption", "alt")
    missing = [key for key in keys if not isinstance(record, dict) or key not in record]
    if missing:
        raise ValueError(f"{path} has no {', '.join(missing)}; save the figure again")
    return record


def redraw(record: dict) -> Picture:
    """Draw a figure again from its record."""
    return draw(record["plot"], record["data"], record["note"])


def names(folder: str | Path) -> list[str]:
    """Figures in a folder: every name that has a .json or a .png."""
    folder = Path(folder)
    files = [*folder.glob("*.json"), *folder.glob("*.png")]
    if not files:
        raise FileNotFoundError(f"no figures in {folder}; give their folder with --folder")
    return sorted({file.stem for file in files})


def redraw_all(folder: str | Path) -> list[Path]:
    """Write PNG and SVG of every .json in a folder again; the numbers stay; returns the PNGs."""
    written = []
    for name in names(folder):
        path = Path(folder) / f"{name}.json"
        _write(path, read(path))
        written.append(path.with_suffix(".png"))
    return written


def check(folder: str | Path) -> list[dict]:
    """Draw every figure again and compare it with the stored picture.

    Returns:
        One {"name", "ok", "difference", "why"} per figure; difference is the mean absolute
        difference of grey levels (0-255), None where nothing could be compared.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = save("a", folder, "bars", {"values": {"x": 2.0}, "unit": "s"}, "One bar.")
    >>> check(folder)
    [{'name': 'a', 'ok': True, 'difference': 0.0, 'why': ''}]
    """
    return [_compare(Path(folder) / f"{name}.json") for name in names(folder)]


def result_line(result: dict) -> str:
    """One result of `check` as a line of text.

    >>> result_line({"name": "a", "ok": True, "difference": 0.0, "why": ""})
    'ok       a'
    """
    return f"{'ok' if result['ok'] else 'differs':8} {result['name']}  {result['why']}".rstrip()


def _compare(path: Path) -> dict:
    """Redraw one figure and compare it with its stored picture; an entry of `check`."""
    result = {"name": path.stem, "ok": False, "difference": None, "why": ""}
    files = [path.with_suffix(ending) for ending in (".json", ".png", ".svg")]
    if missing := [file.name for file in files if not file.exists()]:
        return result | {"why": f"{missing[0]} is missing"}
    try:
        record = read(path)
        stored = Image.open(path.with_suffix(".png"))
        figure = redraw(record)
        drawn = Image.open(io.BytesIO(_png(figure, record)))
    except (ValueError, OSError, TypeError, KeyError) as error:
        return result | {"why": f"cannot be drawn again: {error}"}
    if stored.info.get("Digest") != _digest(record):
        why = f"{path.name} does not hold the numbers that {path.stem}.png was drawn from"
    elif figure.alt != record["alt"]:
        why = "the alternative text is not what the numbers say"
    elif stored.size != drawn.size:
        why = f"the stored picture has {stored.size} pixels, the redrawn one {drawn.size}"
    else:
        levels, redrawn = (np.asarray(image.convert("L"), float) for image in (stored, drawn))
        result["difference"] = round(float(np.abs(levels - redrawn).mean()), 3)
        result["ok"] = result["difference"] <= GREY_TOLERANCE
        why = f"differs by {result['difference']} grey levels on average; {GREY_TOLERANCE} are allowed"
    return result | {"why": "" if result["ok"] else why}


def learning_curves(rows: list[dict[str, float]], profile: str) -> Picture:
    """The losses of a run so far.

    Args:
        rows: of metrics.csv, at least one. profile: its name; smoke adds a warning.

    >>> learning_curves([{"step": 10, "sv": 2.0}, {"step": 20, "sv": 1.5}], "classroom").alt
    'Lines over update: SV from 2 to 1.5.'
    """
    names = {"sv": "SV", "kd_excess": "KD above its floor"}
    losses = [name for name in names if any(name in row for row in rows)]
    labels = [names[name] for name in losses]
    data = {"rows": rows, "y": losses, "labels": labels, "ylabel": "loss", "xlabel": "update"}
    return draw("curves", data, SMOKE if profile == "smoke" else "")


def display_figure(figure: Picture, caption: str) -> None:
    """Show a figure in a notebook, with caption, and with its alternative text for screen readers."""
    from IPython.display import display

    page = f"<figure>{as_html(figure)}<figcaption>{html.escape(caption)}</figcaption></figure>"
    display({"text/html": page, "text/plain": f"Figure: {caption}\n{figure.alt}"}, raw=True)


def as_html(figure: Picture) -> str:
    """A figure as an <img> element.

    Not as inline SVG: JupyterLab removes inline SVG from a notebook that was executed elsewhere.
    """
    picture = base64.b64encode(svg(figure).encode()).decode()
    source = f"data:image/svg+xml;base64,{picture}"
    return f'<img alt="{html.escape(figure.alt)}" style="max-width:100%" src="{source}">'
