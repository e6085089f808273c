"""What a model costs: parameters, multiply-adds and time.

Parameters and multiply-adds need a configuration only: modules are built on the meta device, which
holds shapes and computes nothing. Time is measured.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch.utils.benchmark.utils.timer import timer
from torch.utils.flop_counter import FlopCounterMode

from oskdft.config import SAMPLE_RATE, LossConfig, ModelConfig, Switches
from oskdft.method.backends import EcapaTdnn, WeightedSumLinear
from oskdft.method.encoder import architecture, build_encoder
from oskdft.method.library import PretrainedConfig
from oskdft.method.losses import AamSoftmax
from oskdft.method.model import count
from oskdft.method.student import Student, student_config

ABSTRACT = "abstract of the paper"
RELEASED = "counted on the released classes"
UTTERANCE_S = 3.0  # length of the utterance that `encoder_costs` counts multiply-adds for
# label, architecture of the teacher, layers of the student
PUBLISHED_STUDENTS = (
    ("XLSR-53", "facebook/wav2vec2-large-xlsr-53", 4),
    ("HuBERT-base", "facebook/hubert-base-ls960", 2),
    ("WavLM-base+", "microsoft/wavlm-base-plus", 2),
    ("W2V2-base", "facebook/wav2vec2-base", 2),
)
PUBLISHED_COUNTS = {  # METHOD.md section 3
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

    Returns:
        {"parts": [{name, parameters, published, source}], "reductions": [{name, from, to, reduction,
        published, source}]}; a reduction is a fraction of the larger side; `published` and `source`
        are None where no figure is published.
    Source: METHOD.md section 3.

    >>> sizes()["parts"][0]["parameters"]
    315438720
    """
    with torch.device("meta"):
        counts = _part_counts()
    parts = []
    for name, parameters in counts.items():
        published = PUBLISHED_COUNTS.get(name)
        source = RELEASED if published else None
        row = {"name": name, "parameters": parameters, "published": published, "source": source}
        parts.append(row)
    return {"parts": parts, "reductions": _reductions(counts)}


def _part_counts() -> dict[str, int]:
    """Part -> number of parameters."""
    counts = {}
    for label, name, layers in PUBLISHED_STUDENTS:
        config = architecture(name)
        model = ModelConfig(student_layers=layers, adapter_norm=label == "XLSR-53")
        student = Student(student_config(config, layers), model, Switches())
        adapters = count(student.adapters)
        counts[f"{label} teacher"] = count(build_encoder(config))
        counts[f"{label} student, {layers} layers"] = count(student) - adapters
        counts[f"{label} adapters"] = adapters
        counts[f"{label} student with adapters"] = count(student)
    for channels in (512, 1024):
        counts[f"ECAPA-TDNN C={channels}"] = count(EcapaTdnn(1024, channels, 192, False))
    counts["AAM classifier 5994 x 192"] = count(AamSoftmax(192, 5994, LossConfig()))
    linear = WeightedSumLinear(768, 2, 192, False)
    # the published count leaves out the L+1 layer weights
    counts["Linear back-end"] = count(linear.linear) + count(linear.norm)
    return counts


def _reductions(counts: dict[str, int]) -> list[dict]:
    """Teacher and student of each family, alone and with the back-end of its release."""
    rows = []
    for label, _, _ in PUBLISHED_STUDENTS:
        teacher, student = counts[f"{label} teacher"], counts[f"{label} student with adapters"]
        alone = _reduction(f"{label} alone", teacher, student)
        if label == "XLSR-53":
            ecapa = counts["ECAPA-TDNN C=512"]
            whole = _reduction("XLSR-53 + ECAPA", teacher + ecapa, student + ecapa)
            rows += [whole | {"published": 0.762, "source": ABSTRACT}, alone]
        else:
            linear = counts["Linear back-end"]
            name = f"{label} + linear back-end"
            rows += [alone, _reduction(name, teacher + linear, student + linear)]
    return rows


def _reduction(name: str, large: int, small: int) -> dict:
    row = {"name": name, "from": large, "to": small, "reduction": 1 - small / large}
    return row | {"published": None, "source": None}


