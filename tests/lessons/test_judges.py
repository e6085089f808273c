"""Judges that were not trained: their scores, columns and thresholds, worked out by hand."""

import numpy as np
import pytest
import torch

from oskdft.lessons import judges
from oskdft.speech.corpora.trials import Trials

TRIALS = Trials(
    np.array([1, 0, 0, 1]), np.array([0, 0, 1, 2]), np.array([1, 2, 3, 3]), list("abcd"), "four"
)


def states(wave: np.ndarray) -> list[torch.Tensor]:
    """Pairs of samples as frames of width 2."""
    return [torch.from_numpy(wave.reshape(-1, 2))]


def test_score_is_the_cosine_of_standardised_columns():
    rng = np.random.default_rng(0)
    waves = [rng.normal(place // 2, 1, 40).astype(np.float32) for place in range(4)]
    table = np.stack(
        [np.concatenate([w.reshape(-1, 2).mean(0), w.reshape(-1, 2).std(0, ddof=1)]) for w in waves]
    )
    columns = (table - table.mean(0)) / table.std(0)
    unit = columns / np.linalg.norm(columns, axis=1, keepdims=True)
    judge = judges.untrained(states, table, TRIALS)
    for a, b in ((0, 1), (1, 3)):
        embedded = [judge.model.embed([waves[place]])[0] for place in (a, b)]
        cosine = embedded[0] @ embedded[1] / np.prod([np.linalg.norm(e) for e in embedded])
        assert cosine == pytest.approx(unit[a] @ unit[b], abs=1e-4)


def test_threshold_parts_the_trials_that_it_was_set_on():
    table = np.array([[1.0, 0.2], [0.9, 0.1], [-1.0, 0.1], [-0.8, 0.2]])
    judge = judges.untrained(states, table, TRIALS)
    columns = (table - table.mean(0)) / table.std(0)
    unit = columns / np.linalg.norm(columns, axis=1, keepdims=True)
    pairs = zip(TRIALS.enrol, TRIALS.test, strict=True)
    accepted = [bool(unit[a] @ unit[b] >= judge.threshold) for a, b in pairs]
    assert accepted == [True, False, False, True] == TRIALS.label.astype(bool).tolist()
    assert judge.probability(0.99) > judge.probability(-0.99)


@pytest.mark.slow
def test_the_judges_of_the_package_are_better_than_chance_on_development_speakers():
    """Each is named, has a threshold, and calls a recording like itself."""
    bench = judges.judges()
    assert list(bench) == [judges.STUDENT, judges.BARE, judges.MFCC, judges.TEACHER]
    wave = np.sin(np.arange(32_000) * np.linspace(0.02, 0.3, 32_000)).astype(np.float32) / 2
    for judge in bench.values():
        assert -1 < judge.threshold < 1
        assert judge.score(wave, wave) == pytest.approx(1, abs=1e-5)
        assert judge.probability(1.0) > 0.5 > judge.probability(-1.0)
