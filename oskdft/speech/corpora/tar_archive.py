"""Which recordings a tar archive holds, and where; refused unless it is sound to its end."""

import io
import os
import tarfile

import numpy as np

from oskdft.speech.corpora.recording_names import is_recording, sort_key

HEADER_BYTES = 1 << 14  # of one member, extensions for long names included
NAME_BYTES = 4_096  # longest path of Linux
PADDING_BYTES = 1 << 20  # zeros after the last member
COMPRESSED = {
    b"\x1f\x8b": "gzip -d",
    b"BZh": "bzip2 -d",
    b"\xfd7zXZ": "xz -d",
    b"\x28\xb5\x2f\xfd": "zstd -d",
}


class _HeaderReader(io.FileIO):
    """A file that refuses to read more than `HEADER_BYTES` until ``budget`` is set again."""

    budget = HEADER_BYTES

    def read(self, count: int = -1) -> bytes:
        if not 0 <= count <= self.budget:
            raise ValueError("a header is too long")
        self.budget -= count
        return super().read(count)


def members(path: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The recordings in an archive.

    Returns:
        (sort keys [n] bytes, offsets [n] int64, sizes [n] int64), in bytes from the start of the archive.
    Raises:
        ValueError: compressed, cut off or damaged, or a member that is a link, leads out of the folder
            or has an impossible name or size; names archive, member and fix.
    """
    keys: list[bytes] = []
    offsets: list[int] = []
    sizes: list[int] = []
    with _HeaderReader(path) as file:
        length = os.fstat(file.fileno()).st_size
        start = file.read(8)
        file.seek(0)
        for magic, command in COMPRESSED.items():
            if start.startswith(magic):
                raise ValueError(
                    f"{path} is compressed, thus no crop can be read by seeking; decompress it: "
                    f"{command}"
                )
        end = 0
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                while (member := archive.next()) is not None:
                    archive.members = []  # tarfile keeps them all
                    file.budget = HEADER_BYTES
                    if fault := _fault(member, end, length):
                        raise ValueError(f"the member {member.name[:200]!r} {fault}")
                    end = member.offset_data + member.size
                    name = member.name.removeprefix("./")
                    if member.isreg() and is_recording(name):
                        keys.append(sort_key(name))
                        offsets.append(member.offset_data)
                        sizes.append(member.size)
                _require_end(file, archive.offset, length)
        except (
            tarfile.TarError,
            ValueError,
            ArithmeticError,
            LookupError,
            RecursionError,
        ) as error:
            fix = "make the shard again from plain files, or move it out of this folder"
            raise ValueError(f"{path} cannot be used: {error}; {fix}") from None
    return np.array(keys, bytes), np.array(offsets, np.int64), np.array(sizes, np.int64)


def _fault(member: tarfile.TarInfo, end: int, length: int) -> str:
    """Why a member is refused; empty where it is not. ``end``: of the member before, in bytes."""
    name = member.name
    if not (member.isreg() or member.isdir()) or member.issparse():
        return "is a link, a device or sparse, not a plain file"
    if name.startswith("/") or ".." in name.split("/"):
        return "leads out of the folder"
    if not name or "\0" in name or "//" in name or "/./" in name or len(name) > NAME_BYTES:
        return "has an impossible name"
    if member.size < 0 or member.offset_data < end:
        return "has an impossible size"
    if member.isreg() and member.offset_data + member.size > length:
        return "is cut off"
    return ""


def _require_end(file: io.FileIO, end: int, length: int) -> None:
    """Raise unless zeros, at least one block of them, follow the last member."""
    if length - end < tarfile.BLOCKSIZE:
        raise ValueError("the archive is cut off")
    file.seek(end)
    padding = b"" if length - end > PADDING_BYTES else os.pread(file.fileno(), length - end, end)
    if len(padding) != length - end or padding.strip(b"\0"):
        raise ValueError(f"a damaged header or a second archive begins at byte {end}")
