"""Is a recording fit for use? One table of limits, and the functions that apply it.

`data check`, training, validation, `evaluate`, `embed`, `verify` and uploads in lessons all ask
here. A fault refuses the recording in each of them; a doubt is reported and the recording is used.

==================================  =====  =====================================================
finding                             kind   exception
==================================  =====  =====================================================
no audio, no samples, cut off,      fault  some cuts, NaN and infinity show only when decoded: `data
NaN or infinite samples                    check --full`, or the command that reads the missing piece
float samples beyond `LOUDEST`      fault  of arrays and uploads only
more than one channel               fault  read where one is chosen (``channel``, from 1 on; 0: none);
                                           uploads: the channels are averaged
shorter than `SHORTEST_S`           fault  noise and room responses may be short
longer than `LONGEST_S`, or of      fault  only where a recording is embedded whole: training and
more than `audio.MOST_SAMPLES`             `eval.tta=crops` cut crops from any length; `data check`
                                           names it all the same
longer than `LONGEST_WHOLE_S`       doubt  embedded whole as the mean of windows of equal length, at
                                           most 30 s: `evaluation/windows.py` states the rule
shorter than `SURE_S`               doubt
rate outside 4,000 to 192,000 Hz    fault  `resampling.rate_fault`
another rate than ``SAMPLE_RATE``   doubt  resampled at each reading
peak below `SILENCE`                doubt  uploads: a fault, the microphone is off; a constant offset
                                           does not count
clipped, see `is_clipped`           doubt
==================================  =====  =====================================================

A recording shorter than a crop (`data.crop_s`, `eval.crop_s`) is repeated up to the crop's length.
"""

from pathlib import Path

import numpy as np

from oskdft.config import SAMPLE_RATE, EvalConfig
from oskdft.speech import audio, resampling
from oskdft.utils.ahead import in_threads
from oskdft.utils.console import progress

SHORTEST_S = 0.5  # [s] too few frames to tell a voice (our choice); the encoder needs 400 samples
SURE_S = 1.0  # [s] below it scores spread more than those of the calibration (our choice)
# [s] In ONNX form the memory of one head of attention grows with the square of the length: the shipped
# student takes 0.8 GB for 149 s. The longest recording of VoxCeleb1 has 145 s.
LONGEST_WHOLE_S = 150.0
LONGEST_S = 3600.0  # [s] a recording is decoded at once: 230 MB (our choice)
SILENCE = 10 ** (-60 / 20)  # peak, 60 dB below full scale: noise of a muted microphone
LOUDEST = (
    2.0  # of float samples: resampling and lossy coding exceed full scale a little (our choice)
)
FULL_SCALE = 0.9999  # a 16-bit converter has no larger sample
LISTED = 20  # faults in a message
CLIPPED_SHARE = 1e-3  # of the samples at full scale: more than the peaks of sound speech


def is_short(samples: np.ndarray | int, rate: np.ndarray | int) -> np.ndarray | bool:
    """Whether recordings are shorter than `SHORTEST_S`.

    Args:
        samples: number of samples, one or [n]. rate: [Hz], one or [n].

    >>> is_short(np.array([7_999, 8_000]), 16_000).tolist()
    [True, False]
    """
    return samples < SHORTEST_S * rate


def is_long(samples: np.ndarray | int, rate: np.ndarray | int) -> np.ndarray | bool:
    """Whether recordings are longer than `LONGEST_WHOLE_S`; arguments as in `is_short`.

    >>> is_long(151, rate=1)
    True
    """
    return samples > LONGEST_WHOLE_S * rate


def is_too_long(samples: np.ndarray | int, rate: np.ndarray | int) -> np.ndarray | bool:
    """Whether recordings are too long to be embedded whole; arguments as in `is_short`.

    >>> is_too_long(np.array([3_600, 3_601]), rate=1).tolist()
    [False, True]
    """
    return samples > np.minimum(LONGEST_S * rate, audio.MOST_SAMPLES)


def is_silent(wave: np.ndarray) -> bool:
    """Whether no sample is further than `SILENCE` from the mean: a constant is an offset, no sound.

    >>> is_silent(np.full(10, 0.3)), is_silent(np.array([0.0, -0.5]))
    (True, False)
    """
    return len(wave) == 0 or float(np.abs(wave - wave.mean(axis=0)).max()) < SILENCE


def is_clipped(wave: np.ndarray) -> bool:
    """Whether more than `CLIPPED_SHARE` of the samples are at full scale.

    >>> wave = np.sin(np.arange(1_000))
    >>> is_clipped(0.9 * wave), is_clipped(np.clip(2 * wave, -1, 1))
    (False, True)
    """
    return bool(np.mean(np.abs(wave) > FULL_SCALE) > CLIPPED_SHARE)


def length_fault(samples: int, rate: int, whole: bool = False) -> str:
    """Why a recording of this length is refused; empty where it is not.

    Args:
        samples: number of samples. rate: [Hz].
        whole: whether the recording is embedded whole.

    >>> length_fault(8_000, 16_000), length_fault(4_000, 16_000)
    ('', 'is 0.25 s long; give at least 0.5 s of speech')
    """
    if is_short(samples, rate):
        return f"is {samples / rate:.2f} s long; give at least {SHORTEST_S} s of speech"
    longest = min(LONGEST_S, audio.MOST_SAMPLES / rate)
    if whole and is_too_long(samples, rate):
        return f"is {samples / rate:.0f} s long; at most {longest:.0f} s are embedded whole; cut it"
    return ""


