"""The run folder: config.yaml, metrics.csv, checkpoints/, best/, last/, report.json, and one writer.

A state is a pair of files, state-SSS-NNNNNN.safetensors and .json. The .json is written last and holds
the checksum of the tensors. A state without .json was not finished; a state whose checksum differs is
damaged. `last_state` skips both.
"""

import csv
from pathlib import Path

import torch
from torch import Tensor, nn

from oskdft.config import Config, differences, load, to_dict, to_yaml
from oskdft.storage import tensors
from oskdft.storage.tensors import load_strictly, save_tensors
from oskdft.utils.console import say
from oskdft.utils.files import (
    PART,
    atomic,
    check_room,
    read_json,
    require_own_folder,
    sha256,
    write_json,
)
from oskdft.utils.lock import LOCK, Lock

# what a resumed run may change: no number depends on it
MOVABLE = ("data.root", "data.trials_root", "data.kd_root", "data.workers")
KEPT = 2  # states to fall back on
MODELS = 4  # best/, last/, the stage before, and one being written
IN_A_STATE = {"stage", "step", "seconds", "rows", "validations", "window", "sha256"}


def claim(out: Path, cfg: Config, resume: bool) -> Lock:
    """Make a new run folder, or check that an existing one holds this run; return its lock.

    Raises:
        ValueError: it holds a run and ``resume`` is off, or one of another configuration (the
            differences are listed), or there is nothing to resume, or another process writes there.
    """
    path = out / "config.yaml"
    refuse(out, cfg, resume)
    lock = Lock(out)
    try:
        refuse(out, cfg, resume)  # again: another process may have come in between
        tidy(out)
        if not resume:
            with atomic(path) as file:
                file.write(to_yaml(cfg))
    except BaseException:
        lock.release()
        raise
    return lock


def refuse(out: Path, cfg: Config, resume: bool) -> None:
    """Refuse a folder that `claim` would refuse; nothing is written."""
    path = out / "config.yaml"
    if not path.is_file():
        if resume:
            raise ValueError(f"{out} holds no run to resume; leave out --resume")
        require_own_folder(out, [LOCK, path.name])
    elif not resume:
        raise ValueError(f"{out} holds a run; add --resume to go on, or choose another --out")
    else:
        require_same(out, cfg)


def require_same(out: Path, cfg: Config) -> None:
    """Refuse a run folder of another configuration; what is in `MOVABLE` may differ.

    Raises:
        ValueError: lists the differences.
    """
    if changed := unlike(load(str(out / "config.yaml")), cfg):
        listed = "; ".join(f"{name} is {a} there, {b} now" for name, (a, b) in changed.items())
        raise ValueError(
            f"{out} is a run of another configuration: {listed}; --profile {out}/config.yaml has its settings"
        )


def unlike(old: Config, new: Config) -> dict[str, tuple]:
    """Settings on which a number may depend and that two runs do not share, see `config.differences`."""
    changed = differences(to_dict(old), to_dict(new))
    return {name: pair for name, pair in changed.items() if name not in MOVABLE}


def tidy(out: Path) -> None:
    """Remove the files that a kill inside a write has left."""
    for part in out.rglob(".*.part"):
        if PART.fullmatch(part.name):
            part.unlink()
    for weights in (out / "checkpoints").glob("state-*.safetensors"):
        if not weights.with_suffix(".json").is_file():
            weights.unlink()


def check_space(out: Path, model: nn.Module, objective: nn.Module, averaged: int = 0) -> None:
    """Raise OSError if the disk has no room for the states and models of the run.

    Args:
        averaged: epochs whose weights are kept to be averaged (`average.keep_weights`).
    """
    trained = sum(p.nbytes for p in objective.parameters() if p.requires_grad)
    weights = sum(t.nbytes for t in objective.state_dict().values())
    state = weights + 2 * trained  # Adam's moments
    kept = (averaged + 2) * weights if averaged else 0  # one being written, and the average
    need = kept + (KEPT + 1) * state + MODELS * sum(t.nbytes for t in model.state_dict().values())
    there = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    fix = "free some space and go on with --resume, or choose another --out"
    check_room(out, need - there, "the run needs", fix)


