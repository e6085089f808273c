"""The child process of `onnx_child.Child`: loads a stranger's ONNX model under limits, and answers."""

import contextlib
import ctypes
import resource
import signal
import sys
from multiprocessing.connection import Connection

import numpy as np

from oskdft.storage.onnx_child import MOST_BYTES, from_bytes, to_bytes
from oskdft.storage.onnx_model import session

PARENT_DIED = 1  # PR_SET_PDEATHSIG in prctl.h


def serve(path: str, pipe: Connection) -> None:
    """Load the model and answer batches until the parent closes the pipe."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PARENT_DIED, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    for kind in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        resource.setrlimit(kind, (0, 0))
    try:
        model = session(path, trusted=False)
    except Exception as error:  # a stranger's model makes ONNX Runtime raise any exception
        pipe.send_bytes(b"-" + str(error)[:1_000].encode())
        return
    pipe.send_bytes(b"+")
    with contextlib.suppress(EOFError):
        while True:
            batch = from_bytes(pipe.recv_bytes())
            try:
                result = model.run(["embedding"], {"wave": batch})[0]
                reply = b"+" + to_bytes(np.asarray(result))
            except Exception as error:
                reply = b"-" + str(error)[:1_000].encode()
            pipe.send_bytes(reply)


if __name__ == "__main__":
    serve(sys.argv[1], Connection(int(sys.argv[2])))
