"""The one door for audio: read a piece of a file, check it, cut it, write it.

Everything inside the package is mono, float32 in [-1, 1], at ``SAMPLE_RATE``. libsndfile, through
soundfile, decodes FLAC, WAV, OGG and MP3; a crop is read by seeking, not by decoding everything.
"""

import contextlib
import functools
import io
import math
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from oskdft.config import SAMPLE_RATE
from oskdft.utils import files

SEGMENT = 48_000  # samples: 3 s, the test segments of the paper
MOST_SAMPLES = 1 << 27  # in one piece: 2.3 h at 16 kHz, 0.5 GB; headers may promise anything


CONTEXT_S = 0.02  # read beside a crop that is resampled: longer than the filter's reach
_TRUNCATED = ("should be", "lacks an end-of-stream")  # libsndfile's remarks on WAV and OGG


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a file's header says: samples per channel, rate in Hz, channels."""

    samples: int
    rate: int
    channels: int


def info(path: str | Path) -> AudioInfo:
    """Read a header, without decoding; what it promises may be missing, see `problems`.

    Raises:
        ValueError: not audio. FileNotFoundError: no such file.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.flac"
    >>> write(path, np.zeros(16_000))
    >>> info(path)
    AudioInfo(samples=16000, rate=16000, channels=1)
    """
    with _opened(path) as file:
        return AudioInfo(file.frames, file.samplerate, file.channels)


def read(
    path: str | Path, start: int = 0, samples: int | None = None, *, rate: int = SAMPLE_RATE
) -> np.ndarray:
    """Read ``samples`` samples from ``start`` on, decoding nothing else.

    Args:
        path: FLAC, WAV (16 or 24 bit, float), OGG or MP3 file, mono. (In the last page of an
            OGG file libsndfile finds ``start`` only to about 10 ms.)
        start: first sample, counted at ``rate``.
        samples: how many, counted at ``rate``; None reads to the end.
        rate: Hz; a file at another rate is resampled, with one warning per file.

    Returns:
        [N] float32; N < samples only where the file ends.

    Raises:
        ValueError: empty, cut off, not audio, stereo, not finite, or start beyond the end.
        FileNotFoundError: no such file.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.wav"
    >>> write(path, np.arange(5) / 8)
    >>> read(path, 1, 3).tolist()
    [0.125, 0.25, 0.375]
    """
    if start < 0 or (samples is not None and samples < 1):
        raise ValueError(f"start {start}, samples {samples}: start from 0, read at least 1 sample")
    with _opened(path) as file:
        if file.channels != 1:
            raise ValueError(
                f"{path} has {file.channels} channels; make it mono: "
                f"ffmpeg -i IN -ac 1 -ar {rate} OUT.wav"
            )
        if file.samplerate == rate:
            wave = _decode(file, path, start, samples)
        else:
            _warn_rate(str(path), file.samplerate, rate)
            wave = _decode_resampled(file, path, start, samples, rate)
    if not np.isfinite(wave).all():
        raise ValueError(f"{path} contains NaN or infinite samples; write the file again")
    return wave


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[soundfile.SoundFile]:
    """Open for reading; libsndfile's complaints become one line with the file and the fix."""
    try:
        with soundfile.SoundFile(path) as file:
            yield file
    except UnicodeEncodeError:
        raise ValueError(f"{os.fsencode(path)}: this name is not UTF-8; rename it") from None
    except TypeError:  # what soundfile says to headerless data
        raise ValueError(f"{path} has no header; convert it to FLAC or WAV") from None
    except soundfile.LibsndfileError as error:
        if not Path(path).exists():
            raise FileNotFoundError(f"{path} does not exist; check the path and the root") from None
        with open(path, "rb") as raw:  # no permission, or a folder: the system's own words
            if not raw.read(1):
                raise ValueError(f"{path} is empty; copy or download it again") from None
        if Path(path).suffix.lower() in (".m4a", ".mp4", ".aac"):
            fix = f"convert it: ffmpeg -i IN.m4a -ac 1 -ar {SAMPLE_RATE} OUT.wav"
        else:
            fix = "it is not audio or damaged; copy or download it again"
        reason = error.error_string.strip().rstrip(".")
        raise ValueError(f"{path} cannot be read ({reason}); {fix}") from None


