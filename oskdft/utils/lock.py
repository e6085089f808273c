"""The right to write a folder, for one process at a time."""

import errno
import fcntl
import os
import socket
from pathlib import Path

from oskdft.utils.console import say

LOCK = ".lock"


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
        self.file = open(self.path, "a+", encoding="utf-8")  # noqa: SIM115 - open as long as held
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
        self.file.truncate(0)
        self.file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        self.file.flush()

    def check(self) -> None:
        """Raise FileNotFoundError if the folder was removed, replaced or unmounted meanwhile."""
        try:
            there = os.path.samestat(os.stat(self.path), os.fstat(self.file.fileno()))
        except OSError:
            there = False
        if not there:
            raise FileNotFoundError(
                f"{self.path.parent} has vanished (moved, removed or unmounted); the run stops "
                "here; bring the folder back and go on with --resume"
            )

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Release the lock."""
        self.file.close()
