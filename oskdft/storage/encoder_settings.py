"""Settings of an encoder that may come from a stranger: refused before anything is built of them."""

import math
from typing import Any

from oskdft.utils.schema import shown

AT_LEAST_ONE = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "num_conv_pos_embeddings",
    "num_conv_pos_embedding_groups",
    "mask_time_length",
    "mask_feature_length",
)
CNN = ("conv_dim", "conv_kernel", "conv_stride")  # one number per layer
STRIDES = 80, 1_280  # samples between frames; every published encoder has 320
MOST_LAYERS = 200  # a configuration with more layers is damaged or hostile
LARGEST_SIZE = 1_000_000  # and so is one with a larger size of any other kind
MOST_CLASSES = 100_000  # of a head that is not used: transformers makes two names of each


def settings_fault(settings: dict[str, Any]) -> str:
    """What no encoder can have; empty where nothing is wrong.

    >>> settings_fault({"conv_stride": [5, 2, 0]})
    'conv_stride is [5, 2, 0]; numbers from 1 on are needed'
    >>> settings_fault({"hidden_dropout": float("nan")})
    'hidden_dropout is nan, no finite number'
    """
    for name, value in settings.items():
        numbers = value if isinstance(value, list) else [value]
        if any(isinstance(n, float) and not math.isfinite(n) for n in numbers):
            return f"{name} is {shown(value)}, no finite number"
        if name in CNN and not (
            isinstance(value, list) and all(type(n) is int and n >= 1 for n in value)
        ):
            return f"{name} is {shown(value)}; numbers from 1 on are needed"
        if name in AT_LEAST_ONE and (type(value) is not int or value < 1):
            return f"{name} is {shown(value)}; a number from 1 on is needed"
        share = name.endswith(("dropout", "layerdrop", "_prob"))
        if share and not (type(value) in (int, float) and 0 <= value <= 1):
            return f"{name} is {shown(value)}; a share from 0 to 1 is needed"
        if name.endswith("_eps") and not (type(value) in (int, float) and 0 < value < 1):
            return f"{name} is {shown(value)}; a small number above 0 is needed"
        most = MOST_LAYERS if name.endswith("_layers") else LARGEST_SIZE
        if len(numbers) > MOST_LAYERS or any(type(n) is int and n > most for n in numbers):
            return f"{name} is larger than any speech encoder's"
    stride = math.prod(settings.get("conv_stride", [STRIDES[0]]))
    if not STRIDES[0] <= stride <= STRIDES[1]:
        return f"conv_stride makes a frame of {stride} samples; encoders of speech have 320"
    width, heads = settings.get("hidden_size"), settings.get("num_attention_heads")
    if width and heads and width % heads:
        return f"hidden_size is {width}, no multiple of num_attention_heads ({heads})"
    classes = settings.get("num_labels", 0)
    names = settings.get("id2label") or {}
    readable = type(classes) is int and isinstance(names, dict)
    if not readable or max(classes, len(names)) > MOST_CLASSES:
        return f"num_labels is {shown(classes)}; at most {MOST_CLASSES} classes are read"
    return ""
