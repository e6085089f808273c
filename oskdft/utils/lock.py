"""The right to write a folder, for one process at a time."""

import contextlib
import errno
import fcntl
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from oskdft.utils.console import say

LOCK = ".lock"
HELD: set[tuple[int, int]] = set()  # files locked by this process: device and number


class Lock:
    """The right to write a folder. The system releases it when the process ends, however it ends.

    A POSIX record lock: data workers do not inherit it, network file systems know it.

    Args:
        folder: made where it is absent.
    Raises:
        ValueError: another process holds the lock; names the process. OSError: the folder cannot be
            written.

    >>> import tempfile
    >>> with Lock(Path(tempfile.mkdtemp()) / "new") as lock:
    ...     lock.check()
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK
        folder.mkdir(parents=True, exist_ok=True)
        # the system does not keep a process from itself, and another file object that it closes frees
        # the lock, so a second lock of this process is refused before it opens the file
        if self._file_id() in HELD:
            raise ValueError(
                f"{folder} is being written by this process; wait for it, or choose another --out"
            )
        self.file = open(self.path, "a+", encoding="utf-8")  # noqa: SIM115 - open as long as held
        self.held = None
        self.locked = self._lock()
        status = os.fstat(self.file.fileno())
        self.held = status.st_dev, status.st_ino
        HELD.add(self.held)
        self.file.truncate(0)
        self.file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        self.file.flush()

    def _file_id(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self.path)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _lock(self) -> bool:
        """Take the lock; False where the file system has none."""
        folder = self.path.parent
        try:
            fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                self.file.seek(0)
                raise ValueError(
                    f"{folder} is being written by {self.file.read().strip() or 'another process'}; "
                    "wait for it, or choose another --out"
                ) from None
            say(f"{folder} cannot be locked ({error.strerror}); see that nobody else writes there")
            return False
        return True

    def check(self) -> None:
        """Raise FileNotFoundError if the folder was removed, replaced or unmounted meanwhile.

        The lock is taken again: a copy of the folder that this process makes frees it.

        Raises:
            ValueError: another process took it.
        """
        try:
            there = os.path.samestat(os.stat(self.path), os.fstat(self.file.fileno()))
        except OSError:
            there = False
        if not there:
            raise FileNotFoundError(
                f"{self.path.parent} has vanished (moved, removed or unmounted); the run stops "
                "here; bring the folder back and go on with --resume"
            )
        if self.locked:
            self._lock()

    def __del__(self) -> None:
        if getattr(self, "held", None):
            self.release()

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Release the lock."""
        HELD.discard(self.held)
        self.held = None
        self.file.close()


@contextlib.contextmanager
def scratch_folder(place: str | None = None) -> Iterator[Path]:
    """A temporary folder that goes with its block; those that killed processes have left are removed.

    Args:
        place: folder in which it is made; None: the system's temporary folder.

    >>> with scratch_folder() as folder:
    ...     (folder / "a.txt").touch()
    >>> folder.exists()
    False
    """
    remove_killed(Path(place or tempfile.gettempdir()) / "oskdft")
    named = {"prefix": ".oskdft.", "suffix": ".part", "dir": place}
    with tempfile.TemporaryDirectory(**named) as folder, Lock(Path(folder)):
        yield Path(folder)


def remove_killed(out: Path) -> None:
    """Remove the temporary folders of ``out``, beside it, whose process has ended.

    They are named .NAME.XXXXXXXX.part and hold a lock, which the system releases when a process ends. Only
    those of this user: in a folder that many may write, the lock in another's could be a link.
    """
    named = re.compile(rf"\.{re.escape(out.name)}\.\w{{8}}\.part")
    for left in out.parent.iterdir():
        if not named.fullmatch(left.name) or left.lstat().st_uid != os.geteuid():
            continue
        if (left / LOCK).is_file() and not left.is_symlink():
            try:
                with Lock(left):
                    shutil.rmtree(left)
            except (ValueError, OSError):  # its process is still running
                continue
