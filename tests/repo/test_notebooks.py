"""The notebooks as files: their list, form and exercises; nbmake runs them."""

import ast
import contextlib
import io
import re
from pathlib import Path

import nbformat
import papermill
import pytest

from oskdft.lessons.exercise import NOT_ATTEMPTED
from oskdft.utils.files import read_json

FOLDER = Path(__file__).parents[2] / "notebooks"
NAMES = (
    "00_start_here", "01_scores_and_errors", "02_teacher_analysis", "02b_how_teachers_learn",
    "03_student_two_paths", "03b_os_kdft_in_100_lines", "04_one_step_training", "05_strategies",
    "06_ablations", "07_evaluation_det", "08_embeddings", "09_reading_the_released_code",
    "09b_choosing_and_reporting", "10_deployment",
)  # fmt: skip


def number_of(name: str) -> str:
    """ "02b" of "02b_how_teachers_learn"."""
    return name.partition("_")[0]


SOLUTIONS = tuple(f"solutions/{number_of(name)}_solutions" for name in NAMES)
COMMON = {
    "profile": '""', "seed": "0", "device": '"auto"', "data_root": '""', "output_dir": '""',
    "save_figures": "False",
}  # fmt: skip
TAGS = {
    "parameters", "setup", "check", "exercise", "feedback", "figure", "solution", "prediction",
    "outcome",
}  # fmt: skip
UNCOUNTED = (
    "feedback",
    "prediction",
    "outcome",
)  # one call or one line each: no code to understand
OPENING, CLOSING = ["You will learn"], ["Questions for class", "Summary", "Next"]
CODE_CELLS, CODE_LINES, SETUP_LINES, OWN_PARAMETERS = 34, 25, 10, 4
PLACES = re.compile(
    r"""["'](?:/|~/|[A-Za-z]:\\)\w|(?<![\w.:/])/(?:home|Users|root|mnt|work|tmp)/"""
)


def path_of(name: str) -> Path:
    return FOLDER / f"{name}.ipynb"


def cells(name: str, tag: str = "") -> list:
    """Cells of a notebook, or those with a tag."""
    everything = nbformat.reads(path_of(name).read_text(encoding="utf-8"), as_version=4).cells
    return [c for c in everything if not tag or tag in c.metadata.get("tags", [])]


def code(name: str) -> list[str]:
    return [c.source for c in cells(name) if c.cell_type == "code"]


def test_the_series_is_complete():
    files = [p for p in FOLDER.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts]
    found = {p.relative_to(FOLDER).with_suffix("").as_posix() for p in files}
    assert found == {*NAMES, *SOLUTIONS}


