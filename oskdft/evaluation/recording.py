"""A recording in whatever form a caller has it: a file, samples, a tensor. Imports no torch."""

import sys
from dataclasses import dataclass
from numbers import Integral
from os import PathLike
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

import numpy as np

from oskdft.config import SAMPLE_RATE
from oskdft.speech import audio, quality, resampling

if TYPE_CHECKING:
    import torch

Source: TypeAlias = "str | PathLike | BinaryIO | np.ndarray | torch.Tensor"
MOST_BYTES = 1 << 30  # of a file object


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """Samples [N] float32 at 16 kHz, the rate of their source [Hz], and a name for messages."""

    name: str
    wave: np.ndarray
    rate: int


def recording(source: Source, rate: int | None = None, channel: int = 0) -> Recording:
    """The recording that a file, a file object, an array or a tensor holds, fit for embedding whole.

    Args:
        source: path of a file, a file object opened in binary mode (read from where it is to its
            end), [N] float samples in [-1, 1], or a tensor of such samples [N] or [1, N].
        rate: of samples [Hz]; None: 16,000. A file has its own.
        channel: of a file, see `audio.channel_fault`.
    Raises:
        FileNotFoundError: no such file.
        ValueError: not audio, not fit (see `quality`), or wrong samples; names the fault.

    >>> made = recording(np.sin(np.arange(8_000.0)), rate=8_000)
    >>> made.name, made.wave.shape, made.rate
    ('wave', (16000,), 8000)
    """
    if isinstance(source, str | PathLike):
        return _of_file(source, str(source), rate, channel)
    if hasattr(source, "read"):
        content = _content(source)
        return _of_file(content, content.name, rate, channel)
    if channel:
        raise ValueError(f"channel is {channel}, but samples are of one channel; give those of one")
    rate = SAMPLE_RATE if rate is None else rate
    if not isinstance(rate, Integral):
        raise ValueError(f"rate is {rate!r}; give a whole number of Hz")
    if fault := resampling.rate_fault(int(rate)):
        raise ValueError(f"wave {fault}")
    wave = quality.require_wave(_array(source), int(rate))
    if rate != SAMPLE_RATE:
        wave = resampling.resample(wave, int(rate), SAMPLE_RATE)
    return Recording("wave", wave, int(rate))


def _of_file(
    path: "str | PathLike | audio.Content", name: str, rate: int | None, channel: int
) -> Recording:
    if rate is not None:
        raise ValueError(f"rate is {rate}, but {name} is a file, which has its own; leave rate out")
    header = audio.info(path)
    if fault := quality.header_fault(header, whole=True, channel=channel):
        raise ValueError(f"{name} {fault}")
    return Recording(name, audio.read(path, channel=channel), header.rate)


def _content(file: BinaryIO) -> "audio.Content":
    """What a file object holds."""
    name = getattr(file, "name", None)
    name = name if isinstance(name, str) and name else "file object"
    read = file.read(MOST_BYTES + 1)
    if not isinstance(read, bytes):
        raise ValueError(f"{name} gives {type(read).__name__}, not bytes; open it in mode 'rb'")
    if len(read) > MOST_BYTES:
        raise ValueError(f"{name} holds more than {MOST_BYTES >> 30} GB; cut it")
    return audio.Content(read, name)


def _array(source: object) -> np.ndarray:
    """The samples of an array, or of a tensor [N] or [1, N]."""
    torch = sys.modules.get("torch")  # a tensor exists only where it was imported
    if torch is not None and isinstance(source, torch.Tensor):
        if not source.is_floating_point():
            raise ValueError(f"wave has type {source.dtype}; give float samples in [-1, 1]")
        if source.dim() == 2 and source.shape[0] == 1:
            source = source[0]
        return source.detach().to("cpu", torch.float32).numpy()
    if not isinstance(source, np.ndarray):
        raise ValueError(
            f"a recording is a {type(source).__name__}; give a path, a file object opened in mode 'rb', "
            "an array or a tensor"
        )
    return source
