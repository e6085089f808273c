"""Pack a corpus into tar shards with its tables and a manifest.

`pack_plan` fixes the members of each shard before the first recording is encoded. `pack_shards` writes
and records the shards one after another; the same call therefore resumes after any end, and neither
an interruption nor the number of processes changes a byte of the result.

==================  ================================================================================
`NAME-000000.tar`   uncompressed; a member is the recording's path below the root, with the suffix
                    of the codec; members sorted by name; time, owner and mode fixed
tables              Kaldi tables, trial lists, tables of speakers, licences; paths
                    have the suffix of the codec, left-out utterances are out of the Kaldi tables
`left_out.tsv`      path, kind and reason of each recording that is not in a shard
`manifest.json`     counts, versions, and size and SHA-256 of each shard and table
`.pack/`            plan, records of finished shards and lock; removed at the end
==================  ================================================================================
"""

import errno
import math
import re
import shutil
from collections import Counter
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path

from oskdft.config import SAMPLE_RATE
from oskdft.speech.corpora.catalogue import known
from oskdft.speech.corpora.pack_plan import (
    SHARD_MB,
    LeftOut,
    Settings,
    Sources,
    difference,
    divided,
    has_media,
    plan_of,
    settings_of,
    sources_of,
)
from oskdft.speech.corpora.pack_shards import is_intact, write_shards, written
from oskdft.speech.corpora.packed_tables import Names, tables_of, write_table
from oskdft.utils import files
from oskdft.utils.console import progress, say, some
from oskdft.utils.lock import Lock
from oskdft.utils.provenance import cores

WORK, MANIFEST, LEFT_OUT = ".pack", "manifest.json", "left_out.tsv"
LARGEST_MANIFEST = 64 << 20  # bytes
EXAMPLES = 3  # names of each kind of left-out recordings in a report
KINDS = {  # kind of a recording that is left out -> meaning and fix
    "missing": "named in the tables, absent on disk; complete the corpus",
    "unreadable": "empty, cut off or not audio; copy or download them again",
    "stereo": "more than one channel; make them mono, or take --codec copy",
    "doubled": "the same name as another recording but for the suffix; rename them",
    "layout": "audio outside the layout of the corpus; move them, or pack them as another corpus",
}


def pack(
    name: str,
    root: str | Path,
    out: str | Path,
    codec: str = "flac",
    kbit: int = 0,
    shard_mb: float = SHARD_MB,
    processes: int = 0,
) -> dict:
    """Pack a corpus into tar shards; the same call resumes an interrupted one.

    A recording becomes mono at ``SAMPLE_RATE`` as `audio.read` would read it: another rate is
    resampled, one of several channels is left out. 16-bit recordings at ``SAMPLE_RATE`` stay equal in
    FLAC; m4a files become as long as ffmpeg makes them. `copy` keeps bytes, rate and channels.

    Args:
        name: corpus of the catalogue. root: its folder; empty: see `find_root`.
        out: folder for the shards: new, empty, or of an earlier call with the same settings.
        codec: "flac" (16 bit), "opus" (Ogg Opus) or "copy" (each file is only decoded as a check).
        kbit: bit rate of Opus [kbit/s]; 0: `recode.DEFAULT_KBIT`.
        shard_mb: about how large a shard is [MB].
        processes: that encode; 0: one per core.
    Returns:
        The manifest, with "left_out_names": the first names of each kind.
    Raises:
        ValueError: unknown corpus or codec; nothing to pack; ``out`` is not of this command, of other
            settings, in use, or damaged; the corpus changed since the plan.
        FileNotFoundError: no such folder. ImportError: PyAV is needed and absent.
        OSError: the disk is full or not writable; the same call resumes.

    >>> import tempfile
    >>> import numpy as np
    >>> from oskdft.speech import audio
    >>> folder = Path(tempfile.mkdtemp())
    >>> audio.write(folder / "corpus" / "ann" / "1.wav", np.full(16_000, 0.1))
    >>> manifest = pack("folder", folder / "corpus", folder / "packed", processes=1)
    >>> manifest["utterances"], manifest["shards"][0]["name"]
    (1, 'folder-000000.tar')
    """
    settings = settings_of(name, codec, kbit, shard_mb)
    out = Path(out)
    if (out / MANIFEST).exists() and not (out / WORK).exists():
        return _finished(out, settings)
    if not (out / WORK).is_dir():
        files.require_new_folder(out)
    files.require_writable(out)
    sources = sources_of(settings, root, out)
    try:
        with Lock(out / WORK):
            manifest = _pack(settings, sources, out, processes or cores())
            shutil.rmtree(out / WORK)
    except BrokenProcessPool:
        raise ValueError(
            "a process that encodes was killed (out of memory?); run the same command again to "
            "resume, with fewer --processes if it happens again"
        ) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise OSError(
                f"the disk of {out} is full; free some space and run the same command again to resume"
            ) from None
        raise
    return manifest


