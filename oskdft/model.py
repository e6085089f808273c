"""A speaker model: encoder and back-end, as it is trained, saved, loaded and used."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from oskdft import checkpoint
from oskdft.backends import build_backend
from oskdft.config import Config, to_dict
from oskdft.described import read_described
from oskdft.files import inside, read_json, write_json
from oskdft.student import Student, from_teacher, student_config
from oskdft.teacher import foreign_config, frame_mask


class SpeakerModel(nn.Module):
    """Encoder and back-end: waveform in, embedding out.

    >>> from oskdft.config import load
    >>> from oskdft.teacher import load_encoder
    >>> model = new_model(load("smoke"), load_encoder("tiny-random-hubert")).eval()
    >>> model(torch.zeros(2, 8000)).shape  # [B, N] -> [B, E]
    torch.Size([2, 32])
    """

    def __init__(self, student: Student, backend: nn.Module) -> None:
        super().__init__()
        self.student = student
        self.backend = backend

    def forward(
        self, wave: Tensor, lengths: Tensor | None = None, without_adapters: int = 0
    ) -> Tensor:
        """Embeddings along the verification path.

        Args:
            wave: [B, N] samples at 16 kHz, in [-1, 1].
            lengths: [B] valid samples of zero-padded rows; None when nothing is padded.
            without_adapters: leading rows that take the distillation path (`Student.forward`).
        Returns:
            [B, E], not normalised; compare with cosine.
        """
        states = self.student(wave, lengths, without_adapters)
        return self.backend(states, frame_mask(self.config, lengths, wave.shape[1]))

    @torch.no_grad()
    def embed(self, waves: list[np.ndarray], without_adapters: bool = False) -> np.ndarray:
        """Embeddings [n, E] float32 of n utterances [N] of any lengths, in one padded batch.

        Args:
            waves: samples at 16 kHz, in [-1, 1]. without_adapters: along the distillation path.
        """
        lengths = torch.tensor([len(wave) for wave in waves], device=self.device)
        batch = torch.zeros(len(waves), int(lengths.max()))
        for row, wave in zip(batch, waves, strict=True):
            row[: len(wave)] = torch.from_numpy(wave)
        made = self(batch.to(self.device), lengths, len(waves) if without_adapters else 0)
        return made.float().cpu().numpy()

    @property
    def config(self) -> PretrainedConfig:
        """The encoder's architecture."""
        return self.student.encoder.config

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device


def new_model(cfg: Config, teacher: PreTrainedModel, from_scratch: bool = False) -> SpeakerModel:
    """A student with back-end as ``cfg`` describes it, started from ``teacher`` or at random."""
    if from_scratch:
        config = student_config(teacher.config, cfg.model.student_layers)
        student = Student(config, cfg.model, cfg.switches)
    else:
        student = from_teacher(teacher, cfg.model, cfg.switches)
    config = student.encoder.config
    backend = build_backend(config.hidden_size, config.num_hidden_layers, cfg.model, cfg.switches)
    return SpeakerModel(student, backend)


def save_model(
    folder: str | Path, model: SpeakerModel, cfg: Config, speakers: list[str], facts: dict
) -> None:
    """Write a loadable model folder: safetensors and JSON.

    Args:
        folder: gets model.safetensors, encoder.json and model.json (written last).
        speakers: [K] names behind the training labels, sorted.
        facts: what else a user should know: step, development EER, calibration.
    """
    folder = Path(folder)
    checkpoint.save_tensors(folder / "model.safetensors", model.state_dict())
    settings = model.config.to_dict() | {"_name_or_path": ""}  # a place on this machine
    write_json(folder / "encoder.json", settings)
    described = {"config": to_dict(cfg), "speakers": speakers} | facts
    write_json(folder / "model.json", described)


def annotate(folder: str | Path, facts: dict) -> None:
    """Add facts to the model.json of a saved model."""
    path = Path(folder) / "model.json"
    write_json(path, read_json(path) | facts)


def load_model(folder: str | Path) -> tuple[SpeakerModel, Config, dict]:
    """Read what `save_model` wrote, or a run folder (its `best/`).

    Returns:
        (model in evaluation mode, config, everything in model.json).
    Raises:
        ValueError: not a model folder, or files that do not fit each other.
    """
    folder = Path(folder)
    if not (folder / "model.json").is_file():
        folder = folder / "best"
    if not (folder / "model.json").is_file():
        raise ValueError(
            f"{folder.parent} is no model: neither a run folder with best/ nor a folder with "
            "model.json, encoder.json and model.safetensors"
        )
    cfg, described = read_described(folder)
    settings, weights = (inside(folder, name) for name in ("encoder.json", "model.safetensors"))
    config = foreign_config(read_json(settings), str(settings))

    def build() -> SpeakerModel:
        student = Student(config, cfg.model, cfg.switches)
        sizes = config.hidden_size, config.num_hidden_layers
        return SpeakerModel(student, build_backend(*sizes, cfg.model, cfg.switches))

    # what the file holds bounds what is allocated, whatever the settings say
    own = checkpoint.shapes_of(build, str(folder))
    checkpoint.refuse_misfit(own, checkpoint.shapes(weights), str(weights))
    model, tensors = build(), checkpoint.load_tensors(weights)
    if not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise ValueError(f"{weights} holds weights that are not finite; train or get it again")
    checkpoint.load_strictly(model, tensors, str(weights))
    return model.eval(), cfg, described


def device_of(choice: str) -> torch.device:
    """The device that "auto", "cpu", "cuda" or "cuda:1" stands for.

    Raises:
        ValueError: a CUDA device is asked for and there is none.

    >>> device_of("cpu")
    device(type='cpu')
    """
    if choice == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(choice)
    except RuntimeError:
        raise ValueError(f"device is {choice!r}; choose auto, cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device is {choice!r}, but torch sees no GPU here; choose auto or cpu")
    return device
