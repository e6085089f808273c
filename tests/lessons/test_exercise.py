"""Verdicts on exercises: what counts as right, and that no answer can do harm."""

import re
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from oskdft.lessons import exercise as module
from oskdft.lessons.exercise import Exercise, exercise, find, judge
from oskdft.method.strategies import Stage

NOTEBOOKS = [*(f"{number:02}" for number in range(11)), "02b", "03b"]
NAMES = [f"{notebook}.{number}" for notebook in NOTEBOOKS for number in range(1, 5)]
NAMES.remove("02b.4")
REAL = Exercise(0.5, "think", fraction=True)


def verdict(answer, name: str) -> bool | None:
    return judge(answer, find(name)).right


def order_by_sum(seed, step, items, batch):
    return np.random.default_rng(seed + step).permutation(items)[:batch]


def order_by_global_seed(seed, step, items, batch):
    np.random.seed(1000 * seed + step)
    return np.random.permutation(items)[:batch]


def rolling_window(seed, step, items, batch):
    return (7 * seed + 13 * step + np.arange(batch)) % items


def by_seed(base, other):
    apart = np.subtract(base, other)  # the other sign
    return apart.mean(), apart.std(ddof=1) / len(apart) ** 0.5


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("02.4", 2.67), ("01.1", 0.047), ("07.2", 1.71), ("06.1", 0.51), ("08.4", 0.095),
        ("10.1", 0.054), ("01.2", 4.67), ("06.4", "B"), ("02.1", "b"), ("04.3", {"C", "E"}),
        ("07.4", "Cannot be told"), ("05.4", "False"), ("06.3", by_seed), ("01.3", 50),
        ("06.1", 51.2), ("06.1", "51.2 %"), ("09.2", (99, 149, 249)), ("00.1", 45.0),
        ("00.2", np.int64(40_000)), ("02.4", torch.tensor(2.667)), ("05.4", np.False_),
        ("05.2", 1), ("05.2", 3), ("04.3", "e, c"), ("09.2", np.array([99, 149, 249])),
    ],
)  # fmt: skip
def test_right_answers_that_were_refused_once(name, answer):
    assert verdict(answer, name) is True


WRONG_PLANS = (
    # the adapters appear only in the second stage, which goes on with a model without them
    (Stage("a", 0.3, kd=True, sv=False), Stage("b", 0.7, "previous", kd=True, adapters=True)),
    (
        Stage("a", 0.3, kd=True, sv=False, adapters=True, layers="teacher"),
        Stage("b", 0.7, "previous", kd=True, adapters=True),
    ),
    (
        Stage("a", 0.3, kd=True, sv=False, adapters=True, becomes_teacher=True),
        Stage("b", 0.7, "previous", kd=True, adapters=True),
    ),
    (
        Stage("a", 0.3, kd=True, sv=False, adapters=True, frozen=1.0),
        Stage("b", 0.7, "previous", kd=True, adapters=True),
    ),
)


def common_mean(score, a, b):
    mean = (a.mean() + b.mean()) / 2
    return ((score - mean) / a.std(ddof=1) + (score - mean) / b.std(ddof=1)) / 2


def swapped(score, a, b):
    return ((score - a.mean()) / b.std(ddof=1) + (score - b.mean()) / a.std(ddof=1)) / 2


def medians(score, a, b):
    return np.mean([(score - np.median(x)) / x.std(ddof=1) for x in (a, b)])


def dcf(llrs, labels, p, threshold, scale):
    accepted = llrs >= threshold
    miss, false_alarm = np.mean(~accepted[labels == 1]), np.mean(accepted[labels == 0])
    return (p * miss + (1 - p) * false_alarm) / scale


def cosine(a, b):
    return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("03.2", 99_840), ("00.3", lambda a, b: 0.96), ("00.3", lambda a, b: abs(cosine(a, b))),
        ("01.4", lambda x, y, p: dcf(x, y, p, np.log((1 - p) / p), p)),
        ("01.4", lambda x, y, p: dcf(x, y, p, np.log10((1 - p) / p), min(p, 1 - p))),
        ("04.4", order_by_sum), ("04.4", order_by_global_seed), ("04.4", rolling_window),
        ("07.3", common_mean), ("07.3", swapped), ("07.3", medians),
        ("09b.3", lambda dev, test: test[0, dev[0].argmin()] - test[0].min()),
        ("09b.3", lambda dev, test: (test[range(len(test)), dev.argmin(1)] - test.min(1)).max()),
        ("00.2", 40_010), *(("05.3", plan) for plan in WRONG_PLANS),
        ("05.4", True), ("05.4", 0), ("02.1", "BC"), ("04.3", {"c"}), ("09.2", [99, 149]),
        ("00.1", True), ("01.3", float("nan")), ("06.1", 0.49),
    ],
)  # fmt: skip
def test_wrong_answers_that_were_accepted_once(name, answer):
    assert verdict(answer, name) is False


