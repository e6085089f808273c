"""Embeddings of recordings in batches, and the scores of a trial list under each scoring policy.

A batch never changes an embedding: crops have equal length, and a whole recording is padded with its
padding masked everywhere (`method.encoder.frame_mask`).
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from oskdft.config import SAMPLE_RATE, Config, EvalConfig
from oskdft.evaluation import scoring
from oskdft.evaluation.windows import Model, embed_whole, silenced
from oskdft.speech import audio, cutting, quality
from oskdft.speech.corpora.trials import Trials
from oskdft.speech.quality import lengths
from oskdft.utils.ahead import ahead
from oskdft.utils.console import progress

CPU_BATCH_S = 30.0  # [s] more audio at once leaves the cache, and each second of it takes longer
LEAST_FILLED = 0.8  # of a padded row; a batch of unlike lengths would compute silence

# From batches and the work on some of them to the results of all processes, such as `distributed.shared`
# and `torchrun.shared`; None in a process that does not need them.
Share = Callable[[Sequence, Callable[[Sequence], Any]], list | None]


def alone(items: Sequence, work: Callable[[Sequence], Any]) -> list:
    """Do all the work in this process: the `Share` of one process.

    >>> alone([1, 2], sum)
    [3]
    """
    return [work(items)]


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Embeddings of n recordings: of the whole [n, E], of crops [n, C, E]; None where not asked for.

    >>> Embeddings(None, np.array([[[3.0, 4.0], [0.0, 2.0]]])).single().round(3).tolist()
    [[0.3, 0.9]]
    """

    full: np.ndarray | None
    crops: np.ndarray | None

    def single(self) -> np.ndarray:
        """One vector per recording [n, E]: of the whole, else the mean of its unit crops."""
        return scoring.mean_of_units(self.crops) if self.full is None else self.full


def embed_files(
    model: Model,
    paths: list[Path],
    recipe: EvalConfig,
    half_batch: bool = False,
    channel: int = 0,
    seconds: np.ndarray | None = None,
    share: Share = alone,
) -> Embeddings | None:
    """Embed recordings by a scoring recipe.

    A whole recording is cut into windows only where it is longer than `quality.LONGEST_WHOLE_S`
    (`evaluation/windows.py`), because that changes its embedding. A recording longer than ``batch_s`` is
    embedded alone and sets the memory. Threads read the next batches while the model
    computes.

    Args:
        model: in evaluation mode, on the device to use.
        paths: n audio files.
        recipe: tta, crops (C), crop_s [s], batch_s (audio at once [s]).
        half_batch: embed the first half of the crops without adapters, as released (surprise 1).
        channel: of the recordings, see `audio.channel_fault`.
        seconds: lengths [n] of recordings that were checked; None: their headers are read.
        share: divides the batches among processes; a batch is the same whoever embeds it, so the result
            is the same bit by bit.
    Returns:
        `Embeddings`: [n, E] and [n, C, E] float32; None where ``share`` gives none.
    Raises:
        ValueError: a recording is too short or, where it is embedded whole, too long.

    >>> import tempfile
    >>> from oskdft.evaluation.verifier import load
    >>> path, student = Path(tempfile.mkdtemp()) / "a.wav", load("classroom")
    >>> audio.write(path, np.random.default_rng(0).normal(0, 0.1, 16_000))
    >>> embeddings = embed_files(student.model, [path], student.recipe)
    >>> embeddings.full.shape, embeddings.crops.shape
    ((1, 192), (1, 5, 192))
    """
    seconds = lengths(paths, recipe, channel) if seconds is None else seconds
    if str(model.device) == "cpu":
        recipe = replace(recipe, batch_s=min(recipe.batch_s, CPU_BATCH_S))
    long = seconds > quality.LONGEST_WHOLE_S  # each alone: the batches of the others stay the same
    short = np.flatnonzero(~long)
    batches = [short[group] for group in batches_by_length(seconds[short], recipe.batch_s)]
    groups = [*np.flatnonzero(long)[:, None], *batches]

    def embed(some: Sequence[np.ndarray]) -> list[tuple[np.ndarray, Embeddings]]:
        """Embeddings of some groups; the next group is read meanwhile."""
        parts = []
        with closing(ahead(lambda i: audio.read(paths[i], channel=channel), some)) as read:
            named = progress(read, "embedding (batches)", len(some))
            for group, waves in zip(some, named, strict=True):
                full = crops = None
                if recipe.tta != "crops":
                    full = embed_whole(model, waves)
                if recipe.tta != "full":
                    crops = _embed_crops(model, waves, recipe, half_batch)
                parts.append((group, Embeddings(full, crops)))
        return parts

    results = share(groups, embed)
    return None if results is None else _in_order(sum(results, []))


