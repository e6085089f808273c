"""Another sampling rate for a wave."""

import math

import numpy as np

LOWEST_RATE, HIGHEST_RATE = 4_000, 192_000  # [Hz] that can be resampled
MOST_WEIGHTS = 1 << 20  # of a resampling filter as torchaudio lays it out, one row per phase


def rate_fault(rate: int) -> str:
    """Why recordings at this rate [Hz] are refused; empty where they are not.

    >>> rate_fault(1_000_003), rate_fault(22_051)
    ('is at 1000003 Hz; resample it to 4000 to 192000 Hz', '')
    """
    if LOWEST_RATE <= rate <= HIGHEST_RATE:
        return ""
    return f"is at {rate} Hz; resample it to {LOWEST_RATE} to {HIGHEST_RATE} Hz"


def resample(wave: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Change the rate by band-limited sinc interpolation.

    torchaudio stores its filter once per phase: 16,001 to 16,000 Hz takes gigabytes. Between rates with
    so small a common divisor SciPy filters (Kaiser window, 20 zero crossings); tones up to 0.4 of the
    lower rate are kept within 0.5 % of full scale.

    Args:
        wave: [N] float32. rate: present rate [Hz]. new_rate: new rate [Hz].

    Returns:
        [ceil(N * new_rate / rate)] float32.
    Raises:
        ValueError: see `rate_fault`.

    >>> resample(np.zeros(800, np.float32), 8_000, 16_000).shape
    (1600,)
    >>> resample(np.zeros(16_001, np.float32), 16_001, 16_000).shape
    (16000,)
    """
    for each in (rate, new_rate):
        if fault := rate_fault(each):
            raise ValueError(f"the wave {fault}")
    shared = math.gcd(rate, new_rate)
    up, down = new_rate // shared, rate // shared
    if up * down > MOST_WEIGHTS:
        from scipy.signal import resample_poly  # heavy, and such rates are rarer still

        return resample_poly(wave, up, down)
    import torch  # heavy, and files at another rate are rare
    from torchaudio.functional import resample as sinc_resample

    return sinc_resample(torch.from_numpy(wave), rate, new_rate).numpy()
