"""Verification metrics against hand-worked examples, brute force and scikit-learn."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from typer.testing import CliRunner

from oskdft.commands import cli
from oskdft.evaluation import bootstrap, calibration, metrics, score_file

PUBLIC = (
    metrics.eer,
    metrics.min_dcf,
    metrics.det_points,
    metrics.cllr,
    metrics.min_cllr,
    calibration.calibrate,
    metrics.summary,
)


@st.composite
def trials(draw):
    """Scores [P] with both classes; a small grid makes many ties."""
    size = draw(st.integers(2, 30))
    scores = draw(st.lists(st.integers(-8, 8), min_size=size, max_size=size))
    labels = draw(st.lists(st.integers(0, 1), min_size=size, max_size=size))
    labels[:2] = 0, 1
    order = draw(st.permutations(range(size)))
    return np.array(scores, float)[order] / 4, np.array(labels)[order]


def gaussian(count=2000, distance=2.0, seed=0):
    """Half targets; unit variance, `distance` apart."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    return rng.normal(size=count) + distance * labels, labels


def operating_points(scores, labels):
    """(p_fa, p_miss) when scores >= threshold are accepted, for each threshold there is."""
    for threshold in [*np.unique(scores), np.inf]:
        accepted = scores >= threshold
        yield np.mean(accepted[labels == 0]), np.mean(~accepted[labels == 1])


def eer_by_force(scores, labels):
    """Walk all thresholds; where misses overtake false alarms, intersect the line by formula."""
    points = list(operating_points(scores, labels))
    for (x0, y0), (x1, y1) in zip(points[:-1], points[1:], strict=True):
        if y0 <= x0 and y1 > x1:  # the line from (x0, y0) to (x1, y1) meets y = x
            return (x0 * y1 - x1 * y0) / ((y1 - y0) - (x1 - x0))
    raise AssertionError("the ROC must cross the diagonal")


def min_dcf_by_force(scores, labels, p):
    costs = [p * miss + (1 - p) * fa for fa, miss in operating_points(scores, labels)]
    return min(costs) / min(p, 1 - p)


# EER


@pytest.mark.parametrize(
    ("scores", "labels", "want"),
    [
        ([1, 2], [0, 1], 0.0),  # perfect
        ([2, 1], [0, 1], 1.0),  # reversed
        ([5, 5], [0, 1], 0.5),  # all equal: half-way from (fa 1, miss 0) to (0, 1)
        ([5] * 6, [0, 1, 1, 1, 1, 0], 0.5),  # and so with any number of trials
        # accept >= .35: fa 1/2 (.4), miss 0; accept >= .4: fa 1/2, miss 1/2: equal
        ([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1], 1 / 2),
        # (fa, miss): (1, 0) (2/3, 0) (1/3, 0) (1/3, 1/2) (0, 1/2): crosses where fa = 1/3 is level
        ([1, 2, 4, 3, 5], [0, 0, 0, 1, 1], 1 / 3),
        # one target tied with one of two non-targets: from (1/2, 0) straight to (0, 1):
        # miss = 1 - 2 fa = fa, so 1/3
        ([1, 2, 2], [0, 0, 1], 1 / 3),
        # targets 2 3, non-targets 1 2: from (1/2, 0) to (0, 1/2): 1/4
        ([1, 2, 2, 3], [0, 0, 1, 1], 1 / 4),
    ],
)
def test_eer_worked_by_hand(scores, labels, want):
    assert metrics.eer(scores, labels)[0] == pytest.approx(want, abs=1e-15)


def test_threshold_accepts_with_both_errors_equal():
    scores, labels = np.array([1.0, 2, 4, 3, 5, 6]), np.array([0, 0, 0, 1, 1, 1])
    rate, threshold = metrics.eer(scores, labels)
    # between 3 and 4: the target 3 is missed, the non-target 4 accepted, 1/3 each
    assert (rate, threshold) == (1 / 3, 3.5)
    accepted = scores >= threshold
    assert np.mean(accepted[labels == 0]) == np.mean(~accepted[labels == 1]) == rate


@given(trials())
def test_eer_equals_brute_force(data):
    assert metrics.eer(*data)[0] == pytest.approx(eer_by_force(*data), abs=1e-12)


@given(trials())
def test_eer_lies_between_the_points_around_its_threshold(data):
    scores, labels = data
    rate, threshold = metrics.eer(scores, labels)
    tied = scores[np.argmin(np.abs(scores - threshold))]  # the group that the crossing runs through
    for accepted in (scores >= tied, scores > tied):
        errors = np.mean(accepted[labels == 0]), np.mean(~accepted[labels == 1])
        assert min(errors) - 1e-12 <= rate <= max(errors) + 1e-12


