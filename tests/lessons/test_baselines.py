"""What needs no training, on the trials of a lesson: names, intervals, and computed once."""

import numpy as np
import pytest

from oskdft.evaluation import metrics, probes
from oskdft.lessons import baselines
from oskdft.lessons.lesson import setup
from oskdft.speech import audio


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("baselines"))
    return setup("07", "smoke", device="cpu", output_dir=folder)


@pytest.mark.slow
def test_three_baselines_on_the_test_trials(lesson, monkeypatch):
    rates = baselines.untrained(lesson)
    chance, mfcc, layer = rates
    assert chance == "chance" and "MFCC" in mfcc and layer.startswith("teacher's state ")
    for name, entry in rates.items():
        assert 0 <= entry["mean"] <= 1 and len(entry["miss"]) == len(entry["false_alarm"]), name
    for name in (mfcc, layer):
        assert rates[name]["low"] <= rates[name]["mean"] <= rates[name]["high"]
    monkeypatch.setattr(baselines, "load_encoder", None)  # a second computation would fail
    assert baselines.untrained(lesson) == rates


def test_mfcc_are_scored_on_the_same_trials(lesson):
    trials, root = lesson.speech.test_trials, lesson.speech.test_root
    waves = [audio.read(root / path) for path in trials.paths]
    (table,) = probes.pooled(probes.mfcc_states, waves)
    pairs = np.stack([trials.enrol, trials.test], 1)
    rate = probes.speaker_eer(table, pairs, trials.label)
    assert baselines.untrained(lesson)[baselines.MFCC]["mean"] == pytest.approx(rate)


def test_chance_is_chance():
    curve = baselines.chance()
    assert metrics.eer_of(np.array(curve["miss"]), np.array(curve["false_alarm"])) == 0.5
