"""Headless Chromium and a JupyterLab on a copy of the notebooks; the checkout is never modified."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from browser.lab import ROOT, Notebook, Watched, jupyterlab

NAMES = ("chromium", "chromium-browser", "google-chrome")
PROGRAM = next(filter(None, map(shutil.which, NAMES)), None)
SIZE = {"width": 1280, "height": 720}  # a projector
QUIET = (
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",  # a microphone that beeps
)  # fmt: skip


@pytest.fixture(scope="package")
def chromium() -> Iterator:
    """The browser; package scope, because Playwright's event loop must not outlive these tests."""
    if PROGRAM is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=PROGRAM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def out(tmp_path_factory) -> Path:
    """Where the notebooks put runs and figures."""
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="package")
def notebooks(tmp_path_factory, out) -> Path:
    """Copies of the notebooks that write to `out`, beside the figures in their heads."""
    folder = tmp_path_factory.mktemp("checkout") / "notebooks"
    folder.mkdir()
    shutil.copytree(ROOT / "figures", folder.parent / "figures")
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        text = path.read_text(encoding="utf-8")
        assert text.count(r"output_dir = \"\"") == 1, path
        text = text.replace(r"output_dir = \"\"", rf"output_dir = \"{out.as_posix()}\"")
        (folder / path.name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="package")
def lab(chromium, tmp_path_factory, notebooks) -> Iterator[str]:
    """Address of a JupyterLab."""
    with jupyterlab(tmp_path_factory.mktemp("lab"), notebooks) as url:
        yield url


@pytest.fixture(scope="module")
def watched(chromium) -> Iterator:
    """A function name -> `Watched` page, closed at the end."""
    with_pages = chromium.new_context(viewport=SIZE)
    yield lambda name, kind=Watched: kind(with_pages, name)
    with_pages.close()


@pytest.fixture(scope="module")
def ran(lab, watched, notebooks):
    """A function that opens a notebook and runs it from the menu.

    Left out of the copy: cells that name none of ``only``, and those behind the first that names
    ``until``, where these are given. ``alone``: in Notebook 7.
    """

    def run(
        name: str, only: tuple[str, ...] = (), until: str = "", alone: bool = False
    ) -> Notebook:
        if only or until:
            notebook = nbformat.read(notebooks / f"{name}.ipynb", as_version=4)
            cells = [c for c in notebook.cells if not only or any(w in c.source for w in only)]
            if until:
                cells = cells[: 1 + next(i for i, c in enumerate(cells) if until in c.source)]
            notebook.cells = cells
            name = f"{name}-{'alone' if alone else 'part'}"  # a path has one kernel
            nbformat.write(notebook, notebooks / f"{name}.ipynb")
        opened = watched(name, Notebook)
        (opened.open_alone if alone else opened.open)(lab)
        opened.run_all()
        return opened

    return run
