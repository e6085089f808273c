"""The CNN of a model with layer norms, channels side by side in memory, against transformers' own layers:
forward and backward.

    python benchmarks/cnn.py [--json] [--quick]

Random weights at the sizes of classroom-wav2vec2 and of XLSR-53. `oskdft` keeps channels side by side on a
CPU and where gradients are wanted; both are measured wherever this runs.
"""

import measure
import torch

from oskdft.method.encoder import architecture, build_encoder, channels_last

LAYER_NORMS = {**measure.CLASSROOM, "feat_extract_norm": "layer"}
# name -> (architecture, changes, rows, samples)
CASES = {
    "classroom size, 16 x 2 s": (measure.BASE, LAYER_NORMS, 16, 32_000),
    "XLSR, 2 x 2 s": (measure.LARGE, {}, 2, 32_000),
}
QUICK = {"tiny": (measure.TINY, {"feat_extract_norm": "layer"}, 2, 8_000)}


def works_of(
    name: str, kind: str, changes: dict, rows: int, samples: int
) -> dict[str, measure.Work]:
    """What is compared at one size."""
    torch.manual_seed(0)
    config = architecture(kind, **changes, num_hidden_layers=1)
    layers = build_encoder(config).feature_extractor.conv_layers.to(measure.DEVICE)
    wave = torch.randn(rows, 1, samples, device=measure.DEVICE)

    def learn(run) -> None:
        hidden = wave
        for layer in layers:
            hidden = run(layer, hidden)
        hidden.sum().backward()

    return {
        f"{name}, as in transformers": lambda: learn(lambda layer, hidden: layer(hidden)),
        f"{name}, channels last": lambda: learn(channels_last),
    }


def run(quick: bool) -> dict:
    """All rows and comparisons."""
    return measure.pairs(QUICK if quick else CASES, works_of, 2 if quick else 15)


if __name__ == "__main__":
    measure.main("cnn", __doc__, run)
