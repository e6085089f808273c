"""Training in a process of its own: who starts it stays awake, and it ends when its parent does.

The child's standard input is a pipe that nobody writes to. However the parent ends, the system closes
the pipe; the child sees this and stops as on SIGTERM: its state is saved, nothing is left running.
"""

import contextlib
import os
import runpy
import signal
import subprocess
import sys
import threading
from pathlib import Path

from oskdft import config
from oskdft.config import Config
from oskdft.training import run_folder
from oskdft.utils.files import read_json
from oskdft.utils.process import STOPPED, end_of

INTERRUPTED = 130  # exit code after Ctrl-C, which reaches the whole process group


class Worker:
    """One run folder and the process that trains into it.

    Args:
        cfg: of the run. out: its folder; the log stands beside it.

    >>> import tempfile
    >>> worker = Worker(config.load("smoke"), Path(tempfile.mkdtemp()) / "run")
    >>> worker.state, worker.rows(), worker.last_line()
    ('new', [], '')
    """

    def __init__(self, cfg: Config, out: Path) -> None:
        self.cfg, self.out, self.log = cfg, out, out.with_suffix(".log")
        self.process: subprocess.Popen | None = None

    @property
    def state(self) -> str:
        """Of the run: "new", "running", "stopped" or "finished"."""
        if self.process and self.process.poll() is None:
            return "running"
        if (self.out / "report.json").is_file():
            return "finished"
        return "stopped" if (self.out / "config.yaml").is_file() else "new"

    @property
    def failed(self) -> bool:
        """Whether the process ended otherwise than finished or stopped; `last_line` says why."""
        wanted = (None, 0, STOPPED, INTERRUPTED, -signal.SIGTERM, -signal.SIGINT)
        return self.process is not None and self.process.poll() not in wanted

    def start(self) -> None:
        """Begin the run, or go on with it."""
        recipe = self.out.with_suffix(".yaml")
        recipe.parent.mkdir(parents=True, exist_ok=True)
        recipe.write_text(config.to_yaml(self.cfg), encoding="utf-8")
        words = ["-m", "oskdft.training.background", "train"]
        words += ["--profile", str(recipe), "--out", str(self.out)]
        words += ["--resume"] if self.state == "stopped" else []
        with open(self.log, "w", encoding="utf-8") as stream:
            streams = {"stdin": subprocess.PIPE, "stdout": stream, "stderr": stream}
            self.process = subprocess.Popen([sys.executable, *words], **streams)

    def stop(self) -> None:
        """Ask for the end: the step at hand is finished and the state saved; `wait` for it."""
        if self.state == "running":
            self.process.terminate()

    def wait(self) -> None:
        """Until the process has ended."""
        self.process.wait()

    def last_line(self) -> str:
        """Of the log; empty before there is one."""
        if not self.log.is_file():
            return ""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return "".join(text.strip().splitlines()[-1:])

    def why(self) -> str:
        """Why the process ended otherwise than finished: its last words, or what killed it."""
        code = self.process.returncode
        kept = f"run this again: it goes on from the last checkpoint (full log: {self.log})"
        if code < 0:
            return f"training was {end_of(code)}; its last line: {self.last_line()!r}; {kept}"
        return f"training stopped: {self.last_line()} (full log: {self.log})"

    def rows(self) -> list[dict[str, float]]:
        """What metrics.csv holds so far."""
        path = self.out / "metrics.csv"
        return run_folder.read_metrics(path) if path.is_file() else []

    def validations(self) -> list[dict[str, float]]:
        """Validations so far, "step" and "dev_eer" among their entries: of the report, or the last state."""
        states = sorted((self.out / "checkpoints").glob("state-*.json"), reverse=True)
        for path in (self.out / "report.json", *states):
            with contextlib.suppress(OSError, ValueError):  # replaced in this moment
                return read_json(path).get("validations", [])
        return []


def _end_with_parent() -> None:
    """Wait until the pipe is closed, then stop as on SIGTERM."""
    os.read(0, 1)  # not sys.stdin, whose lock a thread must not hold when Python ends
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    runpy.run_module("oskdft", run_name="__main__")
