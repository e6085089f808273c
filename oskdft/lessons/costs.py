"""What models cost: parameters, reductions, multiply-adds, from configurations alone; zero-shot EER."""

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import PretrainedConfig

from oskdft.config import SAMPLE_RATE, LossConfig, ModelConfig, Switches
from oskdft.method.backends import EcapaTdnn, WeightedSumLinear
from oskdft.method.encoder import (
    add_positions,
    architecture,
    attend,
    build_encoder,
    cnn,
    finish_layer,
    is_pre_norm,
    project,
)
from oskdft.method.losses import AamSoftmax
from oskdft.method.model import count
from oskdft.method.student import Student, student_config

ABSTRACT = "abstract of the paper"
RELEASED = "counted on the released classes"
# label, architecture, student layers
FAMILIES = (
    ("XLSR-53", "facebook/wav2vec2-large-xlsr-53", 4),
    ("HuBERT-base", "facebook/hubert-base-ls960", 2),
    ("WavLM-base+", "microsoft/wavlm-base-plus", 2),
    ("W2V2-base", "facebook/wav2vec2-base", 2),
)
PUBLISHED_COUNTS = {  # METHOD.md section 3; the reductions beside them follow from these
    "XLSR-53 teacher": 315_438_720,
    "XLSR-53 student with adapters": 64_051_072,
    "XLSR-53 adapters": 536_832,
    "ECAPA-TDNN C=512": 9_394_816,
    "ECAPA-TDNN C=1024": 20_277_824,
    "AAM classifier 5994 x 192": 1_150_848,
    "HuBERT-base teacher": 94_371_712,
    "HuBERT-base student with adapters": 23_691_264,
    "WavLM-base+ teacher": 94_381_936,
    "WavLM-base+ student with adapters": 23_696_168,
    "W2V2-base teacher": 94_371_712,
    "W2V2-base student with adapters": 23_691_264,
    "Linear back-end": 295_488,
}


def sizes() -> dict:
    """Parameters and reductions at published sizes, beside the published figures.

    No weights are read: modules are built on the meta device, which holds shapes only.

    Returns:
        {"parts": [{name, parameters, published, source}], "reductions": [...]}; reductions are
        fractions of the larger side, `published` is None where nothing is known.
    """
    with torch.device("meta"):
        parts = _parts()
    by_name = {p["name"]: p["parameters"] for p in parts}
    return {"parts": parts, "reductions": _reductions(by_name)}


def _parts() -> list[dict]:
    parts = []

    def add(name: str, parameters: int) -> None:
        published = PUBLISHED_COUNTS.get(name)
        parts.append(
            {
                "name": name,
                "parameters": parameters,
                "published": published,
                "source": published and RELEASED,
            }
        )

    for label, name, layers in FAMILIES:
        config = architecture(name)
        model = ModelConfig(student_layers=layers, adapter_norm=label == "XLSR-53")
        student = Student(student_config(config, layers), model, Switches())
        adapters = count(student.adapters)
        add(f"{label} teacher", count(build_encoder(config)))
        add(f"{label} student, {layers} layers", count(student) - adapters)
        add(f"{label} adapters", adapters)
        add(f"{label} student with adapters", count(student))
    for channels in (512, 1024):
        add(f"ECAPA-TDNN C={channels}", count(EcapaTdnn(1024, channels, 192, False)))
    add("AAM classifier 5994 x 192", count(AamSoftmax(192, 5994, LossConfig())))
    linear = WeightedSumLinear(768, 2, 192, False)
    add(
        "Linear back-end", count(linear.linear) + count(linear.norm)
    )  # without the L+1 layer weights
    return parts


def _reductions(n: dict[str, int]) -> list[dict]:
    def reduction(
        name: str, large: int, small: int, published: float | None = None, source: str | None = None
    ) -> dict:
        return {
            "name": name, "from": large, "to": small, "reduction": 1 - small / large,
            "published": published, "source": source,
        }  # fmt: skip

    ecapa, linear = n["ECAPA-TDNN C=512"], n["Linear back-end"]
    teacher, student = n["XLSR-53 teacher"], n["XLSR-53 student with adapters"]
    rows = [
        reduction("XLSR-53 + ECAPA", teacher + ecapa, student + ecapa, 0.762, ABSTRACT),
        reduction("XLSR-53 alone", teacher, student),
    ]
    for label, _, _ in FAMILIES[1:]:
        teacher, student = n[f"{label} teacher"], n[f"{label} student with adapters"]
        rows.append(reduction(f"{label} alone", teacher, student))
        rows.append(reduction(f"{label} + linear back-end", teacher + linear, student + linear))
    return rows


