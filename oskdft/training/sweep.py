"""A sweep: the runs of a grid, trained and evaluated on this machine or on a Ray cluster.

Each run is a run folder below the sweep's folder, with dev.json and test.json (reports on the two trial
lists; the test list is read once) and their scores, dev.txt and test.txt. An interrupted run is resumed,
to the same weights.
"""

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from datetime import timedelta
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path

from oskdft.config import consent, from_dict, to_dict
from oskdft.speech import protocol
from oskdft.storage.onnx_model import require
from oskdft.training.grid import Grid, Run, read_grid
from oskdft.training.run_folder import require_same
from oskdft.utils import provenance
from oskdft.utils.console import say
from oskdft.utils.files import atomic, require_new_folder, write_json
from oskdft.utils.lock import Lock
from oskdft.utils.process import STOPPED, keep_freed_memory

GRID = "grid.yaml"  # the grid of a sweep, in its folder
CORES = 2  # of a run
ANSWER_S = 10.0  # that a cluster may take to answer
ATTEMPTS = 3  # at a run whose process or node dies
TURN_S = 1.0  # between two looks at the running runs


def sweep(grid: Grid, out: str | Path, on: str = "local", resume: bool = False) -> dict:
    """Run a grid.

    Args:
        grid: see `grid.read_grid`.
        out: a new folder; with ``resume`` the folder of a sweep of the same grid.
        on: "local" or "local:N" (N processes; default one per two cores), "ray" or "ray:ADDRESS".
    Returns:
        "done": names of finished runs; "failed": name -> reason.
    Raises:
        ValueError: an unknown setting, a folder of another grid, a run there of other settings, or a
            cluster that does not answer.
    """
    out = Path(out).resolve()
    runs = grid.runs()  # refuses settings before anything is written
    for run in runs:
        _require_test_trials(run)
    engine = _engine(on)
    _claim(grid, out, resume)
    for run in runs:  # a profile file may have changed since
        if (out / run.folder / "config.yaml").is_file():
            require_same(out / run.folder, run.cfg)
    with Lock(out):
        (out / "failed.json").unlink(missing_ok=True)
        missing = [run for run in runs if not (out / run.folder / "test.json").is_file()]
        done = [run.folder for run in runs if run not in missing]
        failed: dict[str, str] = {}
        say(f"{len(runs)} runs in {out}: {len(done)} finished, {len(missing)} to do on {on}")
        began = time.monotonic()
        for run, reason in engine(missing, out):
            if reason:
                failed[run.folder] = reason
                say(f"{run.folder} failed: {reason}")
                write_json(out / "failed.json", failed)
            else:
                done.append(run.folder)
            ended = len(failed) + len(done) - (len(runs) - len(missing))
            left_s = (time.monotonic() - began) / ended * (len(missing) - ended)
            left = timedelta(seconds=round(left_s))  # prints as hours:minutes:seconds
            say(f"{len(done)} of {len(runs)} runs done, {len(failed)} failed, {left} left")
    return {"done": done, "failed": failed}


def _require_test_trials(run: Run) -> None:
    """Refuse a run that has no test list; a corpus that is not on this machine is left to the run."""
    data = run.cfg.data
    with contextlib.suppress(FileNotFoundError):
        root = protocol.find_root(data.corpus, data.root, "data.root")
        if protocol.test_list(run.cfg, root)[0] is None:
            raise ValueError(
                f"{data.corpus} of row {run.row!r} has no test trials; set data.trials"
            )


def _claim(grid: Grid, out: Path, resume: bool) -> None:
    """Write the grid into a new folder, or compare it with the folder's."""
    kept = out / GRID
    if kept.is_file():
        if read_grid(kept) != grid:
            raise ValueError(f"{out} holds the runs of another grid; choose another --out")
        if not resume:
            raise ValueError(f"{out} holds a sweep of this grid; add --resume")
    else:
        require_new_folder(out).mkdir(parents=True, exist_ok=True)
        with atomic(kept) as file:
            file.write(grid.text())


def one_run(folder: str, settings: dict, threads: int = CORES) -> None:
    """Train one run, or resume it, and score its development and test trials once.

    Args:
        folder: of the run. settings: its configuration as plain values. threads: of torch, at most.
    Raises:
        FileNotFoundError: the sweep's folder is not on this machine. Others: see `train.train`.
    """
    import torch

    from oskdft.evaluation.evaluate import evaluate
    from oskdft.training.train import train

    place, cfg = Path(folder), from_dict(settings)
    consent(cfg)
    if not (place.parent / GRID).is_file():
        raise FileNotFoundError(
            f"{place.parent} is not on this machine; share the folder of the sweep"
        )
    keep_freed_memory()
    torch.set_num_threads(min(threads, torch.get_num_threads()))  # OMP_NUM_THREADS may say fewer
    if not (place / "report.json").is_file():
        train(cfg, place, resume=(place / "config.yaml").is_file())
    root = protocol.find_root(cfg.data.corpus, cfg.data.root, "data.root")
    _, dev = protocol.training_and_development(cfg, root)
    lists = {
        "dev": (protocol.development_trials(cfg, dev), dev.root),
        "test": protocol.read_test_list(cfg, root),
    }
    if lists["test"][0] is None:
        raise ValueError(f"{cfg.data.corpus} has no test trials; set data.trials")
    for name, (trials, trials_root) in lists.items():
        scores = place / f"{name}.txt"
        scores.unlink(missing_ok=True)  # of an interrupted evaluation
        report = evaluate(
            place, trials, trials_root, scores, device=cfg.device, channel=cfg.data.channel
        )
        write_json(place / f"{name}.json", report)