def _pack(settings: Settings, sources: Sources, out: Path, processes: int) -> dict:
    """Write what is not yet there: shards, tables, list of left-out recordings, manifest."""
    plan = plan_of(settings, sources, out, out / WORK / "plan.json")
    for part in out.glob(".*.part"):  # of a process that was killed
        part.unlink()
    if settings.codec == "copy" and has_media(sources):
        say("m4a files are copied; training cannot read them: --codec flac or opus converts them")
    shards = divided(settings, sources)
    records = written(out, out / WORK)
    if records:
        say(f"{out}: {len(records)} of {len(shards)} shards are there; the rest follows")
    todo = {shard: names for shard, names in shards.items() if shard not in records}
    codec, kbit = settings.codec, settings.kbit
    records |= write_shards(sources.root, todo, out, out / WORK, codec, kbit, processes)

    left_out = list(sources.left_out)
    for shard in shards:
        left_out += [LeftOut(*entry) for entry in records[shard]["left_out"]]
    gone = {entry.name for entry in left_out}
    pairs = zip(sources.names, sources.speakers, strict=True)
    packed = {name: speaker for name, speaker in pairs if name not in gone}
    if not packed:
        first = left_out[0]
        raise ValueError(f"nothing could be packed: {first.name} {first.reason}")
    names = Names(list(packed), gone, settings.codec, sources.root)
    paths = tables_of(sources.root, own=(MANIFEST, LEFT_OUT))
    tables = [write_table(sources.root, path, out, names) for path in paths]
    (out / LEFT_OUT).unlink(missing_ok=True)
    if left_out:
        with files.atomic(out / LEFT_OUT, "wb") as file:
            for entry in sorted(left_out, key=lambda entry: (entry.name, entry.kind)):
                file.write(("\t".join(map(_printable, entry)) + "\n").encode())
    kinds = Counter(entry.kind for entry in left_out)
    full = [records[shard] for shard in shards if records[shard]["members"]]
    manifest = {
        "corpus": settings.corpus,
        "title": known(settings.corpus).title,
        "licence": known(settings.corpus).licence,
        "codec": settings.codec,
        "kbit": settings.kbit or None,
        "shard_mb": settings.shard_mb,
        "utterances": len(packed),
        "speakers": len(set(packed.values())),
        "seconds": round(math.fsum(record["seconds"] for record in full), 3),
        "bytes": sum(record["bytes"] for record in full),
        "resampled": sum(record["resampled"] for record in full),
        "left_out": {kind: kinds[kind] for kind in KINDS if kinds[kind]},
        "versions": plan["versions"],
        "shards": [
            {key: record[key] for key in ("name", "bytes", "members", "seconds", "sha256")}
            for record in full
        ],
        "tables": tables,
    }
    files.write_json(out / MANIFEST, manifest)
    return _report(out, manifest)


def _printable(text: str) -> str:
    """Text on one line of a table, also where a name is not UTF-8 or holds tabs."""
    return re.sub(r"[\t\r\n]", " ", text).encode("utf-8", "backslashreplace").decode()


# Reports


def _finished(out: Path, settings: Settings) -> dict:
    """The report of a pack that is complete; every shard is compared with its SHA-256."""
    manifest = files.read_json(out / MANIFEST, LARGEST_MANIFEST)
    if not isinstance(manifest, dict) or not {"codec", "shards", "versions"} <= manifest.keys():
        raise ValueError(f"{out} was not made by this command; choose a new folder as --out")
    before = {key: manifest.get(key) or 0 for key in asdict(settings)}
    if changed := difference(before, asdict(settings)):
        raise ValueError(f"{out} holds another pack: {changed}; choose another --out")
    for shard in progress(manifest["shards"], f"checking {out}"):
        if not is_intact(out, shard):
            raise ValueError(
                f"{out / shard['name']} does not fit {out / MANIFEST}; restore it, or choose another "
                "--out"
            )
    say(f"{out} is complete already")
    return _report(out, manifest)


def _report(out: Path, manifest: dict) -> dict:
    """The manifest and the first names of each kind of left-out recordings."""
    examples: dict[str, list[str]] = {}
    if manifest["left_out"]:
        with open(out / LEFT_OUT, encoding="utf-8") as file:
            for line in file:
                name, kind, _ = line.split("\t", 2)
                examples.setdefault(kind, []).append(name)
    examples = {kind: names[:EXAMPLES] for kind, names in examples.items()}
    return manifest | {"left_out_names": examples}


def summary(manifest: dict) -> dict:
    """The report of `pack` without the lists of shards and tables."""
    lists = {"shards": len(manifest["shards"]), "tables": len(manifest["tables"])}
    return manifest | lists


def lines(out: str | Path, manifest: dict) -> list[str]:
    """The report of `pack` as text."""
    kbit = f", {manifest['kbit']} kbit/s" if manifest["kbit"] else ""
    report = [
        f"{out}: {manifest['utterances']:,} utterances of {manifest['speakers']:,} speakers, "
        f"{manifest['seconds']:,.1f} s, {manifest['bytes']:,} bytes in {len(manifest['shards'])} "
        f"shards ({manifest['codec']}{kbit})"
    ]
    if manifest["resampled"]:
        report.append(f"resampled to {SAMPLE_RATE} Hz: {manifest['resampled']:,}")
    for kind, count in manifest["left_out"].items():
        examples = some(manifest["left_out_names"][kind], count)
        report.append(f"left out, {kind}: {count:,} {KINDS[kind]} ({examples})")
    for table in manifest["tables"]:
        if table.get("left_out_recordings"):
            report.append(
                f"note: {table['name']} names left-out recordings {table['left_out_recordings']:,} "
                "times; it cannot be evaluated as it is"
            )
    if manifest["left_out"]:
        report.append(f"all of them, with reasons: {Path(out) / LEFT_OUT}")
    return report
