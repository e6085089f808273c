"""Score files: lines of "label score" or "label id id score", read strictly, written atomically.

Of a trial list without labels they are lines of "id id score", which are written only.
"""

import math
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from oskdft.evaluation.metrics import summary
from oskdft.utils import lines
from oskdft.utils.files import atomic

LABELS = {"1": 1, "0": 0, "target": 1, "nontarget": 0}
HEADER = "# label id id score"
FORMS = (
    "'label score', 'label id id score' or 'id id label score', label 1 or 0, target or nontarget"
)


def read_scores(path: str | Path, columns: Sequence[str] = ()) -> tuple[np.ndarray, np.ndarray]:
    """Scores and labels of a score file, fields separated by blanks or tabs.

    Lines are "label score", "label id id score" or "id id label score", all alike.

    Labels are 1 or 0, target or nontarget. Blank lines and lines that start with # are skipped, but the
    comment "# label id id score" settles where the labels are when ids look like labels.

    Args:
        columns: what the columns are: "label" and "score" once, "id" for any other; empty: one of
            the forms above.
    Returns:
        (scores [P] float64, labels [P] uint8, 1 same speaker).
    Raises:
        FileNotFoundError: no such file.
        ValueError: no text, no scores, wrong columns, or a wrong line; names the file, the line and the
            problem.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "scores.txt"
    >>> _ = path.write_text("1 a/1.wav a/2.wav 0.7")
    >>> read_scores(path)
    (array([0.7]), array([1], dtype=uint8))
    """
    if columns:
        counts = [columns.count(word) for word in ("label", "score", "id")]
        if counts[:2] != [1, 1] or sum(counts) != len(columns):
            raise ValueError(
                f"columns are {','.join(columns)}; name label and score once and each other column id, "
                "such as id,id,label,score"
            )
    label_columns = [columns.index("label")] if columns else [0, 2]  # where the labels may be
    score_column = columns.index("score") if columns else -1
    expected = ",".join(columns) or FORMS
    width = len(columns)  # fields of each line; else those of the first
    scores = array("d")
    labels = {column: bytearray() for column in label_columns}
    faults: dict[int, ValueError] = {}  # the first of each column of labels
    plain = False  # whether an id of the second column looks unlike a label
    told = False  # whether a comment names the columns
    for number, line in lines.numbered_lines(path, "score file"):
        line = line.strip()
        if line[0] == "#":
            told = told or line == HEADER
            continue
        fields = line.split("\t") if line.count("\t") == (len(columns) or 4) - 1 else line.split()
        width = width or len(fields)
        problem = ""
        if len(fields) != width or (width not in (2, 4) and not columns):
            problem = f"has {len(fields)} fields"
            if len(fields) in (2, 4) and not columns:
                problem += f", the lines before {width}"
        elif not math.isfinite(_number(fields[score_column])):
            problem = f"has score {fields[score_column][:40]!r}, which is not a finite number"
        if problem:
            raise lines.fault(path, number, line, problem, expected)
        scores.append(float(fields[score_column]))
        plain = plain or fields[1] not in LABELS
        if width == 2 and not columns:
            label_columns = [0]
        for column in label_columns:
            label = LABELS.get(fields[column])
            labels[column].append(label or 0)
            if label is None and column not in faults:
                problem = f"has label {fields[column][:20]!r}"
                faults[column] = lines.fault(path, number, line, problem, expected)
        if columns and faults:
            break
    column = label_columns[0]
    if len(label_columns) == 2 and 0 in faults and 2 not in faults and not told:
        column = 2
    if column in faults:
        raise faults[column]
    if not scores:
        raise ValueError(
            f"{path} holds no scores; give lines of {','.join(columns) or 'label and score'}"
        )
    if len(label_columns) == 2 and not told and 0 not in faults and not (2 in faults and plain):
        other = "second" if 2 in faults else "third"
        raise ValueError(
            f"{path}: the first and the {other} column could both be the labels; name the columns: "
            f"--columns label,id,id,score or --columns id,id,label,score"
        )
    return np.array(scores), np.frombuffer(labels[column], np.uint8)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def write_scores(
    path: str | Path,
    scores: np.ndarray,
    labels: np.ndarray | None,
    left: Sequence[str],
    right: Sequence[str],
) -> None:
    """Write "label id id score" lines, all or none; scores keep full float precision.

    Without labels the lines are "id id score".

    Fields are separated by tabs if an id holds a blank, else by blanks.

    Args:
        path: the file; its folder is made.
        scores, labels: [P], labels may be None. left, right: P ids of the two recordings.
    Raises:
        ValueError: the lengths differ.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "scores.txt"
    >>> write_scores(path, [0.7], [1], ["a/1.wav"], ["a/2.wav"])
    >>> path.read_text()
    '1 a/1.wav a/2.wav 0.7\\n'
    """
    marks = [""] * len(scores) if labels is None else [str(int(label)) for label in labels]
    counts = (len(scores), len(marks), len(left), len(right))
    if len(set(counts)) > 1:
        raise ValueError(f"scores, labels, left, right have {counts} entries; give one per trial")
    blanks = any(len(name.split()) > 1 for name in (*left, *right))
    separator = "\t" if blanks else " "  # as in trial lists
    rows = zip(marks, left, right, scores, strict=True)
    with atomic(path) as file:
        # ids that could be taken for labels
        if labels is not None and any(LABELS.keys() >= set(side) for side in (left, right)):
            file.write(f"{HEADER}\n")
        file.writelines(
            separator.join([*filter(None, [mark]), a, b, repr(float(score))]) + "\n"
            for mark, a, b, score in rows
        )


def score_file(path: str | Path, columns: Sequence[str] = ()) -> dict[str, Any]:
    """`metrics.summary` of a score file, with "list": a score file does not name its trial list.

    Raises:
        FileNotFoundError, ValueError: see `read_scores` and `metrics.checked_trials`.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "scores.txt"
    >>> write_scores(path, [0.7, 0.2], [1, 0], ["a", "a"], ["b", "c"])
    >>> score_file(path)["eer"], score_file(path)["list"]
    (0.0, 'unknown list of 2 trials')
    """
    result = summary(*read_scores(path, columns))
    return result | {"list": f"unknown list of {result['trials']} trials"}