def _in_order(parts: list[tuple[np.ndarray, Embeddings]]) -> Embeddings:
    """The embeddings of all groups, in the order of the recordings."""
    place = np.argsort(np.concatenate([group for group, _ in parts]))
    full = [part.full for _, part in parts if part.full is not None]
    crops = [part.crops for _, part in parts if part.crops is not None]
    return Embeddings(
        np.concatenate(full)[place] if full else None,
        np.concatenate(crops)[place] if crops else None,
    )


def batches_by_length(seconds: np.ndarray, budget_s: float) -> list[np.ndarray]:
    """Group utterances of similar length, longest first, for embedding whole recordings.

    Args:
        seconds: [n] lengths [s].
        budget_s: most audio in a batch [s], padding included; a longer utterance is a batch of its own.
    Returns:
        Index arrays that together hold each utterance once; within a group no utterance is shorter
        than 0.8 of the longest.
    Raises:
        ValueError: budget_s is not above 0.

    >>> [group.tolist() for group in batches_by_length(np.array([1.0, 5.0, 2.0, 2.0]), 4.0)]
    [[1], [2, 3], [0]]
    """
    if budget_s <= 0:
        raise ValueError(f"budget_s is {budget_s}; it must be more than 0 seconds")
    seconds = np.asarray(seconds)
    order = np.argsort(-seconds, kind="stable")
    groups = []
    first = 0
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
    """Embeddings [n, C, E] of evenly spaced crops, at most batch_s of audio at once."""
    samples = round(recipe.crop_s * SAMPLE_RATE)
    cut = [cutting.segments(wave, samples, recipe.crops) for wave in waves]  # n times [C, N]
    bare = recipe.crops // 2 if half_batch else 0  # crops that go without adapters
    at_once = max(int(recipe.batch_s / recipe.crop_s), 1)
    parts = []
    for crops, without_adapters in ((range(bare), True), (range(bare, recipe.crops), False)):
        if not crops:
            continue
        # the crops of a recording no longer than a crop are equal: one of them is embedded
        ends = [crops.stop if len(wave) > samples else crops.start + 1 for wave in waves]
        rows = [row for rows, end in zip(cut, ends, strict=True) for row in rows[crops.start : end]]
        rows = silenced(rows)
        batches = [rows[first : first + at_once] for first in range(0, len(rows), at_once)]
        embeddings = np.concatenate([model.embed(batch, without_adapters) for batch in batches])
        counts = [end - crops.start for end in ends]
        by_wave = np.split(embeddings, np.cumsum(counts)[:-1])
        parts.append(np.stack([np.broadcast_to(e, (len(crops), e.shape[1])) for e in by_wave]))
    return np.concatenate(parts, 1)


