"""Memory of the process: keep what is freed."""

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing import parent_process
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import TypeVar

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # malloc.h
MOST, PAD = 2**31 - 1, 128 * 2**20  # [bytes]


def keep_freed_memory() -> bool:
    """Ask glibc to keep freed blocks for the next step; False where there is no glibc.

    By default each tensor of some megabytes is mapped, cleared page by page, and given back: about a
    third of the processor time of a training step. The price is that the process keeps its peak size.

    >>> keep_freed_memory() in (True, False)
    True
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, MOST), (M_TOP_PAD, PAD))
    return all([mallopt(name, value) for name, value in settings])


T = TypeVar("T")
STOPPED = 128 + signal.SIGTERM  # exit code after SIGTERM: what a shell reports for it, 143


class Interrupts:
    """SIGTERM as SystemExit(143) and Ctrl-C as KeyboardInterrupt, never inside a block that is `held`.

    So weights are never half updated and a checkpoint is never half written when they arrive. Held
    blocks may lie in one another: a signal counts behind the outermost. Outside the main thread
    Python delivers no signals, and nothing is changed.

    >>> with Interrupts() as interrupts:
    ...     try:
    ...         with interrupts.held():
    ...             signal.raise_signal(signal.SIGTERM)
    ...             print("the block is finished first")
    ...     except SystemExit as stop:
    ...         print(stop.code)
    the block is finished first
    143
    """

    def __enter__(self) -> "Interrupts":
        self.holding, self.waiting, self.before = 0, 0, {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.before[number] = signal.signal(number, self._arrived)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """A block that is finished before a signal counts."""
        self.holding += 1
        try:
            yield
        finally:
            self.holding -= 1
        if self.waiting and not self.holding:
            self.stop()

    def unless_stopped(self, work: Callable[[], T]) -> T | None:
        """What ``work`` gives; None when a signal ended it, which counts behind the next held block.

        So the other processes of a run can be told before this one stops.

        >>> with Interrupts() as interrupts:
        ...     interrupts.unless_stopped(lambda: signal.raise_signal(signal.SIGTERM))
        ...     interrupts.waiting == signal.SIGTERM
        True
        """
        before, self.holding = self.holding, 0
        try:
            if self.waiting:
                self.stop()
            return work()
        except (KeyboardInterrupt, SystemExit) as end:
            self.waiting = signal.SIGINT if isinstance(end, KeyboardInterrupt) else signal.SIGTERM
            return None
        finally:
            self.holding = before

    def _arrived(self, number: int, _: FrameType | None) -> None:
        self.waiting = number
        if not self.holding:
            self.stop()

    def stop(self) -> None:
        """Raise what the signal that came stands for; SystemExit when another process got it."""
        number, self.waiting = self.waiting, 0
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(STOPPED)


def begin_data_worker(_: int) -> None:
    """For data workers: a signal to the whole group must not raise an error in the midst of a step.

    A worker that exits with 0 is missed only when the next batch is wanted, and by then the main
    process has stopped. (Ignoring SIGTERM would keep it from ending its workers at exit.) And where
    that was killed without a chance to do so, a worker ends by itself: torch looks at the process
    that started it, and that is a server of its own.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    threading.Thread(target=_end_with, args=(parent_process(),), daemon=True).start()


def _end_with(process: BaseProcess) -> None:
    process.join()
    os._exit(0)


@contextlib.contextmanager
def explained(what_is_left: str) -> Iterator[None]:
    """Put what the machine did to a block into one line; errors of the program itself pass.

    Args:
        what_is_left: said behind it.
    Raises:
        ValueError: out of memory, or a data worker that failed or was ended.

    >>> with explained("go on with --resume"):
    ...     raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
    Traceback (most recent call last):
    ValueError: out of memory; go on with --resume
    """
    try:
        yield
    except (MemoryError, RuntimeError, OSError, ValueError) as error:
        text = str(error)
        if text.startswith("Caught "):  # a worker's traceback; its last line is the error
            reason = text.strip().splitlines()[-1].partition(": ")[2]
        elif isinstance(error, MemoryError) or "memory" in text:
            reason = "out of memory"
        elif "DataLoader worker" in text:
            reason = "a process that reads data was ended from outside"
        else:
            raise
        raise ValueError(f"{reason}; {what_is_left}") from error
