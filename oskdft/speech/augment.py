"""Augmentation of the student's crop: noise, rooms, clipping, easing; also speed and equaliser.

The functions take [B, N] float32 on CPU or GPU. `Augment` draws from (seed, epoch, index) alone and
computes row by row: a crop is the same in any batch and any process.
Source: policy, ranges and curves of release P; each departure is stated where it is made.
"""

import contextlib
import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torchaudio.functional as AF
from torch import Tensor
from torch.nn import functional as F

from oskdft.config import AugmentConfig
from oskdft.speech.noise import Clips, known_folder, noise_files, room_files
from oskdft.utils.console import say

MIXES = {  # name -> noise categories; all equally likely in an augmented crop (release P)
    "none": (),
    "room": (),
    "speech": ("speech",),
    "music": ("music",),
    "noise": ("noise",),
    "speech+music": ("speech", "music"),
}
BABBLE = (3, 8)  # clips averaged into one speech background (release P)
CLIP_RATIO = (0.5, 0.9)  # clipping level as a share of the crop's extremes (release P)
EASE_FLOOR = (0.1, 0.3)  # gain where the easing curve is 0 (release P)
CURVES = ("sine", "quad", "cubic", "circ", "expo", "bounce")
DRAW, WHITE = 1, 2  # first word of a seed: one random stream per purpose (dataset.py: 3 to 5)


def add_noise(wave: Tensor, noise: Tensor, snr_db: float | Tensor) -> Tensor:
    """Add noise at an exact ratio of mean powers.

    Departure: release P adds 1e-4 to both powers and misses the ratio for quiet recordings.

    Args:
        wave: [B, N] speech; a silent row stays silent.
        noise: [B, N]; a silent row adds nothing.
        snr_db: signal-to-noise ratio [dB], one or [B].
    Returns:
        [B, N].

    >>> add_noise(torch.ones(1, 4), torch.tensor([[5.0, -5.0, 5.0, -5.0]]), 20.0)
    tensor([[1.1000, 0.9000, 1.1000, 0.9000]])
    """
    ratio = 10.0 ** (torch.as_tensor(snr_db, dtype=torch.float32, device=wave.device) / 10)
    return wave + noise * _gain(_power(wave) / ratio.reshape(-1, 1), _power(noise))


