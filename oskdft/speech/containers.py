"""How long a recording is in truth: its header is compared with what the file holds.

libsndfile believes headers and notes in its log what does not fit. `checked` refuses what is cut off
or says too little, and gives a stream without a length a header with one. The functions of a container
return its content under another header, or None where its own header is right.
"""

import os
import re
from typing import IO

from oskdft.speech import flac, mp3
from oskdft.speech.mp3 import id3v2_end

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
JUNK = "Junk after the last page"  # the same, on other data or on a page that is not whole
OGG_PAGE = 65_307  # bytes, at most
LOOKED_AT = 1 << 16  # bytes behind the samples

# containers whose length is compared with the file, and what each may hold that is not
READ = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "NIST", "FLAC", "OGG", "MP3")
NOT_READ = ("IMA_ADPCM", "GSM610", "DWVW_12", "DWVW_16", "DWVW_24")  # in AIFF
W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"  # name of the chunk of samples
W64_HEAD = 24  # bytes of the name and size of a chunk; the size counts them
LARGEST = 1 << 29  # bytes of a file that is read under another header
FORMAT = re.compile(  # libsndfile's log on the form of samples in a WAV file
    r"Format\s*: 0x(\w+) .*\n\s*Channels\s*: (\d+)\n.*\n\s*Block Align\s*: (\d+).*\n\s*Bit Width\s*: (\d+)"
)

CUT_OFF = "is cut off: its header promises more; copy or download it again"
SEVERAL = (
    "holds several recordings in a row, and only the first would be read; "
    "write them as one: ffmpeg -i IN OUT.flac"
)
TOO_LITTLE = (
    "goes on where its header ends the samples: the header is wrong, or something was added; "
    "write it again: ffmpeg -ignore_length 1 -i IN OUT.wav"
)


def checked(kind: str, subtype: str, log: str, file: IO[bytes], depth: int) -> bytes | None:
    """Content of a file under a header with its true length; None where its own header has that.

    Args:
        kind, subtype: format in soundfile's words. log: libsndfile's, on opening the file.
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
    if kind == "MP3":  # of other layers libsndfile counts the frames
        return mp3.with_length(file) if subtype == "MPEG_LAYER_III" else None
    if kind not in READ or subtype.startswith("MPEG") or (kind == "AIFF" and subtype in NOT_READ):
        raise ValueError(
            f"holds {subtype} in a {kind} file, whose length is not known; convert it: ffmpeg -i IN OUT.flac"
        )
    if id3v2_end(file):
        raise ValueError(
            f"is a {kind} file behind an ID3 tag; write it again: ffmpeg -i IN OUT.flac"
        )
    for _, said, there in SIZE.findall(log):
        if int(there) < int(said) < STREAMED:
            raise ValueError(CUT_OFF)
    if kind == "AU":
        _au(file)
    elif kind == "AIFF":
        _counts(AIFF.findall(log))
    elif kind == "CAF":
        _caf(file)
    elif kind == "NIST":
        _nist(file)
    elif kind == "W64":
        return _w64(file)
    else:
        _counts([(said, there) for there, said in RF64.findall(log)])
        _form(log)
        _behind_the_samples(log, file)
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


def _form(log: str) -> None:
    """Refuse a WAV file whose header contradicts itself on the bytes of a sample."""
    for form, channels, block, bits in FORMAT.findall(log):
        width = {"1": (int(bits) + 7) // 8, "6": 1, "7": 1}.get(form, 0) * int(channels)
        if width and int(block) not in (0, width):  # some writers leave it out
            raise ValueError(
                f"has a header that says {block} and {width} bytes for a sample of all channels; write it again"
            )


def _caf(file: IO[bytes]) -> None:
    """Compare the chunks of a CAF file with its size; libsndfile does not."""
    size, at = file.seek(0, os.SEEK_END), 8
    while at < size:
        file.seek(at)
        head = file.read(12)
        end = at + 12 + int.from_bytes(head[4:12], "big", signed=True)
        if not head.strip(b"\0"):
            return  # padding
        if not head[:4].isalpha() or len(head) < 12 or end < at + 12:
            raise ValueError(TOO_LITTLE)
        if end > size:
            raise ValueError(CUT_OFF if head[:4] == b"data" else TOO_LITTLE)
        at = end


def _nist(file: IO[bytes]) -> None:
    """Compare the number of samples in the header of a NIST SPHERE file with its size."""
    file.seek(0)
    head = file.read(LOOKED_AT)
    begins = int(head[8:16])
    found = re.findall(rb"^(\w+) -i (\d+)\s*$", head[:begins], re.M)
    fields = {name.decode(): int(value) for name, value in found}
    if "sample_count" not in fields:
        raise ValueError("does not say how many samples it holds; write it again")
    # A-law and mu-law may leave out their one byte
    width = max(fields.get("sample_n_bytes", 1) * fields.get("channel_count", 1), 1)
    there = (file.seek(0, os.SEEK_END) - begins) / width
    if there < fields["sample_count"]:
        raise ValueError(CUT_OFF)
    if there > fields["sample_count"]:
        raise ValueError(
            f"has a header that says {fields['sample_count']} samples and holds {there:g}; write it again"
        )


def _w64(file: IO[bytes]) -> bytes | None:
    """The content of a W64 file up to its last sample: libsndfile takes padding and chunks for samples.

    Raises:
        ValueError: neither a chunk nor padding follows the samples.
    """
    file.seek(0)
    head = file.read(LOOKED_AT)
    at = head.find(W64_DATA)
    if at < 0:
        raise ValueError("has a header of more than 64 KB; write it again: ffmpeg -i IN OUT.flac")
    end = at + int.from_bytes(head[at + 16 : at + W64_HEAD], "little")
    size = file.seek(0, os.SEEK_END)
    if end >= size:
        return None  # a size of 8 bytes more may be rounded up
    file.seek(end)
    rest = file.read(LOOKED_AT)
    padding = -end % 8
    chunk = rest[padding : padding + W64_HEAD]
    if chunk.startswith(b"riff"):
        raise ValueError(SEVERAL)
    chunk_size = int.from_bytes(chunk[16:], "little")
    is_chunk = chunk[:4].isalpha() and W64_HEAD <= chunk_size <= size - end - padding
    if rest[:padding].strip(b"\0") or not (is_chunk or not rest.strip(b"\0")) or end > LARGEST:
        raise ValueError(TOO_LITTLE)
    file.seek(0)
    return file.read(end)


def _behind_the_samples(log: str, file: IO[bytes]) -> None:
    """Refuse a WAV file whose samples are followed by neither zeros nor a chunk."""
    place = BEHIND.search(log)
    if place is None:
        if NO_CHUNK in log:
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
    if JUNK in log and _page_is_cut(_tail(file)):
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


def _page_is_cut(tail: bytes) -> bool:
    """Whether the last page in the tail of an OGG file is longer than the tail."""
    at = tail.rfind(b"OggS\0")
    segments = tail[at + 27 : at + 27 + tail[at + 26]] if at >= 0 and len(tail) > at + 26 else b""
    return at >= 0 and (not segments or at + 27 + len(segments) + sum(segments) > len(tail))


def _tail(file: IO[bytes]) -> bytes:
    file.seek(max(file.seek(0, os.SEEK_END) - OGG_PAGE, 0))
    return file.read(OGG_PAGE)
