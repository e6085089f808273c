"""Signals, memory exhaustion and dead data workers; keeping freed memory."""

import contextlib
import ctypes
import functools
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import parent_process
from multiprocessing.process import BaseProcess
from multiprocessing.util import get_temp_dir
from types import FrameType
from typing import TypeVar

T = TypeVar("T")
STOPPED = 128 + signal.SIGTERM  # exit code after SIGTERM: what a shell reports for it, 143
HUNG_UP = 128 + signal.SIGHUP  # and after SIGHUP: the terminal or the connection was closed, 129
M_TRIM_THRESHOLD = -1  # malloc.h
M_TOP_PAD = -2
M_MMAP_MAX = -4
NEVER_TRIM = 2**31 - 1  # bytes
PAD = 128 * 2**20  # bytes
LONGEST_PLACE = 70  # characters of a folder; the path of a socket has at most 107


class Interrupts:
    """Raise SystemExit on SIGTERM (143) and SIGHUP (129), KeyboardInterrupt on Ctrl-C; not in a `held` block.

    The first signal stops the work. The second, while the state is being saved, is only noted: Ctrl-C
    twice loses nothing. The third ends the process in the way of Python. SIGHUP under nohup stays ignored.

    A signal therefore never leaves weights half updated or a checkpoint half written. Held blocks may
    be nested: the exception is raised at the end of the outermost. Outside the main thread Python
    delivers no signals, and the context manager does nothing.

    >>> with Interrupts() as interrupts:
    ...     try:
    ...         with interrupts.held():
    ...             signal.raise_signal(signal.SIGTERM)
    ...             print("the block runs to its end")
    ...     except SystemExit as stop:
    ...         print(stop.code)
    the block runs to its end
    143
    """

    def __enter__(self) -> "Interrupts":
        self.holding = 0  # depth of held blocks
        self.waiting = 0  # number of the pending signal; 0: none
        self.late = -1  # signals after the one that stopped the work; -1: none has
        self.before = {}  # the handlers to restore
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                    continue
                self.before[number] = signal.signal(number, self._arrived)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Delay signals to the end of the block."""
        self.holding += 1
        try:
            yield
        finally:
            self.holding -= 1
        if self.waiting and not self.holding:
            self.stop()

    def unless_stopped(self, work: Callable[[], T]) -> T | None:
        """Return the result of ``work``; None if a signal ended it.

        The signal stays pending until the end of the surrounding or next held block, so that this
        process can tell the other processes of the run before it stops.

        >>> with Interrupts() as interrupts:
        ...     interrupts.unless_stopped(lambda: signal.raise_signal(signal.SIGTERM))
        ...     interrupts.waiting == signal.SIGTERM
        True
        """
        depth = self.holding
        self.holding = 0
        try:
            if self.waiting:
                self.stop()
            return work()
        except KeyboardInterrupt:
            self.waiting = signal.SIGINT
            return None
        except SystemExit as end:
            self.waiting = signal.SIGHUP if end.code == HUNG_UP else signal.SIGTERM
            return None
        finally:
            self.holding = depth

    def _arrived(self, number: int, _: FrameType | None) -> None:
        if self.late >= 0:
            self.late += 1
            if self.late > 1:
                raise KeyboardInterrupt
            print("stopping; the state is being saved", file=sys.stderr, flush=True)
            return
        self.waiting = number
        if not self.holding:
            self.stop()

    def stop(self) -> None:
        """Raise the exception of the pending signal; SystemExit if another process received it."""
        number = self.waiting
        self.waiting = 0
        self.late = max(self.late, 0)
        raise (
            KeyboardInterrupt
            if number == signal.SIGINT
            else SystemExit(HUNG_UP if number == signal.SIGHUP else STOPPED)
        )


def end_of(code: int) -> str:
    """What the exit code of a child process says: the signal, and the likely cause.

    Args:
        code: as of subprocess, negative for a signal.

    >>> end_of(-9)
    'killed by SIGKILL, most likely because the memory was full'
    >>> end_of(-15), end_of(3)
    ('ended by SIGTERM', 'exit code 3')
    """
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    if name == "SIGKILL":
        return f"killed by {name}, most likely because the memory was full"
    return f"ended by {name}"


_handlers_raise_nothing = False  # in data workers: True


def undisturbed(work: Callable[[], T]) -> T:
    """Return the result of ``work``, which no signal interrupts.

    A C library that calls Python back loses an exception which a signal handler raises there. Python
    runs the handlers in the main thread, so the work runs in another. A data worker needs no thread: its
    handlers raise nothing (`begin_data_worker`).

    >>> undisturbed(lambda: threading.current_thread() is threading.main_thread())
    False
    """
    if _handlers_raise_nothing or threading.current_thread() is not threading.main_thread():
        return work()
    future = _other_thread().submit(work)
    try:
        return future.result()
    finally:
        future.exception()  # a signal ends the waiting, not the work


@functools.cache  # to start a thread for each crop takes as long as to read the crop
def _other_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1)


os.register_at_fork(after_in_child=_other_thread.cache_clear)  # threads are not copied


def place_of_sockets() -> str | None:
    """Where a folder for sockets may lie: None: the temporary folder; /tmp where its path is too long.

    >>> place_of_sockets() in (None, "/tmp")
    True
    """
    is_long = len(tempfile.gettempdir()) > LONGEST_PLACE
    return "/tmp" if is_long and os.path.isdir("/tmp") else None


def prepare_data_workers() -> None:
    """Let this process and its workers meet over sockets whose paths fit, before they are started.

    multiprocessing makes the folder of its sockets once, in the temporary folder. Where that has a long path
    the workers fail to send their batches, say nothing, and the training waits for ever.
    """
    if (place := place_of_sockets()) is not None:
        before, tempfile.tempdir = tempfile.tempdir, place
        get_temp_dir()
        tempfile.tempdir = before


def begin_data_worker(_: int) -> None:
    """Set the signal handlers of a data worker, and end the worker with its main process.

    A signal to the process group must not fail the training step in progress. SIGINT is ignored. On
    SIGTERM the worker exits with 0: the main process notices only when it asks for the next batch, and
    has stopped by then. SIGTERM is not ignored, because the main process ends its workers with it.
    A main process that was killed ends no worker, and torch's own check watches the fork server, so
    a thread waits for the end of the main process.
    """
    global _handlers_raise_nothing
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    _handlers_raise_nothing = True
    threading.Thread(target=_end_with, args=(parent_process(),), daemon=True).start()


def _end_with(process: BaseProcess) -> None:
    process.join()
    os._exit(0)


@contextlib.contextmanager
def explained(what_is_left: str) -> Iterator[None]:
    """Turn memory exhaustion and dead data workers into one line; raise other errors unchanged.

    Args:
        what_is_left: the end of the line: what was saved and how to resume.
    Raises:
        ValueError: out of memory, or a data worker failed or was killed.

    >>> with explained("continue with --resume"):
    ...     raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
    Traceback (most recent call last):
    ValueError: out of memory; continue with --resume
    """
    try:
        yield
    except (MemoryError, RuntimeError, OSError, ValueError) as error:
        text = str(error)
        if text.startswith("Caught "):  # the traceback of a data worker; the last line is the error
            reason = text.strip().splitlines()[-1].partition(": ")[2]
        elif isinstance(error, MemoryError) or "memory" in text:
            reason = "out of memory"
        elif "DataLoader worker" in text:
            reason = "a process that reads data was killed"
        else:
            raise
        raise ValueError(f"{reason}; {what_is_left}") from error


def keep_freed_memory() -> bool:
    """Ask glibc to keep freed blocks for the next step; return False where there is no glibc.

    By default glibc maps each tensor of some megabytes, clears it page by page and unmaps it again:
    about a third of the processor time of a training step. In return the process keeps its peak size.

    >>> keep_freed_memory() in (True, False)
    True
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, NEVER_TRIM), (M_TOP_PAD, PAD))
    return all([mallopt(name, value) for name, value in settings])
