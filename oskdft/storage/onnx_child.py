"""A stranger's ONNX model in a process of its own, with a limit of memory and a hard end.

A graph is a program: a small file can take all memory, or never end and hear no signal, also while it is
loaded. The child can take `MOST_BYTES` of address space, writes no files, and dies with its parent.

Messages are bytes in a pipe of `multiprocessing`; a reply begins with one byte, "+" or "-".
"""

import io
import os
import subprocess
import sys
import weakref
from multiprocessing import Pipe
from pathlib import Path

import numpy as np

MOST_BYTES = 4 << 30  # address space of the child: about 1 GB is ONNX Runtime's own
THREADS = "4"  # each thread reserves address space


class Child:
    """The child process of one model.

    Args:
        path: of the model. patience: for loading it [s].
    Raises:
        ValueError: the model cannot be loaded, or takes too much memory or time.
    """

    def __init__(self, path: str | Path, patience: float) -> None:
        self.path = path
        self.patience = patience
        self._start()

    def _start(self) -> None:
        paths = filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")])
        limits = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
        environment = {"OMP_NUM_THREADS": THREADS} | os.environ | limits
        environment["PYTHONPATH"] = os.pathsep.join(paths)
        self.pipe, theirs = Pipe()
        with theirs:
            handle = theirs.fileno()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "oskdft.storage.onnx_server", str(self.path), str(handle)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                pass_fds=[handle],
                start_new_session=True,  # Ctrl-C is the parent's
            )
        weakref.finalize(self, _end, self.process)
        self._reply(self.patience)

    def run(self, batch: np.ndarray, patience: float) -> np.ndarray:
        """The "embedding" of a batch "wave" [B, N].

        Raises:
            ValueError: the model fails, or takes too much memory or more than ``patience`` seconds.
        """
        if self.process.poll() is not None:
            self._start()
        return from_bytes(self._reply(patience, to_bytes(batch)))

    def _reply(self, patience: float, request: bytes | None = None) -> bytes:
        try:
            if request is not None:
                self.pipe.send_bytes(request)
            reply = self.pipe.recv_bytes(MOST_BYTES) if self.pipe.poll(patience) else b""
        except (OSError, EOFError):  # the child has ended
            reply = b""
        if not reply:
            _end(self.process)
            raise ValueError(f"more than {MOST_BYTES >> 30} GB or {patience:.0f} s")
        if reply[:1] == b"-":
            reason = reply[1:].decode(errors="replace")
            short = "alloc" in reason or "memory" in reason
            raise ValueError(f"more than {MOST_BYTES >> 30} GB" if short else reason)
        return reply[1:]


def _end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()


def to_bytes(array: np.ndarray) -> bytes:
    """An array as one message."""
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    return content.getvalue()


def from_bytes(message: bytes) -> np.ndarray:
    """The array of a message; nothing is unpickled.

    >>> from_bytes(to_bytes(np.arange(3))).tolist()
    [0, 1, 2]
    """
    return np.load(io.BytesIO(message), allow_pickle=False)
