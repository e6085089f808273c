"""Export of a trained model: safetensors folder, ONNX in float32, ONNX with int8 weights, torch program.

An export holds the verification path, a model card and model.json, without paths of this machine and
without names of speakers. `oskdft.load` reads the first three forms; the last one needs torch alone. The
safetensors folder also holds the student's encoder as plain transformers opens it. What is computed in
another way is compared with its original before it is written.
"""

import copy
import hashlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from oskdft.config import SAMPLE_RATE, to_dict, without_places
from oskdft.method.encoder import fold_weight_norm
from oskdft.method.library import AttentionInterface, AutoModel
from oskdft.method.model import SpeakerModel, count
from oskdft.method.student import Student
from oskdft.storage import hub
from oskdft.storage.card import card
from oskdft.storage.description import WEIGHTS, digests
from oskdft.storage.domain import FILE as DOMAIN
from oskdft.storage.domain import load_domain
from oskdft.storage.int8 import to_int8
from oskdft.storage.model_folder import (
    PROGRAM,
    annotate,
    load_model,
    model_folder,
    save_model,
    unfinished_run,
)
from oskdft.storage.new_folder import new_folder
from oskdft.storage.onnx_model import FILE, remember, require, session
from oskdft.utils import provenance
from oskdft.utils.files import atomic, require_new_folder, sha256, write_json

FORMATS = ("hf", "onnx", "int8", "torch")
ENCODER = "encoder"  # folder of the encoder alone, for plain transformers
OPSET = 17
BY_HEAD = "by_head"  # name of `_attention_by_head` in transformers
LARGEST_DIFFERENCE = 1e-4  # between an entry of an exported embedding or state and the original
CHECKED_BATCHES = ((2, 1.0), (1, 2.6))  # (B, seconds) of `compare`: two batch sizes, two lengths


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
    source = model_folder(name)
    if unfinished := unfinished_run(source):
        raise ValueError(unfinished)
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
            _for_export(module).requires_grad_(False),
            (torch.zeros(1, SAMPLE_RATE),),
            dynamic_shapes={"wave": {1: torch.export.Dim.DYNAMIC}},
        )


def _for_export(module: nn.Module) -> nn.Module:
    """A copy of a module in the plain operations that every runtime knows, with one argument."""
    module = fold_weight_norm(copy.deepcopy(module)).eval()
    for part in module.modules():
        if hasattr(part, "set_attn_implementation"):
            part.set_attn_implementation(BY_HEAD)
    return _WaveOnly(module)


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
    content = to_onnx(model)
    report = {"float32_bytes": len(content)}
    cosine, largest = compare(model, content)
    _refuse_difference("ONNX model", largest)
    if int8:
        content = to_int8(content, folder)
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
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of traced shapes: `compare` checks that they stay free
        torch.onnx.export(
            _for_export(module),
            (torch.zeros(2, SAMPLE_RATE),),
            file,
            dynamo=False,
            opset_version=OPSET,
            input_names=["wave"],
            output_names=[output],
            dynamic_axes={"wave": {0: "B", 1: "N"}, output: {0: "B"}},
        )
    return file.getvalue()


def compare(
    module: nn.Module, other: bytes | Callable[[torch.Tensor], torch.Tensor]
) -> tuple[float, float]:
    """Compare an exported model with its module on fixed noise.

    Args:
        module: on the CPU. other: content of an ONNX file, or what maps the same wave to the same output.
    Returns:
        (smallest cosine, largest absolute difference) of their outputs.
    """
    run = other
    if isinstance(other, bytes):
        onnx = session(other)

        def run(wave: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(onnx.run(None, {"wave": wave.numpy()})[0])

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
