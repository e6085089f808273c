"""The shipped student on real speech: errors at its own threshold, and the domain of its calibration."""

from dataclasses import replace

import numpy as np
import pytest

import oskdft
from oskdft.evaluation import scoring
from oskdft.evaluation.embedding import embed_files, scores_by_policy
from oskdft.lessons import demo
from oskdft.lessons.widgets.side import disturb
from oskdft.speech.corpora.catalogue import SPEECHBOX
from oskdft.speech.corpora.trials import read_trials
from oskdft.speech.protocol import TEST_LISTS

WORST = 0.12  # misses, and false alarms

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def student():
    return oskdft.load("classroom", "cpu")


@pytest.fixture(scope="module")
def clips(student):
    """Embeddings of the app's clips by name."""
    return {name: student.embed(wave) for name, wave in demo.recordings().items()}


def errors(scores, labels, threshold):
    """Misses and false alarms."""
    same = np.asarray(labels) == 1
    return np.mean(scores[same] < threshold), np.mean(scores[~same] >= threshold)


def test_few_errors_on_the_test_list(student):
    trials = read_trials(SPEECHBOX / TEST_LISTS["speechbox"], SPEECHBOX)
    paths = [SPEECHBOX / path for path in trials.paths]
    whole = replace(student.recipe, tta="full")  # without crops, which its threshold is not for
    scores = scores_by_policy(embed_files(student.model, paths, whole), trials)["full"]
    misses, false_alarms = errors(scores, trials.label, student.threshold)
    assert 0 < misses < WORST and 0 < false_alarms < WORST


def test_few_errors_on_the_clips_of_the_app(student, clips):
    pairs, labels = demo.trials(list(clips))
    scores = scoring.score_trials(np.stack(list(clips.values())), None, pairs)
    misses, false_alarms = errors(scores, labels, student.threshold)
    assert misses < WORST and false_alarms < WORST


def test_clips_lie_in_the_domain_and_noise_does_not(student, clips):
    inside = [not student.outside("", embedding) for embedding in clips.values()]
    assert np.mean(inside) > 0.9
    wave = next(iter(demo.recordings().values()))
    rng = np.random.default_rng(0)
    strange = {
        "hiss": 0.1 * rng.standard_normal(48_000).astype(np.float32),
        "tone": np.sin(np.arange(48_000, dtype=np.float32) / 5),
        "voice below noise": disturb(wave, -5.0),
    }
    for name, sound in strange.items():
        assert student.outside(name, student.embed(sound)), name
