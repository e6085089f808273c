"""A trained model in use: embed, score, verify. Without torch where the model is in ONNX form."""

from pathlib import Path

import numpy as np

from oskdft.config import EvalConfig
from oskdft.evaluation import scoring
from oskdft.evaluation.recording import Source, recording
from oskdft.evaluation.windows import Model, embed_whole
from oskdft.speech.quality import doubts
from oskdft.storage import onnx_model
from oskdft.storage.domain import Domain, load_domain
from oskdft.utils.console import say
from oskdft.utils.files import ASSETS

NAMES = ("classroom",)  # students in assets/


class Verifier:
    """A trained speaker model in use; `oskdft.load` makes one.

    Attributes:
        model: embeds waveforms. recipe: how the model was evaluated. described: the content of its
            model.json. domain: the speech of its calibration; None: not known.
    """

    def __init__(
        self, model: Model, recipe: EvalConfig, described: dict, domain: Domain | None = None
    ) -> None:
        self.model = model
        self.recipe = recipe
        self.described = described
        self.domain = domain

    @property
    def threshold(self) -> float | None:
        """Score from which on two recordings count as one speaker; None: the model has none.

        It is the score at the EER of the development speakers.
        """
        return self.described.get("calibration", {}).get("full", {}).get("threshold")

    @property
    def speech(self) -> str:
        """Name of the speech that the model was trained on."""
        return self.described.get("speech") or self.described["config"]["data"]["corpus"]

    def embed(self, source: Source, rate: int | None = None, channel: int = 0) -> np.ndarray:
        """Embedding [E] float32 of a whole recording; of a long one see `evaluation/windows.py`.

        Args:
            source: path of a file, a file object opened in binary mode, [N] float samples in [-1, 1],
                or a tensor of samples [N] or [1, N].
            rate: of samples [Hz]; None: 16,000. channel: of a file, see `audio.channel_fault`.
        Raises:
            FileNotFoundError: no such file.
            ValueError: not audio, too short, too long, or wrong samples; see `recording.recording`.

        >>> load("classroom", quick=True).embed(np.sin(np.arange(16_000.0))).shape
        (192,)
        """
        return embed_whole(self.model, [recording(source, rate, channel).wave])[0]

    def score(self, a: Source, b: Source, rate: int | None = None, channel: int = 0) -> float:
        """Cosine of two whole recordings in [-1, 1], higher means more alike.

        Args:
            a, b, rate, channel: as for `embed`.
        Raises:
            FileNotFoundError, ValueError: see `embed`.

        >>> wave = np.sin(np.arange(16_000.0))
        >>> round(load("classroom", quick=True).score(wave, -wave), 2) <= 1
        True
        """
        embeddings = [self.embed(source, rate, channel) for source in (a, b)]
        pair = scoring.normalise(np.stack(embeddings))
        return float(pair[0] @ pair[1])

    def probability(self, score: float, prior: float = 0.5) -> float:
        """Calibrated probability that a score comes from one speaker, in [0, 1].

        Args:
            score: cosine. prior: probability of one speaker before the recordings are heard.
        Raises:
            ValueError: the model was saved without a calibration.

        >>> verifier = load("classroom", quick=True)
        >>> verifier.probability(-1.0) < 0.01 < verifier.probability(0.9) <= 1
        True
        """
        fitted = self._fitted()
        llr = fitted["llr_scale"] * score + fitted["llr_offset"] + np.log(prior / (1 - prior))
        return float(1 / (1 + np.exp(-np.clip(llr, -500, 500))))

    def outside(self, name: str, embedding: np.ndarray) -> list[str]:
        """One line if an embedding [E] lies outside the domain of the calibration, else none.

        >>> verifier = load("classroom", quick=True)
        >>> verifier.domain = Domain(np.zeros(192), np.eye(192), limit=0.5)
        >>> verifier.outside("tone", np.ones(192))[0][-27:]
        '(distance 1.00, limit 0.50)'
        """
        if self.domain is None or self.domain.distance(embedding) <= self.domain.limit:
            return []
        return [
            f"{name} is unlike the speech that the model was calibrated on (distance "
            f"{self.domain.distance(embedding):.2f}, limit {self.domain.limit:.2f})"
        ]

    def verify(self, a: Source, b: Source, rate: int | None = None, channel: int = 0) -> dict:
        """Whether two recordings are of one speaker.

        Args:
            a, b, rate, channel: as for `embed`.
        Returns:
            {"score": s, "threshold": t, "same": s >= t, "probability": at even odds, None where a
            recording is unlike the speech of the calibration, "warnings": [...]}. A warning, also
            printed on stderr, names such a recording and the reason.
        Raises:
            ValueError: the model was saved without a threshold; see also `embed`.
        """
        fitted = self._fitted()
        recordings = [recording(source, rate, channel) for source in (a, b)]
        embeddings = [embed_whole(self.model, [one.wave])[0] for one in recordings]
        unlike = []
        for one, embedding in zip(recordings, embeddings, strict=True):
            unlike += doubts(one.name, one.wave, one.rate) + self.outside(one.name, embedding)
        for warning in unlike:
            say(f"warning: {warning}; the calibration was not checked on such speech")
        left, right = scoring.normalise(np.stack(embeddings))
        score = float(left @ right)
        return {
            "score": score,
            "threshold": fitted["threshold"],
            "same": score >= fitted["threshold"],
            "probability": None if unlike else self.probability(score),
            "warnings": unlike,
        }

    def _fitted(self) -> dict[str, float]:
        """Threshold and calibration of the scores of whole recordings."""
        if self.threshold is None:
            raise ValueError(
                "this model has no threshold; train it with development speakers, and to the end"
            )
        return self.described["calibration"]["full"]


