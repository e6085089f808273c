"""A trained model in the hands of its user: embed, score, verify. Without torch where ONNX Runtime does it."""

from pathlib import Path
from typing import Protocol

import numpy as np

from oskdft import audio, onnxmodel, scoring
from oskdft.config import EvalConfig
from oskdft.console import say
from oskdft.files import ASSETS

SURE_S = 1.0  # below it `verify` warns (our choice): scores spread more than on whole utterances
SHORTEST_S = 0.5  # a shorter recording has too few frames to tell a voice
# A longer one is not embedded whole: in ONNX form memory grows with the square of the length (the
# shipped student added 1.4 GB for 120 s and 3.6 GB for 200 s). The longest of VoxCeleb1 has 145 s.
LONGEST_S = 150.0
NAMES = ("classroom",)  # students in assets/


class Model(Protocol):
    """What embeds: `model.SpeakerModel` or `onnxmodel.OnnxModel`."""

    device: object  # "cpu" when printed, or another

    def embed(self, waves: list[np.ndarray], without_adapters: bool = False) -> np.ndarray:
        """Embeddings [n, E] float32 of n utterances of any lengths."""


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
        if source.ndim != 1 or len(source) < SHORTEST_S * audio.SAMPLE_RATE:
            raise ValueError(
                f"wave has shape {source.shape}; give [N] samples at 16 kHz, at least {SHORTEST_S} s"
            )
        _refuse_long("wave", len(source) / audio.SAMPLE_RATE)
        if not np.isfinite(source).all():
            raise ValueError("wave has samples that are not finite; clean it first")
        return source.astype(np.float32, copy=False)


def _doubts(source: np.ndarray | str | Path, wave: np.ndarray) -> list[str]:
    if isinstance(source, np.ndarray):
        return doubts("wave", wave)
    return doubts(str(source), wave, audio.info(source).rate)


def doubts(name: str, wave: np.ndarray, rate: int = audio.SAMPLE_RATE) -> list[str]:
    """Why a score of a recording may mean less than its calibration says.

    Args:
        name: of the recording. wave: [N] at 16 kHz. rate: of the file that it comes from [Hz].

    >>> doubts("clip", np.zeros(8_000, np.float32))
    ['clip is 0.50 s long', 'clip is silent']
    """
    found = {
        f"has {rate} Hz, not {audio.SAMPLE_RATE}": rate != audio.SAMPLE_RATE,
        f"is {len(wave) / audio.SAMPLE_RATE:.2f} s long": len(wave) < SURE_S * audio.SAMPLE_RATE,
        "is silent": audio.is_silent(wave),
        "is clipped": audio.is_clipped(wave),
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
    if (folder / onnxmodel.FILE).is_file() and (
        alone or (quick and device in ("auto", "cpu") and onnxmodel.installed())
    ):
        model, cfg, described = onnxmodel.load_onnx(folder)
        return Verifier(model, cfg.eval, described)
    from oskdft.model import device_of, load_model  # heavy: torch and transformers
    from oskdft.teacher import fold_weight_norm

    model, cfg, described = load_model(folder)
    return Verifier(fold_weight_norm(model).to(device_of(device)), cfg.eval, described)
