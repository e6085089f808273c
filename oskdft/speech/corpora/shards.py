"""Corpora in tar archives ("shards"), read without unpacking.

A member ``WAVE/1.opus`` of any ``*.tar`` directly below the root of a corpus is the recording
``<root>/WAVE/1.opus``: layouts, tables and trial lists name both forms alike. Tables are plain files
beside the shards. The index of a root's shards is cached and valid while their sizes and times of
change stay the same. Shards are uncompressed: a crop is read by seeking.
"""

import bisect
import functools
import io
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from oskdft.speech.corpora import cache
from oskdft.speech.corpora.recording_names import name_of, sort_key
from oskdft.speech.corpora.tar_archive import members
from oskdft.utils.ahead import in_threads
from oskdft.utils.console import progress

HEAD_BYTES = 1 << 10  # of a recording, read when it is opened
OPEN_SHARDS = 64  # files kept open
COLUMNS = ("shards", "status", "keys", "shard", "offset", "size")


@dataclass(frozen=True, slots=True, eq=False)
class Shards:
    """Index of the recordings in the shards of a root, in the order of `layouts.audio_below`.

    Attributes:
        root: folder of the shards.
        shards: their file names. status: [S, 2] size and time of change [ns] of each.
        keys: [n] bytes, `sort_key` of each name.
        shard: [n] int32, index into `shards`. offset, size: [n] int64, place in the shard in bytes.
    """

    root: str
    shards: list[str]
    status: np.ndarray
    keys: np.ndarray
    shard: np.ndarray
    offset: np.ndarray
    size: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)

    def names(self) -> Iterator[str]:
        """All names, in order."""
        return map(name_of, self.keys)

    def find(self, name: str, guess: int = 0) -> int:
        """Row of a name, or -1; ``guess`` is looked at first."""
        key = sort_key(name)
        if guess < len(self) and self.keys[guess] == key:
            return guess
        row = bisect.bisect_left(self.keys, key)
        return row if row < len(self) and self.keys[row] == key else -1

    def has_folder(self, folder: str) -> bool:
        """Whether a recording is in this folder or below it."""
        key = os.fsencode(folder).replace(b"/", b"\0") + b"\0"
        row = bisect.bisect_left(self.keys, key)
        return row < len(self) and self.keys[row].startswith(key)

    def stat(self, row: int) -> tuple[int, int]:
        """Size of a recording, and the time of change [ns] of its shard."""
        return int(self.size[row]), int(self.status[self.shard[row], 1])

    def open(self, row: int) -> tuple["Member", str]:
        """A recording as a file object, and its path and shard for messages.

        Raises:
            ValueError: an empty recording, or a shard that is absent or changed since it was indexed.
        """
        shard = self.shard[row]
        path = os.path.join(self.root, self.shards[shard])
        name = f"{os.path.join(self.root, name_of(self.keys[row]))} (in {self.shards[shard]})"
        file = _opened(path, *self.status[shard].tolist())
        file.require_unchanged()
        if not self.size[row]:
            raise ValueError(f"{name} is empty; pack the shard again")
        return Member(file, int(self.offset[row]), int(self.size[row])), name


class _Shard(io.FileIO):
    """An open shard; reads name their offset, so that threads and forked processes can share it."""

    def __init__(self, path: str, size: int, changed: int) -> None:
        try:
            super().__init__(path)
        except OSError as error:
            raise ValueError(f"{path}: {error.strerror}; restore the shard") from None
        self.status = (size, changed)

    def require_unchanged(self) -> None:
        status = os.fstat(self.fileno())
        if (status.st_size, status.st_mtime_ns) != self.status:
            raise ValueError(f"{self.name} changed since it was indexed; run the command again")

    def __del__(self) -> None:
        self.close()


_opened = functools.lru_cache(maxsize=OPEN_SHARDS)(_Shard)


class Member:
    """Bytes offset to offset + size of a shard as a file that is read.

    A WAV header is read in twelve pieces: they come from ``head``. No `io.RawIOBase`, which takes
    a tenth of the time of a crop.
    """

    __slots__ = ("file", "head", "offset", "position", "shard", "size")

    def __init__(self, shard: _Shard, offset: int, size: int) -> None:
        self.shard = shard  # stays open
        self.file = shard.fileno()
        self.offset = offset
        self.size = size
        self.position = 0
        self.head = os.pread(self.file, min(size, HEAD_BYTES), offset)

    def __enter__(self) -> "Member":
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing: the shard is shared."""

    def tell(self) -> int:
        """Next byte to be read, from 0 on."""
        return self.position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move as `io.IOBase.seek` does."""
        if whence == os.SEEK_CUR:
            offset += self.position
        elif whence == os.SEEK_END:
            offset += self.size
        self.position = max(offset, 0)
        return self.position

    def readinto(self, buffer: memoryview) -> int:
        """Fill the buffer from the position on; returns the number of bytes read."""
        start = self.position
        end = start + len(buffer)
        if end > self.size:
            end = max(self.size, start)
            buffer = memoryview(buffer)[: end - start]
        if end <= HEAD_BYTES:
            buffer[:] = self.head[start:end]
        else:
            end = start + os.preadv(self.file, (buffer,), self.offset + start)
        self.position = end
        return end - start

    def read(self, count: int = -1) -> bytes:
        """At most ``count`` bytes from the position on; -1 reads to the end."""
        left = max(self.size - self.position, 0)
        data = bytearray(left if count < 0 else min(count, left))
        return bytes(data[: self.readinto(data)])


