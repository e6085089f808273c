"""A recording that somebody uploads: any rate, one or two channels; checked before it is decoded.

It stays in memory: a voice that was written to a disk would outlive a process that is killed.
"""

from dataclasses import dataclass

import numpy as np

from oskdft.config import SAMPLE_RATE
from oskdft.speech import audio, quality, resampling

MOST_BYTES = 100 << 20
UPLOAD_LIMIT_S = 300.0  # a longer file is refused by its header
USED_S = 6.0  # the rest is not decoded, so that scoring keeps up with a slider


@dataclass(frozen=True, slots=True)
class Clip:
    """A wave [N] at 16 kHz, the rate of the file it comes from, and what was done to it."""

    wave: np.ndarray
    rate: int = SAMPLE_RATE
    note: str = ""


def read_upload(name: str, content: bytes) -> Clip:
    """Decode the beginning of an uploaded WAV, FLAC, OGG or MP3 file.

    Args:
        name: as the user calls it. content: of the file.
    Returns:
        At most `USED_S` seconds; channels are averaged, other rates resampled.
    Raises:
        ValueError: not audio, empty, too short, longer than `UPLOAD_LIMIT_S`, silent; names the fix.

    >>> read_upload("notes.txt", b"Hello")
    Traceback (most recent call last):
    ...
    ValueError: notes.txt cannot be read (Format not recognised); it is not audio or damaged; \
copy or download it again
    """
    if len(content) > MOST_BYTES:
        size = f"{len(content) >> 20} MB large"
        raise ValueError(f"{name} is {size}; give at most {MOST_BYTES >> 20} MB")
    file = audio.Content(content, name)
    info = audio.info(file)
    seconds = info.samples / info.rate
    if fault := resampling.rate_fault(info.rate) or quality.length_fault(info.samples, info.rate):
        raise ValueError(f"{name} {fault}")
    if seconds > UPLOAD_LIMIT_S:
        raise ValueError(
            f"{name} is {seconds / 60:,.0f} min long; give at most {UPLOAD_LIMIT_S / 60:.0f} min "
            f"(the first {USED_S:g} s are used)"
        )
    wave = audio.decode(file, round(USED_S * info.rate))
    wave = wave if wave.ndim == 1 else wave.mean(1)
    if info.rate != SAMPLE_RATE:
        wave = resampling.resample(wave, info.rate, SAMPLE_RATE)
    wave = quality.require_wave(wave)
    if quality.is_silent(wave):
        raise ValueError(f"{name} is silent; check the microphone and record again")
    notes = {
        f"{info.channels} channels averaged": info.channels > 1,
        f"resampled from {info.rate:,} Hz": info.rate != SAMPLE_RATE,
        f"the first {USED_S:g} of {seconds:.1f} s used": seconds > USED_S,
    }
    return Clip(wave, info.rate, ", ".join(note for note, holds in notes.items() if holds))
