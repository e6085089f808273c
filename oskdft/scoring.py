"""From embeddings to trial scores: cosine, test-time crops, AS-norm. NumPy only.

Names: n utterances, E embedding size, C crops per utterance, P trials, M cohort utterances.
"""

import numpy as np

CHUNK = 1_024  # trials gathered at once: what a processor's cache holds; changes no value


def normalise(embeddings: np.ndarray) -> np.ndarray:
    """Unit length along the last axis; a zero vector stays zero.

    >>> normalise(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    length = np.linalg.norm(embeddings, axis=-1, keepdims=True)
    return embeddings / np.where(length > 0, length, 1.0)


def mean_of_units(crops: np.ndarray) -> np.ndarray:
    """Mean of the crops' unit embeddings: [n, C, E] -> [n, E], without a second array of that size.

    >>> mean_of_units(np.array([[[3.0, 4.0], [0.0, 2.0]]])).round(3).tolist()
    [[0.3, 0.9]]
    """
    length = np.sqrt(np.vecdot(crops, crops))  # [n, C]
    weights = 1 / np.where(length > 0, length, 1) / crops.shape[1]
    return np.einsum("nc,nce->ne", weights, crops)


def pair_dots(left: np.ndarray, right: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Dot product of row pairs: [n, E], [n, E], [P, 2] -> [P]."""
    out = np.empty(len(pairs), np.result_type(left, right))
    for start in range(0, len(pairs), CHUNK):
        chosen = pairs[start : start + CHUNK]
        rows = left.take(chosen[:, 0], 0), right.take(chosen[:, 1], 0)
        out[start : start + CHUNK] = np.vecdot(*rows)
    return out


def score_trials(
    full: np.ndarray | None, crops: np.ndarray | None, pairs: np.ndarray
) -> np.ndarray:
    """Cosine scores in [-1, 1] of trials, with test-time augmentation when both parts are given.

        s = (cos(full_a, full_b) + mean over C x C of cos(crop_a, crop_b)) / 2

    The mean of all C x C cosines is the dot product of the two means of unit crop embeddings.

    Args:
        full: [n, E] embeddings of whole utterances, or None.
        crops: [n, C, E] embeddings of crops, or None.
        pairs: [P, 2] row numbers.
    Raises:
        ValueError: neither full nor crops, or a row number out of range.
    Source: evaluation of both releases; METHOD.md section 5.

    >>> score_trials(np.eye(2), None, np.array([[0, 0], [0, 1]])).tolist()
    [1.0, 0.0]
    """
    parts = []
    if full is not None:
        parts.append(normalise(full))
    if crops is not None:
        parts.append(mean_of_units(crops))
    if not parts:
        raise ValueError("full and crops are both None; give at least one of them")
    if len(pairs) and not 0 <= pairs.min() <= pairs.max() < len(parts[0]):
        raise ValueError(f"pairs name row {pairs.max()}, there are {len(parts[0])} embeddings")
    table = np.concatenate(parts, 1)  # one sum over both parts: each trial's rows are read once
    return pair_dots(table, table, pairs) / len(parts)


def as_norm(
    scores: np.ndarray,
    pairs: np.ndarray,
    embeddings: np.ndarray,
    cohort: np.ndarray,
    top: int = 300,
    cross: bool = False,
) -> np.ndarray:
    """Adaptive symmetric score normalisation.

        s' = ((s - mu_a) / sigma_a + (s - mu_b) / sigma_b) / 2

    mu and sigma are taken over the ``top`` cohort cosines of each side; with ``cross``, of a over the
    cohort that is nearest to b and the other way round (AS-norm 2).

    Args:
        scores: [P] raw scores. pairs: [P, 2]. embeddings: [n, E]. cohort: [M, E], one per speaker.
        top: cohort size, 2 to M. sigma is the unbiased deviation.
    Raises:
        ValueError: fewer than 2 or more than M cohort entries asked for.
    Source: release R, adaptive_s_norm, without its repeated cohort rows (fixture F6c, "textbook").
    """
    if not 2 <= top <= len(cohort):
        raise ValueError(
            f"top is {top}, the cohort has {len(cohort)} entries; choose 2 to {len(cohort)}"
        )
    used = np.unique(pairs)
    row = np.zeros(len(embeddings), np.int64)
    row[used] = np.arange(len(used))
    table = normalise(embeddings[used]) @ normalise(cohort).T  # [n, M]
    nearest = np.argpartition(table, -top, axis=1)[:, -top:]  # [n, top]
    a, b = row[pairs[:, 0]], row[pairs[:, 1]]
    if cross:
        out = np.empty(len(scores))
        for start in range(0, len(scores), CHUNK):
            part = slice(start, start + CHUNK)
            of_a = np.take_along_axis(table[a[part]], nearest[b[part]], 1)
            of_b = np.take_along_axis(table[b[part]], nearest[a[part]], 1)
            out[part] = (_standardise(scores[part], of_a) + _standardise(scores[part], of_b)) / 2
        return out
    chosen = np.take_along_axis(table, nearest, 1)
    mean, deviation = chosen.mean(1), chosen.std(1, ddof=1)
    return ((scores - mean[a]) / deviation[a] + (scores - mean[b]) / deviation[b]) / 2


def _standardise(scores: np.ndarray, cohort: np.ndarray) -> np.ndarray:
    return (scores - cohort.mean(1)) / cohort.std(1, ddof=1)
