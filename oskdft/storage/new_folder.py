"""A new folder that is never half-written."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from oskdft.utils.files import require_new_folder
from oskdft.utils.lock import Lock, remove_killed


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A temporary folder that is renamed to ``out`` when everything in it is written.

    Temporary folders that killed processes have left beside ``out`` are removed. A lock tells them from
    the folder of a process that is still running: the system releases it when a process ends.

    Raises:
        ValueError: ``out`` holds something, or is a file.

    >>> place = Path(tempfile.mkdtemp())
    >>> with new_folder(place / "model") as folder:
    ...     _ = (folder / "a.txt").write_text("whole")
    ...     (place / "model").exists()
    False
    >>> (place / "model" / "a.txt").read_text(), len(list(place.iterdir()))
    ('whole', 1)
    """
    require_new_folder(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    remove_killed(out)
    beside = {"dir": out.parent, "prefix": f".{out.name}.", "suffix": ".part"}
    with tempfile.TemporaryDirectory(**beside) as temporary, Lock(Path(temporary)):
        folder = Path(temporary) / out.name
        folder.mkdir()
        yield folder
        os.replace(folder, out)
