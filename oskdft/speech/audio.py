"""Audio files: read a header or a piece, write.

Inside the package a wave is mono, float32 in [-1, 1], at ``SAMPLE_RATE``. libsndfile, through
soundfile, decodes FLAC, WAV, OGG and MP3. A crop is read by seeking; the rest is not decoded. A path
may lead into a tar archive (`corpora/shards.py`).
`speech/quality.py` decides whether a recording is fit for use.
"""

import functools
import io
import math
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
import soundfile

from oskdft.config import SAMPLE_RATE
from oskdft.speech import containers
from oskdft.speech.containers import END, HEADER, WHOLE
from oskdft.speech.corpora import shards
from oskdft.speech.resampling import rate_fault, resample
from oskdft.utils import files, process

T = TypeVar("T")


class Content(io.BytesIO):
    """A whole audio file in memory, with a name for messages; stands for a path in this module."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.name = name


MOST_SAMPLES = 1 << 27  # read at once: 2.3 h at 16 kHz, 0.5 GB; a damaged header may promise more
UNDECODED = (".m4a", ".mp4", ".aac")  # libsndfile does not read them
CONTEXT_S = 0.02  # [s] read on both sides of a crop to be resampled; the filter is shorter


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """Header of a file: samples per channel, rate [Hz], channels."""

    samples: int
    rate: int
    channels: int


def info(path: str | Path | Content) -> AudioInfo:
    """Read a header without decoding.

    Raises:
        ValueError: not audio, cut off, several recordings in a row, or a length that the header says
            wrong. (Only decoding shows some of it in FLAC and OGG files: `decode`.)
        FileNotFoundError: no such file.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.flac"
    >>> write(path, np.zeros(16_000))
    >>> info(path)
    AudioInfo(samples=16000, rate=16000, channels=1)
    """
    return _opened(
        path, lambda file, _: AudioInfo(file.frames, file.samplerate, file.channels), END
    )


def read(
    path: str | Path | Content, start: int = 0, samples: int | None = None, channel: int = 0
) -> np.ndarray:
    """Read ``samples`` samples from ``start`` on; nothing else is decoded.

    A file at another rate than ``SAMPLE_RATE`` is resampled, with one warning per file.

    Args:
        path: FLAC, WAV (16 or 24 bit, float), OGG or MP3 file. (In the last page of an OGG file
            libsndfile finds ``start`` only to about 10 ms.)
        start: first sample, counted at ``SAMPLE_RATE``.
        samples: number of samples, counted at ``SAMPLE_RATE``; None reads to the end.
        channel: from 1 on; 0: the file must be mono.

    Returns:
        [N] float32 in [-1, 1]; N < samples only where the file ends.

    Raises:
        ValueError: empty, cut off, not audio, not finite, start beyond the end, or see
            `channel_fault`.
        FileNotFoundError: no such file.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.wav"
    >>> write(path, np.arange(5) / 8)
    >>> read(path, 1, 3).tolist()
    [0.125, 0.25, 0.375]
    """
    if start < 0 or (samples is not None and samples < 1):
        raise ValueError(f"start {start}, samples {samples}: start from 0, read at least 1 sample")

    def piece(file: soundfile.SoundFile, name: str) -> np.ndarray:
        if fault := channel_fault(file.channels, channel) or rate_fault(file.samplerate):
            raise ValueError(f"{name} {fault}")
        if file.samplerate == SAMPLE_RATE:
            return _decode(file, name, start, samples, channel)
        _warn_rate(name, file.samplerate)
        return _decode_resampled(file, name, start, samples, channel)

    return _opened(path, piece, WHOLE if samples is None else HEADER)


def channel_fault(channels: int, channel: int) -> str:
    """Why a recording with so many channels is refused; empty where it is not.

    Args:
        channel: the one to be read, from 1 on; 0: the recording must be mono.

    >>> channel_fault(2, 0), channel_fault(1, 2), channel_fault(2, 2)
    ('has 2 channels; make it mono, or choose one: --channel 1 (training: data.channel=1)', \
'has 1 channel and no channel 2; choose another one', '')
    """
    if channels != 1 and not channel:
        return (
            f"has {channels} channels; make it mono, or choose one: --channel 1 "
            "(training: data.channel=1)"
        )
    if channel > channels:
        plural = "s" * (channels != 1)
        return f"has {channels} channel{plural} and no channel {channel}; choose another one"
    return ""


def decode(path: str | Path | Content, samples: int | None = None) -> np.ndarray:
    """Decode a file as stored: any rate, any number of channels.

    Args:
        path: as for `read`. samples: the first samples alone, at the rate of the file; None: all.
    Returns:
        [N] float32, or [N, channels] where the file has several.
    Raises:
        ValueError: empty, cut off, not audio or not finite. FileNotFoundError: no such file.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.wav"
    >>> soundfile.write(path, np.zeros((80, 2)), 8_000)
    >>> decode(path).shape
    (80, 2)
    """
    depth = WHOLE if samples is None else HEADER
    return _opened(path, lambda file, name: _decode(file, name, 0, samples), depth)


def _opened(
    path: str | Path | Content, work: Callable[[soundfile.SoundFile, str], T], depth: int
) -> T:
    """``work`` on the open file and its name for messages; libsndfile's errors become one line with the fix.

    libsndfile reads a member of a shard, a file in memory, and content under another header, through
    Python. It would lose Ctrl-C there and take the recording for cut off, so it is read undisturbed.

    Args:
        depth: how much is compared with the header, see `containers.checked`.
    """
    if isinstance(path, Content):
        source, name = path, path.name
        if not source.getbuffer():
            raise ValueError(f"{name} is empty; copy or download it again")
        source.seek(0)
    else:
        source, name = shards.open_recording(path)

    def on_file(opened: bytes | shards.Member | Content | BinaryIO) -> T:
        with soundfile.SoundFile(opened) as file:
            content = _under_a_true_header(file, source, name, depth)
            if content is None:
                return work(file, name)
        return _opened(Content(content, name), work, HEADER)

    try:
        if not isinstance(source, str):
            return process.undisturbed(lambda: on_file(source))
        try:
            # by its bytes: soundfile would encode a name in the words of the locale
            return on_file(_bytes(source))
        except soundfile.LibsndfileError:
            if not _has_a_companion(source):
                raise
            with open(source, "rb") as raw:  # libsndfile does not look beside it
                return process.undisturbed(lambda: on_file(raw))
    except TypeError:  # soundfile's error on data without a header
        raise ValueError(f"{name} has no header; convert it to FLAC or WAV") from None
    except soundfile.LibsndfileError as error:
        if isinstance(source, str):  # a plain file
            if not os.path.exists(source):
                message = f"{name} does not exist; check the path and the root"
                raise FileNotFoundError(message) from None
            with open(source, "rb") as raw:  # raises the system's error: no permission, or a folder
                if not raw.read(1):
                    raise ValueError(f"{name} is empty; copy or download it again") from None
        if Path(name if isinstance(path, Content) else path).suffix.lower() in UNDECODED:
            fix = (
                f"convert it: ffmpeg -i IN.m4a -ac 1 -ar {SAMPLE_RATE} OUT.wav, or oskdft data pack"
            )
        else:
            fix = "it is not audio or damaged; copy or download it again"
        reason = error.error_string.strip().rstrip(".")
        raise ValueError(f"{name} cannot be read ({reason}); {fix}") from None


def _bytes(path: str) -> bytes:
    """A path as the system knows it.

    Raises:
        ValueError: it is not UTF-8, or not of the locale.
    """
    try:
        name = os.fsencode(path)
    except UnicodeEncodeError:
        raise ValueError(
            f"{path.encode()}: this locale is {sys.getfilesystemencoding()}; set PYTHONUTF8=1"
        ) from None
    try:
        name.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{name}: this name is not UTF-8; rename it") from None
    return name


def _has_a_companion(path: str) -> bool:
    """Whether a file lies beside ``path`` in which a Mac keeps more about it; libsndfile reads that first."""
    folder, name = os.path.split(path)
    places = (f"._{name}", os.path.join(".AppleDouble", name))
    return any(os.path.isfile(os.path.join(folder, place)) for place in places)


def _under_a_true_header(
    file: soundfile.SoundFile, source: str | shards.Member | Content, name: str, depth: int
) -> bytes | None:
    """`containers.checked` of an open file; its errors name the file."""
    with open(source, "rb") if isinstance(source, str) else nullcontext(source) as raw:
        place = raw.tell()
        try:
            return containers.checked(file.format, file.subtype, file.extra_info, raw, depth)
        except ValueError as error:
            raise ValueError(f"{name} {error}") from None
        finally:
            raw.seek(place)  # libsndfile goes on from there


def _decode(
    file: soundfile.SoundFile, name: str, start: int, samples: int | None, channel: int = 0
) -> np.ndarray:
    """[N] or [N, channels] float32 at the rate of the file; fewer samples than promised: error.

    With a channel [N] of that one.
    """
    if file.frames == 0:
        raise ValueError(f"{name} holds no samples; copy or download it again")
    if start >= file.frames:
        raise ValueError(f"{name} has {file.frames} samples, none at {start}; start earlier")
    count = file.frames - start if samples is None else min(samples, file.frames - start)
    if count * file.channels > MOST_SAMPLES:
        raise ValueError(
            f"{name} promises {count} samples, more than {MOST_SAMPLES}; cut it into pieces"
        )
    if start:
        file.seek(start)
    wave = file.read(count, dtype="float32")
    if len(wave) < count:
        raise ValueError(
            f"{name} is cut off: {len(wave)} of {count} samples from {start} on are there; "
            "copy or download it again"
        )
    if not np.isfinite(wave).all():
        raise ValueError(f"{name} contains NaN or infinite samples; write the file again")
    if channel and wave.ndim > 1:
        return np.ascontiguousarray(wave[:, channel - 1])
    return wave


@functools.lru_cache(maxsize=10_000)  # once per file
def _warn_rate(name: str, rate: int) -> None:
    warnings.warn(f"{name} is at {rate} Hz; resampled to {SAMPLE_RATE} Hz", stacklevel=3)


def _decode_resampled(
    file: soundfile.SoundFile, name: str, start: int, samples: int | None, channel: int
) -> np.ndarray:
    """`_decode` at ``SAMPLE_RATE``; a crop equals the same piece of the whole file resampled."""
    # `file_block` samples of the file last as long as `block` samples of the result.
    shared = math.gcd(file.samplerate, SAMPLE_RATE)
    file_block = file.samplerate // shared
    block = SAMPLE_RATE // shared
    context = math.ceil(CONTEXT_S * file.samplerate / file_block)  # blocks on each side
    first = max(start // block - context, 0)  # block
    if samples is None:
        wave = _decode(file, name, first * file_block, None, channel)
    else:
        blocks = math.ceil((start + samples) / block) - first + context
        wave = _decode(file, name, first * file_block, blocks * file_block, channel)
    wave = resample(wave, file.samplerate, SAMPLE_RATE)[start - first * block :]
    if len(wave) == 0:
        raise ValueError(f"{name} has no sample {start} at {SAMPLE_RATE} Hz; start earlier")
    return wave[:samples]


def write(path: str | Path, wave: np.ndarray) -> None:
    """Write 16-bit FLAC or WAV at ``SAMPLE_RATE``, whole or not at all; samples are clipped to [-1, 1].

    Raises:
        ValueError: another suffix, not one channel, empty or not finite.
        OSError: read-only folder or full disk; names the file.

    >>> write("a.aiff", np.zeros(9))
    Traceback (most recent call last):
    ...
    ValueError: a.aiff: cannot write '.aiff'; end the name in .flac or .wav
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".flac", ".wav"):
        raise ValueError(f"{path}: cannot write {suffix!r}; end the name in .flac or .wav")
    wave = np.asarray(wave)
    if wave.ndim != 1 or len(wave) == 0 or not np.isfinite(wave).all():
        raise ValueError(f"{path}: wave is {list(wave.shape)}; give finite samples of shape [N]")
    encoded = io.BytesIO()
    soundfile.write(encoded, wave, SAMPLE_RATE, format=suffix[1:].upper(), subtype="PCM_16")
    with files.atomic(path, "wb") as file:
        file.write(encoded.getbuffer())
