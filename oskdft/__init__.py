"""One-step knowledge distillation and fine-tuning (OS-KDFT) for speaker verification.

`oskdft.load` is the way in for users of a trained model; everything else is imported from its wing,
such as `oskdft.method.student` or `oskdft.evaluation.metrics`. ``import oskdft`` costs milliseconds:
torch is imported when a model is loaded.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from oskdft.evaluation.verifier import Verifier

__all__ = ["__version__", "load"]
__version__ = "0.1.0"


def load(name_or_dir: "str | Path", device: str = "auto", quick: bool = False) -> "Verifier":
    """Load a verifier: see `oskdft.evaluation.verifier.load`.

    >>> import numpy as np
    >>> load("classroom", "cpu").embed(np.ones(16_000, "float32") / 2).shape
    (192,)
    """
    from oskdft.evaluation import verifier

    return verifier.load(name_or_dir, device, quick)
