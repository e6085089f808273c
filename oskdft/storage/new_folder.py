"""A new folder that is never half-written."""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from oskdft.utils.files import require_new_folder
from oskdft.utils.lock import LOCK, Lock


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
    _remove_killed(out)
    beside = {"dir": out.parent, "prefix": f".{out.name}.", "suffix": ".part"}
    with tempfile.TemporaryDirectory(**beside) as temporary, Lock(Path(temporary)):
        folder = Path(temporary) / out.name
        folder.mkdir()
        yield folder
        os.replace(folder, out)


def _remove_killed(out: Path) -> None:
    """Remove the temporary folders beside ``out`` whose process has ended.

    Only those of this user: in a folder that many may write, the lock in another's could be a link.
    """
    named = re.compile(rf"\.{re.escape(out.name)}\.\w{{8}}\.part")
    for left in out.parent.iterdir():
        if not named.fullmatch(left.name) or left.lstat().st_uid != os.geteuid():
            continue
        if (left / LOCK).is_file() and not left.is_symlink():
            try:
                with Lock(left):
                    shutil.rmtree(left)
            except (ValueError, OSError):  # its process is still running, or it is another user's
                continue
