"""The other commands that write: struck by a fault, called again, compared with an untouched call."""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from faults import inject
from faults.harness import Outcome, Server
from oskdft.speech.corpora.tables import load_corpus

ENDS = {  # exit codes that a fault may have
    **inject.ENDS,
    "the disk is full": {0, 1},
    "no inode is left": {0, 1},
    "the folder is gone": {0, 1},
}
KINDS = [
    "SIGKILL", "SIGTERM", "Ctrl-C", "SIGKILL inside a write", "SIGKILL before a rename",
    "disk full inside a write", *sorted(inject.HARMLESS),
    "the disk is full", "no inode is left", "the folder is gone",
]  # fmt: skip
SMALL = {"the disk is full": "size", "no inode is left": "nr_inodes"}  # option of a mount
RECORDINGS = 1_200  # three parts of `oskdft embed`
GRID = """
profile: smoke
changes: {train.epochs: 1, train.steps_per_epoch: 4, eval.tta: full, device: cpu}
rows: {os-kdft: {}, student-ft: {strategy: student-ft}}
"""
RECIPE = """
name: tiny
width: 16
layers: 2
heads: 2
cnn: 8
steps: 60
utterances: 3
crop_s: 0.5
clusters: 4
relabel_layer: 1
contrast_layer: 1
dev_speakers: 4
"""
CLOCK = {"date", "seconds", "commit", "exported", "report", "times", "started", "speech_s", "pid"}


@dataclass(frozen=True, slots=True)
class Writer:
    """A command that writes.

    Attributes:
        words: its arguments; OUT is the target.
        results: patterns of the files that must be as in an untouched call.
        again: further arguments of a call that resumes.
    """

    words: tuple[str, ...]
    results: tuple[str, ...]
    again: tuple[str, ...] = ()


def writers(folder: Path, student: Path) -> dict[str, Writer]:
    """The commands; their inputs are written into a folder. ``student`` is one of a smoke run."""
    corpus = load_corpus("speechbox", split="train")
    names = list(corpus.names())[:RECORDINGS]
    # members of shards are named by their place below the root
    (folder / "list.txt").write_text("".join(f"{corpus.root / name}\n" for name in names))
    (folder / "grid.yaml").write_text(GRID)
    (folder / "recipe.yaml").write_text(RECIPE)
    model = ("--model", str(student))
    return {
        "data pack": Writer(
            ("data", "pack", "speechbox", "--codec", "copy", "--shard-mb", "4", "--out", "OUT"),
            ("*.tar", "manifest.json", "*/wav.scp", "*/utt2spk"),
        ),
        "embed": Writer(
            (
                "embed",
                "--list",
                str(folder / "list.txt"),
                *model,
                "--device",
                "cpu",
                "--out",
                "OUT",
            ),
            ("part-*.npz",),
        ),
        "pretrain": Writer(
            ("pretrain", "--config", str(folder / "recipe.yaml"), "--out", "OUT"),
            ("*.safetensors", "config.json", "pretrain.json"),
        ),
        "sweep": Writer(
            ("sweep", str(folder / "grid.yaml"), "--out", "OUT"),
            ("*/best/model.safetensors", "*/test.txt", "*/dev.txt"),
            ("--resume",),
        ),
        "export": Writer(
            ("export", "--to", "onnx", *model, "--out", "OUT"), ("*.onnx", "*.safetensors")
        ),
        "reproduce": Writer(
            ("reproduce", "--profile", "smoke", "--only", "01", "--out", "OUT"),
            ("figures/*.json", "01*/**/*.json"),
            ("--resume",),
        ),
    }


def digests(out: Path, patterns: tuple[str, ...]) -> dict[str, str]:
    """Digest of each result below a folder: of arrays, of JSON without what a clock says, else of bytes."""
    found = {}
    for pattern in patterns:
        for file in sorted(out.glob(pattern)):
            content = file.read_bytes()
            if file.suffix == ".json":
                content = json.dumps(timeless(json.loads(content)), sort_keys=True).encode()
            elif file.suffix == ".npz":
                with np.load(file) as arrays:
                    content = b"".join(arrays[key].tobytes() for key in sorted(arrays))
            found[str(file.relative_to(out))] = hashlib.sha256(content).hexdigest()
    return found


def timeless(tree: Any) -> Any:
    """A tree of JSON without the entries that a clock fills."""
    if isinstance(tree, dict):
        return {k: timeless(v) for k, v in tree.items() if k not in CLOCK}
    return [timeless(item) for item in tree] if isinstance(tree, list) else tree


