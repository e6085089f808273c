"""Verification metrics, NumPy only, all from one sorted ROC: EER, minDCF, Cllr, DET, calibration.

One definition of the EER: the ROC is the polyline through all operating points, equal scores move
together; the EER is where the line crosses misses = false alarms. P trials; rates are fractions.
"""

import math

import numpy as np


def _check_prior(p_target: float) -> None:
    if not 0 < p_target < 1:
        raise ValueError(f"p_target is {p_target}; it is a probability inside (0, 1)")


def _checked(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as 1-D arrays, labels as bool; what cannot be scored is refused by name."""
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
    target = labels.astype(bool)
    if (wrong := labels[target != labels]).size:
        raise ValueError(f"labels holds {wrong.tolist()[0]!r:.20}; give 1 (same speaker) or 0")
    if target.all() or not target.any():
        missing = "non-target" if len(target) and target.all() else "target"
        raise ValueError(f"labels has no {missing} trial; both kinds are needed")
    return scores, target


def _ends_of_ties(ordered: np.ndarray) -> np.ndarray:
    """Places behind each group of equal scores, [S]; ``ordered`` ascends."""
    return np.append(np.flatnonzero(ordered[1:] != ordered[:-1]) + 1, len(ordered))


def _roc(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(p_miss, p_fa, thresholds), each [S + 1], from accepting all trials to rejecting all."""
    scores, target = _checked(scores, labels)
    order = np.argsort(scores)
    ordered = scores[order]
    ends = _ends_of_ties(ordered)
    hits = np.cumsum(target[order], dtype=np.int64)[ends - 1]
    targets = int(hits[-1])
    p_miss = np.concatenate([[0.0], hits / targets])
    p_fa = np.concatenate([[1.0], 1.0 - (ends - hits) / (len(scores) - targets)])
    levels = ordered[ends - 1].astype(np.float64)
    between = levels[:-1] / 2 + levels[1:] / 2
    thresholds = np.concatenate([levels[:1], between, [np.nextafter(levels[-1], np.inf)]])
    return p_miss, p_fa, thresholds


def _crossing(p_miss: np.ndarray, p_fa: np.ndarray) -> tuple[int, float]:
    """Last point k with p_miss <= p_fa, and how far behind it the two are equal, [0, 1)."""
    k = int(np.searchsorted(p_miss - p_fa, 0.0, side="right")) - 1
    before, behind = p_miss[k] - p_fa[k], p_miss[k + 1] - p_fa[k + 1]
    return k, -before / (behind - before)


def eer_of(p_miss: np.ndarray, p_fa: np.ndarray) -> float:
    """EER of an ROC, interpolated between neighbouring points.

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
        ValueError: lengths differ, one class missing, or a score is not finite.
    Source: calculate_EER of both releases (fixture F6a).

    >>> eer([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
    (0.5, 0.375)
    """
    p_miss, p_fa, thresholds = _roc(scores, labels)
    k, share = _crossing(p_miss, p_fa)
    return eer_of(p_miss, p_fa), float(thresholds[k] + share * (thresholds[k + 1] - thresholds[k]))


def min_dcf_of(p_miss: np.ndarray, p_fa: np.ndarray, p_target: float) -> float:
    """Normalised minimum detection cost of an ROC, both costs 1.

    >>> min_dcf_of(np.array([0.0, 0.5, 1.0]), np.array([1.0, 0.0, 0.0]), p_target=0.01)
    0.5
    """
    _check_prior(p_target)
    cost = p_target * p_miss + (1 - p_target) * p_fa
    return float(cost.min() / min(p_target, 1 - p_target))


def min_dcf(scores: np.ndarray, labels: np.ndarray, p_target: float = 0.01) -> float:
    """Minimum detection cost, divided by that of always accepting or always rejecting.

    Args:
        scores, labels: [P]. p_target: prior of a target trial, (0, 1); both errors cost 1.
    Returns:
        cost in [0, 1].

    >>> min_dcf([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1], p_target=0.5)
    0.5
    """
    p_miss, p_fa, _ = _roc(scores, labels)
    return min_dcf_of(p_miss, p_fa, p_target)


def det_points(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All operating points: (p_miss, p_fa, thresholds), each [S + 1] for S distinct scores.

    >>> [points.tolist() for points in det_points([0.0, 1.0], [0, 1])[:2]]
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    return _roc(scores, labels)


def cllr(llrs: np.ndarray, labels: np.ndarray) -> float:
    """Cost of log-likelihood ratios in bits: 0 perfect, 1 knows nothing, above 1 misleads.

    Args:
        llrs: [P] natural-log likelihood ratios (calibrate cosines first). labels: [P].
    Source: Brummer and du Preez 2006.

    >>> cllr([0.0, 0.0], [1, 0])
    1.0
    """
    llrs, target = _checked(llrs, labels)
    llrs = llrs.astype(np.float64)
    miss, false_alarm = np.logaddexp(0, -llrs[target]).mean(), np.logaddexp(0, llrs[~target]).mean()
    return float((miss + false_alarm) / 2 / math.log(2))


def min_cllr(scores: np.ndarray, labels: np.ndarray) -> float:
    """Cllr after the best monotone calibration (PAV), in bits: what discrimination alone costs.

    >>> min_cllr([1.0, 2.0, 3.0], [0, 1, 1])
    0.0
    """
    p_miss, p_fa, _ = _roc(scores, labels)
    return min_cllr_of(p_miss, p_fa)


def min_cllr_of(p_miss: np.ndarray, p_fa: np.ndarray) -> float:
    """Cllr of the ROC's convex hull: each of its edges is one level of the PAV solution."""
    miss, false_alarm = _hull(p_miss, p_fa)
    target, other = np.diff(miss), -np.diff(false_alarm)  # share of each class on an edge
    with np.errstate(divide="ignore"):
        llr = np.log(target) - np.log(other)
    costs = [
        (share[share > 0] * np.logaddexp(0, sign * llr[share > 0])).sum()
        for share, sign in ((target, -1), (other, 1))
    ]
    return float(sum(costs) / 2 / math.log(2))


def _hull(p_miss: np.ndarray, p_fa: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners of the lower left convex hull of an ROC (the same as pooling adjacent violators)."""
    # only where a run of false alarms ends and misses begin can the hull have a corner
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
    """All metrics of a scored list; ``cllr`` takes the scores as natural-log likelihood ratios.

    >>> summary([-1.0, 1.0], [0, 1])["eer"]
    0.0
    """
    p_miss, p_fa, _ = _roc(scores, labels)
    rate, threshold = eer(scores, labels)
    return {
        "eer": rate, "eer_threshold": threshold,
        "min_dcf_0.01": min_dcf_of(p_miss, p_fa, 0.01),
        "min_dcf_0.05": min_dcf_of(p_miss, p_fa, 0.05),
        "cllr": cllr(scores, labels), "min_cllr": min_cllr_of(p_miss, p_fa),
        "trials": len(labels), "targets": int(np.sum(labels)),
    }  # fmt: skip


def summary_text(result: dict) -> str:
    """`summary` for reading: rates in per cent, with the definitions.

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
