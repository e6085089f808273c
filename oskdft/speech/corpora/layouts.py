"""The folder layout of each corpus, and its tables of speakers.

A reader yields one row per recording (path below the root, speaker, session, seconds), sorted folder
by folder, and appends the audio files that do not fit the layout to a list.
"""

import heapq
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from oskdft.speech.corpora.recording_names import AUDIO, is_recording, sort_key, without_suffix
from oskdft.speech.corpora.shards import Shards, shards_of
from oskdft.utils.console import say
from oskdft.utils.lines import fault, numbered_lines
from oskdft.utils.names import composed, forms

VOX1_IDS, VOX2_IDS = range(10_001, 11_252), range(10_001)  # idNNNNN of the speakers of each
VOX1_TEST = range(10_270, 10_310)  # idNNNNN of the 40 test speakers of VoxCeleb1
VOX_SPEAKER = re.compile(r"id\d{5}")
VOX_DEPTH = 3  # folders between the root and the speakers, at most
MUSAN = ("music", "noise", "speech")
KALDI = ("speechbox", "speechocean762", "kaldi")  # corpora with Kaldi tables
OTHER_FORMS = "match files whose names are in another unicode form; these are used"
PARTS = ("train", "dev", "test")  # folders of Kaldi tables

Row = tuple[str, str, str, float]  # path below the root, speaker, session ("": unknown), seconds
Reader = Callable[[Path, str, list[str]], Iterator[Row]]


def audio_below(root: Path) -> Iterator[str]:
    """Paths of all audio files below a folder and in its shards, sorted folder by folder.

    Raises:
        ValueError: a shard that cannot be used.

    >>> import tempfile
    >>> list(audio_below(Path(tempfile.mkdtemp())))
    []
    """
    shards = shards_of(root)
    plain = _plain_below(root)
    yield from heapq.merge(plain, shards.names(), key=sort_key) if shards else plain


def _plain_below(root: Path) -> Iterator[str]:
    """Paths of all audio files on disk below a folder; links are followed once."""
    seen = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:  # a link back to a folder above
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = os.path.relpath(folder, root).replace(os.sep, "/")
        for name in sorted(names):
            if is_recording(name):
                yield name if inside == "." else f"{inside}/{name}"


def _folder(root: Path, split: str, extra: list[str]) -> Iterator[Row]:
    """SPEAKER/**/FILE; the folders between both are the session."""
    for path in audio_below(root):
        speaker, _, rest = path.partition("/")
        if rest:
            yield path, speaker, os.path.dirname(rest), np.nan
        else:
            extra.append(path)


def _musan(root: Path, split: str, extra: list[str]) -> Iterator[Row]:
    """CATEGORY/**/FILE; only the folder directly below the root is compared with `MUSAN`."""
    for row in _folder(root, split, extra):
        if row[1] in MUSAN:
            yield row
        else:
            extra.append(row[0])


def _librispeech(root: Path, split: str, extra: list[str]) -> Iterator[Row]:
    """[SUBSET/]SPEAKER/[CHAPTER/]SPEAKER-CHAPTER-NNNN.flac; the session is the chapter.

    Split "train" is all that lies in no subset named dev-... or test-...
    """
    for path in audio_below(root):
        *folders, name = path.split("/")
        subset = next((f for f in reversed(folders) if not f.isdigit()), root.name)
        held_out = any(folder.startswith(("dev-", "test-")) for folder in folders)
        if held_out if split == "train" else split not in ("", subset):
            continue
        numbers = [folder for folder in folders if folder.isdigit()]
        parts = name.split("-")
        chapter = numbers[1] if len(numbers) > 1 else parts[1] if len(parts) == 3 else ""
        if numbers:
            yield path, numbers[0], chapter, np.nan
        else:
            extra.append(path)


def _voxceleb(in_split: Callable[[list[str], str], bool], ids: range) -> Reader:
    """[.../]idNNNNN/VIDEO/NNNNN.wav; the session is the video. Other ids are of the other VoxCeleb."""

    def read(root: Path, split: str, extra: list[str]) -> Iterator[Row]:
        shards = shards_of(root)
        has_wav = {}  # wav tree beside an m4a tree -> whether it exists
        for path in audio_below(root):
            parts = path.split("/")
            at = next((i for i, p in enumerate(parts) if VOX_SPEAKER.fullmatch(p)), len(parts))
            if len(parts) != at + 3 or int(parts[at][2:]) not in ids:
                extra.append(path)
                continue
            tree = parts[:at]
            if "aac" in tree:
                wav = "/".join("wav" if part == "aac" else part for part in tree)
                if wav not in has_wav:
                    in_shards = shards is not None and shards.has_folder(wav)
                    has_wav[wav] = in_shards or os.path.isdir(os.path.join(root, wav))
                if has_wav[wav]:
                    continue
            if not split or in_split(parts[: at + 1], split):
                yield path, parts[at], parts[at + 1], np.nan

    return read


def _vox1_split(parts: list[str], split: str) -> bool:
    return (int(parts[-1][2:]) in VOX1_TEST) == (split == "test")


def _vox2_split(parts: list[str], split: str) -> bool:
    return split == ("test" if "test" in parts else "dev")


