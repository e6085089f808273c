"""Embeddings of many recordings: written part by part, resumed after a kill, shared by processes.

A folder of embeddings holds embedded.json (model and list), part-NNNNNN.npz ("ids" [n], "embeddings"
[n, E]) and, where recordings were left out, part-NNNNNN.bad.txt (id and reason). Letters: E embedding size.
"""

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from oskdft.config import EvalConfig
from oskdft.evaluation.embedding import Model, embed_files
from oskdft.evaluation.verifier import load
from oskdft.speech import quality
from oskdft.speech.corpora.layouts import PARTS, audio_below, kaldi_table
from oskdft.utils import lines, provenance, torchrun
from oskdft.utils.ahead import ahead
from oskdft.utils.console import progress
from oskdft.utils.files import atomic, read_json, require_new_folder, write_json

STATE = "embedded.json"
PART = 500  # recordings; a killed process loses at most one part
CLAIM_S = 60.0  # that the first of several processes may take to load its model
READS = EvalConfig(tta="full")  # whole recordings


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call has done: recordings embedded (also earlier), and id -> reason of those left out."""

    embedded: int
    bad: dict[str, str]


def recordings(
    root: str | Path = "", listed: str | Path = "", scp: str | Path = ""
) -> list[tuple[str, str]]:
    """Ids and paths of the recordings to embed.

    Args: exactly one of
        root: a folder; the id is the path below it.
        listed: a file of lines "path" or "id TAB path", paths relative to the file's folder.
        scp: wav.scp of Kaldi, paths relative to its folder, or where that is train, dev or test, to the
            corpus around it.
    Raises:
        ValueError: none or several of them, an id twice, a command in wav.scp, or no recordings.
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
        found = [(path, str(Path(root) / path)) for path in audio_below(Path(root))]
        source = Path(root)
    else:
        source = Path(listed or scp)
        if not source.is_file():
            raise FileNotFoundError(f"{source} is not a file")
        rows = kaldi_table(source).items() if scp else _listed(source)
        in_corpus = scp and source.parent.name in PARTS  # its paths start at the corpus
        base = source.parent.parent if in_corpus else source.parent
        found = [(name, str(base / path)) for name, path in rows]
    commands = [name for name, path in found if path.rstrip().endswith("|")]
    if commands:
        raise ValueError(f"{source}: {commands[0]} is a command; list recordings only")
    if not found:
        raise ValueError(f"{source} names no recordings")
    if len({name for name, _ in found}) < len(found):
        raise ValueError(f"{source} names an id twice; give each recording one of its own")
    return found


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
    bad: dict[str, str] = {}
    embedded = 0
    for start in starts:
        part = _part(out, start)
        with np.load(part) as made:
            embedded += len(made["ids"])
        reasons = part.with_suffix(".bad.txt")
        if reasons.is_file():
            rows = (line.split("\t", 1) for line in reasons.read_text("utf-8").splitlines())
            bad |= {key: reason for key, reason in rows}
    return Outcome(embedded, bad)


def _part(out: Path, start: int) -> Path:
    return out / f"part-{start // PART:06d}.npz"


def _claim(out: Path, found: Sequence[tuple[str, str]], described: dict, channel: int) -> None:
    """Write what the folder holds, or compare."""
    ids = hashlib.sha256("\n".join(name for name, _ in found).encode()).hexdigest()
    model = provenance.digest(repr(sorted(described.items(), key=str)))
    state = {"recordings": len(found), "ids_sha256": ids, "model": model}
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


@dataclass(frozen=True, slots=True)
class Checked:
    """Recordings of a part (id, path) whose headers show no fault, their lengths [s], id -> fault of others."""

    good: list[tuple[str, str]]
    seconds: list[float]
    bad: dict[str, str]


def _checked(found: Sequence[tuple[str, str]], channel: int) -> Checked:
    checked = Checked([], [], {})
    for name, path in found:
        try:
            checked.seconds.append(quality.require_file(path, channel=channel))
            checked.good.append((name, path))
        except (ValueError, OSError) as error:
            checked.bad[name] = " ".join(str(error).split())
    return checked


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


def read_embeddings(folder: str | Path) -> dict[str, np.ndarray]:
    """Id -> embedding [E] of a folder that `embed_many` has filled.

    Raises:
        FileNotFoundError: no such folder. ValueError: parts are missing; resume the embedding.
    """
    folder = Path(folder)
    if not (folder / STATE).is_file():
        raise FileNotFoundError(f"{folder} holds no {STATE}; give the --out of oskdft embed")
    count = read_json(folder / STATE)["recordings"]
    embeddings: dict[str, np.ndarray] = {}
    for start in range(0, count, PART):
        part = _part(folder, start)
        if not part.is_file():
            raise ValueError(f"{folder} lacks {part.name}; run oskdft embed again, it goes on")
        with np.load(part) as made:
            embeddings |= dict(zip(made["ids"].tolist(), made["embeddings"], strict=True))
    return embeddings


def write_ark(folder: str | Path, out: str | Path) -> None:
    """Write the embeddings of a folder as Kaldi vectors: OUT.ark and OUT.scp.

    Raises:
        ValueError: an id with a blank, which Kaldi cannot hold.
    """
    embeddings = read_embeddings(folder)
    ark = Path(f"{out}.ark")
    odd = next((name for name in embeddings if len(name.split()) != 1), None)
    if odd is not None:
        raise ValueError(f"{odd!r} holds a blank; Kaldi's ids cannot")
    places = []
    with atomic(ark, "wb") as file:
        at = 0
        for name, row in embeddings.items():
            head = f"{name} ".encode()
            places.append(f"{name} {ark.resolve()}:{at + len(head)}\n")
            body = b"\0BFV \4" + len(row).to_bytes(4, "little") + row.astype("<f4").tobytes()
            file.write(head + body)
            at += len(head) + len(body)
    with atomic(Path(f"{out}.scp")) as file:
        file.writelines(places)
