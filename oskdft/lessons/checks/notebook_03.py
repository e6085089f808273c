"""Exercises of notebook 03."""

from collections.abc import Callable

import numpy as np

from oskdft.lessons.exercise import Exercise, agrees


def two_outputs(answer: Callable) -> str:
    """What is wrong with a function (h, ffn, adapter) -> both outputs of a layer."""
    rng, calls = np.random.default_rng(0), []
    for _ in range(3):
        size = int(rng.integers(3, 9))
        h, matrix, other = rng.normal(size=size), *rng.normal(size=(2, size, size))

        def ffn(x: np.ndarray, matrix: np.ndarray = matrix) -> np.ndarray:
            calls.append(1)
            return matrix @ x

        def adapter(x: np.ndarray, other: np.ndarray = other) -> np.ndarray:
            return np.maximum(other @ x, 0)

        distilled, verified = answer(h.copy(), ffn, adapter)
        shared = h + matrix @ h
        if agrees(verified, shared) and not agrees(distilled, shared):
            return "the distillation path comes first in the pair"
        if agrees(verified, shared + adapter(matrix @ h), 1e-5):
            return "the adapter reads h, and not what the FFN returns: it stands beside the FFN"
        if not agrees(distilled, shared, 1e-5):
            return "the distillation path is h + FFN(h), without the adapter"
        if not agrees(verified, shared + adapter(h), 1e-5):
            return "the verification path adds A(h) to the distillation path"
    if len(calls) > 3:
        return "right numbers, but the FFN is computed twice: keep h + FFN(h) in a variable"
    return ""


EXERCISES = {
    "1": Exercise(
        "B",
        "which modules stand on the verification path and not on the distillation path?",
        (
            ("A", "CNN and layers are on both paths: KD reaches them either way"),
            ("C", "KD compares hidden states, in front of the back-end"),
        ),
    ),
    "2": Exercise(
        2 * (768 * 32 + 32 + 32 * 768 + 768),
        "per adapter: a matrix and a bias down, a matrix and a bias up",
        (
            (2 * 2 * 768 * 32, "these are the matrices without their biases"),
            (2 * (2 * 768 * 32 + 768), "the bias of W_down, one number per unit, is missing"),
            (2 * (2 * 768 * 32 + 32), "the bias of W_up, one number per dimension, is missing"),
            (768 * 32 + 32 + 32 * 768 + 768, "that is one adapter; the student has two layers"),
            (2 * (2 * 768 * 64 + 64 + 768), "that is with 64 units"),
        ),
    ),
    "3": Exercise(two_outputs, "keep h + FFN(h) in a variable; both paths start from it"),
    "4": Exercise(
        0.0,
        "write down both gradients: by what is each of them multiplied?",
        ((1.0, "nothing moves it: look at its gradient in the first step"),),
    ),
}
