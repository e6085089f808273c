"""More generated files: rarer containers, channels, rates, tags, damage inside, headers that contradict.

As in `test_containers`: the right number of samples, or a refusal with the true reason; silent and half
silent recordings too, whose last frames are tiny.
"""

import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from oskdft.speech import audio, resampling
from tests.speech.test_containers import CUT, MORE, SEVERAL, Case, agrees, encoded, frames, put

SAMPLES = (40_000, 40_001)
TEXT = b"it ends here, said the recorder"
OTHER = "whose length is not known"
BEFORE = "behind an ID3 tag"
ID3 = b"ID3\x04\0\0\0\0\0\x0a" + bytes(10)


def written(wave: np.ndarray, kind: str, subtype: str, rate: int = 16_000, **form) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format=kind, subtype=subtype, **form)
    return file.getvalue()


def noise(samples: int, channels: int = 1) -> np.ndarray:
    shape = samples if channels == 1 else (samples, channels)
    return np.random.default_rng(0).normal(0, 0.1, shape).clip(-1, 1)


def pages(ogg: bytes) -> list[bytes]:
    starts = [match.start() for match in re.finditer(rb"OggS\0", ogg)]
    return [ogg[a:b] for a, b in zip(starts, [*starts[1:], len(ogg)], strict=True)]


