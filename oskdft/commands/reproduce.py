"""The series in one batch: papermill runs the notebooks, and a report shows their results."""

import contextlib
import datetime
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import nbformat
import papermill
from jinja2 import Template
from nbclient.exceptions import DeadKernelError
from traitlets.config import Config as TraitletsConfig

from oskdft import config
from oskdft.commands.pages import Page
from oskdft.lessons.lesson import ROOT
from oskdft.utils import memory, provenance
from oskdft.utils.console import paragraph, say
from oskdft.utils.files import atomic, read_json, require_own_folder, write_json
from oskdft.utils.lock import Lock, scratch_folder
from oskdft.utils.process import place_of_sockets

KERNEL = "oskdft"  # its name; not "python3", which a user may have defined
NOTEBOOKS = ROOT / "notebooks"
TEMPLATE = Path(__file__).with_name("report.html")
MADE = (  # in the folder of a batch, by it and by its notebooks
    "figures", "notebooks", "runs", "sweeps", "tables", "reproduce.json", "report.html", "untrained-*",
    "voices-*", ".lock",
)  # fmt: skip
NEED = 2_400_000_000  # bytes: 1.95 GB in notebook 04, the largest measured, and some for the batch
LOG_S = 60.0  # between two progress lines in a log
OWN = {"profile": "--profile", "output_dir": "--out"}  # parameters that the batch sets itself


def reproduce(
    profile: str = "classroom",
    only: list[str] | None = None,
    out: str | Path = "",
    resume: bool = False,
    parameters: dict[str, Any] | None = None,
) -> Path:
    """Run the notebooks in order and write the report.

    Args:
        profile: for all notebooks. only: numbers such as "04"; None: all.
        out: folder for executed copies, runs, figures and report; empty: runs/<profile>.
        resume: skip the notebooks that this folder has finished with the same parameters.
        parameters: for every notebook that has them.
    Returns:
        the report, report.html.
    Raises:
        ValueError: unknown profile, notebook or parameter; the folder holds a batch already, or
            another process writes to it; memory is short; a notebook failed (its executed copy is kept).
    """
    config.load(profile)
    chosen = select(only)
    out = ROOT / (out or f"runs/{Path(profile).stem}")
    if Path(profile).is_file():  # the notebooks run in their own folder
        profile = str(Path(profile).resolve())
    for name in parameters or {}:
        if name in OWN:
            raise ValueError(f"-p {name} has to be the same in the whole batch; use {OWN[name]}")
    values = {"profile": profile, "output_dir": str(out), "save_figures": True} | (parameters or {})
    known = {path: set(papermill.inspect_notebook(str(path))) for path in chosen}
    everything = sorted(set().union(*known.values()))
    for name in values:
        if name not in everything:  # papermill only warns
            raise ValueError(
                f"no notebook has the parameter {name!r}; known: {', '.join(everything)}"
            )
    require_own_folder(out, MADE)
    memory.require(NEED, "the notebooks need", "close other programs, or take a larger machine")
    with Lock(out):
        return write_report(out, profile, _run_chosen(known, values, out, resume))


def _run_chosen(
    known: dict[Path, set[str]], values: dict[str, Any], out: Path, resume: bool
) -> dict[str, dict]:
    """Run the notebooks that are not done; return the content of reproduce.json."""
    state_path = out / "reproduce.json"
    state = read_json(state_path) if state_path.is_file() else {}
    if state and not resume:
        raise ValueError(
            f"{out} holds a batch; add --resume to continue it, or choose another --out"
        )
    commit = provenance.facts()["commit"]
    for number, path in enumerate(known, 1):
        label = f"[{number}/{len(known)}] {path.stem}"
        used = {name: value for name, value in values.items() if name in known[path]}
        before = state.get(path.stem, {})
        if before.get("parameters") == used and before.get("source") == _digest(path):
            done = f"{label}: done before, {before['seconds']:.0f} s"
            if before.get("commit") != commit:  # the digest covers the notebook, not the package
                done += (
                    f", at commit {before.get('commit') or 'unknown'}; here is "
                    f"{commit or 'unknown'}: to run it again, choose another --out"
                )
            say(done)
            continue
        say(f"{label} ...")
        began = time.monotonic()
        with _watched(label, len(nbformat.read(path, as_version=4).cells) + 1) as at_cell:
            _run(path, out / "notebooks" / path.name, used, at_cell)
        seconds = time.monotonic() - began
        state[path.stem] = {"seconds": seconds, "parameters": used, "source": _digest(path)}
        state[path.stem]["commit"] = commit
        write_json(state_path, state)
        say(f"{label}: {seconds:.0f} s")
    return state


@contextlib.contextmanager
def _watched(label: str, cells: int) -> Iterator[Callable]:
    """Print a line a minute in a log: which cell runs. On a terminal papermill draws a bar.

    Args:
        cells: number of cells, with the one that papermill adds for the parameters.
    Yields:
        the function that nbclient calls when a cell starts.
    """
    began = time.monotonic()
    stop = threading.Event()
    started = [0]  # indices of cells

    def tick() -> None:
        while not stop.wait(LOG_S):
            seconds = time.monotonic() - began
            say(f"{label}: cell {started[-1] + 1} of {cells}, {seconds:.0f} s")

    ticker = threading.Thread(target=tick, daemon=True)
    if not sys.stderr.isatty():
        ticker.start()
    try:
        yield lambda cell, cell_index: started.append(cell_index)
    finally:
        stop.set()


