"""Inputs are sacred: a command never writes over what it has not made, whatever the option is called.

Every path option of every command is listed here, as one that writes or one that only reads. A new
option fails the first test until it is listed.
"""

import inspect
import sys
import typing
from pathlib import Path

import numpy as np
import pytest
from typer import Typer

from oskdft.commands import cli
from oskdft.evaluation.verifier import load
from oskdft.lessons.kept import EVIDENCE
from oskdft.speech import audio

TINY = ["--profile", "smoke", "device=cpu"]
GRID = "profile: smoke\nrows: {a: {}}\n"
# (command, option) -> words of a command that would write; {target}: an existing file or folder
WRITES = {
    ("pretrain", "out"): "pretrain --config classroom-hubert --out {target}",
    ("train", "out"): "train --profile smoke --out {target} device=cpu",
    ("import", "out"): "import classroom-hubert --out {target}",
    ("evaluate", "scores"): "evaluate --trials {trials} --root {root} --model classroom --no-tta "
    "--scores {target}",
    ("embed", "out"): "embed {root}/a.wav --out {target}",
    ("embed", "ark"): "embed --root {root} --out {new} --ark {stem}",
    ("sweep", "out"): "sweep {grid} --out {target}",
    ("sweep keep", "out"): "sweep keep {sweep} --out {target}",
    ("sweep", "figure"): "sweep table {sweep} --figure {stem}",
    ("reproduce", "out"): "reproduce --profile smoke --only 01 --out {target}",
    ("export", "out"): "export --to hf --out {target}",
    ("data get", "dest"): "data get speechocean762 --dest {target}",
    ("data pack", "out"): "data pack folder --root {root} --out {target}",
    ("bench", "out"): "bench scoring --quick --out {target}",
}
FILES = {
    ("evaluate", "scores"),
    ("embed", "out"),
    ("embed", "ark"),
    ("sweep", "figure"),
    ("bench", "out"),
}
READS = {
    ("config", "profile"), ("pretrain", "config"), ("train", "profile"), ("train", "init"),
    ("import", "source"), ("import", "backend"), ("evaluate", "trials"), ("evaluate", "model"),
    ("evaluate", "root"),
    ("evaluate", "embeddings"), ("evaluate", "enrol"), ("evaluate", "snorm"), ("score", "file"),
    ("embed", "files"),
    ("embed", "root"), ("embed", "listed"), ("embed", "scp"), ("embed", "model"), ("verify", "a"),
    ("verify", "b"), ("verify", "model"), ("sweep", "grid"), ("sweep", "folder"),
    ("reproduce", "profile"), ("export", "model"), ("data check", "root"), ("data pack", "root"),
    ("grade", "files"),
    ("figures", "folder"),  # draws NAME.png again from NAME.json beside it, which it made
}  # fmt: skip
NO_PATHS = {
    "strategy", "overrides", "resume", "dry_run", "as_json", "fix", "device", "groups", "no_tta", "on",
    "reference", "form", "rest", "only", "check", "to", "context", "name", "quick", "full", "codec", "kbit",
    "shard_mb", "processes", "channel", "columns", "push", "add",
}  # fmt: skip
PRECIOUS = b"a recording that nobody has twice"


def options(app: Typer, before: str = "") -> set[tuple[str, str]]:
    """Every (command, option) of the command line."""
    found = set()
    for command in app.registered_commands:
        name = before + (command.name or command.callback.__name__)
        found |= {(name, option) for option in inspect.signature(command.callback).parameters}
    for group in app.registered_groups:
        inner = typing.cast(Typer, group.typer_instance)
        found |= options(inner, f"{before}{group.name or inner.info.name} ")
    return found


def test_every_path_option_is_known_to_write_or_to_read():
    found = {(c, o) for c, o in options(cli.app) if o not in NO_PATHS}
    listed = READS | {key for key in WRITES if key not in {("sweep keep", "out"), ("bench", "out")}}
    assert found == listed


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Speech, a list and a grid, as inputs of the commands."""
    rng = np.random.default_rng(0)
    for name in "abc":
        audio.write(tmp_path / f"speech/{name}.wav", 0.1 * rng.standard_normal(16_000))
    (tmp_path / "trials.txt").write_text("1 a.wav b.wav\n0 a.wav c.wav\n")
    (tmp_path / "grid.yaml").write_text(GRID)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every path below a folder with the content of its files."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def refused(monkeypatch, capfd, words: list[str]) -> str:
    """Run a command that must refuse, and return its line."""
    monkeypatch.setattr(sys, "argv", ["oskdft", *words])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    printed = capfd.readouterr().err
    assert stopped.value.code == 1, printed
    return printed


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(k, marks=pytest.mark.slow if k[0] == "bench" else (), id="-".join(k))
        for k in WRITES
    ],
)
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_was_there_stays_and_is_named(key, kind, here, monkeypatch, capfd):
    target = here / "precious"
    if kind == "file":
        target.write_bytes(PRECIOUS)
    else:
        (target / "inner").mkdir(parents=True)
        (target / "inner" / "README.md").write_bytes(PRECIOUS)
        (target / ".hidden.part").write_bytes(PRECIOUS)  # no leftover of ours
    stem = here / "stem"
    if "{stem}" in WRITES[key]:
        for suffix in (".ark", ".scp", ".json", ".png"):
            Path(f"{stem}{suffix}").write_bytes(PRECIOUS)
    before = tree(here)
    words = WRITES[key].format(
        target=target, root=here / "speech", trials=here / "trials.txt", grid=here / "grid.yaml",
        sweep=EVIDENCE / "strategies", stem=stem, new=here / "new",
    )  # fmt: skip
    line = refused(monkeypatch, capfd, words.split())
    assert "precious" in line or str(stem) in line, line
    assert tree(here) == before


def test_an_input_named_as_output_survives(here, monkeypatch, capfd):
    """The faults that were found: a recording and a list were replaced."""
    before = tree(here)
    for words in (
        f"embed {here}/speech/b.wav --out {here}/speech/a.wav",
        f"evaluate --trials {here}/trials.txt --root {here}/speech --scores {here}/trials.txt",
        f"sweep {here}/grid.yaml --out {here}",
        f"export --to hf --out {here}",
        f"data pack folder --root {here}/speech --out {here}/speech",
    ):
        refused(monkeypatch, capfd, words.split())
        assert tree(here) == before, words


def test_a_finished_output_is_not_replaced_by_the_same_command(here, monkeypatch, capfd):
    score = load("classroom", quick=True).score(here / "speech/a.wav", here / "speech/b.wav")
    assert -1 <= score <= 1
    words = f"embed {here}/speech/a.wav --out {here}/once.npz".split()
    monkeypatch.setattr(sys, "argv", ["oskdft", *words])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 0
    made = (here / "once.npz").read_bytes()
    assert "once.npz exists" in refused(monkeypatch, capfd, words)
    assert (here / "once.npz").read_bytes() == made
