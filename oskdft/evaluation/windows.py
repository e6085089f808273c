"""What evaluation needs of a model, and the embedding of whole recordings of any length.

A recording longer than `quality.LONGEST_WHOLE_S` is cut into the fewest consecutive windows of equal
length (to a sample) of at most `WINDOW_S`. The direction of its embedding is the mean of the windows'
unit embeddings, each weighted by its length, which is the same for all. The length of its embedding is the
mean of their lengths.
"""

import math
from typing import Protocol

import numpy as np

from oskdft.config import SAMPLE_RATE
from oskdft.evaluation.scoring import normalise
from oskdft.speech import quality

WINDOW_S = 30.0  # [s] memory of an ONNX model grows with its square (our choice)


class Model(Protocol):
    """A model that embeds: `method.model.SpeakerModel` or `storage.onnx_model.OnnxModel`."""

    device: object  # printed as "cpu" or the name of a GPU

    def embed(self, waves: list[np.ndarray], without_adapters: bool = False) -> np.ndarray:
        """Embeddings [n, E] float32 of n utterances of any lengths."""


def silenced(waves: list[np.ndarray]) -> list[np.ndarray]:
    """The waves, with zeros in the place of one that is a constant offset and nothing else.

    A model divides by the deviation of its input, and would show how torch or ONNX Runtime rounds.

    >>> [wave.tolist() for wave in silenced([np.array([0.3, 0.3]), np.array([0.0, 0.5])])]
    [[0.0, 0.0], [0.0, 0.5]]
    """
    return [wave if np.ptp(wave) else np.zeros_like(wave) for wave in waves]


def embed_whole(model: Model, waves: list[np.ndarray]) -> np.ndarray:
    """Embeddings [n, E] float32 of n whole recordings; those that are not too long in one batch.

    A constant is embedded as silence, see `silenced`.

    Args:
        waves: n times [N] samples at 16 kHz.

    >>> from types import SimpleNamespace
    >>> model = SimpleNamespace(embed=lambda waves: np.array([[len(wave), 0.0] for wave in waves]))
    >>> embed_whole(model, [np.zeros(16_000), np.zeros(16_000 * 151)]).tolist()
    [[16000.0, 0.0], [402666.65625, 0.0]]
    """
    waves = silenced(waves)
    long = [len(wave) > quality.LONGEST_WHOLE_S * SAMPLE_RATE for wave in waves]
    if not any(long):
        return model.embed(waves)
    batch = [wave for wave, is_long in zip(waves, long, strict=True) if not is_long]
    short = iter(model.embed(batch) if batch else ())
    rows = [
        _mean_of_windows(model, wave) if is_long else next(short)
        for wave, is_long in zip(waves, long, strict=True)
    ]
    return np.stack(rows)


def _mean_of_windows(model: Model, wave: np.ndarray) -> np.ndarray:
    """Embedding [E] of a long recording, one window after the other."""
    count = math.ceil(len(wave) / round(WINDOW_S * SAMPLE_RATE))
    windows = silenced(np.array_split(wave, count))
    rows = np.concatenate([model.embed([window]) for window in windows])
    length = np.linalg.norm(rows, axis=1).mean()
    return (normalise(normalise(rows).mean(0)) * length).astype(np.float32)
