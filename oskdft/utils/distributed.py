"""Operations over several processes that Accelerate lacks; with one process they change nothing.

Gradients are averaged over processes. A mean over the global batch therefore needs its denominator
averaged, and batch normalisation needs global statistics (torch's SyncBatchNorm has no CPU back-end).
"""

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.nn.functional import all_reduce


def world() -> int:
    """Number of processes.

    >>> world()
    1
    """
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def mean_over_processes(value: Tensor) -> Tensor:
    """Average of a tensor over the processes, without gradient.

    >>> mean_over_processes(torch.tensor(2.0))
    tensor(2.)
    """
    if world() == 1:
        return value
    value = value.detach().clone()
    dist.all_reduce(value)
    return value / world()


def any_process(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set in at least one process; every process must call this.

    >>> any_process(True, torch.device("cpu")), any_process(False, torch.device("cpu"))
    (True, False)
    """
    return bool(mean_over_processes(torch.tensor(float(flag), device=device)) > 0)


class BatchNorm1d(nn.BatchNorm1d):
    """Batch normalisation over the batches of all processes ([B, C] or [B, C, T])."""

    def forward(self, x: Tensor) -> Tensor:
        """As torch.nn.BatchNorm1d, with mean and variance over the global batch in training."""
        if not self.training or world() == 1:
            return super().forward(x)
        axes = [0] if x.dim() == 2 else [0, 2]
        shape = (1, -1) if x.dim() == 2 else (1, -1, 1)
        count = torch.tensor(float(x.numel() // x.shape[1]), device=x.device)
        sums = torch.cat([x.float().sum(axes), x.float().square().sum(axes), count[None]])
        sums = all_reduce(sums)
        total, channels = sums[-1], x.shape[1]
        mean = sums[:channels] / total
        variance = sums[channels:-1] / total - mean.square()
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * total / (total - 1), self.momentum)
            self.num_batches_tracked += 1
        x = (x - mean.view(shape)) / (variance.view(shape) + self.eps).sqrt()
        return x * self.weight.view(shape) + self.bias.view(shape)
