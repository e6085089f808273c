"""Pieces of a wave: repeat a short one, draw a crop, cut evenly spaced segments."""

import numpy as np

from oskdft.config import SAMPLE_RATE


def wrap(wave: np.ndarray, samples: int) -> np.ndarray:
    """Repeat a clip shorter than ``samples`` up to that length; return a longer clip unchanged.

    >>> wrap(np.array([1, 2, 3]), 7).tolist()
    [1, 2, 3, 1, 2, 3, 1]
    """
    if len(wave) == 0:
        raise ValueError("wave is empty; nothing to repeat, drop the file from the list")
    return wave if len(wave) >= samples else np.resize(wave, samples)


def crop_start(
    total: int, samples: int, rng: np.random.Generator, whole_second: bool = False
) -> int:
    """Draw the first sample of a crop; 0 where the clip is not longer than the crop.

    Args:
        total: samples of the clip. samples: samples of the crop.
        rng: random source.
        whole_second: draw among whole seconds, as release P does; the end of a clip, up to 1 s,
            is then in no crop.

    Source: METHOD.md, list of differences, number 7 (published: whole second).

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


def segments(wave: np.ndarray, samples: int, count: int) -> np.ndarray:
    """Cut ``count`` evenly spaced, overlapping segments; a short clip is repeated first.

    Args:
        wave: [N]. samples: length of a segment. count: number of segments.

    Returns:
        [count, samples]; the first starts with the clip, the last ends with it.

    >>> segments(np.arange(8), samples=4, count=3).tolist()
    [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7]]
    """
    wave = wrap(wave, samples)
    starts = np.linspace(0, len(wave) - samples, count).astype(int)
    return np.stack([wave[start : start + samples] for start in starts])
