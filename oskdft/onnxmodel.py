"""An exported speaker model, run by ONNX Runtime in the place of `model.SpeakerModel`. No torch here."""

import importlib.util
import mmap
import os
from pathlib import Path

import numpy as np

from oskdft.config import Config, from_dict
from oskdft.files import inside, read_json

FILE = "model.onnx"


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


def session(source: str | bytes):
    """An ONNX Runtime session on the CPU, with as many threads as OMP_NUM_THREADS says.

    Args:
        source: path or content of a model.
    """
    require("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # it has no OpenMP; 0 leaves the choice to it
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", 0))
    options.log_severity_level = 3  # errors only
    # weights kept in int8 are unpacked once, when the model is loaded, and not at every call
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


class OnnxModel:
    """Waveforms in, embeddings out, like `SpeakerModel` in evaluation mode, without torch.

    Args:
        source: path or content of a model that maps "wave" [B, N] to "embedding" [B, E].
    """

    device = "cpu"

    def __init__(self, source: str | bytes) -> None:
        self.session = session(source)

    def embed(self, waves: list[np.ndarray], without_adapters: bool = False) -> np.ndarray:
        """Embeddings [n, E] float32; waves [N] of one length run together, so nothing is padded.

        Raises:
            ValueError: the distillation path is asked for.
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
            for row, embedding in zip(
                same, self.session.run(None, {"wave": batch})[0], strict=True
            ):
                out[row] = embedding
        return np.stack(out)


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
    """Read an exported folder, as `model.load_model` reads the others.

    Raises:
        ImportError: ONNX Runtime is not installed; says how. ValueError: a damaged model, or one
            that needs other files.
    """
    path = Path(folder) / FILE
    refuse_foreign(path)
    described = read_json(inside(folder, "model.json"))
    require("onnxruntime")
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph, InvalidProtobuf

    try:
        model = OnnxModel(str(path))
    except (Fail, InvalidGraph, InvalidProtobuf) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} cannot be loaded ({reason}); export it again") from None
    return model, from_dict(described["config"]), described
