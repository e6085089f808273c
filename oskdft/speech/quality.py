"""TODO speech.quality."""

import math
from pathlib import Path

import numpy as np
import soundfile

from oskdft import config
from oskdft.config import SAMPLE_RATE, EvalConfig
from oskdft.speech import audio
from oskdft.speech.audio import _is_truncated, _opened

SHORTEST = 400  # samples: the encoders' convolutions need that many for one frame
FULL_SCALE = 0.9999  # from here on a 16-bit converter has nothing above
SILENCE = 10 ** (-60 / 20)  # peak, -60 dB below full scale


def is_silent(wave: np.ndarray) -> bool:
    """Whether no sample rises above -60 dB below full scale.

    >>> is_silent(np.zeros(10)), is_silent(np.array([0.0, -0.5]))
    (True, False)
    """
    return float(np.abs(wave).max(initial=0.0)) < SILENCE


def is_clipped(wave: np.ndarray) -> bool:
    """Whether more than one sample in a thousand lies at full scale.

    >>> wave = np.sin(np.arange(1_000))
    >>> is_clipped(0.9 * wave), is_clipped(np.clip(2 * wave, -1, 1))
    (False, True)
    """
    return bool(np.mean(np.abs(wave) > FULL_SCALE) > 1e-3)


def problems(
    source: str | Path | np.ndarray, *, rate: int = SAMPLE_RATE, shortest: int = SHORTEST
) -> list[str]:
    """All that is wrong with a file or a wave, as short texts; nothing is raised.

    Args:
        source: a path (decoded whole) or a wave [N].
        rate: the rate in Hz that a file should have.
        shortest: the fewest samples that are of use, counted at ``rate``.

    >>> problems(np.zeros(16_000))
    ['silent (peak below -60 dBFS)']
    """
    if isinstance(source, np.ndarray):
        return _wave_problems(source, shortest)
    try:
        with _opened(source) as file:
            found = _header_problems(file, rate)
            wave = file.read(dtype="float32", always_2d=True)  # [N, channels]
            if len(wave) < file.frames or _is_truncated(file):
                found.append("cut off (shorter than its header says)")
            own_shortest = math.ceil(shortest * file.samplerate / rate)
    except (ValueError, OSError) as error:
        return [f"unreadable ({error})"]
    return found + _wave_problems(wave.ravel(), own_shortest * wave.shape[1])


def _header_problems(file: soundfile.SoundFile, rate: int) -> list[str]:
    found = []
    if file.channels != 1:
        found.append(f"{file.channels} channels instead of 1")
    if file.samplerate != rate:
        found.append(f"{file.samplerate} Hz instead of {rate} Hz")
    return found


def _wave_problems(wave: np.ndarray, shortest: int) -> list[str]:
    if wave.size == 0:
        return ["empty (no samples)"]
    found = []
    if wave.size < shortest:
        found.append(f"too short ({wave.size} samples, at least {shortest} needed)")
    if not np.isfinite(wave).all():
        found.append("not finite (NaN or infinite samples)")
    elif is_silent(wave):
        found.append("silent (peak below -60 dBFS)")
    return found


def lengths(paths: list[Path], recipe: EvalConfig) -> np.ndarray:
    """Lengths [n] in seconds of recordings that ``recipe`` can embed.

    Raises:
        ValueError: one is too short, or too long for a recipe that embeds it whole.
    """
    measure = length_s if recipe.tta == "crops" else whole_s
    return np.array([measure(path) for path in paths])


SURE_S = 1.0  # below it `verify` warns (our choice): scores spread more than on whole utterances
SHORTEST_S = 0.5  # a shorter recording has too few frames to tell a voice
# A longer one is not embedded whole: in ONNX form memory grows with the square of the length (the
# shipped student added 1.4 GB for 120 s and 3.6 GB for 200 s). The longest of VoxCeleb1 has 145 s.
LONGEST_S = 150.0


def doubts(name: str, wave: np.ndarray, rate: int = config.SAMPLE_RATE) -> list[str]:
    """Why a score of a recording may mean less than its calibration says.

    Args:
        name: of the recording. wave: [N] at 16 kHz. rate: of the file that it comes from [Hz].

    >>> doubts("clip", np.zeros(8_000, np.float32))
    ['clip is 0.50 s long', 'clip is silent']
    """
    found = {
        f"has {rate} Hz, not {config.SAMPLE_RATE}": rate != config.SAMPLE_RATE,
        f"is {len(wave) / config.SAMPLE_RATE:.2f} s long": len(wave) < SURE_S * config.SAMPLE_RATE,
        "is silent": is_silent(wave),
        "is clipped": is_clipped(wave),
    }
    return [f"{name} {what}" for what, holds in found.items() if holds]


def length_s(path: Path) -> float:
    """Length of a recording [s], from its header.

    Raises:
        ValueError: shorter than `SHORTEST_S`.
    """
    info = audio.info(path)
    seconds = info.samples / info.rate
    if seconds < SHORTEST_S:
        raise ValueError(f"{path} is {seconds:.2f} s long; give at least {SHORTEST_S} s of speech")
    return seconds


def whole_s(path: Path) -> float:
    """`length_s` of a recording that is embedded whole.

    Raises:
        ValueError: also when longer than `LONGEST_S`.
    """
    seconds = length_s(path)
    _refuse_long(str(path), seconds)
    return seconds


def _refuse_long(name: str, seconds: float) -> None:
    if seconds > LONGEST_S:
        raise ValueError(
            f"{name} is {seconds:.0f} s long; at most {LONGEST_S:.0f} s are embedded whole; cut it"
        )
