"""A trained model in the hands of its user: embed, score, verify. Without torch where ONNX Runtime does it."""

from pathlib import Path

import numpy as np

from oskdft import config
from oskdft.config import EvalConfig
from oskdft.evaluation import scoring
from oskdft.evaluation.embedding import Model
from oskdft.speech import audio
from oskdft.speech.quality import SHORTEST_S, _refuse_long, doubts, whole_s
from oskdft.storage import onnx_model
from oskdft.utils.console import say
from oskdft.utils.files import ASSETS

NAMES = ("classroom",)  # students in assets/


class Verifier:
    """A trained speaker model in use; make one with `oskdft.load`."""

    def __init__(self, model: Model, recipe: EvalConfig, described: dict) -> None:
        self.model, self.recipe, self.described = model, recipe, described

    @property
    def threshold(self) -> float | None:
        """Score above which two recordings count as one speaker; set on development speakers."""
        return self.described.get("calibration", {}).get("full", {}).get("threshold")

    def embed(self, wave_or_path: np.ndarray | str | Path) -> np.ndarray:
        """Embedding [E] float32 of a recording: a file of any rate, or samples [N] at 16 kHz."""
        return self.model.embed([self._wave(wave_or_path)])[0]

    def score(self, a: np.ndarray | str | Path, b: np.ndarray | str | Path) -> float:
        """Cosine of two recordings in [-1, 1], whole utterances, higher is more alike."""
        pair = scoring.normalise(np.stack([self.embed(a), self.embed(b)]))
        return float(pair[0] @ pair[1])

    def verify(self, a: np.ndarray | str | Path, b: np.ndarray | str | Path) -> dict:
        """{"score": s, "threshold": t, "same": s >= t, "warnings": [...]}.

        Warnings, also said on stderr: recordings unlike those that the threshold was set on.

        Raises:
            ValueError: the model was saved without a threshold.
        """
        if self.threshold is None:
            raise ValueError("this model has no threshold; train it with development speakers")
        waves = [self._wave(source) for source in (a, b)]
        found = [line for pair in zip((a, b), waves, strict=True) for line in _doubts(*pair)]
        for line in found:
            say(f"warning: {line}; the threshold was not set on such speech")
        score = self.score(*waves)
        same = score >= self.threshold
        return {"score": score, "threshold": self.threshold, "same": same, "warnings": found}

    def _wave(self, source: np.ndarray | str | Path) -> np.ndarray:
        if not isinstance(source, np.ndarray):
            whole_s(Path(source))
            return audio.read(source)
        if source.dtype.kind != "f":
            raise ValueError(f"wave has type {source.dtype}; give float samples in [-1, 1]")
        if source.ndim != 1 or len(source) < SHORTEST_S * config.SAMPLE_RATE:
            raise ValueError(
                f"wave has shape {source.shape}; give [N] samples at 16 kHz, at least {SHORTEST_S} s"
            )
        _refuse_long("wave", len(source) / config.SAMPLE_RATE)
        if not np.isfinite(source).all():
            raise ValueError("wave has samples that are not finite; clean it first")
        return source.astype(np.float32, copy=False)


def _doubts(source: np.ndarray | str | Path, wave: np.ndarray) -> list[str]:
    if isinstance(source, np.ndarray):
        return doubts("wave", wave)
    return doubts(str(source), wave, audio.info(source).rate)


def load(name_or_dir: str | Path, device: str = "auto", quick: bool = False) -> Verifier:
    """A verifier from a run folder, an exported folder or the name of a shipped student.

    Args:
        name_or_dir: as `oskdft evaluate --model`. device: auto, cpu, cuda or cuda:N.
        quick: for a single answer: take the ONNX form where the folder holds it beside the weights
            and no GPU is asked for. Scores agree to 1e-4; importing torch costs seconds.
    Raises:
        ValueError: no such model, or files that do not fit.
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
