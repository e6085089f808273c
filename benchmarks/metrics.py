"""Metrics of long trial lists, beside NumPy's sort and argsort of the same scores as the floor.

    python benchmarks/metrics.py [--json] [--quick]

One thread. Times are medians of five turns in which all rows take part, one after the other; long
rows are timed once. Memory is the peak that the call adds, traced in a separate pass.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy is loaded

import numpy as np

from oskdft import metrics

TRIALS, TURNS = 1_000_000, 5
TARGET_S, TARGET_MB = 0.6, 300.0
LISTS = {"22,240 trials": (22_240, 80), "579,818 trials": (579_818, 1_251)}  # (P, speakers)
ALL_THREE = "EER + minDCF + DET"
Work = Callable[[], object]


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


def short_rows() -> dict[str, Work]:
    """Work on 1,000,000 trials."""
    scores, labels, _ = trials(TRIALS)
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


def long_rows(folder: Path) -> dict[str, Work]:
    """Work that takes seconds."""
    scores, labels, _ = trials(TRIALS)
    path = folder / "scores.txt"
    names = [f"id{10_000 + i % 1_251}/{i:011}/00001.wav" for i in range(TRIALS)]
    rows: dict[str, Work] = {
        "calibrate": lambda: metrics.calibrate(scores, labels),
        "write_scores": lambda: metrics.write_scores(path, scores, labels, names, names),
        "read_scores": lambda: metrics.read_scores(path),
    }
    for name, size in LISTS.items():
        listed = trials(*size)
        rows[f"bootstrap, {name} x 1,000"] = lambda listed=listed: metrics.bootstrap_ci(*listed)
    return rows


def seconds(rows: dict[str, Work], turns: int) -> dict[str, float]:
    """Median seconds of each row; the rows take turns, so that a busy moment hits them all."""
    taken: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(turns):
        for name, work in rows.items():
            start = time.perf_counter()
            work()
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in taken.items()}


def peak_mb(work: Work) -> float:
    """Memory the call adds at its peak [MB]; the arrays it is given are not counted."""
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def measure(quick: bool) -> dict[str, dict[str, float]]:
    """{"seconds": {row: s}, "peak_mb": {row: MB}}."""
    short = short_rows()
    for work in short.values():
        work()  # warm up
    times = seconds(short, TURNS)
    peaks = {name: peak_mb(work) for name, work in short.items()}
    if not quick:
        with tempfile.TemporaryDirectory() as folder:
            times |= seconds(long_rows(Path(folder)), turns=1)
    return {"seconds": times, "peak_mb": peaks}


def main() -> None:
    """Print a table, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="leave out what takes seconds")
    args = parser.parse_args()
    found = measure(args.quick)
    if args.json:
        target = {"row": ALL_THREE, "seconds": TARGET_S, "peak_mb": TARGET_MB}
        print(json.dumps({"trials": TRIALS, "target": target} | found))
        return
    print(f"{TRIALS:,} trials where no number is given{'':7}seconds   peak MB")
    for name, value in found["seconds"].items():
        memory = f"{found['peak_mb'][name]:10.0f}" if name in found["peak_mb"] else ""
        print(f"{name:42}{value:10.3f}{memory}")
    print(f"target: {ALL_THREE} in {TARGET_S} s and {TARGET_MB:.0f} MB")


if __name__ == "__main__":
    main()
