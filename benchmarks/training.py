"""Training step: two paths with the shared part computed once, against the batch doubled first.

    python benchmarks/training.py [--json] [--quick]

Random weights at the sizes of releases R (HuBERT base, 2 layers, 3 s) and P (XLSR-53, 4 layers, 2 s).
A step is the teacher's forward pass, both paths of the student, both losses, backward, Adam. Dropout,
LayerDrop and SpecAugment are off in all rows, so that every row computes the same function.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import measure
import torch
from torch import Tensor, nn

from oskdft import config
from oskdft.lessons.costs import multiply_adds
from oskdft.method import losses
from oskdft.method.encoder import architecture, build_encoder, cnn, states_of_features
from oskdft.method.model import SpeakerModel, new_model
from oskdft.method.student import Student
from oskdft.method.teacher import Teacher

DEVICE = measure.DEVICE
ON_GPU = "needs a GPU"


@dataclass(frozen=True, slots=True)
class Case:
    """A student and the batch it is trained on; on a CPU the batch is small."""

    name: str
    profile: str
    teacher: str
    layers: int
    seconds: float
    batch: dict[str, int]
    target: str
    changes: dict = field(default_factory=dict)  # of the architecture


CASES = (
    Case("base/2", "vox1", measure.BASE, 2, 3.0, {"cpu": 2, "cuda": 50}, "at least 1.4"),
    Case("XLSR/4", "vox2", measure.LARGE, 4, 2.0, {"cpu": 2, "cuda": 128}, "at least 1.2"),
)
QUICK = (
    Case("tiny/1", "vox1", measure.TINY, 1, 0.5, {"cpu": 2, "cuda": 2}, "nothing"),
    Case("tiny pre-norm/2", "vox2", "tiny-random-wav2vec2", 2, 0.5, {"cpu": 2, "cuda": 2}, "nothing"),
)  # fmt: skip


def doubled(student: Student, wave: Tensor) -> tuple[Tensor, Tensor]:
    """Both paths as the releases run them: the batch twice, from the waveform on.

    The reference for `Student.forward_two_paths`: the same results, the CNN and everything up to the
    first adapter computed twice.
    """
    states = student(torch.cat([wave, wave]), distilled_rows=len(wave))
    return states[:, : len(wave)], states[:, len(wave) :]


class Trainer:
    """Everything a step needs; rows differ in how they call it."""

    def __init__(self, case: Case) -> None:
        changes = {"model.teacher": case.teacher, "model.student_layers": case.layers}
        changes |= {"model.adapter_noise": [0.0, 0.0]}
        if case.teacher == measure.TINY:
            changes["loss.kd_layers"] = [1, 2]
        cfg = config.load(case.profile).override(changes)
        torch.manual_seed(0)
        encoder = build_encoder(architecture(case.teacher, **measure.STILL, **case.changes))
        width = encoder.config.hidden_size
        self.teacher = Teacher(encoder).to(DEVICE)
        self.model: SpeakerModel = new_model(cfg, encoder).to(DEVICE).train()
        self.kd = losses.build_kd_loss(cfg.loss, cfg.switches, width, width).to(DEVICE)
        speakers = torch.ones(1_211)
        self.sv = losses.build_sv_loss(cfg.loss, cfg.model.embedding, speakers).to(DEVICE)
        self.trained = nn.ModuleList([self.model, self.kd, self.sv])
        self.trained.requires_grad_(True)
        self.optimiser = torch.optim.Adam(self.trained.parameters(), lr=1e-5)
        batch = case.batch[DEVICE]
        self.wave = torch.randn(batch, round(case.seconds * 16_000)) * 0.1
        self.label = torch.arange(batch, device=DEVICE)
        self.wave_here = self.wave.to(DEVICE)
        self.fast_teacher = self.teacher

    def loss(self, imitated: Tensor, states: Tensor, target: Tensor) -> Tensor:
        """Both losses of a batch, summed."""
        speaker, _ = self.sv(self.model.backend(states), self.label)
        return self.kd(imitated, target).sum() + speaker

    def update(self, loss: Tensor) -> None:
        """Backward and Adam."""
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()

    def step(self, paths: Callable, wave: Tensor, teacher: Teacher) -> None:
        """A whole step over the given formulation of the two paths."""
        target = teacher(wave, keep=self.kd.layers)
        self.update(self.loss(*paths(self.model.student, wave), target))

    def step_frozen_cnn(self) -> None:
        """A step in which the CNN is the teacher's and runs once for both."""
        student, encoder = self.model.student, self.teacher.encoder
        student.encoder.feature_extractor.requires_grad_(False)
        with torch.no_grad():
            features = cnn(encoder, self.wave_here)
            target = states_of_features(encoder, features, keep=self.kd.layers)
        paths = student.forward_two_paths(self.wave_here, features)
        self.update(self.loss(*paths, target))
        student.encoder.feature_extractor.requires_grad_(True)

    def attention(self, kind: str) -> None:
        """ "eager" as released, "sdpa" fused."""
        for encoder in (self.teacher.encoder, self.model.student.encoder):
            encoder.set_attn_implementation(kind)

    def released(self) -> None:
        """The doubled batch, eager attention, from ordinary memory."""
        self.attention("eager")
        self.step(doubled, self.wave.to(DEVICE), self.teacher)

    def two_paths(self) -> None:
        """The shared part once; everything else as released."""
        self.attention("eager")
        self.step(Student.forward_two_paths, self.wave.to(DEVICE), self.teacher)

    def frozen_cnn(self) -> None:
        """As `two_paths`, with the CNN frozen and shared."""
        self.attention("eager")
        self.step_frozen_cnn()

    def optimised(self) -> None:
        """Two paths in bf16 with fused attention; on a GPU a compiled teacher and a prefetched batch."""
        self.attention("sdpa")
        with torch.autocast(DEVICE, torch.bfloat16):
            self.step(Student.forward_two_paths, self.wave_here, self.fast_teacher)


