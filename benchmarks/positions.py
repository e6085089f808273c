"""Positional convolution by way of spectra, against transformers' own: forward and backward.

    python benchmarks/positions.py [--json] [--quick]

Random weights at the sizes of the shipped student and of releases R and P. `oskdft` takes the way of
spectra on a CPU only; both are measured wherever this runs. There is no floor: torch's counter knows no
Fourier transforms, and counts the gradients of a grouped convolution as if it had one group.
"""

import measure
import torch

from oskdft.method.encoder import architecture, build_encoder, convolve_by_spectra

# name -> (architecture, changes, rows, frames)
CASES = {
    "shipped size, 32 x 2 s": (measure.BASE, measure.CLASSROOM, 32, 99),
    "base, 8 x 3 s": (measure.BASE, {}, 8, 149),
    "XLSR, 8 x 2 s": (measure.LARGE, {}, 8, 99),
}
QUICK = {"tiny": (measure.TINY, {}, 2, 24)}


def works_of(
    name: str, kind: str, changes: dict, rows: int, frames: int
) -> dict[str, measure.Work]:
    """What is compared at one size."""
    torch.manual_seed(0)
    config = architecture(kind, **changes, num_hidden_layers=1)
    embed = build_encoder(config).encoder.pos_conv_embed.to(measure.DEVICE)
    hidden = torch.randn(
        rows, frames, config.hidden_size, device=measure.DEVICE, requires_grad=True
    )
    onto = torch.randn_like(hidden)
    return {
        f"{name}, convolution": lambda: embed(hidden).backward(onto),
        f"{name}, spectra": lambda: embed.activation(
            convolve_by_spectra(embed.conv, hidden)
        ).backward(onto),
    }


def run(quick: bool) -> dict:
    """All rows and comparisons."""
    return measure.pairs(QUICK if quick else CASES, works_of, 2 if quick else 15)


if __name__ == "__main__":
    measure.main("positions", __doc__, run)
