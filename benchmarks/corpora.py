"""Tables, scan, trial lists and tar shards at the size of VoxCeleb.

    python benchmarks/corpora.py [--json] [--quick]

Targets: at most 200 bytes per utterance, 100,000 files scanned in under 60 s, a list of 579,818
trials parsed in under 3 s, a million members of shards indexed in under 60 s and 100 bytes each, crops
read from shards at 0.8 times the rate of single files. Each piece of work but the crops is done once.
"""

import io
import os
import tarfile
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import measure
import numpy as np
import soundfile

from oskdft import config
from oskdft.speech import audio
from oskdft.speech.corpora.check import check
from oskdft.speech.corpora.layouts import Row
from oskdft.speech.corpora.shards import shards_of
from oskdft.speech.corpora.tables import Utterances, load_corpus
from oskdft.speech.corpora.trials import read_trials

UTTERANCES, FILES = 1_000_000, 100_000
TRIALS = 579_818  # Vox1-E cleaned
RECORDINGS = 145_160  # that it names
QUICK = 1_000  # times fewer of everything
BYTES, SCAN_S, PARSE_S = 200.0, 60.0, 3.0  # what is allowed
MEMBERS, SHARDS = 1_000_000, 10
MEMBER_BYTES, INDEX_S = 100.0, 60.0  # what is allowed
CROPS, CROP_S, TURNS = 100, 2.0, 9


def vox2_rows(count: int) -> Iterator[Row]:
    """Paths as in VoxCeleb2: 6,000 speakers, a video for every 7 recordings."""
    for i in range(count):
        who, video = f"id{i % 6_000:05}", f"{i // 7:011}"
        yield f"dev/aac/{who}/{video}/{i % 7:05}.m4a", who, video, np.nan


def memory(count: int) -> tuple[list, list]:
    """Bytes per utterance that stay, and at the peak while the table is built."""
    tracemalloc.start()
    utterances = Utterances.from_rows("/data", vox2_rows(count))
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    start = time.perf_counter()
    half = utterances.select(np.arange(len(utterances)) % 2 == 0)
    taken = [time.perf_counter() - start]
    facts = {"bytes_kept": kept / len(utterances), "bytes_at_peak": peak / len(utterances)}
    rows = [measure.row(f"select {len(half):,} of {count:,} rows", taken, **facts)]
    return rows, [
        measure.limit("200 bytes over those of an utterance", BYTES, [facts["bytes_kept"]])
    ]


def scan(files: int, suffix: str, folder: Path) -> tuple[list, list]:
    """Check a corpus of that many files (hard links to 100 recordings of 1 s), twice."""
    rng, root = np.random.default_rng(0), folder / suffix[1:]
    for i in range(100):
        audio.write(folder / f"{i}{suffix}", rng.normal(0, 0.1, config.SAMPLE_RATE))
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
    third = time.perf_counter() - start
    rows = [
        measure.row(f"scan {files:,} {suffix}", [first], per_s=files / first),
        measure.row(f"scan {suffix} again, remembered", [second]),
        measure.row(f"load {suffix}", [third]),
    ]
    return rows, [measure.limit(f"60 s over a scan of {files:,} {suffix}", SCAN_S, [first])]


def trials(count: int, folder: Path) -> tuple[list, list]:
    """Parse a list of the length of Vox1-E."""
    rng = np.random.default_rng(0)
    names = [f"id{10_001 + i % 1_251}/{i // 9:011}/{i % 9:05}.wav" for i in range(RECORDINGS)]
    pairs = np.sort(rng.integers(0, RECORDINGS, (count, 2)), axis=1)
    path = folder / "list_test_all2.txt"
    path.write_text(
        "".join(f"{int(a % 2)} {names[a]} {names[b]}\n" for a, b in pairs), encoding="utf-8"
    )
    start = time.perf_counter()
    found = read_trials(path)
    taken = [time.perf_counter() - start]
    assert len(found) == count and (count != TRIALS or found.name == "Vox1-E cleaned")
    rows = [measure.row(f"parse {count:,} trials", taken)]
    return rows, [measure.limit(f"3 s over parsing {count:,} trials", PARSE_S, taken)]


