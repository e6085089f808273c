"""Tar shards from recordings: encoded in several processes, written in order, whole or not at all.

Each shard that was written has a record. A run that was ended in any way resumes behind the last
record, and the number of processes changes no byte of a shard.
"""

import contextlib
import functools
import io
import itertools
import json
import math
import multiprocessing
import os
import tarfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from oskdft.speech.corpora.recode import Encoded, encode, member_name
from oskdft.utils import files
from oskdft.utils.ahead import ahead
from oskdft.utils.console import progress, say
from oskdft.utils.process import begin_data_worker

AHEAD = 16  # recordings in work or waiting to be written, for each process


def written(out: Path, records: Path) -> dict[str, dict]:
    """Records of the shards in ``out`` that are as they were written, by file name.

    Args:
        out: folder of the shards. records: folder of their records.
    """
    unchanged = {}
    for path in progress(sorted(records.glob("*.tar.json")), f"checking {out}"):
        record = files.read_json(path)
        if is_intact(out, record):
            unchanged[record["name"]] = record
        else:
            say(f"{out / record['name']} was changed since it was written; it is made again")
    return unchanged


def is_intact(out: Path, record: dict) -> bool:
    """Whether a shard has the SHA-256 of its record; a shard without members has no file."""
    path = out / record["name"]
    if not record["members"]:
        return not path.exists()
    return path.is_file() and files.sha256(path) == record["sha256"]


def write_shards(
    root: Path,
    shards: dict[str, list[str]],
    out: Path,
    records: Path,
    codec: str,
    kbit: int,
    processes: int,
) -> dict[str, dict]:
    """Encode recordings and write them as shards; return the records by file name.

    Args:
        root: folder of the recordings. shards: file name of each shard -> names of its recordings.
        out: folder of the shards. records: folder of their records.
        codec, kbit: see `recode.encode`. processes: that encode.
    """
    done: dict[str, dict] = {}
    names = list(itertools.chain.from_iterable(shards.values()))
    if not names:
        return done
    encoded = progress(_encoded(root, names, codec, kbit, processes), "packing", len(names))
    with contextlib.closing(encoded):
        for shard, members in shards.items():
            results = zip(members, itertools.islice(encoded, len(members)), strict=True)
            done[shard] = write_shard(out / shard, results, codec)
            with files.atomic(records / f"{shard}.json") as file:
                json.dump(done[shard], file)  # ASCII, also for names that are not UTF-8
    return done


def write_shard(path: Path, results: Iterable[tuple[str, Encoded]], codec: str) -> dict:
    """Write a shard, whole or not at all, and return its record. Without members: no file."""
    seconds: list[float] = []
    left_out: list[tuple[str, str, str]] = []
    resampled = 0
    with (
        files.atomic(path, "wb") as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, encoded in results:
            if encoded.kind:
                left_out.append((name, encoded.kind, encoded.reason))
                continue
            member = tarfile.TarInfo(member_name(name, codec))  # owner 0, mode 0644, time 0
            member.size = len(encoded.data)
            tar.addfile(member, io.BytesIO(encoded.data))
            seconds.append(encoded.seconds)
            resampled += encoded.resampled
    record = {
        "name": path.name,
        "bytes": path.stat().st_size,
        "sha256": files.sha256(path),
        "members": len(seconds),
        "seconds": round(math.fsum(seconds), 3),
        "resampled": resampled,
        "left_out": left_out,
    }
    if not seconds:
        path.unlink()
    return record


def _encoded(
    root: Path, names: list[str], codec: str, kbit: int, processes: int
) -> Iterator[Encoded]:
    """Encode recordings in processes; yield in order, with a bounded number ahead."""
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, spawn, initializer=_begin_worker)
    work = functools.partial(encode, root, codec=codec, kbit=kbit)
    for [encoded] in ahead(work, ([name] for name in names), pool, AHEAD * processes):
        yield encoded


def _begin_worker() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, which resamples
    begin_data_worker(0)  # ends with its main process, also if that is killed
