"""What is known of a corpus before any audio is decoded: published facts, and its files' headers.

Headers are read once and remembered. A corpus may lie on a read-only disk, so they are kept in the
user's cache folder: one file per corpus root, in columns, looked up by a hash of the relative path
and trusted only while a file's size and time of change are the same. Letters: n files.
"""

import functools
import hashlib
import itertools
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from oskdft import audio, files
from oskdft.console import progress, say

THREADS = 8  # headers are waited for (disk, network), not computed
CHUNK = 256  # files handed to a thread at once
COLUMNS = {
    "size": np.int64,  # bytes; -1: no such file
    "changed": np.int64,  # time of change [ns]
    "samples": np.int64,  # per channel; -1: header not read, or not readable
    "rate": np.int32,  # Hz
    "channels": np.int16,
}


@dataclass(frozen=True, slots=True)
class Archive:
    """A public archive: path below the mirror, published MD5 or None, bytes (0: unknown)."""

    path: str
    md5: str | None
    size: int


@dataclass(frozen=True, slots=True)
class KnownList:
    """A published trial list: title, length P, usual file names, how its paths begin."""

    title: str
    trials: int
    names: tuple[str, ...]
    paths: str  # regular expression


@dataclass(frozen=True, slots=True)
class Corpus:
    """What is known about a corpus.

    `expected` holds (speakers, utterances) per split, None where that is not known; for noise and
    rooms "speakers" are categories.
    """

    name: str
    title: str
    kind: Literal["speech", "noise", "rooms"]
    licence: str
    size: str
    how_to: str  # one line: how to get it, where it goes
    layout: str  # what the reader expects below the root
    expected: dict[str, tuple[int | None, int | None]]
    folders: tuple[str, ...] = ()  # names the folder usually has
    archives: tuple[Archive, ...] = ()
    trials: tuple[KnownList, ...] = ()
    suffix: str = ""  # of the files as published


_VOX_PATHS = r"(.*/)?id\d{5}/"
_REGISTER = (
    "register at https://www.robots.ox.ac.uk/~vgg/data/voxceleb/ (the terms come with the "
    "registration), unpack the parts you are sent, then give the folder that holds the speakers "
    "(idNNNNN) or {}: --root, or $OSKDFT_DATA/{}"
)
_GET = "oskdft data get {}"
_VOX_LICENCE = "Creative Commons, see the registration; the recordings stay their owners'"
_VOX_LISTS = (
    KnownList("Vox1-O original", 37_720, ("veri_test.txt",), _VOX_PATHS),
    KnownList("Vox1-O cleaned", 37_611, ("veri_test2.txt",), _VOX_PATHS),
    KnownList("Vox1-E cleaned", 579_818, ("list_test_all2.txt",), _VOX_PATHS),
    KnownList("Vox1-H cleaned", 550_894, ("list_test_hard2.txt",), _VOX_PATHS),
)
_CORPORA = (
    Corpus(
        "synthetic", "Synthetic voices (eSpeak NG), for teaching", "speech",
        "made by this package, free to use", "as many voices as you ask for",
        "oskdft data make synthetic --out DIR", "utterances.csv and the files it names", {},
    ),
    Corpus(
        "speechocean762", "English read by Mandarin speakers, half of them children", "speech",
        "free for commercial and non-commercial use (OpenSLR 101)", "0.5 GB",
        _GET.format("speechocean762"),
        "train/ and test/ with wav.scp and utt2spk, audio in WAVE/",
        {"train": (125, 2_500), "test": (125, 2_500)},
        archives=(Archive("101/speechocean762.tar.gz", None, 0),),
        trials=(
            KnownList(
                "speechocean762 same gender", 22_240, ("trials_test_samegender.txt",),
                "WAVE/SPEAKER",
            ),
        ),
        suffix=".WAV",
    ),
    Corpus(
        "librispeech", "LibriSpeech, read English books", "speech", "CC BY 4.0",
        "6.3 GB (train-clean-100)",
        "download the parts you want from https://www.openslr.org/12/ and unpack them to "
        "$OSKDFT_DATA/librispeech",
        "SPEAKER/CHAPTER/SPEAKER-CHAPTER-NNNN.flac, below train-clean-100/ and so on or not",
        {
            "train-clean-100": (251, 28_539), "train-clean-360": (921, 104_014),
            "train-other-500": (1_166, 148_688), "dev-clean": (40, 2_703), "dev-other": (33, 2_864),
            "test-clean": (40, 2_620), "test-other": (33, 2_939),
        },
        folders=("LibriSpeech",), suffix=".flac",
    ),
    Corpus(
        "mini_librispeech", "Mini LibriSpeech, a small part of it", "speech", "CC BY 4.0",
        "0.5 GB", _GET.format("mini_librispeech"),
        "train-clean-5/ and dev-clean-2/ in the layout of LibriSpeech",
        {"train-clean-5": (None, None), "dev-clean-2": (None, None)},
        archives=(
            Archive("31/train-clean-5.tar.gz", "5df7d4e78065366204ca6845bb08f490", 332_954_390),
            Archive("31/dev-clean-2.tar.gz", "6d7ab67ac6a1d2c993d050e16d61080d", 126_046_265),
        ),
        suffix=".flac",
    ),
    Corpus(
        "voxceleb1", "VoxCeleb1, interviews of celebrities", "speech", _VOX_LICENCE,
        "about 350 hours", _REGISTER.format("wav/", "voxceleb1"),
        "[dev/|test/][wav/]idNNNNN/VIDEO/NNNNN.wav",
        {"dev": (1_211, 148_642), "test": (40, 4_874)},
        folders=("VoxCeleb1",), trials=_VOX_LISTS, suffix=".wav",
    ),
    Corpus(
        "voxceleb2", "VoxCeleb2, interviews of celebrities", "speech", _VOX_LICENCE,
        "about 2,400 hours", _REGISTER.format("dev/ and test/", "voxceleb2"),
        "[dev/|test/][aac/|wav/]idNNNNN/VIDEO/NNNNN.m4a, or .wav (m4a has to be converted: "
        "ffmpeg -i IN.m4a -ac 1 -ar 16000 OUT.wav)",
        {"dev": (5_994, 1_092_009), "test": (None, None)}, folders=("VoxCeleb2",),
    ),
    Corpus(
        "musan", "MUSAN: noise, speech, music", "noise", "CC BY 4.0", "11 GB", _GET.format("musan"),
        "noise/, speech/, music/ with audio at any depth", {"": (3, 2_016)},
        archives=(Archive("17/musan.tar.gz", "0c472d4fc0c5141eca47ad1ffeb2a7df", 11_086_114_085),),
        suffix=".wav",
    ),
    Corpus(
        "rirs_noises", "Room impulse responses, real and simulated, and noises", "rooms",
        "Apache 2.0", "1.3 GB", _GET.format("rirs_noises"),
        "CATEGORY/**/FILE, such as simulated_rirs/", {"": (None, None)},
        folders=("RIRS_NOISES",),
        archives=(
            Archive("28/rirs_noises.zip", "e6f48e257286e05de56413b4779d8ffb", 1_311_166_223),
        ),
        suffix=".wav",
    ),
    Corpus(
        "folder", "Recordings of your own", "speech", "yours", "any",
        "put each speaker's recordings into a folder of its own and pass --root",
        "SPEAKER/**/FILE", {},
    ),
)  # fmt: skip
CORPORA = {corpus.name: corpus for corpus in _CORPORA}


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
