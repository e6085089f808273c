"""Trainings that are struck by faults, resumed, and compared with a run that nobody touched.

`tests/system/test_faults.py` strikes a few; `campaign.py` strikes many. Processes are forked from a server
that has loaded everything, so that a random moment falls into the run and not into imports.
"""

import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from oskdft.method import strategies
from oskdft.storage import tensors
from oskdft.training import run_folder

sys.path.insert(
    0, str(Path(__file__).parents[1])
)  # for the forked processes: `faults` is a package
from faults import inject

TIMING = {"utterances_per_s", "waiting_for_data"}
RUN = ["train.epochs=4", "train.steps_per_epoch=13", "device=cpu"]
VARIANTS = {  # what the runs that are struck look like; "early stop" ends before its last epoch
    "os-kdft": [],
    "os-kdft, 2 workers": ["data.workers=2"],
    "precomp": ["strategy=precomp"],
    "postcomp": ["strategy=postcomp"],
    "early stop": ["train.patience=1", "train.epochs=40"],
}
LONG = VARIANTS | {name: [f"strategy={name}"] for name in strategies.STRATEGIES}
MOMENTS_S = 2.0  # limits of memory and file size come within so many seconds
MOMENTS = 0.7  # signals come within this share of the time that the untouched run took
PATIENCE_S = 10.0  # a run that is asked to stop must have stopped by then
PER_RUN = 5  # faults in one run, then it may finish
TOLERANCE = 1e-5  # of weights and other numbers, with two processes


@dataclass
class Outcome:
    """What became of one fault.

    Attributes:
        what: the training or command that it struck. survived: whether the end was as if untouched.
        lost: what went wrong. stop_s: from a signal to the end of the process.
    """

    what: str
    fault: str
    survived: bool = False
    lost: list[str] = field(default_factory=list)
    stop_s: float = 0.0


