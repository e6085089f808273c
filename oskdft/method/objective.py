"""The objective of OS-KDFT: the distillation loss, the speaker loss, and their sum.

    L = w_KD sum_l L_KD(l)  +  L_SV  [ + L_embedding, PostComp ]

The distillation path feeds L_KD, the verification path L_SV (METHOD.md, section 1). Both losses update
the student's shared weights; adapters and back-end are updated by L_SV alone.
"""

from torch import Tensor, nn

from oskdft.method.losses import batch_share
from oskdft.method.model import SpeakerModel
from oskdft.method.strategies import Stage
from oskdft.method.teacher import Target


class Objective(nn.Module):
    """Everything that a stage trains, with its losses, as one module (so that DDP wraps it whole).

    The teacher is outside: it has no gradient and is not distributed.

    Args:
        model: student and back-end.
        sv: speaker loss, [B, E] and [B] -> (loss, [B, K] logits).
        kd: distillation loss, student and teacher states -> [K] losses, one per layer.
        stage: which losses are used, and on how many paths.
    """

    def __init__(self, model: SpeakerModel, sv: nn.Module, kd: nn.Module, stage: Stage) -> None:
        super().__init__()
        self.model = model
        self.stage = stage
        self.sv = sv if stage.sv else None
        self.kd = kd if stage.kd else None

    def forward(self, wave: Tensor, speaker: Tensor, target: Target | None) -> dict[str, Tensor]:
        """Run the paths of the stage and compute its losses.

        Args:
            wave: [B, N] the student's crops.
            speaker: [B] labels.
            target: what the teacher gives; None in a stage without distillation.
        Returns:
            the losses that the stage has: "kd" [K] per layer, "sv", "embedding"; and "accuracy", the
            share of crops whose speaker has the largest logit.

        >>> from oskdft.config import LossConfig, ModelConfig, Switches
        >>> from oskdft.method import backends, encoder, losses, strategies, student, teacher
        >>> import torch
        >>> hubert = encoder.build_encoder(encoder.architecture("tiny-random-hubert"))
        >>> settings = ModelConfig(student_layers=1, backend="linear", embedding=8)
        >>> net = student.from_teacher(hubert, settings, Switches())
        >>> model = SpeakerModel(net, backends.build_backend(32, 1, settings, Switches()))
        >>> sv, kd = losses.CrossEntropy(8, speakers=3), losses.LastStateMse()
        >>> objective = Objective(model, sv, kd, strategies.STRATEGIES["os-kdft"][0])
        >>> wave, speaker = torch.randn(4, 8000), torch.tensor([0, 1, 2, 0])
        >>> target = teacher.imitation_target(teacher.Teacher(hubert), wave, wave, kd.layers)
        >>> {name: tuple(loss.shape) for name, loss in objective(wave, speaker, target).items()}
        {'kd': (1,), 'sv': (), 'accuracy': ()}
        """
        student, losses = self.model.student, {}

        # The paths. One recording for both: the shared part is computed once.
        if self.kd is not None and target.wave is not None:
            imitated = student(
                target.wave, distilled_rows=len(target.wave), features=target.features
            )
            verified = student(wave) if self.stage.sv else imitated
        elif self.kd is not None and self.stage.adapters:
            imitated, verified = student.forward_two_paths(wave, target.features)
        else:
            features = None if target is None else target.features
            imitated = verified = student(wave, features=features)

        # The losses.
        if self.kd is not None:
            losses["kd"] = self.kd(imitated, target.states)
        if self.sv is not None or self.stage.embedding_kd:
            embedding = self.model.backend(verified)
        if self.sv is not None:
            losses["sv"], logits = self.sv(embedding, speaker)
            losses["accuracy"] = (logits.argmax(1) == speaker).float().mean()
        if self.stage.embedding_kd:
            losses["embedding"] = nn.functional.mse_loss(embedding, target.embedding)
        return losses

    def share_of_batch(
        self, losses: dict[str, Tensor], part: Tensor, whole: Tensor
    ) -> dict[str, Tensor]:
        """Scale the losses of a part of a batch, so that the parts add up to those of the batch.

        Args:
            losses: of the part, as `forward` returns them.
            part, whole: labels of the part and of the batch.
        """
        share = len(part) / len(whole)
        sv_share = batch_share(getattr(self.sv, "class_weight", None), part, whole)
        return {name: loss * (sv_share if name == "sv" else share) for name, loss in losses.items()}


def total_loss(losses: dict[str, Tensor], kd_weight: float) -> Tensor:
    """Sum the losses of a stage: w_KD sum_l L_KD(l) + L_SV + L_embedding.

    Args:
        losses: as `Objective.forward` returns them; absent losses add nothing.
        kd_weight: w_KD of the epoch, see `losses.kd_weight`.

    >>> import torch
    >>> total_loss({"kd": torch.tensor([1.0, 2.0]), "sv": torch.tensor(4.0)}, kd_weight=0.5)
    tensor(5.5000)
    """
    terms = []
    if "kd" in losses:
        terms.append(kd_weight * losses["kd"].sum())
    for name in ("sv", "embedding"):
        if name in losses:
            terms.append(losses[name])
    return sum(terms)
