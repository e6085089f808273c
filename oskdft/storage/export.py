"""Export of a trained model: safetensors folder, ONNX in float32, ONNX with int8 weights.

An export holds the verification path, a model card and model.json; `oskdft.load` reads all three forms.
An ONNX model is compared with its original before it is written.
"""

import contextlib
import copy
import hashlib
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
from oskdft.storage.domain import load_domain
from oskdft.storage.model_folder import load_model, model_folder, save_model
from oskdft.storage.onnx_model import FILE, remember, require, session
from oskdft.utils import provenance
from oskdft.utils.files import ASSETS, atomic, write_json

FORMATS = ("hf", "onnx", "int8")
OPSET = 17
LARGEST_DIFFERENCE = 1e-4  # between an entry of an ONNX embedding and torch's
CHECKED_BATCHES = ((2, 1.0), (1, 2.6))  # (B, seconds) of `compare`: two batch sizes, two lengths
LICENCES = (
    "the code is MIT; weights also carry the terms of the teacher and the speech they learnt from"
)


def export(name: str | Path, to: str, out: str | Path) -> dict:
    """Write a model in a form for other programs.

    Args:
        name: run folder, exported safetensors folder, or the name of a shipped student.
        to: "hf", "onnx" or "int8".
        out: a new folder.
    Returns:
        "format", "parameters", "files" name -> bytes; for ONNX also "float32_bytes", "bytes",
        "cosine_to_torch" and "largest_difference" (see `compare`).
    Raises:
        ValueError: unknown format, no such model, a folder that is not empty, or an ONNX model that
            differs from torch.
        ImportError: onnx or onnxruntime is missing; names the command that installs it.
    """
    if to not in FORMATS:
        raise ValueError(f"--to is {to!r}; choose {', '.join(FORMATS)}")
    if to != "hf":
        require("onnx", "onnxruntime")
    shipped = ASSETS / str(name)
    source = model_folder(shipped if shipped.is_dir() else name)
    model, cfg, described = load_model(source)
    domain = load_domain(source)
    # an exported model keeps the number of its training speakers, not their names
    facts = {"training_speakers": len(described.get("speakers", []))} | described | {"format": to}
    facts = {k: v for k, v in facts.items() if k not in ("config", "speakers")}
    with _new_folder(Path(out)) as folder:
        report = {"format": to, "parameters": count(model)}
        if to == "hf":
            save_model(folder, model, cfg, [], facts | {"exported": provenance.facts()})
        else:
            report |= _write_onnx(folder, model, to == "int8")
            facts |= {"exported": provenance.facts(), "check": report}
            write_json(folder / "model.json", {"config": to_dict(cfg), "speakers": []} | facts)
        if domain:
            domain.save(folder)
        files = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
        with atomic(folder / "README.md") as file:
            file.write(card(cfg, model, facts, report, files))
    return report | {"files": files}


@contextlib.contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A temporary folder that is renamed to ``out`` when everything in it is written."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} exists and is not empty; choose another --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
        folder = Path(temporary) / out.name
        folder.mkdir()
        yield folder
        os.replace(folder, out)


def _write_onnx(folder: Path, model: SpeakerModel, int8: bool) -> dict:
    """Write model.onnx after its check; return sizes and differences."""
    exact = to_onnx(model)
    report = {"float32_bytes": len(exact)}
    _, largest = compare(model, exact)
    if largest > LARGEST_DIFFERENCE:
        raise ValueError(
            f"the ONNX model differs from torch by {largest:.1e}, more than {LARGEST_DIFFERENCE:g}; "
            "not written"
        )
    content = to_int8(exact) if int8 else exact
    cosine, largest = compare(model, content)
    report |= {"bytes": len(content), "cosine_to_torch": cosine, "largest_difference": largest}
    with atomic(folder / FILE, "wb") as file:
        file.write(content)
    remember(hashlib.sha256(content).hexdigest())
    return report


