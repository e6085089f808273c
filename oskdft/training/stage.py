"""Around the training step: epochs, signals, resume, validation, checkpoints, divergence.

A signal arrives between two steps or inside a validation, never inside a step. Several processes stop
together or not at all.
"""

from collections.abc import Iterable

import numpy as np
from accelerate.utils import broadcast_object_list
from torch import Tensor

from oskdft.method.model import SpeakerModel
from oskdft.speech.dataset import loader
from oskdft.storage.model_folder import save_model
from oskdft.training import run_folder
from oskdft.training.average import keep_weights
from oskdft.training.loop import StageLoop
from oskdft.training.start import save_heads
from oskdft.training.validation import Best, shown
from oskdft.utils.console import progress, say
from oskdft.utils.distributed import any_process
from oskdft.utils.process import explained

DIVERGED = 10.0  # times the first epoch's mean loss (our choice)


class StageRun:
    """A `StageLoop` on its way through its epochs."""

    def __init__(self, loop: StageLoop) -> None:
        self.loop, self.run, self.cfg = loop, loop.run, loop.cfg
        self.best = Best(loop.cfg, loop.run.task, loop.run.validations, loop.number, loop.run.share)
        last = loop.number + 1 == len(loop.run.plan)
        self.averaged = loop.cfg.train.average if last else 0  # epochs
        self.done = 0  # steps

    def through(self, state: dict | None) -> SpeakerModel:
        """Train the stage to its end and return its model; leave what a resume needs.

        Args:
            state: where an interrupted run of this stage stopped (`run_folder.last_state`); None: start.
        Raises:
            ValueError: out of memory, a dead data worker, a loss that is not finite.
            OSError: no room, or the run folder has vanished.
            SystemExit, KeyboardInterrupt: SIGTERM or Ctrl-C, behind the step; the state is saved.
        """
        run, loop, accelerator = self.run, self.loop, self.run.accelerator
        if state:
            self.done = state["step"]
            run_folder.restore(state["tensors"], "objective", loop.objective, loop.optimiser)
        if run.main:
            run_folder.check_space(run.out, loop.model, loop.objective, self.averaged)
        loop.prepare()
        batches = loader(
            loop.data,
            self.cfg.train.batch,
            loop.steps,
            self.cfg.data.workers,
            self.done,
            accelerator.process_index,
            accelerator.num_processes,
        )
        loop.meter.reset(state["window"] if state else None)
        advice = f"the last good state is in {run.out}/checkpoints; go on with --resume"
        try:
            with explained(advice), run.together():
                self.train(batches)
        except (KeyboardInterrupt, SystemExit):
            if run.main:
                with run.interrupts.held():
                    self.save(self.done)
                say(f"stopped after step {self.done}; go on with --resume")
            accelerator.wait_for_everyone()
            raise
        except OSError:
            if run.main:
                run.lock.check()  # "the folder has vanished" tells more than the first missing file
            raise
        return loop.model

    def train(self, batches: Iterable[tuple[Tensor, ...]]) -> None:
        """Run the remaining steps."""
        loop, per_epoch = self.loop, self.loop.steps_per_epoch
        if self.done and self.done % per_epoch == 0 and self.end_of_epoch(self.done):
            return  # the run was interrupted at this end of an epoch
        steps = progress(range(self.done, loop.steps), f"{self.cfg.strategy}: {loop.stage.name}")
        for step, batch in zip(steps, batches, strict=True):
            with self.run.interrupts.held():
                loop.step(step, batch)
                self.done = step + 1
            self.stop_together()
            if self.done % per_epoch == 0 and self.end_of_epoch(self.done):
                return

    def stop_together(self) -> None:
        """Stop if any process has received a signal; with one process its own handler does."""
        interrupts, accelerator = self.run.interrupts, self.run.accelerator
        if accelerator.num_processes > 1 and any_process(interrupts.waiting, accelerator.device):
            interrupts.stop()

    def end_of_epoch(self, step: int) -> bool:
        """Validate when due, save the state; return True when training should stop early.

        A resumed run calls it again for the same epoch; a validation that is in the log is skipped.
        """
        run, loop, stage = self.run, self.loop, self.loop.stage
        epoch = step // loop.steps_per_epoch
        position = {"stage": loop.number, "step": step, "epoch": epoch}
        if run.main:
            self.warn_of_divergence(epoch)

        # Validation.
        on_schedule = epoch % self.cfg.train.validate_every == 0 or epoch == loop.epochs
        due = on_schedule and (stage.sv or stage.embedding_kd)
        if any(position.items() <= entry.items() for entry in run.validations[-1:]):
            due = False
        if due:  # a signal ends it; a resumed run validates again
            rates = broadcast_object_list([self.best.measure(loop.model)])[0]
            if run.main:
                say(shown(rates))

        # Checkpoints. No signal may come between the log entry and the files.
        with run.interrupts.held():
            if due:
                run.add_validation(position, rates)
                loop.objective.train()
            if due and run.main and self.best.stale() == 0:
                run.lock.check()
                speakers = run.task.train.speakers
                save_heads(run.out / "best", loop.objective)
                save_model(run.out / "best", loop.model, self.cfg, speakers, run.validations[-1])
            if run.main:
                if self.averaged:
                    keep_weights(run.out, step, loop.objective, self.averaged)
                self.save(step)
        self.stop_together()
        loop.meter.reset()  # validating and saving is not waiting for data

        # Early stopping.
        patience = self.cfg.train.patience
        stop = bool(patience) and self.best.stale() >= patience
        if stop and run.main:
            say(f"no better development EER for {patience} validations: stopped at epoch {epoch}")
        return stop

    def save(self, step: int) -> None:
        """Write the state after ``step`` steps."""
        run, loop = self.run, self.loop
        run.lock.check()
        state = {
            "stage": loop.number,
            "step": step,
            "seconds": run.seconds(),
            "rows": run.rows,
            "validations": run.validations,
            "window": loop.meter.window(),
        }
        run_folder.save_state(run.out, state, loop.objective, loop.optimiser)

    def warn_of_divergence(self, epoch: int) -> None:
        """Warn when the loss explodes. Training goes on: a stage may start near loss 0."""
        rows = [row for row in self.run.rows if row["stage"] == self.loop.number]
        first = np.mean([row["loss"] for row in rows if row["epoch"] == 1])
        now = np.mean([row["loss"] for row in rows if row["epoch"] == epoch])
        if now > DIVERGED * first:
            say(
                f"warning: training diverges: the mean loss of stage {self.loop.stage.name!r} is "
                f"{now:.3g} in epoch {epoch} and was {first:.3g} in epoch 1; "
                "stop it, lower train.lr and start again"
            )
