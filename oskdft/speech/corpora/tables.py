"""Utterances and trials as tables, whatever the layout on disk.

A corpus is one `Utterances` table in columns: a path and 20 bytes per utterance, so that a million
of them fit anywhere. Labels are sorted by name and never depend on the order of folders. Letters:
n utterances, K speakers, P trials.
"""

import csv
import itertools
import os
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from oskdft.speech.corpora.catalogue import find_root, known
from oskdft.speech.corpora.headers import remembered, scan
from oskdft.speech.corpora.layouts import READERS, Row, speaker_info
from oskdft.utils.console import say, some


@dataclass(frozen=True, slots=True, eq=False)
class Utterances:
    """A corpus, or a part of it, in columns; make one with `table` or `load_corpus`.

    Attributes:
        root: folder that the paths are relative to.
        text, ends: all paths one after another (bytes), and where each ends [n] int64.
        speaker: [n] int32, index into `speakers`, which is sorted.
        seconds: [n] float32, NaN where not measured.
        session: [n] int32, index into `sessions` (sorted; a name may recur with another speaker),
            -1 where unknown.

    >>> t = table("/data", [("b/2.wav", "b", "", 1.0), ("a/1.wav", "a", "", 2.0)])
    >>> t.speakers, t.speaker.tolist(), t.id(0)
    (['a', 'b'], [1, 0], 'b/2')
    """

    root: Path
    text: bytes
    ends: np.ndarray
    speaker: np.ndarray
    speakers: list[str]
    seconds: np.ndarray
    session: np.ndarray
    sessions: list[str]

    def __len__(self) -> int:
        return len(self.speaker)

    def name(self, index: int) -> str:
        """Path below the root, with forward slashes."""
        index = range(len(self))[index]  # negative counts from the end, too far is an IndexError
        return os.fsdecode(self.text[self.ends[index - 1] if index else 0 : self.ends[index]])

    def names(self) -> Iterator[str]:
        """All paths below the root, in order."""
        for start, end in itertools.pairwise(itertools.chain([0], self.ends)):
            yield os.fsdecode(self.text[start:end])

    def path(self, index: int) -> Path:
        """Where the recording is."""
        return self.root / self.name(index)

    def id(self, index: int) -> str:
        """Path below the root without suffix."""
        return os.path.splitext(self.name(index))[0]

    def counts(self) -> np.ndarray:
        """[K] utterances per speaker."""
        return np.bincount(self.speaker, minlength=len(self.speakers))

    def select(self, chosen: np.ndarray | list[int]) -> "Utterances":
        """The rows of a mask [n] or of indices, in that order, with labels 0 to K - 1 again."""
        rows = np.arange(len(self))[np.asarray(chosen, None if len(chosen) else int)]
        starts = np.concatenate([[0], self.ends[:-1]])[rows] if len(rows) else rows
        text = b"".join(self.text[a:b] for a, b in zip(starts, self.ends[rows], strict=True))
        speaker, speakers = _relabelled(self.speaker[rows], self.speakers)
        session, sessions = _relabelled(self.session[rows], self.sessions)
        ends = np.cumsum(self.ends[rows] - starts)
        return Utterances(
            self.root, text, ends, speaker, speakers, self.seconds[rows], session, sessions
        )

    def measured(self) -> "Utterances":
        """The same table with every duration filled in, from remembered or fresh headers.

        Raises:
            ValueError: files that are missing or unreadable; names the first and counts them.
        """
        if not np.isnan(self.seconds).any():
            return self
        seconds = scan(self.root, self.names, len(self)).seconds()
        bad = np.flatnonzero(np.isnan(seconds))
        if len(bad):
            raise ValueError(
                f"{len(bad)} of {len(self)} files below {self.root} cannot be read: "
                f"{some([self.name(i) for i in bad[:9]], len(bad))}; check the corpus with "
                "oskdft data check"
            )
        return replace(self, seconds=seconds)


def _relabelled(index: np.ndarray, labels: list[str]) -> tuple[np.ndarray, list[str]]:
    """Keep the labels in use, sorted; -1 stays -1."""
    used = sorted({int(i) for i in np.unique(index) if i >= 0}, key=labels.__getitem__)
    new = np.full(len(labels) + 1, -1, np.int32)  # the last entry serves index -1
    new[used] = np.arange(len(used), dtype=np.int32)
    return new[index], [labels[i] for i in used]


def table(root: str | Path, rows: Iterable[Row]) -> Utterances:
    """Build the columns from (path below the root, speaker, session or "", seconds or NaN).

    >>> table("/data", [("a/1.wav", "a", "", float("nan"))]).path(0).as_posix()
    '/data/a/1.wav'
    """
    text, ends, seconds = bytearray(), array("q"), array("f")
    speaker, session = array("i"), array("i")
    speakers: dict[str, int] = {}
    sessions: dict[str, int] = {}
    for path, who, where, length in rows:
        text += os.fsencode(path)
        ends.append(len(text))
        seconds.append(length)
        speaker.append(speakers.setdefault(who, len(speakers)))
        session.append(sessions.setdefault(where, len(sessions)) if where else -1)
    return Utterances(
        Path(root),
        bytes(text),
        np.array(ends, np.int64),
        *_relabelled(np.array(speaker, np.int32), list(speakers)),
        np.array(seconds, np.float32),
        *_relabelled(np.array(session, np.int32), list(sessions)),
    )


