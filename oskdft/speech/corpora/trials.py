"""Trial lists: pairs of recordings, with the label whether both are of the same speaker.

One trial per line: two paths, relative to the root of the corpus, and a label, first (VoxCeleb) or last
(Kaldi, CN-Celeb). The label is 1 or 0, target or nontarget. Fields are separated by tabs, by commas
or by blanks. A header line and lines that start with # are passed over. Letter: P trials.

A list may lack labels: it gives scores and no error rates. The first recording of each trial may be a
model, enrolled with several recordings: a second file names them (`read_models`).
"""

import os
import re
from array import array
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from oskdft.speech.corpora.catalogue import CORPORA
from oskdft.speech.corpora.layouts import (
    OTHER_FORMS,
    is_other_form,
    on_disk,
    voxceleb_trees,
)
from oskdft.speech.corpora.shards import Shards, shards_of
from oskdft.utils import files, names
from oskdft.utils.console import say, some
from oskdft.utils.lines import fault, fields, numbered_lines

LABELS = {"1": 1, "0": 0, "1.0": 1, "0.0": 0, "target": 1, "nontarget": 0}
TITLES = {
    "label",
    "labels",
    "target",
    "enrol",
    "enroll",
    "enrollment",
    "test",
    "trial",
    "model",
    "modelid",
    "segment",
    "segmentid",
}  # of a header
EXPECTED = "0|1 path path, or path path target|nontarget"
VOX_PATH = re.compile(r"(?:^|/)(id\d{5}/[^/]+/[^/]+$)")
WITHOUT = 3  # place of the label in a list without labels
WITHOUT_LABELS = "a list without labels gives scores alone: oskdft evaluate --scores FILE"


@dataclass(frozen=True, slots=True, eq=False)
class Trials:
    """A trial list in columns.

    Attributes:
        label: [P] uint8, 1 same speaker, 0 different; None: the list has no labels.
        enrol, test: [P] int32, indices into `paths`.
        paths: each recording once, relative to the root; or the name of a model.
        name: title of the published list, or "unknown list of P trials".
        duplicates: trials that repeat an earlier one, in either order.
        models: recordings of each model; None: all paths are recordings.
    """

    label: np.ndarray | None
    enrol: np.ndarray
    test: np.ndarray
    paths: list[str]
    name: str
    duplicates: int = 0
    models: dict[str, list[str]] | None = None

    def __len__(self) -> int:
        return len(self.enrol)

    def recordings_of(self, path: str) -> list[str]:
        """The recording itself, or those of a model."""
        return [path] if self.models is None else self.models.get(path, [path])

    def recordings(self) -> list[str]:
        """Each recording once: `paths`, or with models those of the models and of the tests.

        >>> none = np.zeros(1, int)
        >>> Trials(None, none, none + 1, ["ada", "c"], "mine", 0, {"ada": ["a", "b"]}).recordings()
        ['a', 'b', 'c']
        """
        return list(dict.fromkeys(name for path in self.paths for name in self.recordings_of(path)))

    def select(self, chosen: np.ndarray) -> "Trials":
        """The trials of a mask [P], and the recordings that they need."""
        used, position = np.unique([self.enrol[chosen], self.test[chosen]], return_inverse=True)
        enrol, test = position.reshape(2, -1).astype(np.int32)
        label = None if self.label is None else self.label[chosen]
        paths = [self.paths[i] for i in used]
        return Trials(label, enrol, test, paths, f"part of {self.name}", models=self.models)


