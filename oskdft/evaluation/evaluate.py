"""Evaluation of a model on a trial list: scores, metrics with their interval, and the recipe behind them."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from oskdft.config import EvalConfig, from_dict
from oskdft.evaluation import bootstrap, embed_many, groups, metrics, score_file, scoring
from oskdft.evaluation.embedding import (
    Embeddings,
    embed_by,
    embed_files,
    embed_trials,
    enrolled,
    scores_by_policy,
)
from oskdft.evaluation.verifier import load
from oskdft.speech.corpora import people
from oskdft.speech.corpora.tables import load_corpus
from oskdft.speech.corpora.trials import VOX_PATH, Trials, read_trials, vox_name
from oskdft.utils import provenance, torchrun
from oskdft.utils.console import say, some, table
from oskdft.utils.files import atomic, require_new
from oskdft.utils.names import forms

NO_SPEAKERS = {"dev", "test", "wav", "aac"}  # folders of VoxCeleb above its speakers


def report(scores: np.ndarray, trials: Trials, recipe: EvalConfig, notes: dict) -> dict:
    """Metrics of a scored list, the interval of its EER, and the recipe.

    Args:
        scores: [P]. trials: their list. recipe: the scoring recipe.
        notes: model, mode, checkpoint, normalisation: added to the recipe.
    Returns:
        `metrics.summary` and "eer_ci" [low, high] (fractions), "recipe" name -> value. Of a list without
        labels "trials" (number) and "recipe".
    Raises:
        ValueError: see `metrics.checked_trials` and `bootstrap.bootstrap`.

    >>> trials = Trials(np.array([1, 0]), np.array([0, 0]), np.array([1, 2]), list("abc"), "mine")
    >>> report(np.array([0.9, 0.1]), trials, EvalConfig(), {"model": "mine"})["eer_ci"]
    [0.0, 0.0]
    """
    crops = f"{recipe.crops} crops of {recipe.crop_s:g} s"
    policy = {"full": "full utterance", "crops": crops, "both": f"full utterance and {crops}"}
    stated = {
        "list": trials.name,
        "scoring": "cosine",
        "embeddings": "unit length",
        "policy": policy[recipe.tta],
    }
    if trials.models is not None:
        stated["enrolment"] = "mean of the unit embeddings of a model's recordings"
    if trials.label is None:
        return {"trials": len(scores), "recipe": stated | notes}
    result = metrics.summary(scores, trials.label)
    speakers = bootstrap.trial_speakers(trials)
    low, high = bootstrap.bootstrap_ci(scores, trials.label, speakers)
    stated["interval"] = "95 %, bootstrap over speakers, 1,000 resamples"
    return result | {"eer_ci": [low, high], "recipe": stated | notes}


def evaluate(
    name: str | Path,
    trials: Path | Trials,
    root: Path,
    scores_to: Path | None = None,
    cohort: Path | None = None,
    tta: bool = True,
    device: str = "auto",
    columns: Sequence[str] = (),
    channel: int = 0,
    enrol: Path | None = None,
) -> dict | None:
    """Score a trial list with a model: the result of `oskdft evaluate`.

    Args:
        name: run folder, exported folder or shipped student.
        trials: file of the list, or a list that was read. root: the folder that its paths are relative to.
        scores_to: file to write the scores to; needed where the list has no labels.
        cohort: folder `speaker/**/file` for AS-norm.
        tta: the policy of the model's recipe; False scores full utterances only.
        device: "auto", "cpu", "cuda" or "cuda:N".
        columns: of the table of speakers at the root, see `people.groups_of`.
        channel: of the recordings, see `audio.channel_fault`.
        enrol: file of the models that the trials name first, see `trials.read_models`.
    Returns:
        `report` and `provenance.facts`; where the model has a calibration for the policy and no
        cohort is given, "cllr" is the Cllr of calibrated scores. With columns, "groups" column ->
        `groups.by_group` at "groups_threshold": the model's own, or where the scores have none, the
        threshold of the EER. None in all but the first of the processes of `torchrun.together`, which
        share the recordings.
    Raises:
        FileNotFoundError: no such list, recording or cohort.
        ValueError: a faulty list, one class missing, no such model, or a recording that cannot be
            embedded.

    >>> import tempfile
    >>> from oskdft.speech import audio
    >>> root = Path(tempfile.mkdtemp())
    >>> for name, wave in zip("abc", np.random.default_rng(0).normal(0, 0.1, (3, 16_000))):
    ...     audio.write(root / f"{name}.wav", wave)
    >>> _ = (root / "list.txt").write_text("1 a.wav b.wav" + chr(10) + "0 a.wav c.wav" + chr(10))
    >>> result = evaluate("classroom", root / "list.txt", root)
    >>> result["trials"], result["recipe"]["policy"]
    (2, 'full utterance and 5 crops of 3 s')
    """
    listed = _listed(trials, root, scores_to, enrol)  # missing files are refused before the work
    if columns and (listed.label is None or listed.models is not None):
        raise ValueError(
            "--groups needs a list with labels, whose trials name recordings, not models"
        )
    others = _cohort(cohort, listed, root) if cohort else None
    grouped = {column: people.groups_of(listed.paths, root, column) for column in columns}
    verifier = load(name, device)
    recipe = verifier.recipe if tta else replace(verifier.recipe, tta="full")
    cfg = from_dict(verifier.described["config"])
    cfg = replace(cfg, eval=recipe, data=replace(cfg.data, channel=channel))
    embeddings = embed_trials(cfg, verifier.model, listed, root, torchrun.shared)
    of_others = embed_by(cfg, verifier.model, others, torchrun.shared) if others else None
    if embeddings is None:
        return None  # the first process goes on
    scores = scores_by_policy(embeddings, listed)[recipe.tta]
    norm = "none"
    fitted = verifier.described.get("calibration", {}).get(recipe.tta, {})
    if others:
        top = min(recipe.snorm_top, len(others))
        pairs = np.stack([listed.enrol, listed.test], 1)
        scores = scoring.as_norm(scores, pairs, embeddings.single(), of_others.single(), top)
        norm = f"AS-norm, top {top} of {len(others)}"
        norm += "" if recipe.tta == "full" else ", cohort scored on whole recordings"
        fitted = {}  # the calibration was fitted to cosines
    if scores_to:
        _write(scores_to, scores, listed)
    notes = {
        "model": str(name),
        "mode": cfg.mode,
        "strategy": cfg.strategy,
        "score normalisation": norm,
        "step": verifier.described.get("step"),
        "trained on": verifier.speech,
    }
    if listed.label is not None:
        calibrated = "scores calibrated on development speakers"
        notes["Cllr of"] = calibrated if fitted else "uncalibrated scores"
    result = report(scores, listed, recipe, notes)
    if fitted and listed.label is not None:
        llrs = fitted["llr_scale"] * scores + fitted["llr_offset"]
        result["cllr"] = metrics.cllr(llrs, listed.label)
    if grouped:
        threshold = fitted.get("threshold", result["eer_threshold"])
        result["groups_threshold"] = threshold
        result["groups"] = {
            column: groups.by_group(scores, listed, names, threshold)
            for column, names in grouped.items()
        }
    return result | provenance.facts()


def _listed(
    trials: Path | Trials, root: Path | None, scores_to: Path | None, enrol: Path | None
) -> Trials:
    """The list; refuses one that has labels of one class only, and a file of scores that exists."""
    if scores_to:
        require_new(scores_to, "--scores")
    listed, source = trials, trials
    if isinstance(trials, Trials):
        source = trials.name
    else:
        listed = read_trials(trials, root, enrol or "", unlabelled=bool(scores_to))
    targets = 0 if listed.label is None else int(listed.label.sum())
    if listed.label is not None and not 0 < targets < len(listed):
        raise ValueError(f"{source}: {targets} of {len(listed)} are targets; both kinds are needed")
    return listed


def _write(path: Path, scores: np.ndarray, trials: Trials) -> None:
    """Write the scores of a list."""
    left = [trials.paths[i] for i in trials.enrol]
    right = [trials.paths[i] for i in trials.test]
    score_file.write_scores(path, scores, trials.label, left, right)


def evaluate_embedded(
    folder: Path, trials: Path, scores_to: Path | None = None, enrol: Path | None = None
) -> dict:
    """Score a trial list with embeddings of whole recordings that were made before; no audio is read.

    Args:
        folder: of `embed_many.embed_many`. trials: the list; its paths are the ids.
        scores_to: a new file to write the scores to; needed where the list has no labels.
        enrol: see `evaluate`.
    Returns:
        `report` and `provenance.facts`.
    Raises:
        FileNotFoundError: no such list or folder.
        ValueError: a faulty list, one class missing, or recordings that were not embedded.
    """
    listed = _listed(trials, None, scores_to, enrol)
    recordings = listed.recordings()
    if all(map(VOX_PATH.search, recordings)):  # ids may name a tree (dev/wav/) and another suffix
        sought = list(map(vox_name, recordings))
        rows = embed_many.read_embeddings(folder, set(sought), vox_name)
        ids = [name if name in rows else "" for name in sought]
    else:
        sought = recordings
        wanted = {form for name in recordings for form in forms(name)}
        rows = embed_many.read_embeddings(folder, wanted)
        ids = [next(filter(rows.__contains__, forms(name)), "") for name in recordings]
    absent = [name for name, found in zip(recordings, ids, strict=True) if not found]
    if absent:
        raise ValueError(
            f"{folder} holds no embedding of {len(absent)} of {len(recordings)} recordings of {trials}: "
            f"{some(absent, len(absent))}; embed them, or take another list"
        )
    if others := sum(map(str.__ne__, ids, sought)):
        say(f"{trials}: {others} names match ids of {folder} in another unicode form")
    table = np.stack([rows[name] for name in ids])
    scores = scores_by_policy(enrolled(Embeddings(table, None), listed), listed)["full"]
    if scores_to:
        _write(scores_to, scores, listed)
    notes = {"embeddings of": str(folder), "score normalisation": "none"}
    if listed.label is not None:
        notes["Cllr of"] = "uncalibrated scores"
    return report(scores, listed, EvalConfig(tta="full"), notes) | provenance.facts()


def _cohort(folder: Path, listed: Trials, root: Path | None) -> list[Path]:
    """The first recording by name of each speaker in a folder `speaker/**/file`.

    Raises:
        ValueError: one speaker, folders that are no speakers, or recordings of the trials.
    """
    table = load_corpus("folder", folder)
    if len(table.speakers) < 2:
        raise ValueError(f"{folder} holds 1 speaker; a cohort needs a folder for each of 2 or more")
    if set(table.speakers) <= NO_SPEAKERS:
        raise ValueError(
            f"{folder} holds the folders {', '.join(table.speakers)}; name the folder that holds the "
            "speakers"
        )
    first = np.unique(table.speaker, return_index=True)[1]
    cohort = [table.path(i) for i in first]
    tested = {os.path.abspath(Path(root or "") / name) for name in listed.recordings()}
    common = [str(path) for path in cohort if os.path.abspath(path) in tested]
    if common:
        raise ValueError(
            f"{len(common)} recordings of the cohort are in the trials: {some(common, len(common))}; "
            "take other speakers"
        )
    return cohort


def report_text(result: dict) -> str:
    """Lines that print the result of `evaluate`: metrics, interval in per cent, recipe, versions.

    >>> trials = Trials(np.array([1, 0]), np.array([0, 0]), np.array([1, 2]), list("abc"), "mine")
    >>> result = report(np.array([0.9, 0.1]), trials, EvalConfig(), {}) | provenance.facts()
    >>> report_text(result).splitlines()[6]
    'EER interval  0.00 to 0.00 %'
    """
    recipe = [f"  {key:20} {value}" for key, value in result["recipe"].items()]
    if "eer" not in result:
        head = f"trials        {result['trials']}, without labels: scores only"
        return "\n".join([head, "recipe", *recipe, provenance.listed(result["versions"])])
    low, high = (100 * rate for rate in result["eer_ci"])
    interval = f"EER interval  {low:.2f} to {high:.2f} %"
    versions = provenance.listed(result["versions"])
    by_group = []
    for column, found in result.get("groups", {}).items():
        title = f"by {column}; misses and false alarms at {result['groups_threshold']:.4f}"
        by_group += [title, table(groups.table_rows(found))]
    return "\n".join(
        [metrics.summary_text(result), interval, *by_group, "recipe", *recipe, versions]
    )


def embed_to(
    files: list[Path], out: Path, name: str | Path, device: str = "auto", channel: int = 0
) -> None:
    """Write the embeddings of whole recordings as a NumPy archive.

    Args:
        files: n audio files. out: archive of "embeddings" [n, E] float32 and "paths" [n].
        name, device: of the model, see `verifier.load`. channel: see `audio.channel_fault`.
    Raises:
        ValueError: out exists, no such model, or a recording that is too short or too long.

    >>> import tempfile
    >>> from oskdft.speech import audio
    >>> root = Path(tempfile.mkdtemp())
    >>> audio.write(root / "a.wav", np.random.default_rng(0).normal(0, 0.1, 16_000))
    >>> embed_to([root / "a.wav"], root / "rows.npz", "classroom")
    >>> np.load(root / "rows.npz")["embeddings"].shape
    (1, 192)
    """
    require_new(out)
    verifier = load(name, device)
    recipe = replace(verifier.recipe, tta="full")
    made = embed_files(verifier.model, files, recipe, channel=channel, share=torchrun.shared)
    if made is None:
        return  # the first process of torchrun writes
    paths = np.array([str(path) for path in files])
    with atomic(out, "wb") as file:
        np.savez(file, embeddings=made.full.astype(np.float32), paths=paths)
