"""Embeddings in batches, and trial scores with their recipe.

A batch never changes an embedding: crops have equal length, and whole utterances are padded with the
padding masked everywhere (`teacher.frame_mask`).
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from oskdft.config import EvalConfig, from_dict
from oskdft.evaluation import bootstrap, metrics, score_file, scoring
from oskdft.evaluation.bootstrap import trial_speakers
from oskdft.evaluation.embedding import Model, embed_files, scores_by_policy
from oskdft.evaluation.verifier import load
from oskdft.speech.corpora.tables import load_corpus
from oskdft.speech.corpora.trials import Trials, read_trials
from oskdft.utils import provenance
from oskdft.utils.files import atomic


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
    low, high = bootstrap.bootstrap_ci(scores, trials.label, trial_speakers(trials))
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
        score_file.write_scores(scores_to, scores, listed.label, left, right)
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
