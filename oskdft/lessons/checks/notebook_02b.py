"""Exercises of notebook 02b."""

import numpy as np

from oskdft.lessons.exercise import Exercise


def contrastive_loss(cosines: np.ndarray, temperature: float) -> float:
    """Minus the log-softmax of the right frame, which stands first, [1 + N] -> number."""
    logits = cosines / temperature
    return np.log(np.exp(logits).sum()) - logits[0]


def without_the_right_one(cosines: np.ndarray, temperature: float) -> float:
    """The same with a sum over the wrong frames alone."""
    logits = cosines / temperature
    return np.log(np.exp(logits[1:]).sum()) - logits[0]


def candidates(rng: np.random.Generator) -> tuple:
    """Cosines with the right frame and with some wrong ones, and a temperature."""
    return rng.uniform(-1, 1, 1 + rng.integers(3, 21)), float(rng.uniform(0.07, 0.5))


EXERCISES = {
    "1": Exercise(
        5 * 10 / 199,
        "how many frames are hidden, of how many?",
        ((5 / 199, "that counts the spans and not their frames"),),
        fraction=True,
    ),
    "2": Exercise(
        contrastive_loss,
        "minus the logarithm of the softmax of cosines / temperature, at the first place",
        (
            (without_the_right_one, "the sum goes over all candidates, the right one too"),
            (
                lambda cosines, temperature: contrastive_loss(cosines, 1.0),
                "the cosines are divided by the temperature",
            ),
            (
                lambda cosines, temperature: -contrastive_loss(cosines, temperature),
                "a loss is minus the logarithm of a probability, so it is not negative",
            ),
            (
                lambda cosines, temperature: np.exp(-contrastive_loss(cosines, temperature)),
                "that is the probability; the loss is minus its logarithm",
            ),
        ),
        draw=candidates,
    ),
    "3": Exercise(
        "B",
        "what did section 2 say about neighbouring frames?",
        (
            ("A", "a blind guess is the easiest baseline of all; look for one that knows a little"),
            ("C", "more clusters change both numbers; what is the 40 % to be compared with?"),
        ),
    ),
}
