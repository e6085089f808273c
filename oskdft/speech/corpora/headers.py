"""Headers of a corpus' recordings, read once and remembered between runs.

A row of the cache is found by a hash of the recording's relative path and is valid while the
recording keeps its size, and the recording or its shard the time of change. Letter: n files.
"""

import hashlib
import itertools
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from oskdft.speech import audio
from oskdft.speech.corpora import cache
from oskdft.speech.corpora.shards import shards_of
from oskdft.utils.ahead import in_threads
from oskdft.utils.console import progress

COLUMNS = {
    "size": np.int64,  # bytes; -1: no such file
    "changed": np.int64,  # time of change [ns]
    "samples": np.int64,  # per channel; -1: header not read or not readable
    "rate": np.int32,  # Hz
    "channels": np.int16,
}


@dataclass(slots=True)
class Headers:
    """Columns [n] named in `COLUMNS`, and the error of each unreadable header by row."""

    columns: dict[str, np.ndarray]
    errors: dict[int, str] = field(default_factory=dict)

    def __getitem__(self, column: str) -> np.ndarray:
        return self.columns[column]

    def seconds(self) -> np.ndarray:
        """[n] float32, NaN where the header was not read.

        >>> columns = {"samples": np.array([8_000, -1]), "rate": np.array([16_000, 0])}
        >>> Headers(columns).seconds().tolist()
        [0.5, nan]
        """
        read = self["samples"] >= 0
        seconds = np.full(len(read), np.nan, np.float32)
        seconds[read] = self["samples"][read] / self["rate"][read]
        return seconds


def remembered(root: str | Path, names: Iterable[str], total: int) -> Headers:
    """Present sizes of the files, and the headers that an earlier `scan` stored for these sizes.

    Args:
        root: folder of the corpus. names: [n] paths below it; iterated once. total: n.

    >>> import tempfile
    >>> remembered(tempfile.mkdtemp(), ["absent.wav"], 1)["size"].tolist()
    [-1]
    """
    headers, keys = _on_disk(root, names, total)
    stored = cache.load("scans", root, ("key", *COLUMNS))
    if stored is None or len(stored["key"]) == 0:
        return headers
    row = np.minimum(np.searchsorted(stored["key"], keys), len(stored["key"]) - 1)
    valid = (stored["key"][row] == keys) & (headers["size"] >= 0)
    for column in ("size", "changed"):
        valid &= stored[column][row] == headers[column]
    for column in ("samples", "rate", "channels"):
        headers[column][valid] = stored[column][row[valid]]
    return headers


def scan(root: str | Path, names: Callable[[], Iterable[str]], total: int) -> Headers:
    """Read the headers that are not remembered, in threads, and remember them.

    Args:
        root: folder of the corpus.
        names: returns the [n] paths below ``root``, in the same order at every call.
        total: n.
    Returns:
        Headers; an absent file has size -1, an unreadable file has an entry in ``errors``.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> audio.write(folder / "a.wav", np.zeros(8_000))
    >>> scan(folder, lambda: ["a.wav"], 1).seconds().tolist()
    [0.5]
    """
    headers = remembered(root, names(), total)
    unread = (headers["samples"] < 0) & (headers["size"] >= 0)
    if not unread.any():
        return headers
    try:
        rows = np.flatnonzero(unread).tolist()
        paths = (Path(root) / name for name in itertools.compress(names(), unread))
        read = progress(in_threads(_header, paths), "reading headers", len(rows))
        for row, header in zip(rows, read, strict=True):
            if isinstance(header, str):
                headers.errors[row] = header
            else:
                headers["samples"][row] = header.samples
                headers["rate"][row] = header.rate
                headers["channels"][row] = header.channels
    finally:  # the next call after an interruption reads the rest only
        _save(root, names(), headers)
    return headers


def _on_disk(root: str | Path, names: Iterable[str], total: int) -> tuple[Headers, np.ndarray]:
    """Headers with sizes and times only, and the key [n] of each name."""
    columns = {name: np.full(total, -1, kind) for name, kind in COLUMNS.items()}
    keys = np.empty(total, np.uint64)
    base = os.path.join(root, "")
    shards, member = shards_of(root), -1
    for row, name in enumerate(names):
        keys[row] = _key(name)
        if shards is not None and (found := shards.find(name, guess=member + 1)) >= 0:
            member = found
            columns["size"][row], columns["changed"][row] = shards.stat(member)
            continue
        try:
            status = os.stat(name if name.startswith("/") else base + name)
        except (OSError, ValueError):
            continue
        columns["size"][row] = status.st_size
        columns["changed"][row] = status.st_mtime_ns
    return Headers(columns), keys


def _key(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(os.fsencode(name), digest_size=8).digest(), "little")


def _header(path: Path) -> audio.AudioInfo | str:
    """The header of a file, or why it cannot be read."""
    try:
        header = audio.info(path)
    except (ValueError, OSError) as error:
        return str(error)
    if header.samples <= 0:
        return f"{path} holds no samples; copy or download it again"
    return header


def _save(root: str | Path, names: Iterable[str], headers: Headers) -> None:
    """Store the readable headers; stored headers of other files below the root stay."""
    keys = np.fromiter((_key(name) for name in names), np.uint64, len(headers["size"]))
    readable = headers["samples"] >= 0
    columns = {"key": keys[readable]} | {name: headers[name][readable] for name in COLUMNS}
    stored = cache.load("scans", root, ("key", *COLUMNS))
    if stored is not None:
        other = ~np.isin(stored["key"], columns["key"])
        columns = {name: np.concatenate([columns[name], stored[name][other]]) for name in columns}
    order = np.argsort(columns["key"])
    cache.save("scans", root, {name: column[order] for name, column in columns.items()})
