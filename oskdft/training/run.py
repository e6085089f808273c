"""What the stages of a training share: the run folder, the accelerator, the task, the first teacher."""

import importlib.util
import time
from collections.abc import Sequence
from pathlib import Path

from accelerate import Accelerator, DistributedDataParallelKwargs

from oskdft.config import Config
from oskdft.method.strategies import Stage
from oskdft.method.teacher import Teacher
from oskdft.speech import protocol
from oskdft.storage.pretrained import find_weights, load_encoder
from oskdft.training import run_folder
from oskdft.utils.process import Interrupts


class Run:
    """A training run: the folder, the accelerator, the task, and what the stages share."""

    def __init__(
        self, cfg: Config, out: Path, resume: bool, teacher: Teacher | None, interrupts: Interrupts
    ) -> None:
        self.cfg, self.out, self.interrupts = cfg, Path(out), interrupts
        self.accelerator = Accelerator(
            cpu=cfg.device == "cpu",
            mixed_precision="bf16" if cfg.train.precision == "bf16" else "no",
            log_with="tensorboard" if importlib.util.find_spec("tensorboard") else None,
            project_dir=self.out,
            # masked frames or dropped layers leave parameters without gradient in some steps
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        self.main = self.accelerator.is_main_process
        world = self.accelerator.num_processes
        if cfg.train.batch % world:
            batch = cfg.train.batch
            raise ValueError(f"train.batch is {batch} over {world} processes; choose a multiple")
        # everything that can be missing is asked for before voices are made and weights are loaded
        if teacher is None:
            find_weights(cfg.model.teacher)
        self.task = protocol.prepare(cfg)
        self.teacher = teacher or Teacher(load_encoder(cfg.model.teacher))
        _check_layers(cfg, self.teacher.encoder.config.num_hidden_layers)
        self.lock = run_folder.claim(self.out, cfg, resume) if self.main else None
        self.accelerator.wait_for_everyone()
        self.rows: list[dict] = []
        self.validations: list[dict] = []
        self.began = time.monotonic()
        self.accelerator.init_trackers("tensorboard")

    def go_on(self, place: dict) -> None:
        """Take up the log and the clock of an interrupted run."""
        self.rows, self.validations = place["rows"], place["validations"]
        self.began -= place["seconds"]

    def seconds(self) -> float:
        """Training time so far [s], interruptions left out."""
        return round(time.monotonic() - self.began, 1)

    def close(self) -> None:
        """Leave the folder to others."""
        if self.lock:
            self.lock.release()


def _check_layers(cfg: Config, teacher_layers: int) -> None:
    wanted = () if cfg.loss.kd == "mse" else cfg.loss.kd_layers
    if max((*wanted, cfg.model.student_layers)) > teacher_layers:
        raise ValueError(
            f"the teacher has {teacher_layers} layers; loss.kd_layers {list(wanted)} and "
            f"model.student_layers {cfg.model.student_layers} must not exceed that"
        )


def check_cnn(cfg: Config, plan: Sequence[Stage]) -> None:
    """Refuse to freeze a CNN that nothing has trained."""
    if cfg.train.freeze_cnn and any(stage.start == "scratch" for stage in plan):
        raise ValueError(
            f"train.freeze_cnn would leave the CNN of strategy {cfg.strategy} random; set it to false"
        )
