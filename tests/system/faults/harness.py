"""Kill training at random points, resume it, and compare it with a run that nobody touched.

    python -m tests.system.faults.harness [--faults 40] [--seed 0]

also runs the long version of `tests/system/test_rubbish.py`, and writes benchmarks/reliability.md.
`tests/system/test_faults.py` runs a short version. Processes are forked from a server that has loaded
everything, so that a random moment falls into the run and not into imports.
"""

import argparse
import datetime
import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from oskdft import config
from oskdft.storage import tensors
from oskdft.training import run_folder
from oskdft.utils import provenance

sys.path.insert(
    0, str(Path(__file__).parents[1])
)  # for the forked processes: `faults` is a package
from faults import inject

TABLE = Path(__file__).parents[3] / "benchmarks" / "reliability.md"
TIMING = {"utterances_per_s", "waiting_for_data"}
RUN = ["train.epochs=4", "train.steps_per_epoch=13", "device=cpu"]
VARIANTS = {  # what the runs that are struck look like; "early stop" ends before its last epoch
    "os-kdft": [],
    "os-kdft, 2 workers": ["data.workers=2"],
    "precomp": ["strategy=precomp"],
    "postcomp": ["strategy=postcomp"],
    "early stop": ["train.patience=1", "train.epochs=40"],
}
MOMENTS = 0.7  # signals come within this share of the time that the untouched run took
PATIENCE_S = 10.0  # a run that is asked to stop must have stopped by then
PER_RUN = 5  # faults in one run, then it may finish
TOLERANCE = 1e-5  # of weights and other numbers, with two processes


@dataclass
class Outcome:
    """What became of the faults of one kind."""

    injected: int = 0
    survived: int = 0
    slowest_stop_s: float = 0.0
    lost: list[str] = field(default_factory=list)


class Runs:
    """Runs of all variants in one folder, with an untouched reference of each."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.rng = folder, np.random.default_rng(seed)
        self.server = multiprocessing.get_context("forkserver")
        self.server.set_forkserver_preload(
            ["oskdft.training.train", "oskdft.commands.cli", "faults.inject"]
        )
        self.references: dict[str, Path] = {}
        self.seconds: dict[str, float] = {}  # that each reference took
        self.outcomes: dict[str, Outcome] = {}

    def words(self, variant: str, out: Path) -> list[str]:
        """Arguments of `oskdft` that start or resume a run."""
        resume = ["--resume"] if (out / "config.yaml").is_file() else []
        settings = [*RUN, *VARIANTS[variant]]
        return ["train", "--profile", "smoke", "--out", str(out), *resume, *settings]

    def reference(self, variant: str) -> Path:
        """The run folder of a run that nobody touches; workers must not matter, so they are left out."""
        name = variant.partition(",")[0]
        if name not in self.references:
            out = self.folder / f"reference {name}"
            began = time.monotonic()
            code = self.finish(self.start(name, out, "none"))
            self.seconds[name] = time.monotonic() - began
            assert code == 0, f"the reference ended with {code}: {self.log(out)}"
            self.references[name] = out
        return self.references[name]

    def start(self, variant: str, out: Path, kind: str) -> multiprocessing.Process:
        """A process that trains; a fault of its own is armed in it."""
        share, moment = self.rng.random(2)
        log = out.with_suffix(".log")
        arguments = (self.words(variant, out), str(log), kind, share, moment)
        process = self.server.Process(target=run_command, args=arguments)
        process.start()
        return process

    def finish(self, process: multiprocessing.Process, seconds: float = 120.0) -> int | None:
        """Exit code; None when it did not end in time (then it is killed)."""
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            return None
        return process.exitcode

    def log(self, out: Path) -> str:
        """The last line that a run said."""
        lines = out.with_suffix(".log").read_text().splitlines()
        return lines[-1] if lines else "nothing was said"

    def strike(self, variant: str, out: Path, kind: str) -> bool:
        """Let one fault happen to a run; True when the run was quicker and is finished."""
        before = place_of(out)
        process, number = self.start(variant, out, kind), inject.SIGNALS.get(kind)
        if kind == "SIGTERM on a slow disk":
            number = signal.SIGTERM
        if number is not None:
            seconds = self.seconds[variant.partition(",")[0]]
            process.join(MOMENTS * seconds * self.rng.random())
            sent = time.monotonic()
            if process.exitcode is None:
                os.kill(process.pid, number)
            code = self.finish(process, PATIENCE_S)
            stopped_s = time.monotonic() - sent
        else:
            code, stopped_s = self.finish(process), 0.0
        if code == 0:
            return True
        outcome = self.outcomes.setdefault(kind, Outcome())
        outcome.injected += 1
        outcome.slowest_stop_s = max(outcome.slowest_stop_s, stopped_s)
        not_begun = code == -signal.SIGTERM and not (out / "config.yaml").is_file()
        if code not in inject.ENDS[kind] and not not_begun:
            outcome.lost.append(f"{kind}: ended with {code}: {self.log(out)}")
        if place_of(out) < before:
            outcome.lost.append(f"{kind}: was at {before}, fell back to {place_of(out)}")
        if kind == "SIGKILL, then damage":
            self.damage(out)
        return False

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
        met, finished = [], False
        for kind in kinds:
            finished = self.strike(variant, out, kind)
            if finished:
                break
            met.append(kind)
        if not finished:
            code = self.finish(self.start(variant, out, "none"))
            finished = code == 0
        faults = differences(reference, out) if finished else [f"no end: {self.log(out)}"]
        for kind in met:
            self.outcomes[kind].survived += not faults
            self.outcomes[kind].lost += [f"{variant} after {', '.join(met)}: {f}" for f in faults]
        shutil.rmtree(out, ignore_errors=True)
        return met

    def campaign(self, kinds: list[str]) -> None:
        """All these faults, spread over runs of all variants; what a run escapes hits a later one."""
        left, variants = list(kinds), list(VARIANTS)
        while left:
            variants.append(variants.pop(0))
            for kind in self.suffer(variants[0], left[:PER_RUN]):
                left.remove(kind)
            left.append(left.pop(0)) if left else None  # a fault that comes late comes earlier then


def run_command(words: list[str], log: str, kind: str, share: float, moment: float) -> None:
    """In the forked process: arm the fault and be `oskdft`."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    torch.set_num_threads(1)
    inject.prepare(kind, share, moment)
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
    outcome = runs.outcomes.setdefault("SIGKILL of one of two processes", Outcome())
    for _ in range(kills):
        outcome.injected += launch(runs, out, runs.rng.random()) != 0
    code = launch(runs, out, None)
    faults = differences(reference, out, TOLERANCE) if code == 0 else [f"no end: {runs.log(out)}"]
    outcome.survived += 0 if faults else outcome.injected
    outcome.lost += [f"two processes: {fault}" for fault in faults]


