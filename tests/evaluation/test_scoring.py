"""Trial scores, AS-norm and learning rates against their definitions."""

import numpy as np
import pytest

from oskdft.config import TrainConfig
from oskdft.evaluation import scoring
from oskdft.training import optim


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    pairs = rng.integers(0, 12, (40, 2))
    return rng.normal(size=(12, 8)), rng.normal(size=(12, 5, 8)), pairs, rng.normal(size=(20, 8))


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def test_mean_of_all_crop_pairs_is_one_dot_product(data):
    full, crops, pairs, _ = data
    got = scoring.score_trials(full, crops, pairs)
    for score, (a, b) in zip(got, pairs, strict=True):
        every = np.mean([cosine(x, y) for x in crops[a] for y in crops[b]])
        assert score == pytest.approx((cosine(full[a], full[b]) + every) / 2, abs=1e-12)


def test_chunks_change_nothing(data, monkeypatch):
    full, crops, pairs, cohort = data
    whole = scoring.score_trials(full, crops, pairs)
    normed = scoring.as_norm(whole, pairs, full, cohort, 5)
    monkeypatch.setattr(scoring, "CHUNK", 48)
    assert np.array_equal(scoring.score_trials(full, crops, pairs), whole)
    assert np.allclose(scoring.as_norm(whole, pairs, full, cohort, 5), normed, atol=1e-14)


def test_precision_is_that_of_the_embeddings(data):
    full, crops, pairs, _ = data
    exact = scoring.score_trials(full, crops, pairs)
    single = scoring.score_trials(full.astype(np.float32), crops.astype(np.float32), pairs)
    assert single.dtype == np.float32 and np.abs(single - exact).max() <= 1e-6
    whole = (10 * full).round()
    got = scoring.score_trials(whole.astype(int), None, pairs)
    assert np.allclose(got, scoring.score_trials(whole, None, pairs), atol=1e-12)


def test_as_norm_per_pair(data):
    full, _, pairs, cohort = data
    raw = scoring.score_trials(full, None, pairs)
    normed = scoring.as_norm(raw, pairs, full, cohort, 5)
    cosines = np.array([[cosine(e, c) for c in cohort] for e in full])
    for score, s, pair in zip(normed, raw, pairs, strict=True):
        nearest = [np.sort(cosines[row])[-5:] for row in pair]
        want = sum((s - near.mean()) / near.std(ddof=1) for near in nearest) / 2
        assert score == pytest.approx(want, abs=1e-10)


def test_bad_input_is_named(data):
    full, _, pairs, cohort = data
    with pytest.raises(ValueError, match="both None"):
        scoring.score_trials(None, None, pairs)
    with pytest.raises(ValueError, match="row 11, there are 3"):
        scoring.score_trials(full[:3], None, np.array([[0, 11]]))
    for top in (1, 21):
        with pytest.raises(ValueError, match=f"top is {top}, the cohort has 20"):
            scoring.as_norm(np.zeros(40), pairs, full, cohort, top)


def test_warmup_then_cosine():
    train = TrainConfig(
        schedule="warmup_cosine",
        lr=1.0,
        lr_min=0.0,
        warmup=0.1,
        lr_body_factor=0.5,
        lr_adapter_factor=2.0,
    )
    got = {p: optim.rates(train, 1, p) for p in (0.0, 0.05, 0.1, 0.55, 1.0)}
    assert [round(got[p]["sv"], 6) for p in got] == [0.0, 0.5, 1.0, 0.5, 0.0]
    assert got[0.1]["body"] == 0.5 and got[0.1]["adapter"] == 2.0


def test_groups_hold_every_trainable_parameter_once():
    from torch import nn

    student, head = nn.Module(), nn.Linear(2, 2)
    student.encoder, student.adapters = nn.Linear(2, 2), nn.ModuleList([nn.Linear(2, 3)])
    student.encoder.bias.requires_grad_(False)
    groups = optim.parameter_groups(student, [head])
    assert [g["name"] for g in groups] == list(optim.GROUPS)
    assert [len(g["params"]) for g in groups] == [1, 2, 2]
