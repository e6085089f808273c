"""The processes that torchrun starts for one command: the number and device of this one, the parts of all.

Without torchrun there is one process, and torch is not imported.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import TypeVar

from oskdft.utils.console import silent

T = TypeVar("T")
# that a process waits for the slowest; the end of a process is noticed at once
PATIENCE = timedelta(days=7)

_joined = False


def rank() -> int:
    """Number of this process, from 0 on.

    >>> rank()
    0
    """
    return int(os.environ.get("RANK", 0))


def world() -> int:
    """Number of processes.

    >>> world()
    1
    """
    return int(os.environ.get("WORLD_SIZE", 1))


def device(choice: str) -> str:
    """The device of this process: with "auto" and several processes each has a GPU of its own.

    >>> device("auto")
    'auto'
    """
    if choice != "auto" or world() == 1:
        return choice
    import torch  # heavy

    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Let the processes meet for `shared`; all but the first print errors and warnings only.

    Raises:
        ValueError: RANK and WORLD_SIZE are set without MASTER_ADDR and MASTER_PORT.

    >>> with together():
    ...     shared([1, 2], sum)
    [3]
    """
    global _joined
    if world() == 1:
        yield
        return
    from torch import distributed  # heavy

    distributed.init_process_group("gloo", timeout=PATIENCE)
    _joined = True
    try:
        with silent() if rank() else contextlib.nullcontext():
            yield
    finally:
        _joined = False
        distributed.destroy_process_group()


def shared(items: Sequence, work: Callable[[Sequence], T]) -> list[T] | None:
    """Share work among the processes that have met in `together`: process r does items r, r + world, ...

    Returns:
        the results of all processes, by rank, in the first process; None in the others.
    Raises:
        ValueError: another process has failed.

    >>> shared([1, 2], sum)
    [3]
    """
    if not _joined:
        return [work(items)]
    from torch import distributed  # heavy

    part = work(items[rank() :: world()])
    parts = [None] * world() if rank() == 0 else None
    try:
        distributed.gather_object(part, parts)
    except RuntimeError:
        raise ValueError("another process of this command failed; its message tells why") from None
    return parts
