"""The recordings to choose from: their trials, and the errors of the shipped student on them."""

import numpy as np
import pytest

from oskdft.evaluation import scoring
from oskdft.evaluation.verifier import load
from oskdft.lessons import demo

LIMIT = 0.12  # of misses and of false alarms at the shipped threshold


@pytest.fixture(scope="module")
def verifier():
    return load("classroom", quick=True)


@pytest.fixture(scope="module")
def clips():
    return demo.recordings()


def error_rates(verifier, clips: dict) -> tuple[float, float]:
    """Misses and false alarms of whole recordings at the shipped threshold."""
    pairs, labels = demo.trials(list(clips))
    table = np.stack([verifier.embed(wave) for wave in clips.values()])
    scores = scoring.score_trials(table, None, pairs)
    accepted = scores >= verifier.threshold
    return float(np.mean(~accepted[labels == 1])), float(np.mean(accepted[labels == 0]))


def test_both_kinds_of_trials_within_each_group(clips):
    names = list(clips)
    pairs, labels = demo.trials(names)
    assert len(names) == 48 and len(np.unique(pairs, axis=0)) == len(pairs)
    for group in demo.GROUPS:
        inside = [names[a].startswith(group) for a, _ in pairs]
        assert set(labels[inside]) == {0, 1}, group
        assert all(names[b].startswith(group) for _, b in pairs[inside])


def test_the_shipped_student_errs_rarely_on_all_trials(verifier, clips):
    misses, false_alarms = error_rates(verifier, clips)
    assert misses < LIMIT and false_alarms < LIMIT
