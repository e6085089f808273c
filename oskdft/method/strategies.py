"""OS-KDFT and its rivals as lists of stages: what is trained, on which loss, for how long.

All strategies spend the same number of student updates on the same batches in the same order, so
that only the strategy differs. PostComp fine-tunes the full teacher first. Those updates of a model of
12 or 24 layers come on top and are reported: OS-KDFT avoids their cost.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace

from oskdft.config import Config
from oskdft.utils import named_code


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of a training.

    Args:
        name: shown in logs.
        share: of the student's budget of updates; a teacher's updates come on top of it.
        start: "teacher" (its first layers), "scratch" (random), or "previous" (the model of the stage before).
        layers: "student" or "teacher" (all layers: fine-tuning the teacher itself).
        kd: distillation loss against the teacher's states.
        sv: speaker-verification loss.
        embedding_kd: MSE to the teacher's embedding; needs a fine-tuned teacher.
        adapters: both paths (True) or one path without adapters.
        frozen: leading share of the stage in which the encoder is not updated (S: 5 of 100 epochs).
        becomes_teacher: the result replaces the teacher for the next stage.
    """

    name: str
    share: float = 1.0
    start: str = "teacher"
    layers: str = "student"
    kd: bool = False
    sv: bool = True
    embedding_kd: bool = False
    adapters: bool = False
    frozen: float = 0.0
    becomes_teacher: bool = False

    def epochs(self, budget: int) -> int:
        """Epochs of the stage in a budget of so many.

        >>> STRATEGIES["precomp"][0].epochs(100)
        50
        """
        return max(round(budget * self.share), 1)


STRATEGIES: dict[str, tuple[Stage, ...]] = {
    # the paper: imitate and verify at once, on two paths
    "os-kdft": (Stage("one step", kd=True, adapters=True),),
    # distil first, fine-tune later
    "precomp": (
        Stage("distil", share=0.5, kd=True, sv=False),
        Stage("fine-tune", share=0.5, start="previous", frozen=0.05),
    ),
    # fine-tune the teacher first, distil later: its states and its embedding
    "postcomp": (
        Stage("fine-tune the teacher", layers="teacher", frozen=0.05, becomes_teacher=True),
        Stage("distil", kd=True, sv=False, embedding_kd=True),
    ),
    # the successor: attention tuner instead of adapters, KD speech that moves to the target corpus
    "os-kdft2": (Stage("one step", kd=True),),
    "joint-no-adapter": (Stage("both losses, one path", kd=True),),
    "student-ft": (Stage("fine-tune"),),
    "scratch": (Stage("train", start="scratch"),),
    "teacher-ft": (Stage("fine-tune the teacher", layers="teacher", frozen=0.05),),
}


def stages(cfg: Config) -> tuple[Stage, ...]:
    """Return the stages of ``cfg.strategy``.

    A name outside the package, package.module:Name, is a tuple of stages, or a function of ``cfg`` that
    returns one.

    Raises:
        ValueError: unknown strategy, stages that cannot follow one another, or ``model.init_layers``
            where no student starts from a teacher.

    >>> [stage.name for stage in stages(Config(strategy="precomp"))]
    ['distil', 'fine-tune']
    """
    if named_code.is_named(cfg.strategy):
        plan = named_code.load(cfg.strategy, "strategy")
        plan = plan(cfg) if inspect.isfunction(plan) else plan
        check_stages(plan, cfg.strategy)
    elif cfg.strategy in STRATEGIES:
        plan = STRATEGIES[cfg.strategy]
    else:
        raise ValueError(
            f"no strategy {cfg.strategy!r}; choose {', '.join(STRATEGIES)} or package.module:Name"
        )
    if cfg.model.init_layers and not any(
        stage.start == "teacher" and stage.layers == "student" for stage in plan
    ):
        raise ValueError(
            f"strategy {cfg.strategy} starts no student from a teacher; leave model.init_layers empty"
        )
    return tuple(plan)


def check_stages(plan: object, name: str) -> None:
    """Refuse a strategy whose stages cannot follow one another.

    Args:
        plan: what is to be a sequence of `strategies.Stage`. name: of the strategy, for messages.
    Raises:
        ValueError: names the stage and the fault.

    >>> check_stages((Stage("one", sv=False),), "mykit:PLAN")
    Traceback (most recent call last):
    ValueError: strategy mykit:PLAN, stage 'one': it has no loss; set kd or sv
    """
    sequence = isinstance(plan, Sequence) and plan
    if not (sequence and all(isinstance(stage, Stage) for stage in plan)):
        raise ValueError(f"strategy {name} must be a tuple of Stage objects, or give one")
    tuned = False  # whether the teacher of this stage was fine-tuned
    for number, stage in enumerate(plan):
        fault = _fault_of_stage(stage, plan[number - 1] if number else None, tuned)
        if stage.becomes_teacher and number + 1 == len(plan):
            fault = fault or "becomes_teacher needs a stage after it"
        if fault:
            raise ValueError(f"strategy {name}, stage {stage.name!r}: {fault}")
        tuned = tuned or stage.becomes_teacher


def _fault_of_stage(stage: Stage, before: Stage | None, tuned: bool) -> str:
    """What is wrong with a stage, as the end of a message; "" if nothing is."""
    if stage.start not in ("teacher", "scratch", "previous"):
        return f"start is {stage.start!r}; choose teacher, scratch or previous"
    if stage.layers not in ("student", "teacher"):
        return f"layers is {stage.layers!r}; choose student or teacher"
    if not (stage.share > 0 and 0 <= stage.frozen < 1):
        return f"share is {stage.share}, frozen {stage.frozen}; share > 0 and 0 <= frozen < 1"
    if not (stage.kd or stage.sv):
        return "it has no loss; set kd or sv"
    if stage.embedding_kd and not (stage.kd and tuned):
        return "embedding_kd needs kd, and a stage before it with becomes_teacher"
    if stage.becomes_teacher and (stage.adapters or stage.layers != "teacher"):
        return "becomes_teacher needs layers='teacher' and no adapters"
    if stage.start == "previous":
        if before is None:
            return "the first stage has no previous one; start from teacher or scratch"
        if (before.layers, before.adapters) != (stage.layers, stage.adapters):
            return "it goes on with the model of the stage before; give it the same layers and adapters"
    return ""


def stage_config(cfg: Config, stage: Stage, teacher_layers: int) -> Config:
    """Return ``cfg`` with the model that a stage trains.

    Args:
        teacher_layers: L of the teacher.

    >>> one = STRATEGIES["scratch"][0]
    >>> stage_config(Config(strategy="scratch"), one, 24).model.adapter_units
    0
    """
    model = cfg.model
    if not stage.adapters:
        model = replace(model, adapter_units=0)
    if stage.layers == "teacher":
        model = replace(model, student_layers=teacher_layers, init_layers=())
    if cfg.strategy == "os-kdft2":
        model = replace(model, backend="tft")
    return replace(cfg, model=model)
