"""The tables of a corpus beside its shards: paths with the new suffix, left-out utterances taken out."""

import hashlib
import itertools
import os
import re
from collections.abc import Callable
from pathlib import Path

from oskdft.speech.corpora.recode import member_name
from oskdft.speech.corpora.recording_names import AUDIO, without_suffix
from oskdft.speech.corpora.trials import LABELS, is_trial
from oskdft.utils import files
from oskdft.utils.console import say
from oskdft.utils.lines import fields

KALDI_TABLES = ("utt2spk", "text", "spk2utt", "spk2gender", "spk2age", "phones", "wav.scp")
SPEAKER_TABLES = ("SPEAKERS.TXT", "vox1_meta.csv", "vox2_meta.csv")  # may be above the root
TEXTS = (".txt", ".csv", ".tsv", ".md", ".json", ".scp", "")
LEGAL = re.compile(r"(LICEN[CS]E|NOTICE|README|SOURCES|COPYING|ANNOTATIONS)\b", re.IGNORECASE)
LEGAL_DEPTH, LEGAL_FOLDERS = 2, 1_000  # licences are looked for; more folders are speakers
LARGEST_TABLE = 256 << 20  # bytes


def tables_of(root: Path, own: tuple[str, ...]) -> list[Path]:
    """Files that belong beside the shards: texts at the root, Kaldi tables and licences below it.

    Args:
        root: folder of the corpus. own: names of files that the command writes itself.

    >>> import tempfile
    >>> root = Path(tempfile.mkdtemp())
    >>> _ = (root / "trials.txt").write_text("1 a/1.wav a/2.wav")
    >>> [path.name for path in tables_of(root, own=("manifest.json",))]
    ['trials.txt']
    """
    tables: list[Path] = []
    level = [str(root)]
    for depth in range(LEGAL_DEPTH + 1):
        folders: list[str] = []
        for folder in level:
            for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
                if entry.name.startswith(".") or entry.name in own:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif _is_table(entry, depth):
                    tables.append(Path(entry.path))
        if len(folders) > LEGAL_FOLDERS:
            break
        level = folders
    here = {path.name for path in tables}
    for folder, name in itertools.product(root.resolve().parents[:2], SPEAKER_TABLES):
        if name not in here and (folder / name).is_file():
            here.add(name)
            tables.append(folder / name)
    return tables


def _is_table(entry: os.DirEntry, depth: int) -> bool:
    """Whether a file that is ``depth`` folders below the root belongs beside the shards."""
    if depth == 0:
        named = os.path.splitext(entry.name)[1].lower() in TEXTS
    else:
        is_legal = LEGAL.match(entry.name) and not entry.name.lower().endswith(AUDIO)
        named = is_legal or (depth == 1 and entry.name in KALDI_TABLES)
    return bool(named) and entry.is_file() and entry.stat().st_size <= LARGEST_TABLE


class Names:
    """Member names of listed paths, whose suffix may differ from the suffix on disk.

    Args:
        packed, gone: recordings that are members, and that are left out. codec: of the members.
        root: of the corpus; tables may name its recordings by absolute paths.
    """

    def __init__(self, packed: list[str], gone: set[str], codec: str, root: Path) -> None:
        self.inside = os.path.join(os.path.abspath(root), "")
        self.by_stem = {without_suffix(name): member_name(name, codec) for name in packed}
        self.kept = set(packed) if codec == "copy" else set()  # a.wav and a.flac may both be kept
        self.gone = {without_suffix(name) for name in gone} - self.by_stem.keys()
        self.lost = 0  # listed recordings that are left out

    def __call__(self, listed: str) -> str | None:
        """The member, or the text itself where it is no recording of the corpus; None: left out."""
        own = os.path.normpath(listed).removeprefix(self.inside)
        stem = without_suffix(own)
        if stem in self.gone:
            self.lost += 1
            return None
        return own if own in self.kept else self.by_stem.get(stem, listed)


def write_table(root: Path, path: Path, out: Path, names: Names) -> dict:
    """Write a table with the names of the members; return its part of the manifest."""
    inside = path.is_relative_to(root)
    relative = path.relative_to(root) if inside else Path(path.name)
    data = path.read_bytes()
    names.lost = 0
    rewrite: Callable[[str, Path, Names], str] | None = None
    if path.name == "wav.scp":
        rewrite = _wav_scp
    elif path.name in KALDI_TABLES and (path.parent / "wav.scp").is_file():
        rewrite = _kaldi_table
    elif path.parent == root and path.suffix.lower() == ".txt":
        rewrite = _trials
    if rewrite:
        try:
            data = rewrite(data.decode("utf-8-sig"), path, names).encode()
        except UnicodeDecodeError:
            say(f"{path} is not UTF-8; copied as it is")
    with files.atomic(out / relative, "wb") as file:
        file.write(data)
    table = {"name": relative.as_posix(), "bytes": len(data)}
    table["sha256"] = hashlib.sha256(data).hexdigest()
    if rewrite is _trials and names.lost:
        table["left_out_recordings"] = names.lost
    return table


def _wav_scp(text: str, path: Path, names: Names) -> str:
    lines = []
    for line in map(str.strip, text.splitlines()):
        listed = "".join(line.split(maxsplit=1)[1:])
        member = names(listed)
        if member is not None:
            lines.append(line.removesuffix(listed) + member)
    return _joined(lines)


def _joined(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _kaldi_table(text: str, path: Path, names: Names) -> str:
    """A table without the utterances whose recordings are left out."""
    scp = (path.parent / "wav.scp").read_text(encoding="utf-8-sig")
    pairs = [line.split(maxsplit=1) for line in scp.splitlines() if line.strip()]
    gone = {key for key, *value in pairs if value and names(value[0].strip()) is None}
    if not gone or path.name not in ("utt2spk", "text", "phones", "spk2utt"):
        return text
    lines = []
    for line in text.splitlines():
        key, *rest = line.split()
        if path.name != "spk2utt":
            if key not in gone:
                lines.append(line)
        elif kept := [utterance for utterance in rest if utterance not in gone]:
            lines.append(line if kept == rest else f"{key} {' '.join(kept)}")
    return _joined(lines)


def _trials(text: str, path: Path, names: Names) -> str:
    """A trial list with the names of the members; trials of left-out recordings stay, or the list
    would not be the published one. Another text is returned unchanged.
    """
    lines = []
    for line in text.splitlines():
        cells = fields(line)
        if len(cells) != 3 or not is_trial(cells):
            return text
        for side in (1, 2) if cells[0] in LABELS else (0, 1):
            cells[side] = names(cells[side]) or cells[side]
        lines.append(("\t" if "\t" in line else " ").join(cells))
    return _joined(lines)
