"""Metrics of long trial lists, beside NumPy's sort and argsort of the same scores as the floor.

    python benchmarks/metrics.py [--json] [--quick]

Long rows are timed once. Memory is the peak that the call adds, traced in a separate pass.
"""

import tempfile
import tracemalloc
from pathlib import Path

import measure
import numpy as np

from oskdft.evaluation import bootstrap, calibration, metrics, score_file

TRIALS, QUICK, TURNS = 1_000_000, 2_000, 5
TARGET_S, TARGET_MB = 0.6, 300.0
LISTS = {"22,240 trials": (22_240, 80), "579,818 trials": (579_818, 1_251)}  # (P, speakers)
ALL_THREE = "EER + minDCF + DET"


def trials(count: int, speakers: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores [P] with an EER of 5 %, labels [P], speakers [P, 2]; half of the trials targets."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    scores = rng.normal(size=count) + 3.29 * labels
    who = rng.integers(max(speakers, 1), size=(count, 2))
    who[labels == 1, 1] = who[labels == 1, 0]
    return scores, labels, who


def all_three(scores: np.ndarray, labels: np.ndarray) -> None:
    """What the targets are for: three calls, as a user makes them."""
    metrics.eer(scores, labels)
    metrics.min_dcf(scores, labels)
    metrics.det_points(scores, labels)


def short_rows(count: int) -> dict[str, measure.Work]:
    """Work on one list of that many trials."""
    scores, labels, _ = trials(count)
    return {
        "np.sort": lambda: np.sort(scores),
        "np.argsort": lambda: np.argsort(scores),
        "EER": lambda: metrics.eer(scores, labels),
        "minDCF": lambda: metrics.min_dcf(scores, labels),
        "DET": lambda: metrics.det_points(scores, labels),
        ALL_THREE: lambda: all_three(scores, labels),
        "min Cllr": lambda: metrics.min_cllr(scores, labels),
        "summary": lambda: metrics.summary(scores, labels),
    }


def long_rows(folder: Path) -> dict[str, measure.Work]:
    """Work that takes seconds."""
    scores, labels, _ = trials(TRIALS)
    path = folder / "scores.txt"
    names = [f"id{10_000 + i % 1_251}/{i:011}/00001.wav" for i in range(TRIALS)]
    rows: dict[str, measure.Work] = {
        "calibrate": lambda: calibration.calibrate(scores, labels),
        "write_scores": lambda: score_file.write_scores(path, scores, labels, names, names),
        "read_scores": lambda: score_file.read_scores(path),
    }
    for name, size in LISTS.items():
        listed = trials(*size)
        rows[f"bootstrap, {name} x 1,000"] = lambda listed=listed: bootstrap.bootstrap_ci(*listed)
    return rows


def peak_mb(work: measure.Work) -> float:
    """Memory the call adds at its peak [MB]; the arrays it is given are not counted."""
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def run(quick: bool) -> dict:
    """All rows and comparisons."""
    count = QUICK if quick else TRIALS
    short = short_rows(count)
    taken = measure.interleaved(short, TURNS)
    peaks = {name: peak_mb(work) for name, work in short.items()}
    rows = [
        measure.row(f"{name}, {count:,} trials", taken[name], added_mb=peaks[name])
        for name in short
    ]
    if not quick:
        with tempfile.TemporaryDirectory() as folder:
            once = {name: [measure.once(work)] for name, work in long_rows(Path(folder)).items()}
        rows += [measure.row(name, seconds) for name, seconds in once.items()]
    comparisons = [
        measure.limit(f"{TARGET_S} s over {ALL_THREE}", TARGET_S, taken[ALL_THREE]),
        measure.limit(f"{TARGET_MB:.0f} MB over {ALL_THREE}", TARGET_MB, [peaks[ALL_THREE]]),
    ]
    return {"rows": rows, "comparisons": comparisons}


if __name__ == "__main__":
    measure.main("metrics", __doc__, run)
