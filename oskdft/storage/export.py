"""Export of a trained model: safetensors folder, ONNX in float32, ONNX with int8 weights, torch program.

An export holds the verification path, a model card and model.json, without paths of this machine and
without names of speakers. `oskdft.load` reads the first three forms; the last one needs torch alone. The
safetensors folder also holds the student's encoder as plain transformers opens it. What is computed in
another way is compared with its original before it is written.
"""

import contextlib
import copy
import hashlib
import io
import logging
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import AttentionInterface, AutoModel

from oskdft.config import SAMPLE_RATE, Config, changes, to_dict, without_places
from oskdft.method.encoder import fold_weight_norm
from oskdft.method.model import SpeakerModel, count
from oskdft.method.student import Student
from oskdft.storage import hub
from oskdft.storage.description import WEIGHTS, digests
from oskdft.storage.domain import FILE as DOMAIN
from oskdft.storage.domain import load_domain
from oskdft.storage.model_folder import PROGRAM, annotate, load_model, model_folder, save_model
from oskdft.storage.new_folder import new_folder
from oskdft.storage.onnx_model import FILE, remember, require, session
from oskdft.utils import provenance
from oskdft.utils.files import ASSETS, atomic, require_new_folder, sha256, write_json
from oskdft.utils.named_code import is_named

FORMATS = ("hf", "onnx", "int8", "torch")
ENCODER = "encoder"  # folder of the encoder alone, for plain transformers
OPSET = 17
BY_HEAD = "by_head"  # name of `_attention_by_head` in transformers
LARGEST_DIFFERENCE = 1e-4  # between an entry of an exported embedding or state and the original
CHECKED_BATCHES = ((2, 1.0), (1, 2.6))  # (B, seconds) of `compare`: two batch sizes, two lengths
LONGEST_LINE = 500  # characters of a value in a model card
LICENCES = (
    "the code is MIT; weights also carry the terms of the teacher and the speech they learnt from"
)


def export(name: str | Path, to: str, out: str | Path, push: str = "") -> dict:
    """Write a model in a form for other programs.

    Args:
        name: run folder, exported safetensors folder, or the name of a shipped student.
        to: "hf", "onnx", "int8" or "torch".
        out: a new folder.
        push: USER/NAME of a new repository on the Hugging Face hub that receives the folder; needs a
            token. Empty: nothing is sent.
    Returns:
        "format", "parameters", "files" name -> bytes; "largest_difference" to the original: for hf of the
        encoder's states, as a share of the largest one, else of embeddings, see `compare`. For ONNX and
        torch also "cosine_to_torch", for ONNX "float32_bytes" and "bytes"; with ``push`` "address".
    Raises:
        ValueError: unknown format, no such model, a folder that is not empty, no token, or a result that
            differs from the original.
        ImportError: onnx or onnxruntime is missing; names the command that installs it.
    """
    if to not in FORMATS:
        raise ValueError(f"--to is {to!r}; choose {', '.join(FORMATS)}")
    if to in ("onnx", "int8"):
        require("onnx", "onnxruntime")
    require_new_folder(out)
    repository = hub.Repository(push) if push else None  # refused before any work
    shipped = ASSETS / str(name)
    source = model_folder(shipped if shipped.is_dir() else name)
    model, cfg, described = load_model(source)
    cfg = without_places(cfg)
    domain = load_domain(source, described)
    # an exported model keeps the number of its training speakers, not their names
    facts = {"training_speakers": len(described.get("speakers", []))} | described | {"format": to}
    facts = {k: v for k, v in facts.items() if k not in ("config", "speakers", "files_sha256")}
    facts |= {"weights_sha256": sha256(source / WEIGHTS)}  # what it was made from
    with new_folder(Path(out)) as folder:
        report = {"format": to, "parameters": count(model)}
        if to == "hf":
            report |= _write_encoder(folder / ENCODER, model.student)
            save_model(folder, model, cfg, [], facts | {"exported": provenance.facts()})
        else:
            report |= (
                _write_program(folder, model)
                if to == "torch"
                else _write_onnx(folder, model, to == "int8")
            )
            facts |= {"exported": provenance.facts(), "check": report}
            write_json(folder / "model.json", {"config": to_dict(cfg), "speakers": []} | facts)
        if domain:
            domain.save(folder)
        annotate(folder, digests(folder, FILE, PROGRAM, DOMAIN))
        written = sorted(path for path in folder.rglob("*") if path.is_file())
        files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in written}
        with atomic(folder / "README.md") as file:
            file.write(card(cfg, model, facts, report, files))
    report |= {"files": files}
    return report | {"address": repository.push(out)} if repository else report