def _decode(
    file: soundfile.SoundFile, path: str | Path, start: int, samples: int | None
) -> np.ndarray:
    """[N] float32 at the file's own rate; N is what the header promises or it is an error."""
    if file.frames == 0:
        raise ValueError(f"{path} holds no samples; copy or download it again")
    if start >= file.frames:
        raise ValueError(f"{path} has {file.frames} samples, none at {start}; start earlier")
    wanted = file.frames - start if samples is None else min(samples, file.frames - start)
    if wanted > MOST_SAMPLES:
        raise ValueError(
            f"{path} promises {wanted} samples, more than {MOST_SAMPLES}; cut it into pieces"
        )
    if start:
        file.seek(start)
    wave = file.read(wanted, dtype="float32")
    if len(wave) < wanted:
        raise ValueError(
            f"{path} is cut off: {len(wave)} of {wanted} samples from {start} on are there; "
            "copy or download it again"
        )
    if samples is None and _is_truncated(file):
        raise ValueError(f"{path} is cut off: its header promises more; copy or download it again")
    return wave


def _is_truncated(file: soundfile.SoundFile) -> bool:
    return any(remark in file.extra_info for remark in _TRUNCATED)


@functools.lru_cache(maxsize=10_000)  # once per file
def _warn_rate(path: str, found: int, wanted: int) -> None:
    warnings.warn(f"{path} is at {found} Hz; resampled to {wanted} Hz", stacklevel=3)


def _decode_resampled(
    file: soundfile.SoundFile, path: str | Path, start: int, samples: int | None, rate: int
) -> np.ndarray:
    """Like `_decode`, at another rate; a crop equals the same piece of the whole file resampled."""
    # `there` samples of the file last as long as `here` samples of the result
    shared = math.gcd(file.samplerate, rate)
    there, here = file.samplerate // shared, rate // shared
    context = math.ceil(CONTEXT_S * file.samplerate / there)
    first = max(start // here - context, 0)
    blocks = None if samples is None else math.ceil((start + samples) / here) - first + context
    wave = _decode(file, path, first * there, None if blocks is None else blocks * there)
    wave = resample(wave, file.samplerate, rate)[start - first * here :]
    if len(wave) == 0:
        raise ValueError(f"{path} has no sample {start} at {rate} Hz; start earlier")
    return wave if samples is None else wave[:samples]


def resample(wave: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Change the rate (band-limited sinc interpolation of torchaudio).

    Args:
        wave: [N] float32. rate: its rate in Hz. wanted: the new rate in Hz.

    Returns:
        [ceil(N * wanted / rate)] float32.

    >>> resample(np.zeros(800, np.float32), 8_000, 16_000).shape
    (1600,)
    """
    import torch  # heavy, and files at another rate are rare
    from torchaudio.functional import resample as sinc_resample

    return sinc_resample(torch.from_numpy(wave), rate, wanted).numpy()


def wrap(wave: np.ndarray, samples: int) -> np.ndarray:
    """Repeat a short clip until it has ``samples`` samples; a longer one stays as it is.

    >>> wrap(np.array([1, 2, 3]), 7).tolist()
    [1, 2, 3, 1, 2, 3, 1]
    """
    if len(wave) == 0:
        raise ValueError("wave is empty; nothing to repeat, drop the file from the list")
    return wave if len(wave) >= samples else np.resize(wave, samples)


def crop_start(
    total: int, samples: int, rng: np.random.Generator, whole_second: bool = False
) -> int:
    """Draw where a crop begins; 0 where the clip is not longer than the crop.

    Args:
        total: samples of the clip. samples: samples of the crop.
        rng: the random source.
        whole_second: only on whole seconds, as release P does: what follows the last whole
            second, less than 1 s, is never seen.

    Source: METHOD.md's list of differences, number 7 (published: whole second).

    >>> rng = np.random.default_rng(0)
    >>> {crop_start(40_000, 32_000, rng, whole_second=True) for _ in range(99)}
    {0}
    >>> crop_start(48_000, 32_000, rng, whole_second=True) in (0, 16_000)
    True
    """
    spare = max(total - samples, 0)
    if whole_second:
        return int(rng.integers(spare // SAMPLE_RATE + 1)) * SAMPLE_RATE
    return int(rng.integers(spare + 1))


def segments(wave: np.ndarray, samples: int = SEGMENT, count: int = 5) -> np.ndarray:
    """Cut ``count`` evenly spaced, overlapping segments; short clips are repeated first.

    Args:
        wave: [N].

    Returns:
        [count, samples]: the first starts with the clip, the last ends with it.

    >>> segments(np.arange(8), samples=4, count=3).tolist()
    [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7]]
    """
    wave = wrap(wave, samples)
    starts = np.linspace(0, len(wave) - samples, count).astype(int)
    return np.stack([wave[start : start + samples] for start in starts])


def write(path: str | Path, wave: np.ndarray, rate: int = SAMPLE_RATE) -> None:
    """Write 16-bit FLAC or WAV, whole or not at all; louder than full scale is clipped.

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
    soundfile.write(encoded, wave, rate, format=suffix[1:].upper(), subtype="PCM_16")
    with files.atomic(path, "wb") as file:
        file.write(encoded.getbuffer())
