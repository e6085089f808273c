"""Trial lists: which two recordings are compared, and whether one person speaks in both.

Two formats, one trial per line, fields separated by blanks or, for names with blanks, by tabs:
`label path path` with label 1 or 0 (VoxCeleb) and `path path target|nontarget` (Kaldi). Paths are
relative to the root of the corpus. Letter: P trials.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from oskdft.speech.corpora.catalogue import (
    CORPORA,
    KnownList,
)
from oskdft.speech.corpora.layouts import on_disk
from oskdft.speech.corpora.tables import Utterances
from oskdft.utils import files
from oskdft.utils.console import say, some

KALDI = {"target": 1, "nontarget": 0}
VOXCELEB = {"1": 1, "0": 0}


@dataclass(frozen=True, slots=True, eq=False)
class Trials:
    """A trial list in columns.

    Attributes:
        label: [P] uint8, 1 same speaker, 0 different.
        enrol, test: [P] int32, indices into `paths`.
        paths: each recording once, relative to the root.
        name: the published list it is, or "unknown list of P trials".
        duplicates: trials that repeat an earlier one, in either order.
    """

    label: np.ndarray
    enrol: np.ndarray
    test: np.ndarray
    paths: list[str]
    name: str
    duplicates: int = 0

    def __len__(self) -> int:
        return len(self.label)


def read_trials(path: str | Path, root: str | Path | None = None) -> Trials:
    """Read a trial list in either format.

    Args:
        path: the list, UTF-8.
        root: where its recordings lie; given, each must be there (another audio suffix will do,
            and then counts). None: not looked at.
    Raises:
        FileNotFoundError: no such list, or recordings that are not below ``root``.
        ValueError: a line that does not parse, no trials, or a pair with both labels.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "list.txt"
    >>> _ = path.write_text("1 a/1.wav a/2.wav" + chr(10) + "0 a/1.wav b/1.wav" + chr(10))
    >>> trials = read_trials(path)
    >>> trials.label.tolist(), trials.enrol.tolist(), trials.test.tolist(), trials.name
    ([1, 0], [0, 0], [1, 2], 'unknown list of 2 trials')
    """
    path = Path(path)
    labels, places, index = _parse(path)
    paths = list(index)
    enrol, test = places.reshape(-1, 2).T
    name = list_name(path.name, paths[0], len(labels))
    duplicates = _duplicates(path, labels, enrol, test, paths)
    if duplicates:
        say(f"{path}: {duplicates} of {len(labels)} trials repeat an earlier one; all are kept")
    if root is not None:
        paths = _present(path, Path(root), paths)
    return Trials(labels, enrol, test, paths, name, duplicates)


def _parse(path: Path) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """Labels [P], places [2 P] of the paths, and each path's place, in order of appearance."""
    lines = _lines(path)
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        raise ValueError(f"{path} holds no trials; expected lines such as: 1 a/1.wav a/2.wav")
    at, values = (2, KALDI) if _fields(first)[-1] in KALDI else (0, VOXCELEB)
    one, two = (1, 2) if at == 0 else (0, 1)
    index: dict[str, int] = {}
    labels, places = bytearray(), []
    for number, line in enumerate(lines, 1):
        fields = _fields(line)
        if not fields:
            continue
        if len(fields) != 3 or fields[at] not in values:
            raise ValueError(f"{path}, line {number}: {_fault(line, fields, at)}")
        labels.append(values[fields[at]])
        places.append(index.setdefault(fields[one], len(index)))
        places.append(index.setdefault(fields[two], len(index)))
    return np.frombuffer(labels, np.uint8), np.array(places, np.int32), index


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text ({error.reason}); is it a trial list?"
        ) from None
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path}: no such trial list; correct the path (--trials)"
        ) from None


def _fields(line: str) -> list[str]:
    """Fields of a line; with a tab in it, only tabs separate, so that names may hold blanks."""
    if "\t" not in line:
        return line.split()
    return [field.strip() for field in line.split("\t")] if line.strip() else []


def _fault(line: str, fields: list[str], at: int) -> str:
    form = "path path target|nontarget" if at else "0|1 path path"
    text = line if len(line) <= 80 else line[:77] + "..."
    if len(fields) > 3:
        return (
            f"{len(fields)} fields in {text!r}, not 3 ({form}); separate names with blanks by tabs"
        )
    return f"{text!r} is not of the form {form}, like the first line; correct it"


def list_name(file: str, first: str, count: int) -> str:
    """The published list that fits in length and paths, else a label that says it is unknown.

    Args:
        file: name of the list's file. first: its first path. count: P.

    >>> list_name("my.txt", "id10270/x/00001.wav", 37_720)
    'Vox1-O original'
    >>> list_name("veri_test2.txt", "id10270/x/00001.wav", 10)
    'unknown list of 10 trials (Vox1-O cleaned, which its file is named like, has 37611)'
    """
    lists = {known.title: known for corpus in CORPORA.values() for known in corpus.trials}
    for known in lists.values():
        if known.trials == count and re.match(known.paths, first):
            return known.title
    return f"unknown list of {count} trials{_alike(file, lists)}"


def _alike(file: str, lists: dict[str, KnownList]) -> str:
    for known in lists.values():
        if file in known.names:
            return f" ({known.title}, which its file is named like, has {known.trials})"
    return ""


