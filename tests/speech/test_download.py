"""Getting corpora: resumed, verified, unpacked without trust, whole or absent. Loopback only."""

import dataclasses
import errno
import hashlib
import http.server
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import peak_memory
import pytest

from oskdft.speech.corpora import catalogue, download
from oskdft.speech.corpora.download import get

WAVE = os.urandom(300_000)  # does not shrink, so that a cut falls into it


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `files`; knows Range, If-Range; breaks off after `cut` bytes if set."""

    def do_GET(self) -> None:
        server, name = self.server, self.path.rpartition("/")[2]
        server.requests.append((self.command, self.path, self.headers.get("Range")))
        if name not in server.files:
            return self.send_error(404)
        body, start = server.files[name], 0
        tag = f'"{hashlib.md5(body).hexdigest()}"'
        span = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if span and self.headers.get("If-Range") == tag and server.ranges:
            start = int(span[1])
        if start >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.send_header("ETag", tag)
        self.end_headers()
        if self.command == "GET":
            end = len(body) if server.cut is None else start + server.cut
            self.wfile.write(body[start:end])

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[http.server.ThreadingHTTPServer]:
    it = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    it.files, it.requests, it.cut, it.ranges = {}, [], None, True
    it.url = f"http://127.0.0.1:{it.server_port}/resources"
    thread = threading.Thread(target=it.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield it
    it.shutdown()
    thread.join()
    it.server_close()


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("OSKDFT_DATA", str(tmp_path / "data"))


def tar(*members: tarfile.TarInfo | tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return out.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def offer(
    server: http.server.ThreadingHTTPServer,
    monkeypatch: pytest.MonkeyPatch,
    body: bytes,
    name: str = "musan",
    checked: bool = True,
) -> bytes:
    """Put an archive on the server, under the name and checksum that the corpus is known by."""
    corpus = catalogue.CORPORA[name]
    archives = tuple(
        dataclasses.replace(
            archive, md5=hashlib.md5(body).hexdigest() if checked else None, size=len(body)
        )
        for archive in corpus.archives
    )
    monkeypatch.setitem(catalogue.CORPORA, name, dataclasses.replace(corpus, archives=archives))
    for archive in archives:
        server.files[archive.path.rpartition("/")[2]] = body
    return body


GOOD = (("musan/noise/free sound/é.wav", WAVE), ("musan/README", b"read me"))


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_get_and_unpack(server, monkeypatch, tmp_path):
    offer(server, monkeypatch, tar(*GOOD))
    assert get("musan", url=server.url) == tmp_path / "data" / "musan"
    assert (tmp_path / "data/musan/noise/free sound/é.wav").read_bytes() == WAVE
    assert (tmp_path / "data/musan/README").read_bytes() == b"read me"
    assert left(tmp_path / "data") == ["musan"]  # no archive, no temporary folder
    assert server.requests[-1][1] == "/resources/17/musan.tar.gz"
    assert (tmp_path / "data/musan").stat().st_mode & 0o700 == 0o700


def test_zip(server, monkeypatch, tmp_path):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("RIRS_NOISES/simulated_rirs/1.wav", WAVE)
    offer(server, monkeypatch, out.getvalue(), "rirs_noises")
    root = get("rirs_noises", tmp_path / "rooms", server.url)
    assert (root / "simulated_rirs/1.wav").read_bytes() == WAVE


def test_two_archives_share_their_outer_folder(server, monkeypatch, tmp_path):
    parts = ("train-clean-5", "dev-clean-2")
    offer(server, monkeypatch, b"", "mini_librispeech", checked=False)
    for part in parts:
        server.files[f"{part}.tar.gz"] = tar((f"LibriSpeech/{part}/1/2/1-2-0.flac", WAVE))
    root = get("mini_librispeech", url=server.url)
    assert left(root) == ["dev-clean-2", "train-clean-5"]


def test_a_cut_download_is_resumed(server, monkeypatch, tmp_path):
    body = offer(server, monkeypatch, tar(*GOOD))
    server.cut = 100_000
    with pytest.raises(ConnectionError, match=rf"cut off: 100000 of {len(body)} bytes .* again"):
        get("musan", url=server.url)
    assert left(tmp_path / "data") == ["musan.tar.gz.part", "musan.tar.gz.version.part"]
    with pytest.raises(ConnectionError, match="cut off: 200000 of"):
        get("musan", url=server.url)
    server.cut = None
    assert (get("musan", url=server.url) / "noise/free sound/é.wav").read_bytes() == WAVE
    asked = [span for _, _, span in server.requests]
    assert asked == [None, "bytes=100000-", "bytes=200000-"]
    assert left(tmp_path / "data") == ["musan"]


def test_a_file_that_changed_meanwhile_starts_again(server, monkeypatch):
    offer(server, monkeypatch, tar(("musan/noise/old.wav", os.urandom(300_000))))
    server.cut = 100_000
    with pytest.raises(ConnectionError):
        get("musan", url=server.url)
    server.cut = None
    offer(server, monkeypatch, tar(*GOOD))
    assert (get("musan", url=server.url) / "README").exists()


def test_a_server_without_ranges_starts_again(server, monkeypatch):
    offer(server, monkeypatch, tar(*GOOD))
    server.cut, server.ranges = 100_000, False
    with pytest.raises(ConnectionError):
        get("musan", url=server.url)
    server.cut = None
    assert (get("musan", url=server.url) / "README").exists()


def test_a_part_that_is_already_whole_is_taken(server, monkeypatch, tmp_path):
    body = offer(server, monkeypatch, tar(*GOOD))
    server.cut = len(body) - 1
    with pytest.raises(ConnectionError):
        get("musan", url=server.url)
    with open(tmp_path / "data/musan.tar.gz.part", "ab") as file:
        file.write(body[-1:])
    assert (get("musan", url=server.url) / "README").exists()


def test_a_wrong_checksum_is_refused_and_removed(server, monkeypatch, tmp_path):
    offer(server, monkeypatch, tar(*GOOD))
    server.files["musan.tar.gz"] = tar(("musan/README", b"other"))
    with pytest.raises(ValueError, match=r"musan\.tar\.gz has MD5 .*published is .*removed"):
        get("musan", url=server.url)
    assert left(tmp_path / "data") == []


def test_without_a_published_checksum_the_first_one_counts(server, monkeypatch, tmp_path, capsys):
    body = offer(server, monkeypatch, tar(*GOOD), checked=False)
    get("musan", url=server.url)
    digest = hashlib.sha256(body).hexdigest()
    assert (
        f"no checksum of 17/musan.tar.gz is published; sha256 {digest}" in capsys.readouterr().err
    )
    get("musan", tmp_path / "again" / "musan", server.url)
    offer(server, monkeypatch, tar(("musan/README", b"other")), checked=False)
    with pytest.raises(ValueError, match=f"an earlier download had {digest}; if the publisher"):
        get("musan", tmp_path / "third" / "musan", server.url)


@pytest.mark.parametrize(
    ("member", "fault"),
    [
        (("musan/../../evil", b"x"), "leads outside"),
        (("../evil", b"x"), "leads outside"),
        (("/tmp/evil", b"x"), "leads outside"),
        (("C:\\evil", b"x"), "leads outside"),
        (("musan\\..\\..\\evil", b"x"), "leads outside"),
        (special("musan/link", tarfile.SYMTYPE, "/etc/passwd"), "is a link or a device"),
        (special("musan/link", tarfile.SYMTYPE, "README"), "is a link or a device"),
        (special("musan/hard", tarfile.LNKTYPE, "musan/README"), "is a link or a device"),
        (special("musan/pipe", tarfile.FIFOTYPE), "is a link or a device"),
    ],
    ids=lambda given: getattr(given, "name", str(given)),
)
def test_tar_members_that_are_refused(server, monkeypatch, tmp_path, member, fault):
    offer(server, monkeypatch, tar(GOOD[1], member))
    with pytest.raises(ValueError, match=rf"musan\.tar\.gz holds .*{fault}.*nothing was unpacked"):
        get("musan", url=server.url)
    assert left(tmp_path / "data") == ["musan.tar.gz"] and not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    ("name", "mode", "fault"),
    [
        ("../evil", 0o100644, "leads outside"),
        ("/evil", 0o100644, "leads outside"),
        ("RIRS/link", 0o120777, "is a link"),
    ],
)
def test_zip_members_that_are_refused(server, monkeypatch, tmp_path, name, mode, fault):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        archive.writestr(info, "target")
    offer(server, monkeypatch, out.getvalue(), "rirs_noises")
    with pytest.raises(ValueError, match=fault):
        get("rirs_noises", url=server.url)
    assert left(tmp_path / "data") == ["rirs_noises.zip"]


@pytest.mark.parametrize("packed", ["w", "w:gz"])
@pytest.mark.parametrize(
    "kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE]
)
@pytest.mark.parametrize("first", [True, False])
def test_long_headers_are_refused_before_they_are_read(tmp_path, packed, kind, first):
    """A header that claims 6 GB; tarfile would ask for that much memory."""
    claims = special("././@LongLink", kind)
    claims.size = 6 << 30
    path = tmp_path / "a.tar"
    with tarfile.open(path, packed) as archive:
        if not first:
            sound = tarfile.TarInfo("ann/1.txt")
            archive.addfile(sound)
        archive.fileobj.write(claims.tobuf(tarfile.GNU_FORMAT))
    with peak_memory.at_most(100 << 20), pytest.raises(ValueError, match="a header of 6442450944"):
        download._extract(path, tmp_path / "out")


def test_names_and_numbers_of_members_are_bounded(tmp_path, monkeypatch):
    def archive(*names: str) -> Path:
        path = tmp_path / "a.tar"
        path.write_bytes(tar(*((name, b"") for name in names)))
        return path

    with pytest.raises(ValueError, match="which lies in more than 50 folders"):
        download._extract(archive("/".join(["d"] * 2_000)), tmp_path / "deep")
    monkeypatch.setattr(download, "MOST_MEMBERS", 2)
    with pytest.raises(ValueError, match="holds more than 2 files"):
        download._extract(archive("a", "b", "c"), tmp_path / "many")
    download._extract(archive("a", "b"), tmp_path / "few")
    assert sorted(path.name for path in (tmp_path / "few").iterdir()) == ["a", "b"]


def test_archive_bombs_are_refused(server, monkeypatch, tmp_path):
    offer(server, monkeypatch, tar(("musan/zeros", bytes(3_000_000))))
    monkeypatch.setattr(download, "MAX_MEMBER_BYTES", 2_000_000)
    with pytest.raises(ValueError, match="unpacks to 3000000 bytes, more than a corpus needs"):
        get("musan", url=server.url)
    monkeypatch.setattr(download, "MAX_MEMBER_BYTES", 4_000_000)
    monkeypatch.setattr(download, "SMALL_BYTES", 0)  # then the growth alone decides: 1000 to 1
    with pytest.raises(ValueError, match="more than a corpus needs"):
        get("musan", url=server.url)
    assert left(tmp_path / "data") == ["musan.tar.gz"]


@pytest.mark.parametrize("damage", ["cut", "no archive", "flipped"])
def test_damaged_archives_are_refused(server, monkeypatch, tmp_path, damage):
    body = tar(*GOOD)
    bad = {"cut": body[:-200_000], "no archive": b"<html>moved</html>"}
    bad["flipped"] = body[:150_000] + bytes(100) + body[150_100:]
    offer(server, monkeypatch, bad[damage], checked=False)
    with pytest.raises(ValueError, match=r"musan\.tar\.gz is damaged"):
        get("musan", url=server.url)
    assert left(tmp_path / "data") == ["musan.tar.gz"]
    assert not (tmp_path / "cache").exists()  # its checksum is not recorded


def test_no_room(server, monkeypatch, tmp_path):
    offer(server, monkeypatch, tar(*GOOD))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000))
    with pytest.raises(
        OSError, match="0.00 GB free, downloading and unpacking needs .* GB; free some space"
    ):
        get("musan", url=server.url)
    assert not server.requests


def test_a_full_disk_while_unpacking(server, monkeypatch, tmp_path):
    offer(server, monkeypatch, tar(*GOOD))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(download, "_extract", full)
        with pytest.raises(OSError, match=r"the disk of .*data is full; free some space"):
            get("musan", url=server.url)
    assert left(tmp_path / "data") == ["musan.tar.gz"]
    before = len(server.requests)
    get("musan", url=server.url)  # what was downloaded is not asked for again
    assert len(server.requests) == before


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_read_only_folder(server, monkeypatch, tmp_path, number):
    offer(server, monkeypatch, tar(*GOOD))

    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(download, "_write", refused)
    with pytest.raises(OSError, match=r"cannot write below .*choose another folder"):
        get("musan", url=server.url)


def test_a_folder_below_a_file(server, monkeypatch, tmp_path):
    offer(server, monkeypatch, tar(*GOOD))
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot write below .*file"):
        get("musan", tmp_path / "file" / "musan", server.url)


def test_what_is_there_is_never_overwritten(server, monkeypatch, tmp_path):
    offer(server, monkeypatch, tar(*GOOD))
    (tmp_path / "data" / "musan").mkdir(parents=True)
    get("musan", url=server.url)  # an empty folder may be filled
    with pytest.raises(FileExistsError, match="exists already; move it away"):
        get("musan", url=server.url)


def test_voxceleb_and_unknown_corpora(tmp_path):
    with pytest.raises(ValueError, match="register at https.*idNNNNN/VIDEO/NNNNN.wav"):
        get("voxceleb1")
    with pytest.raises(ValueError, match="did you mean musan"):
        get("musam")
    assert not (tmp_path / "data").exists()


def test_addresses_that_fail(server, tmp_path):
    with pytest.raises(ConnectionError, match="the server answers 404"):
        get("musan", url=server.url)
    with pytest.raises(ValueError, match="not a web address"):
        get("musan", url=tmp_path.as_uri())
    port = server.server_port
    server.shutdown()
    server.server_close()
    with pytest.raises(ConnectionError, match="cannot be reached"):
        get("musan", url=f"http://127.0.0.1:{port}")


def test_registered_archives_are_well_formed():
    for corpus in catalogue.CORPORA.values():
        for archive in corpus.archives:
            assert archive.path.endswith((".tar.gz", ".zip"))
            assert archive.md5 is None or re.fullmatch("[0-9a-f]{32}", archive.md5)


KILLED = """
import os, sys
from pathlib import Path
from oskdft.speech.corpora import download
download._extract = lambda archive, folder: (folder / "half.wav").touch() or os.kill(os.getpid(), 9)
download._unpack([Path(sys.argv[1])], Path(sys.argv[2]))
"""


def test_the_next_call_removes_what_a_killed_one_has_unpacked(server, monkeypatch, tmp_path):
    offer(server, monkeypatch, tar(*GOOD))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / ".musan.mine.part").mkdir()  # of somebody else
    words = [sys.executable, "-c", KILLED, "archive", str(tmp_path / "data" / "musan")]
    assert subprocess.run(words, check=False).returncode == -9
    assert len(left(tmp_path / "data")) == 2
    get("musan", url=server.url)
    assert left(tmp_path / "data") == [".musan.mine.part", "musan"]
