"""Faults that strike a process: what is done inside it, and how a training may end.

Signals come from outside at a random moment. Everything about writing strikes inside a write, at a
random flush to the disk; limits of memory and file size are the system's own.
"""

import errno
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable

SIGNALS = {
    "SIGKILL": signal.SIGKILL,
    "SIGTERM": signal.SIGTERM,
    "Ctrl-C": signal.SIGINT,
    "SIGKILL, then damage": signal.SIGKILL,  # the newest checkpoint is damaged before the resume
    "SIGTERM on a slow disk": signal.SIGTERM,
}
ENDS = {  # exit codes that a fault may have; 0: the run was quicker than the fault
    "SIGKILL": {0, -signal.SIGKILL},
    "SIGKILL, then damage": {0, -signal.SIGKILL},
    "SIGTERM": {0, 143, -signal.SIGTERM},  # itself before `main` begins: 143 to a shell
    "SIGTERM on a slow disk": {0, 143, -signal.SIGTERM},
    "Ctrl-C": {0, 130},
    "SIGKILL inside a write": {0, -signal.SIGKILL},
    "SIGKILL before a rename": {0, -signal.SIGKILL},
    "disk full inside a write": {0, 1},
    "file size limit": {0, 1},
    "memory limit": {0, 1, -signal.SIGABRT, -signal.SIGSEGV},
}
HARMLESS = {"the clock goes back a day", "stopped and continued"}  # the process goes on
ENDS |= dict.fromkeys(HARMLESS, {0})
FILE_LIMIT = 20_000  # bytes: logs pass, checkpoints do not
SLOW_S = 0.2  # each flush of a slow disk
DAY_S = 86_400


def prepare(kind: str, share: float, moment: float, seconds: float) -> None:
    """Arm a fault inside the process that will suffer it.

    Args:
        share: in [0, 1), how much of the file is there when a write is cut.
        moment: in [0, 1), when: which flush, or which share of ``seconds``.
        seconds: within these a fault by the clock comes.
    """
    flush = 1 + int(moment * 12)
    if kind == "SIGKILL inside a write":
        os.fsync = at_call(flush, os.fsync, lambda file: (cut(file, share), die()))
    elif kind == "SIGKILL before a rename":
        os.replace = at_call(flush, os.replace, lambda *_: die())
    elif kind == "disk full inside a write":
        os.fsync = at_call(flush, os.fsync, lambda file: (cut(file, share), full()))
    elif kind == "SIGTERM on a slow disk":
        quick = os.fsync
        os.fsync = lambda file: (threading.Event().wait(SLOW_S), quick(file))
    elif kind == "file size limit":
        later(seconds * moment, lambda: limit(resource.RLIMIT_FSIZE, FILE_LIMIT))
    elif kind == "memory limit":
        later(seconds * moment, lambda: limit(resource.RLIMIT_AS, address_space()))
    elif kind == "the clock goes back a day":
        right = time.time
        later(seconds * moment, lambda: setattr(time, "time", lambda: right() - DAY_S))
    elif kind == "stopped and continued":
        later(seconds * moment, stop_for_a_second)


def at_call(number: int, real: Callable, fault: Callable) -> Callable:
    """``real``, but from its ``number``-th call on ``fault`` strikes first."""
    calls = []

    def call(*arguments):
        calls.append(arguments)
        if len(calls) >= number:
            fault(*arguments)
        return real(*arguments)

    return call


def cut(file: int, share: float) -> None:
    """Leave only a part of what was written, as when the power fails."""
    os.ftruncate(file, int(share * os.fstat(file).st_size))


def die() -> None:
    """The end that nothing can catch."""
    os.kill(os.getpid(), signal.SIGKILL)


def stop_for_a_second() -> None:
    """SIGSTOP to this process, and SIGCONT from another one, as a laptop that is closed and opened."""
    subprocess.Popen(["sh", "-c", f"sleep 1; kill -CONT {os.getpid()}"])
    os.kill(os.getpid(), signal.SIGSTOP)


def full() -> None:
    """What the system says of a full disk."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def later(seconds: float, action: Callable[[], None]) -> None:
    """Do it in a thread of its own that nobody waits for."""
    timer = threading.Timer(seconds, action)
    timer.daemon = True
    timer.start()


def limit(what: int, bytes_: int) -> None:
    """Lower a limit of this process."""
    resource.setrlimit(what, (bytes_, resource.getrlimit(what)[1]))


def address_space() -> int:
    """What the process has mapped [bytes]: nothing more can be had."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()
