"""From embeddings to trial scores: cosine, test-time crops, AS-norm. NumPy only.

Names: n utterances, E embedding size, C crops per utterance, P trials, M cohort utterances.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

CHUNK = 512  # rows computed at once: what a processor's cache holds; changes no value
SHARE = 64  # chunks that a thread takes at once; changes no value


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
    """Dot product of row pairs: [n, E], [n, E], [P, 2] -> [P]; row numbers must be in range."""
    out = np.empty(len(pairs), np.result_type(left, right))

    def fill(parts: list[slice]) -> None:
        one, two = (np.empty((CHUNK, side.shape[1]), side.dtype) for side in (left, right))
        for part in parts:
            a, b = pairs[part].T
            # "clip": "raise" would gather into fresh memory first
            rows = left.take(a, 0, one[: len(a)], "clip"), right.take(b, 0, two[: len(b)], "clip")
            np.vecdot(*rows, out=out[part])

    _on_all_cores(fill, len(pairs))
    return out


def _on_all_cores(work: Callable[[list[slice]], None], count: int) -> None:
    """Call ``work`` with chunks of ``count`` rows, in threads: NumPy lets go of the interpreter."""
    parts = [slice(start, start + CHUNK) for start in range(0, count, CHUNK)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(work, [parts[i : i + SHARE] for i in range(0, len(parts), SHARE)]))


def unit_rows(full: np.ndarray | None, crops: np.ndarray | None) -> np.ndarray:
    """What trials read: unit embeddings [n, E], means of unit crops [n, E], or both side by side [n, 2 E].

    >>> unit_rows(np.array([[3.0, 4.0]]), np.array([[[0.0, 2.0], [2.0, 0.0]]])).tolist()
    [[0.6, 0.8, 0.5, 0.5]]
    """
    makers = [(normalise, full), (mean_of_units, crops)]
    given = [(make, part) for make, part in makers if part is not None]
    width = sum(part.shape[-1] for _, part in given)
    dtype = np.result_type(np.float32, *[part.dtype for _, part in given])
    table = np.empty((len(given[0][1]), width), dtype)

    def fill(parts: list[slice]) -> None:
        for rows in parts:
            table[rows] = np.concatenate([make(part[rows]) for make, part in given], 1)

    _on_all_cores(fill, len(table))
    return table


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
    if full is None and crops is None:
        raise ValueError("full and crops are both None; give at least one of them")
    table = unit_rows(full, crops)  # one sum over both parts: each trial's rows are read once
    if len(pairs) and not 0 <= pairs.min() <= pairs.max() < len(table):
        raise ValueError(f"pairs name row {pairs.max()}, there are {len(table)} embeddings")
    return pair_dots(table, table, pairs) / (1 if full is None or crops is None else 2)


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
    a, b = row[pairs[:, 0]], row[pairs[:, 1]]
    embeddings, cohort = normalise(embeddings[used]), normalise(cohort)
    if cross:
        return _cross_norm(scores, a, b, embeddings @ cohort.T, top)
    mean, deviation = _nearest(embeddings, cohort, top)
    return ((scores - mean[a]) / deviation[a] + (scores - mean[b]) / deviation[b]) / 2


def _nearest(embeddings: np.ndarray, cohort: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean [n] and deviation [n] of each row's ``top`` largest cosines with the cohort."""
    mean, deviation = np.empty((2, len(embeddings)), np.result_type(embeddings, cohort))
    for start in range(0, len(embeddings), CHUNK):
        rows = slice(start, start + CHUNK)
        cosines = embeddings[rows] @ cohort.T  # [rows, M]
        cosines.partition(-top, axis=1)
        chosen = cosines[:, -top:]
        mean[rows], deviation[rows] = chosen.mean(1), chosen.std(1, ddof=1)
    return mean, deviation


def _cross_norm(
    scores: np.ndarray, a: np.ndarray, b: np.ndarray, cosines: np.ndarray, top: int
) -> np.ndarray:
    """AS-norm 2: each side over the cohort nearest to the other one; ``cosines`` [n, M]."""
    nearest = np.argpartition(cosines, -top, axis=1)[:, -top:]  # [n, top]
    out = np.empty(len(scores))
    for start in range(0, len(scores), CHUNK):
        part = slice(start, start + CHUNK)
        of_a = np.take_along_axis(cosines[a[part]], nearest[b[part]], 1)
        of_b = np.take_along_axis(cosines[b[part]], nearest[a[part]], 1)
        out[part] = (_standardise(scores[part], of_a) + _standardise(scores[part], of_b)) / 2
    return out


def _standardise(scores: np.ndarray, cohort: np.ndarray) -> np.ndarray:
    return (scores - cohort.mean(1)) / cohort.std(1, ddof=1)
