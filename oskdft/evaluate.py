"""Embeddings in batches, trial scores with their recipe, and the verifier that users hold.

A batch never changes an embedding: crops have equal length, and whole utterances are padded with the
padding masked everywhere (`teacher.frame_mask`).
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from oskdft import audio, metrics, scoring
from oskdft.config import EvalConfig, from_dict
from oskdft.console import progress, say
from oskdft.corpora import Trials, load_corpus, read_trials
from oskdft.dataset import batches_by_length
from oskdft.files import atomic
from oskdft.model import SpeakerModel, device_of, load_model
from oskdft.onnxmodel import FILE as ONNX_FILE
from oskdft.onnxmodel import load_onnx
from oskdft.teacher import ASSETS, fold_weight_norm

SURE_S = 1.0  # below it `verify` warns (our choice): scores spread more than on whole utterances
SHORTEST_S = 0.5  # a shorter recording has too few frames to tell a voice
CPU_BATCH_S = 30.0  # [s] more audio at once leaves the cache, and each second of it takes longer
NAMES = ("classroom",)  # students in assets/


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Embeddings of n recordings: of the whole [n, E], of crops [n, C, E]; None where not asked."""

    full: np.ndarray | None
    crops: np.ndarray | None

    def single(self) -> np.ndarray:
        """One vector per recording [n, E]: of the whole, else the mean of its unit crops."""
        return scoring.mean_of_units(self.crops) if self.full is None else self.full


def embed_files(
    model: SpeakerModel, paths: list[Path], recipe: EvalConfig, half_batch: bool = False
) -> Embeddings:
    """Embed recordings as ``recipe`` says.

    Args:
        model: in evaluation mode, on the device to use.
        paths: n audio files.
        recipe: tta, crops, crop_s, batch_s (seconds of audio at once).
        half_batch: the first half of the crops goes without adapters, as released (surprise 1).
    """
    seconds = np.array([_seconds(path) for path in paths])
    full, crops = [None] * len(paths), [None] * len(paths)
    if model.device.type == "cpu":
        recipe = replace(recipe, batch_s=min(recipe.batch_s, CPU_BATCH_S))
    groups = batches_by_length(seconds, recipe.batch_s)
    for group in progress(groups, "embedding (batches)"):
        waves = [audio.read(paths[i]) for i in group]
        if recipe.tta != "crops":
            for i, row in zip(group, embed_waves(model, waves), strict=True):
                full[i] = row
        if recipe.tta != "full":
            for i, row in zip(group, _embed_crops(model, waves, recipe, half_batch), strict=True):
                crops[i] = row
    return Embeddings(
        None if recipe.tta == "crops" else np.stack(full),
        None if recipe.tta == "full" else np.stack(crops),
    )


def _seconds(path: Path) -> float:
    info = audio.info(path)
    seconds = info.samples / info.rate
    if seconds < SHORTEST_S:
        raise ValueError(f"{path} is {seconds:.2f} s long; give at least {SHORTEST_S} s of speech")
    return seconds


@torch.no_grad()
def embed_waves(model: SpeakerModel, waves: list[np.ndarray]) -> np.ndarray:
    """Embeddings of whole utterances of any lengths, together in one padded batch, [n, E]."""
    lengths = torch.tensor([len(wave) for wave in waves])
    batch = torch.zeros(len(waves), int(lengths.max()))
    for row, wave in zip(batch, waves, strict=True):
        row[: len(wave)] = torch.from_numpy(wave)
    return model(batch.to(model.device), lengths.to(model.device)).float().cpu().numpy()