class Server:
    """Starts `oskdft` in processes that have imported everything, and arms faults in them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.rng = folder, np.random.default_rng(seed)
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(
            ["oskdft.training.train", "oskdft.commands.cli", "faults.inject"]
        )
        self.seconds: dict[str, float] = {}  # that each reference took

    def start(
        self, words: list[str], out: Path, kind: str, seconds: float
    ) -> multiprocessing.Process:
        """A process that runs a command of about so many seconds; a fault of its own is armed in it."""
        share, moment = self.rng.random(2)
        log = out.with_name(out.name + ".log")
        arguments = (words, str(log), kind, share, moment, seconds)
        process = self.context.Process(target=run_command, args=arguments)
        process.start()
        return process

    def finish(self, process: multiprocessing.Process, seconds: float = 300.0) -> int | None:
        """Exit code; None when it did not end in time (then it is killed)."""
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            return None
        return process.exitcode

    def log(self, out: Path) -> str:
        """The last line that a command said."""
        lines = out.with_name(out.name + ".log").read_text().splitlines()
        return lines[-1] if lines else "nothing was said"

    def send(self, process: multiprocessing.Process, number: int, seconds: float) -> tuple:
        """Send a signal within so many seconds: exit code, and the time from the signal to the end."""
        process.join(seconds * self.rng.random())
        sent = time.monotonic()
        if process.exitcode is None:
            os.kill(process.pid, number)
        code = self.finish(process, PATIENCE_S)
        return code, time.monotonic() - sent


class Runs(Server):
    """Trainings of all variants in one folder, with an untouched reference of each."""

    def __init__(
        self, folder: Path, seed: int, note: Callable[[list[Outcome]], None] = lambda _: None
    ) -> None:
        super().__init__(folder, seed)
        self.references: dict[str, Path] = {}
        self.outcomes: list[Outcome] = []
        self.note = note  # told of each run that has ended

    def words(self, variant: str, out: Path) -> list[str]:
        """Arguments of `oskdft` that start or resume a run."""
        resume = ["--resume"] if (out / "config.yaml").is_file() else []
        settings = [*RUN, *LONG[variant]]
        return ["train", "--profile", "smoke", "--out", str(out), *resume, *settings]

    def reference(self, variant: str) -> Path:
        """The run folder of a run that nobody touches; workers must not matter, so they are left out."""
        name = variant.partition(",")[0]
        if name not in self.references:
            out = self.folder / f"reference {name}"
            began = time.monotonic()
            code = self.finish(self.train(name, out, "none"))
            self.seconds[name] = time.monotonic() - began
            assert code == 0, f"the reference ended with {code}: {self.log(out)}"
            self.references[name] = out
        return self.references[name]

    def train(self, variant: str, out: Path, kind: str) -> multiprocessing.Process:
        """A process that trains or resumes."""
        return self.start(self.words(variant, out), out, kind, MOMENTS_S)

    def strike(self, variant: str, out: Path, kind: str) -> Outcome | None:
        """Let one fault happen to a run; None when the run was quicker and is finished."""
        before, outcome = place_of(out), Outcome(variant, kind)
        process, number = self.train(variant, out, kind), inject.SIGNALS.get(kind)
        if number is not None:
            seconds = MOMENTS * self.seconds[variant.partition(",")[0]]
            code, outcome.stop_s = self.send(process, number, seconds)
        else:
            code = self.finish(process)
        if code == 0 and kind not in inject.HARMLESS:
            return None
        not_begun = code == -signal.SIGTERM and not (out / "config.yaml").is_file()
        if code not in inject.ENDS[kind] and not not_begun:
            outcome.lost.append(f"ended with {code}: {self.log(out)}")
        if place_of(out) < before:
            outcome.lost.append(f"was at {before}, fell back to {place_of(out)}")
        if kind == "SIGKILL, then damage":
            self.damage(out)
        return outcome

    def damage(self, out: Path) -> None:
        """Change one byte of the newest checkpoint, or cut its end off, or empty it."""
        states = sorted((out / "checkpoints").glob("state-*.safetensors"))
        if not states:
            return
        data = bytearray(states[-1].read_bytes())
        at = int(self.rng.integers(len(data)))
        how = self.rng.choice(["byte", "cut", "empty"])
        if how == "byte":
            data[at] ^= 0xFF
        states[-1].write_bytes(data if how == "byte" else data[:at] if how == "cut" else b"")

    def suffer(self, variant: str, kinds: list[str]) -> list[str]:
        """One run with faults, one after the other, then to its end; returns those that it met."""
        reference = self.reference(variant)
        out = self.folder / f"run {len(list(self.folder.glob('run *.log')))}"
        met: list[Outcome] = []
        for kind in kinds:
            outcome = self.strike(variant, out, kind)
            if outcome is None:
                break
            met.append(outcome)
        finished = len(met) < len(kinds) or self.finish(self.train(variant, out, "none")) == 0
        faults = differences(reference, out) if finished else [f"no end: {self.log(out)}"]
        history = ", ".join(outcome.fault for outcome in met)
        for outcome in met:
            outcome.survived = not faults
            outcome.lost += [f"after {history}: {fault}" for fault in faults]
        shutil.rmtree(out, ignore_errors=True)
        self.outcomes += met
        self.note(met)
        return [outcome.fault for outcome in met]

    def campaign(self, kinds: list[str], variants: Iterable[str] = VARIANTS) -> None:
        """All these faults, spread over runs of all variants; what a run escapes hits a later one."""
        left, variants = list(kinds), list(variants)
        while left:
            variants.append(variants.pop(0))
            for kind in self.suffer(variants[0], left[:PER_RUN]):
                left.remove(kind)
            left.append(left.pop(0)) if left else None  # a fault that comes late comes earlier then


def run_command(
    words: list[str], log: str, kind: str, share: float, moment: float, seconds: float
) -> None:
    """In the forked process: arm the fault and be `oskdft`."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    torch.set_num_threads(1)
    inject.prepare(kind, share, moment, seconds)
    from oskdft.commands.cli import main

    sys.argv = ["oskdft", *words]
    main()


