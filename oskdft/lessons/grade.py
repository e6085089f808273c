"""A table of the exercises in notebooks that a class hands in.

The verdicts are read from the stored outputs. Nothing in the files is executed: a notebook from elsewhere
may hold any code.
"""

import importlib
import json
import re
from pathlib import Path

from oskdft.lessons.exercise import NOT_ATTEMPTED
from oskdft.utils.console import table

CHECK = re.compile(
    r'\s*from oskdft\.lessons\.exercise import exercise\s+exercise\("(\w+)\.(\d+)", answer\)\s*'
)
COLOUR = re.compile(r"\x1b\[[\d;]*m")
VERDICTS = {"right": "right", "not yet: ": "not yet", NOT_ATTEMPTED: "not attempted"}
MISSING, NOT_RUN, STALE, NO_VERDICT = "missing", "not run", "run again", "no verdict"


def grade(files: list[Path]) -> list[dict]:
    """The exercises of each file.

    Returns:
        for each file "file", "notebook" (such as "01"), "exercises": number -> "right", "not yet", "not
        attempted", "not run", "run again" (the answer was run after its check), "no verdict" (an error),
        "missing" (the check is gone or was changed); "right" and "of": counts; "problem": why the file
        cannot be graded, else "".
    """
    return [_graded(path) for path in files]


def _graded(path: Path) -> dict:
    row = {"file": str(path), "notebook": "", "exercises": {}, "right": 0, "of": 0, "problem": ""}
    try:
        found = _found(_code_cells(path))
    except (ValueError, OSError) as error:
        return row | {"problem": " ".join(str(error).split())}
    notebook = found[0][0]
    verdicts = {number: verdict for name, number, verdict in found if name == notebook}
    checks = importlib.import_module(f"oskdft.lessons.checks.notebook_{notebook}")
    exercises = {number: verdicts.get(number, MISSING) for number in checks.EXERCISES}
    right = list(exercises.values()).count("right")
    row |= {"notebook": notebook, "exercises": exercises}
    return row | {"right": right, "of": len(exercises)}


def _code_cells(path: Path) -> list[dict]:
    """The code cells of a notebook file.

    Raises:
        ValueError: the file is no notebook.
    """
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return [cell for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError("not a notebook; hand in the .ipynb file") from None


def _found(cells: list[dict]) -> list[tuple[str, str, str]]:
    """Notebook, number and verdict of each exercise.

    Raises:
        ValueError: there is none.
    """
    found, known = [], Path(__file__).with_name("checks")
    for before, cell in zip([{}, *cells], cells, strict=False):
        named = CHECK.fullmatch("".join(cell.get("source", "")))
        if named and (known / f"notebook_{named[1]}.py").is_file():
            found.append((named[1], named[2], _verdict(before, cell)))
    if not found:
        raise ValueError("no exercise of this series in it; hand in a notebook of notebooks/")
    return found


def _verdict(answer: dict, check: dict) -> str:
    """What the check said, if it ran after the answer."""
    ran, checked = answer.get("execution_count"), check.get("execution_count")
    if not isinstance(checked, int):
        return NOT_RUN
    if not isinstance(ran, int) or ran > checked:
        return STALE
    outputs = [output for output in check.get("outputs", []) if isinstance(output, dict)]
    printed = "".join("".join(output.get("text", "")) for output in outputs)
    line = COLOUR.sub("", printed).strip()
    return next(
        (verdict for start, verdict in VERDICTS.items() if line.startswith(start)), NO_VERDICT
    )


def text(rows: list[dict]) -> str:
    """The table, one row for each file."""
    most = max((len(row["exercises"]) for row in rows), default=0)
    lines = [("file", "notebook", *map(str, range(1, most + 1)), "right")]
    for row in rows:
        verdicts = list(row["exercises"].values()) + [""] * (most - len(row["exercises"]))
        total = row["problem"] or f"{row['right']} of {row['of']}"
        lines.append((row["file"], row["notebook"], *verdicts, total))
    return table(lines)
