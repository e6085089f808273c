"""A trained model as others use it: safetensors folder, ONNX in float32, ONNX with int8 weights.

An export holds the verification path alone, a model card, and model.json; `oskdft.load` reads all
three. It is checked against the model it comes from before it is written.
"""

import contextlib
import copy
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from oskdft.config import SAMPLE_RATE, Config, changes, to_dict
from oskdft.method.encoder import fold_weight_norm
from oskdft.method.model import SpeakerModel, count
from oskdft.storage.model_folder import load_model, save_model
from oskdft.storage.onnx_model import FILE, require, session
from oskdft.utils import provenance
from oskdft.utils.files import ASSETS, atomic, write_json

FORMATS = ("hf", "onnx", "int8")
OPSET = 17
TOLERANCE = 1e-4  # of an ONNX embedding's entries against torch's
PROBES = ((2, 1.0), (1, 2.6))  # (B, seconds) the check runs on: two lengths, two batch sizes
LICENCES = (
    "the code is MIT; weights also carry the terms of the teacher and the speech they learnt from"
)


def export(name: str | Path, to: str, out: str | Path) -> dict:
    """Write a model in a form for use elsewhere.

    Args:
        name: run folder, exported safetensors folder, or the name of a shipped student.
        to: "hf", "onnx" or "int8".
        out: a new folder.
    Returns:
        format, sizes in bytes, and how far the export is from its original.
    Raises:
        ValueError: unknown format, a folder that holds something, or an ONNX model that differs.
        ImportError: onnx or onnxruntime is missing; says how to install it.
    """
    if to not in FORMATS:
        raise ValueError(f"--to is {to!r}; choose {', '.join(FORMATS)}")
    if to != "hf":
        require("onnx", "onnxruntime")
    shipped = ASSETS / str(name)
    model, cfg, described = load_model(shipped if shipped.is_dir() else name)
    # an exported model has the number of its training speakers, but no longer their names
    facts = {"training_speakers": len(described.get("speakers", []))} | described | {"format": to}
    facts = {k: v for k, v in facts.items() if k not in ("config", "speakers")}
    with _new_folder(Path(out)) as folder:
        report = {"format": to, "parameters": count(model)}
        if to == "hf":
            # names of training speakers are nobody's business outside
            save_model(folder, model, cfg, [], facts | {"exported": provenance.facts()})
        else:
            report |= _write_onnx(folder, model, to == "int8")
            facts |= {"exported": provenance.facts(), "check": report}
            write_json(folder / "model.json", {"config": to_dict(cfg), "speakers": []} | facts)
        files = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
        with atomic(folder / "README.md") as file:
            file.write(card(cfg, model, facts, report, files))
    return report | {"files": files}


@contextlib.contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A folder that takes its name only when everything in it was written."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} exists and is not empty; choose another --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
        made = Path(temporary) / out.name
        made.mkdir()
        yield made
        os.replace(made, out)


def _write_onnx(folder: Path, model: SpeakerModel, int8: bool) -> dict:
    """model.onnx, checked; returns sizes and differences."""
    exact = to_onnx(model)
    report = {"float32_bytes": len(exact)}
    _, largest = compare(model, exact)
    if largest > TOLERANCE:
        raise ValueError(
            f"the ONNX model differs from torch by {largest:.1e}, more than {TOLERANCE:g}; not written"
        )
    written = to_int8(exact) if int8 else exact
    cosine, largest = compare(model, written)
    report |= {"bytes": len(written), "cosine_to_torch": cosine, "largest_difference": largest}
    with atomic(folder / FILE, "wb") as file:
        file.write(written)
    return report


