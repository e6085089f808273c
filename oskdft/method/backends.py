"""Back-ends: from the student's hidden states to one embedding per utterance.

Release P: ECAPA-TDNN on the last hidden state. Release R: weighted sum of all states, mean and
deviation over time, linear layer. OS-KDFT2: an attention tuner (TFT) over the layers instead of
adapters. Every back-end takes [L+1, B, T, D] and an optional frame mask [B, T]. Padded frames are
zeroed before each convolution and left out of each mean, so padding never changes an embedding.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from oskdft.config import ModelConfig, Switches
from oskdft.method.student import add_noise
from oskdft.utils import named_code
from oskdft.utils.distributed import BatchNorm1d

VARIANCE_FLOOR = 1e-4  # released code: variances are clamped here before the square root


def build_backend(width: int, layers: int, model: ModelConfig, switches: Switches) -> nn.Module:
    """Build the back-end that ``model.backend`` names; a class outside the package gets the first three.

    Args:
        width, layers: D and L of the student.
        model: backend, backend_channels, embedding, adapter_noise.
        switches: backend_mask (surprise 5), layer_weights (surprise 9).

    >>> backend = build_backend(32, 2, ModelConfig(backend="linear", embedding=8), Switches())
    >>> backend(torch.randn(3, 4, 9, 32)).shape  # [L+1, B, T, D] -> [B, E]
    torch.Size([4, 8])
    """
    if named_code.is_named(model.backend):
        return named_code.load(model.backend, "model.backend")(width, layers, model)
    if model.backend == "ecapa":
        return EcapaTdnn(
            width, model.backend_channels, model.embedding, switches.backend_mask == "applied"
        )
    normalised = switches.layer_weights == "softmax"
    tuner = AttentionTuner(width, layers, model.adapter_noise) if model.backend == "tft" else None
    return WeightedSumLinear(width, layers, model.embedding, normalised, tuner)


def _attention(width: int, bottleneck: int, channels: int) -> nn.Sequential:
    """Logits of an attention over frames or layers: [B, width, T] -> [B, channels, T]."""
    return nn.Sequential(
        nn.Conv1d(width, bottleneck, 1),
        nn.ReLU(),
        BatchNorm1d(bottleneck),
        nn.Tanh(),
        nn.Conv1d(bottleneck, channels, 1),
    )


def _zero_padding(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else x * mask[:, None]


def _mean_std(x: Tensor, mask: Tensor | None, floor: float) -> tuple[Tensor, Tensor]:
    """Mean and unbiased deviation of [B, C, T] over the valid frames."""
    if mask is None:
        return x.mean(-1), x.var(-1).clamp(min=floor).sqrt()
    count = mask.sum(-1, keepdim=True)  # [B, 1]
    mean = _zero_padding(x, mask).sum(-1) / count
    centred = _zero_padding(x - mean[..., None], mask)
    return mean, (centred.square().sum(-1) / (count - 1)).clamp(min=floor).sqrt()


class WeightedSumLinear(nn.Module):
    """sum_l w_l h_l, mean and deviation over time, Linear, BatchNorm (release R).

    Args:
        width, layers, embedding: D, L, E.
        normalised: softmax over the weights. The released weights are raw and start uniform in
            [0, 1) (surprise 9).
        tuner: attention tuner in place of the weighted sum (OS-KDFT2).

    >>> net = WeightedSumLinear(8, 2, 4, normalised=True).eval()
    >>> net(torch.randn(3, 5, 10, 8)).shape  # [L+1, B, T, D] -> [B, E]
    torch.Size([5, 4])
    """

    def __init__(
        self,
        width: int,
        layers: int,
        embedding: int,
        normalised: bool,
        tuner: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.tuner = tuner
        self.normalised = normalised
        if tuner is None:
            self.weights = nn.Parameter(
                torch.zeros(layers + 1) if normalised else torch.rand(layers + 1)
            )
        self.linear = nn.Linear(2 * width, embedding)
        self.norm = BatchNorm1d(embedding)

    def forward(self, states: Tensor, mask: Tensor | None = None) -> Tensor:
        """[L+1, B, T, D] -> [B, E]."""
        if self.tuner is not None:
            summed = self.tuner(states)
        else:
            weights = self.weights.softmax(0) if self.normalised else self.weights
            summed = torch.einsum("l,lbtd->btd", weights, states)
        mean, std = _mean_std(summed.transpose(1, 2), mask, floor=0.0)
        return self.norm(self.linear(torch.cat([mean, std], 1)))


class AttentionTuner(nn.Module):
    """TFT of OS-KDFT2: tune each layer, weigh layers per channel and frame, gate frames.

        t_l = up(gelu(down(h_l)));   w_l = Conv(tanh(BN(relu(Conv(t_l)))))
        out = sum_l softmax_l(w)_l t_l * sigmoid(sum_l w_l)

    Bottlenecks D // 12 and D // 8; hidden state 0 is not used.

    >>> AttentionTuner(96, 2, (0.0, 0.0)).eval()(torch.randn(3, 1, 5, 96)).shape
    torch.Size([1, 5, 96])
    """

    def __init__(self, width: int, layers: int, noise: tuple[float, float]) -> None:
        super().__init__()
        tune, attention = max(width // 12, 1), max(width // 8, 1)
        self.noise = noise
        self.down = nn.ModuleList(nn.Linear(width, tune) for _ in range(layers))
        self.up = nn.ModuleList(nn.Linear(tune, width) for _ in range(layers))
        self.attention = nn.ModuleList(_attention(width, attention, width) for _ in range(layers))

    def forward(self, states: Tensor) -> Tensor:
        """[L+1, B, T, D] -> [B, T, D]."""
        tuned, logits = [], []
        for down, up, attention, hidden in zip(
            self.down, self.up, self.attention, states[1:], strict=True
        ):
            bottleneck = F.gelu(down(hidden))
            if self.training:
                bottleneck = add_noise(bottleneck, self.noise)
            tuned.append(up(bottleneck))
            logits.append(attention(tuned[-1].transpose(1, 2)).transpose(1, 2))
        weights = torch.stack(logits)  # [L, B, T, D]
        return (weights.softmax(0) * torch.stack(tuned)).sum(0) * weights.sum(0).sigmoid()


class EcapaTdnn(nn.Module):
    """ECAPA-TDNN on the last hidden state, with the constants of release P.

    InstanceNorm, conv 5, three SE-Res2 blocks (scale 8, kernel 3, dilations 2, 3, 4) whose inputs
    are running sums, conv to 1536, channel- and context-dependent attention, Linear, BatchNorm.

    Args:
        width, channels, embedding: D, C, E.
        mask_input: SpecAugment of the normalised input in training. The released code computes it
            and throws it away (surprise 5).

    >>> EcapaTdnn(32, 32, 192, False).eval()(torch.randn(1, 2, 25, 32)).shape  # -> [B, E]
    torch.Size([2, 192])
    """

    def __init__(self, width: int, channels: int, embedding: int, mask_input: bool) -> None:
        super().__init__()
        self.mask_input = mask_input
        self.conv1 = nn.Conv1d(width, channels, 5, padding=2)
        self.norm1 = BatchNorm1d(channels)
        self.blocks = nn.ModuleList(SeRes2Block(channels, dilation) for dilation in (2, 3, 4))
        self.conv2 = nn.Conv1d(3 * channels, 1536, 1)
        self.attention = _attention(3 * 1536, 256, 1536)
        self.norm2 = BatchNorm1d(2 * 1536)
        self.linear = nn.Linear(2 * 1536, embedding)
        self.norm3 = BatchNorm1d(embedding)

    def forward(self, states: Tensor, mask: Tensor | None = None) -> Tensor:
        """[L+1, B, T, D] -> [B, E]."""
        x = states[-1].transpose(1, 2)  # [B, D, T]
        mean, _ = _mean_std(x, mask, 0.0)
        centred = _zero_padding(x - mean[..., None], mask)
        count = x.shape[-1] if mask is None else mask.sum(-1)[:, None, None]
        x = centred / (centred.square().sum(-1, keepdim=True) / count + 1e-5).sqrt()  # InstanceNorm
        if self.training and self.mask_input:
            x = spec_augment(x)
        x0 = self.norm1(F.relu(self.conv1(_zero_padding(x, mask))))
        x1 = self.blocks[0](x0, mask)
        x2 = self.blocks[1](x0 + x1, mask)
        x3 = self.blocks[2](x0 + x1 + x2, mask)
        x = F.relu(self.conv2(torch.cat([x1, x2, x3], 1)))  # [B, 1536, T]
        return self.norm3(self.linear(self.norm2(self._pool(x, mask))))

    def _pool(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Attentive statistics: [B, 1536, T] -> [B, 3072]."""
        mean, std = _mean_std(x, mask, VARIANCE_FLOOR)
        context = torch.cat([x, mean[..., None].expand_as(x), std[..., None].expand_as(x)], 1)
        logits = self.attention(context)
        if mask is not None:
            logits = logits.masked_fill(~mask[:, None], float("-inf"))
        weights = logits.softmax(-1)
        mean = (x * weights).sum(-1)
        variance = (x.square() * weights).sum(-1) - mean.square()
        return torch.cat([mean, variance.clamp(min=VARIANCE_FLOOR).sqrt()], 1)