def read_trials(
    path: str | Path,
    root: str | Path | None = None,
    enrol: str | Path = "",
    unlabelled: bool = False,
) -> Trials:
    """Read a trial list in either format.

    Args:
        path: the list, UTF-8.
        root: folder of the recordings. Each must exist; a file that has another audio suffix
            than its path in the list replaces the path. None: the recordings are not looked up.
        enrol: file of the models (`read_models`) that the trials name first; empty: they name
            recordings.
        unlabelled: accept a list without labels.
    Raises:
        FileNotFoundError: no such list, or recordings are not below ``root``.
        ValueError: a line that is no trial, no trials, a pair with both labels, or a model that is
            not enrolled.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "list.txt"
    >>> _ = path.write_text("1 a/1.wav a/2.wav" + chr(10) + "0 a/1.wav b/1.wav" + chr(10))
    >>> trials = read_trials(path)
    >>> trials.label.tolist(), trials.enrol.tolist(), trials.test.tolist(), trials.name
    ([1, 0], [0, 0], [1, 2], 'unknown list of 2 trials')
    """
    path = Path(path)
    labels, pairs, paths = _parse(path, unlabelled)
    left, right = pairs.T
    name = list_name(path.name, paths[0], len(pairs))
    duplicates = _duplicates(path, labels, left, right, paths)
    if duplicates:
        say(f"{path}: {duplicates} of {len(pairs)} trials repeat an earlier one; all are kept")
    models = _enrolled(path, enrol, paths, left, right) if enrol else None
    trials = Trials(labels, left, right, paths, name, duplicates, models)
    return trials if root is None else _located(path, Path(root), trials)


def _enrolled(
    path: Path, enrol: str | Path, paths: list[str], left: np.ndarray, right: np.ndarray
) -> dict[str, list[str]]:
    """The recordings of each model of a trial list."""
    models = read_models(enrol)
    names = [paths[i] for i in np.unique(left)]
    absent = [name for name in names if name not in models]
    if absent:
        raise ValueError(
            f"{path}: {len(absent)} of {len(names)} models are not in {enrol}: "
            f"{some(absent, len(absent))}; enrol them"
        )
    both = next((paths[i] for i in np.unique(right) if paths[i] in models), None)
    if both is not None:
        raise ValueError(f"{path}: {both} is a test and a model of {enrol}; rename the model")
    return {name: models[name] for name in names}


def read_models(path: str | Path) -> dict[str, list[str]]:
    """Models enrolled with several recordings: lines "model path path ...", or one line per recording.

    Fields are separated by tabs, or by blanks. Lines that start with # are passed over.

    Returns:
        model -> its recordings, each once.
    Raises:
        FileNotFoundError: no such file.
        ValueError: a line without recordings, a recording twice in a model, or no models.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "enrol.txt"
    >>> _ = path.write_text("ada a/1.wav a/2.wav" + chr(10) + "eve e/1.wav" + chr(10))
    >>> read_models(path)
    {'ada': ['a/1.wav', 'a/2.wav'], 'eve': ['e/1.wav']}
    """
    models: dict[str, list[str]] = {}
    for number, line in numbered_lines(path, "enrolment list"):
        if line.startswith("#"):
            continue
        model, *recordings = fields(line)
        if not recordings or not all((model, *recordings)):
            raise fault(path, number, line, "enrols nothing", "model path path ...")
        known = models.setdefault(model, [])
        for name in recordings:
            if name in known:
                raise fault(path, number, line, f"has {name} twice", "each recording once")
            known.append(name)
    if not models:
        raise ValueError(f"{path} enrols no models; expected lines such as: ada a/1.wav a/2.wav")
    return models


def _located(path: Path, root: Path, trials: Trials) -> Trials:
    """The trials with the paths of their recordings as they are below the root."""
    recordings = trials.recordings()
    present = dict(zip(recordings, _present(path, root, recordings), strict=True))
    if trials.models is None:
        return replace(trials, paths=list(present.values()))
    models = {model: [present[name] for name in names] for model, names in trials.models.items()}
    paths = [name if name in models else present[name] for name in trials.paths]
    return replace(trials, paths=paths, models=models)


