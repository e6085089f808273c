"""TODO training.loop."""

import math
from collections.abc import Iterable
from contextlib import nullcontext

import numpy as np
import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor

from oskdft.config import Config
from oskdft.method import losses
from oskdft.method.encoder import frame_count
from oskdft.method.model import SpeakerModel, new_model
from oskdft.method.objective import Objective
from oskdft.method.strategies import Stage
from oskdft.method.teacher import (
    features_of_both,
    same_cnn,
    standardised,
    states_and_embedding,
)
from oskdft.speech import protocol
from oskdft.speech.dataset import loader
from oskdft.storage.model_folder import save_model
from oskdft.training import optim, run_folder
from oskdft.training.meter import Meter, gradient_norms
from oskdft.training.run import Run
from oskdft.training.validation import Best
from oskdft.utils.console import progress, say, some
from oskdft.utils.distributed import any_process
from oskdft.utils.process import explained

LOG_EVERY = 10  # steps averaged into one row of metrics.csv
DIVERGED = 10.0  # times the first epoch's mean loss (our choice)


class StageLoop:
    """One stage of a strategy, step by step.

    Args:
        run: what the stages share. cfg: with the model of this stage. number: of the stage.
        model: of the stage before, for stages that go on with it.
    """

    def __init__(
        self, run: Run, cfg: Config, stage: Stage, number: int, model: SpeakerModel | None
    ) -> None:
        self.run, self.cfg, self.stage, self.number = run, cfg, stage, number
        seed_all(cfg.seed, number, 0)
        if stage.start != "previous":
            model = new_model(cfg, run.teacher.encoder, from_scratch=stage.start == "scratch")
        if cfg.train.freeze_cnn:
            model.student.encoder.feature_extractor.requires_grad_(False)
        self.model = model
        recordings = len(run.task.train)
        self.per_epoch = cfg.train.steps_per_epoch or max(recordings // cfg.train.batch, 1)
        self.epochs = max(round(cfg.train.epochs * stage.share), 1)
        self.steps = self.epochs * self.per_epoch
        self.data = protocol.dataset(cfg, run.task, self.steps * cfg.train.batch // recordings)
        counts = torch.from_numpy(self.data.counts()).float()
        widths = model.config.hidden_size, run.teacher.encoder.config.hidden_size
        sv = losses.build_sv_loss(cfg.loss, cfg.model.embedding, counts)
        kd = losses.build_kd_loss(cfg.loss, cfg.switches, *widths)
        self.objective = Objective(model, sv, kd, stage)
        heads = [m for m in (model.backend, self.objective.sv, self.objective.kd) if m is not None]
        rebuilt = cfg.switches.optimiser == "rebuilt"  # surprise 6: no moments, no weight decay
        decay = 0.0 if rebuilt else cfg.train.weight_decay
        groups = optim.parameter_groups(model.student, heads)
        self.optimiser = torch.optim.Adam(groups, weight_decay=decay)
        self.best = Best(cfg, run.task, run.validations, number)
        self.meter = Meter()

    def run_through(self, place: dict | None) -> SpeakerModel:
        """Train from the start, or from ``place`` on; returns the model."""
        run, cfg = self.run, self.cfg
        self.done = place["step"] if place else 0  # steps
        if place:
            run_folder.restore(place, self.objective, self.optimiser)
        if run.main:
            run_folder.check_space(run.out, self.model, self.objective)
        run.teacher.to(run.accelerator.device)
        self.wrapped, self.prepared = run.accelerator.prepare(self.objective, self.optimiser)
        encoders = self.model.student.encoder, run.teacher.encoder
        self.one_cnn = cfg.train.freeze_cnn and same_cnn(*encoders)  # run once for both
        ranks = run.accelerator.process_index, run.accelerator.num_processes
        batch, workers = cfg.train.batch, cfg.data.workers
        batches = loader(self.data, batch, self.steps, workers, self.done, *ranks)
        self.objective.train()
        self.meter.reset(place["window"] if place else None)
        left = f"the last good state is in {run.out}/checkpoints; go on with --resume"
        # several processes stop together or not at all: what one was told counts where all have asked
        together = run.interrupts.held() if ranks[1] > 1 else nullcontext()
        try:
            with explained(left), together:
                self._go(batches)
        except (KeyboardInterrupt, SystemExit):
            if run.main:
                with run.interrupts.held():
                    self.save(self.done)
                say(f"stopped after step {self.done}; go on with --resume")
            run.accelerator.wait_for_everyone()
            raise
        except OSError:
            if run.main:
                run.lock.check()  # a folder that is gone says more than the file missed first
            raise
        return self.model

    def _go(self, batches: Iterable[tuple[Tensor, ...]]) -> None:
        """The steps that are left; a signal comes between two of them or inside a validation."""
        if self.done and self.done % self.per_epoch == 0 and self.end_of_epoch(self.done):
            return  # the run was cut before, in or behind this end of an epoch
        steps = progress(range(self.done, self.steps), f"{self.cfg.strategy}: {self.stage.name}")
        for step, batch in zip(steps, batches, strict=True):
            with self.run.interrupts.held():
                self.step(step, batch)
                self.done = step + 1
            self._stop_together()
            if self.done % self.per_epoch == 0 and self.end_of_epoch(self.done):
                return

    def _stop_together(self) -> None:
        """With several processes: wait for all of them, and stop if any was signalled."""
        interrupts, accelerator = self.run.interrupts, self.run.accelerator
        if accelerator.num_processes > 1 and any_process(interrupts.waiting, accelerator.device):
            interrupts.stop()

    def step(self, step: int, batch: tuple[Tensor, ...]) -> None:
        """One update of the weights, from both losses at once."""
        run, epoch = self.run, step // self.per_epoch + 1
        clean, heard, label, rows = (x.to(run.accelerator.device) for x in batch)
        self.meter.data_ready()
        seed_all(self.cfg.seed, self.number, step, self._noise_rank())
        if step % self.per_epoch == 0 and self.cfg.switches.optimiser == "rebuilt":
            self.optimiser.state.clear()
        rates = optim.rates(self.cfg.train, epoch, step / self.steps)
        frozen = step < self.stage.frozen * self.steps
        for group in self.prepared.param_groups:
            group["lr"] = 0.0 if frozen and group["name"] == "body" else rates[group["name"]]
        out = self.wrapped(heard, label, *self._teacher_says(clean, heard))
        total, figures = self.total(out, epoch, heard.shape[1])
        self.prepared.zero_grad()
        run.accelerator.backward(total)
        figures = {"loss": total.item()} | figures | gradient_norms(self.optimiser)
        self._refuse_infinite(figures, step, rows.tolist())
        if self.cfg.train.max_grad_norm:
            run.accelerator.clip_grad_norm_(self.wrapped.parameters(), self.cfg.train.max_grad_norm)
        self.prepared.step()
        self.meter.add(figures, len(label) * run.accelerator.num_processes)
        if (step + 1) % LOG_EVERY == 0 or (step + 1) % self.per_epoch == 0:
            self._log({"stage": self.number, "step": step + 1, "epoch": epoch}, rates)

    def _teacher_says(self, clean: Tensor, heard: Tensor) -> tuple[Tensor | None, ...]:
        """Target states, wanted embedding; for the distillation path: wave if not ``heard``, features."""
        if not self.stage.kd:
            return None, None, None, None
        teacher, features, own = self.run.teacher, None, None
        other = clean if protocol.hears_two_corpora(self.cfg) else None
        with self.run.accelerator.autocast():
            if self.one_cnn:
                listened = heard if other is None else other
                features, own = features_of_both(teacher.encoder, clean, listened)
            states, wanted = states_and_embedding(
                teacher, clean, self.objective.kd.layers, features
            )
        if self.cfg.loss.kd_targets == "standardised":
            states = standardised(states.float())
        return states, wanted, other, own

    def total(
        self, out: dict[str, Tensor], epoch: int, samples: int
    ) -> tuple[Tensor, dict[str, float]]:
        """Sum of the stage's losses, and each of them as a figure to log."""
        total, figures = torch.zeros((), device=next(iter(out.values())).device), {}
        if "kd" in out:
            weight = losses.kd_weight(self.cfg.loss, epoch, self.epochs)
            total = total + weight * out["kd"].sum()
            each = dict(zip(self.objective.kd.layers, out["kd"].tolist(), strict=True))
            figures = {f"kd_layer{layer}": loss for layer, loss in each.items()}
            floor = self.objective.kd.floor(frame_count(self.model.config, samples))
            figures["kd_excess"] = sum(each.values()) - floor * len(each)
        for name in ("sv", "embedding"):
            if name in out:
                total = total + out[name]
                figures[name] = out[name].item()
        if "accuracy" in out:
            figures["accuracy"] = out["accuracy"].item()
        return total, figures

    def _refuse_infinite(self, figures: dict[str, float], step: int, rows: list[int]) -> None:
        """Stop before the weights are spoilt; ``rows`` of the training table are the batch."""
        bad = next((name for name, value in figures.items() if not math.isfinite(value)), None)
        if bad:
            heard = some([self.run.task.train.name(row) for row in rows], len(rows))
            raise ValueError(
                f"the {bad} is {figures[bad]} at step {step + 1} of stage {self.stage.name!r}, "
                f"on {heard} ({figures}); the last good state is in {self.run.out}/checkpoints; lower train.lr "
                "and start again"
            )

    def _warn_of_divergence(self, epoch: int) -> None:
        """Say that the losses explode; go on, since a stage whose student starts good starts near 0."""
        rows = [row for row in self.run.rows if row["stage"] == self.number]
        first, now = (np.mean([r["loss"] for r in rows if r["epoch"] == n]) for n in (1, epoch))
        if now > DIVERGED * first:
            say(
                f"warning: the mean loss of epoch {epoch} of stage {self.stage.name!r} is {now:.3g}, that "
                f"of its first {first:.3g}: training diverges; stop it, lower train.lr and start again"
            )

    def _noise_rank(self) -> int:
        """Surprise 13: as released, all ranks draw the same noise."""
        per_rank = self.cfg.switches.student_noise == "per_rank"
        return self.run.accelerator.process_index if per_rank else 0

    def _log(self, place: dict, rates: dict[str, float]) -> None:
        row = place | self.meter.read() | {f"lr_{name}": rate for name, rate in rates.items()}
        self.run.rows.append(row)
        shown = {k: v for k, v in row.items() if k not in ("stage", "step")}
        self.run.accelerator.log(shown, place["step"])

    def end_of_epoch(self, step: int) -> bool:
        """Validate when due, save the state; True when training should stop early.

        Called again for the same epoch by a resumed run, it leaves out what was done.
        """
        run, epoch = self.run, step // self.per_epoch
        if run.main:
            self._warn_of_divergence(epoch)
        every, patience = self.cfg.train.validate_every, self.cfg.train.patience
        place = {"stage": self.number, "step": step, "epoch": epoch}
        due = (self.stage.sv or self.stage.embedding_kd) and (
            epoch % every == 0 or epoch == self.epochs
        )
        if any(place.items() <= entry.items() for entry in run.validations[-1:]):
            due = False
        rates = None
        if due and run.main:
            rates = run.interrupts.unless_stopped(lambda: self.best.measure(self.model))
        with run.interrupts.held():
            if due:
                rates = broadcast_object_list([rates])[0]
                if rates is None:
                    run.interrupts.stop()  # a resumed run comes here again
                run.validations.append(place | rates)
                self.objective.train()
            if due and run.main and self.best.stale() == 0:
                run.lock.check()
                names = run.task.train.speakers
                save_model(run.out / "best", self.model, self.cfg, names, run.validations[-1])
            if run.main:
                self.save(step)
        self._stop_together()
        self.meter.reset()  # validating and saving is no waiting for data
        stop = bool(patience) and self.best.stale() >= patience
        if stop and run.main:
            say(f"no better development EER for {patience} validations: stopped at epoch {epoch}")
        return stop

    def save(self, step: int) -> None:
        """Write the state after ``step`` steps."""
        run = self.run
        run.lock.check()
        place = {"stage": self.number, "step": step, "seconds": run.seconds()}
        place |= {"rows": run.rows, "validations": run.validations, "window": self.meter.window()}
        run_folder.save_state(run.out, place, self.objective, self.optimiser)


def seed_all(*words: int) -> None:
    """Seed torch (dropout, noise) and NumPy (LayerDrop, SpecAugment) from (seed, stage, step)."""
    state = np.random.SeedSequence(words).generate_state(2)
    torch.manual_seed(int(state[0]))
    np.random.seed(int(state[1]))
