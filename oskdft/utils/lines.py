"""Text files that are read line by line: numbered lines, their fields, and the error for a wrong line."""

from collections.abc import Iterator
from pathlib import Path

LONGEST_SHOWN = 80  # characters of a line that an error message repeats


def numbered_lines(path: str | Path, content: str) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, line without its end) of every line that is not blank.

    Args:
        path: UTF-8 text, with or without a byte-order mark.
        content: the kind of file, for messages: "trial list".
    Raises:
        FileNotFoundError: no such file. ValueError: the file is not UTF-8 text.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "list.txt"
    >>> _ = path.write_text("first\\n\\nthird\\n")
    >>> list(numbered_lines(path, "list"))
    [(1, 'first'), (3, 'third')]
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if not line.isspace():
                    yield number, line.rstrip("\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text; give a {content}") from None
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such {content}; correct the path") from None


def fields(line: str) -> list[str]:
    """Fields of a line: separated by tabs if the line has one, so that names may hold blanks.

    >>> fields("1 a.wav b.wav"), fields("1\\tmy voice.wav\\tb.wav")
    (['1', 'a.wav', 'b.wav'], ['1', 'my voice.wav', 'b.wav'])
    """
    return [field.strip() for field in line.split("\t")] if "\t" in line else line.split()


def fault(path: str | Path, number: int, line: str, problem: str, expected: str) -> ValueError:
    """Make the error for one wrong line: file, line number, the line, the problem, the right form.

    >>> fault("list.txt", 2, "1 a.wav", "has 2 fields", "label path path")
    ValueError("list.txt, line 2: '1 a.wav' has 2 fields; expected label path path")
    """
    if len(line) > LONGEST_SHOWN:
        line = line[: LONGEST_SHOWN - 3] + "..."
    return ValueError(f"{path}, line {number}: {line!r} {problem}; expected {expected}")
