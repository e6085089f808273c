"""A trained model in use: embed, score, verify. Without torch where the model is in ONNX form."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from oskdft.config import EvalConfig
from oskdft.evaluation import scoring
from oskdft.speech import audio
from oskdft.speech.quality import doubts, require_file, require_wave
from oskdft.storage import onnx_model
from oskdft.utils.console import say
from oskdft.utils.files import ASSETS

if TYPE_CHECKING:  # the module behind it reads corpora, which one answer does not need
    from oskdft.evaluation.embedding import Model

NAMES = ("classroom",)  # students in assets/


class Verifier:
    """A trained speaker model in use; `oskdft.load` makes one.

    Attributes:
        model: embeds waveforms. recipe: how the model was evaluated. described: the content of its
            model.json.
    """

    def __init__(self, model: "Model", recipe: EvalConfig, described: dict) -> None:
        self.model = model
        self.recipe = recipe
        self.described = described

    @property
    def threshold(self) -> float | None:
        """Score from which on two recordings count as one speaker; None: the model has none.

        It is the score at the EER of the development speakers.
        """
        return self.described.get("calibration", {}).get("full", {}).get("threshold")

    def embed(self, wave_or_path: np.ndarray | str | Path) -> np.ndarray:
        """Embedding [E] float32 of a whole recording.

        Args:
            wave_or_path: a file of any rate, or [N] float samples at 16 kHz in [-1, 1].
        Raises:
            FileNotFoundError: no such file.
            ValueError: not audio, too short, too long, or samples that are not finite floats.

        >>> load("classroom", quick=True).embed(np.sin(np.arange(16_000.0))).shape
        (192,)
        """
        return self.model.embed([self._wave(wave_or_path)])[0]

    def score(self, a: np.ndarray | str | Path, b: np.ndarray | str | Path) -> float:
        """Cosine of two whole recordings in [-1, 1], higher means more alike.

        Args:
            a, b: as for `embed`.
        Raises:
            FileNotFoundError, ValueError: see `embed`.

        >>> wave = np.sin(np.arange(16_000.0))
        >>> round(load("classroom", quick=True).score(wave, -wave), 2) <= 1
        True
        """
        pair = scoring.normalise(np.stack([self.embed(a), self.embed(b)]))
        return float(pair[0] @ pair[1])

    def verify(self, a: np.ndarray | str | Path, b: np.ndarray | str | Path) -> dict:
        """Whether two recordings are of one speaker.

        Args:
            a, b: as for `embed`.
        Returns:
            {"score": s, "threshold": t, "same": s >= t, "warnings": [...]}. A warning, also printed on
            stderr, names a recording unlike those that the threshold was set on.
        Raises:
            ValueError: the model was saved without a threshold; see also `embed`.
        """
        if self.threshold is None:
            raise ValueError("this model has no threshold; train it with development speakers")
        waves = [self._wave(source) for source in (a, b)]
        warnings = [*_doubts(a, waves[0]), *_doubts(b, waves[1])]
        for warning in warnings:
            say(f"warning: {warning}; the threshold was not set on such speech")
        score = self.score(*waves)
        same = score >= self.threshold
        return {"score": score, "threshold": self.threshold, "same": same, "warnings": warnings}

    def _wave(self, source: np.ndarray | str | Path) -> np.ndarray:
        """Samples [N] float32 at 16 kHz of a recording that is fit for use."""
        if not isinstance(source, np.ndarray):
            require_file(Path(source))
            return audio.read(source)
        return require_wave(source)


def _doubts(source: np.ndarray | str | Path, wave: np.ndarray) -> list[str]:
    """`quality.doubts` of a recording, with the rate of its file."""
    if isinstance(source, np.ndarray):
        return doubts("wave", wave)
    return doubts(str(source), wave, audio.info(source).rate)


def load(name_or_dir: str | Path, device: str = "auto", quick: bool = False) -> Verifier:
    """A verifier from a run folder, an exported folder or the name of a shipped student.

    Args:
        name_or_dir: as for `oskdft evaluate --model`.
        device: "auto", "cpu", "cuda" or "cuda:N".
        quick: for a single answer: take the ONNX form where the folder holds it beside the weights
            and no GPU is asked for. Scores agree to 1e-4; importing torch costs seconds.
    Raises:
        ValueError: no such model, files that do not fit each other, or no such device.
        ImportError: the folder holds an ONNX model only and ONNX Runtime is not installed.

    >>> round(load("classroom", quick=True).threshold, 1)
    0.5
    """
    folder = ASSETS / name_or_dir if str(name_or_dir) in NAMES else Path(name_or_dir)
    alone = not (folder / "model.safetensors").is_file()
    if (folder / onnx_model.FILE).is_file() and (
        alone or (quick and device in ("auto", "cpu") and onnx_model.installed())
    ):
        model, cfg, described = onnx_model.load_onnx(folder)
        return Verifier(model, cfg.eval, described)
    from oskdft.method.encoder import fold_weight_norm
    from oskdft.method.model import device_of
    from oskdft.storage.model_folder import load_model  # heavy: torch and transformers

    model, cfg, described = load_model(folder)
    return Verifier(fold_weight_norm(model).to(device_of(device)), cfg.eval, described)
