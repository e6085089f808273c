"""Trial scores through mean embeddings and one matrix product, against pair by pair as released.

    python benchmarks/scoring.py [--json] [--quick]

Random embeddings, as many as the published lists name. Pair by pair runs over the first trials only;
its row says over how many, and ratios are of times per trial. The floor of a list is the time to copy
the rows it reads; that of AS-norm, its matrix product.
"""

import time

import measure
import numpy as np
import torch
from torch.nn import functional as F

from oskdft.evaluation import scoring

E, CROPS, TOP = 192, 5, 300
LISTS = {  # trials, utterances, and the seconds that are wanted
    "Vox1-O cleaned": (37_611, 4_708, 0.05),
    "Vox1-E cleaned": (579_818, 145_160, 0.5),
}
QUICK = {"quick": (400, 60, 0.0)}
COHORT, PAIRS, COHORT_PAIRS = 6_000, 2_000, 200  # speakers; trials that go pair by pair


def embeddings(utterances: int, trials: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whole [n, E], crops [n, C, E] and pairs [P, 2], drawn from a fixed seed."""
    rng = np.random.default_rng(0)
    full = rng.standard_normal((utterances, E), dtype=np.float32)
    crops = full[:, None] + rng.standard_normal((utterances, CROPS, E), dtype=np.float32)
    return full, crops, rng.integers(utterances, size=(trials, 2))


def pair_by_pair(full: np.ndarray, crops: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """One trial at a time: the cosine of the whole, averaged with the mean of all C x C cosines."""
    whole, cut = torch.from_numpy(full), torch.from_numpy(crops)
    scores = np.empty(len(pairs))
    for row, (a, b) in enumerate(pairs):
        grid = F.normalize(cut[a], dim=1) @ F.normalize(cut[b], dim=1).T  # [C, C]
        scores[row] = (F.cosine_similarity(whole[a], whole[b], dim=0) + grid.mean()) / 2
    return scores


def norm_pair_by_pair(
    scores: np.ndarray, pairs: np.ndarray, full: np.ndarray, cohort: np.ndarray, top: int
) -> np.ndarray:
    """AS-norm one trial at a time: both sides meet the cohort again in each trial."""
    whole, others = torch.from_numpy(full), F.normalize(torch.from_numpy(cohort), dim=1)
    out = np.empty(len(pairs))
    for row, pair in enumerate(pairs):
        sides = []
        for place in pair:
            nearest = (others @ F.normalize(whole[place], dim=0)).topk(top).values
            sides.append((scores[row] - nearest.mean()) / nearest.std())
        out[row] = (sides[0] + sides[1]) / 2
    return out


def score_rows(name: str, trials: int, utterances: int, wanted_s: float, turns: int):
    """Rows and comparisons of one list."""
    full, crops, pairs = embeddings(utterances, trials)
    few = pairs[:PAIRS]
    both, per_pair = f"{name}, TTA, {trials:,} trials", f"{name}, pair by pair, {len(few):,} trials"
    single, copy = f"{name}, no TTA, {trials:,} trials", f"{name}, copying the rows read"
    works = {
        both: lambda: scoring.score_trials(full, crops, pairs),
        single: lambda: scoring.score_trials(full, None, pairs),
        copy: lambda: full.take(pairs, 0),
        per_pair: lambda: pair_by_pair(full, crops, few),
    }
    taken = measure.interleaved(works, turns)
    count = {per_pair: len(few)}
    rows = [measure.row(k, v, trials=count.get(k, trials)) for k, v in taken.items()]
    ratio = measure.comparison(
        f"{name}, against pair by pair, per trial",
        [s / len(few) for s in taken[per_pair]],
        [s / trials for s in taken[both]],
        "at least 100",
    )
    return rows, [
        ratio,
        measure.limit(f"{name}, {wanted_s:g} s over time taken", wanted_s, taken[both]),
    ]


def norm_rows(quick: bool, turns: int) -> tuple[list, list]:
    """Rows and comparisons of AS-norm."""
    trials, utterances, _ = QUICK["quick"] if quick else LISTS["Vox1-O cleaned"]
    speakers, top = (80, 20) if quick else (COHORT, TOP)
    full, _, pairs = embeddings(utterances, trials)
    cohort = np.random.default_rng(1).standard_normal((speakers, E), dtype=np.float32)
    scores = scoring.score_trials(full, None, pairs)
    few = pairs[:COHORT_PAIRS]
    ours = f"AS-norm, {speakers:,} speakers, {utterances:,} utterances, {trials:,} trials"
    theirs = f"AS-norm, pair by pair, {len(few)} trials"
    works = {
        ours: lambda: scoring.as_norm(scores, pairs, full, cohort, top),
        theirs: lambda: norm_pair_by_pair(scores, few, full, cohort, top),
    }
    taken = measure.interleaved(works, turns)
    peak = product_peak(64 if quick else 2_048)
    work = utterances * speakers * E
    rows = [
        measure.row(ours, taken[ours], trials=trials, multiply_adds=work, peak=peak),
        measure.row(theirs, taken[theirs], trials=len(few)),
    ]
    per_trial = [s / len(few) for s in taken[theirs]], [s / trials for s in taken[ours]]
    ratio = measure.comparison(
        "AS-norm, against pair by pair, per trial", *per_trial, "at least 100"
    )
    return rows, [ratio, measure.limit("AS-norm, 3 s over time taken", 3.0, taken[ours])]


def product_peak(size: int) -> float:
    """Multiply-adds per second of NumPy's matrix product in float32, the best of ten."""
    a = np.ones((size, size), np.float32)
    best = float("inf")
    for _ in range(10):
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    return size**3 / best


def run(quick: bool) -> dict:
    """All rows and comparisons."""
    rows, comparisons = [], []
    turns = 2 if quick else 7
    for name, sizes in (QUICK if quick else LISTS).items():
        one, two = score_rows(name, *sizes, turns)
        rows, comparisons = rows + one, comparisons + two
    one, two = norm_rows(quick, turns)
    return {"rows": rows + one, "comparisons": comparisons + two}


if __name__ == "__main__":
    measure.main("scoring", __doc__, run)
