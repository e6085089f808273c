"""A training run: the stages of a strategy, one after the other, into one run folder.

A run folder holds config.yaml, metrics.csv, checkpoints/, best/, last/, report.json, and with
train.average average/. All chance in a step depends on (seed, stage, step) alone, so a resumed run equals
an uninterrupted one. SIGTERM and Ctrl-C save the state between two steps, the same two in every process;
after any other end a resumed run continues from the last epoch. Scale-out is Accelerate's.
"""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from oskdft.config import Config, load, to_dict
from oskdft.evaluation.calibration import calibration
from oskdft.method.model import count
from oskdft.method.strategies import stage_config
from oskdft.method.teacher import Teacher, TunedTeacher
from oskdft.storage.description import digests
from oskdft.storage.domain import FILE as DOMAIN
from oskdft.storage.model_folder import annotate, load_model, save_model
from oskdft.storage.tensors import load_strictly
from oskdft.training import average, run_folder
from oskdft.training.loop import StageLoop
from oskdft.training.meter import bottleneck
from oskdft.training.run import Run
from oskdft.training.stage import StageRun
from oskdft.training.start import save_heads
from oskdft.training.validation import Best
from oskdft.utils import provenance
from oskdft.utils.console import say
from oskdft.utils.files import require_writable, write_json
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
        out: a new folder; with ``resume`` the folder of an interrupted run of the same configuration;
            ``model.init`` need not be named again.
        teacher: ``cfg.model.teacher``, if it is loaded already.
        full_check: decode every recording before the first step, not only those of the validations.
    Raises:
        ValueError: the folder holds a run already, or one of another configuration; a loss that is
            not finite, or too little memory (the last good checkpoint stays).
        FileNotFoundError: corpus or weights missing, before anything is trained.
        OSError: the disk is full or gone (the last good checkpoint stays).
        SystemExit, KeyboardInterrupt: SIGTERM (exit code 143) or Ctrl-C; the state is saved.
    """
    require_writable(out)
    if resume and not cfg.model.init and (Path(out) / "config.yaml").is_file():
        stored = load(str(Path(out) / "config.yaml"))
        cfg = replace(cfg, model=replace(cfg.model, init=stored.model.init))
    with (
        Interrupts() as interrupts,
        closing(Run(cfg, Path(out), resume, teacher, interrupts, full_check)) as run,
    ):
        return _run(run, run_folder.last_state(run.out) if resume else None)


def _run(run: Run, state: dict | None) -> dict:
    """Train the stages of the run from ``state`` on; returns the report."""
    cfg, model = run.cfg, None
    if state:
        run.go_on(state)
    run.start_tracker()
    for number, stage in enumerate(run.plan):
        staged = stage_config(cfg, stage, run.teacher.encoder.config.num_hidden_layers)
        if state and number < state["stage"]:  # finished before the interruption
            model = load_model(run.out / f"stage{number}")[0]
        else:
            loop = StageLoop(run, staged, stage, number, model)
            begun = state if state and number == state["stage"] else None
            model = StageRun(loop).through(begun)
        if number + 1 < len(run.plan) and run.main:  # where a resumed run finds it
            save_model(run.out / f"stage{number}", model, staged, run.task.train.speakers, {})
        if stage.becomes_teacher:
            run.teacher = TunedTeacher(model)
    with run.together():
        return _finish(run, loop)


def _finish(run: Run, loop: StageLoop) -> dict:
    """Write the models with their calibration, and report.json; returns the report of the first process."""
    model, cfg = loop.model, loop.cfg
    folders = [run.out / "last", run.out / "best"] + [run.out / "average"] * bool(cfg.train.average)
    if run.main:
        _save_models(run, loop)
    run.accelerator.wait_for_everyone()  # all processes read what the first has written
    fitted = {}  # the last model is often the best
    for folder in folders:
        loaded, _, described = load_model(folder)
        weights = described["step"], "averaged_steps" in described
        if weights not in fitted:
            loaded = loaded.to(run.accelerator.device)
            fitted[weights] = calibration(loaded, run.task, cfg, run.share)
        calibrated, domain = fitted[weights]
        facts = {"calibration": calibrated}
        if folder.name == "average":
            facts |= Best(cfg, run.task, [], loop.number, run.share).measure(loaded)
        if run.main:
            domain.save(folder)
            annotate(folder, facts | digests(folder, DOMAIN))
    if not run.main:
        return {}
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
        "parameters": count(model),
    } | provenance.facts()
    if run.start:
        report["init"] = {"model": run.start.name, "sha256": run.start.sha256}
    if cfg.train.average:
        rates = {name: rate for name, rate in facts.items() if name.endswith("_eer")}
        report["average"] = {"steps": described["averaged_steps"]} | rates
    write_json(run.out / "report.json", report)
    run.accelerator.end_training()
    return report


def _save_models(run: Run, loop: StageLoop) -> None:
    """Write last/, best/ where no validation has written it, and average/, whose weights ``loop`` has then."""
    facts, speakers = {"step": run.rows[-1]["step"]}, run.task.train.speakers
    folders = [run.out / "last"]
    if not (run.out / "best" / "model.json").is_file():
        folders.append(run.out / "best")
    for folder in folders:
        save_heads(folder, loop.objective)
        save_model(folder, loop.model, loop.cfg, speakers, facts)
    if loop.cfg.train.average:
        files = average.kept_weights(run.out)
        load_strictly(loop.objective, average.mean_of(files), "the average")
        facts |= {"averaged_steps": [average.step_of(file) for file in files]}
        save_heads(run.out / "average", loop.objective)
        save_model(run.out / "average", loop.model, loop.cfg, speakers, facts)