def prefetched(trainer: Trainer) -> Callable[[], None]:
    """`optimised` with a compiled teacher, the next batch copied from pinned memory meanwhile."""
    trainer.attention("sdpa")
    trainer.fast_teacher = torch.compile(trainer.teacher)
    pinned = trainer.wave.pin_memory()

    def work() -> None:
        following = pinned.to(DEVICE, non_blocking=True)
        trainer.optimised()
        trainer.wave_here = following

    return work


def has_bf16() -> bool:
    """Whether this device multiplies bf16 natively."""
    if DEVICE == "cuda":
        return torch.cuda.is_bf16_supported()
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


def measure_case(case: Case, turns: int, peaks: dict[str, float]) -> tuple[list, list]:
    """Rows and comparisons of one student."""
    trainer = Trainer(case)
    works = {
        "released: batch doubled": trainer.released,
        "two paths, shared part once": trainer.two_paths,
        "two paths, frozen shared CNN": trainer.frozen_cnn,
    }
    counts = {name: multiply_adds(work) for name, work in works.items()}
    fast = "two paths, bf16, fused" + (", compiled teacher, prefetched" if DEVICE == "cuda" else "")
    counts[fast] = counts["two paths, shared part once"]
    if has_bf16():
        works[fast] = prefetched(trainer) if DEVICE == "cuda" else trainer.optimised
    taken = measure.interleaved(works, turns)
    rows = []
    for name, seconds in taken.items():
        peak = peaks["bf16" if name == fast else "float32"]
        label = f"{case.name} {name}"
        rows.append(
            measure.row(
                label, seconds, multiply_adds=counts[name], peak=peak, batch=case.batch[DEVICE]
            )
        )
    first, second, frozen = list(works)[:3]
    comparisons = [
        measure.comparison(f"{case.name} shared part once", taken[first], taken[second], case.target),
        measure.comparison(f"{case.name} frozen shared CNN", taken[first], taken[frozen], "reported"),
    ]  # fmt: skip
    bf16, gpu = f"{case.name} bf16 and fused", f"{case.name} everything, on a GPU"
    on_cpu = DEVICE == "cpu"
    taken_fast = taken.get(fast)
    comparisons.append(
        measure.comparison(bf16, taken[first], taken_fast if on_cpu else None, "reported")
    )
    comparisons.append(
        measure.comparison(gpu, taken[first], None if on_cpu else taken_fast, "at least 4")
    )
    if on_cpu:
        rows.append(measure.unmeasured(f"{case.name} everything, on a GPU", ON_GPU))
    return rows, comparisons


def run(quick: bool) -> dict:
    """Rows, comparisons and the machine's peaks."""
    size = 128 if quick else 2_048 if DEVICE == "cpu" else 8_192
    peaks = {
        "float32": measure.peak(torch.float32, size),
        "bf16": measure.peak(torch.bfloat16, size),
    }
    rows, comparisons = [], []
    for case in QUICK if quick else CASES:
        one, two = measure_case(case, 2 if quick else 7, peaks)
        rows, comparisons = rows + one, comparisons + two
    return {"rows": rows, "comparisons": comparisons, "peak_multiply_adds_per_s": peaks}


if __name__ == "__main__":
    measure.main("training", __doc__, run)
