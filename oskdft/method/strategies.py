"""OS-KDFT and its rivals as lists of stages: what is trained, on which loss, for how long.

All strategies spend the same number of student updates on the same batches in the same order, so
that only the strategy differs. PostComp fine-tunes the full teacher first. Those updates of a model of
12 or 24 layers come on top and are reported: OS-KDFT avoids their cost.
"""

from dataclasses import dataclass, replace

from oskdft.config import Config


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

    Raises:
        ValueError: unknown strategy, or ``model.init_layers`` where no student starts from a teacher.

    >>> [stage.name for stage in stages(Config(strategy="precomp"))]
    ['distil', 'fine-tune']
    """
    if cfg.strategy not in STRATEGIES:
        raise ValueError(f"no strategy {cfg.strategy!r}; choose {', '.join(STRATEGIES)}")
    plan = STRATEGIES[cfg.strategy]
    if cfg.model.init_layers and not any(
        stage.start == "teacher" and stage.layers == "student" for stage in plan
    ):
        raise ValueError(
            f"strategy {cfg.strategy} starts no student from a teacher; leave model.init_layers empty"
        )
    return plan


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
