"""Exported speaker models, run by ONNX Runtime instead of torch. Imports no torch."""

import importlib.util
import mmap
import os
from pathlib import Path

import numpy as np

from oskdft.config import SAMPLE_RATE, Config
from oskdft.speech.corpora.cache import cache_dir
from oskdft.storage.description import WEIGHTS, digest_of, read_described, require_own
from oskdft.storage.onnx_child import Child
from oskdft.utils.console import say
from oskdft.utils.files import ASSETS, atomic, inside, sha256
from oskdft.utils.finite import require_embeddings

# Read when ONNX Runtime is imported: it would write to the home folder and look up a host.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

FILE = "model.onnx"
MOST_FOLDED = 2**12  # memory of a constant that is computed at loading [bytes]
PATIENCE = 60.0  # for loading a stranger's model, or a batch, and as much again per minute [s]


def require(*packages: str) -> None:
    """Refuse to go on without these packages.

    Raises:
        ImportError: names the missing packages and the command that installs them.

    >>> require("numpy")
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        names = " ".join(missing)
        raise ImportError(f"{' and '.join(missing)} not installed; do: pip install {names}")


def installed() -> bool:
    """Whether ONNX Runtime is installed."""
    return importlib.util.find_spec("onnxruntime") is not None


def _threads() -> int:
    """OMP_NUM_THREADS, its first number ("4,2"); 0: ONNX Runtime's own choice, also for other words.

    >>> _threads() >= 0
    True
    """
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdecimal() and len(first) < 5 else 0


def session(source: str | bytes, trusted: bool = True):
    """An ONNX Runtime session on the CPU with OMP_NUM_THREADS threads (unset: its own choice).

    Args:
        source: path or content of a model.
        trusted: whether this machine or this package made the model; others belong into a `Child`.
    Raises:
        ImportError: ONNX Runtime is not installed. ONNX Runtime raises others, of many kinds.
    """
    require("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # ONNX Runtime has no OpenMP; 0 leaves the number to it
    options.intra_op_num_threads = _threads()
    # spinning threads would keep the cores from torch between two calls
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3 if trusted else 4  # errors; a stranger's are raised, not logged
    # a plan of memory for each length of input is kept beside that of another: half as much again
    options.enable_mem_pattern = False
    # int8 weights are unpacked once at loading instead of at every call
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    if not trusted:
        # a small file can ask for any amount
        folding = "optimization.constant_folding_max_output_size_in_bytes"
        options.add_session_config_entry(folding, str(MOST_FOLDED))
    # there is no other provider to fall back to, and each try would be printed
    return onnxruntime.InferenceSession(
        source, options, providers=["CPUExecutionProvider"], enable_fallback=False
    )


def remember(digest: str) -> None:
    """Note that this user's package wrote the ONNX file with this SHA-256; such a file is trusted."""
    try:
        with atomic(_note(digest)):
            pass
    except OSError as error:
        say(f"the export is not remembered ({error}), so it will run in a process of its own")


def _note(digest: str) -> Path:
    return cache_dir() / "exports" / digest


class OnnxModel:
    """An embedding model in ONNX form, used like `SpeakerModel` in evaluation mode.

    Args:
        source: path or content of a model that maps "wave" [B, N] to "embedding" [B, E].
        trusted: as for `session`; another model, by its path, runs in a child process with limits of
            memory and of time (`PATIENCE`).
    """

    device = "cpu"

    def __init__(self, source: str | bytes, trusted: bool = True) -> None:
        self.session = session(source) if trusted else Child(source, PATIENCE)
        self.trusted = trusted

    def embed(self, waves: list[np.ndarray], without_adapters: bool = False) -> np.ndarray:
        """Embeddings [n, E] float32 of n waves [N]; waves of equal length run together, without padding.

        Raises:
            ValueError: the distillation path is asked for, embeddings are not finite, or a stranger's
                model fails or exceeds its memory or time.
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
            for row, embedding in zip(same, self._run(batch), strict=True):
                out[row] = embedding
        return require_embeddings(np.stack(out))

    def _run(self, batch: np.ndarray) -> np.ndarray:
        """Embeddings of a batch; a stranger's model may fail, take all memory, or never end."""
        if self.trusted:
            return self.session.run(["embedding"], {"wave": batch})[0]
        minutes = batch.size / SAMPLE_RATE / 60
        try:
            result = self.session.run(batch, PATIENCE * (1 + minutes))
            if result.dtype != np.float32 or result.ndim != 2 or len(result) != len(batch):
                kind = f"{result.dtype} {list(result.shape)}"
                raise ValueError(f"its result is {kind}, not float32 [{len(batch)}, E]")
        except (ValueError, EOFError) as error:
            why = " ".join(str(error).split())
            raise ValueError(
                f"the ONNX model cannot embed {len(batch)} x {60 * minutes / len(batch):.0f} s of audio "
                f"({why[:200]}); shorten the recordings, or use the run folder that it was exported from"
            ) from None
        return result


def refuse_foreign(path: Path) -> None:
    """Refuse a model that would make ONNX Runtime read other files.

    Sizes that the model declares need no check here: ONNX Runtime compares them with the file.

    Raises:
        ValueError: the file is empty, a link out of its folder, or keeps tensors in other files.
    """
    if not inside(path.parent, path.name).stat().st_size:
        raise ValueError(f"{path} is empty; export it again")
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        # the key under which the format names every other file; no encoding of the format hides it
        if content.find(b"location") >= 0:
            raise ValueError(
                f"{path} keeps tensors in other files, which are never read; export it again"
            )


def is_form_of_weights(folder: str | Path) -> bool:
    """Whether model.json says that the ONNX file of a folder was made from the weights beside it.

    >>> is_form_of_weights(ASSETS / "classroom")
    True
    """
    described = read_described(folder)[1]
    return None not in (digest_of(described, FILE), digest_of(described, WEIGHTS))


def load_onnx(folder: str | Path) -> tuple[OnnxModel, Config, dict]:
    """Read a folder exported to ONNX; shipped models and this user's own exports are trusted.

    Returns:
        (model, configuration, whole content of model.json), as from `model_folder.load_model`.
    Raises:
        ImportError: ONNX Runtime is not installed; names the command that installs it.
        ValueError: a damaged model, a model that needs other files, a model.json that describes no
            model, or one that was written with another ONNX file or with other weights.

    >>> load_onnx(ASSETS / "classroom")[0].embed([np.zeros(8000, np.float32)]).shape
    (1, 192)
    """
    path = Path(folder) / FILE
    refuse_foreign(path)
    cfg, described = read_described(folder)
    require_own(folder, described, FILE)
    if (Path(folder) / WEIGHTS).is_file():
        require_own(folder, described, WEIGHTS)
    require("onnxruntime")
    trusted = path.parent.parent == ASSETS or _note(sha256(path)).is_file()
    try:
        model = OnnxModel(str(path), trusted)
    except Exception as error:  # those of ONNX Runtime have no common base class
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} cannot be loaded ({reason}); export it again") from None
    return model, cfg, described
