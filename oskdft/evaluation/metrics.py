"""Verification metrics: EER, minDCF, DET, Cllr. NumPy only; every rate is read from one sorted ROC.

Definition of the EER: the ROC is the polyline through all operating points; trials of equal score
move together; the EER is the rate where the polyline crosses misses = false alarms.

Letters: P trials, S distinct scores. Rates are fractions.
"""

import math

import numpy as np

LARGEST = 1e300  # score; beyond it a threshold next to it is not finite


def checked_trials(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores and labels that every metric can use.

    Args:
        scores: [P] real numbers. labels: [P] 1 same speaker, 0 different.
    Returns:
        (scores [P] float, labels [P] bool).
    Raises:
        ValueError: a wrong shape or type, lengths that differ, a score that is not finite or beyond
            `LARGEST`, a label other than 0 or 1, or one class missing.

    >>> checked_trials([1, 2], [0, 1])
    (array([1., 2.]), array([False,  True]))
    """
    scores, labels = np.asarray(scores), np.asarray(labels)
    for name, values in (("scores", scores), ("labels", labels)):
        if values.ndim != 1:
            raise ValueError(f"{name} has shape {values.shape}; give one number per trial, [P]")
    if len(scores) != len(labels):
        raise ValueError(f"scores has {len(scores)} entries, labels {len(labels)}; give one each")
    if scores.dtype.kind not in "fiub":
        raise ValueError(f"scores has type {scores.dtype}; give one real number per trial")
    if scores.dtype.kind != "f":
        scores = scores.astype(np.float64)
    if not np.isfinite(scores).all():
        bad = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise ValueError(f"scores holds {scores[bad]} at trial {bad}; every score must be finite")
    if float(np.abs(scores).max(initial=0)) > LARGEST:  # float32 cannot hold the limit
        bad = int(np.argmax(np.abs(scores)))
        raise ValueError(
            f"scores holds {scores[bad]} at trial {bad}; give scores of at most {LARGEST:g}"
        )
    target = labels.astype(bool)
    if (wrong := labels[target != labels]).size:
        raise ValueError(f"labels holds {wrong.tolist()[0]!r:.20}; give 1 (same speaker) or 0")
    if target.all() or not target.any():
        missing = "non-target" if len(target) and target.all() else "target"
        raise ValueError(f"labels has no {missing} trial; both kinds are needed")
    return scores, target


def ends_of_ties(ordered: np.ndarray) -> np.ndarray:
    """Index behind each group of equal scores, [S]; ``ordered`` [P] ascends.

    >>> ends_of_ties(np.array([0.1, 0.1, 0.5])).tolist()
    [2, 3]
    """
    return np.append(np.flatnonzero(ordered[1:] != ordered[:-1]) + 1, len(ordered))


def det_points(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All operating points, from accepting every trial to rejecting every trial.

    Args:
        scores, labels: [P], as for `eer`.
    Returns:
        (p_miss, p_fa, thresholds), each [S + 1]: two fractions and the score from which on trials
        are accepted.
    Raises:
        ValueError: see `checked_trials`.

    >>> [points.tolist() for points in det_points([0.0, 1.0], [0, 1])[:2]]
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    scores, target = checked_trials(scores, labels)
    order = np.argsort(scores)
    ordered = scores[order]
    ends = ends_of_ties(ordered)
    hits = np.cumsum(target[order], dtype=np.int64)[ends - 1]
    targets = int(hits[-1])
    p_miss = np.concatenate([[0.0], hits / targets])
    p_fa = np.concatenate([[1.0], 1.0 - (ends - hits) / (len(scores) - targets)])
    levels = ordered[ends - 1].astype(np.float64)
    between = levels[:-1] / 2 + levels[1:] / 2
    thresholds = np.concatenate([levels[:1], between, [np.nextafter(levels[-1], np.inf)]])
    return p_miss, p_fa, thresholds


def _crossing(p_miss: np.ndarray, p_fa: np.ndarray) -> tuple[int, float]:
    """Last point k with p_miss <= p_fa, and the share in [0, 1) of the way to k + 1 where both are equal."""
    k = int(np.searchsorted(p_miss - p_fa, 0.0, side="right")) - 1
    before = p_miss[k] - p_fa[k]
    behind = p_miss[k + 1] - p_fa[k + 1]
    return k, -before / (behind - before)


def eer_of(p_miss: np.ndarray, p_fa: np.ndarray) -> float:
    """EER of an ROC, interpolated between neighbouring points.

    Args:
        p_miss, p_fa: [S + 1] fractions, as from `det_points`.
    Returns:
        A fraction in [0, 1].

    >>> eer_of(np.array([0.0, 0.0, 0.5, 1.0]), np.array([1.0, 0.5, 0.0, 0.0]))
    0.25
    """
    k, share = _crossing(p_miss, p_fa)
    return float(p_miss[k] + share * (p_miss[k + 1] - p_miss[k]))


def eer(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Error rate at the threshold where misses and false alarms are equally frequent.

    Args:
        scores: [P] similarity, higher means same speaker.
        labels: [P] 1 same speaker, 0 different.
    Returns:
        (rate, threshold): rate is a fraction in [0, 1]; a score of at least threshold is accepted.
    Raises:
        ValueError: see `checked_trials`.
    Source: calculate_EER of both releases (fixture F6a).

    >>> eer([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
    (0.5, 0.375)
    """
    p_miss, p_fa, thresholds = det_points(scores, labels)
    k, share = _crossing(p_miss, p_fa)
    return eer_of(p_miss, p_fa), float(thresholds[k] + share * (thresholds[k + 1] - thresholds[k]))


def min_dcf_of(p_miss: np.ndarray, p_fa: np.ndarray, p_target: float) -> float:
    """Normalised minimum detection cost of an ROC; a miss and a false alarm cost 1 each.

    Args:
        p_miss, p_fa: [S + 1] fractions, as from `det_points`. p_target: see `min_dcf`.
    Returns:
        A cost in [0, 1].
    Raises:
        ValueError: p_target is outside (0, 1).

    >>> min_dcf_of(np.array([0.0, 0.5, 1.0]), np.array([1.0, 0.0, 0.0]), p_target=0.01)
    0.5
    """
    if not 0 < p_target < 1:
        raise ValueError(f"p_target is {p_target}; it is a probability inside (0, 1)")
    cost = p_target * p_miss + (1 - p_target) * p_fa
    return float(cost.min() / min(p_target, 1 - p_target))


def min_dcf(scores: np.ndarray, labels: np.ndarray, p_target: float = 0.01) -> float:
    """Minimum detection cost, divided by the cost of the better fixed answer (accept or reject all).

        min over thresholds of (p_target p_miss + (1 - p_target) p_fa) / min(p_target, 1 - p_target)

    Args:
        scores, labels: [P], as for `eer`.
        p_target: prior probability of a target trial, inside (0, 1).
    Returns:
        A cost in [0, 1].
    Raises:
        ValueError: p_target is outside (0, 1); see also `checked_trials`.
    Source: NIST speaker recognition evaluations; METHOD.md section 5.

    >>> min_dcf([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1], p_target=0.5)
    0.5
    """
    p_miss, p_fa, _ = det_points(scores, labels)
    return min_dcf_of(p_miss, p_fa, p_target)


def cllr(llrs: np.ndarray, labels: np.ndarray) -> float:
    """Cost of log-likelihood ratios: 0 perfect, 1 as uninformative as a constant 0, above 1 misleading.

    Args:
        llrs: [P] log-likelihood ratios, natural logarithm; `calibration.calibrate` maps cosines to them.
        labels: [P] 1 same speaker, 0 different.
    Returns:
        A cost in bits.
    Raises:
        ValueError: see `checked_trials`.
    Source: Brummer and du Preez, Application-independent evaluation of speaker detection, 2006.

    >>> cllr([0.0, 0.0], [1, 0])
    1.0
    """
    llrs, target = checked_trials(llrs, labels)
    llrs = llrs.astype(np.float64)
    miss = np.logaddexp(0, -llrs[target]).mean()
    false_alarm = np.logaddexp(0, llrs[~target]).mean()
    return float((miss + false_alarm) / 2 / math.log(2))


def min_cllr(scores: np.ndarray, labels: np.ndarray) -> float:
    """Cllr after the best monotone calibration (pool adjacent violators): the cost of discrimination alone.

    Args:
        scores, labels: [P], as for `eer`.
    Returns:
        A cost in bits, in [0, 1].
    Raises:
        ValueError: see `checked_trials`.
    Source: Brummer and du Preez 2006.

    >>> min_cllr([1.0, 2.0, 3.0], [0, 1, 1])
    0.0
    """
    p_miss, p_fa, _ = det_points(scores, labels)
    return min_cllr_of(p_miss, p_fa)


def min_cllr_of(p_miss: np.ndarray, p_fa: np.ndarray) -> float:
    """`min_cllr` of an ROC: each edge of its convex hull is one level of the monotone calibration.

    Args:
        p_miss, p_fa: [S + 1] fractions, as from `det_points`.
    Returns:
        A cost in bits, in [0, 1].

    >>> min_cllr_of(np.array([0.0, 1.0]), np.array([1.0, 0.0]))
    1.0
    """
    miss, false_alarm = _hull(p_miss, p_fa)
    target = np.diff(miss)  # share of the targets on each edge
    other = -np.diff(false_alarm)  # share of the non-targets
    with np.errstate(divide="ignore"):
        llr = np.log(target) - np.log(other)
    costs = [
        (share[share > 0] * np.logaddexp(0, sign * llr[share > 0])).sum()
        for share, sign in ((target, -1), (other, 1))
    ]
    return float(sum(costs) / 2 / math.log(2))


def _hull(p_miss: np.ndarray, p_fa: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners of the lower left convex hull of an ROC, which is the monotone calibration.

    By hand, because a weighted bootstrap has an ROC but no list of trials that scikit-learn's
    IsotonicRegression could fit.
    """
    # the hull can have a corner only where a run of false alarms ends and misses begin
    drops, rises = np.diff(p_fa) < 0, np.diff(p_miss) > 0
    corner = np.concatenate([[True], (drops[:-1] | ~rises[:-1]) & (rises[1:] | ~drops[1:]), [True]])
    stack: list[tuple[float, float]] = []
    for x, y in zip(p_fa[corner].tolist(), p_miss[corner].tolist(), strict=True):
        while len(stack) > 1:
            (x0, y0), (x1, y1) = stack[-2], stack[-1]
            if (y1 - y0) * (x1 - x) < (y - y1) * (x0 - x1):
                break  # the edge gets steeper: the corner is convex
            stack.pop()
        stack.append((x, y))
    corners = np.array(stack)
    return corners[:, 1], corners[:, 0]


def summary(scores: np.ndarray, labels: np.ndarray) -> dict[str, float | int]:
    """All metrics of a scored list.

    Args:
        scores, labels: [P], as for `eer`; ``cllr`` takes the scores as natural-log likelihood ratios.
    Returns:
        eer, min_dcf_0.01 and min_dcf_0.05 (fractions), eer_threshold (unit of the scores), cllr and
        min_cllr (bits), trials and targets (counts).
    Raises:
        ValueError: see `checked_trials`.

    >>> summary([-1.0, 1.0], [0, 1])["eer"]
    0.0
    """
    p_miss, p_fa, _ = det_points(scores, labels)
    rate, threshold = eer(scores, labels)
    return {
        "eer": rate, "eer_threshold": threshold,
        "min_dcf_0.01": min_dcf_of(p_miss, p_fa, 0.01),
        "min_dcf_0.05": min_dcf_of(p_miss, p_fa, 0.05),
        "cllr": cllr(scores, labels), "min_cllr": min_cllr_of(p_miss, p_fa),
        "trials": len(labels), "targets": int(np.sum(labels)),
    }  # fmt: skip


def summary_text(result: dict) -> str:
    """Lines that print a `summary`: the EER in per cent, each metric with its definition.

    >>> print(summary_text(summary([-1.0, 1.0], [0, 1])).splitlines()[0])
    EER           0.0000 %  (interpolated ROC; threshold 0)
    """
    threshold = f"threshold {result['eer_threshold']:.6g}"
    return (
        f"EER           {100 * result['eer']:.4f} %  (interpolated ROC; {threshold})\n"
        f"minDCF 0.01   {result['min_dcf_0.01']:.4f}  (normalised, both costs 1)\n"
        f"minDCF 0.05   {result['min_dcf_0.05']:.4f}\n"
        f"Cllr          {result['cllr']:.4f} bit  (scores as natural-log likelihood ratios)\n"
        f"min Cllr      {result['min_cllr']:.4f} bit\n"
        f"trials        {result['trials']:,}, of which {result['targets']:,} targets"
    )