def reverberate(wave: Tensor, rir: Tensor) -> Tensor:
    """Convolve with a room response; length, power and time of the direct sound stay the same.

    Departure: release P scales the response to unit energy and keeps its delay. Here the largest
    tap is time 0, so that the frames of student and teacher stay aligned.

    Args:
        wave: [B, N].
        rir: [B, M] or [1, M] room impulse responses.
    Returns:
        [B, N].

    >>> reverberate(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 0.5, 0.0]])).round(decimals=4)
    tensor([[1., 2.]])
    """
    samples, taps = wave.shape[-1], rir.shape[-1]
    # a multiple of 4,096 has small prime factors: its FFT takes a fifth of the time of 63,999 samples
    size = -(-(samples + taps - 1) // 4096) * 4096
    full = AF.fftconvolve(wave, F.pad(rir, (0, size + 1 - samples - taps)).expand(len(wave), -1))
    first = rir.abs().argmax(-1, keepdim=True)
    times = first + torch.arange(samples, device=wave.device)  # [B, N]
    wet = full.gather(-1, times.expand(len(wave), -1))
    return wet * _gain(_power(wave), _power(wet))


def clip(wave: Tensor, ratio: float | Tensor) -> Tensor:
    """Clip at a share of the wave's largest and smallest sample, like an overdriven input.

    Args:
        wave: [B, N]. ratio: share from 0 to 1, one or [B].
    Returns:
        [B, N].

    >>> clip(torch.tensor([[-1.0, 0.2, 2.0]]), 0.5)
    tensor([[-0.5000,  0.2000,  1.0000]])
    """
    ratio = torch.as_tensor(ratio, dtype=wave.dtype, device=wave.device).reshape(-1, 1)
    low, high = torch.aminmax(wave, dim=-1, keepdim=True)
    return torch.clamp(wave, low * ratio, high * ratio)


@functools.lru_cache(maxsize=32)  # powers of N samples are slow, and every crop has the same N
def easing_window(curve: str, samples: int, bounded: bool = False) -> Tensor:
    """Gains of a fade from 0 to 1 over the crop: one of six easing curves known from animation.

    The published "bounce" multiplies t by x where the usual curve squares t: it overshoots to
    1.75, jumps, and can push a crop out of [-1, 1]. The bounded "bounce" is the usual curve, in
    [0, 1]. The other five curves have one form.

    Args:
        curve: a name in `CURVES`.
        samples: N.
        bounded: False: the published "bounce"; True: the usual curve.
    Returns:
        [N] gains, shared by all callers: do not write into the tensor.
    Raises:
        ValueError: unknown curve.

    >>> easing_window("quad", 3)
    tensor([0.0000, 0.2500, 1.0000])
    """
    x = torch.linspace(0, 1, samples, dtype=torch.float64)
    if curve == "bounce":
        # arcs end at 1, 2, 2.5 and 2.75 (unit 1 / 2.75); each is t^2 around its middle plus a floor
        arc = torch.bucketize(x * 2.75, x.new_tensor([1.0, 2.0, 2.5]), right=True)
        t = x - x.new_tensor([0, 1.5, 2.25, 2.625])[arc] / 2.75
        window = 2.75**2 * t * (t if bounded else x) + x.new_tensor([0, 48, 60, 63])[arc] / 64
    elif curve in CURVES:
        window = {
            "sine": lambda: 1 - torch.cos(x * math.pi / 2),
            "quad": lambda: x**2,
            "cubic": lambda: x**3,
            "circ": lambda: 1 - torch.sqrt(1 - x**2),
            "expo": lambda: torch.where(x == 0, 0.0, 2 ** (10 * x - 10)),
        }[curve]()
    else:
        raise ValueError(f"easing curve {curve!r}; choose {', '.join(CURVES)}")
    return window.float()


def ease(wave: Tensor, window: Tensor, floor: float | Tensor) -> Tensor:
    """Multiply by gain = floor + (1 - floor) window.

    Args:
        wave: [B, N].
        window: [B, N] or [N], from `easing_window`; flipped for a fade-out.
        floor: gain where the window is 0, one or [B].
    Returns:
        [B, N].

    >>> ease(torch.ones(1, 3), torch.tensor([0.0, 0.5, 1.0]), 0.2)
    tensor([[0.2000, 0.6000, 1.0000]])
    """
    floor = torch.as_tensor(floor, dtype=wave.dtype, device=wave.device).reshape(-1, 1)
    return wave * (floor + (1 - floor) * window)


def change_speed(wave: Tensor, factor: float, samples: int) -> Tensor:
    """Play faster (factor > 1) or slower; the pitch changes with the speed.

    Args:
        wave: [B, M]; M = `samples` x factor is enough, a shorter wave is repeated.
        factor: playback speed, rounded to 1/100.
        samples: N, length of the result.
    Returns:
        [B, N].
    Raises:
        ValueError: factor outside 0.5 to 2.

    >>> change_speed(torch.ones(1, 1600), 1.25, 1000).shape
    torch.Size([1, 1000])
    """
    if not 0.5 <= factor <= 2:
        raise ValueError(f"speed factor {factor}; choose one from 0.5 to 2")
    step = math.gcd(round(factor * 100), 100)
    played = AF.resample(wave, round(factor * 100) // step, 100 // step)
    return played.repeat(1, -(-samples // played.shape[-1]))[:, :samples]


def equalise(wave: Tensor, gains_db: Tensor) -> Tensor:
    """Filter with a smooth gain curve through control points, without delay.

    Args:
        wave: [B, N].
        gains_db: [B, C] gains [dB] at C >= 2 points from 0 Hz to Nyquist, evenly spaced in
            log(1 + 10 f / Nyquist), thus denser at low frequencies; raised cosines between them.
    Returns:
        [B, N].

    >>> equalise(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.full((1, 3), 20.0)).round(decimals=3)
    tensor([[10., 20., 30., 40.]])
    """
    points = gains_db.shape[-1]
    spectrum = torch.fft.rfft(wave)  # [B, N] -> [B, F]
    shares = torch.linspace(0, 1, spectrum.shape[-1], device=wave.device)
    position = torch.log1p(10 * shares) / math.log(11) * (points - 1)  # [F], 0 to C - 1
    left = position.floor().clamp(max=points - 2).long()
    blend = 0.5 - 0.5 * torch.cos(math.pi * (position - left))
    curve_db = torch.lerp(gains_db[:, left], gains_db[:, left + 1], blend)  # [B, F]
    return torch.fft.irfft(spectrum * 10 ** (curve_db / 20), n=wave.shape[-1])


@dataclass(frozen=True, slots=True)
class Draw:
    """Augmentation of one crop, decided before any sample is computed."""

    kind: str  # a name in MIXES, or "clean": not augmented
    # each (category, SNR [dB], clips); a clip is (number of the file, part of the file from 0 to 1)
    noises: tuple[tuple[str, float, tuple[tuple[int, float], ...]], ...] = ()
    room: int = -1  # number of the impulse response; -1: none
    white_snr_db: float | None = None
    clip_ratio: float | None = None
    ease: tuple[str, bool, float] | None = None  # curve, fades out, floor


class Augment:
    """The augmentation policy of a run.

    A crop is augmented with `config.probability`. An augmented crop gets one of `MIXES`, all
    equally likely (a mix whose files are absent is left out), then white noise if `white_snr_db`
    is on, then clipping and easing, each with its own probability.

    Args:
        config: the policy; the defaults are those of release P.
        seed: of the run.
    Raises:
        FileNotFoundError: a folder is absent. ValueError: a folder holds no audio.

    >>> augment = Augment(AugmentConfig(probability=1.0, white_snr_db=(10.0, 30.0)), seed=0)
    >>> wave = torch.ones(2, 16000)
    >>> torch.equal(augment(wave, 1, [7, 8])[1], augment(wave[1:], 1, [8])[0])
    True
    """

    def __init__(self, config: AugmentConfig, seed: int) -> None:
        self.config = config
        self.seed = seed
        self.white = config.white_snr_db[0] != config.white_snr_db[1]
        noise_root = known_folder(config.noise_root, "augment.noise_root")
        rir_root = known_folder(config.rir_root, "augment.rir_root")
        self.clips = {
            category: Clips(noise_root, names)
            for category, names in noise_files(noise_root).items()
        }
        self.rooms = Clips(rir_root, room_files(rir_root))
        self.mixes = [kind for kind in MIXES if self._available(kind)]
        missing = [kind for kind in MIXES if kind not in self.mixes]
        # white noise without any folder is a policy of its own, in which no mix is missing
        if missing and config.probability and (self.clips or len(self.rooms) or not self.white):
            say(
                f"augmentation: no files for {', '.join(missing)}; drawing from {', '.join(self.mixes)}"
            )

    def _available(self, kind: str) -> bool:
        if kind == "room":
            return len(self.rooms) > 0
        return all(category in self.clips for category in MIXES[kind])

    def describe(self, epoch: int, index: int) -> Draw:
        """Draw the augmentation of the crop of utterance `index` in `epoch`."""
        rng = generator(DRAW, self.seed, epoch, index)
        cfg = self.config
        if rng.random() >= cfg.probability:
            return Draw("clean")
        kind = self.mixes[rng.integers(len(self.mixes))]
        noises = tuple(self._draw_noise(category, rng) for category in MIXES[kind])
        room = int(rng.integers(len(self.rooms))) if kind == "room" else -1
        white_snr_db = float(rng.uniform(*cfg.white_snr_db)) if self.white else None
        clip_ratio = float(rng.uniform(*CLIP_RATIO)) if rng.random() < cfg.clipping else None
        easing = None
        if rng.random() < cfg.easing:
            curve = CURVES[rng.integers(len(CURVES))]
            fades_out = bool(rng.random() < 0.5)
            easing = (curve, fades_out, float(rng.uniform(*EASE_FLOOR)))
        return Draw(kind, noises, room, white_snr_db, clip_ratio, easing)

    def _draw_noise(self, category: str, rng: np.random.Generator) -> tuple:
        """An entry of `Draw.noises`."""
        files = len(self.clips[category])
        voices = int(rng.integers(BABBLE[0], BABBLE[1] + 1)) if category == "speech" else 1
        numbers = rng.choice(files, size=min(voices, files), replace=False)
        clips = tuple((int(number), float(rng.random())) for number in numbers)
        snr_range = {
            "noise": self.config.noise_snr_db,
            "speech": self.config.speech_snr_db,
            "music": self.config.music_snr_db,
        }[category]
        return category, float(rng.uniform(*snr_range)), clips

    def __call__(self, wave: Tensor, epoch: int, indices: Sequence[int]) -> Tensor:
        """Augment crops.

        Args:
            wave: [B, N] float32, CPU or GPU; not changed in place.
            epoch: number of the pass over the data.
            indices: B utterance numbers.
        Returns:
            [B, N] on the same device; on one device a row is bit-equal in any batch.
        Raises:
            ValueError: wave is not [B, N], or not one index per row.
        """
        if wave.ndim != 2 or len(indices) != len(wave):
            shape = list(wave.shape)
            raise ValueError(f"wave is {shape} with {len(indices)} indices; give [B, N] and B")
        with one_thread():
            rows = [
                self._row(row[None], self.describe(epoch, int(index)), epoch, int(index))
                for row, index in zip(wave, indices, strict=True)
            ]
        return torch.cat(rows)

    def _row(self, wave: Tensor, draw: Draw, epoch: int, index: int) -> Tensor:
        """Apply a draw: [1, N] -> [1, N]."""
        samples = wave.shape[-1]
        if draw.room >= 0:
            wave = reverberate(wave, _row_like(wave, self.rooms.whole(draw.room)[:samples]))
        for category, snr_db, clips in draw.noises:
            crops = [self.clips[category].crop(number, part, samples) for number, part in clips]
            wave = add_noise(wave, _row_like(wave, np.mean(crops, axis=0)), snr_db)
        if draw.white_snr_db is not None:
            rng = generator(WHITE, self.seed, epoch, index)
            white = _row_like(wave, rng.standard_normal(samples, dtype=np.float32))
            wave = add_noise(wave, white, draw.white_snr_db)
        if draw.clip_ratio is not None:
            wave = clip(wave, draw.clip_ratio)
        if draw.ease is not None:
            curve, fades_out, floor = draw.ease
            window = easing_window(curve, samples, self.config.easing_curve == "bounded")
            wave = ease(wave, (window.flip(0) if fades_out else window).to(wave.device), floor)
        return wave


def generator(*words: int) -> np.random.Generator:
    """Random source of one purpose and one crop, as in generator(DRAW, seed, epoch, index)."""
    return np.random.default_rng(words)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread: with more, sums and FFTs of a long row differ in the last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _power(wave: Tensor) -> Tensor:
    """Mean power: [B, N] -> [B, 1]."""
    return wave.square().mean(-1, keepdim=True)


def _gain(target: Tensor, power: Tensor) -> Tensor:
    """Factor [B, 1] that changes the power to the target power; 0 for silence."""
    least = torch.finfo(power.dtype).tiny
    return torch.where(power > 0, (target / power.clamp(min=least)).sqrt(), 0.0)


def _row_like(wave: Tensor, samples: np.ndarray) -> Tensor:
    """[N] -> [1, N] on the device of the wave."""
    return torch.from_numpy(samples).to(wave.device)[None]
