"""Mel spectra of speech: the front end of everything in the package that needs no encoder.

Every function takes a waveform [N] at 16 kHz in [-1, 1]. Windows have 25 ms (periodic Hann), bands are
triangles on the HTK mel scale up to 8 kHz. Letters: T frames.
"""

import functools

import numpy as np

from oskdft.config import HOP, SAMPLE_RATE

WINDOW = 400  # samples, 25 ms
FFT = 512  # samples of the Fourier transform of a window in `mel_levels`
LOWEST = 20.0  # lower edge of the lowest band in `mel_levels` [Hz]
COEFFICIENTS = 13  # of `cepstra`


def mel_levels(
    wave: np.ndarray, bands: int, hop: int, centred: bool, range_db: float | None = None
) -> np.ndarray:
    """Levels of mel bands.

    Args:
        wave: [N], at least one window.
        bands: of equal width on the mel scale between 20 Hz and 8 kHz.
        hop: samples between frames.
        centred: True: the first window is centred at the first sample, and the wave is mirrored at its
            ends. False: windows lie inside the wave, as the frames of the encoders do.
        range_db: levels this far below the highest are raised to that limit [dB]; None: no limit.
    Returns:
        [bands, T] float32 dB, reference 1, at least -100.

    >>> mel_levels(np.zeros(8000), 40, 320, centred=False).shape
    (40, 24)
    """
    import torch
    from torchaudio.transforms import AmplitudeToDB

    if not centred:  # the transform centres a window in its FFT samples
        wave = np.pad(wave, (FFT - WINDOW) // 2)
    power = _mel_spectrogram(bands, hop, centred)(torch.from_numpy(wave).float())
    return AmplitudeToDB(top_db=range_db)(power).numpy()


def cepstra(wave: np.ndarray) -> np.ndarray:
    """Mel-frequency cepstral coefficients (MFCC) of 40 bands from 0 Hz on, windows inside the wave.

    Args:
        wave: [N], at least one window.
    Returns:
        [13, T] float32, orthonormal cosine transform of natural-log power; a frame each 20 ms.

    >>> cepstra(np.zeros(8000)).shape
    (13, 24)
    """
    import torch

    return _mfcc()(torch.from_numpy(wave).float()).numpy()


@functools.lru_cache(maxsize=16)
def _mel_spectrogram(bands: int, hop: int, centred: bool):
    from torchaudio.transforms import MelSpectrogram  # heavy

    return MelSpectrogram(SAMPLE_RATE, FFT, WINDOW, hop, f_min=LOWEST, n_mels=bands, center=centred)


@functools.cache
def _mfcc():
    from torchaudio.transforms import MFCC  # heavy

    spectrum = {"n_fft": WINDOW, "hop_length": HOP, "n_mels": 40, "center": False}
    return MFCC(SAMPLE_RATE, n_mfcc=COEFFICIENTS, log_mels=True, melkwargs=spectrum)
