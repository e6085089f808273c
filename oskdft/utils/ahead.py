"""Work that runs ahead of its user in threads: files are read while a model computes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")
THREADS = 4  # libsndfile and NumPy release the interpreter's lock
GROUPS = 2  # done or in work before they are asked for; bounds the memory


def ahead(work: Callable[[A], B], groups: Iterable[Iterable[A]]) -> Iterator[list[B]]:
    """The results of ``work`` on the items of each group, in order.

    While the caller uses a group, threads work on the next `GROUPS` groups. An error of ``work`` is raised
    when its group is asked for. Close the iterator where it is not used up: it ends the threads.

    >>> list(ahead(abs, [[-1, 2], [-3]]))
    [[1, 2], [3]]
    """
    pool = ThreadPoolExecutor(THREADS)
    waiting: deque[list[Future[B]]] = deque()
    try:
        for group in groups:
            waiting.append([pool.submit(work, item) for item in group])
            if len(waiting) > GROUPS:
                yield [future.result() for future in waiting.popleft()]
        while waiting:
            yield [future.result() for future in waiting.popleft()]
    finally:
        pool.shutdown(cancel_futures=True)
