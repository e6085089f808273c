"""The parts of a training step: work that takes longer is found in the part that does it."""

import time

import pytest

from oskdft.config import load
from oskdft.lessons import step_times
from oskdft.method import teacher
from oskdft.method.objective import Objective
from oskdft.speech.dataset import SpeakerDataset

SLOW = 0.4  # seconds that a part is slowed down by
WORK = {
    "data": (SpeakerDataset, "__getitem__", 4),  # of a batch of 4
    "teacher forward": (teacher, "imitation_target", 1),
    "student forward": (Objective, "forward", 1),
}


@pytest.fixture(scope="module")
def smoke():
    return load("smoke").override({"train.batch": 4, "device": "cpu"})


@pytest.mark.parametrize("part", WORK)
def test_a_slow_part_is_named(part, smoke, monkeypatch):
    owner, name, calls = WORK[part]
    plain = getattr(owner, name)

    def slow(*args, **kwargs):
        time.sleep(SLOW / calls)
        return plain(*args, **kwargs)

    monkeypatch.setattr(owner, name, slow)
    seconds = step_times.step_seconds(smoke, repeats=1)
    assert tuple(seconds) == step_times.PARTS and min(seconds.values()) > 0
    assert seconds[part] >= SLOW


def test_no_step_is_refused(smoke):
    with pytest.raises(ValueError, match="repeats is 0"):
        step_times.step_seconds(smoke, repeats=0)
