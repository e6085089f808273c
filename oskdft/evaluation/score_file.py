"""Score files: lines of "label score" or "label id id score", read strictly, written atomically."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from oskdft.evaluation.metrics import summary
from oskdft.utils import lines
from oskdft.utils.files import atomic

LABELS = {"1": 1, "0": 0, "target": 1, "nontarget": 0}
FORMS = "'label score' or 'label id id score', label 1 or 0, target or nontarget"


def read_scores(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Scores and labels of a file of "label score" or "label id id score" lines (blanks or tabs).

    Labels are 1 or 0, target or nontarget. Blank lines and lines that start with # are skipped.

    Returns:
        (scores [P] float64, labels [P] uint8, 1 same speaker).
    Raises:
        FileNotFoundError: no such file.
        ValueError: no text, no scores, or a wrong line; names the file, the line and the problem.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "scores.txt"
    >>> _ = path.write_text("1 a/1.wav a/2.wav 0.7")
    >>> read_scores(path)
    (array([0.7]), array([1], dtype=uint8))
    """
    scores = []
    labels = []
    form = 0  # fields of each line
    for number, line in lines.numbered_lines(path, "score file"):
        line = line.strip()
        fields = line.split("\t") if line.count("\t") == 3 else line.split()
        if line[0] == "#":
            continue
        form = form or len(fields)
        label = LABELS.get(fields[0])
        try:
            score = float(fields[-1])
        except ValueError:
            score = math.nan
        if len(fields) != form or form not in (2, 4) or label is None or not math.isfinite(score):
            raise lines.fault(path, number, line, _problem(fields, form), FORMS)
        labels.append(label)
        scores.append(score)
    if not scores:
        raise ValueError(f"{path} holds no scores; give lines of label and score")
    return np.array(scores), np.array(labels, np.uint8)


def _problem(fields: list[str], form: int) -> str:
    """Problem of a wrong line that follows lines of ``form`` fields."""
    if len(fields) not in (2, 4):
        return f"has {len(fields)} fields"
    if len(fields) != form:
        return f"has {len(fields)} fields, the lines before {form}"
    if fields[0] not in LABELS:
        return f"has label {fields[0][:20]!r}"
    return f"has score {fields[-1][:40]!r}, which is not a finite number"


def write_scores(
    path: str | Path,
    scores: np.ndarray,
    labels: np.ndarray,
    left: Sequence[str],
    right: Sequence[str],
) -> None:
    """Write "label id id score" lines, all or none; scores keep full float precision.

    Fields are separated by tabs if an id holds a blank, else by blanks.

    Args:
        path: the file; its folder is made.
        scores, labels: [P]. left, right: P ids of the two recordings.
    Raises:
        ValueError: the lengths differ.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "scores.txt"
    >>> write_scores(path, [0.7], [1], ["a/1.wav"], ["a/2.wav"])
    >>> path.read_text()
    '1 a/1.wav a/2.wav 0.7\\n'
    """
    counts = (len(scores), len(labels), len(left), len(right))
    if len(set(counts)) > 1:
        raise ValueError(f"scores, labels, left, right have {counts} entries; give one per trial")
    blanks = any(len(name.split()) > 1 for name in (*left, *right))
    separator = "\t" if blanks else " "  # as in trial lists
    rows = zip(labels, left, right, scores, strict=True)
    with atomic(path) as file:
        file.writelines(
            separator.join([str(int(label)), a, b, repr(float(score))]) + "\n"
            for label, a, b, score in rows
        )


def score_file(path: str | Path) -> dict[str, Any]:
    """`metrics.summary` of a score file, with "list": a score file does not name its trial list.

    Raises:
        FileNotFoundError, ValueError: see `read_scores` and `metrics.checked_trials`.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "scores.txt"
    >>> write_scores(path, [0.7, 0.2], [1, 0], ["a", "a"], ["b", "c"])
    >>> score_file(path)["eer"], score_file(path)["list"]
    (0.0, 'unknown list of 2 trials')
    """
    result = summary(*read_scores(path))
    return result | {"list": f"unknown list of {result['trials']} trials"}