@pytest.mark.parametrize("name", NAMES + SOLUTIONS)
def test_cells_are_clean(name):
    notebook = nbformat.read(path_of(name), as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    for number, cell in enumerate(notebook.cells):
        where = f"{name}, cell {number}"
        assert set(cell.metadata.get("tags", [])) <= TAGS, where
        assert cell.source.strip(), f"{where} is empty"
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None, f"{where}: make format"
            assert not re.search(r"^\s*[!%]", cell.source, re.MULTILINE), f"{where}: no shell"
            assert not PLACES.search(cell.source), f"{where} names an absolute path"


@pytest.mark.parametrize("name", NAMES + SOLUTIONS)
def test_links_lead_somewhere(name):
    for cell in cells(name):
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\(<?([^)>\s#]+)", cell.source):
                here = (path_of(name).parent / target).exists()
                assert here or re.match(r"[a-z]+:", target), f"{name} links to {target}"


@pytest.mark.parametrize("name", NAMES)
def test_the_head_shows_a_committed_figure_with_its_text(name):
    """A page of the repository begins with a picture; its words are those of the figure's numbers.

    Whoever has the notebook alone reads what to install.
    """
    assert "needs the package `oskdft`: run `make setup`" in cells(name)[0].source
    shown = re.findall(
        r"^!\[(.+)\]\(\.\./figures/(.+)\.svg\)$", cells(name)[0].source, re.MULTILINE
    )
    ((text, figure),) = shown
    place = FOLDER.parent / "figures"
    assert figure.startswith(f"{number_of(name)}_") and (place / f"{figure}.svg").is_file()
    assert text == read_json(place / f"{figure}.json")["alt"]


@pytest.mark.parametrize("name", NAMES)
def test_parameters(name):
    """papermill sees them all, each has a help text and is used."""
    assert len(cells(name, "parameters")) == 1
    known = papermill.inspect_notebook(str(path_of(name)))
    assert list(known)[: len(COMMON)] == list(COMMON)
    assert {key: known[key]["default"] for key in COMMON} == COMMON
    assert len(known) <= len(COMMON) + OWN_PARAMETERS
    assert all(entry["help"] for entry in known.values())
    place = cells(name).index(cells(name, "parameters")[0])
    later = [c.source for c in cells(name)[place + 1 :] if c.cell_type == "code"]
    used = {n.id for text in later for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Name)}
    assert known.keys() <= used


@pytest.mark.parametrize("name", NAMES)
def test_setup_cell_is_short_and_folded(name):
    (setup,) = cells(name, "setup")
    assert setup.metadata.jupyter.source_hidden
    assert len([line for line in setup.source.splitlines() if line]) <= SETUP_LINES
    assert (
        f'setup("{number_of(name)}", profile, seed, device, data_root, output_dir' in setup.source
    )


@pytest.mark.parametrize("name", NAMES)
def test_sections_in_order(name):
    text = "\n".join(c.source for c in cells(name) if c.cell_type == "markdown")
    titles = re.findall(r"^# (.+)$", text, re.MULTILINE)
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    numbers = [int(h.split()[0]) for h in headings if h[0].isdigit()]
    assert len(titles) == 1 and titles[0].startswith(f"{number_of(name)} · ")
    assert numbers == list(range(1, len(numbers) + 1)) and numbers
    around = [h for h in headings if not h[0].isdigit()]
    wanted = [*OPENING, "Compare with the paper", "Exercises", *CLOSING]
    optional = {"Compare with the paper", "Exercises"} if name == NAMES[0] else set()
    assert around == [h for h in wanted if h in around or h not in optional]
    assert [h for h in headings if h in OPENING or h[0].isdigit()] == headings[: len(numbers) + 1]


@pytest.mark.parametrize("name", NAMES + SOLUTIONS)
def test_cells_are_small(name):
    sources = code(name)
    uncounted = sum(len(cells(name, tag)) for tag in UNCOUNTED)
    assert len(sources) - uncounted <= CODE_CELLS
    for source in sources:
        assert len(source.splitlines()) <= CODE_LINES, f"{name}: {source.splitlines()[0]} ..."


@pytest.mark.parametrize("name", NAMES)
def test_checks_teach(name):
    """There are checks, each asserts something, and each says what to learn when it fails."""
    checks = [ast.parse(cell.source) for cell in cells(name, "check")]
    assert checks
    for tree in checks:
        asserts = [node for node in ast.walk(tree) if isinstance(node, ast.Assert)]
        assert asserts and all(node.msg for node in asserts), ast.unparse(tree)


@pytest.mark.parametrize("name", NAMES)
def test_predictions_are_written_down_and_answered(name):
    """Behind each "Predict" a cell to write in; behind the run what happened, with computed numbers."""
    everything, number, asked = cells(name), 0, []
    for before, cell in zip(everything, everything[1:], strict=False):
        if "**Predict:**" in before.source:
            assert before.source.count("**Predict:**") == 1, "one question, one cell to write in"
            number += 1
            stub = f'prediction_{number} = ""  # what do you expect? write it between the quotes'
            assert cell.metadata.tags == ["prediction"] and cell.source == stub
            asked.append(everything.index(cell))
    assert number >= 5 and len(cells(name, "prediction")) == len(cells(name, "outcome")) == number
    answered = {}
    for place, cell in enumerate(everything):
        if "outcome" in cell.metadata.get("tags", []):
            calls = [
                node
                for node in ast.walk(ast.parse(cell.source))
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "lesson.happened"
            ]
            [call] = calls
            which = int(call.args[0].id.removeprefix("prediction_"))
            answered[which] = place
            computed = [arg for arg in call.args[1:] if not isinstance(arg, ast.Constant)]
            assert computed, f"{name}: what happened with prediction {which} is not computed"
            ran = everything[asked[which - 1] + 1 : place]
            kinds = [c.metadata.get("tags", []) for c in ran if c.cell_type == "code"]
            assert any(set(tags) <= {"figure", "check"} for tags in kinds), "nothing ran between"
    assert set(answered) == set(range(1, number + 1))


@pytest.mark.parametrize("name", NAMES)
def test_enough_exercises(name):
    """Each with a solution, and after everything else: nothing later depends on them."""
    exercises, answers = cells(name, "exercise"), cells(name, "feedback")
    solutions = cells(f"solutions/{number_of(name)}_solutions", "solution")
    assert 3 <= len(exercises) == len(answers) == len(solutions) <= 5
    everything = [cell for cell in cells(name) if cell.cell_type == "code"]
    pairs = [cell for pair in zip(exercises, answers, strict=True) for cell in pair]
    assert everything[-len(pairs) :] == pairs


@pytest.mark.parametrize("name", NAMES)
def test_an_exercise_does_not_show_its_answer(name):
    """The cell that answers knows it, so it is folded, and the student's cell does not call it."""
    assert all(cell.metadata.jupyter.source_hidden for cell in cells(name, "feedback"))
    assert all("exercise(" not in cell.source for cell in cells(name, "exercise"))


KINDS = {"build", "predict", "criticise", "reason"}


@pytest.mark.parametrize("name", NAMES)
def test_each_kind_of_exercise(name):
    """One at least that builds, one that predicts, one that criticises a claim; numbered from 1."""
    text = "\n".join(c.source for c in cells(name)).partition("## Exercises")[2]
    found = re.findall(r"^(?:### Exercise |\*\*)(\d) \((\w+)\)", text, re.MULTILINE)
    assert [int(number) for number, _ in found] == list(range(1, len(cells(name, "exercise")) + 1))
    assert {"build", "predict", "criticise"} <= {kind for _, kind in found} <= KINDS
    assert "claim" in text or "advertises" in text or "concludes" in text or "writes:" in text


def run(source: str) -> str:
    """Execute cells alone, as in a fresh kernel; returns what they print, without colours."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(source, "exercise", "exec"), {"__name__": "exercise"})
    return re.sub(r"\x1b\[\d*m", "", printed.getvalue())


@pytest.mark.parametrize(
    ("name", "number"),
    [(name, n) for name in NAMES for n in range(len(cells(name, "exercise")))],
)
def test_exercise_knows_right_from_wrong(name, number, tmp_path, monkeypatch):
    """Needs nothing but itself; nothing tried passes, the solution is right, the tempting one is not.

    The cell below holds the name of the exercise alone: its source, in a traceback too, shows no answer.
    """
    monkeypatch.chdir(tmp_path)
    mine, checks = (cells(name, tag)[number].source for tag in ("exercise", "feedback"))
    call = f'exercise("{number_of(name)}.{number + 1}", answer)'
    assert checks == f"from oskdft.lessons.exercise import exercise\n\n{call}"
    source = f"{mine}\n{checks}"
    solution = cells(f"solutions/{number_of(name)}_solutions", "solution")[number].source
    stub = re.compile(r"^answer = None\b.*$", re.MULTILINE)
    assert len(stub.findall(source)) == 1
    assert run(source).endswith(f"{NOT_ATTEMPTED}\n")
    assert run(stub.sub(lambda _: solution, source)).endswith("right\n")
    wrong = run(stub.sub(lambda _: f"{solution}\nanswer = wrong", source))
    assert "not yet: " in wrong and "raised" not in wrong
