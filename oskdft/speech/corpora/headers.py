"""TODO speech.corpora.headers."""

import functools
import hashlib
import itertools
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from oskdft.speech import audio
from oskdft.utils import files
from oskdft.utils.console import progress, say

THREADS = 8  # headers are waited for (disk, network), not computed
CHUNK = 256  # files handed to a thread at once
COLUMNS = {
    "size": np.int64,  # bytes; -1: no such file
    "changed": np.int64,  # time of change [ns]
    "samples": np.int64,  # per channel; -1: header not read, or not readable
    "rate": np.int32,  # Hz
    "channels": np.int16,
}


@dataclass(slots=True)
class Headers:
    """Columns [n] of `COLUMNS`, and why a header could not be read, by position."""

    columns: dict[str, np.ndarray]
    errors: dict[int, str] = field(default_factory=dict)

    def __getitem__(self, column: str) -> np.ndarray:
        return self.columns[column]

    def seconds(self) -> np.ndarray:
        """[n] float32, NaN where the header was not read.

        >>> known = {"samples": np.array([8_000, -1]), "rate": np.array([16_000, 0])}
        >>> Headers(known).seconds().tolist()
        [0.5, nan]
        """
        read = self["samples"] >= 0
        seconds = np.full(len(read), np.nan, np.float32)
        seconds[read] = self["samples"][read] / self["rate"][read]
        return seconds


def cache_dir() -> Path:
    """Where this package remembers things between runs: $XDG_CACHE_HOME/oskdft or ~/.cache/oskdft.

    >>> cache_dir().name
    'oskdft'
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "oskdft"


def remembered(root: str | Path, names: Iterable[str], total: int) -> Headers:
    """Sizes of the files now, and their headers where an earlier scan knows them.

    Args:
        root: the corpus. names: [n] paths below it; iterated once. total: n.

    >>> import tempfile
    >>> remembered(tempfile.mkdtemp(), ["absent.wav"], 1)["size"].tolist()
    [-1]
    """
    headers, keys = _on_disk(root, names, total)
    known = _load(root)
    if known is None or len(known["key"]) == 0:
        return headers
    place = np.minimum(np.searchsorted(known["key"], keys), len(known["key"]) - 1)
    same = (known["key"][place] == keys) & (headers["size"] >= 0)
    for column in ("size", "changed"):
        same &= known[column][place] == headers[column]
    for column in ("samples", "rate", "channels"):
        headers[column][same] = known[column][place[same]]
    return headers


def scan(root: str | Path, names: Callable[[], Iterable[str]], total: int) -> Headers:
    """Read the headers that are not remembered, in threads, and remember them.

    Args:
        root: the corpus. names: gives the [n] paths below it, always in the same order.
        total: n.
    Returns:
        Headers; a file that is absent has size -1, one that cannot be read is in ``errors``.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> audio.write(folder / "a.wav", np.zeros(8_000))
    >>> scan(folder, lambda: ["a.wav"], 1).seconds().tolist()
    [0.5]
    """
    headers = remembered(root, names(), total)
    wanted = (headers["samples"] < 0) & (headers["size"] >= 0)
    if not wanted.any():
        return headers
    try:
        jobs = itertools.compress(enumerate(names()), wanted.tolist())
        for row, found in progress(_read(Path(root), jobs), "reading headers", int(wanted.sum())):
            if isinstance(found, str):
                headers.errors[row] = found
            else:
                headers["samples"][row] = found.samples
                headers["rate"][row], headers["channels"][row] = found.rate, found.channels
    finally:  # an interrupted scan goes on where it stopped
        _save(root, names(), headers)
    return headers


def _on_disk(root: str | Path, names: Iterable[str], total: int) -> tuple[Headers, np.ndarray]:
    """Headers with sizes and times alone, and the keys [n] of the names."""
    columns = {name: np.full(total, -1, kind) for name, kind in COLUMNS.items()}
    keys = np.empty(total, np.uint64)
    base = os.path.join(root, "")
    for row, name in enumerate(names):
        keys[row] = _key(name)
        try:
            status = os.stat(base + name)
        except (OSError, ValueError):
            continue
        columns["size"][row], columns["changed"][row] = status.st_size, status.st_mtime_ns
    return Headers(columns), keys


def _key(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(os.fsencode(name), digest_size=8).digest(), "little")


def _read(
    root: Path, jobs: Iterator[tuple[int, str]]
) -> Iterator[tuple[int, audio.AudioInfo | str]]:
    """(row, header or reason) in order; a bounded number of files is in flight."""
    pool = ThreadPoolExecutor(THREADS)
    try:
        while group := list(itertools.islice(jobs, THREADS * CHUNK)):
            chunks = [group[first : first + CHUNK] for first in range(0, len(group), CHUNK)]
            for found in pool.map(functools.partial(_read_chunk, root), chunks):
                yield from found
    finally:
        pool.shutdown(cancel_futures=True)


def _read_chunk(root: Path, jobs: list[tuple[int, str]]) -> list[tuple[int, audio.AudioInfo | str]]:
    return [(row, _header(root, name)) for row, name in jobs]


def _header(root: Path, name: str) -> audio.AudioInfo | str:
    try:
        found = audio.info(root / name)
    except (ValueError, OSError) as error:
        return str(error)
    if found.samples <= 0:
        return f"{root / name} holds no samples; copy or download it again"
    return found


def _cache_file(root: str | Path) -> Path:
    name = hashlib.blake2b(os.fsencode(os.path.realpath(root)), digest_size=12).hexdigest()
    return cache_dir() / "scans" / f"{name}.npz"


def _load(root: str | Path) -> dict[str, np.ndarray] | None:
    path = _cache_file(root)
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in ("key", *COLUMNS)}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        say(f"{path} is damaged ({error}): not used, the headers are read again")
        return None


def _save(root: str | Path, names: Iterable[str], headers: Headers) -> None:
    """Remember the readable headers; those of other parts of the same root stay."""
    keys = np.fromiter((_key(name) for name in names), np.uint64, len(headers["size"]))
    good = headers["samples"] >= 0
    new = {"key": keys[good]} | {name: headers[name][good] for name in COLUMNS}
    known = _load(root)
    if known is not None:
        other = ~np.isin(known["key"], new["key"])
        new = {name: np.concatenate([new[name], known[name][other]]) for name in new}
    order = np.argsort(new["key"])
    try:
        with files.atomic(_cache_file(root), "wb") as file:
            np.savez(file, **{name: column[order] for name, column in new.items()})
    except OSError as error:
        say(f"the scan is not remembered ({error}); set XDG_CACHE_HOME to a writable folder")