def save_state(
    out: Path, state: dict, objective: nn.Module, optimiser: torch.optim.Optimizer
) -> None:
    """Write the state that an interrupted run resumes from, and metrics.csv.

    Args:
        state: stage, step, seconds, rows, validations, and the window of rows not yet logged.
    """
    write_state(out, state, state_tensors("objective", objective, optimiser))
    write_metrics(out / "metrics.csv", state["rows"])


def write_state(out: Path, state: dict, tensors: dict[str, torch.Tensor]) -> None:
    """Write the pair of files of a state, and remove older states but one and all later ones."""
    stem = out / "checkpoints" / f"state-{state['stage']:03d}-{state['step']:09d}"
    digest = save_tensors(stem.with_suffix(".safetensors"), tensors)
    facts = {"sha256": digest, "threads": torch.get_num_threads()}
    write_json(stem.with_suffix(".json"), state | facts)
    states = sorted((out / "checkpoints").glob("state-*.json"))
    newest = states.index(stem.with_suffix(".json")) + 1
    # Later states were unreadable: otherwise the run would have resumed from them.
    for old in states[: max(newest - KEPT, 0)] + states[newest:]:
        old.unlink()
        old.with_suffix(".safetensors").unlink(missing_ok=True)


def last_state(out: Path) -> dict | None:
    """Return the newest readable state with its tensors; None if there is none."""
    for path in sorted((out / "checkpoints").glob("state-*.json"), reverse=True):
        try:
            state = _read_state(path)
            warn_of_threads(state.get("threads", 0))
            return state
        except ValueError as error:
            say(f"warning: {error}; going back to the state before")
    return None


def warn_of_threads(before: int) -> None:
    """Say that a run goes on with another number of threads than it had; 0: not known."""
    now = torch.get_num_threads()
    if before not in (0, now):
        say(
            f"warning: the run had {before} threads and goes on with {now} (OMP_NUM_THREADS): sums are "
            "rounded in another order, so it will not equal an uninterrupted run bit by bit"
        )


def _read_state(path: Path) -> dict:
    state, weights = read_json(path, 1 << 30), path.with_suffix(".safetensors")
    if not isinstance(state, dict) or not state.keys() >= IN_A_STATE:
        raise ValueError(f"{path} is no state of a run")
    state["tensors"] = tensors.load_tensors(weights)
    if sha256(weights) != state["sha256"]:
        raise ValueError(f"{weights} is damaged (its checksum is not that of {path.name})")
    return state


def state_tensors(
    name: str, module: nn.Module, optimiser: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """Return the tensors NAME.* of a module and optimiser.* of its optimiser, by parameter number.

    Moments and step counts are copies: {"optimiser.3.exp_avg": ...}.
    """
    named = {f"{name}.{key}": tensor for key, tensor in module.state_dict().items()}
    for index, entry in optimiser.state_dict()["state"].items():
        for key, value in entry.items():
            named[f"optimiser.{index}.{key}"] = torch.as_tensor(value).clone()
    return named


def restore(
    tensors: dict[str, Tensor], name: str, module: nn.Module, optimiser: torch.optim.Optimizer
) -> None:
    """Restore the tensors of `state_tensors`; ``optimiser`` keeps its rates and groups."""
    load_strictly(module, select(tensors, f"{name}."), "the checkpoint")
    moments: dict[int, dict[str, Tensor]] = {}
    for place, value in select(tensors, "optimiser.").items():
        index, key = place.split(".", 1)
        moments.setdefault(int(index), {})[key] = value
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": moments, "param_groups": groups})


def write_metrics(path: Path, rows: list[dict]) -> None:
    """Write all rows as CSV; a column that a row does not have stays empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with atomic(path) as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            shown = {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()}
            writer.writerow(shown)


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Read the rows of a metrics.csv; empty cells are left out."""
    with open(path, encoding="utf-8", newline="") as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


def select(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names start with ``prefix``, without the prefix.

    >>> select({"a.x": torch.zeros(1), "b.x": torch.zeros(1)}, "a.").keys()
    dict_keys(['x'])
    """
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