def load(name_or_dir: str | Path, device: str = "auto", quick: bool = False) -> Verifier:
    """A verifier from a run folder, an exported folder or the name of a shipped student.

    Args:
        name_or_dir: as for `oskdft evaluate --model`.
        device: "auto", "cpu", "cuda" or "cuda:N".
        quick: for a single answer: take the ONNX form where the folder holds it beside the weights
            that it was made from, and no GPU is asked for. Scores agree to 1e-4; importing torch costs
            seconds.
    Raises:
        ValueError: no such model, files that do not fit each other, or no such device.
        ImportError: the folder holds an ONNX model only and ONNX Runtime is not installed.

    >>> round(load("classroom", quick=True).threshold, 1)
    0.6
    """
    folder = ASSETS / name_or_dir if str(name_or_dir) in NAMES else Path(name_or_dir)
    alone = not (folder / "model.safetensors").is_file()
    quick = quick and device in ("auto", "cpu") and onnx_model.installed()
    if (folder / onnx_model.FILE).is_file() and (
        alone or (quick and onnx_model.is_form_of_weights(folder))
    ):
        if device.startswith("cuda"):
            say(f"{folder} holds an ONNX model, which runs on the processor, not on {device}")
        elif device not in ("auto", "cpu"):
            raise ValueError(f"device is {device!r}; choose auto, cpu or cuda")
        model, cfg, described = onnx_model.load_onnx(folder)
        return Verifier(model, cfg.eval, described, load_domain(folder, described))
    from oskdft.method.encoder import fold_weight_norm
    from oskdft.method.model import device_of
    from oskdft.storage.model_folder import (  # heavy: torch, transformers
        load_model,
        model_folder,
        unfinished_run,
    )

    folder = model_folder(folder)
    if unfinished := unfinished_run(folder):
        say(f"warning: {unfinished}")
    model, cfg, described = load_model(folder)
    model = fold_weight_norm(model).to(device_of(device))
    return Verifier(model, cfg.eval, described, load_domain(folder, described))