def _parse(path: Path, unlabelled: bool) -> tuple[np.ndarray | None, np.ndarray, list[str]]:
    """Labels [P] or None, the two recordings of each trial [P, 2], and the path of each recording."""
    labels, recordings = bytearray(), array("i")
    index: dict[str, int] = {}
    place = None  # of the label, 0 or 2, or 3: no labels; decided by the first trial
    for number, line in numbered_lines(path, "trial list"):
        if line.startswith("#"):
            continue
        cells = _cells(line)
        if place is None:
            if _is_header(cells):
                continue
            place = _label_place(path, number, line, cells, unlabelled)
        if place == WITHOUT and len(cells) == 2 and all(cells):
            recordings.extend(index.setdefault(name, len(index)) for name in cells)
            continue
        if place == WITHOUT:
            expected = "two paths, like the first trial, with tabs between if names hold blanks"
            raise fault(path, number, line, "is no trial", expected)
        if len(cells) > 3:
            expected = f"{EXPECTED}, with tabs between the fields if names hold blanks"
            raise fault(path, number, line, f"has {len(cells)} fields", expected)
        label = LABELS.get(cells[place]) if len(cells) == 3 else None
        if label is None or not all(cells):
            like = ", like the first trial" if labels else ""
            raise fault(path, number, line, "is no trial", EXPECTED + like)
        labels.append(label)
        enrol, test = cells[:2] if place else cells[1:]
        recordings.append(index.setdefault(enrol, len(index)))
        recordings.append(index.setdefault(test, len(index)))
    if not recordings:
        raise ValueError(f"{path} holds no trials; expected lines such as: 1 a/1.wav a/2.wav")
    pairs = np.array(recordings, np.int32).reshape(-1, 2)
    return np.frombuffer(labels, np.uint8) if labels else None, pairs, list(index)


def _cells(line: str) -> list[str]:
    """The fields of a line, without empty ones at its end.

    >>> _cells("1\\ta b.wav\\tc.wav\\t"), _cells("1,a.wav,b.wav")
    (['1', 'a b.wav', 'c.wav'], ['1', 'a.wav', 'b.wav'])
    """
    commas = line.count(",") in (1, 2) and "\t" not in line and len(line.split()) == 1
    cells = [cell.strip() for cell in line.split(",")] if commas else fields(line)
    while len(cells) > 3 and not cells[-1]:
        cells.pop()
    return cells


def is_trial(cells: list[str]) -> bool:
    """Whether a line of these fields looks like a trial with a label."""
    return len(cells) >= 3 and (cells[0] in LABELS or cells[-1] in LABELS)


def _is_header(cells: list[str]) -> bool:
    """Whether every field of a line is the title of a column.

    >>> _is_header(["enroll", "test", "label"]), _is_header(["1", "a.wav", "b.wav"])
    (True, False)
    """
    return len(cells) in (2, 3) and all(cell.lower() in TITLES for cell in cells)


def _label_place(path: Path, number: int, line: str, cells: list[str], unlabelled: bool) -> int:
    """Where the label is in the first trial: 0 or 2, or `WITHOUT`."""
    if len(cells) == 2 and not LABELS.keys() & set(cells):
        if not unlabelled:
            raise fault(path, number, line, "is no trial", f"{EXPECTED}; {WITHOUT_LABELS}")
        return WITHOUT
    places = [place for place in (0, 2) if len(cells) == 3 and cells[place] in LABELS]
    if len(places) == 2:
        raise fault(path, number, line, "may have its label first or last", "names unlike labels")
    return places[0] if places else 0


def list_name(file: str, first: str, count: int) -> str:
    """The published list of this length and these paths, else a label that starts with "unknown".

    Args:
        file: name of the list's file. first: its first path. count: P.

    >>> list_name("my.txt", "id10270/x/00001.wav", 37_720)
    'Vox1-O original'
    >>> list_name("veri_test2.txt", "id10270/x/00001.wav", 10)
    'unknown list of 10 trials (the file is named like Vox1-O cleaned, which has 37611)'
    """
    unknown = f"unknown list of {count} trials"
    for published in (entry for corpus in CORPORA.values() for entry in corpus.trials):
        if published.trials == count and re.match(published.paths, first):
            return published.title
        if file in published.names:
            unknown += f" (the file is named like {published.title}, which has {published.trials})"
    return unknown