def header_fault(
    header: audio.AudioInfo, speech: bool = True, whole: bool = False, channel: int = 0
) -> str:
    """Why a file with this header is refused; empty where it is not.

    Args:
        header: from `audio.info` or from a scan.
        speech: False for noise and room responses, which may be short.
        whole: whether the recording is embedded whole. channel: see `audio.channel_fault`.

    >>> header_fault(audio.AudioInfo(samples=16_000, rate=16_000, channels=2), channel=1)
    ''
    """
    if fault := resampling.rate_fault(header.rate):
        return fault
    if not speech and header.channels != 1:
        return f"has {header.channels} channels; make it mono"
    if fault := audio.channel_fault(header.channels, channel):
        return fault
    return length_fault(header.samples, header.rate, whole) if speech else ""


def require_file(
    path: Path, whole: bool = True, listen: bool = False, speech: bool = True, channel: int = 0
) -> float:
    """Length [s] of a recording that is fit for embedding, from its header.

    Args:
        path: audio file. whole: whether the recording is embedded whole.
        listen: decode it too; some faults show only then.
        speech: False for noise and room responses, which may be short.
        channel: see `audio.channel_fault`.

    Raises:
        ValueError: a fault that the header shows. FileNotFoundError: no such file.
    """
    header = audio.info(path)
    if fault := header_fault(header, speech, whole, channel):
        raise ValueError(f"{path} {fault}")
    if listen:
        audio.decode(path)
    return header.samples / header.rate


def require_files(
    paths: list[Path],
    whole: bool = True,
    listen: bool = False,
    speech: bool = True,
    channel: int = 0,
) -> np.ndarray:
    """`require_file` of many recordings, in threads: their lengths [n] in seconds.

    Raises:
        ValueError: recordings with a fault; names some of them and the fault of each.
        FileNotFoundError: files are absent, and there is no other fault.
    """

    def length(path: Path) -> float | Exception:
        try:
            return require_file(path, whole, listen, speech, channel)
        except (ValueError, OSError) as error:
            return error

    found = in_threads(length, paths)
    if listen:
        found = progress(found, "listening to recordings", len(paths))
    found = list(found)
    faults = [fault for fault in found if isinstance(fault, Exception)]
    if len(faults) == 1:
        raise faults[0]
    if faults:
        absent = all(isinstance(fault, FileNotFoundError) for fault in faults)
        listed = "; ".join(map(str, faults[:LISTED]))
        more = f"; and {len(faults) - LISTED} more" if len(faults) > LISTED else ""
        raise (FileNotFoundError if absent else ValueError)(
            f"{len(faults)} of {len(paths)} recordings cannot be used: {listed}{more}"
        )
    return np.array(found)


def lengths(paths: list[Path], recipe: EvalConfig, channel: int = 0) -> np.ndarray:
    """Lengths [n] in seconds of recordings that are fit for embedding with ``recipe``.

    Args:
        channel: see `audio.channel_fault`.

    Raises:
        ValueError, FileNotFoundError: faults that the headers show, see `require_files`.
    """
    return require_files(paths, whole=recipe.tta != "crops", channel=channel)


def require_wave(wave: np.ndarray, rate: int = SAMPLE_RATE) -> np.ndarray:
    """The wave as float32, when it is fit for embedding whole.

    Args:
        wave: [N] float samples in [-1, 1]. rate: theirs [Hz].

    Raises:
        ValueError: not float, not [N], too short, too long, not finite or beyond `LOUDEST`.

    >>> require_wave(np.zeros(16_000)).dtype
    dtype('float32')
    """
    if wave.dtype.kind != "f":
        raise ValueError(f"wave has type {wave.dtype}; give float samples in [-1, 1]")
    if wave.ndim != 1:
        raise ValueError(f"wave has shape {wave.shape}; give [N] samples at {rate} Hz")
    if fault := length_fault(len(wave), rate, whole=True):
        raise ValueError(f"wave {fault}")
    if not np.isfinite(wave).all():
        raise ValueError("wave has samples that are not finite; remove them first")
    if (peak := float(np.abs(wave).max())) > LOUDEST:
        raise ValueError(
            f"wave has samples up to {peak:g}; give them in [-1, 1] (16-bit integers: divide by 32768)"
        )
    return wave.astype(np.float32, copy=False)


def doubts(name: str, wave: np.ndarray, rate: int = SAMPLE_RATE) -> list[str]:
    """Reasons why the calibration may not hold for a recording that is fit for use.

    Args:
        name: of the recording. wave: [N] at ``SAMPLE_RATE``. rate: of the file [Hz].

    >>> doubts("clip", np.zeros(8_000, np.float32))
    ['clip is 0.50 s long', 'clip is silent']
    """
    findings = {
        f"has {rate} Hz, not {SAMPLE_RATE}": rate != SAMPLE_RATE,
        f"is {len(wave) / SAMPLE_RATE:.2f} s long": len(wave) < SURE_S * SAMPLE_RATE,
        f"is {len(wave) / SAMPLE_RATE:.0f} s long, embedded in windows": is_long(
            len(wave), SAMPLE_RATE
        ),
        "is silent": is_silent(wave),
        "is clipped": is_clipped(wave),
    }
    return [f"{name} {finding}" for finding, holds in findings.items() if holds]
