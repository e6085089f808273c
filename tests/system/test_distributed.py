"""Two processes: batch normalisation is that over the whole batch; a signal to one stops both alike."""

import contextlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from faults import harness

from oskdft import config
from oskdft.commands import cli
from oskdft.evaluation import embedding, verifier
from oskdft.speech import audio
from oskdft.storage import tensors
from oskdft.training import loop, validation
from oskdft.utils import distributed
from oskdft.utils.files import read_json

pytestmark = pytest.mark.slow

# One process of two: embeds its share and receives all; then one of the two cannot read, or is asked to stop.
SHARE = """
import signal, sys
from functools import partial
import numpy as np, torch
from torch import distributed as dist
from oskdft import config
from oskdft.evaluation import embedding
from oskdft.evaluation.verifier import load
from oskdft.utils.distributed import shared
from oskdft.utils.process import Interrupts

meeting, rank, out, *paths = sys.argv[1:]
dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=int(rank), world_size=2)
torch.set_num_threads(1)
model, seen, read = load("classroom").model, [], embedding.audio.read
recipe = config.EvalConfig(crops=2, crop_s=0.5, batch_s=4.0)


def unreadable(path, **_):
    raise OSError(f"{path} cannot be read")


def stopping(path, **_):
    signal.raise_signal(signal.SIGTERM)


with Interrupts() as interrupts:
    share = partial(shared, interrupts=interrupts)
    embedding.audio.read = lambda path, **chosen: seen.append(path) or read(path, **chosen)
    both = embedding.embed_files(model, paths, recipe, share=share)
    ends = []
    for fault in (unreadable, stopping):
        embedding.audio.read = fault if rank == "1" else read
        try:
            embedding.embed_files(model, paths, recipe, share=share)
        except (OSError, ValueError, SystemExit) as end:
            ends.append(f"{type(end).__name__} {end}")
np.savez(out, full=both.full, crops=both.crops, seen=seen, ends=ends)
dist.destroy_process_group()
"""

# One process of two: half of the batch; the sum of the losses of both is the loss of the whole.
PROCESS = """
import sys
import torch
from torch import distributed as dist
from oskdft.storage import tensors as checkpoint
from oskdft.utils.distributed import BatchNorm1d, mean_over_processes
from oskdft.method.teacher import standardised

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
states = 9 + torch.randn(8, 2, 5, 3)[4 * rank : 4 * rank + 4].transpose(0, 1)
made["targets.out"] = standardised(states).transpose(0, 1).contiguous()
checkpoint.save_tensors(out, made)
dist.destroy_process_group()
"""


