"""A generated corpus: subtype x container x parity of the length x fault of the header or the stream.

Each file is read with its true number of samples, or refused with the true reason, as a plain file and
inside a shard alike.
"""

import io
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from oskdft.config import SAMPLE_RATE
from oskdft.speech import audio
from oskdft.speech.corpora import shards

SAMPLES = (40_000, 40_001)
PCM = ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")
SUBTYPES = {
    "WAV": ("PCM_U8", *PCM),
    "WAVEX": ("PCM_U8", *PCM),
    "RF64": ("PCM_U8", *PCM),
    "AIFF": ("PCM_S8", *PCM),
    "AU": ("PCM_S8", *PCM),
    "CAF": ("PCM_S8", *PCM),
    "FLAC": ("PCM_S8", "PCM_16", "PCM_24"),
    "OGG": ("VORBIS", "OPUS"),
    "MP3": ("MPEG_LAYER_III",),
}
CUT, MORE, SEVERAL = (
    "cut off|cannot be read",
    "goes on where|its header says|says .* and",
    "several",
)
Case = tuple[str, bytes, int | str]  # name, content, number of samples or reason


def encoded(kind: str, subtype: str, samples: int, seed: int = 0, quiet: bool = False) -> bytes:
    wave = np.random.default_rng(seed).normal(0, 0.1, samples)
    wave[: samples // 2] *= not quiet
    file = io.BytesIO()
    soundfile.write(file, np.clip(wave, -1, 1), SAMPLE_RATE, format=kind, subtype=subtype)
    return file.getvalue()


def put(content: bytes, at: int, value: int, width: int, order: str) -> bytes:
    return content[:at] + value.to_bytes(width, order) + content[at + width :]


def sized(kind: str, content: bytes, factor: float) -> bytes:
    """Content whose header says ``factor`` times its number of bytes of samples."""
    if kind == "AU":
        at, width, order = 8, 4, "big"
    elif kind == "RF64":
        at, width, order = content.index(b"ds64") + 16, 8, "little"
        content = put(content, at + 8, 0, 8, order)  # the number of samples: not known
    else:
        at, width, order = content.index(b"data") + 4, 4, "little"
    said = int.from_bytes(content[at : at + width], order)
    return put(content, at, int(said * factor) // 2 * 2, width, order)


def raw_cases(kind: str, subtype: str, samples: int) -> Iterator[Case]:
    """WAV and its relatives, AU, AIFF, CAF."""
    whole = encoded(kind, subtype, samples)
    yield "whole", whole, samples
    yield "cut in the middle", whole[: -len(whole) // 3], CUT
    yield "cut by two samples", whole[:-16], CUT
    if kind in ("WAV", "WAVEX", "AU", "RF64"):
        yield "says half", sized(kind, whole, 0.5), MORE
        yield "says nothing", sized(kind, whole, 0.0), MORE
    if kind in ("WAV", "WAVEX"):
        at = whole.index(b"data") + 4
        unpadded = whole[: at + 4 + int.from_bytes(whole[at : at + 4], "little")]
        for said in (0xFFFFFFFF, 0x7FFFF000):
            yield f"streamed {said:x}", put(unpadded, at, said, 4, "little"), samples
        yield "says twice", sized(kind, whole, 2.0), CUT
        yield "followed by text", whole + b"it ends here, said the recorder", MORE
        text = b"LIST" + (20).to_bytes(4, "little") + b"INFOIART" + b"\x08\0\0\0ann only"
        yield "followed by a chunk", whole + text, samples
        yield "followed by a chunk without padding", unpadded + text, samples
        yield "followed by zeros", whole + bytes(999), samples
        yield "followed by a tag", whole + b"TAG" + bytes(125), samples
    if kind == "AU":
        yield "streamed", put(whole, 8, 0xFFFFFFFF, 4, "big"), samples
        yield "says twice", sized(kind, whole, 2.0), CUT
        yield "two in a row", whole + whole, MORE
    if kind == "AIFF":
        at = whole.index(b"COMM") + 10
        yield "says half", put(whole, at, samples // 2, 4, "big"), MORE
        yield "says twice", put(whole, at, 2 * samples, 4, "big"), CUT
        for said in (0, 0xFFFFFFFF):
            yield f"streamed {said:x}", put(whole, at, said, 4, "big"), samples


def flac_cases(subtype: str, samples: int) -> Iterator[Case]:
    whole = encoded("FLAC", subtype, samples)
    other = encoded("FLAC", subtype, samples // 3, seed=1)

    def saying(count: int, content: bytes = whole) -> bytes:
        field = int.from_bytes(content[21:26], "big") >> 36 << 36 | count
        return content[:21] + field.to_bytes(5, "big") + content[26:]

    yield "whole", whole, samples
    yield "of unknown length", saying(0), samples
    yield "behind a tag", b"ID3\x04\0\0\0\0\0\x0a" + bytes(10) + whole, samples
    yield "of unknown length, cut", saying(0)[:-500], CUT
    yield "cut", whole[: -len(whole) // 3], CUT
    yield "says half", saying(samples // 2), MORE
    yield "says one less", saying(samples - 1), MORE
    yield "says one more", saying(samples + 1), CUT
    yield "says 60 hours", saying(1 << 32), "promises|" + CUT
    yield "says as much as it can", saying((1 << 36) - 1), "promises|" + CUT
    yield "twice the same", whole + whole, SEVERAL
    yield "two in a row", whole + other, SEVERAL + "|" + MORE


def ogg_cases(subtype: str, samples: int) -> Iterator[Case]:
    whole = encoded("OGG", subtype, samples)
    other = "OPUS" if subtype == "VORBIS" else "VORBIS"
    yield "whole", whole, samples
    yield "cut", whole[: -len(whole) // 3], CUT
    yield "twice the same", whole + whole, SEVERAL
    yield "two in a row", whole + encoded("OGG", subtype, 30_000, seed=1), SEVERAL
    yield "of two kinds", whole + encoded("OGG", other, 30_000, seed=1), SEVERAL


def frames(mp3: bytes) -> list[bytes]:
    """The frames of an MP3 file at 16 kHz: MPEG 2, 72 * bit rate / sampling rate bytes, 576 samples."""
    kbit = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
    found, at = [], 0
    while at < len(mp3):
        size = 72_000 * kbit[mp3[at + 2] >> 4] // SAMPLE_RATE + (mp3[at + 2] >> 1 & 1)
        found.append(mp3[at : at + size])
        at += size
    return found


def mp3_cases(samples: int, quiet: bool) -> Iterator[Case]:
    whole = encoded("MP3", "MPEG_LAYER_III", samples, quiet=quiet)
    other = encoded("MP3", "MPEG_LAYER_III", 20_000, seed=1)
    xing, *sound = frames(whole)
    bare = b"".join(sound)
    delay = 529  # of the decoder, which is dropped
    counted = 576 * len(sound) - delay
    tag = b"ID3\x04\0\0\0\0\0\x0a" + bytes(10)
    yield "whole", whole, samples
    yield "behind a tag", tag + whole, samples
    yield "before a tag", whole + b"TAG" + bytes(125), samples
    yield "without a header", bare, counted
    yield "without a header, between tags", tag + bare + b"TAG" + bytes(125), counted
    yield "without a header, cut", bare[:-7], CUT
    yield "cut", whole[: -len(whole) // 3], CUT
    both = counted + 576 * (len(frames(other)) - 1)
    yield "two in a row", whole + other, both
    yield "two in a row with tags", tag + whole + tag + other, both
    half = int.from_bytes(xing[21:25], "big") // 2  # Xing, flags, frames, bytes
    yield "says half", put(put(whole, 21, half, 4, "big"), 25, len(whole) // 2, 4, "big"), counted
    at_8k = io.BytesIO()
    soundfile.write(at_8k, np.zeros(9_000), 8_000, format="MP3")
    yield "of two rates", whole + at_8k.getvalue(), "changes its rate"
    yield "followed by text", whole + b"no more\n" * 9, "is no MP3 from byte"


def cases() -> Iterator[Case]:
    for kind, subtypes in SUBTYPES.items():
        for subtype in subtypes:
            for samples in SAMPLES:
                if kind == "FLAC":
                    found = flac_cases(subtype, samples)
                elif kind == "OGG":
                    found = ogg_cases(subtype, samples)
                elif kind == "AIFF" and samples % 2 and subtype in ("PCM_S8", "ULAW", "ALAW"):
                    continue  # libsndfile takes the padding byte for a sample
                elif kind == "MP3":
                    found = (case for quiet in (False, True) for case in mp3_cases(samples, quiet))
                else:
                    found = raw_cases(kind, subtype, samples)
                for number, (name, content, expected) in enumerate(found):
                    yield f"{kind} {subtype} {samples} {number} {name}", content, expected


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Case]]:
    """The files twice: plain/s/NNN.wav, and the same in shard/all.tar."""
    root = tmp_path_factory.mktemp("containers")
    (root / "plain" / "s").mkdir(parents=True)
    (root / "shard").mkdir()
    made = list(cases())
    with tarfile.open(root / "shard" / "all.tar", "w") as archive:
        for number, (_, content, _) in enumerate(made):
            (root / "plain" / "s" / f"{number}.wav").write_bytes(content)
            member = tarfile.TarInfo(f"s/{number}.wav")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return root, made


def outcome(path: Path) -> int | str:
    """Number of samples by header and by decoding, or the reason of the refusal."""
    try:
        info = audio.info(path)
        wave = audio.decode(path)
        read = audio.read(path)
        crop = audio.read(path, 1_000, 2_000)
    except ValueError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)
        return str(error).removeprefix(str(path))
    assert info.samples == len(wave) == len(read)
    assert len(crop) == 2_000 and np.abs(crop - read[1_000:3_000]).max() < 2e-2
    return len(wave)


def agrees(found: int | str, expected: int | str) -> bool:
    """Whether a number of samples, or the reason of a refusal, is the expected one."""
    if isinstance(expected, int):
        return found == expected
    return isinstance(found, str) and re.search(expected, found) is not None


@pytest.mark.parametrize("form", ["plain", "shard"])
def test_every_file_is_read_whole_or_refused_with_the_true_reason(corpus, form):
    root, made = corpus
    assert len(made) >= 300
    shards.shards_of(root / "shard")
    wrong = []
    for number, (name, _, expected) in enumerate(made):
        found = outcome(root / form / "s" / f"{number}.wav")
        if not agrees(found, expected):
            wrong.append(f"{name}: {found}, not {expected}")
    assert not wrong, f"{len(wrong)} of {len(made)}:\n" + "\n".join(wrong)


def test_a_wave_of_a_stream_without_a_header_is_that_of_the_same_stream_with_one(tmp_path):
    """All its samples are there: silence first, so that a bit rate taken from the start is wrong."""
    whole = encoded("MP3", "MPEG_LAYER_III", 40_001, quiet=True)
    (tmp_path / "whole.mp3").write_bytes(whole)
    (tmp_path / "bare.mp3").write_bytes(b"".join(frames(whole)[1:]))
    expected, found = audio.read(tmp_path / "whole.mp3"), audio.read(tmp_path / "bare.mp3")
    delay = 576  # of the encoder
    assert np.abs(found[delay : delay + 40_000] - expected[:40_000]).max() < 1e-6


def test_a_flac_stream_of_unknown_length_is_equal_to_its_source(tmp_path):
    whole = encoded("FLAC", "PCM_16", 40_001)
    (tmp_path / "whole.flac").write_bytes(whole)
    (tmp_path / "bare.flac").write_bytes(put(whole, 22, 0, 4, "big"))
    assert np.array_equal(audio.read(tmp_path / "bare.flac"), audio.read(tmp_path / "whole.flac"))
