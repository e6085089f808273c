"""The corpora that the package knows: published facts, and where each is on this machine."""

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from oskdft.utils.files import ASSETS

SPEECHBOX = ASSETS / "speech"  # the corpus in the package


@dataclass(frozen=True, slots=True)
class Archive:
    """A public archive: path below `OPENSLR`, published MD5 or None, bytes (0: unknown)."""

    path: str
    md5: str | None
    size: int


@dataclass(frozen=True, slots=True)
class KnownList:
    """A published trial list: title, number of trials P, usual file names, start of its paths."""

    title: str
    trials: int
    names: tuple[str, ...]
    paths: str  # regular expression


@dataclass(frozen=True, slots=True)
class Corpus:
    """Published facts about a corpus.

    `expected` holds (speakers, utterances) per split, None where the number is not known; for noise
    and rooms "speakers" are categories.
    """

    name: str
    title: str
    kind: Literal["speech", "noise", "rooms"]
    licence: str
    size: str
    how_to: str  # one line: how to get the corpus, where to put it
    layout: str  # the files that the reader expects below the root
    expected: dict[str, tuple[int | None, int | None]]
    folders: tuple[str, ...] = ()  # usual names of its folder
    archives: tuple[Archive, ...] = ()
    trials: tuple[KnownList, ...] = ()
    suffix: str = ""  # suffix of the published files


OPENSLR = "https://www.openslr.org/resources"

_VOX_LICENCE = "Creative Commons, see the registration; the recordings stay their owners'"
_VOX_PATHS = r"(.*/)?id\d{5}/"
_VOX_LISTS = (
    KnownList("Vox1-O original", 37_720, ("veri_test.txt",), _VOX_PATHS),
    KnownList("Vox1-O cleaned", 37_611, ("veri_test2.txt",), _VOX_PATHS),
    KnownList("Vox1-E cleaned", 579_818, ("list_test_all2.txt",), _VOX_PATHS),
    KnownList("Vox1-H cleaned", 550_894, ("list_test_hard2.txt",), _VOX_PATHS),
)


def _register(name: str, parts: str) -> str:
    return (
        "register at https://www.robots.ox.ac.uk/~vgg/data/voxceleb/ (the terms come with the "
        "registration), unpack the parts you are sent, then give the folder that holds the "
        f"speakers (idNNNNN) or {parts}: --root, or $OSKDFT_DATA/{name}"
    )


