"""Embeddings of many recordings: written part by part, resumed after a kill, shared by processes.

A folder of embeddings holds embedded.json (model and list), part-NNNNNN.npz ("ids" [n], "embeddings"
[n, E]) and, where recordings were left out, part-NNNNNN.bad.txt (id and reason). Letters: E embedding size.
"""

import hashlib
import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from oskdft.config import EvalConfig
from oskdft.evaluation.embedding import embed_files
from oskdft.evaluation.verifier import load
from oskdft.evaluation.windows import Model
from oskdft.speech import quality
from oskdft.speech.corpora.layouts import (
    OTHER_FORMS,
    PARTS,
    audio_below,
    kaldi_rows,
    require_no_segments,
)
from oskdft.utils import lines, provenance, torchrun
from oskdft.utils.ahead import ahead
from oskdft.utils.console import progress, say
from oskdft.utils.files import atomic, read_json, require_new_folder, write_json
from oskdft.utils.names import Names, composed, forms, twice

STATE = "embedded.json"
PART = 500  # recordings; a killed process loses at most one part
CLAIM_S = 60.0  # that the first of several processes may take to load its model
READS = EvalConfig(tta="full")  # whole recordings


@dataclass(frozen=True, slots=True)
class Outcome:
    """Numbers of recordings embedded (also earlier) and left out, and the files of the reasons."""

    embedded: int
    bad: int
    files: list[Path]

    def reasons(self) -> Iterator[tuple[str, str]]:
        """Id and reason of each recording that was left out."""
        for file in self.files:
            for line in file.read_text("utf-8").splitlines():
                name, _, reason = line.partition("\t")
                yield name, reason


@dataclass(frozen=True, slots=True, eq=False)
class Recordings(Sequence[tuple[str, str]]):
    """Ids and paths in little memory; the paths start at a folder."""

    base: str
    ids: Names
    paths: Names  # the ids themselves, where these are paths

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int | slice) -> tuple[str, str] | list[tuple[str, str]]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        return self.ids[index], os.path.join(self.base, self.paths[index])


def recordings(root: str | Path = "", listed: str | Path = "", scp: str | Path = "") -> Recordings:
    """Ids and paths of the recordings to embed.

    Args: exactly one of
        root: a folder; the id is the path below it.
        listed: a file of lines "path" or "id TAB path", paths relative to the file's folder.
        scp: wav.scp of Kaldi, paths relative to its folder, or where that is train, dev or test, to the
            corpus around it.
    Raises:
        ValueError: none or several of them, an id twice or in two unicode forms, two ids of one file, a
            command in wav.scp, a file segments beside it, or no recordings.
        FileNotFoundError: no such file or folder.

    >>> recordings(root="/no/such/folder")
    Traceback (most recent call last):
    FileNotFoundError: /no/such/folder is not a folder
    """
    if sum(map(bool, (root, listed, scp))) != 1:
        raise ValueError("name the recordings by one of --root, --list and --scp")
    if root:
        if not Path(root).is_dir():
            raise FileNotFoundError(f"{root} is not a folder")
        ids = paths = Names(audio_below(Path(root)))
        source = base = Path(root)
    else:
        source = Path(listed or scp)
        if not source.is_file():
            raise FileNotFoundError(f"{source} is not a file")
        in_corpus = scp and source.parent.name in PARTS  # its paths start at the corpus
        base = source.parent.parent if in_corpus else source.parent
        if scp:
            require_no_segments(source.parent)
        ids, paths = Names(), Names()
        for name, path in kaldi_rows(source) if scp else _listed(source):
            if path.endswith("|"):
                raise ValueError(f"{source}: {name} is a command; list recordings only")
            ids.append(name)
            paths.append(path)
        if ids == paths:
            paths = ids
    _require_unlike(source, ids, paths)
    return Recordings(str(base), ids, paths)