def _duplicates(
    path: Path, label: np.ndarray | None, enrol: np.ndarray, test: np.ndarray, paths: list[str]
) -> int:
    """Number of trials that repeat an earlier one; raises if a pair has both labels."""
    pair = np.minimum(enrol, test).astype(np.int64) * len(paths) + np.maximum(enrol, test)
    order = np.argsort(pair, kind="stable")
    repeat = np.diff(pair[order]) == 0
    if label is None:
        return int(repeat.sum())
    clash = np.flatnonzero(repeat & (np.diff(label[order].astype(np.int8)) != 0))
    if len(clash):
        row = order[clash[0]]
        raise ValueError(
            f"{path}: {paths[enrol[row]]} and {paths[test[row]]} are listed as the same speaker "
            f"and as different speakers, {len(clash)} such pairs; remove the wrong lines"
        )
    return int(repeat.sum())


def _present(path: Path, root: Path, paths: list[str]) -> list[str]:
    """The paths with the suffixes on disk; raises if a recording is absent."""
    shards = shards_of(root)
    present = [on_disk(root, name, shards) for name in paths]
    if None in present and all(VOX_PATH.search(name) for name in paths):
        present = _in_trees(root, shards, paths)
    absent = [name for name, file in zip(paths, present, strict=True) if file is None]
    if absent:
        fix = "complete the corpus, or take another list"
        if len(absent) == len(paths):
            fix = (
                "none is present: the list is probably of another corpus, or the root is not the "
                "folder that its paths start from"
            )
        raise FileNotFoundError(
            f"{path}: {len(absent)} of {len(paths)} recordings are not below {root}: "
            f"{some(absent, len(absent))}; {fix}"
        )
    place = names.twice(map(os.path.normpath, present))
    if place is not None:
        a, b = (paths[i] for i in place)
        raise ValueError(f"{path}: {a} and {b} are one file, {present[place[0]]}; name it one way")
    others = sum(map(is_other_form, paths, present))
    if others:
        say(f"{path}: {others} names {OTHER_FORMS}")
    return present


def _in_trees(root: Path, shards: Shards | None, paths: list[str]) -> list[str | None]:
    """The recordings of a VoxCeleb list wherever the speakers lie below the root; None: absent.

    The official lists start at the speaker (id10270/VIDEO/00001.wav); the archives unpack to dev/wav,
    test/wav, dev/aac and others, and a list may go over both parts.
    """
    trees = voxceleb_trees(root, shards)
    found = []
    for path in paths:
        tail = path[VOX_PATH.search(path).start(1) :]
        places = (on_disk(root, tail if t == "." else f"{t}/{tail}", shards) for t in trees)
        found.append(next(filter(None, places), None))
    return found


def vox_name(path: str) -> str:
    """What names a recording of VoxCeleb in every tree and form; another path stays as it is.

    >>> vox_name("dev/wav/id10003/a/00001.flac"), vox_name("mine.wav")
    ('id10003/a/00001', 'mine.wav')
    """
    found = VOX_PATH.search(path)
    return os.path.splitext(found[1])[0] if found else path


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
    unwritable = [name for name in trials.paths if re.search(r"[\t\n\r]", name)]
    if unwritable:
        raise ValueError(f"{unwritable[0]!r} holds a tab or a line break; rename the file")
    separator = "\t" if any(re.search(r"\s", name) for name in trials.paths) else " "
    with files.atomic(path) as file:
        for label, enrol, test in zip(trials.label, trials.enrol, trials.test, strict=True):
            line = (str(label), trials.paths[enrol], trials.paths[test])
            file.write(separator.join(line) + "\n")
