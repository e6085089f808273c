"""Runs that are killed, starved and damaged end as if nothing had happened; long version: faults/."""

import errno
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest
from faults import harness

from oskdft import config
from oskdft.commands import reproduce
from oskdft.method.teacher import Teacher
from oskdft.speech.corpora import tables
from oskdft.storage.pretrained import load_encoder
from oskdft.training import run_folder, train, validation
from oskdft.utils import process

# tensorboard writes in a thread of its own, which ends with an error where the disk is gone
ignored = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
pytestmark = [pytest.mark.slow, ignored]
MEMORY = """
import resource, sys
import torch
from faults import inject
from oskdft.commands import cli
from oskdft.training.loop import StageLoop

step = StageLoop.step


def starved(self, at, batch):
    if at == 16:
        inject.limit(resource.RLIMIT_AS, inject.address_space())
        torch.ones(2**28)  # what a step with a larger batch would ask for
    step(self, at, batch)


StageLoop.step = starved
cli.main()
"""
# as Python does it from 3.14 on: workers come from a server, which outlives the training
SERVED = """
import multiprocessing
multiprocessing.set_start_method("forkserver")
from oskdft.commands import cli
cli.main()
"""
SHORT = [
    "SIGKILL", "SIGKILL inside a write", "SIGTERM", "SIGKILL, then damage", "disk full inside a write",
    "Ctrl-C",
]  # fmt: skip
LOCKING = """
import sys
from pathlib import Path
from oskdft.utils.lock import Lock
lock = Lock(Path(sys.argv[1]))
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return harness.Runs(tmp_path_factory.mktemp("faults"), seed=1)


@pytest.fixture
def smoke():
    """A run of 2 epochs with 13 steps; metrics.csv has a row per 10 steps and per epoch."""
    changes = {"train.steps_per_epoch": 13, "device": "cpu"}
    return config.load("smoke").override(changes)


@pytest.fixture(scope="module")
def whole(runs):
    """The same run, untouched."""
    changes = {"train.steps_per_epoch": 13, "device": "cpu"}
    out = runs.folder / "whole"
    train.train(config.load("smoke").override(changes), out)
    return out


def teacher_that(act, call: int) -> Teacher:
    """The teacher of profile smoke; ``act`` happens at its ``call``-th batch, inside a step."""
    teacher, calls = Teacher(load_encoder(config.load("smoke").model.teacher)), []

    def count(*_):
        calls.append(1)
        if len(calls) == call:
            act()

    teacher.register_forward_pre_hook(count)
    return teacher


def test_five_kills_and_a_full_disk_and_nothing_is_lost(runs):
    runs.campaign(SHORT)
    assert sorted(outcome.fault for outcome in runs.outcomes) == sorted(SHORT)
    assert [line for outcome in runs.outcomes for line in outcome.lost] == []
    assert all(outcome.survived for outcome in runs.outcomes)


@pytest.mark.parametrize(
    ("number", "stop"),
    [
        (signal.SIGTERM, SystemExit),
        (signal.SIGHUP, SystemExit),
        (signal.SIGINT, KeyboardInterrupt),
    ],
)
def test_a_signal_inside_a_step_saves_the_state_behind_it(
    smoke, whole, tmp_path, number, stop, request
):
    """In the middle of an epoch and of a row of metrics.csv; the resumed run is the untouched one."""
    if number == signal.SIGHUP:  # ignored where the tests run under nohup
        before = signal.signal(number, signal.SIG_DFL)
        request.addfinalizer(lambda: signal.signal(number, before))
    teacher = teacher_that(lambda: signal.raise_signal(number), 17)
    with pytest.raises(stop) as ended:
        train.train(smoke, tmp_path / "r", teacher=teacher)
    assert stop is KeyboardInterrupt or ended.value.code == 128 + number
    assert harness.place_of(tmp_path / "r") == (0, 17)
    train.train(smoke, tmp_path / "r", resume=True)
    assert harness.differences(whole, tmp_path / "r") == []
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_signal_inside_a_validation_does_not_wait_for_its_end(
    smoke, whole, tmp_path, monkeypatch
):
    measure, finished = validation.Best.measure, []

    def signalled(self, model):
        signal.raise_signal(signal.SIGTERM)
        finished.append(True)
        return measure(self, model)

    with monkeypatch.context() as patch:
        patch.setattr(validation.Best, "measure", signalled)
        with pytest.raises(SystemExit):
            train.train(smoke, tmp_path / "r")
    assert not finished and harness.place_of(tmp_path / "r") == (0, 13)
    train.train(smoke, tmp_path / "r", resume=True)
    assert harness.differences(whole, tmp_path / "r") == []


def test_a_run_that_stopped_early_stays_stopped(smoke, tmp_path):
    """Killed between its last state and its report, it must not train on."""
    cfg, out = smoke.override({"train.patience": 1, "train.epochs": 40}), tmp_path / "r"
    report = train.train(cfg, out)
    assert len(report["validations"]) < 40
    (out / "report.json").unlink()
    shutil.rmtree(out / "last")
    assert train.train(cfg, out, resume=True)["validations"] == report["validations"]
    assert (out / "last" / "model.json").is_file()


def test_one_changed_byte_is_noticed(whole, tmp_path, capsys):
    """A safetensors file with another number in it is valid; the checksum is not."""
    shutil.copytree(whole, tmp_path / "r")
    newest = sorted((tmp_path / "r/checkpoints").glob("*.safetensors"))[-1]
    data = bytearray(newest.read_bytes())
    data[-1] ^= 1
    newest.write_bytes(data)
    assert harness.place_of(tmp_path / "r") == (0, 13)
    assert "is damaged (its checksum" in capsys.readouterr().err


def test_data_workers_end_with_a_training_that_is_killed(smoke, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    changes = {"train.epochs": 3000, "data.workers": 2, "train.steps_per_epoch": 1}
    recipe.write_text(config.to_yaml(smoke.override(changes)))
    words = [sys.executable, "-c", SERVED, "train", "--profile", str(recipe)]
    run = subprocess.Popen([*words, "--out", str(tmp_path / "r")], stderr=subprocess.DEVNULL)
    until(lambda: (tmp_path / "r/metrics.csv").is_file())  # the workers have read something
    family = psutil.Process(run.pid).children(recursive=True)
    assert len(family) >= 2
    run.kill()
    run.wait()
    until(lambda: not any(alive(process) for process in family))


def until(holds):
    """Wait for it, at most a minute."""
    ends = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < ends, "waited a minute"
        time.sleep(0.1)


def alive(process):
    """Whether a process is there and no zombie."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_second_writer_is_refused_and_a_dead_one_is_not_waited_for(smoke, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "r")
    command = [sys.executable, "-c", LOCKING, str(tmp_path / "r")]
    first = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert first.stdout.readline() == "locked\n"
    refusal = rf"being written by process {first.pid} on .*wait for it"
    with pytest.raises(ValueError, match=refusal):
        train.train(smoke, tmp_path / "r", resume=True)
    first.kill()
    first.communicate()
    (tmp_path / "batch").mkdir()
    command[-1] = str(tmp_path / "batch")
    second = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert second.stdout.readline() == "locked\n"
    with pytest.raises(
        ValueError, match=rf"being written by process {second.pid} on .*wait for it"
    ):
        reproduce.reproduce("smoke", ["01"], str(tmp_path / "batch"), resume=True)
    second.kill()
    second.communicate()
    run_folder.Lock(tmp_path / "r").release()


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch, capsys):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "lockf", unsupported)
    run_folder.Lock(tmp_path).release()
    assert "cannot be locked (No locks available)" in capsys.readouterr().err