def _require_unlike(source: Path, ids: Names, paths: Names) -> None:
    """Refuse no recordings, an id that occurs twice, and a file that has two ids."""
    if not ids:
        raise ValueError(f"{source} names no recordings")
    if (place := twice(map(composed, ids))) is not None:
        one, other = (ids[i] for i in place)
        what = f"an id twice, {one}" if one == other else f"{one} in two unicode forms"
        raise ValueError(f"{source} names {what}; give each recording an id of its own")
    if (place := twice(composed(os.path.normpath(path)) for path in paths)) is not None:
        a, b = (ids[i] for i in place)
        raise ValueError(f"{source}: {a} and {b} are one file, {paths[place[0]]}; list it once")


def _listed(path: Path) -> Iterator[tuple[str, str]]:
    for _, line in lines.numbered_lines(path, "list of recordings"):
        name, _, path = line.strip().partition("\t")
        yield name.strip(), (path or name).strip()


def embed_many(
    found: Sequence[tuple[str, str]],
    out: str | Path,
    name: str | Path,
    device: str = "auto",
    channel: int = 0,
) -> Outcome:
    """Embed whole recordings into a folder.

    Parts that are there are kept: the call resumes. Under torchrun (RANK, WORLD_SIZE) each process makes
    its share of the parts. A recording that is not fit for use is left out, with its reason.

    Args:
        found: ids and paths, see `recordings`. out: the folder. name, device: see `verifier.load`.
        channel: of the recordings, see `audio.channel_fault`.
    Raises:
        ValueError: the folder holds something else, or embeddings of other recordings, another channel or
            another model; no such model.
    """
    out = Path(out)
    rank, world = torchrun.rank(), torchrun.world()
    verifier = load(name, torchrun.device(device))
    waited = 0.0
    while rank and not (out / STATE).is_file() and waited < CLAIM_S:  # the first process claims
        time.sleep(0.1)
        waited += 0.1
    _claim(out, found, verifier.described, channel)
    starts = range(rank * PART, len(found), world * PART)
    waiting = [start for start in starts if not _part(out, start).is_file()]
    checks = ahead(
        lambda start: _checked(found[start : start + PART], channel), ([s] for s in waiting)
    )
    parts = progress(
        zip(waiting, checks, strict=True), f"embedding (parts of {PART})", len(waiting)
    )
    with closing(checks):
        for start, [checked] in parts:
            _make(verifier.model, checked, _part(out, start), channel)
            if checked.other_forms:
                say(f"{_part(out, start).name}: {checked.other_forms} names {OTHER_FORMS}")
    embedded = 0
    for start in starts:
        with np.load(_part(out, start)) as made:
            embedded += len(made["ids"])
    share = sum(len(found[start : start + PART]) for start in starts)
    files = [_part(out, start).with_suffix(".bad.txt") for start in starts]
    return Outcome(embedded, share - embedded, [file for file in files if file.is_file()])


def _part(out: Path, start: int) -> Path:
    return out / f"part-{start // PART:06d}.npz"


def _claim(out: Path, found: Sequence[tuple[str, str]], described: dict, channel: int) -> None:
    """Write what the folder holds, or compare."""
    ids = hashlib.sha256()
    for place, (name, _) in enumerate(found):
        ids.update(("\n" * bool(place) + name).encode(errors="surrogateescape"))
    told = {name: fact for name, fact in described.items() if name != "files_sha256"}
    model = provenance.digest(repr(sorted(told.items(), key=str)))
    state = {"recordings": len(found), "ids_sha256": ids.hexdigest(), "model": model}
    if channel:
        state["channel"] = channel
    if (out / STATE).is_file():
        if read_json(out / STATE) != state:
            raise ValueError(
                f"{out} holds embeddings of other recordings or of another model or channel; choose "
                "another --out"
            )
    else:
        write_json(require_new_folder(out) / STATE, state)


@dataclass(slots=True)
class Checked:
    """Recordings of a part (id, path) whose headers show no fault, their lengths [s], id -> fault of others."""

    good: list[tuple[str, str]]
    seconds: list[float]
    bad: dict[str, str]
    other_forms: int = 0  # files that were found in another unicode form


def _checked(found: Sequence[tuple[str, str]], channel: int) -> Checked:
    checked = Checked([], [], {})
    for name, path in found:
        try:
            present, seconds = _measured(path, channel)
        except (ValueError, OSError) as error:
            checked.bad[name] = " ".join(str(error).split())
        else:
            checked.good.append((name, present))
            checked.seconds.append(seconds)
            checked.other_forms += present != path
    return checked


