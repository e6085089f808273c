"""The child process of `onnx_child.Child`: loads a stranger's ONNX model under limits, and answers."""

import contextlib
import ctypes
import io
import os
import resource
import signal
import sys

import numpy as np

from oskdft.storage.onnx_child import MOST_BYTES, receive, send
from oskdft.storage.onnx_model import session

PARENT_DIED = 1  # PR_SET_PDEATHSIG in prctl.h


def serve(path: str) -> None:
    """Load the model and answer batches until the parent closes the pipe."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PARENT_DIED, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    for kind in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        resource.setrlimit(kind, (0, 0))
    with os.fdopen(os.dup(1), "wb") as replies:
        os.dup2(2, 1)  # what the model prints is no reply
        try:
            run = session(path, trusted=False)
        except Exception as error:  # a stranger's model makes ONNX Runtime raise any exception
            send(replies, b"-" + str(error)[:1_000].encode())
            return
        send(replies, b"+")
        while request := receive(sys.stdin.buffer):
            try:
                batch = np.load(io.BytesIO(request), allow_pickle=False)
                content = io.BytesIO()
                result = run.run(["embedding"], {"wave": batch})[0]
                np.save(content, np.asarray(result), allow_pickle=False)
                send(replies, b"+" + content.getvalue())
            except Exception as error:
                send(replies, b"-" + str(error)[:1_000].encode())


if __name__ == "__main__":
    serve(sys.argv[1])
