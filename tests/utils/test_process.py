"""Signals: which end the work, and what a second one does."""

import multiprocessing
import signal
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor

import pytest

from oskdft.utils import process
from oskdft.utils.process import Interrupts


def end_of(*numbers: int) -> tuple[str, object]:
    """How work ends, and whether its state is saved, when the signals arrive one after the other."""
    saved = ""
    with Interrupts() as interrupts:
        try:
            signal.raise_signal(numbers[0])
        except (KeyboardInterrupt, SystemExit) as end:
            try:
                for number in numbers[1:]:
                    signal.raise_signal(number)
                with interrupts.held():
                    saved = "saved"
            except KeyboardInterrupt:
                pass
            return saved, end.code if isinstance(end, SystemExit) else "Ctrl-C"
    raise AssertionError("the signal did nothing")


@pytest.fixture(autouse=True)
def hang_up_as_usual():
    """A test run under nohup ignores SIGHUP, and so would the tests' own processes."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((signal.SIGTERM,), ("saved", 143)),
        ((signal.SIGHUP,), ("saved", 129)),
        ((signal.SIGINT,), ("saved", "Ctrl-C")),
        ((signal.SIGINT, signal.SIGINT), ("saved", "Ctrl-C")),
        ((signal.SIGHUP, signal.SIGTERM), ("saved", 129)),
        ((signal.SIGINT, signal.SIGINT, signal.SIGINT), ("", "Ctrl-C")),
    ],
    ids=str,
)
def test_signals_end_the_work_and_the_second_spoils_nothing(numbers, expected):
    assert end_of(*numbers) == expected


def test_a_signal_inside_a_validation_is_passed_on_as_it_was():
    for number, code in ((signal.SIGHUP, 129), (signal.SIGTERM, 143)):
        with Interrupts() as interrupts:
            assert interrupts.unless_stopped(lambda n=number: signal.raise_signal(n)) is None
            assert interrupts.waiting == number
            with pytest.raises(SystemExit) as end:
                interrupts.stop()
            assert end.value.code == code


def test_nohup_stays_in_force():
    code = "import os, signal\nfrom oskdft.utils.process import Interrupts\n"
    code += "with Interrupts():\n    os.kill(os.getpid(), signal.SIGHUP)\n    print('goes on')"
    command = ["nohup", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout.strip()) == (0, "goes on")


def reads_in_another_thread(as_data_worker: bool) -> bool:
    if as_data_worker:
        process.begin_data_worker(0)
    return process.undisturbed(lambda: threading.current_thread() is not threading.main_thread())


@pytest.mark.parametrize("as_data_worker", [False, True])
def test_only_data_workers_read_where_signals_arrive(as_data_worker):
    """A run of a sweep is a process of multiprocessing too, and SIGTERM raises in it."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        found = pool.submit(reads_in_another_thread, as_data_worker).result()
    assert found is not as_data_worker
