"""Download of the corpora that OpenSLR publishes.

A download resumes after a cut. The archive is compared with the published checksum and unpacked
without trust in its members' names; the corpus appears under its name only when it is complete.
"""

import errno
import functools
import gzip
import hashlib
import http
import http.client
import math
import os
import re
import shutil
import stat
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from oskdft.speech.corpora.cache import cache_dir
from oskdft.speech.corpora.catalogue import OPENSLR, Archive, data_folders, known
from oskdft.utils import files
from oskdft.utils.console import progress, say
from oskdft.utils.lock import Lock, remove_killed

MIB = 1 << 20
TIMEOUT_S = 60.0
ROOM = 3  # disk space for archive and contents, in sizes of the archive
MOST_MEMBERS = 5_000_000  # files of an archive; VoxCeleb2 has 1.1 million
MOST_FOLDERS = 50  # that a file lies in
HEADER_BYTES = 1 << 20  # of a long name or of PAX entries
LONG_HEADERS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
MAX_MEMBER_BYTES = 4 << 30  # far above the longest member of a known archive
SMALL_BYTES = 64 * MIB  # contents that an archive of any size may have
MAX_GROWTH = 50  # contents over archive; speech and noise compress by less than 3


def get(name: str, dest: str | Path = "", url: str = "") -> Path:
    """Download and unpack a corpus; after a cut, the same call resumes the download.

    Args:
        name: corpus. dest: new folder; empty: $OSKDFT_DATA/<name>, else ./data/<name>.
        url: address of a mirror of `OPENSLR`.
    Returns:
        the folder of the complete corpus.
    Raises:
        ValueError: no public download, wrong checksum, or an archive with links or with paths that
            lead outside. FileExistsError: ``dest`` holds files.
        ConnectionError: unreachable or cut off. OSError: disk full or not writable.

    >>> get("voxceleb1")
    Traceback (most recent call last):
    ...
    ValueError: voxceleb1 cannot be downloaded by this command: register at ...
    """
    corpus = known(name)
    if not corpus.archives:
        raise ValueError(
            f"{name} cannot be downloaded by this command: {corpus.how_to}. "
            f"Licence: {corpus.licence}. Expected below the root: {corpus.layout}"
        )
    target = Path(dest) if dest else data_folders()[0] / name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise FileExistsError(
                f"{target} exists already; move it away, or check it: "
                f"oskdft data check {name} --root {target}"
            )
        files.require_writable(target, "--dest")
        mirror = (url or OPENSLR).rstrip("/")
        needed = ROOM * sum(archive.size for archive in corpus.archives)
        fix = "free some space, or choose another folder"
        files.check_room(target.parent, needed, "downloading and unpacking needs", fix)
        downloads = {a: _fetch(f"{mirror}/{a.path}", target.parent) for a in corpus.archives}
        for archive, path in downloads.items():
            _verify(path, archive)
        _unpack(list(downloads.values()), target)
    except OSError as error:
        raise _explained(error, target.parent) from None
    for archive, path in downloads.items():
        if not archive.md5:
            _record(archive, path)
        path.unlink()
    return target


def _explained(error: OSError, folder: Path) -> OSError:
    """The error with the folder and the fix for a full disk or a folder that cannot be written."""
    if error.errno == errno.ENOSPC:
        return OSError(f"the disk of {folder} is full; free some space and run the command again")
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST):
        return OSError(f"cannot write below {folder} ({error.strerror}); choose another folder")
    return error


