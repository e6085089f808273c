"""What a stage trains: student, back-end and the heads of its losses, as one module."""

from torch import Tensor, nn

from oskdft.method.model import SpeakerModel
from oskdft.method.strategies import Stage


class Objective(nn.Module):
    """All that is trained in a stage, and its losses; one module, so that gradients are shared.

    Args:
        model: student and back-end. sv: speaker loss. kd: distillation loss.
        stage: which losses count, and on how many paths.
    """

    def __init__(self, model: SpeakerModel, sv: nn.Module, kd: nn.Module, stage: Stage) -> None:
        super().__init__()
        self.model, self.stage = model, stage
        self.sv = sv if stage.sv else None
        self.kd = kd if stage.kd else None

    def forward(
        self, heard: Tensor, label: Tensor, target: Tensor | None, wanted: Tensor | None,
        kd_wave: Tensor | None = None, features: Tensor | None = None,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Losses of a batch.

        Args:
            heard: [B, N] the student's crop. label: [B].
            target: [K, B, T, D] the teacher's states, or None without distillation.
            wanted: [B, E] the teacher's embedding, or None.
            kd_wave: [B, N] what the distillation path hears when it is another recording.
            features: [B, T, C] of what the distillation path hears, when a frozen CNN has run.
        Returns:
            "kd" [K] per layer, "sv", "accuracy", "embedding": those that the stage has.
        """
        student, out = self.model.student, {}
        if self.kd is not None and kd_wave is not None:
            imitated = student(kd_wave, without_adapters=len(kd_wave), features=features)
            states = student(heard) if self.stage.sv else imitated
        elif self.kd is not None and self.stage.adapters:
            imitated, states = student.forward_two_paths(heard, features)
        else:
            imitated = states = student(heard, features=features)
        if self.kd is not None:
            out["kd"] = self.kd(imitated, target)
        if self.sv is not None or wanted is not None:
            embedding = self.model.backend(states)
        if self.sv is not None:
            out["sv"], logits = self.sv(embedding, label)
            out["accuracy"] = (logits.argmax(1) == label).float().mean()
        if wanted is not None:
            out["embedding"] = nn.functional.mse_loss(embedding, wanted)
        return out
