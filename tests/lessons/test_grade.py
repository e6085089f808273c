"""The table of a class: verdicts come from stored outputs, and nothing in a file is executed."""

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from oskdft.commands import cli
from oskdft.lessons import grade

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "00_start_here.ipynb"


def handed_in(path: Path, answers: list[str], change=None) -> Path:
    """The exercises of notebook 00 with these answers, executed and saved."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    wanted = {"exercise", "feedback"}
    notebook.cells = [c for c in notebook.cells if wanted & set(c.metadata.get("tags", []))]
    for cell, answer in zip(notebook.cells[::2], answers, strict=True):
        cell.source = answer
    NotebookClient(notebook, kernel_name="python3", allow_errors=True).execute()
    if change:
        change(notebook.cells)
    nbformat.write(notebook, path)
    return path


@pytest.fixture(scope="module")
def executed(tmp_path_factory) -> Path:
    endless = "def answer(a, b):\n    while True:\n        pass"  # in the main thread of a kernel
    answers = ["answer = 45", "answer = 40_010", endless, "answer = None"]
    return handed_in(tmp_path_factory.mktemp("class") / "anna 00.ipynb", answers)


def changed(path: Path, folder: Path, change) -> dict:
    notebook = nbformat.read(path, as_version=4)
    change(notebook.cells)
    nbformat.write(notebook, folder / "changed.ipynb")
    [row] = grade.grade([folder / "changed.ipynb"])
    return row


@pytest.mark.slow
def test_an_executed_notebook(executed):
    [row] = grade.grade([executed])
    verdicts = {"1": "right", "2": "not yet", "3": "not yet", "4": "not attempted"}
    assert row["exercises"] == verdicts and row["notebook"] == "00"
    assert (row["right"], row["of"], row["problem"]) == (1, 4, "")
    assert "anna 00.ipynb | 00       | right | not yet | " in grade.text([row])


@pytest.mark.slow
def test_what_cannot_be_trusted_is_not_right(executed, tmp_path):
    def later(cells):
        cells[0].execution_count = 99

    def own_check(cells):
        cells[1].source = 'print("right")'

    def cleared(cells):
        cells[1].outputs, cells[1].execution_count = [], None

    for change, verdict in ((later, "run again"), (own_check, "missing"), (cleared, "not run")):
        row = changed(executed, tmp_path, change)
        assert row["exercises"]["1"] == verdict and row["right"] == 0


def test_the_committed_notebooks_have_not_been_run():
    for path in sorted(NOTEBOOK.parent.glob("*.ipynb")):
        [row] = grade.grade([path])
        assert set(row["exercises"].values()) == {"not run"} and row["of"] >= 3, path.name


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"cells": 3}', '{"cells": [3]}', "\xff", "[" * 50_000, '{"cells": []}', None],
)
@pytest.mark.slow
def test_a_file_that_is_no_notebook_is_a_row(content, tmp_path, executed):
    path = tmp_path / "x.ipynb"
    if content is not None:
        path.write_text(content, encoding="latin-1")
    first, second = grade.grade([path, executed])
    assert first["problem"] and "\n" not in first["problem"] and second["right"] == 1
    assert len(grade.text([first, second]).splitlines()) == 4


@pytest.mark.slow
def test_the_command(executed, tmp_path, monkeypatch, capsys):
    def run(*words):
        monkeypatch.setattr("sys.argv", ["oskdft", "grade", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return stopped.value.code, capsys.readouterr().out

    code, out = run(executed, "--json")
    assert code == 0 and json.loads(out)["notebooks"][0]["right"] == 1
    code, out = run(executed, tmp_path / "nobody.ipynb")
    assert code == 1 and "1 of 4" in out and "No such file" in out
