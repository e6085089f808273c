"""Exercises of notebook 05."""

from typing import Any

from oskdft.lessons.exercise import Exercise
from oskdft.method.strategies import STRATEGIES, Stage


def epochs_of(strategy: str, epochs: int) -> int:
    """Epochs that all stages of a strategy make."""
    return sum(max(round(epochs * stage.share), 1) for stage in STRATEGIES[strategy])


def more_than_its_budget(epochs: Any) -> str:
    """What is wrong with a number of epochs with which PreComp makes more of them than OS-KDFT."""
    if isinstance(epochs, bool) or int(epochs) != epochs or not 1 <= epochs < 6:
        return "a whole number from 1 to 5 is asked for"
    more = epochs_of("precomp", int(epochs)) > epochs
    return "" if more else "try odd numbers, and recall how Python rounds halves"


def distil_then_both(plan: Any) -> str:
    """What is wrong with a plan: distil for 0.3 of the budget, then both losses on two paths."""
    plan = tuple(plan)
    if not all(isinstance(stage, Stage) for stage in plan) or len(plan) != 2:
        return "a tuple of two objects of oskdft.method.strategies.Stage is asked for"
    first, second = plan
    faults = {
        "sv is on unless it is turned off: the first stage only distils": first.sv or not first.kd,
        "the second stage needs both losses, kd and sv": not (second.kd and second.sv),
        "the shares are 0.3 and what is left of 1": abs(first.share - 0.3) > 1e-9
        or abs(second.share - 0.7) > 1e-9,
        "the second stage starts afresh: its model is that of the stage before": (
            second.start != "previous"
        ),
        "two paths need adapters in the second stage": not second.adapters,
        "a model keeps the adapters of the stage it was made in: make them at once": (
            not first.adapters
        ),
        "the first stage starts from the teacher": first.start != "teacher",
        "the student is trained, not the teacher": {first.layers, second.layers} != {"student"},
        "something else is switched on: name, share, start, kd, sv and adapters are enough": any(
            stage.embedding_kd or stage.becomes_teacher or stage.frozen for stage in plan
        ),
    }
    return next((fault for fault, there in faults.items() if there), "")


EXERCISES = {
    "1": Exercise(
        400 * 1 + 400 * 4,
        "the teacher's updates come on top of the student's",
        (
            (400, "the budget of student updates is equal, the cost is not"),
            (400 * 4, "that is the teacher's part; the student's updates come on top"),
            (200 + 200 * 4, "the 400 updates of the student are not shared with the teacher"),
        ),
    ),
    "2": Exercise(
        more_than_its_budget,
        "try odd numbers",
        (
            (2, "an even number divides equally: two stages of one epoch each"),
            (4, "an even number divides equally: two stages of two epochs each"),
            (5, "each half is 2.5, and Python rounds a half to the even number"),
        ),
    ),
    "3": Exercise(distil_then_both, "look at the stages of precomp and of os-kdft"),
    "4": Exercise(
        False,
        "take the difference seed by seed: does it keep its sign?",
        ((True, "the two means differ; now look at the three differences"),),
    ),
}