def sizes_table(result: dict) -> str:
    """`sizes()` as text.

    >>> table = sizes_table(sizes())
    >>> "315,438,720" in table and "77.4 %" in table
    True
    """
    lines = [f"{'part':34}{'parameters':>14}{'published':>14}  source"]
    for p in result["parts"]:
        published = f"{p['published']:,}" if p["published"] else "-"
        lines.append(f"{p['name']:34}{p['parameters']:>14,}{published:>14}  {p['source'] or '-'}")
    lines += ["", f"{'system':34}{'from':>14}{'to':>14}{'reduction':>11}{'published':>11}  source"]
    for r in result["reductions"]:
        published = f"-{100 * r['published']:.1f} %" if r["published"] else "-"
        lines.append(
            f"{r['name']:34}{r['from']:>14,}{r['to']:>14,}{-100 * r['reduction']:>9.1f} %{published:>11}"
            f"  {r['source'] or '-'}"
        )
    lines += [
        "",
        "Counted on random weights at published sizes. The abstract's -76.2 % is not reproduced by any",
    ]
    lines += [
        "natural definition on the released code, which gives about -77.4 %; both are printed, "
        "neither is tuned."
    ]
    return "\n".join(lines)


def multiply_adds(function: Callable[..., object], *args: object) -> int:
    """Multiplications with an addition that a call makes in matrix products and convolutions.

    Norms, activations and sums are left out: they are a small part. Put modules and inputs on the
    meta device: nothing is computed there, and attention is counted in full.

    >>> multiply_adds(nn.Linear(20, 3), torch.zeros(5, 20))
    300
    """
    with FlopCounterMode(display=False) as counter:
        function(*args)
    return counter.get_total_flops() // 2


@torch.no_grad()
def costs(config: PretrainedConfig, seconds: float = 3.0) -> list[dict]:
    """Parameters and multiply-adds of each part of an encoder for one utterance; no weights needed.

    Args:
        config: of the encoder, such as `teacher.architecture` gives. seconds: of speech at 16 kHz.
    Returns:
        [{"part", "parameters", "multiply_adds"}]: CNN, projection, positions (with the encoder's
        norm and the mask vector), then layers 1 to L.

    >>> rows = costs(architecture("facebook/wav2vec2-large-xlsr-53"))
    >>> round(sum(row["multiply_adds"] for row in rows) / 1e9, 1)
    54.8
    """
    with torch.device("meta"):
        encoder = build_encoder(config).eval()
        wave = torch.zeros(1, round(seconds * SAMPLE_RATE))
        features = cnn(encoder, wave)
        projected = project(encoder, features)

    def through(layer: nn.Module, hidden: torch.Tensor, bias: torch.Tensor | None) -> tuple:
        hidden, bias = attend(layer, hidden, None, bias, is_pre_norm(encoder))
        return finish_layer(layer, hidden, is_pre_norm(encoder)), bias

    def row(part: str, parameters: int, function: Callable[..., object], *args: object) -> dict:
        made = multiply_adds(function, *args)
        return {"part": part, "parameters": parameters, "multiply_adds": made}

    rows = [
        row("CNN", count(encoder.feature_extractor), cnn, encoder, wave),
        row("projection", count(encoder.feature_projection), project, encoder, features),
    ]
    layers, bias = encoder.encoder.layers, None
    rest = count(encoder) - count(layers) - sum(r["parameters"] for r in rows)
    rows.append(row("positions", rest, add_positions, encoder, projected, None))
    for number, layer in enumerate(layers, 1):
        rows.append(row(f"layer {number}", count(layer), through, layer, projected, bias))
        bias = through(layer, projected, bias)[1]  # WavLM's first layer makes it for all
    return rows


def median_seconds(calls: dict[str, Callable[[], object]], repeats: int = 9) -> dict[str, float]:
    """Median time of each call [s]; the calls take turns, so that a busy moment hits all of them.

    Args:
        calls: name -> a function without arguments; each runs once before the clock starts.
        repeats: rounds; the median of an odd number is one of the times.
    Raises:
        ValueError: no round to measure.

    >>> times = median_seconds({"nothing": lambda: None, "sleep": lambda: time.sleep(0.01)}, 3)
    >>> times["sleep"] >= 0.01 > times["nothing"]
    True
    """
    if repeats < 1:
        raise ValueError(f"repeats is {repeats}; measure at least once")
    for call in calls.values():
        call()
    taken = {name: [] for name in calls}
    order = np.random.default_rng(0)
    for _ in range(repeats):
        for name in order.permutation(
            list(calls)
        ):  # a fixed order could follow a neighbour's rhythm
            _wait()
            began = time.perf_counter()
            calls[name]()
            _wait()
            taken[name].append(time.perf_counter() - began)
    return {name: float(np.median(times)) for name, times in taken.items()}


def _wait() -> None:
    """A GPU works behind the program's back; time counts when it is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