def number_of(name: str) -> str:
    """The number of a notebook or figure, such as "02b".

    >>> number_of("02b_how_teachers_learn.ipynb")
    '02b'
    """
    return name.partition("_")[0]


def select(only: list[str] | None) -> list[Path]:
    """The notebooks with these numbers, in order; None: all.

    Raises:
        ValueError: no notebook has that number.
    """
    everything = sorted(NOTEBOOKS.glob("[0-9][0-9]*_*.ipynb"))
    numbers = {number_of(path.name): path for path in everything}
    if not everything:
        raise ValueError(f"no notebooks in {NOTEBOOKS}; run this from a clone of the project")
    for number in only or []:
        if number not in numbers:
            raise ValueError(f"no notebook {number!r}; choose from {', '.join(numbers)}")
    return [path for number, path in numbers.items() if not only or number in only]


def _run(path: Path, copy: Path, parameters: dict[str, Any], at_cell: Callable) -> None:
    """Execute a notebook into ``copy``.

    The kernel is reached over sockets in a private temporary folder. Over TCP every user of the
    machine could read the messages, and the kernel warns of that. Without a folder the sockets
    would be made beside the notebooks, whose file system may not support them.
    """
    copy.parent.mkdir(parents=True, exist_ok=True)
    bar = {"desc": path.stem, "leave": False, "disable": None}  # None: drawn on terminals only
    try:
        with scratch_folder(place_of_sockets()) as folder:
            sockets = {"KernelManager": {"transport": "ipc", "ip": f"{folder}/kernel"}}
            with _own_kernel(folder):
                papermill.execute_notebook(
                    str(path), str(copy), parameters, kernel_name=KERNEL, progress_bar=bar,
                    cwd=str(path.parent), on_cell_start=at_cell, config=TraitletsConfig(sockets),
                )  # fmt: skip
    except papermill.PapermillExecutionError as error:
        reason = f"{error.ename}: {' '.join(error.evalue.split())[:300]}"
        raise ValueError(
            f"{path.stem} stopped at cell {error.cell_index}: {reason}; the executed part is in "
            f"{copy}; correct the notebook and add --resume"
        ) from None
    except DeadKernelError:
        raise ValueError(
            f"{path.stem}: its kernel has died, most likely killed because the memory was full (now "
            f"{_free()} are free); the notebooks before it are kept: close other programs and add --resume"
        ) from None
    except SystemExit:  # SIGTERM; asyncio would print the traceback of the stopped kernel
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        raise


def _free() -> str:
    free = memory.available()
    return "an unknown number of GB" if free is None else f"{free / 1e9:.1f} GB"


@contextlib.contextmanager
def _own_kernel(folder: Path) -> Iterator[None]:
    """Make this Python the kernel `KERNEL`: a user's own "python3" may be another Python."""
    spec = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Python",
        "language": "python",
    }
    write_json(folder / "kernels" / KERNEL / "kernel.json", spec)
    folders = filter(None, (str(folder), os.environ.get("JUPYTER_PATH")))
    with mock.patch.dict(os.environ, JUPYTER_PATH=os.pathsep.join(folders)):
        yield


def _digest(path: Path) -> str:
    """Digest of the code cells; prose may change without running a notebook again."""
    cells = nbformat.read(path, as_version=4).cells
    return provenance.digest("\n".join(c.source for c in cells if c.cell_type == "code"))


def write_report(out: Path, profile: str, state: dict[str, dict]) -> Path:
    """Write report.html: tables, figures with captions, and the executed notebooks as pages."""
    exporter = Page()
    sections = [_section(out, name, entry, exporter) for name, entry in sorted(state.items())]
    facts = provenance.facts()
    seconds = round(sum(entry["seconds"] for entry in state.values()))
    context = {
        "profile": profile,
        "facts": facts,
        "versions": provenance.listed(facts["versions"]),
        "total": datetime.timedelta(seconds=seconds),
        "sections": sections,
    }
    page = Template(TEMPLATE.read_text(encoding="utf-8"), autoescape=True)
    report = out / "report.html"
    with atomic(report) as file:
        file.write(page.render(context))
    return report


def _section(out: Path, name: str, entry: dict, exporter: Page) -> dict[str, Any]:
    """What the report shows of one notebook, whose executed copy becomes a page."""
    executed = out / "notebooks" / f"{name}.ipynb"
    with atomic(executed.with_suffix(".html")) as file:
        file.write(exporter.of(executed))
    saved = out / "tables" / f"{number_of(name)}.json"
    compared = read_json(saved) if saved.is_file() else None
    figures = sorted((out / "figures").glob(f"{number_of(name)}_*.json"))
    cells = nbformat.read(executed, as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    texts = [output.text for output in outputs if output.output_type == "stream"]
    return {
        "name": name,
        "seconds": round(entry["seconds"]),
        "compared": compared,
        "figures": [read_json(path) | {"name": path.stem} for path in figures],
        # printed by `utils.console.table`
        "tables": [
            text
            for text in texts
            if "-+-" in text and not (compared and paragraph(compared["note"]) in text)
        ],
    }
