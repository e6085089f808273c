"""Output for the user: messages, tables, progress as a bar on a terminal or as plain lines elsewhere."""

import builtins
import contextlib
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
PLAIN_EVERY_S = 10.0  # between two progress lines
WIDTH = 96  # characters of a printed line: JupyterLab breaks longer ones inside a word

_silent = False


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Print neither messages nor progress inside the block.

    >>> with silent():
    ...     say("not printed")
    """
    global _silent
    _silent = True
    try:
        yield
    finally:
        _silent = False


def say(text: str) -> None:
    """Print a line for the user on stderr, so that stdout holds results only.

    In a notebook the line goes to stdout, because Jupyter shows stderr as an error.
    """
    if _silent:
        return
    in_notebook = hasattr(builtins, "__IPYTHON__")
    print(text, file=sys.stdout if in_notebook else sys.stderr, flush=True)


def progress(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Yield ``items`` and show how many are done and how long the rest takes.

    >>> list(progress([1, 2], "two things"))
    [1, 2]
    """
    total = len(items) if total is None and hasattr(items, "__len__") else total
    if _silent:
        yield from items
    elif sys.stderr.isatty():
        yield from _bar(items, label, total)
    else:
        yield from _lines(items, label, total)


def _bar(items: Iterable[T], label: str, total: int | None) -> Iterator[T]:
    from rich import progress as bars
    from rich.console import Console

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=Console(stderr=True)) as bar:
        yield from bar.track(items, total, description=label)


def _lines(items: Iterable[T], label: str, total: int | None) -> Iterator[T]:
    start = last = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= PLAIN_EVERY_S:
            last = now
            left = f", {(now - start) / done * (total - done):.0f} s left" if total else ""
            say(f"{label}: {done}{f' of {total}' if total else ''}{left}")


LISTED = 3  # names in a message


def some(names: list[str], total: int) -> str:
    """The first few names, and how many more there are.

    >>> some(["a", "b", "c", "d"], 9)
    'a, b, c and 6 more'
    """
    listed = ", ".join(names[:LISTED])
    return f"{listed} and {total - LISTED} more" if total > LISTED else listed


def table(rows: list[tuple]) -> str:
    """Rows as text with aligned columns; the first row is the head.

    >>> print(table([("a", "b"), ("long", "x")]))
    a    | b
    -----+--
    long | x
    """
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells
    ]
    return "\n".join([lines[0], "-+-".join("-" * w for w in widths), *lines[1:]])


def paragraph(text: str) -> str:
    """Text whose lines are broken between words, at `WIDTH`.

    >>> print(paragraph("one\\n" + 33 * "two "))
    one
    two two two two two two two two two two two two two two two two two two two two two two two two
    two two two two two two two two two
    """
    whole = {"break_on_hyphens": False, "break_long_words": False}  # names and paths stay whole
    return "\n".join(textwrap.fill(line, WIDTH, **whole) for line in text.split("\n"))


def percent(rate: float) -> str:
    """A fraction as per cent with two decimals.

    >>> percent(0.0475)
    '4.75 %'
    """
    return f"{100 * rate:.2f} %"
