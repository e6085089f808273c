"""FLAC streams: the number of samples by the last frame, without decoding.

Source: RFC 9639.
"""

import os
import re
from typing import IO

from oskdft.speech.mp3 import id3v2_end

HEAD = 42  # bytes: mark, header and content of STREAMINFO
LARGEST = 1 << 29  # bytes of a file of unknown length
LARGEST_FRAME = 1 << 17  # bytes looked at where STREAMINFO does not name the largest
SMALLEST_FRAME = 10  # bytes: a header of 6, one of a channel, a sample, and a checksum of 2
TAG = 128  # bytes of an ID3v1 tag behind the stream


def with_length(file: IO[bytes]) -> bytes | None:
    """A stream of unknown length under a header with the number of samples; None where it has that.

    Raises:
        ValueError: no whole frame ends the file; without its name.
    """
    start = id3v2_end(file)
    if promised(file):
        return None
    there = _whole_samples(file)
    if there is None or file.seek(0, os.SEEK_END) > LARGEST:
        raise ValueError(
            "does not say how long it is and does not end with a whole frame: it is cut off; "
            "copy or download it again"
        )
    file.seek(start)
    content = file.read()
    field = int.from_bytes(content[21:26], "big") | there
    return content[:21] + field.to_bytes(5, "big") + content[26:]


def promised(file: IO[bytes]) -> int:
    """Samples per channel in the header; 0: not known when it was written."""
    return int.from_bytes(_head(file)[21:26], "big") & ((1 << 36) - 1)


def end_fault(file: IO[bytes]) -> str:
    """What the last frames of a stream tell against its header; empty where they tell nothing.

    Other data behind the last frame hide it. A cut inside the last frame shows only when it is decoded.
    """
    said = promised(file)
    ends = [end for end, _ in _last_frames(file)]
    if not ends or said in ends:
        return ""
    there = _whole_samples(file)
    if there is not None and there > said:
        return f"holds {there} samples, its header says {said}; write it again"
    if there is not None:
        return (
            f"ends with sample {there}, its header says {said}: cut off, or several recordings in a "
            "row; copy it again"
        )
    if max(ends) < said:
        return "is cut off: its header promises more; copy or download it again"
    return ""


def _whole_samples(file: IO[bytes]) -> int | None:
    """Samples up to the end of the last frame; None where no whole frame ends the file."""
    for end, frame in reversed(_last_frames(file)):
        if _crc(frame, 0x8005, 16) == 0:
            return end
    return None


def _last_frames(file: IO[bytes]) -> list[tuple[int, bytes]]:
    """Where headers of frames near the end of a stream are: sample behind the frame, bytes to the end."""
    head = _head(file)
    block = int.from_bytes(head[8:10], "big")
    largest = int.from_bytes(head[15:18], "big") or LARGEST_FRAME
    file.seek(max(file.seek(0, os.SEEK_END) - largest - TAG, 0))
    tail = file.read()
    if tail[-TAG:].startswith(b"TAG"):
        tail = tail[:-TAG]
    starts = (match.start() for match in re.finditer(rb"(?=\xff[\xf8\xf9])", tail))
    ends = ((_frame_end(tail[start:], block), tail[start:]) for start in starts)
    return [(end, frame) for end, frame in ends if end is not None]


def _head(file: IO[bytes]) -> bytes:
    file.seek(id3v2_end(file))
    return file.read(HEAD)


def _frame_end(frame: bytes, block: int) -> int | None:
    """Number of the sample behind a frame; None where these bytes are no header of a frame.

    Args:
        frame: begins with the header. block: samples of a frame, in a stream of frames of one size.
    """
    if len(frame) < SMALLEST_FRAME:
        return None
    size_code, rate_code = frame[2] >> 4, frame[2] & 15
    ones = 8 - (~frame[4] & 255).bit_length()  # leading ones: bytes of the number, as in UTF-8
    if not size_code or rate_code == 15 or frame[3] & 1 or ones in (1, 8):
        return None
    number = frame[4] & (127 >> ones)
    at = 4 + max(ones, 1)
    for byte in frame[5:at]:
        number = number << 6 | byte & 63
    if size_code in (6, 7):
        width = size_code - 5  # bytes
        size = int.from_bytes(frame[at : at + width], "big") + 1
        at += width
    else:
        size = 192 if size_code == 1 else 144 << size_code if size_code < 6 else 1 << size_code
    at += {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if _crc(frame[: at + 1], 0x07, 8):
        return None
    return (number if frame[1] & 1 else number * block) + size


def _crc(data: bytes, polynomial: int, bits: int) -> int:
    """Checksum; 0 where ``data`` ends with its checksum.

    >>> _crc(b"123456789", 0x07, 8), _crc(b"123456789", 0x8005, 16)
    (244, 65256)
    """
    value = 0
    for byte in data:
        value ^= byte << bits - 8
        for _ in range(8):
            value = value << 1 ^ (polynomial if value >> bits - 1 else 0)
            value &= (1 << bits) - 1
    return value
