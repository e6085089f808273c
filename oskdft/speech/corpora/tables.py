"""The utterances of a corpus as one table in columns, whatever the layout on disk.

Labels are sorted by name and do not depend on the order of folders. Letters: n utterances,
K speakers.
"""

import os
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from oskdft.speech.corpora.catalogue import find_root, known
from oskdft.speech.corpora.headers import remembered, scan
from oskdft.speech.corpora.layouts import (
    READERS,
    Row,
    transcripts_of,
)
from oskdft.speech.corpora.people import age_group, speaker_info
from oskdft.utils import names
from oskdft.utils.console import say, some


@dataclass(frozen=True, slots=True, eq=False)
class Utterances:
    """A corpus or a part of a corpus in columns, made by `load_corpus` or `Utterances.from_rows`.

    Attributes:
        root: folder that the paths are relative to.
        paths: [n] bytes, relative to the root, with forward slashes.
        speaker: [n] int32, index into `speakers`, which is sorted.
        seconds: [n] float32, NaN where not measured.
        session: [n] int32, index into `sessions` (sorted; two speakers may share a name),
            -1 where unknown.

    >>> rows = [("b/2.wav", "b", "", 1.0), ("a/1.wav", "a", "", 2.0)]
    >>> utterances = Utterances.from_rows("/data", rows)
    >>> utterances.speakers, utterances.speaker.tolist(), utterances.path(0).as_posix()
    (['a', 'b'], [1, 0], '/data/b/2.wav')
    """

    root: Path
    paths: np.ndarray
    speaker: np.ndarray
    speakers: list[str]
    seconds: np.ndarray
    session: np.ndarray
    sessions: list[str]

    @classmethod
    def from_rows(cls, root: str | Path, rows: Iterable[Row]) -> "Utterances":
        """Build the columns from (path below the root, speaker, session or "", seconds or NaN)."""
        paths: list[bytes] = []
        seconds, speaker, session = array("f"), array("i"), array("i")
        speaker_labels: dict[str, int] = {}
        session_labels: dict[str, int] = {}
        for path, who, where, length in rows:
            paths.append(os.fsencode(path))
            seconds.append(length)
            speaker.append(speaker_labels.setdefault(who, len(speaker_labels)))
            session.append(session_labels.setdefault(where, len(session_labels)) if where else -1)
        speaker_index, speakers = _relabelled(np.array(speaker, np.int32), list(speaker_labels))
        session_index, sessions = _relabelled(np.array(session, np.int32), list(session_labels))
        return cls(
            root=Path(root),
            paths=np.array(paths, bytes),
            speaker=speaker_index,
            speakers=speakers,
            seconds=np.array(seconds, np.float32),
            session=session_index,
            sessions=sessions,
        )

    def __len__(self) -> int:
        return len(self.speaker)

    def name(self, index: int) -> str:
        """Path below the root, with forward slashes."""
        return os.fsdecode(self.paths[index])

    def names(self) -> Iterator[str]:
        """All paths below the root, in order."""
        return map(os.fsdecode, self.paths)

    def path(self, index: int) -> Path:
        """Path of the recording, with the root."""
        return self.root / self.name(index)

    def counts(self) -> np.ndarray:
        """[K] utterances per speaker."""
        return np.bincount(self.speaker, minlength=len(self.speakers))

    def select(self, chosen: np.ndarray | list[int]) -> "Utterances":
        """The rows of a mask [n] or of indices, in their order; labels are 0 to K - 1 again."""
        rows = np.arange(len(self))[np.asarray(chosen, None if len(chosen) else int)]
        speaker, speakers = _relabelled(self.speaker[rows], self.speakers)
        session, sessions = _relabelled(self.session[rows], self.sessions)
        paths, seconds = self.paths[rows], self.seconds[rows]
        return Utterances(self.root, paths, speaker, speakers, seconds, session, sessions)

    def measured(self) -> "Utterances":
        """The same table with the duration of every utterance, read from headers where missing.

        Raises:
            ValueError: missing or unreadable files; names the first ones and their number.
        """
        if not np.isnan(self.seconds).any():
            return self
        seconds = scan(self.root, self.names, len(self)).seconds()
        unreadable = np.flatnonzero(np.isnan(seconds))
        if len(unreadable):
            raise ValueError(
                f"{len(unreadable)} of {len(self)} files below {self.root} cannot be read: "
                f"{some([self.name(i) for i in unreadable[:9]], len(unreadable))}; check the corpus with "
                "oskdft data check"
            )
        return replace(self, seconds=seconds)


def _relabelled(index: np.ndarray, labels: list[str]) -> tuple[np.ndarray, list[str]]:
    """Index [n] into the sorted labels in use, and these labels; -1 stays -1."""
    used = sorted({int(i) for i in np.unique(index) if i >= 0}, key=labels.__getitem__)
    new = np.full(len(labels) + 1, -1, np.int32)  # the last entry serves index -1
    new[used] = np.arange(len(used), dtype=np.int32)
    return new[index], [labels[i] for i in used]


def list_utterances(
    name: str, root: str | Path = "", split: str | None = None
) -> tuple[Utterances, list[str]]:
    """The utterances that the layout and the tables of a corpus name, present or not.

    Returns:
        (utterances, extra): ``extra`` are audio files below the root that do not fit the layout.
    Raises:
        FileNotFoundError: no such folder.
        ValueError: unknown corpus or split, damaged table, or one name in two unicode forms.

    >>> import tempfile
    >>> utterances, extra = list_utterances("folder", tempfile.mkdtemp())
    >>> len(utterances), extra
    (0, [])
    """
    folder, corpus, extra = find_root(name, root), known(name), []
    if split and corpus.expected and split not in (*corpus.expected, training_split(name)):
        raise ValueError(f"{name} has no split {split!r}; it has {', '.join(corpus.expected)}")
    utterances = Utterances.from_rows(folder, READERS[name](folder, split or "", extra))
    place = names.twice(map(names.composed, utterances.speakers))
    if place is not None:
        raise ValueError(
            f"{folder}: speaker {utterances.speakers[place[0]]} is there in two unicode forms, as two "
            "speakers; merge them"
        )
    return utterances, extra