def _measured(path: str, channel: int) -> tuple[str, float]:
    """The path, in another unicode form where only that is there, and the length [s]."""
    absent = None
    for form in forms(path):
        try:
            return form, quality.require_file(form, channel=channel)
        except FileNotFoundError as error:
            absent = absent or error
    raise absent


def _make(model: Model, checked: Checked, part: Path, channel: int) -> None:
    """Embed one part; the file with the embeddings is written last."""
    good, rows, bad = checked.good, [], dict(checked.bad)
    try:
        if good:
            paths, seconds = [Path(path) for _, path in good], np.array(checked.seconds)
            made = embed_files(model, paths, READS, channel=channel, seconds=seconds)
            rows = list(made.full)
    except (ValueError, OSError):  # a recording that shows its fault when it is decoded: one by one
        kept, rows = [], []
        for name, path in good:
            try:
                rows.append(embed_files(model, [Path(path)], READS, channel=channel).full[0])
                kept.append((name, path))
            except (ValueError, OSError) as error:
                bad[name] = " ".join(str(error).split())
        good = kept
    if bad:
        with atomic(part.with_suffix(".bad.txt")) as file:
            file.writelines(f"{name}\t{reason}\n" for name, reason in bad.items())
    ids = np.array([name for name, _ in good], dtype=str)
    table = np.stack(rows).astype(np.float32) if rows else np.zeros((0, 0), np.float32)
    with atomic(part, "wb") as file:
        np.savez(file, ids=ids, embeddings=table)


def read_embeddings(
    folder: str | Path, wanted: Collection[str] | None = None, called: Callable[[str], str] = str
) -> dict[str, np.ndarray]:
    """Name -> embedding [E] of a folder that `embed_many` has filled.

    Args:
        wanted: names to read; None: all. called: id -> name.
    Raises:
        FileNotFoundError: no such folder. ValueError: parts are missing (resume the embedding), or two
            ids of one name.
    """
    found: dict[str, np.ndarray] = {}
    for ids, rows in _parts(Path(folder)):
        for name, row in zip(map(called, ids), rows, strict=True):
            if wanted is None or name in wanted:
                if name in found:
                    raise ValueError(f"{folder} holds {name} twice; embed one tree of the corpus")
                found[name] = row.copy()  # a row of a part would keep all of it
    return found


def _parts(folder: Path) -> Iterator[tuple[list[str], np.ndarray]]:
    """Ids [n] and embeddings [n, E] of each part."""
    if not (folder / STATE).is_file():
        raise FileNotFoundError(f"{folder} holds no {STATE}; give the --out of oskdft embed")
    parts = [_part(folder, s) for s in range(0, read_json(folder / STATE)["recordings"], PART)]
    absent = next((part for part in parts if not part.is_file()), None)
    if absent is not None:
        raise ValueError(f"{folder} lacks {absent.name}; run oskdft embed again, it goes on")
    for part in parts:
        with np.load(part) as made:
            yield made["ids"].tolist(), made["embeddings"]


def write_ark(folder: str | Path, out: str | Path) -> None:
    """Write the embeddings of a folder as Kaldi vectors: OUT.ark and OUT.scp.

    Raises:
        ValueError: an id with a blank, which Kaldi cannot hold.
    """
    ark = Path(f"{out}.ark")
    with atomic(Path(f"{out}.scp")) as places, atomic(ark, "wb") as file:
        at = 0
        for ids, rows in _parts(Path(folder)):
            for name, row in zip(ids, rows, strict=True):
                if len(name.split()) != 1:
                    raise ValueError(f"{name!r} holds a blank; Kaldi's ids cannot")
                head = f"{name} ".encode()
                places.write(f"{name} {ark.resolve()}:{at + len(head)}\n")
                body = b"\0BFV \4" + len(row).to_bytes(4, "little") + row.astype("<f4").tobytes()
                file.write(head + body)
                at += len(head) + len(body)