@given(trials(), st.sampled_from([np.arctan, np.cbrt, lambda s: 3 * s - 7]))
def test_monotone_rescaling_changes_no_rate(data, rescale):
    scores, labels = data
    other = rescale(scores)
    assert metrics.eer(other, labels)[0] == metrics.eer(scores, labels)[0]
    assert metrics.min_dcf(other, labels, 0.05) == metrics.min_dcf(scores, labels, 0.05)
    assert metrics.min_cllr(other, labels) == metrics.min_cllr(scores, labels)
    for ours, theirs in zip(
        metrics.det_points(scores, labels)[:2], metrics.det_points(other, labels)[:2], strict=True
    ):
        assert np.array_equal(ours, theirs)


@given(trials())
def test_swapping_classes_and_sign_keeps_every_rate(data):
    scores, labels = data
    swapped = -scores, 1 - labels
    assert metrics.eer(*swapped)[0] == pytest.approx(metrics.eer(*data)[0], abs=1e-12)
    assert metrics.min_dcf(*swapped, 0.9) == pytest.approx(metrics.min_dcf(*data, 0.1), abs=1e-12)
    assert metrics.cllr(*swapped) == pytest.approx(metrics.cllr(*data), abs=1e-12)
    assert metrics.min_cllr(*swapped) == pytest.approx(metrics.min_cllr(*data), abs=1e-12)


@given(trials())
def test_turned_scores_give_the_other_rate(data):
    scores, labels = data
    there, back = metrics.eer(scores, labels)[0], metrics.eer(-scores, labels)[0]
    assert there + back == pytest.approx(1, abs=1e-12)


@given(trials(), st.randoms(use_true_random=False))
def test_order_of_trials_changes_nothing(data, random):
    order = list(range(len(data[0])))
    random.shuffle(order)
    assert metrics.summary(data[0][order], data[1][order]) == pytest.approx(
        metrics.summary(*data), rel=1e-12
    )


def test_types_of_scores_and_labels_do_not_matter():
    want = metrics.eer([1.0, 2, 4, 3, 5], [0, 0, 0, 1, 1])
    for kind in (np.float32, np.float16, np.int64, np.uint8):
        for label in (bool, np.uint8, np.float64):
            found = metrics.eer(np.array([1, 2, 4, 3, 5], kind), np.array([0, 0, 0, 1, 1], label))
            assert found == want


# minDCF, DET


@pytest.mark.parametrize(
    ("p_target", "want"),
    [
        # (fa, miss) of scores n1 n2 t3 n4 t5: (1, 0) (2/3, 0) (1/3, 0) (1/3, 1/2) (0, 1/2) (0, 1)
        (0.5, 1 / 3),  # (1/3, 0): 0.5 * 1/3 = 1/6 is least; / 0.5
        (0.01, 1 / 2),  # (0, 1/2): 0.01 * 1/2, against 0.99 * 1/3 at (1/3, 0); / 0.01
        (0.9, 1 / 3),  # (1/3, 0): 0.1 * 1/3, against 0.9 * 1/2 at (0, 1/2); / 0.1
    ],
)
def test_min_dcf_worked_by_hand(p_target, want):
    found = metrics.min_dcf([1, 2, 3, 4, 5], [0, 0, 1, 0, 1], p_target)
    assert found == pytest.approx(want, abs=1e-15)


def test_min_dcf_of_perfect_reversed_and_equal_scores():
    for p_target in (0.01, 0.5, 0.99):
        assert metrics.min_dcf([1, 2], [0, 1], p_target) == 0
        assert metrics.min_dcf([2, 1], [0, 1], p_target) == 1  # no better than a fixed answer
        assert metrics.min_dcf([3, 3], [0, 1], p_target) == 1


@given(trials(), st.floats(0.001, 0.999))
def test_min_dcf_equals_brute_force(data, p_target):
    found = metrics.min_dcf(*data, p_target)
    assert found == pytest.approx(min_dcf_by_force(*data, p_target), abs=1e-12)
    assert 0 <= found <= 1


@pytest.mark.parametrize("p_target", [0, 1, -0.1, 5, math.nan])
def test_prior_outside_the_open_interval_is_refused(p_target):
    with pytest.raises(ValueError, match=f"p_target is {p_target}"):
        metrics.min_dcf([1, 2], [0, 1], p_target)


