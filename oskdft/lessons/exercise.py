"""Feedback on an exercise of a notebook."""

from collections.abc import Callable
from typing import Any

import numpy as np


def exercise(answer: Any, check: Any, hint: str) -> None:
    """Print whether the answer to an exercise is right.

    Args:
        answer: None: not attempted, which passes.
        check: the right value (numbers within 0.1 %), or a function answer -> bool.
        hint: shown with a wrong answer.
    Raises:
        AssertionError: the answer is wrong; the message is the hint.

    >>> exercise(None, 4, "count again")
    not attempted: set `answer` and run both cells again
    >>> exercise(4.0, 4, "count again")
    right
    >>> exercise(5, 4, "count again")
    Traceback (most recent call last):
    AssertionError: not yet: count again
    """
    if answer is None:
        print("not attempted: set `answer` and run both cells again")
        return
    try:
        right = bool(check(answer)) if isinstance(check, Callable) else _agrees(answer, check)
    except Exception as error:  # an answer can be anything, and can fail in any way
        reason = f"{type(error).__name__}: {error}"
        raise AssertionError(f"not yet: {hint} (checking it gave {reason})") from None
    if not right:
        raise AssertionError(f"not yet: {hint}")
    print("right")


def _agrees(answer: Any, expected: Any) -> bool:
    """Whether an answer equals the right value: numbers within 0.1 %, text and bools exactly."""
    if isinstance(expected, bool | str):
        return answer == expected
    same_shape = np.shape(answer) == np.shape(expected)
    return same_shape and np.allclose(answer, expected, rtol=1e-3, atol=1e-9)
