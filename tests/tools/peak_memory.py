"""The memory that a block adds to the process, whatever ran before it."""

import contextlib
import re
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc/self")


def peak(afresh: bool = False) -> int:
    """High-water mark of the process [bytes].

    Args:
        afresh: first put the mark down to what the process holds now; Linux only. Elsewhere the mark
            never falls, so what was heavier before hides what comes.
    """
    try:
        if afresh:
            (PROC / "clear_refs").write_text("5")
        return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", (PROC / "status").read_text())[1])
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@contextlib.contextmanager
def at_most(limit: int) -> Iterator[None]:
    """Fail unless the block adds less than this [bytes] to what the process holds when it begins.

    >>> import mmap
    >>> with at_most(10 << 20):  # doctest: +ELLIPSIS
    ...     held = mmap.mmap(-1, 50 << 20)  # new pages, also where the process keeps freed memory
    ...     _ = held.write(b"x" * (50 << 20))
    Traceback (most recent call last):
    AssertionError: added ... MB, more than 10 MB
    """
    before = peak(afresh=True)
    yield
    added = peak() - before
    if added >= limit:
        raise AssertionError(f"added {added >> 20} MB, more than {limit >> 20} MB")
