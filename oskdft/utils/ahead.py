"""Work that runs ahead of its user: files are read while a model computes or while others are awaited."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")
THREADS = 4  # libsndfile and NumPy release the interpreter's lock
GROUPS = 2  # done or in work before they are asked for; bounds the memory
WAITING_THREADS = 8  # that wait for the disk or the network, not for a core
QUEUED = 512  # items in work or waiting for a thread


def ahead(
    work: Callable[[A], B],
    groups: Iterable[Iterable[A]],
    pool: Executor | None = None,
    most: int = GROUPS,
) -> Iterator[list[B]]:
    """The results of ``work`` on the items of each group, in order.

    While the caller uses a group, the pool works on the next groups. An error of ``work`` is raised when
    its group is asked for. Close the iterator where it is not used up: it ends the pool.

    Args:
        pool: of threads or processes; None: `THREADS` threads. most: groups in work or done.

    >>> list(ahead(abs, [[-1, 2], [-3]]))
    [[1, 2], [3]]
    """
    pool = pool or ThreadPoolExecutor(THREADS)
    waiting: deque[list[Future[B]]] = deque()
    try:
        for group in groups:
            waiting.append([pool.submit(work, item) for item in group])
            if len(waiting) > most:
                yield [future.result() for future in waiting.popleft()]
        while waiting:
            yield [future.result() for future in waiting.popleft()]
    finally:
        pool.shutdown(cancel_futures=True)


def in_threads(work: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """The result of ``work`` for each item, in order; a bounded number of items is in work.

    >>> list(in_threads(abs, [-1, 2]))
    [1, 2]
    """
    pool = ThreadPoolExecutor(WAITING_THREADS)
    for [result] in ahead(work, ([item] for item in items), pool, QUEUED):
        yield result
