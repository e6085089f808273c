"""Score files: "label score" or "label id id score" lines, read strictly, written whole."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from oskdft.evaluation.metrics import summary
from oskdft.utils.files import atomic

LABELS = {"1": 1, "0": 0, "target": 1, "nontarget": 0}


def read_scores(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Scores and labels of a file of "label score" or "label id id score" lines (blanks or tabs).

    Labels are 1 or 0, target or nontarget; blank lines and lines that start with # are passed over.

    Raises:
        ValueError: names the file, the line and what is wrong with it.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "scores.txt"
    >>> _ = path.write_text("1 a/1.wav a/2.wav 0.7")
    >>> read_scores(path)
    (array([0.7]), array([1], dtype=uint8))
    """
    scores, labels, form = [], [], 0
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(map(str.strip, file), 1):
                if not line or line.startswith("#"):
                    continue
                fields = line.split("\t") if line.count("\t") == 3 else line.split()
                form = form or len(fields)
                if len(fields) != form or form not in (2, 4) or fields[0] not in LABELS:
                    raise ValueError(_fault(path, number, line, fields, form))
                labels.append(LABELS[fields[0]])
                scores.append(_number(path, number, fields[-1]))
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text; give a score file") from None
    if not scores:
        raise ValueError(f"{path} holds no scores; give lines of label and score")
    return np.array(scores), np.array(labels, np.uint8)


def _number(path: str | Path, line: int, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{path} line {line}: score {text[:40]!r} is not a number") from None
    if not math.isfinite(value):
        raise ValueError(f"{path} line {line}: score {text} is not finite; remove or mend the line")
    return value


def _fault(path: str | Path, number: int, line: str, fields: list[str], form: int) -> str:
    where = f"{path} line {number}: {line.strip()[:80]!r}"
    if fields[0] not in LABELS and len(fields) in (2, 4):
        return f"{where} has label {fields[0][:20]!r}; write 1 or 0, target or nontarget"
    if form in (2, 4) and len(fields) in (2, 4):
        return f"{where} has {len(fields)} fields, the lines before had {form}; use one form"
    return f"{where} has {len(fields)} fields; write 'label score' or 'label id id score'"


def write_scores(
    path: str | Path, scores: np.ndarray, labels: np.ndarray,
    left: Sequence[str], right: Sequence[str],
) -> None:  # fmt: skip
    """Write "label id id score" lines, whole or not at all; scores keep full float precision.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "scores.txt"
    >>> write_scores(path, [0.7], [1], ["a/1.wav"], ["a/2.wav"])
    >>> path.read_text()
    '1 a/1.wav a/2.wav 0.7\\n'
    """
    counts = len(scores), len(labels), len(left), len(right)
    if len(set(counts)) > 1:
        raise ValueError(f"scores, labels, left, right have {counts} entries; give one per trial")
    blanks = any(len(name.split()) > 1 for name in (*left, *right))
    gap = "\t" if blanks else " "  # as in trial lists: tabs let names hold blanks
    rows = zip(labels, left, right, scores, strict=True)
    with atomic(path) as file:
        file.writelines(gap.join([str(int(y)), a, b, repr(float(s))]) + "\n" for y, a, b, s in rows)


def score_file(path: str | Path) -> dict[str, Any]:
    """`summary` of a score file, labelled: which list was scored does not stand in it.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "scores.txt"
    >>> write_scores(path, [0.7, 0.2], [1, 0], ["a", "a"], ["b", "c"])
    >>> score_file(path)["eer"], score_file(path)["list"]
    (0.0, 'unknown list of 2 trials')
    """
    result = summary(*read_scores(path))
    return result | {"list": f"unknown list of {result['trials']} trials"}