def _write_encoder(folder: Path, student: Student) -> dict:
    """Write the student's encoder for AutoModel, open it again and compare its states.

    Raises:
        ValueError: its states differ from the distillation path of the student.
    """
    student.encoder.save_pretrained(folder)
    opened = AutoModel.from_pretrained(folder, trust_remote_code=False).eval()

    def states(wave: torch.Tensor) -> torch.Tensor:
        output = opened(wave, output_hidden_states=True)
        return torch.stack([*output.hidden_states[:-1], output.last_hidden_state])

    wave = _noise(np.random.default_rng(0), *CHECKED_BATCHES[0])
    with torch.no_grad():
        own = student(wave, distilled_rows=len(wave))
        # states of pre-norm models reach thousands, so the difference is one to the largest state
        largest = float((states(wave) - own).abs().max() / own.abs().max())
    _refuse_difference("encoder", largest)
    return {"largest_difference": largest}


def _refuse_difference(what: str, largest: float) -> None:
    if not largest <= LARGEST_DIFFERENCE:
        raise ValueError(
            f"the {what} differs from the original by {largest:.1e}, more than "
            f"{LARGEST_DIFFERENCE:g}; not written"
        )


def _write_program(folder: Path, model: SpeakerModel) -> dict:
    """Write model.pt2 after its check; return the differences."""
    program = to_program(model)
    run = program.module()
    cosine, largest = compare(model, lambda wave: torch.cat([run(row[None]) for row in wave]))
    _refuse_difference("torch program", largest)
    torch.export.save(program, folder / PROGRAM)
    return {"cosine_to_torch": cosine, "largest_difference": largest}


def to_program(module: nn.Module) -> torch.export.ExportedProgram:
    """Program of a module that maps the waveform of one recording [1, N] to its embedding; N stays free.

    `torch.export.load` reads it where this package is not installed. The number of rows is fixed, because
    the attention of WavLM cannot be traced for one row and for several rows at once.

    Args:
        module: in evaluation mode, on the CPU; it is not changed.
    """
    with torch.no_grad():
        return torch.export.export(
            _WaveOnly(_for_export(module).requires_grad_(False)),
            (torch.zeros(1, SAMPLE_RATE),),
            dynamic_shapes={"wave": {1: torch.export.Dim.DYNAMIC}},
        )


def _for_export(module: nn.Module) -> nn.Module:
    """A copy of a module in the plain operations that every runtime knows."""
    module = fold_weight_norm(copy.deepcopy(module)).eval()
    for part in module.modules():
        if hasattr(part, "set_attn_implementation"):
            part.set_attn_implementation(BY_HEAD)
    return module


