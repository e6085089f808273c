"""ONNX models with 8-bit weights."""

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from oskdft.storage.onnx_model import require


def to_int8(exact: bytes, place: Path | None = None) -> bytes:
    """An ONNX model with 8-bit weights.

    Matrix products run on integers: ONNX Runtime's dynamic quantisation, inputs quantised at each call,
    weights of seven bits so that no processor saturates. Convolutions store integers with one scale per
    output channel and compute in float32, because the first ones read raw samples, whose range exceeds
    eight bits with one scale.

    Args:
        exact: content of a float32 ONNX file, as from `to_onnx`.
        place: folder of the temporary files, also of those of ONNX Runtime; None: the system's.
    Returns:
        Content of the int8 file.
    """
    require("onnx", "onnxruntime")
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory(dir=place) as folder, _temporary_files_in(folder):
        path = Path(folder) / "int8.onnx"
        logging.disable(logging.WARNING)  # of a recommended preparation that changes nothing here
        try:
            quantize_dynamic(
                onnx.load_model_from_string(exact),
                path,
                op_types_to_quantize=["MatMul", "Gemm"],
                per_channel=True,
                reduce_range=True,
                weight_type=QuantType.QInt8,
            )
        finally:
            logging.disable(logging.NOTSET)
        model = onnx.load(path)
    _pack_convolutions(model)
    onnx.checker.check_model(model)
    return model.SerializeToString()


@contextlib.contextmanager
def _temporary_files_in(folder: str) -> Iterator[None]:
    """Let libraries put their temporary files into ``folder``, which goes with them, also after a kill."""
    before, tempfile.tempdir = tempfile.tempdir, folder
    try:
        yield
    finally:
        tempfile.tempdir = before


def _pack_convolutions(model) -> None:
    """Store each convolution's weight as int8 and one scale per output channel."""
    from onnx import helper, numpy_helper

    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    names = dict.fromkeys(node.input[1] for node in graph.node if node.op_type == "Conv")
    for place, name in enumerate(names):
        value = numpy_helper.to_array(weights[name])  # [out, in, kernel]
        scale = np.abs(value).reshape(len(value), -1).max(1).clip(1e-12) / 127
        whole = np.round(value / scale[:, None, None]).astype(np.int8)
        graph.initializer.remove(weights[name])
        graph.initializer.append(numpy_helper.from_array(whole, f"{name}_int8"))
        graph.initializer.append(numpy_helper.from_array(scale.astype(np.float32), f"{name}_scale"))
        inputs = [f"{name}_int8", f"{name}_scale"]
        # before all nodes that read it, in the order of their first readers
        graph.node.insert(place, helper.make_node("DequantizeLinear", inputs, [name], axis=0))