_indexed: dict[str, Shards] = {}  # roots with shards, as absolute paths


def shards_of(root: str | Path) -> Shards | None:
    """The index of the shards directly below a root, from the cache if it is valid; None without.

    Raises:
        ValueError: a shard that is no sound tar archive, or a name that occurs twice; the message
            names shard, member and fix.

    >>> shards_of("/no/such/folder") is None
    True
    """
    root = os.path.abspath(root)
    shards, status = _shards_below(root)
    if not shards:
        _indexed.pop(root, None)
        return None
    known = _indexed.get(root)
    if known is None and (stored := cache.load("shards", root, COLUMNS)) is not None:
        known = Shards(root, **stored | {"shards": [*map(os.fsdecode, stored["shards"])]})
    if known is None or known.shards != shards or not np.array_equal(known.status, status):
        known = _index(root, shards, status)
        arrays = {column: getattr(known, column) for column in COLUMNS}
        cache.save("shards", root, arrays | {"shards": np.array([*map(os.fsencode, shards)])})
    _refuse_doubles(known, "")
    _indexed[root] = known
    return known


def _shards_below(root: str) -> tuple[list[str], np.ndarray]:
    """Names of the shards, sorted, and their sizes and times of change [S, 2]."""
    try:
        with os.scandir(root) as entries:
            status = {
                entry.name: (entry.stat().st_size, entry.stat().st_mtime_ns)
                for entry in entries
                if entry.name.endswith(".tar") and entry.name[0] != "." and entry.is_file()
            }
    except OSError:  # no such folder, or not readable: the reader of the corpus reports it
        status = {}
    names = sorted(status)
    return names, np.array([status[name] for name in names], np.int64).reshape(-1, 2)


def _index(root: str, shards: list[str], status: np.ndarray) -> Shards:
    """Read the headers of all members of all shards."""
    paths = [os.path.join(root, name) for name in shards]
    parts = list(progress(in_threads(members, paths), "indexing shards", len(shards)))
    keys, offset, size = (np.concatenate(column) for column in zip(*parts, strict=True))
    shard = np.repeat(np.arange(len(shards), dtype=np.int32), [len(part[0]) for part in parts])
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    shard = shard[order]
    twice = np.flatnonzero(keys[1:] == keys[:-1])
    if len(twice):
        first, second = (shards[number] for number in shard[twice[0] : twice[0] + 2])
        name = name_of(keys[twice[0]])
        raise ValueError(f"{root}: {name} is in {first} and again in {second}; take one out")
    return Shards(root, shards, status, keys, shard, offset[order], size[order])


def _refuse_doubles(shards: Shards, folder: str) -> None:
    """Raise if a recording in a shard is also a plain file; compares the shared folders alone."""
    with os.scandir(os.path.join(shards.root, folder)) as entries:
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir():
                if shards.has_folder(name):
                    _refuse_doubles(shards, name)
            elif (row := shards.find(name)) >= 0:
                shard = shards.shards[shards.shard[row]]
                raise ValueError(
                    f"{shards.root}: {name} is a file and also in {shard}; take one out"
                )


def open_recording(path: str | Path) -> tuple[str | Member, str]:
    """What a decoder opens for a path: the path of a plain file, or a file object in a shard.

    Returns:
        (path or file object, name for messages: the path, and the shard where it is in one).
    Raises:
        ValueError: a pipe or a device; as `shards_of` and `Shards.open`.

    >>> open_recording("/no/such/file.wav")
    ('/no/such/file.wav', '/no/such/file.wav')
    """
    path = os.fspath(path)
    located = _locate(path)
    if located is None:
        _refuse_endless(path)
        return path, path
    shards, row = located
    return shards.open(row)


def _refuse_endless(path: str) -> None:
    """Refuse a pipe or a device, which a decoder would wait for or read without end."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return  # the decoder reports it
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ValueError(f"{path} is a pipe or a device, no file; store the recording in a file")


def _locate(path: str) -> tuple[Shards, int] | None:
    """Index and row of a path in a shard; None for a plain file and for an absent one."""
    path = os.path.abspath(path)
    if _indexed and (located := _row_of(path, _indexed.get)) is not None:
        return located
    if os.path.exists(path):
        return None
    folder = os.path.dirname(path)
    parent_is_missing = not os.path.isdir(folder)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    # an unknown folder of archives is indexed only if the missing path leads through it
    nearest = folder if parent_is_missing else None

    def indexed_before(root: str) -> Shards | None:
        known = root == nearest or cache.cache_file("shards", root).exists()
        return shards_of(root) if known else None

    return _row_of(path, indexed_before)


def _row_of(path: str, index: Callable[[str], Shards | None]) -> tuple[Shards, int] | None:
    """Index and row of a path, trying each folder above it as a root."""
    root = path
    while (parent := os.path.dirname(root)) != root:
        root = parent
        shards = index(root)
        if shards is not None and (row := shards.find(path[len(root) :].lstrip("/"))) >= 0:
            return shards, row
    return None