def test_det_points_worked_by_hand():
    p_miss, p_fa, thresholds = metrics.det_points([1, 2, 2, 3], [0, 0, 1, 1])
    # accept all; from 1.5 up: one false alarm left; from 2.5 up: the target 2 is missed; none
    assert p_miss.tolist() == [0, 0, 0.5, 1]
    assert p_fa.tolist() == [1, 0.5, 0, 0]
    assert thresholds.tolist() == [1, 1.5, 2.5, np.nextafter(3, 4)]


@given(trials())
def test_det_points_are_what_their_thresholds_give(data):
    scores, labels = data
    for p_miss, p_fa, threshold in zip(*metrics.det_points(scores, labels), strict=True):
        accepted = scores >= threshold
        assert p_fa == pytest.approx(np.mean(accepted[labels == 0]), abs=1e-15)
        assert p_miss == pytest.approx(np.mean(~accepted[labels == 1]), abs=1e-15)


# Cllr and calibration


def test_cllr_worked_by_hand():
    # a target at ln 3 costs log2(1 + 1/3), a non-target at 0 costs log2(1 + 1) = 1
    want = (math.log2(4 / 3) + 1) / 2
    assert metrics.cllr([math.log(3), 0.0], [1, 0]) == pytest.approx(want, abs=1e-15)
    # each class is averaged first: three non-targets weigh as much as one target
    want = (math.log2(4 / 3) + (1 + 1 + math.log2(1 + 7)) / 3) / 2
    found = metrics.cllr([math.log(3), 0, 0, math.log(7)], [1, 0, 0, 0])
    assert found == pytest.approx(want, abs=1e-15)


def test_cllr_of_sure_ratios():
    assert metrics.cllr([1000, -1000], [1, 0]) == 0  # sure and right
    assert metrics.cllr([-1000, 1000], [1, 0]) == pytest.approx(1000 / math.log(2))  # sure, wrong


def test_min_cllr_worked_by_hand():
    assert metrics.min_cllr([1, 2, 3], [0, 1, 1]) == 0
    assert metrics.min_cllr([2, 1], [0, 1]) == pytest.approx(1)  # pooled: knows nothing
    assert metrics.min_cllr([5, 5, 5], [0, 1, 1]) == pytest.approx(1)
    # n1 t2 n3 t4: 2 and 3 pool to ratio (1/2) / (1/2) = 1, the ends are sure: each class pays
    # half of log2(2), so (1/2 + 1/2) / 2
    assert metrics.min_cllr([1, 2, 3, 4], [0, 1, 0, 1]) == pytest.approx(1 / 2)


def min_cllr_by_isotonic(scores, labels):
    """PAV posteriors with both classes at equal weight are likelihood ratios after the logit."""
    weight = np.where(labels == 1, 1 / np.sum(labels == 1), 1 / np.sum(labels == 0))
    p = IsotonicRegression(y_min=0, y_max=1).fit_transform(scores, labels, sample_weight=weight)
    tiny = 1e-9  # weights are summed in another order: a pure level may miss 0 or 1 by rounding
    p = np.where(p < tiny, 0, np.where(p > 1 - tiny, 1, p))
    with np.errstate(divide="ignore"):
        return -(weight * np.log2(np.where(labels == 1, p, 1 - p))).sum() / 2


@given(trials())
def test_min_cllr_equals_isotonic_regression(data):
    assert metrics.min_cllr(*data) == pytest.approx(min_cllr_by_isotonic(*data), abs=1e-9)


@pytest.mark.parametrize("digits", [0, 1, 2, 12])  # from almost all tied to none
@pytest.mark.parametrize("distance", [-1.0, 0.0, 1.0, 3.0])
def test_min_cllr_equals_isotonic_regression_on_many_trials(digits, distance):
    rng = np.random.default_rng(digits)
    labels = (rng.random(3000) < 0.2).astype(int)
    scores = np.round(rng.normal(size=3000) + distance * labels, digits)
    found = metrics.min_cllr(scores, labels)
    assert found == pytest.approx(min_cllr_by_isotonic(scores, labels), abs=1e-9)


@given(trials(), st.floats(-3, 3), st.floats(-3, 3))
def test_no_monotone_calibration_beats_min_cllr(data, log_scale, offset):
    scores, labels = data
    lowest = metrics.min_cllr(scores, labels)
    assert lowest <= metrics.cllr(np.exp(log_scale) * scores + offset, labels) + 1e-12
    scale, shift = calibration.calibrate(scores, labels)
    if scale >= 0:  # else the fit turned the scores round, which PAV must not
        assert lowest <= metrics.cllr(scale * scores + shift, labels) + 1e-12


