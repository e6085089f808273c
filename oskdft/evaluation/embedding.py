"""TODO evaluation.embedding."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from oskdft import config
from oskdft.config import EvalConfig
from oskdft.evaluation import scoring
from oskdft.speech import audio
from oskdft.speech.corpora.trials import Trials
from oskdft.speech.quality import lengths
from oskdft.utils.console import progress

CPU_BATCH_S = 30.0  # [s] more audio at once leaves the cache, and each second of it takes longer
LEAST_FILLED = 0.8  # of a padded row; a batch of unlike lengths would compute silence


class Model(Protocol):
    """What embeds: `model.SpeakerModel` or `onnxmodel.OnnxModel`."""

    device: object  # "cpu" when printed, or another

    def embed(self, waves: list[np.ndarray], without_adapters: bool = False) -> np.ndarray:
        """Embeddings [n, E] float32 of n utterances of any lengths."""


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Embeddings of n recordings: of the whole [n, E], of crops [n, C, E]; None where not asked."""

    full: np.ndarray | None
    crops: np.ndarray | None

    def single(self) -> np.ndarray:
        """One vector per recording [n, E]: of the whole, else the mean of its unit crops."""
        return scoring.mean_of_units(self.crops) if self.full is None else self.full


def embed_files(
    model: Model, paths: list[Path], recipe: EvalConfig, half_batch: bool = False
) -> Embeddings:
    """Embed recordings as ``recipe`` says.

    A whole recording is never cut, since the embedding would be another: the longest one sets the
    memory where it exceeds the budget ``batch_s``, and one beyond `verifier.LONGEST_S` is refused.

    Args:
        model: in evaluation mode, on the device to use.
        paths: n audio files.
        recipe: tta, crops, crop_s, batch_s (seconds of audio at once).
        half_batch: the first half of the crops goes without adapters, as released (surprise 1).
    """
    seconds = lengths(paths, recipe)
    full, crops = [None] * len(paths), [None] * len(paths)
    if str(model.device) == "cpu":
        recipe = replace(recipe, batch_s=min(recipe.batch_s, CPU_BATCH_S))
    groups = batches_by_length(seconds, recipe.batch_s)
    for group in progress(groups, "embedding (batches)"):
        waves = [audio.read(paths[i]) for i in group]
        if recipe.tta != "crops":
            for i, row in zip(group, model.embed(waves), strict=True):
                full[i] = row
        if recipe.tta != "full":
            for i, row in zip(group, _embed_crops(model, waves, recipe, half_batch), strict=True):
                crops[i] = row
    return Embeddings(
        None if recipe.tta == "crops" else np.stack(full),
        None if recipe.tta == "full" else np.stack(crops),
    )


def batches_by_length(seconds: np.ndarray, budget_s: float) -> list[np.ndarray]:
    """Group utterances of similar length, longest first, for embedding whole recordings.

    Args:
        seconds: [n] lengths [s].
        budget_s: most audio in a batch [s], padding included; a longer one goes alone.
    Returns:
        index arrays; together each utterance once; in a group none is shorter than 0.8 of the longest.

    >>> [group.tolist() for group in batches_by_length(np.array([1.0, 5.0, 2.0, 2.0]), 4.0)]
    [[1], [2, 3], [0]]
    """
    if budget_s <= 0:
        raise ValueError(f"budget_s is {budget_s}; it must be more than 0 seconds")
    seconds = np.asarray(seconds)
    order = np.argsort(-seconds, kind="stable")
    groups, first = [], 0
    while first < len(order):
        longest = seconds[order[first]]
        alike = int((seconds[order[first:]] >= LEAST_FILLED * longest).sum())
        count = max(min(int(budget_s / longest), alike), 1)
        groups.append(order[first : first + count])
        first += count
    return groups


def _embed_crops(
    model: Model, waves: list[np.ndarray], recipe: EvalConfig, half_batch: bool
) -> np.ndarray:
    """Embeddings of evenly spaced crops, [n, C, E]; so many at once that batch_s is not exceeded."""
    samples = round(recipe.crop_s * config.SAMPLE_RATE)
    cut = [audio.segments(wave, samples, recipe.crops) for wave in waves]  # n times [C, N]
    plain = recipe.crops // 2 if half_batch else 0
    at_once = max(int(recipe.batch_s / recipe.crop_s), 1)
    parts = []
    for places, without in ((range(plain), True), (range(plain, recipe.crops), False)):
        if not places:
            continue
        # the crops of a recording no longer than a crop are equal: one of them is enough
        ends = [places.stop if len(wave) > samples else places.start + 1 for wave in waves]
        rows = [
            crop for crops, end in zip(cut, ends, strict=True) for crop in crops[places.start : end]
        ]
        batches = [rows[first : first + at_once] for first in range(0, len(rows), at_once)]
        made = np.concatenate([model.embed(batch, without) for batch in batches])
        counts = [end - places.start for end in ends]
        each = np.split(made, np.cumsum(counts)[:-1])
        parts.append(np.stack([np.broadcast_to(e, (len(places), e.shape[1])) for e in each]))
    return np.concatenate(parts, 1)


def scores_by_policy(made: Embeddings, trials: Trials) -> dict[str, np.ndarray]:
    """Scores [P] of every policy that the embeddings allow: "full", "crops", "both"."""
    pairs = np.stack([trials.enrol, trials.test], 1)
    parts = {
        "full": (made.full, None),
        "crops": (None, made.crops),
        "both": (made.full, made.crops),
    }
    wanted = ["full"] if made.crops is None else ["crops"] if made.full is None else parts
    return {policy: scoring.score_trials(*parts[policy], pairs) for policy in wanted}
