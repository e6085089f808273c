"""Pack a corpus into tar shards with its tables and a manifest: what is packed, and how it resumes.

A plan fixes the members of each shard before the first recording is encoded. `pack_shards` writes
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
import hashlib
import importlib.metadata
import math
import os
import re
import shutil
from collections import Counter
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import soundfile

from oskdft.config import SAMPLE_RATE, differences
from oskdft.speech.corpora.catalogue import known
from oskdft.speech.corpora.headers import remembered
from oskdft.speech.corpora.pack_shards import is_intact, write_shards, written
from oskdft.speech.corpora.packed_tables import Names, tables_of, write_table
from oskdft.speech.corpora.recode import CODECS, DEFAULT_KBIT, MEDIA, member_name
from oskdft.speech.corpora.tables import list_utterances
from oskdft.utils import files
from oskdft.utils.console import progress, say, some
from oskdft.utils.lock import Lock
from oskdft.utils.provenance import cores

KBIT = range(6, 129)  # kbit/s that libopus takes for one channel of speech
SHARD_MB = 256.0
# Bytes a second of audio, to estimate the sizes of shards: 16-bit WAV; FLAC of speech; lossy files
WAV_RATE, FLAC_RATE, LOSSY_RATE = 32_000, 16_000, 8_000
TAR_BLOCK = 512
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


@dataclass(frozen=True, slots=True)
class Settings:
    """What decides the bytes of a pack, besides the recordings."""

    corpus: str
    codec: str
    kbit: int  # 0: the codec has no bit rate
    shard_mb: float


class LeftOut(NamedTuple):
    """A recording that is in no shard: path below the root, key of `KINDS`, reason."""

    name: str
    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class Sources:
    """The recordings to pack, sorted by member name, and those that are known to be left out."""

    root: Path
    names: list[str]  # [n] paths below the root
    speakers: list[str]  # [n]
    sizes: list[int]  # [n] bytes
    left_out: list[LeftOut]
    digest: str  # SHA-256 of names, sizes and times of change


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
        kbit: bit rate of Opus [kbit/s]; 0: `DEFAULT_KBIT`.
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
    settings = _settings(name, codec, kbit, shard_mb)
    out = Path(out)
    if (out / MANIFEST).exists() and not (out / WORK).exists():
        return _finished(out, settings)
    if not (out / WORK).is_dir():
        files.require_new_folder(out)
    files.require_writable(out)
    sources = _sources(settings, root, out)
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


def _settings(name: str, codec: str, kbit: int, shard_mb: float) -> Settings:
    known(name)
    if codec not in CODECS:
        raise ValueError(f"--codec is {codec!r}; choose {', '.join(CODECS)}")
    if kbit and codec != "opus":
        raise ValueError(f"--kbit is for --codec opus; leave it out with {codec}")
    if kbit and kbit not in KBIT:
        raise ValueError(f"--kbit is {kbit}; choose {KBIT.start} to {KBIT.stop - 1}")
    if not 0.01 <= shard_mb <= 100_000:
        raise ValueError(f"--shard-mb is {shard_mb}; choose 0.01 to 100000")
    return Settings(name, codec, (kbit or DEFAULT_KBIT) if codec == "opus" else 0, float(shard_mb))


# Which recordings, and in which shards


def _sources(settings: Settings, root: str | Path, out: Path) -> Sources:
    utterances, extra = list_utterances(settings.corpus, root)
    folder = utterances.root
    if out.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"--out {out} is inside the corpus {folder}; choose a folder beside it")
    names = list(utterances.names())
    outside = [name for name in names if name.startswith(("/", "../"))]
    if outside:
        raise ValueError(
            f"{len(outside)} recordings are not below {folder}: {outside[0]}; move them into the corpus"
        )
    headers = remembered(folder, names, len(names))
    if not (headers["size"] >= 0).any():
        raise ValueError(
            f"{folder} holds no audio in the layout of {settings.corpus}; expected below it: "
            f"{known(settings.corpus).layout}"
        )
    left_out = [LeftOut(name, "layout", "outside the layout of the corpus") for name in extra]
    members = [member_name(name, settings.codec) for name in names]
    row_of: dict[str, int] = {}  # member -> its recording; of several the first by name
    for row in sorted(range(len(names)), key=lambda row: (members[row], names[row])):
        if headers["size"][row] < 0:
            left_out.append(LeftOut(names[row], "missing", "absent on disk"))
            continue
        first = names[row_of.setdefault(members[row], row)]
        if first != names[row]:  # else it is listed twice
            reason = f"{first} has the same name but for the suffix"
            left_out.append(LeftOut(names[row], "doubled", reason))
    kept = list(row_of.values())
    digest = hashlib.sha256()
    for row in kept:
        facts = f"\0{headers['size'][row]}\0{headers['changed'][row]}\n"
        digest.update(os.fsencode(names[row]) + facts.encode())
    for entry in left_out:
        digest.update(os.fsencode(f"{entry.name}\0{entry.kind}\n"))
    return Sources(
        root=folder,
        names=[names[row] for row in kept],
        speakers=[utterances.speakers[utterances.speaker[row]] for row in kept],
        sizes=headers["size"][kept].tolist(),
        left_out=left_out,
        digest=digest.hexdigest(),
    )


def _has_media(sources: Sources) -> bool:
    return any(name.lower().endswith(MEDIA) for name in sources.names)


def _versions(settings: Settings, sources: Sources) -> dict[str, str]:
    """Versions of what decides the bytes; PyAV where it is used.

    Raises:
        ImportError: PyAV is needed and absent.
    """
    versions = {
        "oskdft": importlib.metadata.version("oskdft"),
        "torchaudio": importlib.metadata.version("torchaudio"),
        "soundfile": soundfile.__version__,
        "libsndfile": soundfile.__libsndfile_version__,
    }
    if settings.codec == "opus" or _has_media(sources):
        try:
            import av
        except ImportError:
            use = "Opus is encoded" if settings.codec == "opus" else "m4a files are decoded"
            raise ImportError(
                f"{use} by PyAV, which is absent; pip install 'oskdft[media]'"
            ) from None
        versions["av"] = av.__version__
    return versions


def _ends(settings: Settings, sources: Sources) -> list[int]:
    """Number of recordings up to the end of each shard, from the sizes of the files."""
    target_rate = {"flac": FLAC_RATE, "opus": 1000 * settings.kbit / 8}.get(settings.codec)
    source_rates = {".wav": WAV_RATE, ".flac": FLAC_RATE}
    ends: list[int] = []
    filled = 0.0
    for row, (name, size) in enumerate(zip(sources.names, sources.sizes, strict=True)):
        if target_rate:
            suffix = os.path.splitext(name)[1].lower()
            size = size * target_rate / source_rates.get(suffix, LOSSY_RATE)
        size += 2 * TAR_BLOCK  # header, and half a block of padding, rounded up
        if filled and filled + size > settings.shard_mb * 1e6:
            ends.append(row)
            filled = 0.0
        filled += size
    return [*ends, len(sources.names)]


def _plan(settings: Settings, sources: Sources, out: Path) -> dict:
    """What the pack in ``out`` was begun with; raises if settings or recordings changed since."""
    path = out / WORK / "plan.json"
    facts = {
        "settings": asdict(settings),
        "versions": _versions(settings, sources),
        "input": sources.digest,
    }
    if not path.exists():
        files.write_json(path, facts)
        return facts
    plan = files.read_json(path)
    for key, what in (("settings", "settings"), ("versions", "versions of packages")):
        if plan[key] != facts[key]:
            raise ValueError(
                f"{out} was begun with other {what}: {_difference(plan[key], facts[key])}; "
                "use these, or choose another --out"
            )
    if plan["input"] != facts["input"]:
        raise ValueError(
            f"the recordings below {sources.root} changed since {out} was begun (names, sizes or "
            "times); restore them, or choose another --out"
        )
    return plan


def _difference(before: dict, now: dict) -> str:
    changed = differences(before, now)
    return ", ".join(f"{key} {old}, now {new}" for key, (old, new) in changed.items())


def _pack(settings: Settings, sources: Sources, out: Path, processes: int) -> dict:
    """Write what is not yet there: shards, tables, list of left-out recordings, manifest."""
    plan = _plan(settings, sources, out)
    for part in out.glob(".*.part"):  # of a process that was killed
        part.unlink()
    if settings.codec == "copy" and _has_media(sources):
        say("m4a files are copied; training cannot read them: --codec flac or opus converts them")
    shards = {}
    start = 0
    for number, end in enumerate(_ends(settings, sources)):
        shards[f"{settings.corpus}-{number:06}.tar"] = sources.names[start:end]
        start = end
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
    if difference := _difference(before, asdict(settings)):
        raise ValueError(f"{out} holds another pack: {difference}; choose another --out")
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
