"""Operations over several processes that Accelerate lacks; with one process they change nothing.

Gradients are averaged over processes. A mean over the global batch therefore needs its denominator
averaged, and batch normalisation needs global statistics (torch's SyncBatchNorm has no CPU back-end).
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.nn.functional import all_reduce

from oskdft.utils.process import Interrupts

T = TypeVar("T")
R = TypeVar("R")


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


def means_over_processes(figures: dict[str, float], device: torch.device) -> dict[str, float]:
    """Average figures of the same names over the processes; every process must call this.

    >>> means_over_processes({"loss": 2.0}, torch.device("cpu"))
    {'loss': 2.0}
    """
    values = torch.tensor(list(figures.values()), dtype=torch.float64, device=device)
    return dict(zip(figures, mean_over_processes(values).tolist(), strict=True))


def shared(items: Sequence[T], work: Callable[[Sequence[T]], R], interrupts: Interrupts) -> list[R]:
    """Share work among the processes; every process must call this, and receives the same.

    Process r works on items r, r + world, ... A signal to one process, or an error in one, ends the
    work of all: the processes go on alike or not at all.

    Args:
        items: the same in all processes.
        work: from some of the items to their result, not None.
        interrupts: of the run.
    Returns:
        the results of all processes, in their order.
    Raises:
        ValueError: the error of another process.
        SystemExit, KeyboardInterrupt: a signal to any process.

    >>> with Interrupts() as interrupts:
    ...     shared([1, 2], sum, interrupts)
    [3]
    """
    if world() == 1:
        return [work(items)]
    own, error = None, None
    with interrupts.held():  # no signal may come between the exchanges
        try:
            mine = items[dist.get_rank() :: world()]
            own = interrupts.unless_stopped(lambda: work(mine))
        except Exception as failure:  # whatever it is: the other processes wait for this one
            error = failure
        outcomes: list = [None] * world()
        dist.all_gather_object(outcomes, (own, str(error) if error else ""))
        if error:
            raise error
        if failed := next((text for _, text in outcomes if text), ""):
            raise ValueError(failed)
        if any(result is None for result, _ in outcomes):
            interrupts.stop()
    return [result for result, _ in outcomes]


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
