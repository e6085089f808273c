"""One-step knowledge distillation and fine-tuning (OS-KDFT) for speaker verification.

Heavy libraries load on first use: ``import oskdft`` costs milliseconds, ``oskdft.load`` brings torch.
"""

import importlib
from importlib.util import find_spec

__version__ = "0.1.0"


def __getattr__(name: str):
    """Import a module, or ``load``, when it is first asked for (PEP 562)."""
    if name == "load":
        return importlib.import_module("oskdft.verifier").load
    if not name.startswith("_") and find_spec(f"oskdft.{name}"):
        return importlib.import_module(f"oskdft.{name}")
    raise AttributeError(f"module 'oskdft' has no attribute {name!r}")