def _duplicates(
    path: Path, label: np.ndarray, enrol: np.ndarray, test: np.ndarray, paths: list[str]
) -> int:
    """How many trials repeat an earlier one; the same pair with both labels is refused."""
    pair = np.minimum(enrol, test).astype(np.int64) * len(paths) + np.maximum(enrol, test)
    order = np.argsort(pair, kind="stable")
    again = np.diff(pair[order]) == 0
    clash = np.flatnonzero(again & (np.diff(label[order].astype(np.int8)) != 0))
    if len(clash):
        row = order[clash[0]]
        raise ValueError(
            f"{path}: {paths[enrol[row]]} and {paths[test[row]]} are listed as the same speaker "
            f"and as different speakers, {len(clash)} such pairs; remove the wrong lines"
        )
    return int(again.sum())


def _present(path: Path, root: Path, paths: list[str]) -> list[str]:
    """The paths as they are on disk, or one error that counts what is absent."""
    found = [on_disk(root, name) for name in paths]
    absent = [name for name, there in zip(paths, found, strict=True) if there is None]
    if absent:
        fix = "complete the corpus, or take another list"
        if len(absent) == len(paths):
            fix = (
                "none is there: the list is probably of another corpus, or the root is not the "
                "folder that its paths start from"
            )
        raise FileNotFoundError(
            f"{path}: {len(absent)} of {len(paths)} recordings are not below {root}: "
            f"{some(absent, len(absent))}; {fix}"
        )
    return [there for there in found if there is not None]


def write_trials(path: str | Path, trials: Trials) -> None:
    """Write `label path path` lines, with tabs between the fields if a name holds a blank.

    Raises:
        ValueError: a name with a tab or a line break. OSError: not writable.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "list.txt"
    >>> one = np.ones(1, np.uint8)
    >>> write_trials(path, Trials(one, one * 0, one, ["a 1.wav", "a2.wav"], "mine"))
    >>> path.read_text()
    '1\\ta 1.wav\\ta2.wav\\n'
    """
    bad = [name for name in trials.paths if re.search(r"[\t\n\r]", name)]
    if bad:
        raise ValueError(f"{bad[0]!r} holds a tab or a line break; rename the file")
    separator = "\t" if any(re.search(r"\s", name) for name in trials.paths) else " "
    with files.atomic(path) as file:
        for label, enrol, test in zip(trials.label, trials.enrol, trials.test, strict=True):
            line = (str(label), trials.paths[enrol], trials.paths[test])
            file.write(separator.join(line) + "\n")


PAIRS_OF = 200  # utterances of a speaker among which its target pairs are drawn
DRAWS = 8  # candidates per wanted non-target trial: most are new and of another speaker


def make_trials(
    utterances: Utterances,
    seed: int = 0,
    per_speaker: int = 20,
    same_gender: dict[str, dict] | None = None,
) -> Trials:
    """Target and non-target trials, as many of each where possible, none twice.

    Args:
        utterances: of the development speakers.
        seed: decides which pairs.
        per_speaker: target trials of each speaker, and non-target trials it enrols for.
        same_gender: what `speaker_info` returns, to pair speakers of the same gender only.
    Returns:
        Trials; targets are from two sessions wherever sessions are known.
    Raises:
        ValueError: no target or no non-target trial can be made.

    >>> rows = [(f"{who}/{i}.wav", who, str(i), 1.0) for who in "ab" for i in range(3)]
    >>> make_trials(table("/data", rows), per_speaker=2).label.tolist()
    [1, 1, 0, 0, 1, 1, 0, 0]
    """
    rng = np.random.default_rng(seed)
    info = same_gender or {}
    gender = np.array([str(info.get(who, {}).get("gender")) for who in utterances.speakers])
    label, pairs, used = [], [], set()
    for who in range(len(utterances.speakers)):
        own = np.flatnonzero(utterances.speaker == who)
        others = np.flatnonzero(
            (utterances.speaker != who) & (gender[utterances.speaker] == gender[who])
        )
        targets = _targets(own, utterances.session, per_speaker, rng)
        label += [1] * len(targets) + [0] * len(new := _others(own, others, per_speaker, rng, used))
        pairs += [*targets, *new]
    if not 0 < sum(label) < len(label):
        raise ValueError(
            f"{len(utterances)} utterances of {len(utterances.speakers)} speakers give "
            f"{sum(label)} target and {len(label) - sum(label)} non-target trials; take more "
            "speakers, with two utterances (in two sessions, if sessions are known) each"
        )
    rows, place = np.unique(np.array(pairs), return_inverse=True)
    enrol, test = place.reshape(-1, 2).T.astype(np.int32)
    paths = [utterances.name(row) for row in rows]
    return Trials(
        np.array(label, np.uint8), enrol, test, paths, f"{len(label)} trials, seed {seed}"
    )


def _targets(
    own: np.ndarray, session: np.ndarray, wanted: int, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Pairs of rows of one speaker, from two sessions if its sessions are known."""
    if len(own) > PAIRS_OF:
        own = np.sort(rng.choice(own, PAIRS_OF, replace=False))
    left, right = (own[side] for side in np.triu_indices(len(own), 1))
    if (session[own] >= 0).all():
        across = session[left] != session[right]
        left, right = left[across], right[across]
    chosen = np.sort(rng.choice(len(left), min(wanted, len(left)), replace=False))
    return list(zip(left[chosen].tolist(), right[chosen].tolist(), strict=True))


def _others(
    own: np.ndarray, others: np.ndarray, wanted: int, rng: np.random.Generator, used: set
) -> list[tuple[int, int]]:
    """Pairs of a row of one speaker and a row of another, none that is in ``used``."""
    new: list[tuple[int, int]] = []
    if len(others) == 0:
        return new
    draws = zip(rng.choice(own, DRAWS * wanted), rng.choice(others, DRAWS * wanted), strict=True)
    for a, b in draws:
        pair = (int(a), int(b))
        if len(new) < wanted and frozenset(pair) not in used:
            used.add(frozenset(pair))
            new.append(pair)
    return new
