"""Pre-train the classroom teachers: small HuBERT and wav2vec 2.0 models, without labels.

The objectives are those of the paper's teachers. Beside them, as an option, two crops of one
utterance under different noise and equalisation should resemble each other in a middle layer more
than any other utterance (UniSpeech-SAT). Without that loss small budgets leave speakers behind; the
model card says which teacher had it.
"""

import dataclasses
import functools
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from oskdft import audio, augment, checkpoint, corpora, provenance, synthetic, task
from oskdft.analysis import zero_shot_eer
from oskdft.clips import noise_files
from oskdft.console import progress, say
from oskdft.files import atomic, read_json, write_json
from oskdft.probes import speaker_eer
from oskdft.selfsupervised import (
    COEFFICIENTS,
    HOP,
    HubertPretrainer,
    PretrainConfig,
    Wav2Vec2Pretrainer,
    load_recipe,
    mfcc,
    utterance_contrast,
)  # fmt: skip

__all__ = ["PretrainConfig", "load_recipe", "pretrain", "run"]
VOICES_SEED = 1000  # voices heard here are nobody in the corpora made for training


class Speech:
    """All training audio in memory as 16-bit samples; crops start on whole frames.

    Args:
        paths: files to read, in a fixed order.
    """

    def __init__(self, paths: list[Path]) -> None:
        self.waves = [_to_int16(audio.read(path)) for path in progress(paths, "reading speech")]
        if not self.waves:
            raise ValueError(
                "no speech to pre-train on; set OSKDFT_DATA or give the recipe synthetic speakers"
            )

    def crop(self, index: int, samples: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        """Random crop [samples] in [-1, 1] and the frame it starts on; short clips are repeated."""
        wave = self.waves[index]
        start = int(rng.integers(max(len(wave) - samples, 0) // HOP + 1))
        part = wave[start * HOP : start * HOP + samples].astype(np.float32) / 32768
        return audio.wrap(part, samples), start

    def seconds(self) -> float:
        """Length of everything [s]."""
        return sum(map(len, self.waves)) / audio.SAMPLE_RATE


def _to_int16(wave: np.ndarray) -> np.ndarray:
    return np.clip(np.round(wave * 32768), -32768, 32767).astype(np.int16)


class Batches:
    """The batch of each step, from (seed, step) alone: utterances, two crops of each, their disturbance."""

    def __init__(self, recipe: PretrainConfig, speech: Speech, noises: list[np.ndarray]) -> None:
        self.recipe, self.speech, self.noises = recipe, speech, noises
        self.samples = int(recipe.crop_s * audio.SAMPLE_RATE)

    def __call__(self, step: int) -> tuple[Tensor, np.ndarray, np.ndarray]:
        """Returns disturbed crops [2U, N] (rows u and U + u belong together), utterances and frames [2U]."""
        r = self.recipe
        rng = np.random.default_rng([r.seed, step])
        chosen = rng.choice(
            len(self.speech.waves), min(r.utterances, len(self.speech.waves)), replace=False
        )
        rows = np.concatenate([chosen, chosen])
        crops = [self.speech.crop(index, self.samples, rng) for index in rows]
        wave = torch.from_numpy(np.stack([c[0] for c in crops]))
        noise = torch.from_numpy(np.stack([self._noise(rng) for _ in rows]))
        snr = torch.from_numpy(rng.uniform(*r.snr_db, len(rows)).astype(np.float32))
        gains = torch.from_numpy(
            rng.uniform(-r.equaliser_db, r.equaliser_db, (len(rows), 8)).astype(np.float32)
        )
        wave = augment.equalise(augment.add_noise(wave, noise, snr), gains)
        return wave, rows, np.array([c[1] for c in crops])

    def _noise(self, rng: np.random.Generator) -> np.ndarray:
        if not self.noises or rng.random() < 0.3:
            return rng.standard_normal(self.samples, dtype=np.float32)
        noise = self.noises[rng.integers(len(self.noises))]
        start = int(rng.integers(max(len(noise) - self.samples, 0) + 1))
        return audio.wrap(noise[start : start + self.samples], self.samples)


def run(recipe: PretrainConfig, out: Path) -> dict:
    """`pretrain` on what is here: synthetic voices, speechocean762 train, LibriSpeech cohort, noise.

    Development speakers of speechocean762 are left out and judge every layer; test speakers are
    never read. A corpus that is not here is left out and said so.
    """
    paths: list[Path] = []
    voices = Path(out) / "voices"
    if recipe.synthetic_speakers:
        synthetic.make_corpus(
            voices, recipe.synthetic_speakers, recipe.synthetic_utterances, VOICES_SEED
        )
        paths += _paths(corpora.load_corpus("synthetic", voices))
    try:
        everyone = corpora.load_corpus("speechocean762", split="train")
    except FileNotFoundError as error:
        say(f"{error}; judging on synthetic voices that are not trained on")
        judges = Path(out) / "judges"
        synthetic.make_corpus(judges, 30, 12, VOICES_SEED + 1)
        dev, name = corpora.load_corpus("synthetic", judges), "synthetic"
    else:
        train, dev = corpora.dev_split(everyone, recipe.dev_speakers, task.DEV_SEED)
        paths, name = _paths(train) + paths, "speechocean762"
    noises: list[np.ndarray] = []
    for data in corpora.data_folders():
        paths += sorted((data / "librispeech_cohort").glob("*/*.*"))
        found = noise_files(str(data / "noise")) if (data / "noise").is_dir() else {}
        noises += [audio.read(data / "noise" / path) for path in found.get("noise", [])]
    listed = corpora.make_trials(dev, task.DEV_SEED, 100, task.groups(name, dev))
    waves = [audio.read(dev.root / path) for path in listed.paths]
    pairs = np.stack([listed.enrol, listed.test], 1)
    return pretrain(recipe, out, Speech(paths), noises, _judge(waves, pairs, listed.label))


def _judge(waves: list[np.ndarray], pairs: np.ndarray, labels: np.ndarray) -> Callable:
    """Encoder -> zero-shot EER of each layer, with that of MFCC statistics, which need no encoder."""

    of_mfcc = functools.cache(lambda: mfcc_eer(waves, pairs, labels))
    return lambda encoder: {"mfcc": of_mfcc()} | zero_shot_eer(encoder, waves, pairs, labels)


def mfcc_eer(waves: list[np.ndarray], pairs: np.ndarray, labels: np.ndarray) -> float:
    """EER of mean and deviation of MFCC over time, standardised, cosine: what needs no encoder.

    Args:
        waves: n utterances [N] in [-1, 1]. pairs: [P, 2] rows. labels: [P] 1 same speaker.
    """
    # without the differences, whose statistics vary more between utterances than between voices
    features = [mfcc(_to_int16(wave), normalised=False)[:, :COEFFICIENTS] for wave in waves]
    return speaker_eer(np.stack([np.r_[f.mean(0), f.std(0)] for f in features]), pairs, labels)


def _paths(table: corpora.Utterances) -> list[Path]:
    return [table.path(i) for i in range(len(table))]


def pretrain(
    recipe: PretrainConfig,
    out: str | Path,
    speech: Speech,
    noises: list[np.ndarray],
    judge: Callable,
) -> dict:
    """Pre-train a teacher; continues from OUT/state.safetensors when it is there.

    Args:
        recipe: sizes, losses, budget.
        out: folder for config.json, model.safetensors, pretrain.json and state.safetensors.
        speech: training audio, without labels. noises: additive noise, each [n] at 16 kHz.
        judge: encoder -> zero-shot EER of each layer on development speakers (`zero_shot_eer`).
    Returns:
        what pretrain.json holds: recipe, seconds of speech, log.
    """
    out = Path(out)
    torch.manual_seed(recipe.seed)
    model = (HubertPretrainer if recipe.family == "hubert" else Wav2Vec2Pretrainer)(recipe)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=recipe.lr, betas=(0.9, 0.98), weight_decay=0.01
    )
    report = _restore(out, recipe, model, optimiser)
    first, relabel = report["step"], int(recipe.relabel_at * recipe.steps)
    if first == 0:
        report["speech_s"] = round(speech.seconds())
        model.prepare(speech.waves, own_features=False)
    batches, every = Batches(recipe, speech, noises), max(recipe.steps // 20, 1)
    began = time.monotonic() - report["seconds"]
    for step in progress(range(first, recipe.steps), f"pre-training {recipe.name}"):
        if step == relabel and step > 0:
            model.prepare(speech.waves, own_features=True)
        figures = _step(model, optimiser, batches(step), step)
        if (step + 1) % every == 0 or step + 1 == recipe.steps:
            report |= {"step": step + 1, "seconds": round(time.monotonic() - began)}
            eers = {layer: round(rate, 4) for layer, rate in judge(model.encoder).items()}
            best = min(eers, key=eers.get)
            report["log"].append({"step": step + 1} | figures | {"zero_shot_eer": eers})
            say(
                f"step {step + 1}: {_summary(figures)}, zero-shot EER {100 * eers[best]:.1f} % (layer {best})"
            )
            _save(out, model, optimiser, report)
    return report


def _step(
    model: nn.Module, optimiser: torch.optim.Optimizer, batch: tuple, step: int
) -> dict[str, float]:
    """One update; returns figures to log."""
    r = model.recipe
    np.random.seed(
        (r.seed + step) % 2**32
    )  # transformers draws masks and negatives from NumPy's generator
    torch.manual_seed(r.seed + step)
    share = step / r.steps
    for group in optimiser.param_groups:
        group["lr"] = r.lr * min(
            (step + 1) / (r.warmup * r.steps), 0.5 * (1 + math.cos(math.pi * share)) + 0.01
        )
    if r.family == "wav2vec2":
        model.cool(share)
    with torch.autocast("cpu", torch.bfloat16, enabled=r.precision == "bf16"):
        loss, states, mask, figures = model(*batch)
    figures = {"loss": loss.item()} | figures
    if r.contrast_weight:
        contrast = utterance_contrast(states[r.contrast_layer].float(), ~mask, r.temperature)
        loss = loss + r.contrast_weight * contrast
        figures["utterance_contrast"] = contrast.item()
    if not torch.isfinite(loss):
        raise ValueError(
            f"loss is {loss.item()} at step {step + 1}; lower lr and start again from the last state"
        )
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimiser.step()
    return {name: round(float(value), 5) for name, value in figures.items()}


def _summary(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in figures.items())


def _save(out: Path, model: nn.Module, optimiser: torch.optim.Optimizer, report: dict) -> None:
    """The teacher as transformers reads it and, last, the state for going on.

    A cut in between leaves the older state, and `_restore` drops what the log has beyond it.
    """
    save_teacher(model.encoder, out)
    write_json(out / "pretrain.json", report)
    with atomic(out / "README.md") as file:
        file.write(card(report))
    state = checkpoint.prefixed(model.state_dict(), "model.")
    state |= checkpoint.prefixed(checkpoint.optimiser_tensors(optimiser), "optimiser.")
    if getattr(model, "labels", None):
        state["labels"] = torch.from_numpy(np.concatenate(model.labels))
        state["label_lengths"] = torch.tensor([len(labels) for labels in model.labels])
    state["step"] = torch.tensor(report["step"])
    checkpoint.save_tensors(out / "state.safetensors", state)


def card(report: dict) -> str:
    """The model card of a teacher: objective, speech, budget, what its layers know.

    Args:
        report: what pretrain.json holds.
    """
    r, last = report["recipe"], report["log"][-1]
    objective = {
        "hubert": "masked prediction (HuBERT): clusters of MFCC, then of its own features",
        "wav2vec2": "contrastive prediction (wav2vec 2.0, stable layer norm)",
    }[r["family"]]
    beside = "without any further loss, as the paper's teachers were trained"
    if r["contrast_weight"]:
        beside = (
            f"beside it the utterance-wise contrastive loss of UniSpeech-SAT on layer "
            f"{r['contrast_layer']}, weight {r['contrast_weight']:g}; the paper's teachers had none"
        )
    recipe = "\n".join(f"- {name}: {value}" for name, value in r.items())
    machine = f"{report['device']}, {report['cores']} cores, torch {report['versions']['torch']}"
    heads = " | ".join(last["zero_shot_eer"])
    rates = " | ".join(f"{100 * rate:.1f}" for rate in last["zero_shot_eer"].values())
    return f"""# {r["name"]}

A small speech encoder for lessons, pre-trained without labels: {objective}; {beside}.

- Speech: {report["speech_s"] / 3600:.1f} h, of speechocean762 (train, without development speakers),
  LibriSpeech and synthetic voices as far as they were there. No test speaker was heard.
- Budget: {report["step"]} steps of {2 * r["utterances"]} crops of {r["crop_s"]:g} s,
  {report["seconds"] / 60:.0f} minutes ({machine}, {report["date"]}).
- Weights are stored as 16-bit floats. The log of the training is in pretrain.json.
- For teaching and tests; too small and too little trained for anything else.

Zero-shot EER in per cent of each layer on development speakers before any label was used (mean and deviation
over time, standardised, cosine), beside MFCC, which need no training:

| {heads} |
|{"---|" * len(last["zero_shot_eer"])}
| {rates} |

## Recipe

{recipe}
"""


def save_teacher(encoder: nn.Module, out: Path) -> None:
    """config.json and model.safetensors (16-bit floats: half the size, the same decisions)."""
    write_json(out / "config.json", encoder.config.to_dict())
    checkpoint.save_tensors(
        out / "model.safetensors", {k: v.half() for k, v in encoder.state_dict().items()}
    )


def _restore(
    out: Path, recipe: PretrainConfig, model: nn.Module, optimiser: torch.optim.Optimizer
) -> dict:
    """The report so far; a fresh one when OUT is new."""
    wanted = json.loads(json.dumps(dataclasses.asdict(recipe)))
    if not (out / "state.safetensors").is_file():
        start = {"recipe": wanted, "step": 0, "seconds": 0, "speech_s": 0}
        return start | provenance.facts() | {"log": []}
    report, state = (
        read_json(out / "pretrain.json"),
        checkpoint.load_tensors(out / "state.safetensors"),
    )
    if report["recipe"] != wanted:
        raise ValueError(f"{out} holds a teacher of another recipe; choose another --out")
    checkpoint.load_strictly(model, checkpoint.select(state, "model."), f"{out}/state.safetensors")
    checkpoint.restore_optimiser(optimiser, checkpoint.select(state, "optimiser."))
    if "labels" in state:
        model.labels = [
            part.numpy() for part in state["labels"].split(state["label_lengths"].tolist())
        ]
    report["step"] = int(state["step"])
    report["log"] = [entry for entry in report["log"] if entry["step"] <= report["step"]]
    return report