def one_of_two(rank: int, port: int, strike: str, log: str, words: list[str]) -> None:
    """In a process of its own: be `oskdft` on one of two ranks, and signal oneself at a set moment."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    os.environ |= {"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
    step, measure = loop.StageLoop.step, validation.Best.measure

    def terminate():
        print("struck at", time.monotonic(), flush=True)
        signal.raise_signal(signal.SIGTERM)

    def struck(self, at, batch):
        if strike == "step" and rank == 1 and at == 16:
            terminate()
        step(self, at, batch)

    def validate(self, model):
        struck = strike == "validation" and self.log
        if struck and rank == 1:
            terminate()
        rates = measure(self, model)
        if struck:
            print("this validation was not stopped")
        return rates

    loop.StageLoop.step, validation.Best.measure = struck, validate
    sys.argv = ["oskdft", *words]
    cli.main()


def two(strike: str, out: Path, *words: str) -> tuple[list[int], str, float]:
    """Two processes that train together: exit codes, all that they said, seconds from strike to end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["oskdft.training.train", "oskdft.commands.cli"])
    log = out.with_suffix(f".{strike}.log")
    words = ["train", "--profile", "smoke", "--out", str(out), *words, "device=cpu"]
    started = [
        server.Process(target=one_of_two, args=(rank, port, strike, str(log), words))
        for rank in (0, 1)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(200)
        process.kill()  # no effect when it has ended
        process.join()
    said, ended = log.read_text(), time.monotonic()
    struck = re.search(r"struck at (\S+)", said)
    return [p.exitcode for p in started], said, ended - float(struck[1]) if struck else 0.0


def test_a_signal_to_one_process_stops_both_behind_the_same_step(tmp_path):
    """First in a step, then in a validation that both share; nothing is lost."""
    whole, out = tmp_path / "whole", tmp_path / "out"
    words = ["train.steps_per_epoch=13"]
    codes, said, _ = two("none", whole, *words)
    assert codes == [0, 0], said
    for strike, place in (("step", 17), ("validation", 26)):
        codes, said, stop_s = two(strike, out, *words)
        assert codes == [143, 143] and 0 < stop_s < harness.PATIENCE_S, said
        assert f"stopped after step {place}; go on with --resume" in said
        assert harness.place_of(out) == (0, place) and "was not stopped" not in said
        words = [*words[:1], "--resume"]
    codes, said, _ = two("none", out, *words)
    assert codes == [0, 0], said
    assert harness.differences(whole, out, harness.TOLERANCE) == []


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
    x = 9 + torch.randn(8, 2, 5, 3)  # [B, K, T, D]
    made["targets.out"] = (x - x.mean((0, 2), True)) / x.std((0, 2), correction=0, keepdim=True)
    return made


def in_two(script: str, folder: Path, *words: str) -> None:
    """Run a script in two processes that meet in a file; their arguments: it, rank, folder/rank, words."""
    command = [sys.executable, "-c", script, str(folder / "meeting")]
    started = [subprocess.Popen([*command, str(r), str(folder / str(r)), *words]) for r in (0, 1)]
    try:
        assert [process.wait(timeout=300) for process in started] == [0, 0]
    finally:
        for process in started:
            process.kill()


def test_two_processes_embed_what_one_embeds(tmp_path):
    """Bit by bit, each about half; an error in one or a signal to one ends both."""
    rng, paths = np.random.default_rng(0), []
    for number, seconds in enumerate((1.0, 0.6, 2.0, 1.1, 0.9, 2.1, 1.9)):
        paths.append(str(tmp_path / f"{number}.wav"))
        audio.write(paths[-1], rng.normal(0, 0.1, round(16_000 * seconds)))
    in_two(SHARE, tmp_path, *paths)
    recipe = config.EvalConfig(crops=2, crop_s=0.5, batch_s=4.0)
    with torch_threads(1):
        whole = embedding.embed_files(verifier.load("classroom").model, paths, recipe)
    halves = [np.load(tmp_path / f"{rank}.npz") for rank in (0, 1)]
    for half in halves:
        assert np.array_equal(half["full"], whole.full)
        assert np.array_equal(half["crops"], whole.crops)
    seen = [set(half["seen"].tolist()) for half in halves]
    assert seen[0] | seen[1] == set(paths) and not seen[0] & seen[1] and min(map(len, seen)) >= 2
    read, stopped = halves[0]["ends"].tolist()
    assert read.startswith("ValueError") and read.endswith("cannot be read")
    assert halves[1]["ends"].tolist()[0].startswith("OSError") and stopped == "SystemExit 143"
    assert halves[1]["ends"].tolist()[1] == stopped


@contextlib.contextmanager
def torch_threads(count: int):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


def test_two_processes_equal_the_whole_batch(tmp_path):
    """Outputs, gradients and running statistics (gloo, CPU); the processes meet in a file."""
    in_two(PROCESS, tmp_path)
    halves = [tensors.load_tensors(tmp_path / str(rank)) for rank in (0, 1)]
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


def test_torchrun_needs_no_gpu(tmp_path):
    """With device=auto the processes meet: one run folder, half of the batch each."""
    out = tmp_path / "run"
    steps = ["train.epochs=1", "train.steps_per_epoch=2"]
    done = launched(2, "train", "--profile", "smoke", "--out", out, *steps)
    assert done.returncode == 0, done.stderr[-2000:]
    assert read_json(out / "report.json")["config"]["device"] == "auto"


def launched(processes: int, *words: object) -> subprocess.CompletedProcess:
    """`oskdft` with one thread in each of so many processes; one: without torchrun."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return subprocess.run(
        [sys.executable, *(launch if processes > 1 else ()), "-m", "oskdft", *map(str, words)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip


def test_two_processes_evaluate_as_one(model_folder, recordings, tmp_path):
    """Scores with crops and cohort are equal bit for bit; the first process alone prints and writes."""
    for speaker in ("s0", "s1", "s2"):
        shutil.copytree(recordings / speaker, tmp_path / "cohort" / speaker)
    words = ["evaluate", "--model", model_folder, "--trials", recordings / "trials.txt"]
    words += ["--root", recordings, "--snorm", tmp_path / "cohort", "--json", "--scores"]
    one, two = (launched(count, *words, tmp_path / f"{count}.txt") for count in (1, 2))
    assert one.returncode == two.returncode == 0, two.stderr[-2000:]
    assert json.loads(two.stdout) == json.loads(one.stdout)
    assert (tmp_path / "2.txt").read_bytes() == (tmp_path / "1.txt").read_bytes()


def test_a_file_that_one_process_cannot_read_ends_both(model_folder, recordings, tmp_path):
    """Its header is sound, so that only the process that decodes it sees the fault."""
    long, cut = recordings / "s0/2.wav", tmp_path / "cut.flac"  # unlike lengths: a batch each
    audio.write(cut, np.random.default_rng(0).normal(0, 0.1, 16_000))
    cut.write_bytes(cut.read_bytes()[:20_000])
    done = launched(2, "embed", long, cut, "--model", model_folder, "--out", tmp_path / "e.npz")
    assert done.returncode == 1 and f"oskdft: {cut} " in done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("oskdft: ")]
    # torchrun may end the other process before that has noticed
    ends = (str(cut), "another process of this command", "stopped by SIGTERM")
    assert all(any(end in line for end in ends) for line in said), said
    assert not (tmp_path / "e.npz").exists()
