"""Trial scores of embeddings: cosine, test-time crops, AS-norm. NumPy only.

Letters: n utterances, E embedding size, C crops per utterance, P trials, M cohort utterances.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

CHUNK = 512  # rows computed at once, few enough for a processor's cache; changes no value
SHARE = 64  # chunks that a thread takes at once; changes no value


def normalise(embeddings: np.ndarray) -> np.ndarray:
    """Embeddings [..., E] at unit length along the last axis; a zero vector stays zero.

    >>> normalise(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    length = np.linalg.norm(embeddings, axis=-1, keepdims=True)
    return embeddings / np.where(length > 0, length, 1.0)


def mean_of_units(crops: np.ndarray) -> np.ndarray:
    """Mean of the crops' unit embeddings: [n, C, E] -> [n, E], without a second array [n, C, E].

    >>> mean_of_units(np.array([[[3.0, 4.0], [0.0, 2.0]]])).round(3).tolist()
    [[0.3, 0.9]]
    """
    length = np.sqrt(np.vecdot(crops, crops))  # [n, C]
    weights = 1 / np.where(length > 0, length, 1) / crops.shape[1]
    return np.einsum("nc,nce->ne", weights, crops)


def pair_dots(left: np.ndarray, right: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Dot product of row pairs: [n, E], [n, E], [P, 2] -> [P].

    Args:
        left, right: [n, E]. pairs: [P, 2] a row of ``left`` and a row of ``right``; a number out of
            range is not noticed.

    >>> pair_dots(np.eye(2), np.eye(2), np.array([[0, 0], [0, 1]])).tolist()
    [1.0, 0.0]
    """
    out = np.empty(len(pairs), np.result_type(left, right))

    def fill(parts: list[slice]) -> None:
        left_rows = np.empty((CHUNK, left.shape[1]), left.dtype)
        right_rows = np.empty((CHUNK, right.shape[1]), right.dtype)
        for part in parts:
            a, b = pairs[part].T
            # "clip": "raise" would gather into fresh memory first
            left_part = left.take(a, 0, left_rows[: len(a)], "clip")
            right_part = right.take(b, 0, right_rows[: len(b)], "clip")
            np.vecdot(left_part, right_part, out=out[part])

    _on_all_cores(fill, len(pairs))
    return out


def _on_all_cores(work: Callable[[list[slice]], None], count: int) -> None:
    """Call ``work`` with chunks of ``count`` rows, in threads: NumPy releases the interpreter's lock."""
    parts = [slice(start, start + CHUNK) for start in range(0, count, CHUNK)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(work, [parts[i : i + SHARE] for i in range(0, len(parts), SHARE)]))


def unit_rows(full: np.ndarray | None, crops: np.ndarray | None) -> np.ndarray:
    """Table whose dot products are the scores: unit embeddings, means of unit crops, or both side by side.

    Args:
        full: [n, E] embeddings of whole utterances, or None. crops: [n, C, E] of crops, or None.
    Returns:
        [n, E], or [n, 2 E] where both are given.

    >>> unit_rows(np.array([[3.0, 4.0]]), np.array([[[0.0, 2.0], [2.0, 0.0]]])).tolist()
    [[0.6, 0.8, 0.5, 0.5]]
    """
    parts = [(normalise, full), (mean_of_units, crops)]
    parts = [(reduce, array) for reduce, array in parts if array is not None]
    width = sum(array.shape[-1] for _, array in parts)
    dtype = np.result_type(np.float32, *[array.dtype for _, array in parts])
    table = np.empty((len(parts[0][1]), width), dtype)

    def fill(chunks: list[slice]) -> None:
        for rows in chunks:
            table[rows] = np.concatenate([reduce(array[rows]) for reduce, array in parts], 1)

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
    Returns:
        [P] in [-1, 1], higher means more alike.
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
) -> np.ndarray:
    """Adaptive symmetric score normalisation.

        s' = ((s - mu_a) / sigma_a + (s - mu_b) / sigma_b) / 2

    mu and sigma are the mean and the unbiased deviation of the ``top`` largest cosines of each side
    with the cohort (AS-norm 1).

    Args:
        scores: [P] raw cosines. pairs: [P, 2] rows of ``embeddings``.
        embeddings: [n, E]. cohort: [M, E], one per speaker. Neither needs unit length.
        top: 2 to M.
    Returns:
        [P] in standard deviations.
    Raises:
        ValueError: top is below 2 or above M.
    Source: release R, adaptive_s_norm, without its repeated cohort rows (fixture F6c, "textbook").

    >>> cohort = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> as_norm(np.array([1.0]), np.array([[0, 0]]), np.array([[1.0, 0.0]]), cohort, 2).round(4).tolist()
    [0.7071]
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
