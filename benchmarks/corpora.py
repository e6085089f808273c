"""Tables, scan and trial lists at the size of VoxCeleb.

    python benchmarks/corpora.py [files to scan]

Targets: at most 200 bytes per utterance, 100,000 files scanned in under 60 s, a list of 579,818
trials parsed in under 3 s. Nothing but the temporary folder is written.
"""

import os
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from oskdft import audio
from oskdft.check import check
from oskdft.corpora import load_corpus, read_trials, table
from oskdft.layouts import Row

UTTERANCES = 1_000_000
TRIALS = 579_818  # Vox1-E cleaned
RECORDINGS = 145_160  # that it names


def vox2_rows() -> Iterator[Row]:
    """Paths as in VoxCeleb2: 6,000 speakers, a video for every 7 recordings."""
    for i in range(UTTERANCES):
        who, video = f"id{i % 6_000:05}", f"{i // 7:011}"
        yield f"dev/aac/{who}/{video}/{i % 7:05}.m4a", who, video, np.nan


def memory() -> dict[str, float]:
    """Bytes per utterance that stay, and at the peak while the table is built."""
    tracemalloc.start()
    utterances = table("/data", vox2_rows())
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    start = time.perf_counter()
    half = utterances.select(np.arange(len(utterances)) % 2 == 0)
    return {
        "bytes per utterance, kept": kept / len(utterances),
        "bytes per utterance, peak": peak / len(utterances),
        f"select {len(half):,} rows [s]": time.perf_counter() - start,
    }


def scan(files: int, suffix: str, folder: Path) -> dict[str, float]:
    """Check a corpus of that many files (hard links to 100 recordings of 1 s), twice."""
    rng, root = np.random.default_rng(0), folder / suffix[1:]
    for i in range(100):
        audio.write(folder / f"{i}{suffix}", rng.normal(0, 0.1, audio.SAMPLE_RATE))
    for i in range(files):
        place = root / f"s{i % 1_000:04}" / f"v{i // 1_000 % 10}"
        if i < 10_000:
            place.mkdir(parents=True, exist_ok=True)
        os.link(folder / f"{i % 100}{suffix}", place / f"{i}{suffix}")
    start = time.perf_counter()
    report = check("folder", root)
    first = time.perf_counter() - start
    start = time.perf_counter()
    again = check("folder", root)
    second = time.perf_counter() - start
    start = time.perf_counter()
    loaded = load_corpus("folder", root)
    assert report.ok and again.ok and len(loaded) == files and not np.isnan(loaded.seconds).any()
    return {
        f"scan {files:,} {suffix} [s]": first,
        f"scan {suffix} [files/s]": files / first,
        f"scan {suffix} again, remembered [s]": second,
        f"load {suffix} [s]": time.perf_counter() - start,
    }


def trials(folder: Path) -> dict[str, float]:
    """Parse a list of the length of Vox1-E."""
    rng = np.random.default_rng(0)
    names = [f"id{10_001 + i % 1_251}/{i // 9:011}/{i % 9:05}.wav" for i in range(RECORDINGS)]
    pairs = np.sort(rng.integers(0, RECORDINGS, (TRIALS, 2)), axis=1)
    path = folder / "list_test_all2.txt"
    path.write_text(
        "".join(f"{int(a % 2)} {names[a]} {names[b]}\n" for a, b in pairs), encoding="utf-8"
    )
    start = time.perf_counter()
    found = read_trials(path)
    assert len(found) == TRIALS and found.name == "Vox1-E cleaned"
    return {f"parse {TRIALS:,} trials [s]": time.perf_counter() - start}


def main() -> None:
    """Print one line per measurement."""
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as name:
        os.environ["XDG_CACHE_HOME"] = f"{name}/cache"
        folder = Path(name)
        parts = (
            memory,
            lambda: trials(folder),
            lambda: scan(files, ".flac", folder),
            lambda: scan(files, ".wav", folder),
        )
        for part in parts:
            for label, value in part().items():
                print(f"{label:42}{value:12,.2f}", flush=True)


if __name__ == "__main__":
    main()
