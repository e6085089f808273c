"""MP3 files: their frames are counted, without decoding, where the header does not count them.

libsndfile reads a file without a Xing header up to an estimate, and of two files in a row the first.
Sources: ISO/IEC 11172-3 and 13818-3, id3.org, the Xing header as LAME writes it.
"""

import os
from typing import IO

LARGEST = 1 << 29  # bytes of a file whose frames are counted
FRAME = 4_096  # bytes; no frame has more
# kbit/s and Hz by the fields of a frame, for MPEG 1 and for MPEG 2 and 2.5
KBIT = {
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
RATE = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
TAGS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN")  # may follow the last frame


def with_length(file: IO[bytes]) -> bytes | None:
    """The frames behind a Xing header that counts them all; None where the file has one itself.

    Without the fields of LAME such a header makes the decoder drop its own delay, 529 samples.

    Raises:
        ValueError: the file is cut off, changes its rate or is no MP3 somewhere; without its name.
    """
    start = id3v2_end(file)
    file.seek(start)
    xing = _xing(file.read(FRAME))
    if len(xing) >= 16 and xing[7] & 3 == 3:  # number of frames and of bytes
        end = start + int.from_bytes(xing[12:16], "big")
        if end > file.seek(0, os.SEEK_END):
            raise ValueError("is cut off: its header promises more; copy or download it again")
        file.seek(end)
        behind = file.read(FRAME)
        if behind.startswith(TAGS) or not behind.strip(b"\0"):
            return None
    if file.seek(0, os.SEEK_END) > LARGEST:
        raise ValueError("does not say how long it is; write it again: ffmpeg -i IN OUT.flac")
    file.seek(0)
    frames = _frames(file.read())
    return _counted(frames) + b"".join(frames) if frames else None


def id3v2_end(file: IO[bytes]) -> int:
    """Where the ID3v2 tags at the start of a file end, in bytes."""
    end = 0
    while True:
        file.seek(end)
        size = _id3v2_size(file.read(10))
        if not size:
            return end
        end += size


def _id3v2_size(head: bytes) -> int:
    """Bytes of the ID3v2 tag that begins here; 0: none does."""
    if len(head) < 10 or head[:3] != b"ID3":
        return 0
    content = sum((byte & 127) << 7 * (3 - place) for place, byte in enumerate(head[6:10]))
    return 10 + content + (10 if head[5] & 16 else 0)  # a footer


def _frame(head: bytes) -> int:
    """Bytes of the frame that begins here; 0: none of layer III does.

    >>> _frame(bytes.fromhex("fff388c4"))
    288
    """
    if len(head) < 4 or head[0] != 255 or head[1] >> 5 != 7 or head[1] >> 1 & 3 != 1:
        return 0
    version, kbit, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or kbit in (0, 15) or rate == 3:
        return 0
    first = version == 3  # MPEG 1: 1,152 samples, else 576
    bits = (144_000 if first else 72_000) * KBIT[1 if first else 2][kbit]
    return bits // RATE[version][rate] + (head[2] >> 1 & 1)


def _form(frame: bytes) -> tuple[int, int, bool]:
    """Version, rate and whether mono: what the frames of a stream share."""
    return frame[1] >> 3 & 3, frame[2] >> 2 & 3, frame[3] >> 6 == 3


def _side(frame: bytes) -> int:
    """Bytes between the header of a frame and its Xing header."""
    version, _, mono = _form(frame)
    if version == 3:
        return 17 if mono else 32
    return 9 if mono else 17


def _xing(frame: bytes) -> bytes:
    """The Xing header of a frame and what follows; empty where it has none."""
    if not _frame(frame):
        return b""
    at = 4 + _side(frame)
    return frame[at:] if frame[at : at + 4] in (b"Xing", b"Info") else b""


def _frames(content: bytes) -> list[bytes]:
    """The frames with sound; tags and Xing headers are left out."""
    frames: list[bytes] = []
    at = 0
    while at < len(content) and not content.startswith(TAGS, at):
        if tag := _id3v2_size(content[at : at + 10]):
            at += tag
            continue
        size = _frame(content[at : at + 4])
        if not size:
            if not content[at:].strip(b"\0"):
                break
            raise ValueError(f"is no MP3 from byte {at} on; write it again: ffmpeg -i IN OUT.flac")
        frame = content[at : at + size]
        if len(frame) < size:
            raise ValueError("is cut off inside a frame; copy or download it again")
        if frames and _form(frame) != _form(frames[0]):
            raise ValueError(
                f"changes its rate or channels at byte {at}; write it again: ffmpeg -i IN OUT.flac"
            )
        if not _xing(frame):
            frames.append(frame)
        at += size
    return frames


def _counted(frames: list[bytes]) -> bytes:
    """A silent frame with a Xing header that counts the frames and the bytes."""
    head = bytearray(frames[0][:4])
    head[1] |= 1  # no checksum
    head[2] = 14 << 4 | head[2] & 0x0C  # the highest bit rate: a long frame
    size = _frame(head)
    xing = b"Xing\0\0\0\3" + len(frames).to_bytes(4, "big")
    xing += (size + sum(map(len, frames))).to_bytes(4, "big")
    return (bytes(head) + bytes(_side(frames[0])) + xing).ljust(size, b"\0")