class _WaveOnly(nn.Module):
    """The exporter would turn arguments with defaults into inputs."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        return self.inner(wave)


def to_onnx(module: nn.Module, output: str = "embedding") -> bytes:
    """ONNX of a module that maps a waveform [B, N] to one tensor; B and N stay free.

    Args:
        module: in evaluation mode, on the CPU. output: name and kind of the result.
    """
    require("onnx", "onnxruntime")
    module = fold_weight_norm(copy.deepcopy(module)).eval()
    for part in module.modules():
        if hasattr(part, "set_attn_implementation"):
            part.set_attn_implementation("eager")  # plain products, which every runtime knows
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # traced shapes: `compare` checks that they stay free
        torch.onnx.export(
            _WaveOnly(module), (torch.zeros(2, SAMPLE_RATE),), file, dynamo=False, opset_version=OPSET,
            input_names=["wave"], output_names=[output],
            dynamic_axes={"wave": {0: "B", 1: "N"}, output: {0: "B"}},
        )  # fmt: skip
    return file.getvalue()


def to_int8(exact: bytes) -> bytes:
    """The same ONNX model with 8-bit weights.

    Matrix products run on integers (inputs quantised on the fly, ONNX Runtime's dynamic
    quantisation, seven bits so that no processor saturates). Convolutions only store integers, one
    scale per output channel: their arithmetic stays float32, because the first ones see raw
    samples, which eight bits with one scale cannot hold.
    """
    require("onnx", "onnxruntime")
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        logging.disable(logging.WARNING)  # it advises a preparation that changes nothing here
        try:
            quantize_dynamic(
                onnx.load_model_from_string(exact), path, op_types_to_quantize=["MatMul", "Gemm"],
                per_channel=True, reduce_range=True, weight_type=QuantType.QInt8,
            )  # fmt: skip
        finally:
            logging.disable(logging.NOTSET)
        model = onnx.load(path)
    _pack_convolutions(model)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _pack_convolutions(model) -> None:
    """Store each convolution's weight as int8 and one scale per output channel."""
    from onnx import helper, numpy_helper

    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    names = dict.fromkeys(node.input[1] for node in graph.node if node.op_type == "Conv")
    unpacked = []
    for name in names:
        value = numpy_helper.to_array(weights[name])  # [out, in, kernel]
        scale = np.abs(value).reshape(len(value), -1).max(1).clip(1e-12) / 127
        whole = np.round(value / scale[:, None, None]).astype(np.int8)
        graph.initializer.remove(weights[name])
        graph.initializer.append(numpy_helper.from_array(whole, f"{name}_int8"))
        graph.initializer.append(numpy_helper.from_array(scale.astype(np.float32), f"{name}_scale"))
        inputs = [f"{name}_int8", f"{name}_scale"]
        unpacked.append(helper.make_node("DequantizeLinear", inputs, [name], axis=0))
    nodes = [*unpacked, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def compare(module: nn.Module, content: bytes) -> tuple[float, float]:
    """Smallest cosine and largest difference of the ONNX outputs to torch's, on fixed noise."""
    run, cosines, largest = session(content), [], 0.0
    rng = np.random.default_rng(0)
    for batch, seconds in PROBES:
        wave = rng.normal(0, 0.1, (batch, round(seconds * SAMPLE_RATE))).astype(np.float32)
        with torch.no_grad():
            ours = module(torch.from_numpy(wave)).reshape(batch, -1)
        theirs = torch.from_numpy(run.run(None, {"wave": wave})[0]).reshape(batch, -1)
        cosines.append(float(torch.cosine_similarity(ours, theirs).min()))
        largest = max(largest, float((ours - theirs).abs().max()))
    return min(cosines), largest


def card(cfg: Config, model: SpeakerModel, facts: dict, report: dict, files: dict) -> str:
    """The model card: what it is, how it was made, how large it is, what it is for."""
    config, settings = model.config, cfg.model
    recipe = {
        "strategy": cfg.strategy, "mode": cfg.mode, "profile": cfg.name, "seed": cfg.seed,
        "teacher": settings.teacher, "speech": cfg.data.corpus,
        "training speakers": facts["training_speakers"], "steps": facts.get("step", "not recorded"),
        "distillation loss": cfg.loss.kd, "speaker loss": cfg.loss.sv,
        "changed in the profile": ", ".join(f"{k}={v}" for k, v in changes(cfg).items())
        or "nothing known; model.json has all settings",
    }  # fmt: skip
    shape = (
        f"{config.model_type}, {config.num_hidden_layers} layers of width {config.hidden_size}, adapters "
        f"of {settings.adapter_units} units, back-end {settings.backend}, embedding {settings.embedding}"
    )
    eer = facts.get("dev_eer")
    threshold = facts.get("calibration", {}).get("full", {}).get("threshold")
    made = provenance.facts()
    measured = [
        f"- development EER: {100 * eer:.2f} %"
        if eer is not None
        else "- development EER: not recorded",
        "- threshold on the cosine of whole recordings: "
        + (f"{threshold:.4f}" if threshold is not None else "none"),
    ]
    if "cosine_to_torch" in report:
        measured += [
            f"- smallest cosine to the torch model on noise: {report['cosine_to_torch']:.6f}",
            f"- size: {report['bytes'] / report['float32_bytes']:.1%} of the float32 ONNX file",
        ]
    return "\n".join([
        "---", "library_name: oskdft", "tags: [speaker-verification, knowledge-distillation]", "---",
        f"# Speaker verification, {cfg.strategy}, {report['format']}", "",
        f"{shape}; {report['parameters']:,} parameters. Takes a waveform [B, N] at 16 kHz in [-1, 1], "
        "gives embeddings; compare two with the cosine.", "",
        "```python", "import oskdft", "", 'verifier = oskdft.load("this/folder")',
        'print(verifier.verify("a.wav", "b.wav"))', "```", "",
        "## Recipe", *(f"- {key}: {value}" for key, value in recipe.items()), "",
        "## Measured", *measured, "",
        "## Sizes", *(f"- {name}: {size:,} bytes" for name, size in files.items()), "",
        "## Provenance",
        f"- exported {made['date']} by commit {made['commit'] or 'unknown'}, Python {made['python']}",
        f"- {provenance.listed(made['versions'])}", "",
        "## Intended use",
        "Teaching and research on compressing speech models. Not for decisions about people: error rates "
        "differ between languages, ages, microphones and rooms, and were measured on the speech named "
        f"above only. Licence: {LICENCES}.", "",
    ])  # fmt: skip