class _WaveOnly(nn.Module):
    """A module with one argument: the exporter would turn arguments with defaults into inputs."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        return self.inner(wave)


def to_onnx(module: nn.Module, output: str = "embedding") -> bytes:
    """ONNX model of a module that maps a waveform [B, N] to one tensor; B and N stay free.

    Args:
        module: in evaluation mode, on the CPU; it is not changed. output: name of the result.
    Returns:
        Content of the ONNX file.
    Raises:
        ImportError: onnx or onnxruntime is missing.
    """
    require("onnx", "onnxruntime")
    module = fold_weight_norm(copy.deepcopy(module)).eval()
    for part in module.modules():
        if hasattr(part, "set_attn_implementation"):
            part.set_attn_implementation("eager")  # matrix products, which every runtime knows
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of traced shapes: `compare` checks that they stay free
        torch.onnx.export(
            _WaveOnly(module),
            (torch.zeros(2, SAMPLE_RATE),),
            file,
            dynamo=False,
            opset_version=OPSET,
            input_names=["wave"],
            output_names=[output],
            dynamic_axes={"wave": {0: "B", 1: "N"}, output: {0: "B"}},
        )
    return file.getvalue()


def to_int8(exact: bytes) -> bytes:
    """An ONNX model with 8-bit weights.

    Matrix products run on integers: ONNX Runtime's dynamic quantisation, inputs quantised at each call,
    weights of seven bits so that no processor saturates. Convolutions store integers with one scale per
    output channel and compute in float32, because the first ones read raw samples, whose range exceeds
    eight bits with one scale.

    Args:
        exact: content of a float32 ONNX file, as from `to_onnx`.
    Returns:
        Content of the int8 file.
    """
    require("onnx", "onnxruntime")
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
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
    """Compare an ONNX model with its module on fixed noise.

    Args:
        module: on the CPU. content: of the ONNX file.
    Returns:
        (smallest cosine, largest absolute difference) of their outputs.
    """
    run = session(content)
    cosines = []
    largest = 0.0
    rng = np.random.default_rng(0)
    for batch, seconds in CHECKED_BATCHES:
        wave = rng.normal(0, 0.1, (batch, round(seconds * SAMPLE_RATE))).astype(np.float32)
        with torch.no_grad():
            ours = module(torch.from_numpy(wave)).reshape(batch, -1)
        theirs = torch.from_numpy(run.run(None, {"wave": wave})[0]).reshape(batch, -1)
        cosines.append(float(torch.cosine_similarity(ours, theirs).min()))
        largest = max(largest, float((ours - theirs).abs().max()))
    return min(cosines), largest


def card(cfg: Config, model: SpeakerModel, facts: dict, report: dict, files: dict) -> str:
    """The model card in Markdown: architecture, recipe, measurements, sizes, provenance, intended use.

    Args:
        cfg, model: exported. facts: of its model.json. report: of `export`. files: name -> bytes.
    """
    config = model.config
    settings = cfg.model
    changed = ", ".join(f"{key}={value}" for key, value in changes(cfg).items())
    recipe = {
        "strategy": cfg.strategy,
        "mode": cfg.mode,
        "profile": cfg.name,
        "seed": cfg.seed,
        "teacher": settings.teacher,
        "speech": facts.get("speech", cfg.data.corpus),
        "training speakers": facts["training_speakers"],
        "steps": facts.get("step", "not recorded"),
        "distillation loss": cfg.loss.kd,
        "speaker loss": cfg.loss.sv,
        "changed in the profile": changed or "nothing known; model.json has all settings",
    }
    shape = (
        f"{config.model_type}, {config.num_hidden_layers} layers of width {config.hidden_size}, adapters "
        f"of {settings.adapter_units} units, back-end {settings.backend}, embedding {settings.embedding}"
    )
    eer = facts.get("dev_eer")
    threshold = facts.get("calibration", {}).get("full", {}).get("threshold")
    origin = provenance.facts()
    rate = "not recorded" if eer is None else f"{100 * eer:.2f} %"
    limit = "none" if threshold is None else f"{threshold:.4f}"
    measured = [
        f"- development EER: {rate}",
        f"- threshold on the cosine of whole recordings: {limit}",
        *(f"- {line}" for line in facts.get("measured", [])),
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
        f"- exported {origin['date']} by commit {origin['commit'] or 'unknown'}, Python {origin['python']}",
        f"- {provenance.listed(origin['versions'])}", "",
        "## Intended use",
        "Teaching and research on compressing speech models. Not for decisions about people: error rates "
        "differ between languages, ages, microphones and rooms, and were measured on the speech named "
        f"above only. Licence: {LICENCES}.", "",
    ])  # fmt: skip
