"""A training run: the stages of a strategy, one after the other, into one run folder.

A run folder holds config.yaml, metrics.csv, checkpoints/, best/, last/ and report.json. All chance in
a step depends on (seed, stage, step) alone, so a resumed run equals an uninterrupted one. SIGTERM and
Ctrl-C save the state between two steps, the same two in every process; after any other end a resumed
run continues from the last epoch. Scale-out is Accelerate's.
"""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from oskdft.config import Config, consent, to_dict
from oskdft.evaluation.calibration import calibration
from oskdft.method.model import SpeakerModel
from oskdft.method.strategies import Stage, stage_config, stages
from oskdft.method.teacher import Teacher, TunedTeacher
from oskdft.storage.model_folder import annotate, load_model, save_model
from oskdft.training import run_folder
from oskdft.training.loop import StageLoop
from oskdft.training.meter import bottleneck
from oskdft.training.run import Run, check_cnn
from oskdft.training.stage import run_stage
from oskdft.utils import provenance
from oskdft.utils.console import say
from oskdft.utils.files import write_json
from oskdft.utils.process import Interrupts

WORTH_TUNING_S = 60.0  # a shorter run does not say what made it wait


def train(
    cfg: Config,
    out: str | Path,
    resume: bool = False,
    teacher: Teacher | None = None,
    full_check: bool = False,
) -> dict:
    """Train ``cfg.strategy`` into the run folder ``out`` and return its report.

    Args:
        cfg: the whole configuration.
        out: a new folder; with ``resume`` the folder of an interrupted run of the same configuration.
        teacher: ``cfg.model.teacher``, if it is loaded already.
        full_check: decode every recording before the first step, not only those of the validations.
    Raises:
        ValueError: the folder holds a run already, or one of another configuration; a loss that is
            not finite, or too little memory (the last good checkpoint stays).
        FileNotFoundError: corpus or weights missing, before anything is trained.
        OSError: the disk is full or gone (the last good checkpoint stays).
        SystemExit, KeyboardInterrupt: SIGTERM (exit code 143) or Ctrl-C; the state is saved.
    """
    consent(cfg)
    plan = stages(cfg)
    check_cnn(cfg, plan)
    with (
        Interrupts() as interrupts,
        closing(Run(cfg, Path(out), resume, teacher, interrupts, full_check)) as run,
    ):
        return _run(run, plan, run_folder.last_state(run.out) if resume else None)


def _run(run: Run, plan: Sequence[Stage], state: dict | None) -> dict:
    """Train the stages of ``plan`` from ``state`` on; returns the report."""
    cfg, model = run.cfg, None
    if state:
        run.go_on(state)
    for number, stage in enumerate(plan):
        staged = stage_config(cfg, stage, run.teacher.encoder.config.num_hidden_layers)
        if state and number < state["stage"]:  # finished before the interruption
            model = load_model(run.out / f"stage{number}")[0]
        else:
            loop = StageLoop(run, staged, stage, number, model)
            model = run_stage(loop, state if state and number == state["stage"] else None)
        if number + 1 < len(plan) and run.main:  # where a resumed run finds it
            save_model(run.out / f"stage{number}", model, staged, run.task.train.speakers, {})
        if stage.becomes_teacher:
            run.teacher = TunedTeacher(model)
    return _finish(run, model, staged) if run.main else {}


def _finish(run: Run, model: SpeakerModel, cfg: Config) -> dict:
    """Write last/, best/ with their calibration, and report.json; returns the report."""
    last, best = run.out / "last", run.out / "best"
    save_model(last, model, cfg, run.task.train.speakers, {"step": run.rows[-1]["step"]})
    if not (best / "model.json").is_file():
        save_model(best, model, cfg, run.task.train.speakers, {"step": run.rows[-1]["step"]})
    fitted = {}  # by step: the last model is often the best
    for folder in (last, best):
        loaded, _, described = load_model(folder)
        if described["step"] not in fitted:
            fitted[described["step"]] = calibration(loaded, run.task, cfg)
        calibrated, domain = fitted[described["step"]]
        annotate(folder, {"calibration": calibrated})
        domain.save(folder)
    waited = float(np.mean([row["waiting_for_data"] for row in run.rows]))
    if run.seconds() >= WORTH_TUNING_S:
        say(bottleneck(waited, cfg.data.workers))
    report = {
        "config": to_dict(cfg),
        "train_utterances": len(run.task.train),
        "train_speakers": len(run.task.train.speakers),
        "dev_speakers": len(run.task.dev.speakers),
        "dev_trials": len(run.task.dev_trials),
        "validations": run.validations,
        "seconds": run.seconds(),
        "waiting_for_data": waited,
        "parameters": sum(p.numel() for p in model.parameters()),
    } | provenance.facts()
    write_json(run.out / "report.json", report)
    run.accelerator.end_training()
    return report
