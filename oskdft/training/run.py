"""A training run: the run folder, the accelerator, the task and the teacher, shared by all stages."""

import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs

from oskdft.config import READ_KD_LAYERS, SAMPLE_RATE, Config, consent
from oskdft.method.encoder import least_samples
from oskdft.method.library import PretrainedConfig
from oskdft.method.model import device_of
from oskdft.method.strategies import Stage, stages
from oskdft.method.student import check_init_layers
from oskdft.method.teacher import Teacher
from oskdft.speech import protocol
from oskdft.speech.corpora.catalogue import find_root
from oskdft.speech.noise import known_folder
from oskdft.storage.pretrained import find_weights, load_encoder
from oskdft.training import run_folder, tracker
from oskdft.training.average import check_average
from oskdft.training.meter import Meter
from oskdft.training.start import find, load_start
from oskdft.training.validation import require_heard
from oskdft.utils import memory
from oskdft.utils.distributed import means_over_processes, shared
from oskdft.utils.process import Interrupts

# A process waits for the others at most that long. The longest work between two exchanges is a share of a
# validation, at most VoxCeleb1 as a whole (352 hours of speech). Launchers end the others when one dies.
PATIENCE = timedelta(hours=3)

# A data worker's own memory, profile classroom (measured): a forked one shares that of the training.
FORKED_BYTES, SPAWNED_BYTES = 30_000_000, 181_000_000
READ_AHEAD = 2  # batches that a worker keeps ready (torch's own number)