def training_split(name: str) -> str | None:
    """Split of a corpus with the training speakers; None where no test speakers are inside.

    >>> training_split("voxceleb1"), training_split("librispeech"), training_split("folder")
    ('dev', 'train', None)
    """
    splits = {split.partition("-")[0] for split in known(name).expected}
    return next((split for split in ("train", "dev") if split in splits), None)


def load_corpus(name: str, root: str | Path = "", split: str | None = None) -> Utterances:
    """The utterances of a corpus, all present, with the durations that an earlier scan stored.

    Args:
        name: one of `CORPORA`. root: its folder; empty: see `find_root`.
        split: such as "train" or "test"; None: everything.
    Raises:
        FileNotFoundError: no such folder, no audio in this layout, or listed files are absent.
        ValueError: unknown corpus or split, damaged table.

    >>> load_corpus("speechocean762", split="train")  # doctest: +SKIP
    """
    utterances, extra = list_utterances(name, root, split)
    folder, where = utterances.root, f" of split {split}" if split else ""
    if len(utterances) == 0:
        raise FileNotFoundError(
            f"{folder} holds no audio{where} in the layout of {name}; expected below it: "
            f"{known(name).layout}"
        )
    headers = remembered(folder, utterances.names(), len(utterances))
    absent = np.flatnonzero(headers["size"] < 0)
    if len(absent):
        raise FileNotFoundError(
            f"{len(absent)} of {len(utterances)} files{where} are not below {folder}: "
            f"{some([utterances.name(i) for i in absent[:9]], len(absent))}; "
            f"see oskdft data check {name} --root {folder}"
        )
    if extra:
        say(f"{folder}: {len(extra)} audio files do not fit the layout: {some(extra, len(extra))}")
    seconds = headers.seconds()
    return replace(utterances, seconds=np.where(np.isnan(seconds), utterances.seconds, seconds))


def dev_split(
    utterances: Utterances, speakers: int, seed: int = 0
) -> tuple[Utterances, Utterances]:
    """Set some speakers aside for development: (train, dev), with no speaker in both.

    Args:
        speakers: number of development speakers, at least 2.
        seed: draws the speakers.
    Raises:
        ValueError: too few speakers would be left on one side.

    >>> rows = [(f"{who}/{i}.wav", who, "", 1.0) for who in "abcd" for i in range(2)]
    >>> train, dev = dev_split(Utterances.from_rows("/data", rows), speakers=2)
    >>> len(train), len(dev), set(train.speakers) & set(dev.speakers)
    (4, 4, set())
    """
    total = len(utterances.speakers)
    if not 2 <= speakers <= total - 1:
        raise ValueError(
            f"{speakers} development speakers of {total} leave {total - speakers} to train on; "
            "set aside at least 2, and keep at least 1"
        )
    dev_speakers = np.random.default_rng(seed).choice(total, speakers, replace=False)
    in_dev = np.isin(utterances.speaker, dev_speakers)
    return utterances.select(~in_dev), utterances.select(in_dev)


def few(utterances: Utterances, speakers: int, each: int) -> Utterances:
    """The first speakers with at most ``each`` utterances, taken from their sessions in turn.

    >>> rows = [(f"a/{n}.wav", "a", day, 1.0) for n, day in enumerate(["mon", "mon", "tue"])]
    >>> list(few(Utterances.from_rows("/data", rows), speakers=5, each=2).names())
    ['a/0.wav', 'a/2.wav']
    """
    rows: list[int] = []
    for speaker in range(min(speakers, len(utterances.speakers))):
        own = np.flatnonzero(utterances.speaker == speaker)
        session = utterances.session[own]
        turn = [np.sum(session[:i] == session[i]) for i in range(len(own))]
        rows += sorted(own[np.argsort(turn, kind="stable")[:each]].tolist())
    return utterances.select(rows)


def labels_of(corpus: str, utterances: Utterances) -> dict[str, list[str]]:
    """Labels of each utterance by kind; a kind that is unknown for one utterance is left out.

    Returns:
        "speaker"; "session" as speaker/session, since two speakers may share a session's name;
        "gender"; "age" (child or adult); "text" and "phones" (ARPAbet with blanks between): each [n].

    >>> labels_of("folder", Utterances.from_rows("/data", [("a/1.wav", "a", "", 1.0)]))
    {'speaker': ['a']}
    """
    info = speaker_info(corpus, utterances.root)
    speakers = [utterances.speakers[i] for i in utterances.speaker]
    labels = {
        "speaker": speakers,
        "gender": [info.get(speaker, {}).get("gender") for speaker in speakers],
        "age": [age_group(info.get(speaker, {})) for speaker in speakers],
    }
    if (utterances.session >= 0).all():
        sessions = [utterances.sessions[i] for i in utterances.session]
        labels["session"] = [f"{a}/{b}" for a, b in zip(speakers, sessions, strict=True)]
    for kind, transcripts in transcripts_of(corpus, utterances.root).items():
        stems = (os.path.splitext(os.path.basename(name))[0] for name in utterances.names())
        labels[kind] = [transcripts.get(stem, "") for stem in stems]
    return {kind: values for kind, values in labels.items() if all(values)}
