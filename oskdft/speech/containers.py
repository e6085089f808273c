"""How long a recording is in truth: its header is compared with what the file holds.

libsndfile believes headers and notes in its log what does not fit. `checked` refuses what is cut off
or says too little, and gives a stream without a length a header with one. The functions of a container
return its content under another header, or None where its own header is right.
"""

import os
import re
from typing import IO

from oskdft.speech import flac, mp3

# how much of a file is compared with its header
HEADER, END, WHOLE = 0, 1, 2

# libsndfile's log on a chunk of another size than its header says; the outer chunk does not matter
SIZE = re.compile(
    r"^\s*(?!RIFF|RIFX|RF64|FORM|SSND|Riff)(\w+|Data Size)\s*:\s*(\d+) \(should be (\d+)\)", re.M
)
RF64 = re.compile(r"Calculated frame count (\d+) does not match value from 'ds64' chunk of (\d+)")
AIFF = re.compile(r"'COMM' chunk \((\d+)\) not equal.*\n.*'SSND' chunk \((\d+)\)")
BEHIND = re.compile(r"(?:Unknown chunk marker(?: \(\w+\))?|Have 0 marker) at position (\w+)")
NO_CHUNK = "*** Chunk size"  # larger than the file
STREAMED = 0x7FFF_F000  # bytes; sizes from here on mean "to the end" in the headers of pipes
NO_END = "lacks an end-of-stream"  # libsndfile's log on an OGG file
OGG_PAGE = 65_307  # bytes, at most
LOOKED_AT = 1 << 16  # bytes behind the samples

CUT_OFF = "is cut off: its header promises more; copy or download it again"
SEVERAL = (
    "holds several recordings in a row, and only the first would be read; "
    "write them as one: ffmpeg -i IN OUT.flac"
)
TOO_LITTLE = (
    "goes on where its header ends the samples: the header is wrong, or something was added; "
    "write it again: ffmpeg -ignore_length 1 -i IN OUT.wav"
)


def checked(kind: str, log: str, file: IO[bytes], depth: int) -> bytes | None:
    """Content of a file under a header with its true length; None where its own header has that.

    Args:
        kind: format in soundfile's words. log: libsndfile's, on opening the file.
        file: its bytes, at any position.
        depth: `HEADER`: what the log and the header alone show; `END`: the last frames and pages too;
            `WHOLE`: whether a second stream begins anywhere.
    Raises:
        ValueError: cut off, or a header that says too little; the reason, without the name.
    """
    if kind == "FLAC":
        return _flac(log, file, depth)
    if kind == "OGG":
        return _ogg(log, file, depth)
    if kind == "MP3":
        return mp3.with_length(file)
    for _, said, there in SIZE.findall(log):
        if int(there) < int(said) < STREAMED:
            raise ValueError(CUT_OFF)
    if kind == "AU":
        _au(file)
    elif kind == "AIFF":
        _counts(AIFF.findall(log))
    else:
        _counts([(said, there) for there, said in RF64.findall(log)])
        _behind_the_samples(kind, log, file)
    return None


def _counts(pairs: list[tuple[str, str]]) -> None:
    """Compare the number of samples in a header with the number that its chunk of samples has."""
    for said, there in pairs:
        if int(there) < int(said) < STREAMED:
            raise ValueError(CUT_OFF)
        if 0 < int(said) < int(there):
            raise ValueError(
                f"has a header that says {said} samples and {there} samples; write it again"
            )


def _behind_the_samples(kind: str, log: str, file: IO[bytes]) -> None:
    """Refuse a WAV or CAF file whose samples are followed by neither zeros nor a chunk."""
    if kind == "CAF" and "*** Should be >= 0" in log:
        raise ValueError(TOO_LITTLE)
    place = BEHIND.search(log)
    if place is None:
        if NO_CHUNK in log and kind != "CAF":
            raise ValueError(TOO_LITTLE)
        return
    at = int(place[1], 0)
    file.seek(at - 1)  # a chunk of odd length may lack its padding
    rest = file.read(LOOKED_AT)
    is_chunk = rest[:4].isalpha() and int.from_bytes(rest[4:8], "little") <= len(rest)
    if not is_chunk and (not rest or rest[1:].strip(b"\0")):
        raise ValueError(TOO_LITTLE)


def _au(file: IO[bytes]) -> None:
    file.seek(0)
    head = file.read(12)
    order = "big" if head[:4] == b".snd" else "little"
    end = int.from_bytes(head[4:8], order) + int.from_bytes(head[8:12], order)
    file.seek(end)
    if file.read(LOOKED_AT).strip(b"\0"):
        raise ValueError(TOO_LITTLE)


def _flac(log: str, file: IO[bytes], depth: int) -> bytes | None:
    if "bumping to SF_COUNT_MAX" in log:
        return flac.with_length(file)
    if depth != HEADER and (fault := flac.end_fault(file)):
        raise ValueError(fault)
    if depth == WHOLE:
        file.seek(0)
        if file.read().find(b"fLaC\0\0\0\x22", flac.HEAD) > 0:
            raise ValueError(SEVERAL)
    return None


def _ogg(log: str, file: IO[bytes], depth: int) -> None:
    if NO_END in log and not _ends_with_a_whole_page(file):
        raise ValueError(CUT_OFF)
    if depth == HEADER:
        return
    file.seek(0)
    first = file.read(OGG_PAGE)
    begins = first.find(b"OggS\0")
    last = _tail(file)
    ends = last.rfind(b"OggS\0")
    # bytes 14 to 18 of a page: number of its stream
    if first[begins + 14 : begins + 18] != last[ends + 14 : ends + 18]:
        raise ValueError(SEVERAL)
    if depth == WHOLE:
        file.seek(0)
        flags = [match[1][0] for match in re.finditer(rb"OggS\0([\0-\x07])", file.read())]
        first_page = [bool(flag & 2) for flag in flags]
        # several streams may begin together, at the start alone
        if any(late and not early for early, late in zip(first_page, first_page[1:], strict=False)):
            raise ValueError(SEVERAL)


def _ends_with_a_whole_page(file: IO[bytes]) -> bool:
    """Whether an OGG file ends where its last page ends; a stream that was recorded has no last flag."""
    tail = _tail(file)
    at = tail.rfind(b"OggS")
    if at < 0 or len(tail) < at + 27:
        return False
    segments = tail[at + 27 : at + 27 + tail[at + 26]]
    return at + 27 + len(segments) + sum(segments) == len(tail)


def _tail(file: IO[bytes]) -> bytes:
    file.seek(max(file.seek(0, os.SEEK_END) - OGG_PAGE, 0))
    return file.read(OGG_PAGE)