def test_a_batch_may_come_from_a_permutation_of_the_whole():
    """Another right answer than that of the solutions: each lap goes through all recordings."""

    def order(seed, step, items, batch):
        places = np.arange(step * batch, (step + 1) * batch)
        laps = {lap: np.random.default_rng([seed, lap]).permutation(items) for lap in range(9)}
        whole = [laps[place // items][place % items] for place in places]
        return whole if len(set(whole)) == batch else laps[step % 9][:batch]

    assert verdict(order, "04.4") is True


@pytest.mark.parametrize("name", NAMES)
def test_a_tempting_answer_hears_its_reason_and_no_number_of_the_right_one(name):
    one = find(name)
    for wrong, why in one.tempting:
        said = judge(wrong, one)
        assert said.right is False and said.text == f"not yet: {why}"
    for text in [one.hint, *(why for _, why in one.tempting)]:
        if isinstance(one.right, int | float) and not isinstance(one.right, bool) and one.right:
            shown = {f"{one.right:g}", f"{one.right:.3g}", f"{one.right:,}", str(one.right)}
            assert not shown & set(re.findall(r"[\d.,]*\d", text)), text
        if isinstance(one.right, str) and len(one.right) > 1:
            assert one.right not in text


@pytest.mark.parametrize("name", [name for name in NAMES if find(name).draw])
def test_a_function_is_tried_with_several_random_inputs(name):
    """At least three, all different: what fits one input by chance is not right."""
    one, seen = find(name), []

    def answer(*given):
        seen.append(repr(given))
        return one.right(*given)

    assert judge(answer, one).right and len(set(seen)) >= 3


def loop():
    while True:
        pass


def stubborn():
    while True:
        try:
            time.sleep(0.01)
        except Exception:
            continue


def prints(a, b):
    for _ in range(5000):
        print("page after page")
    return cosine(a, b)


def leaves(a, b):
    raise SystemExit(3)


class Trap:
    def __eq__(self, other):
        raise RuntimeError("no comparison\nof two lines")

    __hash__ = None


STRANGE = (
    "four", [1], {}, Trap(), float("inf"), 1j, lambda a, b: 1 / 0, lambda: 0, leaves, int, b"4",
    lambda a, b: None, lambda a, b: "x" * 10_000, np.ones(3), torch.ones(2, 2), {"a", 3}, ...,
    lambda a, b: prints(a, b) + Trap, type("T", (), {"shape": ()})(),
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_anything_gets_one_line(name, capsys):
    for answer in STRANGE:
        exercise(name, answer)
        shown = capsys.readouterr()
        assert shown.err == "" and len(shown.out) < 400, answer
        assert re.fullmatch(r"\x1b\[31mnot yet: [^\n]*\x1b\[0m\n", shown.out), answer


def test_colours_and_what_is_said(capsys):
    exercise("00.1", 45)
    exercise("00.1", None)
    exercise("00.3", prints)
    exercise("00.3", lambda a, b: a.nothing)
    right, none, pages, raised = capsys.readouterr().out.splitlines()
    assert right == pages == "\x1b[32mright\x1b[0m"
    assert "not attempted: set `answer`" in none
    assert "(`answer` raised AttributeError: " in raised


@pytest.mark.parametrize("endless", [loop, stubborn])
def test_an_endless_answer_is_stopped(endless, monkeypatch):
    """In the main thread, as in a kernel, and in any other; nothing goes on behind."""
    monkeypatch.setattr(module, "LIMIT_S", 0.3)
    one, before = replace(find("00.3")), threading.active_count()
    began = time.monotonic()
    said = [judge(lambda a, b: endless(), one)]
    other = threading.Thread(target=lambda: said.append(judge(lambda a, b: endless(), one)))
    other.start()
    other.join()
    assert time.monotonic() - began < 4 and threading.active_count() == before
    assert {each.text for each in said} == {"not yet: `answer` takes longer than 0.3 s; stopped"}


def test_the_limit_is_the_one_that_the_notebooks_state():
    assert module.LIMIT_S == 5 and module.TOLERANCE == 0.01


@pytest.mark.parametrize("name", ["11.1", "00.9", "00", "", "x.1"])
def test_an_unknown_exercise(name):
    with pytest.raises(ValueError, match="no exercise"):
        find(name)


def test_wrong_kinds_are_named():
    assert judge(abs, REAL).text == "not yet: `answer` has to be a number, and is a function"
    assert judge(3, Exercise("B", "x")).text.endswith("one of the choices, in quotes")
    assert judge("yes", Exercise(True, "x")).text.endswith("has to be True or False")
    assert judge(4, Exercise({"a"}, "x")).text.endswith('a set of letters, such as {"a", "b"}')
    assert judge(4, Exercise([1, 2], "x")).text.endswith("a list of 2 numbers")
    assert judge(4, find("00.3")).text.endswith("has to be a function, and is of type int")
