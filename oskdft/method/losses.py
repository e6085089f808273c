"""Distillation (KD) and speaker-verification (SV) losses of both releases.

States are [L+1, B, T, D]; state 0 is the input of layer 1, so "layer 4" is index 4.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from oskdft.config import LossConfig, Switches
from oskdft.utils import named_code
from oskdft.utils.distributed import mean_over_processes


def kd_weight(loss: LossConfig, epoch: int, epochs: int) -> float:
    """Return the weight of the KD loss in an epoch (the first epoch is 1).

    Source: release P, 100 (1 - epoch / epochs); release R, constant.

    >>> kd_weight(LossConfig(), 1, 100), kd_weight(LossConfig(), 100, 100)
    (99.0, 0.0)
    """
    share = (epochs - epoch) / epochs if loss.kd_schedule == "linear" else 1.0
    return loss.kd_weight * share


def build_kd_loss(
    loss: LossConfig, switches: Switches, student_width: int, teacher_width: int
) -> nn.Module:
    """Build the KD loss that ``loss.kd`` names; a class outside the package gets the widths and ``loss``.

    Args:
        student_width, teacher_width: D of both.
    Raises:
        ValueError: different widths under a loss that compares states directly.

    >>> type(build_kd_loss(LossConfig(kd="mse"), Switches(), 32, 32)).__name__
    'LastStateMse'
    """
    if named_code.is_named(loss.kd):
        return named_code.load(loss.kd, "loss.kd")(student_width, teacher_width, loss)
    if loss.kd == "distilhubert":
        averaged = switches.cosine_term == "averaged"
        return DistilHubertLoss(
            student_width, teacher_width, loss.kd_layers, loss.kd_cosine, averaged
        )
    if student_width != teacher_width:
        raise ValueError(
            f"loss.kd={loss.kd} compares widths {student_width} and {teacher_width}; use distilhubert"
        )
    return LastStateMse() if loss.kd == "mse" else FitHubertLoss(loss.kd_layers, loss.kd_hint)


class LastStateMse(nn.Module):
    """MSE between the last states of student and teacher (release P).

    >>> LastStateMse()(torch.ones(2, 1, 3, 4), torch.zeros(5, 1, 3, 4))
    tensor([1.])
    """

    layers: tuple[int, ...] = (-1,)  # teacher states that the loss reads

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """[Ls+1, B, T, D], kept teacher states [K, B, T, D] -> one loss per layer, [1]."""
        return F.mse_loss(student[-1], teacher[-1])[None]

    def floor(self, frames: int) -> float:
        """Return the loss of a perfect student: 0."""
        return 0.0


class DistilHubertLoss(nn.Module):
    """L1 minus log-sigmoid cosine, one prediction head per teacher layer (release R).

        sum_layers [ mean_{T,D} |p - y| - lambda sum_T log sigmoid(cos(p, y)) ]

    Args:
        student_width, teacher_width: D of both.
        layers: teacher layers, counted from 1.
        cosine: lambda.
        averaged: mean over frames instead of the sum, which outweighs L1 about T times (surprise 8).

    >>> loss = DistilHubertLoss(4, 8, layers=(1, 2), cosine=1.0, averaged=True)
    >>> loss(torch.randn(2, 3, 5, 4), torch.randn(2, 3, 5, 8)).shape  # one loss per teacher layer
    torch.Size([2])
    """

    def __init__(
        self,
        student_width: int,
        teacher_width: int,
        layers: tuple[int, ...],
        cosine: float,
        averaged: bool,
    ) -> None:
        super().__init__()
        self.layers, self.cosine, self.averaged = tuple(layers), cosine, averaged
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Linear(student_width, student_width),
                nn.GELU(),
                nn.Linear(student_width, teacher_width),
            )
            for _ in self.layers
        )

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """[Ls+1, B, T, D], kept teacher states [K, B, T, D] -> one loss per layer, [K]."""
        losses = []
        for head, target in zip(self.heads, teacher, strict=True):
            guess = head(student[-1])
            cosine = -F.logsigmoid(F.cosine_similarity(guess, target, dim=-1))  # [B, T]
            cosine = cosine.mean() if self.averaged else cosine.sum(1).mean()
            losses.append((guess - target).abs().mean() + self.cosine * cosine)
        return torch.stack(losses)

    def floor(self, frames: int) -> float:
        """Return the loss of a perfect student per layer: cosine 1 costs log(1 + 1/e) per frame.

        Args:
            frames: T of a crop.

        >>> round(3 * DistilHubertLoss(4, 4, (4, 8, 12), 1.0, False).floor(149), 2)
        140.03
        """
        return self.cosine * math.log1p(math.exp(-1.0)) * (1 if self.averaged else frames)


class FitHubertLoss(nn.Module):
    """Layer-wise MSE: student state l against teacher layer ``layers[l]``, lower ones weighted by a hint.

    Args:
        layers: teacher layers, one for each student layer. hint: weight of all but the last.
    Source: release R, FitHubertKDLoss.

    >>> FitHubertLoss((4, 12), 0.1)(torch.ones(3, 1, 5, 4), torch.zeros(2, 1, 5, 4))
    tensor([0.1000, 1.0000])
    """

    def __init__(self, layers: tuple[int, ...], hint: float) -> None:
        super().__init__()
        self.layers, self.hint = tuple(layers), hint

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """[Ls+1, B, T, D], kept teacher states [Ls, B, T, D] -> one weighted loss per layer, [Ls]."""
        each = (student[1:] - teacher).square().mean((1, 2, 3))
        weights = torch.full_like(each, self.hint)
        weights[-1] = 1.0
        return weights * each

    def floor(self, frames: int) -> float:
        """Return the loss of a perfect student: 0."""
        return 0.0


def class_weights(counts: Tensor) -> Tensor:
    """[K] utterances per speaker -> [K] class weights total / count; 0 for a speaker without any.

    >>> class_weights(torch.tensor([1, 3, 0]))
    tensor([4.0000, 1.3333, 0.0000])
    """
    return torch.where(counts > 0, counts.sum() / counts.clamp(min=1), 0.0)


def weighted_cross_entropy(logits: Tensor, label: Tensor, weights: Tensor | None) -> Tensor:
    """Cross-entropy, averaged with class weights over the batch of all processes.

    Args:
        logits: [B, K]. label: [B]. weights: [K], or None for equal weights.

    >>> weighted_cross_entropy(torch.zeros(2, 3), torch.tensor([0, 2]), torch.tensor([1.0, 1.0, 5.0]))
    tensor(1.0986)
    """
    if weights is None:
        return F.cross_entropy(logits, label)
    weight = weights[label]
    each = F.cross_entropy(logits, label, reduction="none")
    return (weight * each).sum() / mean_over_processes(weight.sum())


def batch_share(weights: Tensor | None, part: Tensor, whole: Tensor) -> Tensor | float:
    """Share of a part of a batch in the SV loss of the batch: the class weights of its labels.

    Args:
        weights: [K], or None for equal weights. part, whole: labels of the part and of the batch.

    >>> batch_share(torch.tensor([1.0, 3.0]), torch.tensor([0]), torch.tensor([0, 1]))
    tensor(0.2500)
    """
    if weights is None or len(part) == len(whole):
        return len(part) / len(whole)
    return mean_over_processes(weights[part].sum()) / mean_over_processes(weights[whole].sum())


class AamSoftmax(nn.Module):
    """Additive angular margin softmax over K speakers.

        logits = s cos(theta_j), target s cos(theta + m)

    Args:
        embedding, speakers: E, K.
        loss: margin [rad], scale, aam_fallback, aam_topk, aam_topk_margin.
        weights: [K] class weights, or None.
    Raises:
        ValueError: loss.aam_topk is not below K.
    Source: release P (fallback cos - m sin(pi - m) where theta > pi - m) and release R (no fallback;
        the k hardest other classes get cos(theta - m_k); their target column competes as -2 cos).

    >>> loss, cosine = AamSoftmax(4, 3, LossConfig())(torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1]))
    >>> loss.shape, cosine.shape
    (torch.Size([]), torch.Size([5, 3]))
    """

    def __init__(
        self, embedding: int, speakers: int, loss: LossConfig, weights: Tensor | None = None
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(speakers, embedding))
        nn.init.xavier_normal_(self.weight)
        self.register_buffer("class_weight", weights, persistent=False)
        self.margin, self.scale, self.fallback = loss.margin, loss.scale, loss.aam_fallback
        self.topk, self.topk_margin = loss.aam_topk, loss.aam_topk_margin
        if self.topk >= speakers:
            raise ValueError(
                f"loss.aam_topk is {self.topk}, there are {speakers} speakers; choose fewer"
            )

    def forward(self, embedding: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """[B, E], [B] -> (loss, [B, K] cosines)."""
        cosine = F.linear(F.normalize(embedding), F.normalize(self.weight))  # [B, K]
        sine = (1.0 - cosine.square()).clamp(0, 1).sqrt()
        phi = cosine * math.cos(self.margin) - sine * math.sin(self.margin)
        if self.fallback:
            past = cosine - math.cos(math.pi - self.margin) <= 0
            phi = torch.where(past, cosine - math.sin(math.pi - self.margin) * self.margin, phi)
        target = F.one_hot(label, cosine.shape[1]).bool()
        logits = torch.where(target, phi, cosine)
        if self.topk:
            hardest = torch.where(target, -2 * cosine, cosine).topk(self.topk, 1).indices
            near = cosine * math.cos(self.topk_margin) + sine * math.sin(self.topk_margin)
            logits = logits.scatter_add(1, hardest, (near - cosine).gather(1, hardest))
        return weighted_cross_entropy(self.scale * logits, label, self.class_weight), cosine


class CrossEntropy(nn.Module):
    """Linear layer and softmax cross-entropy over K speakers (release R).

    Args:
        embedding, speakers: E, K. weights: [K] class weights, or None.

    >>> CrossEntropy(4, 3)(torch.randn(5, 4), torch.zeros(5, dtype=torch.long))[1].shape
    torch.Size([5, 3])
    """

    def __init__(self, embedding: int, speakers: int, weights: Tensor | None = None) -> None:
        super().__init__()
        self.linear = nn.Linear(embedding, speakers)
        self.register_buffer("class_weight", weights, persistent=False)

    def forward(self, embedding: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """[B, E], [B] -> (loss, [B, K] logits)."""
        logits = self.linear(embedding)
        return weighted_cross_entropy(logits, label, self.class_weight), logits


def build_sv_loss(loss: LossConfig, embedding: int, counts: Tensor) -> nn.Module:
    """Build the SV loss that ``loss.sv`` names; a class outside the package gets E, ``counts``, ``loss``.

    Args:
        embedding: E. counts: [K] training utterances of each speaker.

    >>> type(build_sv_loss(LossConfig(), 192, torch.tensor([20.0, 20.0]))).__name__
    'AamSoftmax'
    """
    if named_code.is_named(loss.sv):
        return named_code.load(loss.sv, "loss.sv")(embedding, counts, loss)
    weights = class_weights(counts) if loss.class_weights else None
    if loss.sv == "aam":
        return AamSoftmax(embedding, len(counts), loss, weights)
    return CrossEntropy(embedding, len(counts), weights)
