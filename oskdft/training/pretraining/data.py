"""Unlabelled speech for pre-training, held in memory and cut into augmented crops."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from oskdft.config import HOP, SAMPLE_RATE
from oskdft.speech import audio, augment, cutting
from oskdft.training.pretraining.objectives import PretrainConfig
from oskdft.utils.console import progress


class Speech:
    """All training audio in memory as 16-bit samples; crops start on whole frames.

    Args:
        paths: files to read, in a fixed order.
    """

    def __init__(self, paths: list[Path]) -> None:
        self.waves = [to_int16(audio.read(path)) for path in progress(paths, "reading speech")]
        if not self.waves:
            raise ValueError("no speech to pre-train on; give at least one recording")

    def crop(self, index: int, samples: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        """Cut a random crop [samples] in [-1, 1]; return it with its first frame. Short clips are repeated."""
        wave = self.waves[index]
        start = int(rng.integers(max(len(wave) - samples, 0) // HOP + 1))
        part = wave[start * HOP : start * HOP + samples].astype(np.float32) / 32768
        return cutting.wrap(part, samples), start

    def seconds(self) -> float:
        """Return the total length [s]."""
        return sum(map(len, self.waves)) / SAMPLE_RATE


def to_int16(wave: np.ndarray) -> np.ndarray:
    """Convert samples [N] in [-1, 1] to 16-bit integers."""
    return np.clip(np.round(wave * 32768), -32768, 32767).astype(np.int16)


class CropPairs:
    """The batch of each step: two crops of each utterance, each with its own noise and equalisation.

    A batch depends on (seed, step) alone.
    """

    def __init__(self, recipe: PretrainConfig, speech: Speech, noises: list[np.ndarray]) -> None:
        self.recipe, self.speech, self.noises = recipe, speech, noises
        self.samples = int(recipe.crop_s * SAMPLE_RATE)

    def __call__(self, step: int) -> tuple[Tensor, np.ndarray, np.ndarray]:
        """Return augmented crops [2U, N], their utterances [2U] and first frames [2U].

        Rows u and U + u are crops of one utterance.
        """
        r = self.recipe
        rng = np.random.default_rng([r.seed, step])
        chosen = rng.choice(
            len(self.speech.waves), min(r.utterances, len(self.speech.waves)), replace=False
        )
        rows = np.concatenate([chosen, chosen])
        crops = [self.speech.crop(index, self.samples, rng) for index in rows]
        wave = torch.from_numpy(np.stack([c[0] for c in crops]))
        noise = torch.from_numpy(np.stack([self._noise(rng) for _ in rows]))
        snr = torch.from_numpy(rng.uniform(*r.snr_db, len(rows)).astype(np.float32))
        gains = torch.from_numpy(
            rng.uniform(-r.equaliser_db, r.equaliser_db, (len(rows), 8)).astype(np.float32)
        )
        wave = augment.equalise(augment.add_noise(wave, noise, snr), gains)
        return wave, rows, np.array([c[1] for c in crops])

    def _noise(self, rng: np.random.Generator) -> np.ndarray:
        if not self.noises or rng.random() < 0.3:
            return rng.standard_normal(self.samples, dtype=np.float32)
        noise = self.noises[rng.integers(len(self.noises))]
        start = int(rng.integers(max(len(noise) - self.samples, 0) + 1))
        return cutting.wrap(noise[start : start + self.samples], self.samples)
