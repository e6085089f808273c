"""The header of a safetensors file, looked at before the file is loaded. No torch."""

import json
from pathlib import Path

MOST_BYTES = 8 << 20  # of the header; the largest published encoders need less than 1 MB
# weights; counts of batches and steps, and the labels in the state of a pre-training
KINDS = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16")


def check_header(path: str | Path) -> None:
    """Refuse a file whose header is too long, or that holds tensors of kinds that no model here has.

    safetensors itself takes a gigabyte for a header of many empty tensors, and torch turns truth values,
    bytes and complex numbers into weights without a word.

    Raises:
        ValueError: names the file, and the tensor.

    >>> check_header("/dev/null")
    """
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > MOST_BYTES:
            raise ValueError(
                f"{path} is not a readable safetensors file (its header has {length} bytes, at most "
                f"{MOST_BYTES} are read); get it again"
            )
        text = file.read(length)
    try:
        header = json.loads(text)
        kinds = {name: entry["dtype"] for name, entry in header.items() if name != "__metadata__"}
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return  # safetensors says what is wrong with it
    for name, kind in kinds.items():
        if kind not in KINDS:
            raise ValueError(
                f"{path}: {name[:200]} is of type {str(kind)[:20]}; save the weights as float32"
            )