def index(members: int, root: Path) -> tuple[list, list]:
    """Index shards of empty members, load the index again, and find each member."""
    root.mkdir()
    names = [path for path, *_ in vox2_rows(members)]
    for shard in range(SHARDS):
        with tarfile.open(root / f"{shard}.tar", "w") as archive:
            for name in names[shard::SHARDS]:
                archive.addfile(tarfile.TarInfo(name))
                archive.members = []
    start = time.perf_counter()
    tables = shards_of(root)
    first = time.perf_counter() - start
    assert len(tables) == len(set(names))
    columns = (tables.keys, tables.shard, tables.offset, tables.size)
    kept = sum(column.nbytes for column in columns) / len(tables)
    start = time.perf_counter()
    for name in names[:100_000]:
        tables.find(name)
    lookup = time.perf_counter() - start
    rows = [
        measure.row(f"index {members:,} members", [first], bytes_kept=kept),
        measure.row(f"find {min(members, 100_000):,} members", [lookup]),
    ]
    return rows, [
        measure.limit(f"60 s over indexing {members:,} members", INDEX_S, [first]),
        measure.limit("100 bytes over those of a member", MEMBER_BYTES, [kept]),
    ]


def crops(count: int, root: Path, suffix: str, seconds: float) -> tuple[list, list]:
    """Read a crop of 2 s of each recording, from single files and from a shard.

    As training and evaluation do, a thread beside the main one reads; the main thread would hand each
    crop over to another, see `process.undisturbed`.
    """
    kind = {".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16"), ".opus": ("OGG", "OPUS")}
    container, subtype = kind[suffix]
    rng = np.random.default_rng(0)
    packed, plain = root / "packed", root / "plain"
    packed.mkdir(parents=True)
    plain.mkdir()
    names = [f"{i:04}{suffix}" for i in range(count)]
    with tarfile.open(packed / "shard.tar", "w") as archive:
        for name in names:
            wave = rng.normal(0, 0.1, round(seconds * config.SAMPLE_RATE))
            content = io.BytesIO()
            soundfile.write(content, wave, config.SAMPLE_RATE, format=container, subtype=subtype)
            (plain / name).write_bytes(content.getvalue())
            archive.add(plain / name, name)
    assert len(shards_of(packed)) == count
    samples = round(CROP_S * config.SAMPLE_RATE)
    starts = rng.integers(0, round((seconds - CROP_S) * config.SAMPLE_RATE), count).tolist()

    def read(folder: Path) -> float:
        start = time.perf_counter()
        for name, first in zip(names, starts, strict=True):
            audio.read(folder / name, first, samples)
        return time.perf_counter() - start

    with ThreadPoolExecutor(1) as reader:
        taken = [
            [reader.submit(read, folder).result() for folder in (plain, packed)]
            for _ in range(TURNS)
        ]
    single, shard = ([turn[side] for turn in taken] for side in (0, 1))
    what = f"{count} crops of {suffix} of {seconds:.0f} s"
    rows = [
        measure.row(f"{what}, single files", single, per_s=count / min(single)),
        measure.row(f"{what}, shard", shard, per_s=count / min(shard)),
    ]
    label = f"rate of {suffix} of {seconds:.0f} s from a shard"
    return rows, [measure.comparison(label, single, shard, "at least 0.8")]


def run(quick: bool) -> dict:
    """All rows and comparisons."""
    fewer = QUICK if quick else 1
    rows, comparisons = memory(UTTERANCES // fewer)
    with tempfile.TemporaryDirectory() as name:
        os.environ["XDG_CACHE_HOME"] = f"{name}/cache"
        folder = Path(name)
        parts = [trials(TRIALS // fewer, folder)]
        parts += [scan(FILES // fewer, suffix, folder) for suffix in (".flac", ".wav")]
        parts += [index(MEMBERS // fewer, folder / "shards")]
        for suffix in (".wav", ".flac", ".opus"):
            for seconds in (5.0,) if quick else (5.0, 60.0):
                root = folder / f"crops-{suffix[1:]}-{seconds:.0f}"
                parts += [crops(10 if quick else CROPS, root, suffix, seconds)]
    for one, two in parts:
        rows, comparisons = rows + one, comparisons + two
    return {"rows": rows, "comparisons": comparisons}


if __name__ == "__main__":
    measure.main("corpora", __doc__, run)
