"""One recording decoded, MP4 files (m4a) included, and encoded again as the member of a shard."""

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import soundfile

from oskdft.config import SAMPLE_RATE
from oskdft.speech import audio, resampling
from oskdft.speech.corpora.shards import open_recording

CODECS = {"flac": ".flac", "opus": ".opus", "copy": ""}  # codec -> suffix of a member
DEFAULT_KBIT = 18
MEDIA = (".m4a",)  # libsndfile does not decode them, PyAV does
ENCODER_DELAY = 2_048  # samples that an AAC header may promise beyond the decoded ones


@dataclass(frozen=True, slots=True)
class Encoded:
    """A recording as a worker returns it: the bytes of the member, or why it is left out."""

    data: bytes = b""
    seconds: float = 0.0
    resampled: bool = False
    kind: str = ""  # of `KINDS`; "": `data` is the member
    reason: str = ""


def member_name(name: str, codec: str) -> str:
    """Name of a recording inside a shard.

    >>> member_name("dev/aac/id00012/21Uxsk56VDQ/00001.m4a", "flac")
    'dev/aac/id00012/21Uxsk56VDQ/00001.flac'
    """
    return (os.path.splitext(name)[0] + CODECS[codec]) if CODECS[codec] else name


def encode(root: str | Path, name: str, codec: str, kbit: int = DEFAULT_KBIT) -> Encoded:
    """Decode one recording and encode it for a shard; a recording that is refused says why.

    >>> encode("/no/such/folder", "a.wav", "flac").kind
    'unreadable'
    """
    path = os.path.join(root, name)
    try:
        wave, rate = _decode(path)
        if fault := resampling.rate_fault(rate):
            raise ValueError(fault)
        if codec == "copy":
            with _opened(path) as (file, _):
                return Encoded(file.read(), len(wave) / rate)
    except (ValueError, OSError) as error:
        reason = str(error).replace(os.path.join(root, ""), "").removeprefix(f"{name} ")
        return Encoded(kind="unreadable", reason=reason)
    if wave.ndim > 1:
        return Encoded(kind="stereo", reason=f"has {wave.shape[1]} channels; make it mono")
    resampled = rate != SAMPLE_RATE
    if resampled:
        wave = resampling.resample(wave, rate, SAMPLE_RATE)
    # libsndfile scales by 32768 where it reads and by 32767 where it writes: scaled here, 16-bit
    # recordings stay equal
    pcm = np.clip(np.rint(wave * 32_768), -32_768, 32_767).astype(np.int16)
    data = _opus(pcm, kbit) if codec == "opus" else _flac(pcm)
    return Encoded(data, len(pcm) / SAMPLE_RATE, resampled)


def _decode(path: str) -> tuple[np.ndarray, int]:
    """Wave [N], or [N, channels] where there are several, and its rate [Hz]."""
    if not path.lower().endswith(MEDIA):
        return audio.decode(path), audio.info(path).rate
    with _opened(path) as (file, name):
        return _decode_media(file, name)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[tuple[IO[bytes], str]]:
    """A recording as a file, and its name for messages; the recording may be in a shard."""
    source, name = open_recording(path)
    with open(source, "rb") if isinstance(source, str) else source as file:
        yield file, name


def _decode_media(file: IO[bytes], name: str) -> tuple[np.ndarray, int]:
    """`_decode` of an MP4 file, through PyAV."""
    import av

    if not file.read(1):
        raise ValueError(f"{name} is empty; copy or download it again")
    file.seek(0)
    blocks: list[np.ndarray] = []
    samples = 0
    try:
        # a file object and a fixed format: a playlist in disguise cannot name other files
        with av.open(file, format="mov", metadata_errors="ignore") as container:
            if not container.streams.audio:
                raise ValueError(f"{name} holds no audio stream; copy or download it again")
            stream = container.streams.audio[0]
            rate = stream.rate
            promised = float((stream.duration or 0) * stream.time_base * rate)
            frames = container.decode(stream)
            to_float = av.AudioResampler("fltp")
            while max(promised, samples) <= audio.MOST_SAMPLES and (frame := next(frames, None)):
                blocks += [block.to_ndarray() for block in to_float.resample(frame)]
                samples += frame.samples
    except av.FFmpegError as error:
        raise ValueError(
            f"{name} cannot be decoded ({error.strerror}); it is not audio, cut off or damaged; "
            "copy or download it again"
        ) from None
    if max(promised, samples) > audio.MOST_SAMPLES:
        raise ValueError(f"{name} has more than {audio.MOST_SAMPLES} samples; cut it into pieces")
    if samples == 0:
        raise ValueError(f"{name} holds no samples; copy or download it again")
    if samples + ENCODER_DELAY < promised:
        raise ValueError(
            f"{name} is cut off: {samples} of {promised:.0f} samples are there; copy or download "
            "it again"
        )
    wave = np.concatenate(blocks, axis=1)  # [channels, N]
    if not np.isfinite(wave).all():
        raise ValueError(f"{name} contains NaN or infinite samples; write the file again")
    return (wave[0] if len(wave) == 1 else wave.T), rate


def _flac(pcm: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, pcm, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def _opus(pcm: np.ndarray, kbit: int) -> bytes:
    import av

    file = io.BytesIO()
    # bitexact: no random serial number of the stream, no version of the encoder
    with av.open(file, "w", format="ogg", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libopus", rate=SAMPLE_RATE)
        stream.bit_rate = 1000 * kbit
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()