def read_table(
    name: str, root: str | Path = "", split: str | None = None
) -> tuple[Utterances, list[str]]:
    """What the layout and the tables of a corpus name, whether it is there or not.

    Returns:
        (utterances, extra): extra are audio files below the root that do not fit the layout.
    Raises:
        FileNotFoundError: no such folder. ValueError: unknown corpus or split, damaged table.

    >>> import tempfile
    >>> utterances, extra = read_table("folder", tempfile.mkdtemp())
    >>> len(utterances), extra
    (0, [])
    """
    folder, corpus, extra = find_root(name, root), known(name), []
    if split and corpus.expected and split not in corpus.expected:
        raise ValueError(f"{name} has no split {split!r}; it has {', '.join(corpus.expected)}")
    return table(folder, READERS[name](folder, split or "", extra)), extra


def load_corpus(name: str, root: str | Path = "", split: str | None = None) -> Utterances:
    """The utterances of a corpus, with the durations that an earlier scan remembers.

    Args:
        name: one of `CORPORA`. root: its folder; empty: see `find_root`.
        split: such as "train" or "test"; None: everything.
    Raises:
        FileNotFoundError: no such folder, no audio that fits, or files of the tables are absent.
        ValueError: unknown corpus or split, damaged table.

    >>> load_corpus("speechocean762", split="train")  # doctest: +SKIP
    """
    utterances, extra = read_table(name, root, split)
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
    utterances: Utterances, speakers: float = 0.1, seed: int = 0
) -> tuple[Utterances, Utterances]:
    """Set some speakers aside for development: (train, dev), with no speaker in both.

    Args:
        speakers: how many (int, at least 2), or which share of them (float below 1).
        seed: decides which.
    Raises:
        ValueError: too few speakers would be left on one side.

    >>> rows = [(f"{who}/{i}.wav", who, "", 1.0) for who in "abcd" for i in range(2)]
    >>> train, dev = dev_split(table("/data", rows), speakers=2)
    >>> len(train), len(dev), set(train.speakers) & set(dev.speakers)
    (4, 4, set())
    """
    total = len(utterances.speakers)
    count = speakers if isinstance(speakers, int) else max(2, round(speakers * total))
    if not speakers > 0 or not 2 <= count <= total - 1:
        raise ValueError(
            f"{speakers} development speakers of {total} leave {total - count} to train on; "
            "set aside at least 2, or a share below 1, and keep at least 1"
        )
    chosen = np.random.default_rng(seed).choice(total, count, replace=False)
    aside = np.isin(utterances.speaker, chosen)
    return utterances.select(~aside), utterances.select(aside)


def few(utterances: Utterances, speakers: int, each: int) -> Utterances:
    """The first speakers with at most ``each`` utterances, taken from their sessions in turn.

    >>> from oskdft.speech.corpora.tables import table
    >>> rows = [(f"a/{n}.wav", "a", day, 1.0) for n, day in enumerate(["mon", "mon", "tue"])]
    >>> list(few(table("/data", rows), speakers=5, each=2).names())
    ['a/0.wav', 'a/2.wav']
    """
    chosen: list[int] = []
    for who in range(min(speakers, len(utterances.speakers))):
        own = np.flatnonzero(utterances.speaker == who)
        session = utterances.session[own]
        turn = [np.sum(session[:place] == day) for place, day in enumerate(session)]
        chosen += sorted(own[np.argsort(turn, kind="stable")[:each]].tolist())
    return utterances.select(chosen)


def labels_of(corpus: str, utterances: Utterances) -> dict[str, list[str]]:
    """What a corpus tells of each utterance; a label that is not known for all is left out.

    Returns:
        "speaker"; "session" as speaker/session, a session being of one speaker; "gender"; and of
        synthetic voices "language" and "text": each [n].

    >>> from oskdft.speech.corpora.tables import table
    >>> labels_of("folder", table("/data", [("a/1.wav", "a", "", 1.0)]))
    {'speaker': ['a']}
    """
    people = speaker_info(corpus, utterances.root)
    who = [utterances.speakers[i] for i in utterances.speaker]
    found = {"speaker": who, "gender": [people.get(name, {}).get("gender") for name in who]}
    if (utterances.session >= 0).all():
        days = (utterances.sessions[i] for i in utterances.session)
        found["session"] = [f"{name}/{day}" for name, day in zip(who, days, strict=True)]
    if corpus == "synthetic":
        with open(Path(utterances.root) / "utterances.csv", encoding="utf-8", newline="") as file:
            rows = {row["path"]: row for row in csv.DictReader(file)}
        for column in ("language", "text"):
            found[column] = [rows[name][column] for name in utterances.names()]
    return {name: values for name, values in found.items() if all(values)}