def attempt(folder: str, settings: dict, threads: int = CORES) -> str:
    """`one_run`; returns the reason of a failure as one line, "" when the run is finished."""
    try:
        one_run(folder, settings, threads)
    except Exception as error:  # whatever it is, the other runs go on
        return " ".join(f"{type(error).__name__}: {error}".split())[:500]
    return ""


def _engine(on: str) -> Callable[[list[Run], Path], Iterator[tuple[Run, str]]]:
    """The function that runs runs: (runs, folder) -> each ended run with the reason of its failure."""
    kind, _, rest = on.partition(":")
    if kind == "local" and (not rest or (rest.isdecimal() and int(rest))):
        return partial(_local, processes=int(rest or max(provenance.cores() // CORES, 1)))
    if kind == "ray":
        require("ray")
        return partial(_ray, address=rest)
    raise ValueError(f"--on is {on!r}; write local, local:4, ray or ray:ADDRESS")


def _local(runs: list[Run], out: Path, processes: int) -> Iterator[tuple[Run, str]]:
    """Run in processes of this machine; each process takes one run after the other."""
    threads = max(provenance.cores() // processes, 1)
    slots = threading.local()  # of a thread: its process
    running: set[int] = set()  # process numbers
    stopping = threading.Event()

    def in_process(run: Run) -> str:
        for _ in range(ATTEMPTS):
            try:
                if not hasattr(slots, "process"):
                    slots.process = ProcessPoolExecutor(
                        1, get_context("spawn"), initializer=_begin_process
                    )
                    running.add(slots.process.submit(os.getpid).result())
                # `stopping` is set before the processes are ended: one that comes later ends here
                if stopping.is_set():
                    return "the sweep was stopped"
                words = str(out / run.folder), to_dict(run.cfg), min(threads, CORES)
                return slots.process.submit(_work, *words).result()
            except (SystemExit, BrokenProcessPool) as end:
                # SystemExit: a training has saved its state on SIGTERM
                if stopping.is_set() or isinstance(end, SystemExit):
                    return "the sweep was stopped"
                say(f"the process of {run.folder} was killed; the run is resumed in another")
                del slots.process
        return f"its process was killed {ATTEMPTS} times; see how much memory the run needs"

    with ThreadPoolExecutor(processes) as pool:
        futures = {pool.submit(in_process, run): run for run in runs}
        waiting = set(futures)
        try:
            while waiting:
                # in turns: a signal that arrived in another thread is heard between two of them
                ended, waiting = wait(waiting, TURN_S, FIRST_COMPLETED)
                for future in ended:
                    yield futures[future], future.result()
        finally:  # also on Ctrl-C and SIGTERM: the runs save their state and end
            stopping.set()
            for number in list(running):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGTERM)
            pool.shutdown(cancel_futures=True)


_working = threading.Lock()  # of a process that runs runs


def _work(*words: str | dict | int) -> str:
    """`attempt`, which the process finishes before it ends with its sweep."""
    with _working:
        return attempt(*words)


def _begin_process() -> None:
    """End the process with the sweep, on SIGTERM, so that a run in training saves its state.

    The signal ends the training, but not the process: its pool would wait for work that nobody sends.
    """
    parent = parent_process()

    def end() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        with _working:
            os._exit(STOPPED)

    threading.Thread(target=end, daemon=True).start()


def _ray(runs: list[Run], out: Path, address: str) -> Iterator[tuple[Run, str]]:
    """Run as tasks of a Ray cluster that sees the same folder; a task whose node died is retried."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before the import; nothing leaves
    import ray

    _require_answer(address)
    ray.init(address or None, log_to_driver=False, ignore_reinit_error=True)
    gpus = 1 if ray.cluster_resources().get("GPU") else 0
    task = ray.remote(num_cpus=CORES, num_gpus=gpus, max_retries=ATTEMPTS - 1)(attempt)
    running = {task.remote(str(out / run.folder), to_dict(run.cfg)): run for run in runs}
    while running:
        (reference,), _ = ray.wait(list(running), num_returns=1)
        run = running.pop(reference)
        try:
            yield run, ray.get(reference)
        except ray.exceptions.RayError as error:
            yield run, " ".join(str(error).split())[:500]


def _require_answer(address: str) -> None:
    """Refuse a HOST:PORT where nothing listens: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host:
        return  # a cluster of this machine, new or found by Ray
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_S).close()
    except (OSError, ValueError, OverflowError):
        raise ValueError(
            f"no Ray cluster answers at {address}; start one with ray start --head, or correct --on"
        ) from None
