"""An exported speaker model, run by ONNX Runtime in the place of `model.SpeakerModel`."""

import importlib.util
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from oskdft.config import Config, from_dict
from oskdft.files import read_json

FILE = "model.onnx"


def require(*packages: str) -> None:
    """Stop with the command that installs what is missing.

    >>> require("numpy")
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        names = " ".join(missing)
        raise ImportError(f"{' and '.join(missing)} not installed; do: pip install {names}")


def session(source: str | bytes, threads: int = 0):
    """An ONNX Runtime session on the CPU.

    Args:
        source: path or content of a model. threads: 0 leaves the choice to ONNX Runtime.
    """
    require("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors only
    # weights kept in int8 are unpacked once, when the model is loaded, and not at every call
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


class OnnxModel(nn.Module):
    """Waveform in, embedding out, like `SpeakerModel` in evaluation mode.

    Args:
        source: path or content of a model that maps "wave" [B, N] to "embedding" [B, E].
    """

    device = torch.device("cpu")

    def __init__(self, source: str | bytes) -> None:
        super().__init__()
        self.session = session(source, torch.get_num_threads())

    def forward(
        self, wave: Tensor, lengths: Tensor | None = None, without_adapters: int = 0
    ) -> Tensor:
        """Embeddings [B, E]; rows of one length run together, so that nothing is padded.

        Raises:
            ValueError: rows along the distillation path are asked for.
        """
        if without_adapters:
            raise ValueError(
                "an ONNX model has the verification path only; evaluate the run folder, or set "
                "switches.eval_path=all"
            )
        rows = np.full(len(wave), wave.shape[1]) if lengths is None else lengths.numpy()
        out = [None] * len(wave)
        for length in np.unique(rows):
            same = np.flatnonzero(rows == length)
            part = wave[torch.from_numpy(same), : int(length)].numpy()
            made = self.session.run(None, {"wave": part})[0]
            for row, embedding in zip(same, made, strict=True):
                out[row] = embedding
        return torch.from_numpy(np.stack(out))


def load_onnx(folder: str | Path) -> tuple[OnnxModel, Config, dict]:
    """Read an exported folder, as `model.load_model` reads the others.

    Raises:
        ImportError: ONNX Runtime is not installed; says how. ValueError: a damaged model.
    """
    path = Path(folder) / FILE
    described = read_json(path.with_name("model.json"))
    require("onnxruntime")
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph, InvalidProtobuf

    try:
        model = OnnxModel(str(path))
    except (Fail, InvalidGraph, InvalidProtobuf) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} cannot be loaded ({reason}); export it again") from None
    return model, from_dict(described["config"]), described