class Run:
    """Everything that the stages of a run share.

    Attributes:
        plan: the stages of the strategy.
        task: speakers and trials (`protocol.Task`). teacher: of the next stage.
        start: the trained student that a stage starts from, or None.
        rows: of metrics.csv. validations: development EERs, in order.
        main: whether this process writes the folder. share: divides work among the processes.
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
        consent(cfg)
        self.plan = stages(cfg)
        _check_cnn(cfg, self.plan)
        check_average(cfg, self.plan[-1])
        device = device_of(cfg.device)
        if device.index is not None:
            torch.cuda.set_device(device)  # Accelerate takes the current one
        # Whatever can be missing is looked for before anything is computed.
        require_everything(cfg, with_teacher=teacher is None)
        run_folder.refuse(self.out, cfg, resume)  # before the corpus is listed; again in `claim`
        self.accelerator = Accelerator(
            cpu=device.type == "cpu",  # so that processes meet without a GPU too
            mixed_precision="bf16" if cfg.train.precision == "bf16" else "no",
            log_with=tracker.chosen(cfg.train.tracker),
            project_dir=self.out,
            # masked frames or dropped layers leave parameters without gradient in some steps
            kwargs_handlers=[
                DistributedDataParallelKwargs(find_unused_parameters=True),
                InitProcessGroupKwargs(timeout=PATIENCE),
            ],
        )
        self.main = self.accelerator.is_main_process
        self.share = partial(shared, interrupts=interrupts)
        world = self.accelerator.num_processes
        if cfg.train.batch % (world * cfg.train.accumulate):
            parts = f" in {cfg.train.accumulate} parts" if cfg.train.accumulate > 1 else ""
            raise ValueError(
                f"train.batch is {cfg.train.batch} over {world} processes{parts}; choose a multiple"
            )
        if cfg.train.compile:
            require_compiler(self.accelerator.device)
        self.task = protocol.prepare(cfg)
        self.teacher = teacher or Teacher(load_encoder(cfg.model.teacher))
        _check_layers(cfg, self.teacher.encoder.config.num_hidden_layers)
        _check_crops(cfg, self.teacher.encoder.config)
        require_room_for_workers(cfg)
        self.start = load_start(cfg, self.plan, self.teacher.encoder.config)
        require_heard(cfg, self.task, full_check)
        self.lock = run_folder.claim(self.out, cfg, resume) if self.main else None
        self.accelerator.wait_for_everyone()
        self.rows: list[dict] = []
        self.validations: list[dict] = []
        self.began = time.monotonic()

    def start_tracker(self) -> None:
        """Start the tracker that ``train.tracker`` names; a plan starts none."""
        name = tracker.chosen(self.cfg.train.tracker)
        if name == "tensorboard":
            self.accelerator.init_trackers(name)  # a folder of that name in the run folder
        elif name:
            own = {"wandb": {"name": self.out.name, "dir": str(self.out)}}
            own["mlflow"] = {"run_name": self.out.name}
            self.accelerator.init_trackers(tracker.PROJECT, tracker.recipe(self.cfg), own)

    def go_on(self, state: dict) -> None:
        """Continue the log and the clock of an interrupted run."""
        self.rows, self.validations = state["rows"], state["validations"]
        self.began -= state["seconds"]

    def log(self, position: dict, meter: Meter, rates: dict[str, float]) -> None:
        """Add a row of metrics.csv: position, means of the meter, learning rates.

        The speed is that of all processes together, the share of waiting their mean.
        """
        row = position | meter.read()
        clock = {name: row[name] for name in ("utterances_per_s", "waiting_for_data")}
        row |= means_over_processes(clock, self.accelerator.device)
        row["utterances_per_s"] *= self.accelerator.num_processes
        row |= {f"lr_{name}": rate for name, rate in rates.items()}
        self.rows.append(row)
        self._track(position, row)

    def add_validation(self, position: dict, rates: dict[str, float]) -> None:
        """Add the rates of a validation to the log."""
        self.validations.append(position | rates)
        self._track(position, rates)

    def _track(self, position: dict, figures: dict[str, float]) -> None:
        """Log figures with the number of updates since the start of the run."""
        stage, step = position["stage"], position["step"]
        before = {row["stage"]: row["step"] for row in self.rows if row["stage"] < stage}
        kept = {name: value for name, value in figures.items() if name not in ("stage", "step")}
        self.accelerator.log(kept, sum(before.values()) + step)

    def together(self) -> AbstractContextManager:
        """Hold signals where several processes must act alike; one process alone may stop at any time."""
        return self.interrupts.held() if self.accelerator.num_processes > 1 else nullcontext()

    def seconds(self) -> float:
        """Return the training time so far [s], without interruptions."""
        return round(time.monotonic() - self.began, 1)

    def close(self) -> None:
        """Release the lock of the folder."""
        if self.lock:
            self.lock.release()


def _check_layers(cfg: Config, teacher_layers: int) -> None:
    wanted = cfg.loss.kd_layers if cfg.loss.kd in READ_KD_LAYERS else ()
    if max((*wanted, cfg.model.student_layers)) > teacher_layers:
        raise ValueError(
            f"the teacher has {teacher_layers} layers; loss.kd_layers {list(wanted)} and "
            f"model.student_layers {cfg.model.student_layers} must not exceed that"
        )
    check_init_layers(cfg.model.init_layers, teacher_layers)


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


def _check_cnn(cfg: Config, plan: Sequence[Stage]) -> None:
    """Raise ValueError when a CNN of random weights would be frozen."""
    if cfg.train.freeze_cnn and any(stage.start == "scratch" for stage in plan):
        raise ValueError(
            f"train.freeze_cnn would leave the CNN of strategy {cfg.strategy} random; set it to false"
        )


def require_room_for_workers(cfg: Config) -> None:
    """Refuse more data workers than fit into the memory that is left, before they start.

    Raises:
        ValueError: they do not fit; names the number that does.
    """
    crop = cfg.data.crop_s * SAMPLE_RATE * 4  # bytes of a crop in float32
    ahead = READ_AHEAD * 2 * cfg.train.batch * crop  # teacher's and student's crops
    own = FORKED_BYTES if multiprocessing.get_start_method() == "fork" else SPAWNED_BYTES
    worker = round(own + ahead)
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # of torchrun, on this machine
    free = memory.available() or 0
    memory.require(
        processes * cfg.data.workers * worker,
        f"data.workers={cfg.data.workers} need",
        f"set data.workers={free // (processes * worker)}, or free memory",
    )


def require_compiler(device: torch.device) -> None:
    """Refuse train.compile where torch.compile finds no compiler: C++, and on a GPU Triton.

    Raises:
        ValueError: a small function cannot be compiled.
    """
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(8, device=device))
    except (RuntimeError, ImportError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"train.compile finds no compiler ({reason}); install g++ (on a GPU also triton), or set "
            "train.compile=false"
        ) from None


def require_everything(cfg: Config, with_teacher: bool = True) -> None:
    """Refuse a run at its start when weights, corpora, noise, rooms, a needed list or a tracker are absent.

    Files are looked for, not read: a corpus may hold a million.

    Args:
        with_teacher: whether the teacher's weights are needed.
    Raises:
        FileNotFoundError, ValueError, ImportError: what is missing, all of it in one line.

    >>> from oskdft.config import load
    >>> require_everything(load("smoke"))
    """
    data, augment = cfg.data, cfg.augment
    found: list[Exception] = []

    def look(search: Callable[[], object]) -> object:
        try:
            return search()
        except (ValueError, OSError, ImportError) as error:
            found.append(error)
        return None

    look(lambda: tracker.chosen(cfg.train.tracker))
    if with_teacher:
        look(lambda: find_weights(cfg.model.teacher))
    if cfg.model.init:
        look(lambda: find(cfg.model.init))
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
