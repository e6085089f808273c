"""Seconds of a forward pass on this machine; its multiply-adds are counted by `analysis.multiply_adds`."""

import time
from collections.abc import Callable

import numpy as np
import torch


def median_seconds(calls: dict[str, Callable[[], object]], repeats: int = 9) -> dict[str, float]:
    """Median time of each call [s]; the calls take turns, so that a busy moment hits all of them.

    Args:
        calls: name -> a function without arguments; each runs once before the clock starts.
        repeats: rounds; the median of an odd number is one of the times.
    Raises:
        ValueError: no round to measure.

    >>> times = median_seconds({"nothing": lambda: None, "sleep": lambda: time.sleep(0.01)}, 3)
    >>> times["sleep"] >= 0.01 > times["nothing"]
    True
    """
    if repeats < 1:
        raise ValueError(f"repeats is {repeats}; measure at least once")
    for call in calls.values():
        call()
    taken = {name: [] for name in calls}
    order = np.random.default_rng(0)
    for _ in range(repeats):
        for name in order.permutation(
            list(calls)
        ):  # a fixed order could follow a neighbour's rhythm
            _wait()
            began = time.perf_counter()
            calls[name]()
            _wait()
            taken[name].append(time.perf_counter() - began)
    return {name: float(np.median(times)) for name, times in taken.items()}


def _wait() -> None:
    """A GPU works behind the program's back; time counts when it is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
