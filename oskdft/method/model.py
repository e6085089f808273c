"""A speaker model: student and back-end, waveform in, embedding out."""

import numpy as np
import torch
from torch import Tensor, nn

from oskdft.config import Config
from oskdft.method.backends import build_backend
from oskdft.method.contract import check_backend
from oskdft.method.encoder import frame_mask
from oskdft.method.library import PretrainedConfig, PreTrainedModel
from oskdft.method.student import Student, from_teacher, student_config
from oskdft.utils.finite import require_embeddings
from oskdft.utils.named_code import is_named


class SpeakerModel(nn.Module):
    """Student and back-end: waveform in, embedding out.

    >>> from oskdft.config import load
    >>> from oskdft.method.encoder import architecture, build_encoder
    >>> model = new_model(load("smoke"), build_encoder(architecture("tiny-random-hubert"))).eval()
    >>> model(torch.zeros(2, 8000)).shape  # [B, N] -> [B, E]
    torch.Size([2, 32])
    """

    def __init__(self, student: Student, backend: nn.Module) -> None:
        super().__init__()
        self.student = student
        self.backend = backend

    def forward(
        self, wave: Tensor, lengths: Tensor | None = None, distilled_rows: int = 0
    ) -> Tensor:
        """Compute embeddings along the verification path.

        Args:
            wave: [B, N] samples at 16 kHz, in [-1, 1].
            lengths: [B] valid samples of zero-padded rows; None when no row is padded.
            distilled_rows: number of leading rows on the distillation path (`Student.forward`).
        Returns:
            [B, E], not normalised; compare with cosine.
        """
        states = self.student(wave, lengths, distilled_rows)
        return self.backend(states, frame_mask(self.config, lengths, wave.shape[1]))

    @torch.no_grad()
    def embed(self, waves: list[np.ndarray], without_adapters: bool = False) -> np.ndarray:
        """Embed n utterances of any lengths in one padded batch: -> [n, E] float32.

        Args:
            waves: n arrays [N] of samples at 16 kHz, in [-1, 1].
            without_adapters: along the distillation path.
        Raises:
            ValueError: embeddings that are not finite.
        """
        lengths = torch.tensor([len(wave) for wave in waves], device=self.device)
        batch = torch.zeros(len(waves), int(lengths.max()))
        for row, wave in zip(batch, waves, strict=True):
            row[: len(wave)] = torch.from_numpy(wave)
        distilled_rows = len(waves) if without_adapters else 0
        embeddings = self(batch.to(self.device), lengths, distilled_rows)
        return require_embeddings(embeddings.float().cpu().numpy())

    @property
    def config(self) -> PretrainedConfig:
        """The student's architecture."""
        return self.student.encoder.config

    @property
    def device(self) -> torch.device:
        """The device that holds the weights."""
        return next(self.parameters()).device


def new_model(cfg: Config, teacher: PreTrainedModel, from_scratch: bool = False) -> SpeakerModel:
    """Build student and back-end as ``cfg.model`` describes them.

    Args:
        teacher: whose layers the student starts from.
        from_scratch: random weights instead; of the teacher only the architecture is used.
    Raises:
        ValueError: more student layers than the teacher has, or a back-end that breaks its contract.

    >>> from oskdft.config import load
    >>> from oskdft.method.encoder import architecture, build_encoder
    >>> count(new_model(load("smoke"), build_encoder(architecture("tiny-random-hubert"))))
    24442
    """
    if from_scratch:
        config = student_config(teacher.config, cfg.model.student_layers)
        student = Student(config, cfg.model, cfg.switches)
    else:
        student = from_teacher(teacher, cfg.model, cfg.switches)
    layers, width = student.encoder.config.num_hidden_layers, student.encoder.config.hidden_size

    def build() -> nn.Module:
        return build_backend(width, layers, cfg.model, cfg.switches)

    if is_named(cfg.model.backend):
        check_backend(build, (layers, width, cfg.model.embedding), cfg.model.backend)
    return SpeakerModel(student, build())


def device_of(choice: str) -> torch.device:
    """Return the device that "auto", "cpu", "cuda" or "cuda:1" names.

    Raises:
        ValueError: another word, or a device that is not here; nothing is replaced by the CPU.

    >>> device_of("cpu")
    device(type='cpu')
    """
    if choice == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(choice)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ValueError(f"device is {choice!r}; choose auto, cpu or cuda")
    here = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= here:
        what = f"{here} of them" if here else "no GPU"
        raise ValueError(f"device is {choice!r}, but torch sees {what} here; choose auto or cpu")
    return device


def count(module: nn.Module) -> int:
    """Count the parameters of a module.

    >>> count(nn.Linear(2, 3))
    9
    """
    return sum(p.numel() for p in module.parameters())