def test_points_of_an_roc_that_stand_twice_change_no_min_cllr():
    twice = np.array([0, 0, 0.25, 0.25, 1, 1.0]), np.array([1, 1, 0.25, 0.25, 0, 0.0])
    once = np.array([0, 0.25, 1]), np.array([1, 0.25, 0])
    assert metrics.min_cllr_of(*twice) == metrics.min_cllr_of(*once)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_calibration_recovers_gaussian_ratios(dtype):
    # N(m, v) against N(-m, v): llr = 2 m / v * s; here scores are 0.1 * s + 0.4
    scores, labels = gaussian(60_000, 2.0)
    scores = (0.1 * (scores - 1) + 0.4).astype(dtype)  # s: means -1 and 1, variance 1
    scale, offset = calibration.calibrate(scores, labels)
    assert scale == pytest.approx(20, rel=0.04)  # 2 s = 2 (score - 0.4) / 0.1
    assert offset == pytest.approx(-8, rel=0.04)
    llrs = scale * scores.astype(float) + offset
    assert metrics.cllr(llrs, labels) == pytest.approx(metrics.min_cllr(llrs, labels), abs=0.01)


@given(trials(), st.floats(0.01, 100), st.floats(-10, 10))
def test_calibrated_ratios_do_not_depend_on_the_scale_of_the_scores(data, scale, offset):
    scores, labels = data
    a, b = calibration.calibrate(scores, labels)
    c, d = calibration.calibrate(scale * scores + offset, labels)
    assert np.allclose(a * scores + b, c * (scale * scores + offset) + d, atol=1e-4)


@pytest.mark.parametrize(
    ("scores", "labels"),
    [([0, 1], [0, 1]), ([0, 1, 2, 3], [0, 0, 1, 1]), ([-1e6, 1e-6, 5, 6], [0, 0, 0, 1])],
)
def test_calibration_of_separable_scores_is_finite(scores, labels):
    scale, offset = calibration.calibrate(scores, labels)
    assert math.isfinite(scale) and math.isfinite(offset) and scale > 0


@pytest.mark.parametrize("value", [0.0, 0.1, 0.3, -7.7])
def test_calibration_of_equal_scores_says_nothing(value):
    scale, offset = calibration.calibrate([value] * 7, [0, 1, 1, 1, 1, 1, 0])
    assert scale * value + offset == pytest.approx(0, abs=1e-6)


# Bad input


@pytest.mark.parametrize("metric", PUBLIC)
@pytest.mark.parametrize(
    ("scores", "labels", "says"),
    [
        ([1, 2, 3], [0, 1], "scores has 3 entries, labels 2"),
        ([1, 2], [1, 1], "labels has no non-target trial"),
        ([1, 2], [0, 0], "labels has no target trial"),
        ([], [], "labels has no target trial"),
        ([1, math.nan, 2], [0, 1, 1], "scores holds nan at trial 1"),
        ([1, 2, -math.inf], [0, 1, 1], "scores holds -inf at trial 2"),
        (["a", "b"], [0, 1], "scores has type <U1"),
        ([None, 1], [0, 1], "scores has type object"),
        ([1 + 2j, 1], [0, 1], "scores has type complex128"),
        ([1, 2], [0, 2], "labels holds 2"),
        ([1, 2], [-1, 1], "labels holds -1"),
        ([1, 2], [0.5, 1], r"labels holds 0\.5"),
        ([1, 2], [0, math.nan], "labels holds nan"),
        ([1, 2], ["0", "1"], "labels holds '0'"),
        ([[1, 2]], [0, 1], r"scores has shape \(1, 2\)"),
        ([1, 2], [[0, 1]], r"labels has shape \(1, 2\)"),
        (1, 1, r"scores has shape \(\)"),
    ],
)
def test_bad_scores_and_labels_are_named(metric, scores, labels, says):
    with pytest.raises(ValueError, match=says) as caught:
        metric(scores, labels)
    assert "\n" not in str(caught.value)


# Bootstrap over speakers


class Draws:
    """A generator whose draws of speakers are given."""

    def __init__(self, *draws):
        self.draws = list(draws)

    def integers(self, total, size):
        assert total == size == len(self.draws[0])
        return np.array(self.draws.pop(0))


