"""What a training of the published recipes would cost on 1, 8 and 32 GPUs: planned, from counts.

    python benchmarks/scale.py [--json] [--utilisation 0.3] [--price 3]

Counted on the meta device, where nothing is computed: multiply-adds of one training step (teacher
forward, both paths of the student, back-end, losses, backward), bytes that the backward pass keeps,
parameters. Taken from elsewhere: size of the corpora (VoxCeleb's own pages), peak of an H100
(its data sheet, dense), rate of the loader (results/pipeline-*.json). Assumed: the share of the peak that is
reached, the price of an hour. No row was measured on a GPU.
"""

import argparse
import json
import math
from pathlib import Path

import measure
import torch
from torch import Tensor

from oskdft import config
from oskdft.lessons.costs import multiply_adds
from oskdft.method import losses
from oskdft.method.encoder import architecture, build_encoder
from oskdft.method.model import count, new_model
from oskdft.method.objective import total_loss
from oskdft.method.teacher import Teacher
from oskdft.utils.files import read_json

RESULTS = Path(__file__).parent / "results"
CORPORA = {  # profile -> utterances, speakers, mean seconds (Nagrani et al. 2017, Chung et al. 2018)
    "vox1": (148_642, 1_211, 8.2),
    "vox2": (1_092_009, 5_994, 7.8),
}
PEAK = {"float32": 67e12, "bf16": 989e12}  # H100 SXM, dense, floating-point operations per second
GPUS = (1, 8, 32)
ADAM_BYTES = 16  # per trained parameter in float32: weight, gradient, two moments
WAV_BYTES = 32_000  # per second of 16-bit audio


def counted(profile: str) -> dict[str, float]:
    """Work and memory of a step, per utterance, and of the weights."""
    cfg = config.load(profile)
    samples = round(cfg.data.crop_s * config.SAMPLE_RATE)
    with torch.device("meta"):
        encoder = build_encoder(architecture(cfg.model.teacher, **measure.STILL))
        teacher = Teacher(encoder)
        model = new_model(cfg, encoder).train()
        width = encoder.config.hidden_size
        kd = losses.build_kd_loss(cfg.loss, cfg.switches, width, width)
        speakers = torch.ones(CORPORA[profile][1])
        sv = losses.build_sv_loss(cfg.loss, cfg.model.embedding, speakers)
        wave = torch.zeros(2, samples)  # batch normalisation needs two
        label = torch.zeros(2, dtype=torch.long)
    kept = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage.nbytes()
        return tensor

    def step() -> None:
        target = teacher(wave, keep=kd.layers)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            imitated, states = model.student.forward_two_paths(wave)
            speaker, _ = sv(model.backend(states), label)
            total = total_loss({"kd": kd(imitated, target), "sv": speaker}, 1.0)
        total.backward()

    trained = count(model) + count(kd) + count(sv)
    weights = {
        parameter.untyped_storage()._cdata for m in (model, kd, sv) for parameter in m.parameters()
    }
    work = multiply_adds(step) / 2
    activations = sum(size for key, size in kept.items() if key not in weights) / 2
    return {
        "multiply_adds": work,
        "activation_bytes": activations,
        "weight_bytes": 4 * count(encoder) + ADAM_BYTES * trained,
    }


def plan(profile: str, utilisation: float, price: float) -> list[dict]:
    """A row for each number of GPUs and precision."""
    cfg, own = config.load(profile), counted(profile)
    utterances, _, mean_s = CORPORA[profile]
    crops = utterances * cfg.train.epochs
    loader = (
        "loader, release P, 1 worker" if profile == "vox2" else "loader, no augmentation, 1 worker"
    )
    pipeline = read_json(next(RESULTS.glob("pipeline-*.json")))
    per_worker = next(row["per_s"] for row in pipeline["rows"] if row["name"] == loader)
    rows = []
    for precision, peak in PEAK.items():
        for gpus in GPUS:
            rate = gpus * peak * utilisation / (2 * own["multiply_adds"])  # crops per second
            share = math.ceil(cfg.train.batch / gpus)
            rows.append(
                {
                    "profile": profile,
                    "gpus": gpus,
                    "precision": precision,
                    "multiply_adds_per_crop": own["multiply_adds"],
                    "hours": crops / rate / 3600,
                    "crops_per_s": rate,
                    "loader_workers": math.ceil(rate / per_worker),
                    # activations are counted in float32; bf16 autocast keeps about as much
                    "gigabytes_per_gpu": (own["weight_bytes"] + share * own["activation_bytes"])
                    / 1e9,
                    "wav_gigabytes": utterances * mean_s * WAV_BYTES / 1e9,
                    "money": gpus * crops / rate / 3600 * price,
                }
            )
    return rows


def markdown(rows: list[dict]) -> str:
    """The table for docs/scale.md."""
    lines = [
        "| profile | GPUs | arithmetic | crops per s | time | loader processes | memory of each | money |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        hours = f"{row['hours']:.0f} h" if row["hours"] >= 10 else f"{row['hours']:.1f} h"
        lines.append(
            f"| {row['profile']} | {row['gpus']} | {row['precision']} | {row['crops_per_s']:,.0f} | "
            f"{hours} | {row['loader_workers']} | {row['gigabytes_per_gpu']:.0f} GB | "
            f"{row['money']:,.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Print the plan."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--utilisation", type=float, default=0.3)
    parser.add_argument("--price", type=float, default=3.0)
    options = parser.parse_args()
    rows = [row for name in CORPORA for row in plan(name, options.utilisation, options.price)]
    print(json.dumps(rows) if options.json else markdown(rows))


if __name__ == "__main__":
    main()