def enrolled(embeddings: Embeddings, trials: Trials) -> Embeddings:
    """Embeddings of ``trials.paths``; a model's is the mean of the unit embeddings of its recordings.

    With crops the c-th crop of a model is the mean of the unit embeddings of the c-th crops.

    Args:
        embeddings: of the recordings ``trials.recordings()``.

    >>> none = np.zeros(1, int)
    >>> trials = Trials(None, none, none + 1, ["ada", "c"], "mine", 0, {"ada": ["a", "b"]})
    >>> enrolled(Embeddings(np.array([[2.0, 0], [0, 1], [0, 3]]), None), trials).full.tolist()
    [[0.5, 0.5], [0.0, 1.0]]
    """
    if trials.models is None:
        return embeddings
    row = {name: number for number, name in enumerate(trials.recordings())}
    rows = [[row[name] for name in trials.recordings_of(path)] for path in trials.paths]

    def means(array: np.ndarray) -> np.ndarray:
        units = scoring.normalise(array)
        return np.stack([units[own].mean(0) for own in rows])

    return Embeddings(
        None if embeddings.full is None else means(embeddings.full),
        None if embeddings.crops is None else means(embeddings.crops),
    )


def scores_by_policy(embeddings: Embeddings, trials: Trials) -> dict[str, np.ndarray]:
    """Cosine scores of a trial list under every scoring policy that the embeddings allow.

    Args:
        embeddings: of the n recordings ``trials.paths``.
    Returns:
        policy ("full", "crops", and "both" where both are there) -> [P] scores in [-1, 1].

    >>> trials = Trials(np.array([1]), np.array([0]), np.array([1]), ["a.wav", "b.wav"], "mine")
    >>> scores_by_policy(Embeddings(np.ones((2, 3)), None), trials)["full"].round(6).tolist()
    [1.0]
    """
    pairs = np.stack([trials.enrol, trials.test], 1)
    full, crops = embeddings.full, embeddings.crops
    parts = {}
    if full is not None:
        parts["full"] = full, None
    if crops is not None:
        parts["crops"] = None, crops
    if len(parts) == 2:
        parts["both"] = full, crops
    return {policy: scoring.score_trials(*part, pairs) for policy, part in parts.items()}


def embed_by(
    cfg: Config, model: Model, paths: list[Path], share: Share = alone
) -> Embeddings | None:
    """`embed_files` as a run is evaluated: ``eval``, ``switches.eval_path`` and ``data.channel``.

    >>> import tempfile
    >>> from oskdft.config import from_dict
    >>> from oskdft.evaluation.verifier import load
    >>> path, student = Path(tempfile.mkdtemp()) / "a.wav", load("classroom")
    >>> audio.write(path, np.random.default_rng(0).normal(0, 0.1, 16_000))
    >>> embed_by(from_dict(student.described["config"]), student.model, [path]).full.shape
    (1, 192)
    """
    half_batch = cfg.switches.eval_path == "half_batch"
    return embed_files(model, paths, cfg.eval, half_batch, cfg.data.channel, share=share)


def embed_trials(
    cfg: Config, model: Model, trials: Trials, root: Path, share: Share = alone
) -> Embeddings | None:
    """Embeddings of ``trials.paths``, recordings or models, see `embed_by` and `enrolled`.

    Args:
        model: in evaluation mode. root: the folder of the recordings. share: see `embed_files`.
    Raises:
        ValueError: a recording is too short or, where it is embedded whole, too long.

    >>> import tempfile
    >>> from oskdft.config import from_dict
    >>> from oskdft.evaluation.verifier import load
    >>> root, student = Path(tempfile.mkdtemp()), load("classroom")
    >>> for name, wave in zip("abc", np.random.default_rng(0).normal(0, 0.1, (3, 16_000))):
    ...     audio.write(root / f"{name}.wav", wave)
    >>> paths = ["a.wav", "b.wav", "c.wav"]
    >>> trials = Trials(np.array([1, 0]), np.array([0, 0]), np.array([1, 2]), paths, "mine")
    >>> cfg = from_dict(student.described["config"])
    >>> list(scores_by_policy(embed_trials(cfg, student.model, trials, root), trials))
    ['full', 'crops', 'both']
    """
    paths = [Path(root) / path for path in trials.recordings()]
    embeddings = embed_by(cfg, model, paths, share)
    return None if embeddings is None else enrolled(embeddings, trials)