@contextlib.contextmanager
def small_disk(folder: Path, option: str, amount: int) -> Iterator[Callable[[], None]]:
    """A file system of its own below a folder; gives a function that enlarges it.

    Raises:
        PermissionError: this process may not mount.
    """

    def mount(options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True).returncode:
            raise PermissionError("a disk of its own needs the right to mount")

    folder.mkdir()
    mount(f"{option}={amount}")
    try:
        yield lambda: mount("remount,size=2g,nr_inodes=1000000")
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


class Struck(Server):
    """Calls of the commands, in one folder, with an untouched call of each."""

    def __init__(self, folder: Path, seed: int, student: Path) -> None:
        super().__init__(folder, seed)
        self.writers = writers(folder, student)
        self.references: dict[str, dict[str, str]] = {}
        self.needs: dict[tuple[str, str], int] = {}  # (command, option of a mount) -> amount used
        self.count = 0

    def call(self, name: str, out: Path, kind: str = "none") -> int | None:
        """Call a command, or resume it; its exit code."""
        return self.finish(self.begin(name, out, kind))

    def begin(self, name: str, out: Path, kind: str) -> Any:
        """The process of a call."""
        writer = self.writers[name]
        words = [str(out) if word == "OUT" else word for word in writer.words]
        words += writer.again if out.exists() else ()
        return self.start(words, out, kind, self.seconds.get(name, 0.0))

    def reference(self, name: str) -> dict[str, str]:
        """Digests of a call that nobody touches."""
        if name not in self.references:
            out, began = self.folder / f"reference {name}", time.monotonic()
            code = self.call(name, out)
            self.seconds[name] = time.monotonic() - began
            assert code == 0, f"{name}, untouched, ended with {code}: {self.log(out)}"
            self.references[name] = digests(out, self.writers[name].results)
            assert self.references[name], f"{name} left nothing to compare"
            files = [file for file in out.rglob("*") if file.is_file()]
            self.needs[name, "size"] = sum(file.stat().st_size for file in files)
            self.needs[name, "nr_inodes"] = len(list(out.rglob("*")))
        return self.references[name]

    def suffer(self, name: str, kind: str) -> Outcome:
        """One call with a fault, then calls until one succeeds; three at most.

        Raises:
            PermissionError: this process may not mount a disk of its own.
        """
        reference = self.reference(name)
        self.count += 1
        place = self.folder / f"call {self.count}"
        if kind in SMALL:
            option = SMALL[kind]
            amount = max(int(self.needs[name, option] * self.rng.uniform(0.2, 0.9)), 2)
            with small_disk(place, option, amount) as enlarge:
                return self._suffer(name, kind, place, reference, enlarge)
        place.mkdir()
        return self._suffer(name, kind, place, reference, lambda: None)

    def _suffer(
        self, name: str, kind: str, place: Path, reference: dict, mend: Callable[[], None]
    ) -> Outcome:
        out, outcome = place / "out", Outcome(name, kind)
        process = self.begin(name, out, kind)
        if kind in inject.SIGNALS:
            number, seconds = inject.SIGNALS[kind], 0.9 * self.seconds[name]
            code, outcome.stop_s = self.send(process, number, seconds)
        elif kind == "the folder is gone":
            code = self.without_folder(process, out, 0.9 * self.seconds[name])
        else:
            code = self.finish(process)
        if code not in ENDS[kind]:
            outcome.lost.append(f"ended with {code}: {self.log(out)}")
        if code == 1 and not self.log(out).startswith("oskdft: "):
            outcome.lost.append(f"the last line is no message: {self.log(out)}")
        mend()
        if code != 0 and (code := self.call(name, out)) != 0:
            outcome.lost.append(f"the next call ended with {code}: {self.log(out)}")
        else:
            after = digests(out, self.writers[name].results)
            other = sorted(k for k in {*reference, *after} if reference.get(k) != after.get(k))
            outcome.lost += [f"differs: {file}" for file in other[:3]]
        left = [str(f.relative_to(place)) for f in place.rglob("*.part*")]
        outcome.lost += [f"left behind: {file}" for file in left[:3]]
        outcome.survived = not outcome.lost
        shutil.rmtree(out, ignore_errors=True)
        return outcome

    def without_folder(self, process: Any, out: Path, seconds: float) -> int | None:
        """Move the target away at a random moment, and back when the process has ended."""
        process.join(seconds * self.rng.random())
        moved = out.exists()
        if moved:
            os.rename(out, out.with_name("away"))
        code = self.finish(process)
        if moved:
            if out.exists():  # made again: what was there must not be lost
                shutil.rmtree(out)
            os.rename(out.with_name("away"), out)
        return code
