"""Verdicts on the exercises of the notebooks: one line each, whatever the answer is or does.

A real number is right within 1 %, a whole number exactly, a choice without case. A function is called
with random arguments and has 5 seconds. The right answers are in `oskdft.lessons.checks`.
"""

import contextlib
import copy
import ctypes
import importlib
import os
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
import typer

TOLERANCE = 0.01  # of a real number, relative
EXACT = 1e-5  # of what a function returns, relative: it was computed, not read off
LIMIT_S = 5.0  # that an answer may take
DRAWS = 5  # random arguments that a function is tried with
LONGEST = 300  # characters of a verdict
COLOURS = {True: typer.colors.GREEN, False: typer.colors.RED, None: typer.colors.BLUE}
NOT_ATTEMPTED = "not attempted: set `answer` and run both cells again"


@dataclass(frozen=True, slots=True)
class Exercise:
    """What is right, and what to tell a wrong answer.

    Args:
        right: the right value; with ``draw`` the right function; without ``draw`` a function
            answer -> what is wrong with the answer ("" where it is right).
        hint: shown with a wrong answer. It must not give the answer away.
        tempting: pairs (wrong answer, why it is wrong), shown instead of the hint.
        draw: random generator -> arguments that the answer is called with.
        fraction: the answer may be written in per cent as well.
    """

    right: Any
    hint: str
    tempting: tuple[tuple[Any, str], ...] = ()
    draw: Callable[[np.random.Generator], tuple] | None = None
    fraction: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """A line about an answer. ``right`` is None where nothing was attempted."""

    right: bool | None
    text: str


class _TimeUp(BaseException):
    """Raised inside an answer that takes too long; no `except Exception` holds it back."""


def exercise(name: str, answer: Any) -> None:
    """Print the verdict on an answer as one coloured line; never raises for an answer.

    Args:
        name: notebook and exercise, such as "01.2".
        answer: anything; None: not attempted.
    Raises:
        ValueError: there is no such exercise.
    """
    verdict = judge(answer, find(name))
    print(typer.style(verdict.text, fg=COLOURS[verdict.right]))


def find(name: str) -> Exercise:
    """The exercise of a name such as "01.2", from `oskdft.lessons.checks`.

    Raises:
        ValueError: there is no such exercise.

    >>> find("00.1").hint
    'each of the ten meets nine others; is A-B another trial than B-A?'
    """
    notebook, _, number = name.partition(".")
    path = f"oskdft.lessons.checks.notebook_{notebook}"
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name != path:
            raise  # something that the checks need is not installed
        raise ValueError(f"no exercises of a notebook {notebook!r}") from None
    if number not in module.EXERCISES:
        raise ValueError(f"no exercise {name}; there is {', '.join(module.EXERCISES)}")
    return module.EXERCISES[number]


def judge(answer: Any, exercise: Exercise) -> Verdict:
    """The verdict on an answer.

    >>> real = Exercise(0.5, "count again", ((0.25, "that is its square"),), fraction=True)
    >>> judge(0.503, real).text, judge(50, real).text, judge("50 %", real).text
    ('right', 'right (in per cent)', 'right')
    >>> judge(0.25, real).text, judge(0.51, real).text
    ('not yet: that is its square', 'not yet: count again')
    >>> judge("b", Exercise("B", "read it again")).text
    'right'
    >>> judge(4.01, Exercise(4, "count again")).text, judge(None, real).right
    ('not yet: count again', None)
    >>> judge(lambda x: 1 / 0, Exercise(abs, "mind the sign", draw=lambda rng: (rng.normal(),))).text
    'not yet: mind the sign (`answer` raised ZeroDivisionError: division by zero)'
    """
    if answer is None:
        return Verdict(None, NOT_ATTEMPTED)
    verdict = _within_the_limit(lambda: _judged(answer, exercise))
    if verdict is None:
        verdict = Verdict(False, f"not yet: `answer` takes longer than {LIMIT_S:g} s; stopped")
    line = " ".join(verdict.text.split())
    return Verdict(verdict.right, f"{line[:LONGEST]}{' ...' * (len(line) > LONGEST)}")


def _judged(answer: Any, exercise: Exercise) -> Verdict:
    """The verdict, also where the answer raises."""
    try:
        if exercise.draw:
            complaint = _function(answer, exercise)
        elif in_per_cent(answer, exercise):
            return Verdict(True, "right (in per cent)")
        else:
            complaint = _value(answer, exercise)
    except _TimeUp:
        raise
    except BaseException as error:  # an answer can fail in any way, sys.exit() among them
        raised = f"`answer` raised {type(error).__name__}: {error}".rstrip(": ")
        complaint = f"{exercise.hint} ({raised})"
    return Verdict(not complaint, f"not yet: {complaint}" if complaint else "right")


def in_per_cent(answer: Any, exercise: Exercise) -> bool:
    """Whether the right answer to a question for a fraction was written in per cent, as 50 for 0.5."""
    number = _number(answer) if exercise.fraction else None
    return number is not None and agrees(number / 100, exercise.right)


