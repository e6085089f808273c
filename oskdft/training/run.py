"""A training run: the run folder, the accelerator, the task and the teacher, shared by all stages."""

import importlib.util
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from transformers import PretrainedConfig

from oskdft.config import SAMPLE_RATE, Config
from oskdft.method.encoder import least_samples
from oskdft.method.model import device_of
from oskdft.method.strategies import Stage
from oskdft.method.teacher import Teacher
from oskdft.speech import protocol
from oskdft.speech.corpora.catalogue import find_root
from oskdft.speech.noise import known_folder
from oskdft.storage.pretrained import find_weights, load_encoder
from oskdft.training import run_folder
from oskdft.training.meter import Meter
from oskdft.training.validation import require_heard
from oskdft.utils.process import Interrupts


class Run:
    """Everything that the stages of a run share.

    Attributes:
        task: speakers and trials (`protocol.Task`). teacher: of the next stage.
        rows: of metrics.csv. validations: development EERs, in order.
        main: whether this process writes the folder.
    """

    def __init__(
        self,
        cfg: Config,
        out: Path,
        resume: bool,
        teacher: Teacher | None,
        interrupts: Interrupts,
        full_check: bool = False,
    ) -> None:
        self.cfg, self.out, self.interrupts = cfg, Path(out), interrupts
        device = device_of(cfg.device)
        if device.index is not None:
            torch.cuda.set_device(device)  # Accelerate takes the current one
        self.accelerator = Accelerator(
            cpu=device.type == "cpu",  # so that processes meet without a GPU too
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
        # Whatever can be missing is looked for before anything is computed.
        require_everything(cfg, with_teacher=teacher is None)
        self.task = protocol.prepare(cfg)
        self.teacher = teacher or Teacher(load_encoder(cfg.model.teacher))
        _check_layers(cfg, self.teacher.encoder.config.num_hidden_layers)
        _check_crops(cfg, self.teacher.encoder.config)
        require_heard(cfg, self.task, full_check)
        self.lock = run_folder.claim(self.out, cfg, resume) if self.main else None
        self.accelerator.wait_for_everyone()
        self.rows: list[dict] = []
        self.validations: list[dict] = []
        self.began = time.monotonic()
        self.accelerator.init_trackers("tensorboard")

    def go_on(self, state: dict) -> None:
        """Continue the log and the clock of an interrupted run."""
        self.rows, self.validations = state["rows"], state["validations"]
        self.began -= state["seconds"]

    def log(self, position: dict, meter: Meter, rates: dict[str, float]) -> None:
        """Add a row of metrics.csv: position, means of the meter, learning rates."""
        row = position | meter.read() | {f"lr_{name}": rate for name, rate in rates.items()}
        self.rows.append(row)
        tracked = {name: value for name, value in row.items() if name not in ("stage", "step")}
        self.accelerator.log(tracked, position["step"])

    def seconds(self) -> float:
        """Return the training time so far [s], without interruptions."""
        return round(time.monotonic() - self.began, 1)

    def close(self) -> None:
        """Release the lock of the folder."""
        if self.lock:
            self.lock.release()


def _check_layers(cfg: Config, teacher_layers: int) -> None:
    wanted = () if cfg.loss.kd == "mse" else cfg.loss.kd_layers
    if max((*wanted, cfg.model.student_layers)) > teacher_layers:
        raise ValueError(
            f"the teacher has {teacher_layers} layers; loss.kd_layers {list(wanted)} and "
            f"model.student_layers {cfg.model.student_layers} must not exceed that"
        )


def _check_crops(cfg: Config, encoder: PretrainedConfig) -> None:
    """Refuse crops from which the encoder makes no frame, or fewer than SpecAugment masks at once."""
    span = encoder.mask_time_length if encoder.apply_spec_augment and encoder.mask_time_prob else 1
    for name, seconds, frames in (
        ("data.crop_s", cfg.data.crop_s, span),
        ("eval.crop_s", cfg.eval.crop_s, 2),  # a deviation over time
    ):
        least = least_samples(encoder, frames)
        if round(seconds * SAMPLE_RATE) < least:
            raise ValueError(
                f"{name} is {seconds} s; the encoder needs {least / SAMPLE_RATE} s for {frames} frames"
            )


def check_cnn(cfg: Config, plan: Sequence[Stage]) -> None:
    """Raise ValueError when a CNN of random weights would be frozen."""
    if cfg.train.freeze_cnn and any(stage.start == "scratch" for stage in plan):
        raise ValueError(
            f"train.freeze_cnn would leave the CNN of strategy {cfg.strategy} random; set it to false"
        )


def require_everything(cfg: Config, with_teacher: bool = True) -> None:
    """Refuse a run at its start when weights, corpora, noise, rooms or a needed list are absent.

    Files are looked for, not read: a corpus may hold a million.

    Args:
        with_teacher: whether the teacher's weights are needed.
    Raises:
        FileNotFoundError, ValueError: what is missing, all of it in one line.

    >>> from oskdft.config import load
    >>> require_everything(load("smoke"))
    """
    data, augment = cfg.data, cfg.augment
    found: list[Exception] = []

    def look(search: Callable[[], object]) -> object:
        try:
            return search()
        except (ValueError, OSError) as error:
            found.append(error)
        return None

    if with_teacher:
        look(lambda: find_weights(cfg.model.teacher))
    root = look(lambda: find_root(data.corpus, data.root, "data.root"))
    if protocol.uses_kd_corpus(cfg):
        look(lambda: find_root(data.kd_corpus, data.kd_root, "data.kd_root"))
    if augment.probability:
        for setting in ("noise_root", "rir_root"):
            look(lambda s=setting: _folder(getattr(augment, s), f"augment.{s}"))
    if root is not None and cfg.switches.checkpoint == "oracle":
        look(lambda: protocol.require_test_list(cfg, Path(root)))
    if len(found) == 1:
        raise found[0]
    if found:
        listed = " ".join(f"({n}) {error}" for n, error in enumerate(found, 1))
        raise FileNotFoundError(f"{len(found)} things are missing: {listed}")


def _folder(name: str, setting: str) -> None:
    if name and not Path(known_folder(name, setting)).is_dir():
        raise FileNotFoundError(f"{setting}={name} is not a folder; correct it or leave it empty")
