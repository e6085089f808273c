"""What is known of a corpus before any audio is decoded: published facts, and its files' headers.

Headers are read once and remembered. A corpus may lie on a read-only disk, so they are kept in the
user's cache folder: one file per corpus root, in columns, looked up by a hash of the relative path
and trusted only while a file's size and time of change are the same. Letters: n files.
"""

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


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


HOME = "https://www.openslr.org/resources"


def known(name: str) -> Corpus:
    """The entry of a corpus.

    >>> known("musan").licence
    'CC BY 4.0'
    """
    if name not in CORPORA:
        near = difflib.get_close_matches(name, CORPORA, 1)
        guess = f"did you mean {near[0]}?" if near else f"known are {', '.join(CORPORA)}"
        raise ValueError(f"{name!r} is not a known corpus; {guess}")
    return CORPORA[name]


def find_root(name: str, root: str | Path = "", setting: str = "--root") -> Path:
    """The folder of a corpus: ``root``, else $OSKDFT_DATA/<name>, else ./data/<name>.

    Args:
        setting: where the caller takes ``root`` from, for the message.
    Raises:
        FileNotFoundError: nowhere; says how to get it, under which licence, where to put it.

    >>> find_root("musan", "/no/such/folder")
    Traceback (most recent call last):
    ...
    FileNotFoundError: musan: /no/such/folder is not a folder; correct the root (--root)
    """
    corpus = known(name)
    if root:
        if not Path(root).is_dir():
            raise FileNotFoundError(f"{name}: {root} is not a folder; correct the root ({setting})")
        return Path(root)
    tried = [base / folder for base in data_folders() for folder in (name, *corpus.folders)]
    for path in tried:
        if name != "folder" and path.is_dir():
            return path
    raise FileNotFoundError(
        f"{name} ({corpus.title}; {corpus.licence}; {corpus.size}) is not at {tried[0]}; "
        f"get it: {corpus.how_to}; or name its folder ({setting})"
    )


def data_folders() -> list[Path]:
    """Where corpora are looked for; the first is where they are put.

    >>> data_folders()[-1].as_posix()
    'data'
    """
    data = os.environ.get("OSKDFT_DATA", "")
    return [Path(base) for base in (data, "data") if base]


def list_corpora() -> list[dict]:
    """Known corpora in a fixed order: name, title, licence, size, here, root, how_to.

    >>> [row["name"] for row in list_corpora()][:2]
    ['synthetic', 'speechocean762']
    """
    rows = []
    for corpus in CORPORA.values():
        try:
            root = str(find_root(corpus.name))
        except FileNotFoundError:
            root = ""
        facts = {key: getattr(corpus, key) for key in ("name", "title", "licence", "size")}
        rows.append({**facts, "here": bool(root), "root": root, "how_to": corpus.how_to})
    return rows
