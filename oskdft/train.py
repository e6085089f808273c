"""One visible loop: stages of a strategy, losses, validation, checkpoints. Scale-out is Accelerate's.

A run folder holds config.yaml, metrics.csv, checkpoints/, best/, last/ and report.json. All chance in
a step follows from (seed, stage, step), so a resumed run is the uninterrupted one.
"""

import importlib.util
import time
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from oskdft import losses, optim, provenance, runfolder, task
from oskdft.config import Config, to_dict
from oskdft.console import progress, say
from oskdft.dataset import loader
from oskdft.files import write_json
from oskdft.meter import Meter, gradient_norms
from oskdft.model import SpeakerModel, load_model, new_model, save_model
from oskdft.strategies import Stage, stage_config, stages
from oskdft.teacher import Teacher, frame_count, load_encoder
from oskdft.validation import Best, calibrated

LOG_EVERY = 10  # steps averaged into one row of metrics.csv


class Objective(nn.Module):
    """All that is trained in a stage, and its losses; one module, so that gradients are shared.

    Args:
        model: student and back-end. sv: speaker loss. kd: distillation loss.
        stage: which losses count, and on how many paths.
    """

    def __init__(self, model: SpeakerModel, sv: nn.Module, kd: nn.Module, stage: Stage) -> None:
        super().__init__()
        self.model, self.stage = model, stage
        self.sv = sv if stage.sv else None
        self.kd = kd if stage.kd else None

    def forward(
        self, heard: Tensor, label: Tensor, target: Tensor | None, wanted: Tensor | None,
        kd_wave: Tensor | None = None,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Losses of a batch.

        Args:
            heard: [B, N] the student's crop. label: [B].
            target: [K, B, T, D] the teacher's states, or None without distillation.
            wanted: [B, E] the teacher's embedding, or None.
            kd_wave: [B, N] what the distillation path hears when it is another recording.
        Returns:
            "kd" [K] per layer, "sv", "accuracy", "embedding": those that the stage has.
        """
        student, out = self.model.student, {}
        if self.kd is not None and kd_wave is not None:
            imitated = student(kd_wave, without_adapters=len(kd_wave))
            states = student(heard) if self.stage.sv else imitated
        elif self.kd is not None and self.stage.adapters:
            imitated, states = student.forward_two_paths(heard)
        else:
            imitated = states = student(heard)
        if self.kd is not None:
            out["kd"] = self.kd(imitated, target)
        if self.sv is not None or wanted is not None:
            embedding = self.model.backend(states)
        if self.sv is not None:
            out["sv"], logits = self.sv(embedding, label)
            out["accuracy"] = (logits.argmax(1) == label).float().mean()
        if wanted is not None:
            out["embedding"] = nn.functional.mse_loss(embedding, wanted)
        return out


class Run:
    """A training run: the folder, the accelerator, the task, and what the stages share."""

    def __init__(self, cfg: Config, out: Path, resume: bool) -> None:
        self.out = Path(out)
        bf16 = "bf16" if cfg.train.precision == "bf16" else "no"
        self.accelerator = Accelerator(
            cpu=cfg.device == "cpu",
            mixed_precision=bf16,
            log_with=_trackers(),
            project_dir=self.out,
        )
        world = self.accelerator.num_processes
        if cfg.train.batch % world:
            raise ValueError(
                f"train.batch is {cfg.train.batch} over {world} processes; choose a multiple"
            )
        self.cfg = cfg
        self.main = self.accelerator.is_main_process
        self.teacher = Teacher(load_encoder(cfg.model.teacher))
        self.task = task.prepare(
            cfg
        )  # everything that can be missing is asked for before the folder
        if self.main:
            runfolder.claim(self.out, cfg, resume)
        self.accelerator.wait_for_everyone()
        self.rows: list[dict] = []
        self.validations: list[dict] = []
        self.began = time.monotonic()
        self.accelerator.init_trackers("tensorboard")

    def place(self, stage: int, step: int) -> dict:
        """Where the run stands, for a checkpoint."""
        seconds = round(time.monotonic() - self.began, 1)
        done = {"rows": self.rows, "validations": self.validations, "seconds": seconds}
        return {"stage": stage, "step": step} | done

    def go_on(self, place: dict) -> None:
        """Take up the log and the clock of an interrupted run."""
        self.rows, self.validations = place["rows"], place["validations"]
        self.began -= place["seconds"]

    def steps_per_epoch(self) -> int:
        """Updates in an epoch: the configured number, or one pass over the data."""
        return self.cfg.train.steps_per_epoch or max(
            len(self.task.train) // self.cfg.train.batch, 1
        )


def train(cfg: Config, out: str | Path, resume: bool = False) -> dict:
    """Train ``cfg.strategy`` into the run folder ``out`` and return its report.

    Args:
        cfg: everything about the run.
        out: a new folder, or with ``resume`` that of the same configuration.
    Raises:
        ValueError: the folder holds a run already, or one of another configuration; a loss that is
            not finite (the last good checkpoint stays).
        FileNotFoundError: corpus or weights missing, before anything is trained.
    """
    plan = stages(cfg)
    run = Run(cfg, Path(out), resume)
    place = runfolder.last_state(run.out) if resume else None
    if place:
        run.go_on(place)
    model = None
    for number, stage in enumerate(plan):
        staged = stage_config(cfg, stage, run.teacher.encoder.config.num_hidden_layers)
        if place and number < place["stage"]:
            folder = run.out / f"stage{number}"
            model = load_model(folder)[0] if folder.is_dir() else None
        else:
            state = place if place and number == place["stage"] else None
            model = _run_stage(run, staged, stage, number, model, state)
        if stage.becomes_teacher:
            run.teacher = TunedTeacher(model)
    return _finish(run, model, staged)


class TunedTeacher(Teacher):
    """A fine-tuned teacher: its states, and its embedding for PostComp."""

    def __init__(self, model: SpeakerModel) -> None:
        super().__init__(model.student.encoder)
        self.backend = model.backend.requires_grad_(False).eval()

    @torch.no_grad()
    def states_and_embedding(self, wave: Tensor, keep: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Kept states [K, B, T, D] and embedding [B, E]."""
        every = self(wave)
        return torch.stack([every[i] for i in keep]), self.backend(every)


def _run_stage(
    run: Run, cfg: Config, stage: Stage, number: int, model: SpeakerModel | None, state: dict | None
) -> SpeakerModel:
    """Train one stage; ``state`` is where an interrupted one goes on."""
    seed_all(cfg.seed, number, 0)
    if stage.start != "previous":
        model = new_model(cfg, run.teacher.encoder, from_scratch=stage.start == "scratch")
    counts = torch.from_numpy(run.task.train.counts()).float()
    width = model.config.hidden_size
    sv = losses.build_sv_loss(cfg.loss, cfg.model.embedding, counts)
    kd = losses.build_kd_loss(cfg.loss, cfg.switches, width, run.teacher.encoder.config.hidden_size)
    objective = Objective(model, sv, kd, stage)
    if cfg.train.freeze_cnn:
        model.student.encoder.feature_extractor.requires_grad_(False)
    heads = [m for m in (model.backend, objective.sv, objective.kd) if m is not None]
    optimiser = torch.optim.Adam(
        optim.parameter_groups(model.student, heads), weight_decay=cfg.train.weight_decay
    )
    if state:
        runfolder.restore(state, objective, optimiser)
    run.teacher.to(run.accelerator.device)
    wrapped, optimiser = run.accelerator.prepare(objective, optimiser)
    _steps(run, cfg, stage, number, objective, wrapped, optimiser, state["step"] if state else 0)
    if run.main and number + 1 < len(stages(cfg)):  # where a resumed run finds it
        _save_model(run, run.out / f"stage{number}", model, cfg, {})
    return model


def _steps(
    run: Run, cfg: Config, stage: Stage, number: int, objective, wrapped, optimiser, first: int
) -> None:
    """The loop itself."""
    per_epoch = run.steps_per_epoch()
    epochs = max(round(cfg.train.epochs * stage.share), 1)
    steps = epochs * per_epoch
    data = task.dataset(cfg, run.task, steps * cfg.train.batch // len(run.task.train))
    accelerator = run.accelerator
    batches = loader(
        data, cfg.train.batch, steps, cfg.data.workers, first,
        accelerator.process_index, accelerator.num_processes,
    )  # fmt: skip
    meter, best = Meter(), Best(run.out, cfg, run.task, run.validations, number)
    done = progress(range(first, steps), f"{cfg.strategy}: {stage.name}")
    iterator = iter(batches)
    for step in done:
        epoch = step // per_epoch + 1
        if step % per_epoch == 0 and cfg.switches.optimiser == "rebuilt":
            optimiser.optimizer.state.clear()  # surprise 6
        meter.start()
        clean, heard, label, _ = (x.to(accelerator.device) for x in next(iterator))
        meter.data_ready()
        seed_all(cfg.seed, number, step, _rank(run))
        rates = optim.rates(cfg.train, epoch, step / steps)
        frozen = step < stage.frozen * steps
        for group in optimiser.param_groups:
            group["lr"] = 0.0 if frozen and group["name"] == "body" else rates[group["name"]]
        figures, total = _losses(
            run, cfg, stage, objective, wrapped, clean, heard, label, epoch, epochs
        )
        if not torch.isfinite(total):
            raise ValueError(
                f"the loss is {total.item()} at step {step + 1} of stage {stage.name!r} ({figures}); the "
                f"last good state is in {run.out}/checkpoints; lower train.lr and resume"
            )
        optimiser.zero_grad()
        accelerator.backward(total)
        figures |= gradient_norms(optimiser)
        if cfg.train.max_grad_norm:
            accelerator.clip_grad_norm_(wrapped.parameters(), cfg.train.max_grad_norm)
        optimiser.step()
        meter.add(figures, len(label) * accelerator.num_processes)
        last_of_epoch = (step + 1) % per_epoch == 0
        if (step + 1) % LOG_EVERY == 0 or last_of_epoch:
            row = {"stage": number, "step": step + 1, "epoch": epoch} | meter.read()
            row |= {f"lr_{name}": rate for name, rate in rates.items()}
            run.rows.append(row)
            accelerator.log({k: v for k, v in row.items() if k not in ("stage", "step")}, step + 1)
        if last_of_epoch:
            due = stage.sv or stage.embedding_kd
            if due and (epoch % cfg.train.validate_every == 0 or epoch == epochs):
                if run.main:
                    best.validate(objective.model, step + 1, epoch)
                accelerator.wait_for_everyone()
            if run.main:
                runfolder.save_state(run.out, run.place(number, step + 1), objective, optimiser)
            if cfg.train.patience and best.stale >= cfg.train.patience:
                say(
                    f"no better development EER for {best.stale} validations: stopping at epoch {epoch}"
                )
                break


def _losses(
    run: Run,
    cfg: Config,
    stage: Stage,
    objective,
    wrapped,
    clean,
    heard,
    label,
    epoch: int,
    epochs: int,
) -> tuple[dict[str, float], Tensor]:
    """Figures to log and the total loss of a batch."""
    target = wanted = None
    if stage.kd:
        with run.accelerator.autocast():
            if stage.embedding_kd:
                target, wanted = run.teacher.states_and_embedding(clean, objective.kd.layers)
            else:
                target = run.teacher(clean, keep=objective.kd.layers)
    other = clean if cfg.data.kd_corpus and cfg.switches.kd_data == "as_chosen" else None
    out = wrapped(heard, label, target, wanted, other)
    total, figures = torch.zeros((), device=heard.device), {}
    if "kd" in out:
        total = total + losses.kd_weight(cfg.loss, epoch, epochs) * out["kd"].sum()
        frames = frame_count(objective.model.config, heard.shape[1])
        floor = objective.kd.floor_for(frames) if hasattr(objective.kd, "floor_for") else 0.0
        for layer, loss in zip(objective.kd.layers, out["kd"].tolist(), strict=True):
            figures[f"kd_layer{layer}"] = loss
        figures["kd_excess"] = sum(out["kd"].tolist()) - floor * len(out["kd"])
    for name in ("sv", "embedding"):
        if name in out:
            total = total + out[name]
            figures[name] = out[name].item()
    if "accuracy" in out:
        figures["accuracy"] = out["accuracy"].item()
    return {"loss": total.item()} | figures, total


def seed_all(*words: int) -> None:
    """Seed torch (dropout, adapter noise) and NumPy (LayerDrop, SpecAugment) from (seed, stage, step)."""
    state = np.random.SeedSequence(words).generate_state(2)
    torch.manual_seed(int(state[0]))
    np.random.seed(int(state[1]))


def _rank(run: Run) -> int:
    """Surprise 13: as released, all ranks draw the same noise."""
    return run.accelerator.process_index if run.cfg.switches.student_noise == "per_rank" else 0


def _save_model(run: Run, folder: Path, model: SpeakerModel, cfg: Config, facts: dict) -> None:
    save_model(folder, model, cfg, run.task.train.speakers, facts)


def _finish(run: Run, model: SpeakerModel, cfg: Config) -> dict:
    """last/, best/ where nothing was validated, report.json; returns the report."""
    if not run.main:
        return {}
    _save_model(run, run.out / "last", model, cfg, calibrated(model, run.task, cfg))
    if not (run.out / "best").is_dir():
        _save_model(run, run.out / "best", model, cfg, calibrated(model, run.task, cfg))
    report = {
        "config": to_dict(cfg),
        "train_utterances": len(run.task.train),
        "train_speakers": len(run.task.train.speakers),
        "dev_speakers": len(run.task.dev.speakers),
        "dev_trials": len(run.task.dev_trials),
        "validations": run.validations,
        "seconds": round(time.monotonic() - run.began, 1),
        "parameters": sum(p.numel() for p in model.parameters()),
    } | provenance.facts()
    write_json(run.out / "report.json", report)
    run.accelerator.end_training()
    return report


def _trackers() -> str | None:
    """TensorBoard through Accelerate when it is installed (extra "notebooks")."""
    return "tensorboard" if importlib.util.find_spec("tensorboard") else None
