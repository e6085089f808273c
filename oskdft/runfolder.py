"""The run folder: config.yaml, metrics.csv, checkpoints/, best/, last/, report.json.

A state is a pair of files, state-SSS-NNNNNN.safetensors and .json, the .json last: a state without it
was not finished and is passed over.
"""

import csv
import io
from pathlib import Path

import torch
from torch import nn

from oskdft import checkpoint
from oskdft.config import Config, load, to_dict, to_yaml
from oskdft.console import say
from oskdft.files import atomic, read_json, write_json

KEPT = 2  # states to fall back on


def claim(out: Path, cfg: Config, resume: bool) -> None:
    """Make a new run folder, or check that an existing one is this run.

    Raises:
        ValueError: it holds a run and ``resume`` is off, or one of another configuration (the
            differences are listed), or there is nothing to resume.
    """
    path = out / "config.yaml"
    if path.is_file():
        if not resume:
            raise ValueError(f"{out} holds a run; add --resume to go on, or choose another --out")
        changed = differences(to_dict(load(str(path))), to_dict(cfg))
        if changed:
            raise ValueError(f"{out} is a run of another configuration: {'; '.join(changed)}")
        return
    if resume:
        raise ValueError(f"{out} holds no run to resume; leave out --resume")
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty; choose another --out")
    with atomic(path) as file:
        file.write(to_yaml(cfg))


def differences(old: dict, new: dict, prefix: str = "") -> list[str]:
    """Settings that two configurations do not share.

    >>> differences({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3}})
    ['b.c is 2 there, 3 now']
    """
    found = []
    for key in old.keys() | new.keys():
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key} is {a} there, {b} now")
    return sorted(found)


def save_state(
    out: Path, place: dict, objective: nn.Module, optimiser: torch.optim.Optimizer
) -> None:
    """Everything an interrupted run needs; ``place`` has stage, step, rows, validations, seconds."""
    stem = out / "checkpoints" / f"state-{place['stage']:03d}-{place['step']:09d}"
    tensors = checkpoint.prefixed(objective.state_dict(), "objective.")
    tensors |= checkpoint.prefixed(checkpoint.optimiser_tensors(optimiser), "optimiser.")
    checkpoint.save_tensors(stem.with_suffix(".safetensors"), tensors)
    write_json(stem.with_suffix(".json"), place)
    write_metrics(out / "metrics.csv", place["rows"])
    for old in sorted((out / "checkpoints").glob("state-*.json"))[:-KEPT]:
        old.unlink()
        old.with_suffix(".safetensors").unlink(missing_ok=True)


def last_state(out: Path) -> dict | None:
    """The newest state that can be read, with its tensors; None when the run had not got that far."""
    for path in sorted((out / "checkpoints").glob("state-*.json"), reverse=True):
        try:
            place = read_json(path)
            place["tensors"] = checkpoint.load_tensors(path.with_suffix(".safetensors"))
            return place
        except ValueError as error:
            say(f"{error}; going back to the state before")
    return None


def restore(place: dict, objective: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Put weights and moments back."""
    tensors = place["tensors"]
    checkpoint.load_strictly(objective, checkpoint.select(tensors, "objective."), "the checkpoint")
    checkpoint.restore_optimiser(optimiser, checkpoint.select(tensors, "optimiser."))


def write_metrics(path: Path, rows: list[dict]) -> None:
    """All rows as CSV; a column a row does not have stays empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows
    )
    with atomic(path) as file:
        file.write(text.getvalue())
