"""Batch normalisation over processes is batch normalisation over the whole batch."""

import subprocess
import sys

import torch

from oskdft import checkpoint, distributed

# One process of two: half of the batch; the sum of the losses of both is the loss of the whole.
PROCESS = """
import sys
import torch
from torch import distributed as dist
from oskdft import checkpoint
from oskdft.distributed import BatchNorm1d, mean_over_processes

meeting, rank, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
torch.manual_seed(0)
made = {}
for name, shape in (("flat", (8, 3)), ("frames", (8, 3, 5))):
    whole, target = 2 + 3 * torch.randn(shape), torch.randn(shape)
    x = whole[4 * rank : 4 * rank + 4].requires_grad_()
    norm = BatchNorm1d(3)
    torch.nn.init.uniform_(norm.weight, 0.5, 2)
    y = norm(x)
    (y * target[4 * rank : 4 * rank + 4]).sum().backward()
    made |= {f"{name}.{k}": v for k, v in norm.state_dict().items()}
    made |= {f"{name}.out": y, f"{name}.x": x.grad}
    # the mean over processes, as training averages gradients; twice that is the sum
    made |= {f"{name}.grad_{k}": 2 * mean_over_processes(p.grad) for k, p in norm.named_parameters()}
checkpoint.save_tensors(out, made)
dist.destroy_process_group()
"""


def whole_batch() -> dict[str, torch.Tensor]:
    """What torch's own layer gives in one process for the batches of `PROCESS`."""
    torch.manual_seed(0)
    made = {}
    for name, shape in (("flat", (8, 3)), ("frames", (8, 3, 5))):
        x, target = (2 + 3 * torch.randn(shape)).requires_grad_(), torch.randn(shape)
        norm = torch.nn.BatchNorm1d(3)
        torch.nn.init.uniform_(norm.weight, 0.5, 2)
        y = norm(x)
        (y * target).sum().backward()
        made |= {f"{name}.{k}": v for k, v in norm.state_dict().items()}
        made |= {f"{name}.out": y.detach(), f"{name}.x": x.grad}
        made |= {f"{name}.grad_{k}": p.grad for k, p in norm.named_parameters()}
    return made


def test_two_processes_equal_the_whole_batch(tmp_path):
    """Outputs, gradients and running statistics (gloo, CPU); the processes meet in a file."""
    command = [sys.executable, "-c", PROCESS, str(tmp_path / "meeting")]
    started = [subprocess.Popen([*command, str(r), str(tmp_path / str(r))]) for r in (0, 1)]
    try:
        assert [process.wait(timeout=60) for process in started] == [0, 0]
    finally:
        for process in started:
            process.kill()
    halves = [checkpoint.load_tensors(tmp_path / str(rank)) for rank in (0, 1)]
    for name, want in whole_batch().items():
        by_row = name.endswith((".out", ".x"))
        both = [torch.cat([half[name] for half in halves])] if by_row else [h[name] for h in halves]
        for got in both:
            torch.testing.assert_close(got, want, atol=2e-5, rtol=1e-5, msg=name)


def test_one_process_is_torch_itself():
    own, theirs = distributed.BatchNorm1d(3), torch.nn.BatchNorm1d(3)
    x = torch.randn(6, 3, 4)
    assert torch.equal(own(x), theirs(x))
    assert torch.equal(own.running_var, theirs.running_var)
    assert torch.equal(own.eval()(x), theirs.eval()(x))