def speaker_trials(speakers=40, per_speaker=25, spread=1.0, seed=0):
    """Trials whose scores share an offset per speaker: correlated, so fewer than they look."""
    rng = np.random.default_rng(seed)
    own = rng.normal(0, spread, speakers)
    who = np.repeat(np.arange(speakers), per_speaker)
    other = (who + rng.integers(1, speakers, len(who))) % speakers
    target = 2 + own[who] + rng.normal(0, 0.3, len(who))
    non_target = (own[who] + own[other]) / 2 + rng.normal(0, 0.3, len(who))
    pairs = np.concatenate([np.stack([who, who], 1), np.stack([who, other], 1)])
    return np.append(target, non_target), np.repeat([1, 0], len(who)), pairs


def test_bootstrap_weights_worked_by_hand(monkeypatch):
    # Speaker A drawn twice, B once, C never. A target trial weighs its speaker's count, a
    # non-target trial the product of both:        weight
    rows = [
        (0.1, 1, "C", "C"),  #                       0
        (0.2, 0, "A", "C"),  #                       2 * 0 = 0
        (0.3, 1, "B", "B"),  #                       1
        (0.4, 0, "A", "B"),  #                       2 * 1 = 2
        (0.5, 0, "B", "A"),  #                       2
        (0.5, 1, "A", "A"),  # tied with the last    2
        (0.9, 0, "B", "C"),  #                       1 * 0 = 0
    ]
    scores, labels, left, right = zip(*rows, strict=True)
    monkeypatch.setattr(np.random, "default_rng", lambda seed: Draws([0, 1, 0]))
    # 3 targets, 4 others; one point behind each distinct score .1 .2 .3 .4 .5 .9
    roc = np.array([[0, 0, 0, 1 / 3, 1 / 3, 1, 1], [1, 1, 1, 1, 0.5, 0, 0]])
    rate = bootstrap.bootstrap(scores, labels, np.array([left, right]).T, samples=1)
    assert rate.tolist() == [metrics.eer_of(*roc)]


def test_bootstrap_of_every_speaker_once_is_the_plain_roc(monkeypatch):
    scores, labels, pairs = speaker_trials()
    scores = np.round(scores, 1)
    monkeypatch.setattr(np.random, "default_rng", lambda seed: Draws(range(40)))
    low, high = bootstrap.bootstrap_ci(scores, labels, pairs, samples=1)
    assert low == high == pytest.approx(metrics.eer(scores, labels)[0], abs=1e-12)


def test_bootstrap_equals_repeating_the_trials():
    scores, labels, pairs = speaker_trials(speakers=9, per_speaker=6)
    scores = np.round(scores, 1)
    rng, want = np.random.default_rng(0), []
    for _ in range(50):
        times = np.bincount(rng.integers(9, size=9), minlength=9)
        of_each = times[pairs]
        weight = np.where(labels == 1, of_each[:, 0], of_each.prod(1))
        if weight[labels == 1].any() and weight[labels == 0].any():
            want.append(metrics.eer(np.repeat(scores, weight), np.repeat(labels, weight))[0])
    assert bootstrap.bootstrap(scores, labels, pairs, samples=50) == pytest.approx(want, abs=1e-9)


def test_bootstrap_interval_holds_the_rate_and_is_the_same_each_time():
    scores, labels, pairs = speaker_trials()
    rate = metrics.eer(scores, labels)[0]
    low, high = bootstrap.bootstrap_ci(scores, labels, pairs, samples=200)
    assert 0 <= low < rate < high <= 1
    assert bootstrap.bootstrap_ci(scores, labels, pairs, samples=200) == (low, high)


def test_bootstrap_does_not_depend_on_how_speakers_are_called():
    scores, labels, pairs = speaker_trials()
    names = np.array([f"id{10_000 + i}" for i in range(40)])[pairs]
    want = bootstrap.bootstrap_ci(scores, labels, pairs, samples=20)
    assert bootstrap.bootstrap_ci(scores, labels, names, samples=20) == want
    assert bootstrap.bootstrap_ci(scores, labels, pairs[:, ::-1] * 3 + 7, samples=20) == want


def test_bootstrap_over_speakers_is_wider_than_over_trials():
    scores, labels, pairs = speaker_trials()
    low, high = bootstrap.bootstrap_ci(scores, labels, pairs, samples=300)
    rng, rates = np.random.default_rng(0), []
    for _ in range(300):
        drawn = rng.integers(len(scores), size=len(scores))
        rates.append(metrics.eer(scores[drawn], labels[drawn])[0])
    trial_low, trial_high = np.quantile(rates, [0.025, 0.975])
    assert high - low > 1.5 * (trial_high - trial_low)