def test_room_is_asked_for_before_the_first_step(smoke, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000))
        with pytest.raises(OSError, match=r"0\.00 GB free, the run needs .*go on with --resume"):
            train.train(smoke, tmp_path / "r")
    assert not (tmp_path / "r/checkpoints").exists()


def test_a_folder_that_vanishes_stops_the_run_and_is_not_made_again(smoke, tmp_path):
    teacher = teacher_that(lambda: (tmp_path / "r").rename(tmp_path / "away"), 21)
    with pytest.raises(FileNotFoundError, match="has vanished .*bring the folder back"):
        train.train(smoke, tmp_path / "r", teacher=teacher)
    assert harness.place_of(tmp_path / "away") == (0, 13) and not (tmp_path / "r").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_refuses_leaves_the_state_before(smoke, tmp_path, monkeypatch, number):
    """Full, read-only, broken: from the second epoch on nothing can be written."""

    def refuse(_):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        teacher = teacher_that(lambda: patch.setattr(os, "fsync", refuse), 14)
        refusal = rf"{os.strerror(number)}; free some space or write elsewhere"
        with pytest.raises(OSError, match=refusal):
            train.train(smoke, tmp_path / "r", teacher=teacher)
    assert harness.place_of(tmp_path / "r") == (0, 13)
    assert not list((tmp_path / "r").rglob("*.part"))


def test_too_little_memory_is_said_and_the_run_can_be_resumed(smoke, whole, tmp_path):
    """The system itself refuses more memory in the second epoch."""
    words = ["train", "--profile", "smoke", "--out", str(tmp_path / "r"), "device=cpu"]
    words += ["train.steps_per_epoch=13", f"data.root={smoke.data.root}"]
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, *words], cwd=os.path.dirname(__file__),
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    line = "oskdft: out of memory; the last good state is in .*/r/checkpoints; go on with --resume"
    assert done.returncode == 1 and re.fullmatch(line, done.stderr.splitlines()[-1]), done.stderr
    train.train(smoke, tmp_path / "r", resume=True)
    assert harness.differences(whole, tmp_path / "r") == []


def test_sigterm_before_the_training_begins_has_the_same_exit_code():
    code = "import os, signal, sys\nfrom oskdft.commands import cli; from oskdft import config\n"
    code += "config.load = lambda _: os.kill(os.getpid(), signal.SIGTERM)\ncli.main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "train", "--out", "never"], capture_output=True, text=True
    )
    assert done.returncode == process.STOPPED == 143
    assert done.stderr == "oskdft: stopped by SIGTERM\n" and not os.path.exists("never")


def test_a_gradient_that_is_not_finite_stops_before_the_weights_are_spoilt(smoke, tmp_path):
    """The loss is finite, the squares of its gradient are not."""
    with pytest.raises(
        ValueError, match=r"the grad_body is inf at step 1 .*lower train\.lr"
    ) as error:
        train.train(smoke.override({"loss.kd_weight": 1e30}), tmp_path / "r")
    named = re.search(r", on (\S+), (\S+), (\S+) and 5 more", str(error.value))
    assert set(named.groups()) < set(tables.load_corpus("speechbox").names())


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "out of memory; go on"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out of memory; go on"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal"), "reads data was killed; go on"),
        (OSError("Caught OSError in worker 0.\n  File x\nOSError: a.wav is gone"), "^a.wav is gone; go on"),
    ],
    ids=str,
)  # fmt: skip
def test_errors_from_below_become_one_line(error, line):
    with pytest.raises(ValueError, match=line), process.explained("go on"):
        raise error


def test_errors_of_the_program_stay_what_they_are():
    with pytest.raises(RuntimeError, match="^shapes do not match$"), process.explained("go on"):
        raise RuntimeError("shapes do not match")