def rare_containers(samples: int) -> Iterator[Case]:
    """NIST SPHERE (TIMIT names it .wav), W64, CAF, ADPCM, and what is not read at all."""
    for subtype in ("PCM_16", "PCM_24", "PCM_32", "ULAW", "ALAW"):
        for channels in (1, 2):
            for endian in ("LITTLE", "BIG") if subtype.startswith("PCM") else ("FILE",):
                whole = written(noise(samples, channels), "NIST", subtype, endian=endian)
                name = f"NIST {subtype} {endian} {channels} channels"
                yield name, whole, samples
                yield f"{name}, cut", whole[: -len(whole) // 3], CUT
                yield f"{name}, cut by a byte", whole[:-1], CUT
                yield f"{name}, text behind", whole + TEXT, MORE
                yield f"{name}, twice", whole + whole, MORE
    said = written(noise(samples), "NIST", "PCM_16")
    line = b"sample_count -i %d" % samples
    yield "NIST says half", said.replace(line, b"sample_count -i %d" % (samples // 2)), MORE
    yield "NIST says nothing", said.replace(line, b"sample_kount -i %d" % samples), "does not say"
    for subtype in ("PCM_U8", "PCM_16", "PCM_24", "FLOAT", "ULAW"):
        whole = written(noise(samples), "W64", subtype)
        at = whole.index(b"data\xf3\xac")
        exact = put(
            whole, at + 16, len(whole) - at, 8, "little"
        )  # as FFmpeg writes it, padded to 8
        name = f"W64 {subtype}"
        yield name, whole, samples
        yield f"{name}, exact size and padding", exact + bytes(-len(exact) % 8), samples
        chunk = b"list" + bytes(12) + (40).to_bytes(8, "little") + bytes(16)
        yield f"{name}, a chunk behind", exact + bytes(-len(exact) % 8) + chunk, samples
        yield f"{name}, cut", whole[: -len(whole) // 3], CUT
        yield f"{name}, text behind", whole + TEXT, MORE
        yield f"{name}, twice", whole + whole, f"{MORE}|{SEVERAL}"
    for endian in ("LITTLE", "BIG"):
        for channels in (1, 2):
            whole = written(noise(samples, channels), "CAF", "PCM_16", endian=endian)
            at = whole.index(b"data") + 4
            size = int.from_bytes(whole[at : at + 8], "big")
            name = f"CAF {endian} {channels} channels"
            yield name, whole, samples
            yield f"{name}, cut by a sample", whole[:-2], CUT
            yield f"{name}, text behind", whole + TEXT, MORE
            yield f"{name}, twice", whole + whole, MORE
            yield f"{name}, says half", put(whole, at, size // 4 * 2, 8, "big"), MORE
            chunk = b"info" + (4).to_bytes(8, "big") + bytes(4)
            yield f"{name}, a chunk behind", whole + chunk, samples
            for kind, end in (("WAV", "BIG"), ("AIFF", "LITTLE"), ("AU", "LITTLE")):
                whole = written(noise(samples, channels), kind, "PCM_16", endian=end)
                yield f"{kind} {end} {channels} channels", whole, samples
                yield f"{kind} {end} {channels} channels, cut", whole[: -len(whole) // 3], CUT
    for bits in (16, 24):
        whole = written(noise(samples), "CAF", f"ALAC_{bits}")
        yield f"CAF ALAC_{bits}", whole, samples
        yield f"CAF ALAC_{bits}, cut", whole[:-16], CUT
    for kind, subtype, block in (
        ("WAV", "IMA_ADPCM", 1_017), ("WAV", "MS_ADPCM", 506), ("WAV", "GSM610", 320),
        ("AU", "G721_32", 120),
    ):  # fmt: skip
        whole = written(noise(samples), kind, subtype)
        found = soundfile.info(io.BytesIO(whole)).frames
        assert samples <= found <= samples + 2 * block, "whole blocks"
        yield f"{kind} {subtype}", whole, found
        yield f"{kind} {subtype}, cut", whole[: -len(whole) // 3], CUT
    for kind, subtype in (
        ("VOC", "PCM_16"), ("VOC", "ULAW"), ("IRCAM", "PCM_16"), ("SVX", "PCM_16"), ("PAF", "PCM_16"),
        ("MAT4", "PCM_16"), ("MAT5", "FLOAT"), ("PVF", "PCM_16"), ("HTK", "PCM_16"), ("SDS", "PCM_16"),
        ("AVR", "PCM_16"), ("XI", "DPCM_16"), ("MPC2K", "PCM_16"), ("AIFF", "IMA_ADPCM"),
        ("AIFF", "GSM610"),
    ):  # fmt: skip
        whole = written(noise(samples), kind, subtype)
        yield f"{kind} {subtype}", whole, OTHER
        yield f"{kind} {subtype}, cut", whole[: -len(whole) // 3], f"{OTHER}|cut off|cannot be read"


def wav_headers(samples: int) -> Iterator[Case]:
    """Chunks in front of the samples; forms of samples that contradict each other."""
    whole = encoded("WAV", "PCM_16", samples)
    at = whole.index(b"data")
    form, body = whole[12:36], whole[at:]

    def chunk(name: bytes, content: bytes) -> bytes:
        return name + len(content).to_bytes(4, "little") + content + bytes(len(content) % 2)

    def riff(*chunks: bytes, size: int | None = None) -> bytes:
        content = b"".join(chunks)
        said = 4 + len(content) if size is None else size
        return b"RIFF" + said.to_bytes(4, "little") + b"WAVE" + content

    lavf = chunk(b"LIST", b"INFOISFT" + (14).to_bytes(4, "little") + b"Lavf58.76.100\0")
    yield "list in front", riff(form, lavf, body), samples
    yield "junk in front of the form", riff(chunk(b"JUNK", bytes(28)), form, body), samples
    yield "broadcast chunk", riff(form, chunk(b"bext", bytes(602)), body), samples
    yield "odd chunk", riff(form, chunk(b"note", b"abcde"), body), samples
    yield "wrong fact", riff(form, chunk(b"fact", (100).to_bytes(4, "little")), body), samples
    for size in (0, 36, 0xFFFFFFFF):
        yield f"outer size {size}", riff(form, body, size=size), samples
    for size in (0xFFFFFFFF, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0x7FFFFFDB):
        streamed = b"data" + size.to_bytes(4, "little") + body[8 : 8 + 2 * samples]
        yield f"streamed {size:x} with a list", riff(form, lavf, streamed, size=size), samples
    yield "never closed", riff(form, b"data" + bytes(4) + body[8:], size=0), MORE
    yield "two chunks of samples", riff(form, body, body), "cannot be read|goes on"
    yield "no samples", riff(form), "cannot be read"
    yield "no form", riff(body), "cannot be read"
    yield "20 bytes", whole[:20], "cannot be read"
    yield "44 bytes", whole[:44], CUT
    yield "behind a tag", ID3 + whole, BEFORE
    contradict = "says .* and .* bytes for a sample"
    for place, name, width in ((22, "channels", 2), (32, "block", 2), (34, "bits", 2)):
        for value in (0, 1, 3, 7):
            content = put(whole, place, value, width, "little")
            if (name, value) in (("channels", 1), ("block", 0)):
                yield f"{name} {value}", content, samples
            else:
                yield f"{name} {value}", content, f"{contradict}|cannot be read"
    for code in (6, 7):  # A-law and mu-law of two bytes
        yield f"form {code}", put(whole, 20, code, 2, "little"), contradict
    for rate in (0, 1, 1_000_003):
        yield f"rate {rate}", put(whole, 24, rate, 4, "little"), "Hz; resample|cannot be read"


def flac_streams(samples: int) -> Iterator[Case]:
    """Silence at either end, metadata, tags, and damage that only decoding shows."""

    def unknown(stream: bytes) -> bytes:
        return stream[:21] + bytes([stream[21] & 0xF0]) + bytes(4) + stream[26:]

    for channels in (1, 2):
        for subtype in ("PCM_S8", "PCM_16", "PCM_24"):
            for quiet in (0, 1, 500, 4_096, 8_000, samples - 4_097, samples):
                wave = noise(samples, channels)
                wave[samples - quiet :] = 0
                whole = written(wave, "FLAC", subtype)
                name = f"{subtype}, {channels} channels, {quiet} zeros at the end"
                yield name, whole, samples
                yield f"{name}, of unknown length", unknown(whole), samples
                yield f"{name}, cut by 3 bytes", whole[:-3], CUT
            whole = written(noise(samples, channels)[::-1], "FLAC", subtype)
            yield f"{subtype}, {channels}, a tag behind", whole + b"TAG" + bytes(125), samples
            tagged = unknown(whole) + b"TAG" + bytes(125)
            yield f"{subtype}, {channels}, of unknown length, a tag behind", tagged, samples
    for rate in (8_000, 22_050, 44_100, 48_000, 96_000):
        whole = written(noise(samples), "FLAC", "PCM_16", rate)
        yield f"{rate} Hz", whole, samples
        yield f"{rate} Hz of unknown length", unknown(whole), samples
    whole = encoded("FLAC", "PCM_16", samples)
    first = b"fLaC" + bytes([whole[4] & 127]) + whole[5:42]
    for kind, content in ((1, bytes(70_000)), (2, b"mine" + bytes(9))):
        block = bytes([kind]) + len(content).to_bytes(3, "big") + content
        yield f"metadata {kind}", first + block + whole[42:], samples
    for share in (0.3, 0.5, 0.9):
        at = int(share * len(whole))
        flipped = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        yield f"a flipped bit at {share}", flipped, "cannot be read|cut off"
        yield (
            f"100 bytes missing at {share}",
            whole[:at] + whole[at + 100 :],
            "cannot be read|cut off",
        )


def ogg_streams(samples: int) -> Iterator[Case]:
    """Channels, rates, cuts inside the last page, pages that are missing or damaged."""
    for subtype, rates in (("VORBIS", (8_000, 22_050, 44_100)), ("OPUS", (8_000, 24_000, 48_000))):
        for channels in (1, 2):
            for rate in rates:
                whole = written(noise(samples, channels), "OGG", subtype, rate)
                yield f"{subtype} {rate} Hz, {channels} channels", whole, samples
        whole = encoded("OGG", subtype, 4 * samples)
        parts = pages(whole)
        assert len(parts) > 8
        for cut in (1, 10, 100, len(parts[-1]) - 28, len(parts[-1]) - 5, len(parts[-1]) + 9):
            if cut > 0:
                yield f"{subtype} cut by {cut}", whole[:-cut], CUT
        yield f"{subtype}, text behind", whole + TEXT, 4 * samples
        yield f"{subtype}, zeros behind", whole + bytes(999), 4 * samples
        yield f"{subtype}, a page missing", b"".join(parts[:4] + parts[5:]), CUT
        at = whole.index(parts[4]) + 200
        yield f"{subtype}, damaged", whole[:at] + bytes(100) + whole[at + 100 :], CUT
        yield f"{subtype}, headers alone", b"".join(parts[:2]), "no samples|cannot be read"


def mp3_streams(samples: int) -> Iterator[Case]:
    """All rates of the three versions, channels and kinds of bit rate, with and without a header."""
    delay = 529
    for rate in (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000):
        per_frame = 1_152 if rate >= 32_000 else 576
        for channels in (1, 2):
            for mode in ("CONSTANT", "VARIABLE") if rate == 16_000 else ("CONSTANT",):
                wave = noise(samples, channels)
                whole = written(wave, "MP3", "MPEG_LAYER_III", rate, bitrate_mode=mode)
                name = f"{rate} Hz, {channels} channels, {mode}"
                yield name, whole, samples
                yield f"{name}, cut", whole[: -len(whole) // 3], CUT
                yield f"{name}, twice", whole + whole, None  # as many as both hold
                if rate == 16_000:
                    sound = frames(whole)[1:]
                    counted = per_frame * len(sound) - delay
                    yield f"{name}, without a header", b"".join(sound), counted
                    yield f"{name}, lyrics behind", whole + b"LYRICSBEGIN" + bytes(40), samples
                    yield f"{name}, APE tag", whole + b"APETAGEX" + bytes(40), samples
                    yield f"{name}, zeros behind", whole + bytes(999), samples


def cases() -> Iterator[Case]:
    for samples in SAMPLES:
        for group in (rare_containers, wav_headers, flac_streams, ogg_streams, mp3_streams):
            for name, content, expected in group(samples):
                yield f"{group.__name__} {samples} {name}", content, expected


def outcome(content: bytes) -> int | str:
    """Number of samples by header and by decoding, or the reason of the refusal."""
    file = audio.Content(content, "NAME")
    try:
        info, wave = audio.info(file), audio.decode(file)
        if fault := resampling.rate_fault(info.rate):
            raise ValueError(f"NAME {fault}")
    except ValueError as error:
        assert str(error).startswith("NAME ") and "\n" not in str(error)
        return str(error).removeprefix("NAME ")
    assert info.samples == len(wave)
    return len(wave)


@pytest.mark.slow
def test_every_file_is_read_whole_or_refused_with_the_true_reason(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = list(cases())
    assert len(made) > 700
    wrong = []
    for name, content, expected in made:
        found = outcome(content)
        if expected is None:
            right = isinstance(found, int) and found > 1.9 * SAMPLES[0]
        else:
            right = agrees(found, expected)
        if not right:
            wrong.append(f"{name}: {found}, not {expected}")
    assert not wrong, f"{len(wrong)} of {len(made)}:\n" + "\n".join(wrong)


@pytest.mark.parametrize("place", ["._{}", ".AppleDouble/{}"])
@pytest.mark.parametrize(
    "companion", [b"", b"\0\x05\x16\x07\0\x02\0\0Mac OS X        " + bytes(4_056)]
)
def test_what_a_mac_leaves_beside_a_recording_is_not_read(tmp_path, place, companion):
    """libsndfile reads the file ._NAME before an MP3 without a tag, and calls the MP3 damaged."""
    path = tmp_path / "a.mp3"
    path.write_bytes(encoded("MP3", "MPEG_LAYER_III", 40_001))
    beside = Path(tmp_path, place.format("a.mp3"))
    beside.parent.mkdir(exist_ok=True)
    beside.write_bytes(companion)
    assert audio.info(path).samples == len(audio.read(path)) == 40_001
    path.write_bytes(b"no audio")
    with pytest.raises(ValueError, match=r"a\.mp3 cannot be read"):
        audio.read(path)
