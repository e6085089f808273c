"""An exported speaker model, run by ONNX Runtime in the place of `model.SpeakerModel`. No torch here."""

import functools
import importlib.util
import mmap
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np

from oskdft.config import SAMPLE_RATE, Config
from oskdft.storage.description import read_described
from oskdft.utils.files import ASSETS, inside

FILE = "model.onnx"
# what a graph from outside may take: it is a program, and a small file can ask for any amount
MOST_BYTES = 2**30  # while it runs
MOST_FOLDED = 2**12  # [bytes] of a constant that is computed while it is loaded
PATIENCE = 60.0  # [s] for a batch, and as much again per minute of audio


def require(*packages: str) -> None:
    """Stop with the command that installs what is missing.

    >>> require("numpy")
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        names = " ".join(missing)
        raise ImportError(f"{' and '.join(missing)} not installed; do: pip install {names}")


def installed() -> bool:
    """Whether ONNX Runtime is there."""
    return importlib.util.find_spec("onnxruntime") is not None


def session(source: str | bytes, trusted: bool = True):
    """An ONNX Runtime session on the CPU, with as many threads as OMP_NUM_THREADS says.

    Args:
        source: path or content of a model.
        trusted: made by this process or shipped; others get at most `MOST_BYTES` of memory.
    """
    require("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # it has no OpenMP; 0 leaves the choice to it
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", 0))
    # between two calls its threads would wait in a loop, on the cores that torch may want
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3 if trusted else 4  # errors only; a stranger's are raised
    # weights kept in int8 are unpacked once, when the model is loaded, and not at every call
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    if not trusted:
        _limited_memory()
        options.add_session_config_entry("session.use_env_allocators", "1")
        # ... but memory that folding takes is not counted, so a stranger's are unpacked each time
        folding = "optimization.constant_folding_max_output_size_in_bytes"
        options.add_session_config_entry(folding, str(MOST_FOLDED))
    return onnxruntime.InferenceSession(
        source, options, providers=["CPUExecutionProvider"], enable_fallback=False
    )  # there is no other provider to fall back to, and each try would be printed


def _errors() -> tuple[type[Exception], ...]:
    """What a bad model makes ONNX Runtime raise; its own errors have no base class in common."""
    from onnxruntime.capi import onnxruntime_pybind11_state as runtime

    own = (kind for kind in vars(runtime).values() if isinstance(kind, type))
    return (*(kind for kind in own if issubclass(kind, Exception)), ValueError, RuntimeError)


@functools.cache  # once per process: all limited sessions share one allocator
def _limited_memory() -> None:
    """An allocator of `MOST_BYTES` for the sessions that ask for it."""
    import onnxruntime as ort

    place = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    by_need = 1  # grow by what is asked for, not by powers of two
    limit = ort.OrtArenaCfg({"max_mem": MOST_BYTES, "arena_extend_strategy": by_need})
    ort.create_and_register_allocator(place, limit)


class OnnxModel:
    """Waveforms in, embeddings out, like `SpeakerModel` in evaluation mode, without torch.

    Args:
        source: path or content of a model that maps "wave" [B, N] to "embedding" [B, E].
        trusted: as in `session`; others also get at most `PATIENCE` to answer.
    """

    device = "cpu"

    def __init__(self, source: str | bytes, trusted: bool = True) -> None:
        self.session, self.trusted = session(source, trusted), trusted

    def embed(self, waves: list[np.ndarray], without_adapters: bool = False) -> np.ndarray:
        """Embeddings [n, E] float32; waves [N] of one length run together, so nothing is padded.

        Raises:
            ValueError: the distillation path is asked for; a model from outside that fails, or
                wants more memory or time than it may have.
        """
        if without_adapters:
            raise ValueError(
                "an ONNX model has the verification path only; evaluate the run folder, or set "
                "switches.eval_path=all"
            )
        out = [None] * len(waves)
        for length in {len(wave) for wave in waves}:
            same = [row for row, wave in enumerate(waves) if len(wave) == length]
            batch = np.stack([waves[row] for row in same])
            made = self._run(batch) if self.trusted else self._run_bounded(batch)
            for row, embedding in zip(same, made, strict=True):
                out[row] = embedding
        return np.stack(out)

    def _run(self, batch: np.ndarray, options=None) -> np.ndarray:
        return self.session.run(["embedding"], {"wave": batch}, options)[0]

    def _run_bounded(self, batch: np.ndarray) -> np.ndarray:
        """The same of a model from outside: it may fail, be greedy, or never end."""
        import onnxruntime

        minutes = batch.size / SAMPLE_RATE / 60
        options = onnxruntime.RunOptions()
        options.log_severity_level = 4  # nothing: errors are raised
        clock = threading.Timer(
            PATIENCE * (1 + minutes), setattr, (options, "terminate", True)
        )  # looked at between two operations
        clock.start()
        try:
            return _embeddings(self._run(batch, options), len(batch))
        except _errors() as error:
            why = " ".join(str(error).split())
            if "Available memory" in why or "terminate" in why:
                why = f"more than {MOST_BYTES >> 30} GB or {clock.interval:.0f} s"
            raise ValueError(
                f"the ONNX model cannot embed {len(batch)} x {60 * minutes / len(batch):.0f} s of audio "
                f"({why[:200]}); shorten the recordings, or use the run folder that it was exported from"
            ) from None
        finally:
            clock.cancel()


def _embeddings(made: Any, count: int) -> np.ndarray:
    """The result of a graph from outside, if it is what an exported model gives."""
    shape, kind = np.shape(made), getattr(made, "dtype", type(made).__name__)
    if kind != np.float32 or len(shape) != 2 or shape[0] != count:
        raise ValueError(f"its result is {kind} {list(shape)}, not float32 [{count}, E]")
    return made


def refuse_foreign(path: Path) -> None:
    """Refuse a model that would make ONNX Runtime read other files; what it declares it checks itself.

    Raises:
        ValueError: the file is a link out of its folder, or keeps tensors in files of their own.
    """
    if not inside(path.parent, path.name).stat().st_size:
        raise ValueError(f"{path} is empty; export it again")
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        # the key that every file elsewhere is named under; no encoding of the format hides it
        if content.find(b"location") >= 0:
            raise ValueError(
                f"{path} keeps tensors in other files, which are never read; export it again"
            )


def load_onnx(folder: str | Path) -> tuple[OnnxModel, Config, dict]:
    """Read an exported folder, as `model.load_model` reads the others; only shipped ones are trusted.

    Raises:
        ImportError: ONNX Runtime is not installed; says how. ValueError: a damaged model, one that
            needs other files, or a model.json that describes none.
    """
    path = Path(folder) / FILE
    refuse_foreign(path)
    cfg, described = read_described(folder)
    require("onnxruntime")
    try:
        model = OnnxModel(str(path), trusted=path.parent.parent == ASSETS)
    except _errors() as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} cannot be loaded ({reason}); export it again") from None
    return model, cfg, described