def _value(answer: Any, exercise: Exercise) -> str:
    """What is wrong with a value, or with a function that is asked for a property."""
    if callable(exercise.right):
        complaint = exercise.right(answer)
    elif wanted := _wanted(answer, exercise.right):
        return f"`answer` has to be {wanted}"
    else:
        complaint = "" if agrees(answer, exercise.right) else exercise.hint
    reasons = (why for wrong, why in exercise.tempting if agrees(answer, wrong))
    return complaint and next(reasons, complaint)


def _function(answer: Any, exercise: Exercise) -> str:
    """What is wrong with a function, from its results on random arguments."""
    if not callable(answer):
        return f"`answer` has to be a function, and is {_kind(answer)}"
    rng = np.random.default_rng(0)  # the same arguments each time: a verdict does not change
    cases = [exercise.draw(rng) for _ in range(DRAWS)]
    results = [answer(*copy.deepcopy(case)) for case in cases]

    def like(function: Callable) -> bool:
        wanted = [function(*copy.deepcopy(case)) for case in cases]
        return all(agrees(a, b, EXACT) for a, b in zip(results, wanted, strict=True))

    if like(exercise.right):
        return ""
    return next((why for wrong, why in exercise.tempting if like(wrong)), exercise.hint)


def agrees(answer: Any, right: Any, tolerance: float = TOLERANCE) -> bool:
    """Whether an answer is a value: reals within a tolerance, the rest exactly, text without case.

    >>> agrees(2.67, 8 / 3), agrees(2.7, 8 / 3), agrees(99_840, 99_904), agrees("False", False)
    (True, False, False, True)
    >>> agrees({"C", "E"}, {"c", "e"}), agrees("e, c", {"c", "e"}), agrees((1, 2.001), [1, 2.0])
    (True, True, True)
    """
    if isinstance(right, bool):
        return _plain(answer) == str(right).lower()
    if isinstance(right, str):
        return isinstance(answer, str) and _plain(answer) == _plain(right)
    if isinstance(right, set):
        return _letters(answer) == {_plain(letter) for letter in right}
    if isinstance(right, list | tuple):
        parts = list(answer)
        pairs = zip(parts, right, strict=False)
        return len(parts) == len(right) and all(agrees(a, b, tolerance) for a, b in pairs)
    if isinstance(right, np.ndarray):
        same = np.shape(answer) == right.shape
        return same and np.allclose(answer, right, rtol=tolerance, atol=1e-9)
    if isinstance(right, Real):
        number = _number(answer)
        if isinstance(right, Integral) or number is None:
            return number == right
        return bool(abs(number - right) <= tolerance * abs(right) + 1e-9)
    return answer == right


def _wanted(answer: Any, right: Any) -> str:
    """What an answer has to be, where it is of another kind; "" where its kind is right."""
    is_number = _number(answer) is not None
    if isinstance(right, bool):
        return "" if _plain(answer) in ("true", "false") else "True or False"
    if isinstance(right, str):
        return "" if isinstance(answer, str) else "one of the choices, in quotes"
    if isinstance(right, set):
        return "" if _letters(answer) else 'a set of letters, such as {"a", "b"}'
    if isinstance(right, list | tuple):
        same = np.ndim(answer) == 1 and len(answer) == len(right)
        return "" if same else f"a list of {len(right)} numbers"
    if isinstance(right, Real):
        return "" if is_number else f"a number, and is {_kind(answer)}"
    return ""


def _number(answer: Any) -> float | None:
    """An answer as a number, "5 %" and a tensor of one number among them; None where it is none."""
    if isinstance(answer, bool | np.bool_) or callable(answer):
        return None
    if isinstance(answer, str):
        text = answer.strip()
        try:
            return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            return None
    if isinstance(answer, Real):
        return float(answer)
    return float(answer.item()) if getattr(answer, "shape", None) in ((), (1,)) else None


def _plain(text: Any) -> str:
    """A choice without case, quotes, brackets and full stop.

    >>> _plain(" b) "), _plain("Cannot be told.")
    ('b', 'cannot be told')
    """
    return str(text).strip(" \"'.()[]").casefold()


def _letters(answer: Any) -> set[str]:
    """Letters of a set, a list or a text such as "c, e"."""
    parts = answer.replace(",", " ").split() if isinstance(answer, str) else answer
    if not isinstance(parts, set | frozenset | list | tuple):
        return set()
    return {_plain(letter) for letter in parts}


def _kind(answer: Any) -> str:
    """How a value is named in a message."""
    return "a function" if callable(answer) else f"of type {type(answer).__name__}"


def _within_the_limit(work: Callable[[], Verdict]) -> Verdict | None:
    """The result of work in a thread of its own, or None where it is stopped after `LIMIT_S`.

    A thread, and no alarm signal: signals reach the main thread alone, and an answer may also be judged
    elsewhere. A loop of Python code is stopped by raising inside the thread; a long call into a library
    ends by itself, and the thread dies with the process. What the answer prints is dropped.
    """
    done: list[Verdict] = []

    def run() -> None:
        with contextlib.suppress(_TimeUp):
            done.append(work())

    thread = threading.Thread(target=run, daemon=True)
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
        warnings.catch_warnings(action="ignore"),
    ):
        thread.start()
        thread.join(LIMIT_S)
        for _ in range(10):  # an answer may catch what is raised
            if not thread.is_alive():
                break
            ident = ctypes.c_ulong(thread.ident)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(_TimeUp))
            thread.join(0.1)
    return done[0] if done else None