def _attention_by_head(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Attention in matrix products, one head after the other: [B, H, T, d] each -> [B, T, H, d].

    A runtime keeps the [T, T] weights of one head at a time. WavLM has an attention of its own.
    """
    heads = []
    for head in range(module.num_heads):
        weights = query[:, head] @ key[:, head].transpose(1, 2) * scaling
        if attention_mask is not None:
            weights = weights + attention_mask[:, 0]
        heads.append(weights.softmax(-1) @ value[:, head])
    return torch.stack(heads, 2), None


AttentionInterface.register(BY_HEAD, _attention_by_head)


def _write_onnx(folder: Path, model: SpeakerModel, int8: bool) -> dict:
    """Write model.onnx after its check; return sizes and differences."""
    exact = to_onnx(model)
    report = {"float32_bytes": len(exact)}
    _, largest = compare(model, exact)
    _refuse_difference("ONNX model", largest)
    content = to_int8(exact, folder) if int8 else exact
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
    module = _for_export(module)
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


def compare(
    module: nn.Module, other: bytes | Callable[[torch.Tensor], torch.Tensor]
) -> tuple[float, float]:
    """Compare an exported model with its module on fixed noise.

    Args:
        module: on the CPU. other: content of an ONNX file, or what maps the same wave to the same output.
    Returns:
        (smallest cosine, largest absolute difference) of their outputs.
    """
    run = _run_onnx(other) if isinstance(other, bytes) else other
    cosines = []
    largest = 0.0
    rng = np.random.default_rng(0)
    for batch, seconds in CHECKED_BATCHES:
        wave = _noise(rng, batch, seconds)
        with torch.no_grad():
            ours = module(wave).reshape(batch, -1)
            theirs = run(wave).reshape(batch, -1)
        cosines.append(float(torch.cosine_similarity(ours, theirs).min()))
        largest = max(largest, float((ours - theirs).abs().max()))
    return min(cosines), largest


def _noise(rng: np.random.Generator, batch: int, seconds: float) -> torch.Tensor:
    """Noise [B, N] at 16 kHz."""
    samples = round(seconds * SAMPLE_RATE)
    return torch.from_numpy(rng.normal(0, 0.1, (batch, samples)).astype(np.float32))


def _run_onnx(content: bytes) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function that runs an ONNX model."""
    onnx = session(content)
    return lambda wave: torch.from_numpy(onnx.run(None, {"wave": wave.numpy()})[0])


def escaped(value: object) -> str:
    """A value of unknown origin as one line of Markdown that is shown as it is.

    >>> print(escaped("<b>two\\nlines</b> [x](y)"))
    \\<b\\>two lines\\</b\\> \\[x\\](y)
    """
    line = " ".join(str(value).split())
    return re.sub(r"([\\`*_\[\]<>|~&$#])", r"\\\1", line[:LONGEST_LINE])


VERIFIER = (
    "```python", "import oskdft", "", 'verifier = oskdft.load("this/folder")',
    'print(verifier.verify("a.wav", "b.wav"))', "```", "",
)  # fmt: skip
USE = {  # lines of the card by format
    "hf": (
        *VERIFIER,
        "## The encoder alone",
        "`encoder/` is the student's encoder without adapters and back-end, as plain transformers opens it. "
        "It is the distillation path, which imitates the teacher: hidden states of speech for other tasks. "
        "It gives no speaker embeddings; these need adapters and back-end, and so this package.", "",
        "```python", "from transformers import AutoModel", "",
        'encoder = AutoModel.from_pretrained("this/folder/encoder")',
        'encoder = AutoModel.from_pretrained("user/name", subfolder="encoder")  # from the hub',
        "output = encoder(wave, output_hidden_states=True)  # wave [B, N], as above, not normalised",
        "```", "",
    ),
    "onnx": VERIFIER,
    "int8": VERIFIER,
    "torch": (
        "```python", "import torch", "", 'program = torch.export.load("this/folder/model.pt2").module()',
        "embedding = program(wave)  # wave [1, N]: one recording", "```", "",
        "It needs torch alone. `oskdft.load` does not read it: evaluate the run folder.", "",
    ),
}  # fmt: skip


def _named_code(backend: str, to: str) -> list[str]:
    """The lines of a card about a back-end that is code outside the package."""
    if to != "hf" or not is_named(backend):
        return []
    module = backend.partition(":")[0]  # its form allows no markup
    return [
        f"The back-end is code that this folder does not hold: `{backend}`. Get it from its author, read "
        f"it, and set `OSKDFT_TRUST={module}`.",
        "",
    ]


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
        f"of {settings.adapter_units} units, back-end {escaped(settings.backend)}, embedding "
        f"{settings.embedding}"
    )
    eer = facts.get("dev_eer")
    threshold = facts.get("calibration", {}).get("full", {}).get("threshold")
    origin = provenance.facts()
    rate = "not recorded" if eer is None else f"{100 * eer:.2f} %"
    limit = "none" if threshold is None else f"{threshold:.4f}"
    measured = [
        f"- development EER: {rate}",
        f"- threshold on the cosine of whole recordings: {limit}",
        *(f"- {escaped(line)}" for line in facts.get("measured", [])),
    ]
    if "cosine_to_torch" in report:
        measured.append(
            f"- smallest cosine to the torch model on noise: {report['cosine_to_torch']:.6f}"
        )
    if "float32_bytes" in report:
        measured.append(
            f"- size: {report['bytes'] / report['float32_bytes']:.1%} of the float32 ONNX file"
        )
    return "\n".join([
        "---", "library_name: oskdft", "tags: [speaker-verification, knowledge-distillation]", "---",
        f"# Speaker verification, {escaped(cfg.strategy)}, {report['format']}", "",
        f"{shape}; {report['parameters']:,} parameters. Takes a waveform [B, N] at 16 kHz in [-1, 1], "
        "gives embeddings; compare two with the cosine.", "",
        *USE[report["format"]], *_named_code(settings.backend, report["format"]),
        "## Recipe", *(f"- {key}: {escaped(value)}" for key, value in recipe.items()), "",
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
