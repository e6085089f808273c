"""Pre-train the classroom teachers: small HuBERT and wav2vec 2.0 models, without labels.

The objectives are those of the paper's teachers. An optional second loss (UniSpeech-SAT) pulls two
crops of one utterance, under different noise and equalisation, together in a middle layer and away
from all other utterances. Without it a small budget teaches the layers little about speakers. The
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
from torch import nn

from oskdft.evaluation.probes import speaker_eer, zero_shot_eer
from oskdft.speech import audio, protocol
from oskdft.speech.corpora import catalogue, drawn_trials, tables
from oskdft.speech.mel import COEFFICIENTS
from oskdft.speech.noise import noise_files
from oskdft.storage import tensors
from oskdft.training import run_folder
from oskdft.training.pretraining.data import CropPairs, Speech, to_int16
from oskdft.training.pretraining.objectives import (
    HubertPretrainer,
    PretrainConfig,
    Wav2Vec2Pretrainer,
    mfcc,
    utterance_contrast,
)
from oskdft.utils import provenance
from oskdft.utils.console import progress, say
from oskdft.utils.files import atomic, require_own_folder, write_json
from oskdft.utils.process import Interrupts, explained

MADE = (
    "checkpoints", "config.json", "model.safetensors", "pretrain.json", "README.md", run_folder.LOCK,
)  # fmt: skip
COHORT_DEV = 5  # every fifth speaker of the LibriSpeech excerpts is kept for development


def run(recipe: PretrainConfig, out: str | Path) -> dict:
    """Pre-train on the corpora that are here, see `hear`."""
    return pretrain(recipe, out, lambda: hear(recipe))


def hear(recipe: PretrainConfig) -> tuple[Speech, list[np.ndarray], Callable]:
    """Read speechbox train and the LibriSpeech cohort, noise, and the judge of the layers.

    Development speakers of speechbox are left out and judge every layer; test speakers are never
    read. Cohort (four speakers of five) and noise are used where $OSKDFT_DATA has them.
    """
    everyone = tables.load_corpus("speechbox", split="train")
    train, dev = tables.dev_split(everyone, recipe.dev_speakers, protocol.DEV_SEED)
    paths = [train.path(i) for i in range(len(train))]
    noises: list[np.ndarray] = []
    for data in catalogue.data_folders():
        cohort = sorted((data / "librispeech_cohort").glob("*/*.*"))
        paths += [path for number, path in enumerate(cohort) if number % COHORT_DEV]
        clips = noise_files(str(data / "noise")) if (data / "noise").is_dir() else {}
        noises += [audio.read(data / "noise" / path) for path in clips.get("noise", [])]
    alike = protocol.groups("speechbox", dev)
    dev_trials = drawn_trials.make_trials(dev, protocol.DEV_SEED, protocol.DEV_TRIALS, alike)
    waves = [audio.read(dev.root / path) for path in dev_trials.paths]
    pairs = np.stack([dev_trials.enrol, dev_trials.test], 1)
    judged = waves, pairs, dev_trials.label
    of_mfcc = functools.cache(lambda: mfcc_eer(*judged))  # MFCC statistics need no encoder

    def judge(encoder: nn.Module) -> dict[str, float]:
        return {"mfcc": of_mfcc()} | zero_shot_eer(encoder, *judged)

    return Speech(paths), noises, judge


def mfcc_eer(waves: list[np.ndarray], pairs: np.ndarray, labels: np.ndarray) -> float:
    """EER of mean and deviation of MFCC over time, standardised, cosine: what needs no encoder.

    Args:
        waves: n utterances [N] in [-1, 1]. pairs: [P, 2] rows. labels: [P] 1 same speaker.
    """
    # without the differences, whose statistics vary more between utterances than between voices
    features = [mfcc(to_int16(wave), normalised=False)[:, :COEFFICIENTS] for wave in waves]
    return speaker_eer(np.stack([np.r_[f.mean(0), f.std(0)] for f in features]), pairs, labels)


def pretrain(recipe: PretrainConfig, out: str | Path, hear: Callable[[], tuple]) -> dict:
    """Pre-train a teacher; resume from the newest state in OUT/checkpoints if there is one.

    Args:
        recipe: sizes, losses, budget.
        out: folder for config.json, model.safetensors, pretrain.json and checkpoints/.
        hear: gives the training audio (`Speech`), additive noise, each [n] at 16 kHz, and encoder ->
            zero-shot EER of each layer on development speakers (`zero_shot_eer`).
    Returns:
        the content of pretrain.json: recipe, seconds of speech, log.
    Raises:
        ValueError: a teacher of another recipe is there, another process writes there, a loss is not
            finite, or memory is short. OSError: no room, or a disk that is full or gone.
        SystemExit, KeyboardInterrupt: SIGTERM (exit code 143) or Ctrl-C; the state is saved.
    """
    out = Path(out)
    require_own_folder(out, MADE if (out / "checkpoints").is_dir() else [run_folder.LOCK])
    left = f"the last good state is in {out}/checkpoints; the same command goes on from there"
    with Interrupts() as interrupts, run_folder.Lock(out) as lock, explained(left):
        (out / "checkpoints").mkdir(exist_ok=True)
        loop = Loop(recipe, out, interrupts, lock)
        loop.run_through(*hear())
    return loop.report


class Loop:
    """Model, optimiser and report of a pre-training. Signals arrive between two steps.

    Args:
        recipe: of the teacher. out: its folder. lock: of the folder.
    """

    def __init__(
        self, recipe: PretrainConfig, out: Path, interrupts: Interrupts, lock: run_folder.Lock
    ) -> None:
        self.recipe, self.out, self.interrupts, self.lock = recipe, out, interrupts, lock
        torch.manual_seed(recipe.seed)
        pretrainer = HubertPretrainer if recipe.family == "hubert" else Wav2Vec2Pretrainer
        self.model = pretrainer(recipe)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=recipe.lr, betas=(0.9, 0.98), weight_decay=0.01
        )
        run_folder.tidy(out)
        self.report, self.figures = self._restore()
        run_folder.check_space(out, self.model.encoder, self.model)
        self.began = time.monotonic() - self.report["seconds"]

    def run_through(self, speech: Speech, noises: list[np.ndarray], judge: Callable) -> None:
        """Train to the end; on a signal, save the state first."""
        if self.report["step"] == 0:
            self.report["speech_s"] = round(speech.seconds())
            self.model.prepare(speech.waves, own_features=False)
        try:
            self._train(speech, CropPairs(self.recipe, speech, noises), judge)
        except (KeyboardInterrupt, SystemExit):
            with self.interrupts.held():
                self.save()
            say(f"stopped after step {self.report['step']}; the same command goes on from there")
            raise
        except OSError:
            self.lock.check()  # "the folder has vanished" tells more than the first missing file
            raise

    def _train(self, speech: Speech, batches: CropPairs, judge: Callable) -> None:
        steps, report = self.recipe.steps, self.report
        first, relabel = report["step"], int(self.recipe.relabel_at * steps)
        self._judge_when_due(judge)  # the run was interrupted before or in it
        for step in progress(range(first, steps), f"pre-training {self.recipe.name}"):
            if step == relabel and step > 0:
                self.model.prepare(speech.waves, own_features=True)
            with self.interrupts.held():
                self.figures = _step(self.model, self.optimiser, batches(step), step)
                report["step"] = step + 1
            self._judge_when_due(judge)

    def _judge_when_due(self, judge: Callable) -> None:
        """Twenty times in a run: judge the layers; write log, teacher and state."""
        report, step = self.report, self.report["step"]
        due = step == self.recipe.steps or step % max(self.recipe.steps // 20, 1) == 0
        if not (due and step) or any(entry["step"] == step for entry in report["log"]):
            return
        eers = {layer: round(rate, 4) for layer, rate in judge(self.model.encoder).items()}
        best = min(eers, key=eers.get)
        losses = ", ".join(f"{name} {value:.3f}" for name, value in self.figures.items())
        say(f"step {step}: {losses}, zero-shot EER {100 * eers[best]:.1f} % (layer {best})")
        with self.interrupts.held():
            report["log"].append({"step": step} | self.figures | {"zero_shot_eer": eers})
            report["seconds"] = self._seconds()
            self.lock.check()
            save_teacher(self.model.encoder, self.out)
            write_json(self.out / "pretrain.json", report)
            with atomic(self.out / "README.md") as file:
                file.write(card(report))
            self.save()  # last: a run resumed from an older state writes all of this again

    def _seconds(self) -> int:
        return round(time.monotonic() - self.began)

    def save(self) -> None:
        """Write the state that a resume starts from."""
        self.lock.check()
        state = run_folder.state_tensors("model", self.model, self.optimiser)
        if getattr(self.model, "labels", None):
            state["labels"] = torch.from_numpy(np.concatenate(self.model.labels))
            state["label_lengths"] = torch.tensor([len(labels) for labels in self.model.labels])
        position = {"stage": 0, "step": self.report["step"], "seconds": self._seconds()}
        log = {"rows": [], "validations": [], "window": self.figures, "report": self.report}
        run_folder.write_state(self.out, position | log, state)

    def _restore(self) -> tuple[dict, dict[str, float]]:
        """Return the report so far (a new one if OUT is new) and the figures of the last step."""
        recipe = json.loads(json.dumps(dataclasses.asdict(self.recipe)))
        state = run_folder.last_state(self.out)
        if state is None:
            start = {"recipe": recipe, "step": 0, "seconds": 0, "speech_s": 0}
            return start | provenance.facts() | {"log": []}, {}
        if state["report"]["recipe"] != recipe:
            raise ValueError(f"{self.out} holds a teacher of another recipe; choose another --out")
        stored = state["tensors"]
        run_folder.restore(stored, "model", self.model, self.optimiser)
        if "labels" in stored:
            lengths = stored["label_lengths"].tolist()
            self.model.labels = [part.numpy() for part in stored["labels"].split(lengths)]
        return state["report"] | {"seconds": state["seconds"]}, state["window"]


def _step(
    model: nn.Module, optimiser: torch.optim.Optimizer, batch: tuple, step: int
) -> dict[str, float]:
    """Update the weights once; return the figures of the log."""
    r = model.recipe
    # transformers draws masks and negatives from NumPy's generator
    np.random.seed((r.seed + step) % 2**32)
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


def card(report: dict) -> str:
    """Write the model card of a teacher: objective, speech, budget, zero-shot EER of its layers.

    Args:
        report: the content of pretrain.json.
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

- Speech: {report["speech_s"] / 3600:.1f} h, of speechbox (train, without development speakers) and, where
  they were there, excerpts of LibriSpeech. No test speaker was used.
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
    """Write config.json and model.safetensors (16-bit floats: half the size, the same decisions)."""
    write_json(out / "config.json", encoder.config.to_dict())
    tensors.save_tensors(
        out / "model.safetensors", {k: v.half() for k, v in encoder.state_dict().items()}
    )