def launch(runs: Runs, out: Path, moment: float | None) -> int:
    """Train with two processes; at a moment after the first checkpoint one of them is killed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += [
        "--master-addr",
        "127.0.0.1",
        "--master-port",
        str(port),
        "-m",
        "oskdft",
    ]
    # long enough to be hit, with a log that needs no rounding to be compared
    words = [*runs.words("os-kdft", out), "train.epochs=12"]
    with open(out.with_suffix(".log"), "a") as log:
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


def rubbish() -> tuple[bool, str]:
    """Run the long version of test_rubbish.py in its own process: success, and a line about it."""
    command = [sys.executable, "-m", "pytest", "-q", "--hypothesis-show-statistics"]
    began = time.monotonic()
    done = subprocess.run(
        [*command, Path(__file__).parents[1] / "test_rubbish.py"],
        env=os.environ | {"OSKDFT_LONG": "1"}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    seconds = time.monotonic() - began
    cases = sum(map(int, re.findall(r"- (\d+) passing examples", done.stdout)))
    peak = 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # no child before this one
    return not done.returncode, (
        f"Rubbish in files (`tests/system/test_rubbish.py`, long version): {cases:,} cases in {seconds:.0f} s, "
        f"{peak / 1e9:.1f} GB at most with all libraries, {datetime.date.today()}; pytest said: "
        f"{done.stdout.splitlines()[-1]}."
    )


def table(runs: Runs, seconds: float, about_rubbish: str) -> str:
    """The outcome as Markdown."""
    facts = provenance.facts()
    rows = [
        f"| {kind} | {o.injected} | {o.survived} | {len(o.lost)} | "
        f"{f'{o.slowest_stop_s:.1f}' if 'TERM' in kind or 'Ctrl' in kind else ''} |"
        for kind, o in sorted(runs.outcomes.items())
    ]
    injected, survived = (
        sum(getattr(o, name) for o in runs.outcomes.values()) for name in ("injected", "survived")
    )
    lost = [f"- {line}" for o in runs.outcomes.values() for line in o.lost] or ["Nothing was lost."]
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    steps = config.load("smoke").override({"train.epochs": 4, "train.steps_per_epoch": 13}).train
    return "\n".join(
        [
            "# Faults injected into training",
            "",
            "Written by `python -m tests.system.faults.harness`. Each fault strikes a run at a random",
            f"moment; the run is resumed, struck again (up to {PER_RUN} times), resumed and finished.",
            "It survived when the weights of `last/` and `best/`, `metrics.csv` without timings,",
            "validations and calibration are those of an untouched run: bit by bit with one process,",
            "within 1e-5 with two.",
            "A fault is counted only if it ended the process. Lost: wrong results, an earlier checkpoint",
            "gone, no end within 10 s of a signal, or another exit code than documented. Signals to one of",
            "two processes and to a pre-training have tests of their own, in",
            "`tests/system/test_distributed.py` and `tests/training/test_pretrain.py`.",
            "",
            "| fault | injected | survived | lost | slowest stop [s] |",
            "|---|---|---|---|---|",
            *rows,
            f"| all | {injected} | {survived} | {sum(len(o.lost) for o in runs.outcomes.values())} | |",
            "",
            *lost,
            "",
            about_rubbish,
            "",
            f"Model: profile smoke, {steps.epochs} epochs of {steps.steps_per_epoch} steps; runs: "
            f"{', '.join(VARIANTS)}.",
            f"Took {seconds:.0f} s on {facts['cores']} cores, {facts['device']}, {facts['date']}, "
            f"Python {facts['python']}, {versions}.",
            "",
        ]
    )


def main() -> None:
    """The long version."""
    parser = argparse.ArgumentParser(description="Inject faults into training; write the table.")
    parser.add_argument("--faults", type=int, default=40, help="with one process")
    parser.add_argument("--kills-of-two", type=int, default=2, help="with two processes")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    passed, about_rubbish = rubbish()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        runs = Runs(Path(folder), arguments.seed)
        kinds = list(inject.ENDS) * (arguments.faults // len(inject.ENDS) + 1)
        runs.campaign([str(k) for k in runs.rng.permutation(kinds[: arguments.faults])])
        two_processes(runs, arguments.kills_of_two)
        text = table(runs, time.monotonic() - began, about_rubbish)
    TABLE.write_text(text, encoding="utf-8")
    print(text)
    sys.exit(not passed or any(outcome.lost for outcome in runs.outcomes.values()))


if __name__ == "__main__":
    main()