_CORPORA = (
    Corpus(
        name="speechbox",
        title="the speech in the package: speechocean762 as Ogg Opus of 18 kbit/s, test in part",
        kind="speech",
        licence="Apache-2.0",
        size="33 MB",
        how_to="it comes with the package; install the package again",
        layout="shards, and train/ and test/ with wav.scp and utt2spk",
        expected={"train": (125, 2_500), "test": (80, 640)},
        trials=(
            KnownList(
                "speechbox, same gender and age group",
                20_209,
                ("trials_test_samegender.txt",),
                "WAVE/SPEAKER",
            ),
        ),
        suffix=".opus",
    ),
    Corpus(
        name="speechocean762",
        title="English read by Mandarin speakers, half of them children",
        kind="speech",
        licence="free for commercial and non-commercial use (OpenSLR 101)",
        size="0.5 GB",
        how_to="oskdft data get speechocean762",
        layout="train/ and test/ with wav.scp and utt2spk, audio in WAVE/",
        expected={"train": (125, 2_500), "test": (125, 2_500)},
        archives=(Archive("101/speechocean762.tar.gz", None, 520 << 20),),
        trials=(
            KnownList(
                "speechocean762 same gender",
                22_240,
                ("trials_test_samegender.txt",),
                "WAVE/SPEAKER",
            ),
        ),
        suffix=".WAV",
    ),
    Corpus(
        name="librispeech",
        title="LibriSpeech, read English books",
        kind="speech",
        licence="CC BY 4.0",
        size="6.3 GB (train-clean-100)",
        how_to="download the parts you want from https://www.openslr.org/12/ and unpack them to "
        "$OSKDFT_DATA/librispeech",
        layout="SPEAKER/CHAPTER/SPEAKER-CHAPTER-NNNN.flac, below train-clean-100/ and so on or not",
        expected={
            "train-clean-100": (251, 28_539),
            "train-clean-360": (921, 104_014),
            "train-other-500": (1_166, 148_688),
            "dev-clean": (40, 2_703),
            "dev-other": (33, 2_864),
            "test-clean": (40, 2_620),
            "test-other": (33, 2_939),
        },
        folders=("LibriSpeech",),
        suffix=".flac",
    ),
    Corpus(
        name="mini_librispeech",
        title="Mini LibriSpeech, a small part of it",
        kind="speech",
        licence="CC BY 4.0",
        size="0.5 GB",
        how_to="oskdft data get mini_librispeech",
        layout="train-clean-5/ and dev-clean-2/ in the layout of LibriSpeech",
        expected={"train-clean-5": (None, None), "dev-clean-2": (None, None)},
        archives=(
            Archive("31/train-clean-5.tar.gz", "5df7d4e78065366204ca6845bb08f490", 332_954_390),
            Archive("31/dev-clean-2.tar.gz", "6d7ab67ac6a1d2c993d050e16d61080d", 126_046_265),
        ),
        suffix=".flac",
    ),
    Corpus(
        name="voxceleb1",
        title="VoxCeleb1, interviews of celebrities",
        kind="speech",
        licence=_VOX_LICENCE,
        size="about 350 hours",
        how_to=_register("voxceleb1", "wav/"),
        layout="[dev/|test/][wav/]idNNNNN/VIDEO/NNNNN.wav",
        expected={"dev": (1_211, 148_642), "test": (40, 4_874)},
        folders=("VoxCeleb1",),
        trials=_VOX_LISTS,
        suffix=".wav",
    ),
    Corpus(
        name="voxceleb2",
        title="VoxCeleb2, interviews of celebrities",
        kind="speech",
        licence=_VOX_LICENCE,
        size="about 2,400 hours",
        how_to=_register("voxceleb2", "dev/ and test/"),
        layout="[dev/|test/][aac/|wav/]idNNNNN/VIDEO/NNNNN.m4a, or .wav (m4a has to be converted: "
        "oskdft data pack voxceleb2 --root IN --out OUT)",
        expected={"dev": (5_994, 1_092_009), "test": (None, None)},
        folders=("VoxCeleb2",),
    ),
    Corpus(
        name="musan",
        title="MUSAN: noise, speech, music",
        kind="noise",
        licence="CC BY 4.0",
        size="11 GB",
        how_to="oskdft data get musan",
        layout="noise/, speech/, music/ with audio at any depth",
        expected={"": (3, 2_016)},
        archives=(Archive("17/musan.tar.gz", "0c472d4fc0c5141eca47ad1ffeb2a7df", 11_086_114_085),),
        suffix=".wav",
    ),
    Corpus(
        name="rirs_noises",
        title="Room impulse responses, real and simulated, and noises",
        kind="rooms",
        licence="Apache 2.0",
        size="1.3 GB",
        how_to="oskdft data get rirs_noises",
        layout="CATEGORY/**/FILE, such as simulated_rirs/",
        expected={"": (None, None)},
        folders=("RIRS_NOISES",),
        archives=(
            Archive("28/rirs_noises.zip", "e6f48e257286e05de56413b4779d8ffb", 1_311_166_223),
        ),
        suffix=".wav",
    ),
    Corpus(
        name="folder",
        title="Recordings of your own",
        kind="speech",
        licence="yours",
        size="any",
        how_to="put each speaker's recordings into a folder of its own and pass --root",
        layout="SPEAKER/**/FILE",
        expected={},
    ),
    Corpus(
        name="kaldi",
        title="Recordings of your own with Kaldi tables",
        kind="speech",
        licence="yours",
        size="any",
        how_to="write wav.scp and utt2spk for train/ (and dev/, test/) and pass --root",
        layout="train/, and dev/ and test/ where there are such speakers, with wav.scp and utt2spk",
        expected={"train": (None, None), "dev": (None, None), "test": (None, None)},
    ),
)
CORPORA = {corpus.name: corpus for corpus in _CORPORA}
OWN = ("folder", "kaldi")  # layouts for recordings of one's own; their folder is always named


def known(name: str) -> Corpus:
    """The catalogue's entry of a corpus.

    >>> known("musan").licence
    'CC BY 4.0'
    """
    if name not in CORPORA:
        matches = difflib.get_close_matches(name, CORPORA, 1)
        guess = f"did you mean {matches[0]}?" if matches else f"known are {', '.join(CORPORA)}"
        raise ValueError(f"{name!r} is not a known corpus; {guess}")
    return CORPORA[name]


def find_root(name: str, root: str | Path = "", setting: str = "--root") -> Path:
    """The folder of a corpus: ``root``, else $OSKDFT_DATA/<name>, else ./data/<name>.

    Speechbox is in the package.

    Args:
        root: the folder; empty: search. setting: the option that sets ``root``, for messages.
    Raises:
        FileNotFoundError: no such folder; names licence, size, and the way to get the corpus.

    >>> find_root("musan", "/no/such/folder")
    Traceback (most recent call last):
    ...
    FileNotFoundError: musan: /no/such/folder is not a folder; correct the root (--root)
    """
    corpus = known(name)
    if name == "speechbox" and not root:
        return SPEECHBOX
    if root:
        if not Path(root).is_dir():
            raise FileNotFoundError(f"{name}: {root} is not a folder; correct the root ({setting})")
        return Path(root)
    candidates = [base / folder for base in data_folders() for folder in (name, *corpus.folders)]
    for path in candidates:
        if name not in OWN and path.is_dir():
            return path
    raise FileNotFoundError(
        f"{name} ({corpus.title}; {corpus.licence}; {corpus.size}) is not at {candidates[0]}; "
        f"get it: {corpus.how_to}; or name its folder ({setting})"
    )


def data_folders() -> list[Path]:
    """Folders that are searched for corpora; downloads go into the first.

    >>> data_folders()[-1].as_posix()
    'data'
    """
    data = os.environ.get("OSKDFT_DATA", "")
    return [Path(base) for base in (data, "data") if base]


def list_corpora() -> list[dict]:
    """One row per corpus, in a fixed order: name, title, licence, size, here, root, how_to.

    >>> [row["name"] for row in list_corpora()][:2]
    ['speechbox', 'speechocean762']
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