def voxceleb_trees(root: Path, shards: Shards | None) -> list[str]:
    """Folders below the root that hold the speakers (idNNNNN), wav before aac; "." is the root.

    >>> voxceleb_trees(Path("/no/such"), None)
    []
    """
    trees = set()
    for folder, folders, _ in os.walk(root, followlinks=True):
        inside = os.path.relpath(folder, root).replace(os.sep, "/")
        if any(VOX_SPEAKER.fullmatch(name) for name in folders):
            trees.add(inside)
            folders.clear()
        elif inside.count("/") >= VOX_DEPTH:
            folders.clear()
    for name in shards.names() if shards else ():
        parts = name.split("/")
        at = next((i for i, part in enumerate(parts) if VOX_SPEAKER.fullmatch(part)), None)
        if at is not None:
            trees.add("/".join(parts[:at]) or ".")
    return sorted(trees, key=lambda tree: ("aac" in tree, tree))


def on_disk(root: Path, path: str, shards: Shards | None) -> str | None:
    """The path as it is below the root or in its shards, with any audio suffix; None if absent.

    A name that is absent is looked for in its other unicode forms.

    >>> on_disk(Path("/no/such"), "a.wav", shards=None) is None
    True
    """
    found = (_with_a_suffix(root, form, shards) for form in forms(path))
    return next(filter(None, found), None)


def _with_a_suffix(root: Path, path: str, shards: Shards | None) -> str | None:
    stem = without_suffix(path)
    suffix = path.removeprefix(stem)
    for end in dict.fromkeys((suffix, *AUDIO, *(s.upper() for s in AUDIO))):
        in_shards = shards is not None and shards.find(stem + end) >= 0
        if in_shards or os.path.isfile(os.path.join(root, stem + end)):
            return stem + end
    return None


def _kaldi_tables(root: Path, split: str, extra: list[str]) -> Iterator[Row]:
    """Kaldi tables; the suffix on disk replaces the listed suffix, since archives differ in suffix.

    Paths are absolute, or relative to the root.
    """
    listed = set()
    other_forms = 0
    shards = shards_of(root)
    inside = os.path.join(os.path.abspath(root), "")
    for part in (split,) if split else PARTS:
        require_no_segments(root / part)
        speaker = kaldi_table(root / part / "utt2spk")
        for utterance, path in kaldi_table(root / part / "wav.scp").items():
            if path.endswith("|"):
                raise ValueError(
                    f"{root / part / 'wav.scp'}: {utterance} is a command; list recordings only"
                )
            if utterance not in speaker:
                raise ValueError(f"{root / part / 'utt2spk'} lacks {utterance} of wav.scp; add it")
            path = os.path.normpath(path).removeprefix(inside)
            present = on_disk(root, path, shards) or path
            other_forms += is_other_form(path, present)
            path = present
            listed.add(path)
            yield path, speaker[utterance], "", np.nan
    if other_forms:
        say(f"{root}: {other_forms} names of wav.scp {OTHER_FORMS}")
    if not split:
        extra += [path for path in audio_below(root) if path not in listed]


def is_other_form(listed: str, present: str) -> bool:
    """Whether a file was found under another unicode form of its name.

    >>> is_other_form("Zo" + chr(0xEB) + ".wav", "Zoe" + chr(0x308) + ".flac")
    True
    """
    stem = without_suffix(listed)
    return not listed.isascii() and stem not in present and composed(stem) in composed(present)


def kaldi_table(path: Path) -> dict[str, str]:
    """A Kaldi table: key, blank or tab, value; an absent file is an empty table."""
    return dict(kaldi_rows(path)) if path.exists() else {}


def require_no_segments(folder: Path) -> None:
    """Refuse a Kaldi folder whose recordings are cut into utterances.

    Raises:
        ValueError: names the file and what to do.
    """
    if (folder / "segments").is_file():
        raise ValueError(
            f"{folder / 'segments'} cuts recordings into utterances, which is not supported; write "
            "each utterance to a file of its own and list these in wav.scp"
        )


def kaldi_rows(path: Path) -> Iterator[tuple[str, str]]:
    """Key and value of each line of a Kaldi table."""
    for number, line in numbered_lines(path, "Kaldi table"):
        key, *value = line.split(maxsplit=1)
        if not value:
            raise fault(path, number, line, "has no value", "a key and a value")
        yield key, value[0].strip()


READERS: dict[str, Reader] = {
    "speechbox": _kaldi_tables,
    "speechocean762": _kaldi_tables,
    "librispeech": _librispeech,
    "mini_librispeech": _librispeech,
    "voxceleb1": _voxceleb(_vox1_split, VOX1_IDS),
    "voxceleb2": _voxceleb(_vox2_split, VOX2_IDS),
    "musan": _musan,
    "rirs_noises": _folder,
    "folder": _folder,
    "kaldi": _kaldi_tables,
}


def transcripts_of(name: str, root: str | Path) -> dict[str, dict[str, str]]:
    """What was said, where the corpus tells: {"text" and "phones": {utterance: words or phones}}."""
    if name not in KALDI:
        return {}
    tables: dict[str, dict[str, str]] = {}
    for kind in ("text", "phones"):
        tables[kind] = {}
        for part in PARTS:
            tables[kind] |= kaldi_table(Path(root) / part / kind)
    return {kind: table for kind, table in tables.items() if table}
