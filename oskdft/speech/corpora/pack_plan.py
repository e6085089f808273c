"""What is packed: settings, recordings and their division into shards, fixed before the first is encoded."""

import hashlib
import importlib.metadata
import itertools
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import soundfile

from oskdft.config import differences
from oskdft.speech.corpora.catalogue import known
from oskdft.speech.corpora.headers import remembered
from oskdft.speech.corpora.recode import CODECS, DEFAULT_KBIT, MEDIA, member_name
from oskdft.speech.corpora.tables import list_utterances
from oskdft.utils import files

KBIT = range(6, 129)  # kbit/s that libopus takes for one channel of speech
SHARD_MB = 256.0
# Bytes a second of audio, to estimate the sizes of shards: 16-bit WAV; FLAC of speech; lossy files
WAV_RATE, FLAC_RATE, LOSSY_RATE = 32_000, 16_000, 8_000
TAR_BLOCK = 512


@dataclass(frozen=True, slots=True)
class Settings:
    """What decides the bytes of a pack, besides the recordings."""

    corpus: str
    codec: str
    kbit: int  # 0: the codec has no bit rate
    shard_mb: float


class LeftOut(NamedTuple):
    """A recording that is in no shard: path below the root, key of `pack.KINDS`, reason."""

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


def settings_of(name: str, codec: str, kbit: int, shard_mb: float) -> Settings:
    """The settings of a pack.

    Raises:
        ValueError: unknown corpus or codec, or a number outside its range.
    """
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


def sources_of(settings: Settings, root: str | Path, out: Path) -> Sources:
    """The recordings of the corpus, without those that can be in no shard.

    Raises:
        ValueError: ``out`` is inside the corpus, recordings are outside it, or it holds none.
        FileNotFoundError: no such folder.
    """
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


def has_media(sources: Sources) -> bool:
    """Whether PyAV alone decodes some of the recordings."""
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
    if settings.codec == "opus" or has_media(sources):
        try:
            import av
        except ImportError:
            use = "Opus is encoded" if settings.codec == "opus" else "m4a files are decoded"
            raise ImportError(
                f"{use} by PyAV, which is absent; pip install 'oskdft[media]'"
            ) from None
        versions["av"] = av.__version__
    return versions


def divided(settings: Settings, sources: Sources) -> dict[str, list[str]]:
    """Name of each shard -> its recordings, divided by the sizes of the files."""
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
    spans = itertools.pairwise([0, *ends, len(sources.names)])
    return {
        f"{settings.corpus}-{number:06}.tar": sources.names[start:end]
        for number, (start, end) in enumerate(spans)
    }


def plan_of(settings: Settings, sources: Sources, out: Path, path: Path) -> dict:
    """What the pack in ``out`` was begun with, from ``path``; written there at the first call.

    Raises:
        ValueError: settings, versions or recordings changed since. ImportError: see `_versions`.
    """
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
                f"{out} was begun with other {what}: {difference(plan[key], facts[key])}; "
                "use these, or choose another --out"
            )
    if plan["input"] != facts["input"]:
        raise ValueError(
            f"the recordings below {sources.root} changed since {out} was begun (names, sizes or "
            "times); restore them, or choose another --out"
        )
    return plan


def difference(before: dict, now: dict) -> str:
    """The settings that differ, as text; empty: none.

    >>> difference({"codec": "flac", "kbit": 0}, {"codec": "opus", "kbit": 0})
    'codec flac, now opus'
    """
    changed = differences(before, now)
    return ", ".join(f"{key} {old}, now {new}" for key, (old, new) in changed.items())
