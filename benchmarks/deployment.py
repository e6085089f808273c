"""The student's forward pass against its teacher's: as released, fused, ONNX Runtime, int8.

    python benchmarks/deployment.py [--json] [--quick] [--model M --trials LIST --root DIR]

SSL encoders alone, random weights, 3 s of audio, batch 1. As released: eager attention, float32, weight
norm computed at each call. What int8 costs in EER takes a trained model and a trial list; without
them the EER of an earlier result in the same file stays, with the commit and date of its own.
"""

import sys
import tempfile
from argparse import Namespace
from copy import deepcopy
from pathlib import Path

import measure
import numpy as np
import torch
from torch import Tensor, nn

from oskdft.evaluation import evaluate
from oskdft.lessons.costs import multiply_adds
from oskdft.method.encoder import architecture, build_encoder, fold_weight_norm, hidden_states
from oskdft.method.student import Student
from oskdft.storage import export, int8, onnx_model
from oskdft.utils import provenance
from oskdft.utils.files import read_json

DEVICE = measure.DEVICE
SECONDS = 3.0
CASES = {"base/2": (measure.BASE, 2), "XLSR/4": (measure.LARGE, 4)}
QUICK = {"tiny/1": (measure.TINY, 1)}


class LastState(nn.Module):
    """An encoder, or a student along its verification path: [B, N] -> last hidden state [B, T, D]."""

    def __init__(self, inner: nn.Module, attention: str = "sdpa") -> None:
        super().__init__()
        self.inner = inner
        encoder = inner.encoder if isinstance(inner, Student) else inner
        encoder.set_attn_implementation(attention)

    def forward(self, wave: Tensor) -> Tensor:
        """[B, N] -> [B, T, D]."""
        if isinstance(self.inner, Student):
            return self.inner(wave)[-1]
        return hidden_states(self.inner, wave, keep=(-1,))[0]


def runner(module: nn.Module, wave: Tensor, bf16: bool = False):
    """A call of a torch module without gradients."""

    @torch.no_grad()
    def call() -> None:
        with torch.autocast(DEVICE, torch.bfloat16, enabled=bf16):
            module(wave)

    return call


def case_rows(
    label: str, name: str, layers: int, args: Namespace, peak: float
) -> tuple[list, list]:
    """Rows and comparisons of one student and its teacher."""
    quick = args.quick
    teacher = build_encoder(architecture(name, **measure.STILL)).eval().to(DEVICE)
    student = measure.random_student(name, layers, "linear").student
    slow_teacher, slow = LastState(teacher, "eager"), LastState(deepcopy(student), "eager")
    fast = LastState(fold_weight_norm(deepcopy(student)))
    wave = torch.randn(1, round((0.5 if quick else SECONDS) * 16_000), device=DEVICE) * 0.1
    weights = measure.megabytes(student)
    sizes = {f"{label} teacher, as released": measure.megabytes(teacher)}
    works = {
        f"{label} teacher, as released": runner(slow_teacher, wave),
        f"{label} student, as released": runner(slow, wave),
        f"{label} student, fused, folded": runner(fast, wave),
        f"{label} student, fused, folded, bf16": runner(fast, wave, bf16=True),
    }
    counts = {key: multiply_adds(works[key]) for key in list(works)[:2]}
    rows = []
    if DEVICE == "cuda":
        works[f"{label} student, compiled"] = runner(torch.compile(fast), wave)
    else:
        rows.append(measure.unmeasured(f"{label} student, compiled", "needs a GPU"))
    exact = export.to_onnx(LastState(deepcopy(student).cpu()), "states")
    for kind, content in {"float32": exact, "int8": int8.to_int8(exact)}.items():
        key = f"{label} student, ONNX {kind}, CPU"
        session = onnx_model.session(content)
        feed = {"wave": wave.cpu().numpy()}
        works[key] = lambda session=session, feed=feed: session.run(None, feed)
        sizes[key] = len(content) / 1e6
    taken = measure.interleaved(works, 2 if quick else 9, 45.0)
    one, two = list(works)[:2]
    for key, seconds in taken.items():
        more = {"multiply_adds": counts[one if key == one else two], "peak": peak}
        if "bf16" in key or "int8" in key:  # their arithmetic has another peak
            more = {}
        rate = float(np.median(seconds)) / (wave.shape[1] / 16_000)
        rows.append(
            measure.row(
                key, seconds, megabytes=sizes.get(key, weights), real_time_factor=rate, **more
            )
        )
    return rows, _comparisons(label, taken, sizes)


def _comparisons(label: str, taken: dict[str, list[float]], sizes: dict[str, float]) -> list[dict]:
    teacher, student = list(taken)[:2]
    best = min(list(taken)[2:], key=lambda key: np.median(taken[key]))
    alike = "at least 4.8 on a GPU" if "XLSR" in label else "reported"
    tuned = "at least 6.7 on a CPU" if "XLSR" in label else "reported"
    exact, int8 = (
        sizes[f"{label} student, ONNX float32, CPU"],
        sizes[f"{label} student, ONNX int8, CPU"],
    )
    return [
        measure.comparison(f"{label} student, like for like", taken[teacher], taken[student], alike),
        measure.comparison(
            f"{label} best student ({best.split(', ', 1)[1]}), released teacher",
            taken[teacher], taken[best], tuned,
        ),
        {"name": f"{label} ONNX float32 size over int8 size", "times": exact / int8,
         "target": "at least 3.3"},
    ]  # fmt: skip


def eer_changes(args: Namespace) -> dict:
    """EER of a trained model on a trial list as torch, ONNX float32 and int8; fractions."""
    # names without their folders: a result is read on other machines
    if not args.model:
        return kept_eer(args)
    found: dict = {key: Path(getattr(args, key)).name for key in ("model", "trials")}
    found |= {key: provenance.facts()[key] for key in ("commit", "date")}
    with tempfile.TemporaryDirectory() as folder:
        places = {"torch": args.model}
        for kind in ("onnx", "int8"):
            places[kind] = Path(folder) / kind
            export.export(args.model, kind, places[kind])
        for kind, place in places.items():
            result = evaluate.evaluate(place, Path(args.trials), Path(args.root))
            found[kind] = result["eer"]
            found["number of trials"] = result["trials"]
    return found | {"int8_change": found["int8"] - found["torch"]}


def kept_eer(args: Namespace) -> dict:
    """What an earlier run measured: a full run without a model must not lose it."""
    file = measure.place("deployment", args)
    old = read_json(file) if file.is_file() else {}
    eer = old.get("eer", {})
    since = {key: old[key] for key in ("commit", "date") if eer.get("model")}
    keys = ("model", "trials", "torch", "onnx", "int8", "int8_change", "commit", "date")
    return dict.fromkeys(keys) | since | eer


def run(args: Namespace) -> dict:
    """All rows and comparisons, and the EER of a given model."""
    if len({bool(value) for value in (args.model, args.trials, args.root)}) > 1:
        sys.exit("--model, --trials and --root belong together; give all three, or none")
    rows, comparisons = [], []
    peak = measure.peak(torch.float32, 128 if args.quick else 2_048)
    for label, (name, layers) in (QUICK if args.quick else CASES).items():
        one, two = case_rows(label, name, layers, args, peak)
        rows, comparisons = rows + one, comparisons + two
    return {"rows": rows, "comparisons": comparisons, "eer": eer_changes(args)}


if __name__ == "__main__":
    measure.main("deployment", __doc__, run, "model", "trials", "root")