def sizes_table(result: dict) -> str:
    """`sizes()` as text.

    >>> table = sizes_table(sizes())
    >>> "315,438,720" in table and "77.4 %" in table
    True
    """
    lines = [f"{'part':34}{'parameters':>14}{'published':>14}  source"]
    for row in result["parts"]:
        published = f"{row['published']:,}" if row["published"] else "-"
        numbers = f"{row['parameters']:>14,}{published:>14}"
        lines.append(f"{row['name']:34}{numbers}  {row['source'] or '-'}")
    lines += ["", f"{'system':34}{'from':>14}{'to':>14}{'reduction':>11}{'published':>11}  source"]
    for row in result["reductions"]:
        published = f"-{100 * row['published']:.1f} %" if row["published"] else "-"
        numbers = f"{row['from']:>14,}{row['to']:>14,}{-100 * row['reduction']:>9.1f} %"
        lines.append(f"{row['name']:34}{numbers}{published:>11}  {row['source'] or '-'}")
    lines += [
        "",
        "Counted on random weights at published sizes. The abstract's -76.2 % is not reproduced by any",
        "natural definition on the released code, which gives about -77.4 %; both are printed, "
        "neither is tuned.",
    ]
    return "\n".join(lines)


def multiply_adds(function: Callable[..., object], *args: object) -> int:
    """Multiplications with an addition that a call makes in matrix products and convolutions.

    Norms, activations and sums are left out: they are a small part. Put modules and inputs on the
    meta device: nothing is computed there, and attention is counted in full.

    >>> multiply_adds(torch.nn.Linear(20, 3), torch.zeros(5, 20))
    300
    """
    with FlopCounterMode(display=False) as counter:
        function(*args)
    return counter.get_total_flops() // 2


@torch.no_grad()
def encoder_costs(config: PretrainedConfig) -> list[dict]:
    """Parameters and multiply-adds of each part of an encoder for one utterance of 3 s.

    Args:
        config: of the encoder, such as `method.encoder.architecture` returns.
    Returns:
        [{"part", "parameters", "multiply_adds"}]: CNN, projection, positions (with the encoder's
        norm and the mask vector), then layers 1 to L.

    >>> rows = encoder_costs(architecture("facebook/wav2vec2-large-xlsr-53"))
    >>> round(sum(row["multiply_adds"] for row in rows) / 1e9, 1)
    54.8
    """
    with torch.device("meta"):
        encoder = build_encoder(config).eval()
        wave = torch.zeros(1, round(UTTERANCE_S * SAMPLE_RATE))
    with FlopCounterMode(display=False) as counter:
        encoder(wave)
    operations = counter.get_flop_counts()  # by module
    modules = {
        "CNN": "feature_extractor",
        "projection": "feature_projection",
        "positions": "encoder.pos_conv_embed",
    }
    for number in range(len(encoder.encoder.layers)):
        modules[f"layer {number + 1}"] = f"encoder.layers.{number}"
    rows = []
    for part, module in modules.items():
        parameters = count(encoder.get_submodule(module))
        work = sum(operations[f"{type(encoder).__name__}.{module}"].values()) // 2
        rows.append({"part": part, "parameters": parameters, "multiply_adds": work})
    rows[2]["parameters"] += count(encoder) - sum(row["parameters"] for row in rows)
    return rows


def median_seconds(calls: dict[str, Callable[[], object]], repeats: int = 9) -> dict[str, float]:
    """Median time of each call [s]; the calls take turns, so that a busy moment slows all of them.

    Args:
        calls: name -> a function without arguments; each runs once before the clock starts.
        repeats: rounds; the median of an odd number is one of the times.
    Raises:
        ValueError: repeats is below 1.

    >>> import time
    >>> times = median_seconds({"nothing": lambda: None, "sleep": lambda: time.sleep(0.01)}, 3)
    >>> times["sleep"] >= 0.01 > times["nothing"]
    True
    """
    if repeats < 1:
        raise ValueError(f"repeats is {repeats}; measure at least once")
    for call in calls.values():
        call()
    times = {name: [] for name in calls}
    order = np.random.default_rng(0)
    for _ in range(repeats):
        for name in order.permutation(list(calls)):  # a fixed order could follow a periodic load
            start = timer()  # waits until a GPU has finished its queued work
            calls[name]()
            times[name].append(timer() - start)
    return {name: float(np.median(seconds)) for name, seconds in times.items()}
