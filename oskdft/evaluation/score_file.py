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
        return _named(path, columns)
    scores = []
    labels: dict[int, bytearray] = {0: bytearray(), 2: bytearray()}  # by column
    plain = False  # whether an id of the second column looks unlike a label
    faults: dict[int, ValueError] = {}  # the first of each column
    form = 0  # fields of each line
    told = False  # whether a comment names the columns
    for number, line in lines.numbered_lines(path, "score file"):
        line = line.strip()
        if line[0] == "#":
            told = told or line == HEADER
            continue
        fields = line.split("\t") if line.count("\t") == 3 else line.split()
        form = form or len(fields)
        score = _number(fields[-1])
        if len(fields) != form or form not in (2, 4) or not math.isfinite(score):
            raise lines.fault(path, number, line, _problem(fields, form), FORMS)
        scores.append(score)
        plain = plain or form == 2 or fields[1] not in LABELS
        for column in (0,) if form == 2 else (0, 2):
            label = LABELS.get(fields[column])
            labels[column].append(label or 0)
            if label is None and column not in faults:
                problem = f"has label {fields[column][:20]!r}"
                faults[column] = lines.fault(path, number, line, problem, FORMS)
    if not scores:
        raise ValueError(f"{path} holds no scores; give lines of label and score")
    column = 2 if form == 4 and 0 in faults and 2 not in faults and not told else 0
    if column in faults:
        raise faults[column]
    if form == 4 and not told and 0 not in faults and not (2 in faults and plain):
        other = "second" if 2 in faults else "third"
        raise ValueError(
            f"{path}: the first and the {other} column could both be the labels; name the columns: "
            f"--columns label,id,id,score or --columns id,id,label,score"
        )
    return np.array(scores), np.frombuffer(labels[column], np.uint8)


def _named(path: str | Path, columns: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """`read_scores` of a file whose columns are known."""
    counts = [columns.count(word) for word in ("label", "score", "id")]
    if counts[:2] != [1, 1] or sum(counts) != len(columns):
        raise ValueError(
            f"columns are {','.join(columns)}; name label and score once and each other column id, such "
            "as id,id,label,score"
        )
    scores, labels = array("d"), bytearray()
    place, score_place = columns.index("label"), columns.index("score")
    for number, line in lines.numbered_lines(path, "score file"):
        line = line.strip()
        if line[0] == "#":
            continue
        fields = line.split("\t") if line.count("\t") == len(columns) - 1 else line.split()
        problem = f"has {len(fields)} fields"
        if len(fields) == len(columns):
            label, score = LABELS.get(fields[place]), _number(fields[score_place])
            problem = f"has label {fields[place][:20]!r}" if label is None else ""
            if not math.isfinite(score):
                wrong = fields[score_place][:40]
                problem = f"has score {wrong!r}, which is not a finite number"
        if problem:
            raise lines.fault(path, number, line, problem, ",".join(columns))
        scores.append(score)
        labels.append(label)
    if not scores:
        raise ValueError(f"{path} holds no scores; give lines of {','.join(columns)}")
    return np.array(scores), np.frombuffer(labels, np.uint8)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _problem(fields: list[str], form: int) -> str:
    """Problem of a wrong line that follows lines of ``form`` fields."""
    if len(fields) not in (2, 4):
        return f"has {len(fields)} fields"
    if len(fields) != form:
        return f"has {len(fields)} fields, the lines before {form}"
    return f"has score {fields[-1][:40]!r}, which is not a finite number"


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
