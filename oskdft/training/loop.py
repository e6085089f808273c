"""The training step: batch, teacher, both paths, sum of the losses, backward, update.

`StageLoop` holds what one stage of a strategy trains. `training.stage` calls its `step` and handles
everything around the step: epochs, signals, resume, validation, checkpoints.
"""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from oskdft.config import Config
from oskdft.method import losses, teacher
from oskdft.method.contract import check_kd_loss, check_sv_loss
from oskdft.method.encoder import frame_count
from oskdft.method.model import SpeakerModel, new_model
from oskdft.method.objective import Objective, total_loss
from oskdft.method.strategies import Stage
from oskdft.speech import protocol
from oskdft.training import optim
from oskdft.training.meter import LOG_EVERY, Meter, gradient_norms
from oskdft.training.run import Run
from oskdft.utils.console import say, some
from oskdft.utils.distributed import means_over_processes
from oskdft.utils.named_code import is_named


class StageLoop:
    """One stage of a strategy: model, losses, data, optimiser, and the step that trains them.

    Args:
        run: what the stages share.
        cfg: the configuration with the model of this stage (`strategies.stage_config`).
        stage: what is trained, with which losses.
        number: of the stage, from 0.
        model: the model of the stage before, for a stage that continues with it.
    """

    def __init__(
        self, run: Run, cfg: Config, stage: Stage, number: int, model: SpeakerModel | None
    ) -> None:
        self.run = run
        self.cfg = cfg
        self.stage = stage
        self.number = number
        seed_all(cfg.seed, number, 0)

        # The model: from the teacher's first layers, from random weights, or from the stage before.
        # With model.init a trained student replaces these weights below.
        if stage.start != "previous":
            model = new_model(cfg, run.teacher.encoder, from_scratch=stage.start == "scratch")
        if cfg.train.freeze_cnn:
            model.student.encoder.feature_extractor.requires_grad_(False)
        model.student.checkpointed = cfg.train.checkpointing
        self.model = model

        # The data, and the number of steps.
        utterances = len(run.task.train)
        self.steps_per_epoch = cfg.train.steps_per_epoch or max(utterances // cfg.train.batch, 1)
        self.epochs = stage.epochs(cfg.train.epochs)
        self.steps = self.epochs * self.steps_per_epoch
        laps = self.steps * cfg.train.batch // utterances
        self.data = protocol.dataset(cfg, run.task, laps)

        # The losses.
        utterances_of_speaker = torch.from_numpy(self.data.counts()).float()
        student_width = model.config.hidden_size
        teacher_width = run.teacher.encoder.config.hidden_size
        sv = losses.build_sv_loss(cfg.loss, cfg.model.embedding, utterances_of_speaker)
        kd = losses.build_kd_loss(cfg.loss, cfg.switches, student_width, teacher_width)
        self.check_losses(sv, kd, (student_width, teacher_width))
        self.objective = Objective(model, sv, kd, stage)
        if run.start and run.start.stage == number:
            line = run.start.hand_over(self.objective, cfg, run.task.train.speakers)
            if run.main:
                say(line)

        # The optimiser.
        heads = [model.backend, self.objective.sv, self.objective.kd]
        groups = optim.parameter_groups(model.student, [head for head in heads if head is not None])
        self.rebuilt = cfg.switches.optimiser == "rebuilt"  # surprise 6: no moments, no decay
        decay = 0.0 if self.rebuilt else cfg.train.weight_decay
        self.optimiser = torch.optim.Adam(groups, weight_decay=decay)
        self.meter = Meter()

    def check_losses(self, sv: nn.Module, kd: nn.Module, widths: tuple[int, int]) -> None:
        """Refuse losses from outside the package that break their contract."""
        cfg, speakers = self.cfg, len(self.data.counts())
        if is_named(cfg.loss.sv):
            check_sv_loss(sv, cfg.model.embedding, speakers, cfg.loss.sv)
        if is_named(cfg.loss.kd):
            check_kd_loss(kd, self.model.config.num_hidden_layers, widths, cfg.loss.kd)
            last = self.run.teacher.encoder.config.num_hidden_layers
            if not all(-1 <= layer <= last for layer in kd.layers):
                raise ValueError(
                    f"loss.kd={cfg.loss.kd} reads teacher states {list(kd.layers)}; this teacher has "
                    f"0 to {last}, and -1 for the last"
                )

    def prepare(self) -> None:
        """Move teacher, student and optimiser to the device, and wrap what several processes share."""
        accelerator, encoder = self.run.accelerator, self.run.teacher.encoder
        self.run.teacher.to(accelerator.device)
        if self.cfg.train.compile:
            self.objective.compile(options={"fallback_random": True})  # the noise of a plain run
        self.wrapped, self.wrapped_optimiser = accelerator.prepare(self.objective, self.optimiser)
        # A frozen CNN that student and teacher share runs once for both.
        self.shared_cnn = self.cfg.train.freeze_cnn and teacher.same_cnn(
            self.model.student.encoder, encoder
        )
        self.objective.train()

    def step(self, step: int, batch: tuple[Tensor, ...]) -> None:
        """Update the weights once, from both losses at once.

        Args:
            step: number of the step in this stage, from 0.
            batch: the teacher's clean crops [B, N], the student's augmented crops [B, N], speakers
                [B], and rows [B] of the training table.
        Raises:
            ValueError: a loss or a gradient that is not finite; the weights are not changed.
        """
        run, cfg, accelerator = self.run, self.cfg, self.run.accelerator
        epoch = step // self.steps_per_epoch + 1

        # The batch. Dropout and noise of a step depend on (seed, stage, step) alone.
        clean, augmented, speaker, rows = (tensor.to(accelerator.device) for tensor in batch)
        self.meter.data_ready()
        seed_all(cfg.seed, self.number, step, self.noise_rank())
        kd_weight = losses.kd_weight(cfg.loss, epoch, self.epochs)

        self.wrapped_optimiser.zero_grad()
        sums: dict[str, Tensor] = {}  # of the losses of all parts
        for part, synchronised in self.parts(len(speaker)):
            # The teacher: hidden states to imitate, without gradient.
            target = None
            if self.stage.kd:
                with accelerator.autocast():
                    target = teacher.imitation_target(
                        run.teacher,
                        clean[part],
                        augmented[part],
                        self.objective.kd.layers,
                        second_corpus=protocol.uses_kd_corpus(cfg),
                        shared_cnn=self.shared_cnn,
                        standardise=cfg.loss.kd_targets == "standardised",
                    )

            with synchronised:
                # Both paths: the distillation path imitates, the verification path tells speakers apart.
                terms = self.wrapped(augmented[part], speaker[part], target)

                # The sum of the losses.
                terms = self.objective.share_of_batch(terms, speaker[part], speaker)
                terms["loss"] = total_loss(terms, kd_weight)

                # Backward.
                accelerator.backward(terms["loss"])
            for name, loss in terms.items():
                sums[name] = sums.get(name, 0.0) + loss.detach()
        figures = self.figures(sums, augmented.shape[1]) | gradient_norms(self.optimiser)
        self.refuse_infinite(figures, step, rows.tolist())

        # The update.
        rates = self.set_rates(step, epoch)
        if cfg.train.max_grad_norm:
            accelerator.clip_grad_norm_(self.wrapped.parameters(), cfg.train.max_grad_norm)
        self.wrapped_optimiser.step()

        # The log.
        self.meter.add(figures, len(speaker))
        if (step + 1) % LOG_EVERY == 0 or (step + 1) % self.steps_per_epoch == 0:
            run.log({"stage": self.number, "step": step + 1, "epoch": epoch}, self.meter, rates)

    def set_rates(self, step: int, epoch: int) -> dict[str, float]:
        """Give each parameter group its learning rate of this step; return the scheduled rates."""
        if self.rebuilt and step % self.steps_per_epoch == 0:
            self.optimiser.state.clear()
        rates = optim.rates(self.cfg.train, epoch, step / self.steps)
        body_frozen = step < self.stage.frozen * self.steps
        for group in self.wrapped_optimiser.param_groups:
            frozen = body_frozen and group["name"] == "body"
            group["lr"] = 0.0 if frozen else rates[group["name"]]
        return rates

    def parts(self, rows: int) -> Iterator[tuple[slice, AbstractContextManager]]:
        """Rows of each of the ``train.accumulate`` parts of a batch, and the context of its losses.

        Processes exchange gradients in the last part alone.
        """
        size = rows // self.cfg.train.accumulate
        for first in range(0, rows, size):
            last = first + size == rows
            alone = nullcontext() if last else self.run.accelerator.no_sync(self.wrapped)
            yield slice(first, first + size), alone

    def figures(self, parts: dict[str, Tensor], samples: int) -> dict[str, float]:
        """Collect what the log shows of a step: the sum, each loss, the accuracy; over all processes.

        ``kd_excess`` is the KD loss above its floor, the loss of a perfect student.
        """
        figures = {"loss": parts["loss"].item()}
        if "kd" in parts:
            layers = self.objective.kd.layers
            for layer, loss in zip(layers, parts["kd"].tolist(), strict=True):
                figures[f"kd_layer{layer}"] = loss
            floor = self.objective.kd.floor(frame_count(self.model.config, samples))
            figures["kd_excess"] = sum(parts["kd"].tolist()) - floor * len(layers)
        for name in ("sv", "embedding", "accuracy"):
            if name in parts:
                figures[name] = parts[name].item()
        return means_over_processes(figures, parts["loss"].device)

    def refuse_infinite(self, figures: dict[str, float], step: int, rows: list[int]) -> None:
        """Raise ValueError before a loss or gradient that is not finite spoils the weights."""
        bad = next((name for name, value in figures.items() if not math.isfinite(value)), None)
        if bad:
            recordings = some([self.run.task.train.name(row) for row in rows], len(rows))
            raise ValueError(
                f"the {bad} is {figures[bad]} at step {step + 1} of stage {self.stage.name!r}, "
                f"on {recordings} ({figures}); the last good state is in "
                f"{self.run.out}/checkpoints; lower train.lr and start again"
            )

    def noise_rank(self) -> int:
        """Return the process number that seeds noise; as released, all draw the same (surprise 13)."""
        per_rank = self.cfg.switches.student_noise == "per_rank"
        return self.run.accelerator.process_index if per_rank else 0


def seed_all(*words: int) -> None:
    """Seed torch (dropout, noise) and NumPy (LayerDrop, SpecAugment) from (seed, stage, step)."""
    torch_seed, numpy_seed = np.random.SeedSequence(words).generate_state(2)
    torch.manual_seed(int(torch_seed))
    np.random.seed(int(numpy_seed))