def _open(address: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    if not address.startswith(("http://", "https://")):
        raise ValueError(f"{address} is not a web address; it begins with https:// or http://")
    request = urllib.request.Request(address, headers={"User-Agent": "oskdft", **headers})
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return error  # a response: nothing is left to send
        raise ConnectionError(
            f"{address}: the server answers {error.code} {error.reason}; try a mirror"
        ) from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise ConnectionError(
            f"{address} cannot be reached ({reason}); check the network, or try a mirror"
        ) from None


def _fetch(address: str, folder: Path) -> Path:
    """Download to folder/NAME.part, resuming an earlier call, then rename to folder/NAME."""
    done = folder / PurePosixPath(address).name
    part = done.with_name(done.name + ".part")
    version = done.with_name(done.name + ".version.part")
    if done.exists():
        return done
    headers = {}
    if part.exists() and version.exists():  # resume only if the server still has the same file
        headers = {"Range": f"bytes={part.stat().st_size}-", "If-Range": version.read_text()}
    with _open(address, headers) as response:
        if response.status == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            whole = re.fullmatch(r"bytes \*/(\d+)", response.headers.get("Content-Range", ""))
            if whole is None or int(whole[1]) != part.stat().st_size:
                part.unlink()
                raise ConnectionError(
                    f"{part} does not fit {address}; removed, run the same command again"
                )
        else:
            _write(response, part, version)
    os.replace(part, done)
    version.unlink(missing_ok=True)
    return done


def _write(response: http.client.HTTPResponse, part: Path, version: Path) -> None:
    content_range = re.fullmatch(
        r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", "")
    )
    resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT and content_range is not None
    start = int(content_range[1]) if resumed else 0
    length = int(content_range[2]) if resumed else int(response.headers.get("Content-Length", -1))
    tag = response.headers.get("ETag", "")
    if not tag.startswith('"'):  # a weak tag does not identify the bytes
        tag = response.headers.get("Last-Modified", "")
    if tag:
        version.write_text(tag)
    else:
        version.unlink(missing_ok=True)
    with open(part, "r+b" if resumed else "wb") as file:
        file.seek(start)
        file.truncate()
        steps = math.ceil((length - start) / MIB) if length >= 0 else None
        for chunk in progress(_chunks(response), f"{part.stem} [MiB]", steps):
            file.write(chunk)
        size = file.tell()
    if length >= 0 and size != length:
        raise ConnectionError(
            f"{part.stem} was cut off: {size} of {length} bytes arrived; run the same command "
            "again to resume"
        )


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """Pieces of at most 1 MiB; a broken connection ends the iteration, `_write` compares lengths."""
    try:
        while chunk := response.read(MIB):
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        say(f"the connection broke: {error}")


def _verify(path: Path, archive: Archive) -> None:
    """Raise unless the archive has its published checksum, or else that of an earlier download."""
    if archive.md5:
        with open(path, "rb") as file:
            md5 = functools.partial(hashlib.md5, usedforsecurity=False)
            digest = hashlib.file_digest(file, md5).hexdigest()
        if digest != archive.md5:
            path.unlink()
            raise ValueError(
                f"{path.name} has MD5 {digest}, published is {archive.md5}; removed, download it again"
            )
    elif archive.path in (records := _records()):
        digest, recorded = files.sha256(path), records[archive.path]
        if digest != recorded:
            raise ValueError(
                f"{path} has sha256 {digest}, an earlier download had {recorded}; if the publisher "
                f"changed it, delete {_record_file()} and run again"
            )


def _record_file() -> Path:
    return cache_dir() / "downloads.json"


def _records() -> dict[str, str]:
    return files.read_json(_record_file()) if _record_file().exists() else {}


def _record(archive: Archive, path: Path) -> None:
    """Record the checksum of an archive without published checksum, for the next download."""
    digest = files.sha256(path)
    try:
        files.write_json(_record_file(), {**_records(), archive.path: digest})
        where = f"recorded in {_record_file()} and compared at the next download"
    except OSError as error:
        where = f"not recorded ({error})"
    say(f"no checksum of {archive.path} is published; sha256 {digest} {where}")


def _unpack(archives: list[Path], target: Path) -> None:
    """Unpack beside the target, drop a single outer folder, then rename: complete or absent."""
    remove_killed(target)
    work = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part"))
    lock = Lock(work)
    try:
        inside = work / "inside"  # mkdtemp creates folders that only their owner reads
        inside.mkdir()
        for archive in archives:
            _extract(archive, inside)
        entries = list(inside.iterdir())
        outer = entries[0] if len(entries) == 1 and entries[0].is_dir() else inside
        if target.is_dir():
            target.rmdir()  # empty, as `get` has checked
        os.replace(outer, target)
    finally:
        lock.release()
        shutil.rmtree(work, ignore_errors=True)


def _extract(archive: Path, folder: Path) -> None:
    """Extract a tar or zip archive; raises if it is damaged or has an unsafe member."""
    budget = MAX_GROWTH * archive.stat().st_size + SMALL_BYTES
    is_zip = zipfile.is_zipfile(archive)
    try:
        with (
            zipfile.ZipFile(archive) if is_zip else tarfile.open(archive, tarinfo=_Member)
        ) as opened:
            opened.extraction_filter = tarfile.data_filter  # no owners, no special modes
            members = opened.infolist() if is_zip else opened
            for count, member in enumerate(progress(members, f"unpacking {archive.name}")):
                budget -= _refuse_unsafe(archive, member, budget)
                if count >= MOST_MEMBERS:
                    raise ValueError(
                        f"{archive.name} holds more than {MOST_MEMBERS} files, more than a corpus needs; "
                        "nothing was unpacked, do not use this archive"
                    )
                opened.extract(member, folder)
                if not is_zip:
                    opened.members = []  # tarfile keeps them all
            while not is_zip and opened.fileobj.read(MIB):
                pass  # gzip compares its checksum at the end of the file, zip at each member
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(
            f"{archive} is damaged ({error}); delete it and download it again"
        ) from None


class _Member(tarfile.TarInfo):
    """A member whose header is bounded: tarfile would read a long name of gigabytes at once."""

    def _proc_member(self, opened: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in LONG_HEADERS and self.size > HEADER_BYTES:
            raise ValueError(
                f"{os.path.basename(str(opened.name))} holds a header of {self.size} bytes, more than "
                "a name needs; nothing was unpacked, do not use this archive"
            )
        return super()._proc_member(opened)


def _refuse_unsafe(archive: Path, member: tarfile.TarInfo | zipfile.ZipInfo, budget: int) -> int:
    """Bytes of a member; raises unless it is a plain file or folder that stays inside."""
    if isinstance(member, zipfile.ZipInfo):
        name, size, mode = member.filename, member.file_size, member.external_attr >> 16
        plain = stat.S_IFMT(mode) in (0, stat.S_IFREG, stat.S_IFDIR)
    else:
        name, size, plain = member.name, member.size, member.isreg() or member.isdir()
    fault = ""
    if re.match(r"[/\\]|[A-Za-z]:", name) or ".." in re.split(r"[/\\]", name):
        fault = "which leads outside the folder"
    elif not plain:
        fault = "which is a link or a device"
    elif len(re.split(r"[/\\]", name)) > MOST_FOLDERS:
        fault = f"which lies in more than {MOST_FOLDERS} folders"
    elif size > MAX_MEMBER_BYTES or size > budget:
        fault = f"which unpacks to {size} bytes, more than a corpus needs"
    if fault:
        raise ValueError(
            f"{archive.name} holds {name[:200]!r}, {fault}; nothing was unpacked, do not use this archive"
        )
    return size