def place_of(out: Path) -> tuple[int, int]:
    """(stage, step) of the newest state that can be read."""
    state = run_folder.last_state(out)
    return (state["stage"], state["step"]) if state else (0, 0)


def differences(reference: Path, out: Path, tolerance: float = 0.0) -> list[str]:
    """In what a run differs from another: weights, log, validations, calibration.

    Args:
        tolerance: of the numbers; 0: they must be the same bit by bit.
    """
    found = []
    for name in ("last", "best"):
        one, two = (tensors.load_tensors(f / name / "model.safetensors") for f in (reference, out))
        changed = [k for k in one if not torch.allclose(one[k], two[k], rtol=0, atol=tolerance)]
        found += [f"{name}/: {len(changed)} tensors differ, {changed[0]}"] if changed else []
        one, two = (json.loads((f / name / "model.json").read_text()) for f in (reference, out))
        one.pop("config"), two.pop("config")
        found += [] if alike(one, two, tolerance) else [f"{name}/model.json differs"]
    if not alike(log_of(reference), log_of(out), tolerance):
        found.append("metrics.csv differs")
    one, two = (json.loads((f / "report.json").read_text()) for f in (reference, out))
    found += ["validations differ"] if one["validations"] != two["validations"] else []
    return found


def alike(one: Any, two: Any, tolerance: float) -> bool:
    """Whether two trees are equal, but for fractions that differ by no more than the tolerance.

    It is taken relative too, as a log has six digits.

    >>> alike({"a": [9.0, "x"]}, {"a": [9.05, "x"]}, 0.01), alike({"a": [0.1]}, {"a": [0.2]}, 0.01)
    (True, False)
    """
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(alike(one[k], two[k], tolerance) for k in one)
    if isinstance(one, list) and isinstance(two, list):
        pairs = zip(one, two, strict=False)
        return len(one) == len(two) and all(alike(a, b, tolerance) for a, b in pairs)
    if isinstance(one, float) and isinstance(two, float):
        return np.allclose(one, two, rtol=tolerance, atol=tolerance, equal_nan=True)
    return one == two


def log_of(out: Path) -> list[dict[str, float]]:
    """Rows of metrics.csv without what a clock measured."""
    rows = run_folder.read_metrics(out / "metrics.csv")
    return [{k: v for k, v in row.items() if k not in TIMING} for row in rows]


def two_processes(runs: Runs, kills: int) -> None:
    """Kill one of two processes, resume with two, compare with two that nobody touched."""
    reference, out = runs.folder / "two reference", runs.folder / "two struck"
    assert launch(runs, reference, None) == 0, runs.log(reference)
    hits = sum(launch(runs, out, runs.rng.random()) != 0 for _ in range(kills))
    code = launch(runs, out, None)
    faults = differences(reference, out, TOLERANCE) if code == 0 else [f"no end: {runs.log(out)}"]
    kind = "SIGKILL of one of two processes"
    met = [Outcome("os-kdft, two processes", kind, not faults, list(faults)) for _ in range(hits)]
    runs.outcomes += met
    runs.note(met)


def launch(runs: Runs, out: Path, moment: float | None) -> int:
    """Train with two processes; at a moment after the first checkpoint one of them is killed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-addr", "127.0.0.1", "--master-port", str(port), "-m", "oskdft"]
    # long enough to be hit, with a log that needs no rounding to be compared
    words = [*runs.words("os-kdft", out), "train.epochs=12"]
    with open(out.with_name(out.name + ".log"), "a") as log:
        process = subprocess.Popen([*command, *words], stdout=log, stderr=log)
    states, before = out / "checkpoints", place_of(out)
    while moment is not None and process.poll() is None:
        if states.is_dir() and place_of(out) > before:
            time.sleep(moment)
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            if children:
                os.kill(int(children[int(runs.rng.integers(len(children)))]), signal.SIGKILL)
            break
        time.sleep(0.05)
    try:
        return process.wait(timeout=180)
    except subprocess.TimeoutExpired:
        process.kill()
        return -1