def test_bootstrap_passes_over_draws_without_both_kinds(monkeypatch):
    # drawn twice the same speaker, no non-target trial is left; drawn once each, all are
    monkeypatch.setattr(np.random, "default_rng", lambda seed: Draws([0, 0], [0, 1], [1, 1]))
    pairs = [[0, 0], [1, 1], [0, 1]]
    found = bootstrap.bootstrap_ci([3, 1, 2], [1, 1, 0], pairs, samples=3)
    # targets 1 and 3 around the non-target 2: miss stays 1/2 while fa goes from 1 to 0
    assert found == (0.5, 0.5)
    monkeypatch.setattr(np.random, "default_rng", lambda seed: Draws([0, 0], [1, 1]))
    with pytest.raises(ValueError, match="no draw of speakers has both kinds"):
        bootstrap.bootstrap_ci([3, 1, 2], [1, 1, 0], pairs, samples=2)


def test_two_systems_see_the_same_draws_of_speakers():
    rng = np.random.default_rng(5)
    pairs = rng.integers(6, size=(300, 2))
    labels = pairs[:, 0] == pairs[:, 1]
    scores = labels + rng.normal(size=300)
    a, b = (
        bootstrap.bootstrap(values, labels, pairs, samples=100) for values in (scores, 3 * scores)
    )
    assert np.array_equal(a, b)  # a rescaled system is the same system: its difference is 0
    noisy = bootstrap.bootstrap(scores + rng.normal(size=300), labels, pairs, samples=100)
    assert np.std(noisy - a) < math.hypot(np.std(noisy), np.std(a))  # what is common cancels


@pytest.mark.parametrize("speakers", [[1, 2], [[1, 2]], [[1, 2, 3], [1, 2, 3]], 5])
def test_bootstrap_needs_two_speakers_per_trial(speakers):
    with pytest.raises(ValueError, match=r"speakers has shape .*give two per trial, \[2, 2\]"):
        bootstrap.bootstrap_ci([1, 2], [0, 1], speakers)


def test_bootstrap_without_draws_is_refused():
    with pytest.raises(ValueError, match="samples is 0"):
        bootstrap.bootstrap_ci([1, 2], [0, 1], [[0, 1], [0, 0]], samples=0)


# Summary and score files