class SeRes2Block(nn.Module):
    """Res2 convolution in eight splits (the last passes through) and squeeze-excitation."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        split = channels // 8
        self.conv1, self.norm1 = nn.Conv1d(channels, channels, 1), BatchNorm1d(channels)
        self.convs = nn.ModuleList(
            nn.Conv1d(split, split, 3, dilation=dilation, padding=dilation) for _ in range(7)
        )
        self.norms = nn.ModuleList(BatchNorm1d(split) for _ in range(7))
        self.conv2, self.norm2 = nn.Conv1d(channels, channels, 1), BatchNorm1d(channels)
        self.squeeze = nn.Sequential(
            nn.Conv1d(channels, 128, 1), nn.ReLU(), nn.Conv1d(128, channels, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """[B, C, T] -> [B, C, T]."""
        *splits, last = self.norm1(F.relu(self.conv1(x))).chunk(8, 1)
        outs, previous = [], 0.0
        for conv, norm, split in zip(self.convs, self.norms, splits, strict=True):
            previous = norm(F.relu(conv(_zero_padding(split + previous, mask))))
            outs.append(previous)
        y = self.norm2(F.relu(self.conv2(torch.cat([*outs, last], 1))))
        mean, _ = _mean_std(y, mask, 0.0)
        return x + y * self.squeeze(mean[..., None])


def spec_augment(x: Tensor) -> Tensor:
    """Zero one random run of at most 5 frames and one of at most 10 channels per utterance [B, C, T].

    The widths are our choice: the released code discards the masked input (surprise 5).

    >>> spec_augment(torch.ones(2, 20, 30)).shape
    torch.Size([2, 20, 30])
    """
    for axis, most in ((2, 5), (1, 10)):
        size = x.shape[axis]
        width = torch.randint(0, min(most, size) + 1, (len(x), 1), device=x.device)
        start = (torch.rand(len(x), 1, device=x.device) * (size - width + 1)).long()
        position = torch.arange(size, device=x.device)[None]
        masked = (position >= start) & (position < start + width)  # [B, size]
        x = x.masked_fill(masked[:, None] if axis == 2 else masked[:, :, None], 0.0)
    return x
