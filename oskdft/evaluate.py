"""Embeddings in batches, and trial scores with their recipe.

A batch never changes an embedding: crops have equal length, and whole utterances are padded with the
padding masked everywhere (`teacher.frame_mask`).
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from oskdft import audio, metrics, provenance, scoring
from oskdft.config import EvalConfig, from_dict
from oskdft.console import progress
from oskdft.corpora import Trials, load_corpus, read_trials
from oskdft.files import atomic
from oskdft.verifier import Model, length_s, load, whole_s

CPU_BATCH_S = 30.0  # [s] more audio at once leaves the cache, and each second of it takes longer
LEAST_FILLED = 0.8  # of a padded row; a batch of unlike lengths would compute silence


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


def lengths(paths: list[Path], recipe: EvalConfig) -> np.ndarray:
    """Lengths [n] in seconds of recordings that ``recipe`` can embed.

    Raises:
        ValueError: one is too short, or too long for a recipe that embeds it whole.
    """
    measure = length_s if recipe.tta == "crops" else whole_s
    return np.array([measure(path) for path in paths])


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
    samples = round(recipe.crop_s * audio.SAMPLE_RATE)
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


def trial_speakers(trials: Trials) -> np.ndarray:
    """Speakers of each trial, [P, 2]: recordings that target trials link belong to one speaker."""
    from scipy.sparse import coo_array  # heavy, and `oskdft verify` does without
    from scipy.sparse.csgraph import connected_components

    same = trials.label == 1
    links = (np.ones(same.sum()), (trials.enrol[same], trials.test[same]))
    _, speaker = connected_components(
        coo_array(links, shape=(len(trials.paths),) * 2), directed=False
    )
    return np.stack([speaker[trials.enrol], speaker[trials.test]], 1)


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


def score_list(
    model: Model,
    trials: Trials,
    root: Path,
    recipe: EvalConfig,
    half_batch: bool = False,
    cohort: list[Path] | None = None,
) -> np.ndarray:
    """Scores of a trial list [P]; with ``cohort`` AS-normalised, one recording per speaker."""
    made = embed_files(model, [Path(root) / p for p in trials.paths], recipe, half_batch)
    scores = scores_by_policy(made, trials)[recipe.tta]
    if cohort is None:
        return scores
    others = embed_files(model, cohort, recipe, half_batch)
    pairs = np.stack([trials.enrol, trials.test], 1)
    top = min(recipe.snorm_top, len(cohort))
    return scoring.as_norm(scores, pairs, made.single(), others.single(), top)


def report(scores: np.ndarray, trials: Trials, recipe: EvalConfig, notes: dict) -> dict:
    """Metrics of a scored list with interval and recipe: what `oskdft evaluate --json` prints.

    Args:
        notes: model, mode, checkpoint, normalisation: whatever belongs beside the number.
    """
    result = metrics.summary(scores, trials.label)
    low, high = metrics.bootstrap_ci(scores, trials.label, trial_speakers(trials))
    crops = f"{recipe.crops} crops of {recipe.crop_s:g} s"
    policy = {"full": "full utterance", "crops": crops, "both": f"full utterance and {crops}"}
    stated = {
        "list": trials.name, "scoring": "cosine", "embeddings": "unit length",
        "policy": policy[recipe.tta], "interval": "95 %, bootstrap over speakers, 1,000 resamples",
    }  # fmt: skip
    return result | {"eer_ci": [low, high], "recipe": stated | notes}


def evaluate(
    name: str | Path,
    trials: Path,
    root: Path,
    scores_to: Path | None = None,
    cohort: Path | None = None,
    tta: bool = True,
    device: str = "auto",
) -> dict:
    """Score a trial list with a model; what `oskdft evaluate` prints.

    Args:
        name: run folder, exported folder or shipped student. trials: the list. root: its folder.
        scores_to: file for the scores. cohort: folder `speaker/**/file` for AS-norm.
        tta: full utterances and crops as the model's recipe says; False: full utterances only.
    """
    listed = read_trials(trials, root)  # everything that can be missing comes before the work
    targets = int(listed.label.sum())
    if not 0 < targets < len(listed):
        raise ValueError(f"{trials}: {targets} of {len(listed)} are targets; both kinds are needed")
    others = _cohort(cohort) if cohort else None
    verifier = load(name, device)
    recipe = verifier.recipe if tta else replace(verifier.recipe, tta="full")
    cfg = from_dict(verifier.described["config"])
    half_batch = cfg.switches.eval_path == "half_batch"
    scores = score_list(verifier.model, listed, root, recipe, half_batch, others)
    if scores_to:
        left, right = ([listed.paths[i] for i in side] for side in (listed.enrol, listed.test))
        metrics.write_scores(scores_to, scores, listed.label, left, right)
    # scale and offset were fitted to cosines of this policy; normalised scores stay uncalibrated
    fitted = {} if others else verifier.described.get("calibration", {}).get(recipe.tta, {})
    norm = (
        f"AS-norm, top {min(recipe.snorm_top, len(others))} of {len(others)}" if others else "none"
    )
    notes = {
        "model": str(name), "mode": cfg.mode, "strategy": cfg.strategy, "score normalisation": norm,
        "step": verifier.described.get("step"), "trained on": cfg.data.corpus,
        "Cllr of": "scores calibrated on development speakers" if fitted else "uncalibrated scores",
    }  # fmt: skip
    result = report(scores, listed, recipe, notes)
    if fitted:
        llrs = fitted["llr_scale"] * scores + fitted["llr_offset"]
        result["cllr"] = metrics.cllr(llrs, listed.label)
    return result | provenance.facts()


def _cohort(folder: Path) -> list[Path]:
    """One recording per speaker, the first by name."""
    table = load_corpus("folder", folder)
    if len(table.speakers) < 2:
        raise ValueError(f"{folder} holds 1 speaker; a cohort needs a folder for each of 2 or more")
    first = np.unique(table.speaker, return_index=True)[1]
    return [table.path(i) for i in first]


def report_text(result: dict) -> str:
    """`evaluate`'s result for reading."""
    low, high = (100 * rate for rate in result["eer_ci"])
    recipe = [f"  {key:20} {value}" for key, value in result["recipe"].items()]
    interval = f"EER interval  {low:.2f} to {high:.2f} %"
    versions = provenance.listed(result["versions"])
    return "\n".join([metrics.summary_text(result), interval, "recipe", *recipe, versions])


def embed_to(files: list[Path], out: Path, name: str | Path, device: str = "auto") -> None:
    """Write embeddings [n, E] float32 and paths [n] of recordings as a NumPy archive."""
    verifier = load(name, device)
    made = embed_files(verifier.model, files, replace(verifier.recipe, tta="full"))
    paths = np.array([str(path) for path in files])
    with atomic(out, "wb") as file:
        np.savez(file, embeddings=made.full.astype(np.float32), paths=paths)