@given(trials())
def test_summary_holds_what_the_functions_give(data):
    found = metrics.summary(*data)
    assert (found["eer"], found["eer_threshold"]) == metrics.eer(*data)
    assert found["min_dcf_0.01"] == metrics.min_dcf(*data)
    assert found["min_dcf_0.05"] == metrics.min_dcf(*data, 0.05)
    assert found["cllr"] == metrics.cllr(*data)
    assert found["min_cllr"] == metrics.min_cllr(*data)
    assert (found["trials"], found["targets"]) == (len(data[0]), data[1].sum())
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def written(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "scores.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


@pytest.mark.parametrize(
    "text",
    [
        "1 0.5\n0 -2e-3\n1 7",
        "target 0.5\nnontarget -2e-3\ntarget 7\n",
        "1 a b 0.5\r\n0 a c -2e-3\r\n1 b b 7\r\n",
        "# label id id score\n\n1\ta\tb\t0.5\n  \n0  鳥/é.wav   c -.002\n # note\n  1 b b +7 \n",
        "1\tMy Voice/a b.wav\tc\t0.5\n0\ta\tb c\t-0.002\n1\ta\tb\t7\n",  # names with blanks
        "\ufeff1 0.5\n0 -0.002\n1 7\n",  # a byte order mark, as some editors write
    ],
)
def test_score_files_are_read(tmp_path, text):
    scores, labels = score_file.read_scores(written(tmp_path, text))
    assert (scores.tolist(), labels.tolist()) == ([0.5, -0.002, 7.0], [1, 0, 1])
    assert (scores.dtype, labels.dtype) == (np.float64, np.uint8)


def test_labels_behind_the_ids_are_not_mistaken(tmp_path):
    """Ids 0 and 1 in the first columns, the label in the third: EER 0 %, not 50 %."""
    text = "0 1 target 0.9\n1 0 target 0.8\n0 0 nontarget 0.1\n1 1 nontarget 0.2\n"
    with pytest.raises(ValueError, match="first and the third column could both be the labels"):
        score_file.read_scores(written(tmp_path, text))
    named = text.replace("0 1 target", "u0 1 target").replace("1 0 t", "u1 0 t")
    scores, labels = score_file.read_scores(written(tmp_path, named))
    assert labels.tolist() == [1, 1, 0, 0] and metrics.eer(scores, labels)[0] == 0
    first = written(tmp_path, f"{score_file.HEADER}\n1 0 1 0.9\n0 1 0 0.1\n")
    assert score_file.read_scores(first)[1].tolist() == [1, 0]


def test_named_columns_are_never_guessed(tmp_path):
    """Ids that look like labels, in every place; the same file is refused without the names."""
    text = "0 1 target 0.9\n1 0 target 0.8\n0 0 nontarget 0.1\n"
    path = written(tmp_path, text)
    with pytest.raises(ValueError, match="name the columns: --columns label,id,id,score or"):
        score_file.read_scores(path)
    scores, labels = score_file.read_scores(path, ["id", "id", "label", "score"])
    assert (scores.tolist(), labels.tolist()) == ([0.9, 0.8, 0.1], [1, 1, 0])
    assert score_file.read_scores(path, ["label", "id", "id", "score"])[1].tolist() == [0, 1, 0]
    words = "0 1 same 0.9\n1 0 same 0.8\n0 0 other 0.1\n"  # no label that is known
    with pytest.raises(ValueError, match="the first and the second column could both be"):
        score_file.read_scores(written(tmp_path, words))
    kaldi = written(tmp_path, "a b c 0.5 1\n\n# note\nd e f -2 nontarget\n")
    scores, labels = score_file.read_scores(kaldi, ["id", "id", "id", "score", "label"])
    assert (scores.tolist(), labels.tolist()) == ([0.5, -2.0], [1, 0])
    for columns, said in (
        (["id", "score"], "columns are id,score; name label and score once"),
        (["label", "score", "name"], "columns are label,score,name; name label and score once"),
        (["label", "score"], "line 1: 'a b c 0.5 1' has 5 fields; expected label,score"),
        (["id", "id", "id", "label", "score"], r"line 1: .* has label '0\.5'; expected id,id,id,"),
        (["label", "id", "score", "id", "id"], "has score 'c', which is not a finite number"),
    ):
        with pytest.raises(ValueError, match=said):
            score_file.read_scores(kaldi, columns)
    path = written(tmp_path, text)
    done = CliRunner().invoke(
        cli.app, ["score", str(path), "--columns", "id, id,label,score", "--json"]
    )
    assert json.loads(done.stdout)["targets"] == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1 0.5\n\n0 a b 0.5\n", "line 3: '0 a b 0.5' has 4 fields, the lines before 2; exp"),
        ("1 a b 0.5\n0 0.5\n", "line 2: '0 0.5' has 2 fields, the lines before 4; expected"),
        ("# three\n1 a 0.5\n", "line 2: '1 a 0.5' has 3 fields; expected 'label score', 'label"),
        ("1 0.5\n0\n", "line 2: '0' has 1 fields; expected"),
        ("1 a b c 0.5\n", "line 1: '1 a b c 0.5' has 5 fields; expected"),
        ("1 0.5\n2 0.5\n", "line 2: '2 0.5' has label '2'; expected 'label .*target or nontarget"),
        ("same a b 0.5\n", "has label 'same'; expected"),
        ("0.5 1\n", r"has label '0\.5'; expected"),
        ("1 0.5\n0 high\n", "line 2: '0 high' has score 'high', which is not a finite number"),
        ("1 a b 0,5\n", "line 1: .*has score '0,5', which is not a finite number"),
        ("1 0.5\n0 nan\n", "line 2: '0 nan' has score 'nan', which is not a finite"),
        ("1 a b -inf\n", "line 1: .*has score '-inf', which is not a finite"),
        ("1 1e999\n", "line 1: .*has score '1e999', which is not a finite"),
        ("", "holds no scores; give lines of label and score"),
        ("\n# only a note\n", "holds no scores"),
        (b"\x89PNG\r\n\x1a\n\x00\xff\xfe", "is not UTF-8 text; give a score file"),
        ("1 0.5\n".encode("utf-16"), "is not UTF-8 text"),
    ],
)
def test_bad_score_files_are_refused_by_file_and_line(tmp_path, text, says):
    path = written(tmp_path, text)
    with pytest.raises(ValueError, match=says) as caught:
        score_file.read_scores(path)
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value)) < len(str(path)) + 200 and "\n" not in str(caught.value)


def test_a_long_line_is_not_printed_whole(tmp_path):
    with pytest.raises(ValueError, match="line 1") as caught:
        score_file.read_scores(written(tmp_path, "x" * 10**6))
    assert len(str(caught.value)) < len(str(tmp_path)) + 250


def test_a_long_score_file_is_read(tmp_path):
    scores, labels = gaussian(100_000)
    lines = (f"{y} {s!r}\n" for y, s in zip(labels.tolist(), scores.tolist(), strict=True))
    found = score_file.read_scores(written(tmp_path, "".join(lines)))
    assert np.array_equal(found[0], scores) and np.array_equal(found[1], labels)


