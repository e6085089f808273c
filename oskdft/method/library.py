"""What the package takes from transformers, imported without garbage collection: a third of the time less.

PyTorch and transformers make half a million objects that stay. While they are imported, the collector
would look through all of them again and again. It leaves frozen objects alone, later too.
"""

import gc

_collecting = gc.isenabled()
gc.disable()
try:
    import transformers.modeling_utils  # noqa: F401 (most of what is imported)
    from transformers import (
        CONFIG_MAPPING,
        MODEL_MAPPING,
        AttentionInterface,
        AutoModel,
        PretrainedConfig,
        PreTrainedModel,
    )

    gc.freeze()
finally:  # also where an import fails, as with a torchaudio of another torch
    if _collecting:
        gc.enable()

__all__ = [
    "CONFIG_MAPPING",
    "MODEL_MAPPING",
    "AttentionInterface",
    "AutoModel",
    "PreTrainedModel",
    "PretrainedConfig",
]