@torch.no_grad()
def _embed_crops(
    model: SpeakerModel, waves: list[np.ndarray], recipe: EvalConfig, half_batch: bool
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
        rows = [crops[places.start : end] for crops, end in zip(cut, ends, strict=True)]
        batches = torch.from_numpy(np.concatenate(rows)).split(at_once)
        made = [model(b.to(model.device), None, len(b) if without else 0) for b in batches]
        each = torch.cat(made).float().cpu().split([len(row) for row in rows])
        parts.append(torch.stack([row.expand(len(places), -1) for row in each]))
    return torch.cat(parts, 1).numpy()


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
    model: SpeakerModel,
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


class Verifier:
    """A trained speaker model in use; make one with `oskdft.load`."""

    def __init__(self, model: SpeakerModel, recipe: EvalConfig, described: dict) -> None:
        self.model, self.recipe, self.described = model, recipe, described

    @property
    def threshold(self) -> float | None:
        """Score above which two recordings count as one speaker; set on development speakers."""
        return self.described.get("calibration", {}).get("full", {}).get("threshold")

    def embed(self, wave_or_path: np.ndarray | str | Path) -> np.ndarray:
        """Embedding [E] float32 of a recording: a file of any rate, or samples [N] at 16 kHz."""
        return embed_waves(self.model, [self._wave(wave_or_path)])[0]

    def score(self, a: np.ndarray | str | Path, b: np.ndarray | str | Path) -> float:
        """Cosine of two recordings in [-1, 1], whole utterances, higher is more alike."""
        pair = scoring.normalise(np.stack([self.embed(a), self.embed(b)]))
        return float(pair[0] @ pair[1])

    def verify(self, a: np.ndarray | str | Path, b: np.ndarray | str | Path) -> dict:
        """{"score": s, "threshold": t, "same": s >= t, "warnings": [...]}.

        Warnings, also said on stderr: recordings unlike those that the threshold was set on.

        Raises:
            ValueError: the model was saved without a threshold.
        """
        if self.threshold is None:
            raise ValueError("this model has no threshold; train it with development speakers")
        waves = [self._wave(source) for source in (a, b)]
        doubts = [line for pair in zip((a, b), waves, strict=True) for line in _doubts(*pair)]
        for line in doubts:
            say(f"warning: {line}; the threshold was not set on such speech")
        score = self.score(*waves)
        same = score >= self.threshold
        return {"score": score, "threshold": self.threshold, "same": same, "warnings": doubts}

    def _wave(self, source: np.ndarray | str | Path) -> np.ndarray:
        if not isinstance(source, np.ndarray):
            _seconds(Path(source))
            return audio.read(source)
        if source.dtype.kind != "f":
            raise ValueError(f"wave has type {source.dtype}; give float samples in [-1, 1]")
        if source.ndim != 1 or len(source) < SHORTEST_S * audio.SAMPLE_RATE:
            raise ValueError(
                f"wave has shape {source.shape}; give [N] samples at 16 kHz, at least {SHORTEST_S} s"
            )
        if not np.isfinite(source).all():
            raise ValueError("wave has samples that are not finite; clean it first")
        return source.astype(np.float32, copy=False)


def _doubts(source: np.ndarray | str | Path, wave: np.ndarray) -> list[str]:
    """Why a score of a recording may mean less than its calibration says."""
    name, rate = "wave", audio.SAMPLE_RATE
    if not isinstance(source, np.ndarray):
        name, rate = str(source), audio.info(source).rate
    found = {
        f"has {rate} Hz, not {audio.SAMPLE_RATE}": rate != audio.SAMPLE_RATE,
        f"is {len(wave) / audio.SAMPLE_RATE:.2f} s long": len(wave) < SURE_S * audio.SAMPLE_RATE,
        "is silent": audio.is_silent(wave),
        "is clipped": audio.is_clipped(wave),
    }
    return [f"{name} {what}" for what, holds in found.items() if holds]


def load(name_or_dir: str | Path, device: str = "auto") -> Verifier:
    """A verifier from a run folder, an exported folder or the name of a shipped student.

    Raises:
        ValueError: no such model, or files that do not fit.
    """
    folder = ASSETS / name_or_dir if str(name_or_dir) in NAMES else Path(name_or_dir)
    read = load_onnx if (folder / ONNX_FILE).is_file() else load_model
    model, cfg, described = read(folder)
    return Verifier(fold_weight_norm(model).to(device_of(device)), cfg.eval, described)


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
    return result


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
    return "\n".join([metrics.summary_text(result), interval, "recipe", *recipe])


def embed_to(files: list[Path], out: Path, name: str | Path, device: str = "auto") -> None:
    """Write embeddings [n, E] float32 and paths [n] of recordings as a NumPy archive."""
    verifier = load(name, device)
    made = embed_files(verifier.model, files, replace(verifier.recipe, tta="full"))
    paths = np.array([str(path) for path in files])
    with atomic(out, "wb") as file:
        np.savez(file, embeddings=made.full.astype(np.float32), paths=paths)