finite = st.floats(allow_nan=False, allow_infinity=False)
names = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1)
# a blank inside a name is fine, at its ends it is not
names |= st.lists(names, min_size=2, max_size=3).map(" ".join)


@given(st.lists(st.tuples(st.integers(0, 1), names, names, finite), min_size=1, max_size=8))
def test_written_scores_are_read_back_bit_for_bit(tmp_path_factory, rows):
    labels, left, right, scores = zip(*rows, strict=True)
    path = tmp_path_factory.mktemp("scores") / "new folder" / "scores.txt"
    score_file.write_scores(path, np.array(scores), np.array(labels), left, right)
    found, read_labels = score_file.read_scores(path)
    assert found.tobytes() == np.array(scores).tobytes()
    assert read_labels.tolist() == list(labels)


def test_float32_scores_keep_every_bit(tmp_path):
    scores = np.array([0.1, 1 / 3, -7e-9], np.float32)
    score_file.write_scores(tmp_path / "s", scores, np.array([True, False, True]), "abc", "def")
    assert np.array_equal(score_file.read_scores(tmp_path / "s")[0].astype(np.float32), scores)
    assert (tmp_path / "s").read_text().startswith("1 a d 0.10000000149011612\n0 b e ")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "s"
    score_file.write_scores(path, [0.5], [1], ["a"], ["b"])
    with pytest.raises(ValueError, match=r"scores, labels, left, right have \(2, 2, 1, 2\)"):
        score_file.write_scores(path, [0.5, 1], [1, 0], ["a"], ["b", "c"])
    assert path.read_text() == "1 a b 0.5\n"
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


# The command


def test_score_command_prints_all_metrics(tmp_path):
    path = written(tmp_path, "0 a b 1\n0 a c 2\n1 a d 3\n0 a e 4\n1 a f 5\n")
    done = CliRunner().invoke(cli.app, ["score", str(path), "--json"])
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert list(found) == [
        "eer",
        "eer_threshold",
        "min_dcf_0.01",
        "min_dcf_0.05",
        "cllr",
        "min_cllr",
        "trials",
        "targets",
        "list",
        "versions",
    ]
    assert found["list"] == "unknown list of 5 trials" and "numpy" in found["versions"]
    assert found["eer"] == pytest.approx(1 / 3) and found["min_dcf_0.01"] == pytest.approx(0.5)
    assert (found["trials"], found["targets"]) == (5, 2)
    text = CliRunner().invoke(cli.app, ["score", str(path)])
    assert text.exit_code == 0
    assert "EER           33.3333 %" in text.stdout and "5, of which 2 targets" in text.stdout
    assert "list          unknown list of 5 trials; a score" in text.stdout
    assert f"numpy {np.__version__}, " in text.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1 0.5\n0 nan\n", "line 2: '0 nan' has score 'nan', which is not a finite"),
        ("1 0.5\n1 0.7\n", "labels has no non-target trial"),
        (None, "no such score file"),
    ],
)
def test_score_command_refuses_in_one_line(tmp_path, monkeypatch, capsys, text, says):
    path = tmp_path / "none.txt" if text is None else written(tmp_path, text)
    monkeypatch.setattr("sys.argv", ["oskdft", "score", str(path)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    printed = capsys.readouterr()
    assert stopped.value.code == 1
    assert printed.out == "" and printed.err.count("\n") == 1
    assert printed.err.startswith("oskdft: ") and says in printed.err


@pytest.mark.parametrize("huge", [1.7e308, -1.7e308])
def test_scores_beyond_the_numbers_of_a_threshold_are_refused(huge):
    with pytest.raises(ValueError, match="at trial 1; give scores of at most 1e"):
        metrics.summary([0.0, huge, 1.0], [0, 1, 1])
    found = metrics.summary([-1e300, 1e300, 1.0], [0, 1, 1])
    assert all(math.isfinite(value) for value in found.values() if isinstance(value, float))


def test_an_interval_over_few_speakers_is_called_one(capsys):
    scores, labels = [0.9, 0.8, 0.1], [1, 1, 0]
    bootstrap.bootstrap_ci(scores, labels, [[0, 0], [1, 1], [0, 1]], samples=9)
    assert "an interval over 2 speakers tells little" in capsys.readouterr().err
    pairs = [[n, n] for n in range(5)] + [[0, 1]]
    bootstrap.bootstrap_ci([0.9] * 5 + [0.1], [1] * 5 + [0], pairs, samples=9)
    assert capsys.readouterr().err == ""
