"""The teacher's guide names things that exist, its sums are right; the site builds without a warning."""

import doctest
import importlib.util
import json
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
import typer
import yaml
from PIL import Image

from oskdft import config
from oskdft.commands.cli import app
from oskdft.evaluation import metrics
from oskdft.lessons import evidence
from oskdft.lessons.kept import EVIDENCE, read

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "teaching.md").read_text()
PAGES = sorted((ROOT / "docs").glob("*.md"))
NOTEBOOKS = {
    path.name.partition("_")[0]: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
}
pytestmark = pytest.mark.filterwarnings("ignore:.*Check CHANGES for Sphinx API")  # of the theme
POINTS = {"reason": 2, "predict": 2, "criticise": 2, "build": 4}


def prose(notebook: Path) -> str:
    cells = nbformat.read(notebook, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def exercises(notebook: Path) -> dict[str, str]:
    """Number of an exercise -> what its heading calls it."""
    text = prose(notebook).partition("## Exercises")[2]
    return dict(re.findall(r"^(?:### Exercise |\*\*)(\d) \((.+?)\)", text, flags=re.MULTILINE))


def rows(heading: str) -> list[list[str]]:
    """Cells of the first table below a heading of the guide, without its head."""
    text = GUIDE.partition(f"{heading}\n")[2]
    lines = re.search(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


DEFINED = (
    "AAM-softmax", "Back-end", "Pooling", "Weighted sum", "Masked prediction", "Contrast", "UniSpeech-SAT",
    "PAV", "Nat and bit", "SSL", "wav2vec 2.0", "ECAPA-TDNN", "Layer norm", "Miss", "False alarm",
)  # fmt: skip


def anchor(heading: str) -> str:
    """What a heading is linked by, on the site and on a repository page."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_each_word_of_the_glossary_is_linked_where_it_is_used():
    words = re.findall(r"^## (.+)$", (ROOT / "docs/glossary.md").read_text(), flags=re.MULTILINE)
    assert words == sorted(words, key=str.lower) and len(words) >= 40
    assert set(DEFINED) <= set(words)
    links = {
        link
        for path in NOTEBOOKS.values()
        for link in re.findall(r"\]\(\.\./docs/glossary\.md#([\w-]+)\)", prose(path))
    }
    assert links == {anchor(word) for word in words}


def flat(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("number", NOTEBOOKS)
def test_each_prediction_and_each_question_for_class_has_an_answer(number):
    page = (ROOT / "docs/answers.md").read_text()
    text = prose(NOTEBOOKS[number])
    predictions = re.findall(r"\*\*Predict:\*\*(.+?)(?=\n\n|\Z|\n#|\n- )", text, flags=re.DOTALL)
    asked = text.partition("## Questions for class")[2].partition("\n## ")[0]
    questions = re.findall(r"^\d\. (.+(?:\n(?!\d\. |\n).+)*)", asked, flags=re.MULTILINE)
    assert len(predictions) >= 5 and len(questions) >= 3
    for heading, wanted in (("Predictions", predictions), ("Questions for class", questions)):
        part = page.partition(f"### {heading} {number}\n")[2].partition("\n#")[0]
        answered = re.findall(r"^\d+\. (.+?)\*Answer\.\*(.+?)(?=^\d+\. |\Z)", part, re.M | re.S)
        assert [flat(question) for question, _ in answered] == [flat(q) for q in wanted], number
        assert all(len(flat(answer)) > 15 for _, answer in answered)


@pytest.mark.parametrize("path", [*NOTEBOOKS.values(), *PAGES], ids=lambda path: path.stem)
def test_one_name_for_each_error(path):
    """Misses and false alarms; the glossary alone tells the other names."""
    text = prose(path) if path.suffix == ".ipynb" else path.read_text()
    found = re.findall(r"false (?:accept|reject)\w*", text, flags=re.IGNORECASE)
    assert len(found) == (2 if path.stem == "glossary" else 0)


def loaded(name: str):
    """A module of the folder docs/."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def build():
    """The module docs/build.py."""
    return loaded("build")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_files_that_a_page_names_exist(page):
    places = r"`((?:notebooks|figures|docs|benchmarks|oskdft|tests)/[\w./-]*)`"
    for name in re.findall(places, page.read_text()):
        assert (ROOT / name).exists(), f"{page.name} names {name}"


def test_pictures_of_the_pages_come_into_the_site(build):
    there = {path for pattern in build.COPIED for path in ROOT.glob(pattern)}
    for page in (ROOT / "README.md", *PAGES):
        for name in re.findall(r"!\[.*\]\(([^)]+)\)", page.read_text()):
            assert (page.parent / name).resolve() in there, f"{page.name} shows {name}"


def test_commands_that_the_guide_names_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    made = re.findall(r"(?:`|^|\s)make ([a-z-]+)(?=`|$)", GUIDE, flags=re.MULTILINE)
    assert {"reproduce", "docs", "demo"} <= set(made) <= targets
    known = set(typer.main.get_command(app).commands)
    called = set(re.findall(r"`oskdft ([a-z]+)", GUIDE))
    assert {"train"} <= called <= known


def test_settings_that_the_guide_names_exist():
    [words] = re.findall(r"`oskdft train --profile classroom --out \S+ (.+?)`", GUIDE)
    config.load("classroom").override(
        {name: yaml.safe_load(value) for name, value in (word.split("=") for word in words.split())}
    )


def test_sections_that_the_guide_names_exist():
    found = re.findall(r"\b(\d\d) sections? ([\d, and-]*\d)", GUIDE)
    assert len(found) > 20
    for number, sections in found:
        there = re.findall(r"^## (\d+) ", prose(NOTEBOOKS[number]), flags=re.MULTILINE)
        assert set(re.findall(r"\d+", sections)) <= set(there), f"{number} section {sections}"


def test_exercises_that_the_guide_names_exist():
    sheet = (ROOT / "docs/worksheet.md").read_text(encoding="utf-8")
    found = re.findall(r"[Ee]xercise (\d) of (?:notebook )?(\d\d)", GUIDE + sheet)
    assert len(found) >= 4
    assert all(number in exercises(NOTEBOOKS[book]) for number, book in found)


def test_a_misconception_is_shown_by_a_cell_of_the_section_that_it_names():
    page = (ROOT / "docs/misconceptions.md").read_text(encoding="utf-8")
    ideas = page.split("\n### ")[1:]
    assert len(ideas) >= 12
    for idea in ideas:
        [(book, section, name, line)] = re.findall(
            r"^Shown by \[(\w+), section (\d+)\]\(\.\./notebooks/(\S+)\): `(.+)`$", idea, re.M
        )
        assert name == NOTEBOOKS[book].name
        here, lines = 0, {}
        for cell in nbformat.read(NOTEBOOKS[book], as_version=4).cells:
            if cell.cell_type == "markdown":
                here = int((re.findall(r"^## (\d+) ", cell.source, re.M) or [here])[-1])
            else:
                lines.setdefault(here, []).extend(map(str.strip, cell.source.splitlines()))
        assert any(code.startswith(line) for code in lines[int(section)]), (
            f"{book}, section {section}: {line}"
        )
        assert len(flat(idea)) > 150, "a reason"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_links_of_a_page_lead_somewhere(path):
    """Files and headings; links into the web are left to ``make docs``'s linkcheck."""
    links = re.findall(r"\]\(([^)\s]*)\)", re.sub(r"```.*?```", "", path.read_text(), flags=re.S))
    for link in links:
        file, _, heading = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = (path.parent / file) if file else path
        assert target.exists(), f"{path.name} links to {link}"
        if heading and target.suffix == ".md":
            there = re.findall(r"^#+ (.+)$", target.read_text(), flags=re.M)
            known = {anchor(re.sub(r"\[(.+?)\]\(.+?\)", r"\1", title)) for title in there}
            assert heading in known, f"{path.name} links to {link}"


def test_the_worksheet_is_counted_right():
    """Rows of part 2, counted from its scores; the answers say the same."""
    sheet = (ROOT / "docs/worksheet.md").read_text(encoding="utf-8")
    answers = (ROOT / "docs/answers.md").read_text(encoding="utf-8").partition("(worksheet.md)")[2]
    table = dict(re.findall(r"^\| (score|same speaker\?) \|(.+)\|$", sheet, flags=re.M))
    scores = [float(cell) for cell in table["score"].split("|")]
    labels = [cell.strip() == "yes" for cell in table["same speaker?"].split("|")]
    for threshold in ("0.25", "0.50", "0.75"):
        pairs = list(zip(scores, labels, strict=True))
        missed = sum(score < float(threshold) for score, same in pairs if same)
        alarms = sum(score >= float(threshold) for score, same in pairs if not same)
        said = flat(answers).partition(f"{threshold}: ")[2]
        counts = re.match(r"(\d) miss\w* \((\d+) %\), (\d) false alarms? \((\d+) %\)", said)
        assert list(map(int, counts.groups())) == [missed, 20 * missed, alarms, 20 * alarms]
    assert metrics.eer(scores, labels)[0] == pytest.approx(0.2)
    assert metrics.eer([score**2 for score in scores], labels)[0] == pytest.approx(0.2)
    share = 0.001 * 0.98 / (0.001 * 0.98 + 0.999 * 0.02)
    assert f"so {100 * share:.1f} %" in flat(answers)


def test_marking_scheme_has_every_exercise_and_adds_up():
    *table, whole = rows("## Marking scheme")
    assert [row[0] for row in table] == list(NOTEBOOKS)
    for book, *cells, total in table:
        marks = [cell.split() for cell in cells if cell]
        assert [points for _, points in marks] == [str(POINTS[kind]) for kind, _ in marks], book
        assert sum(int(points) for _, points in marks) == int(total), book
        kinds = exercises(NOTEBOOKS[book])
        assert list(kinds) == [str(n) for n in range(1, len(marks) + 1)], book
        assert list(kinds.values()) == [kind for kind, _ in marks], book
    assert sum(int(row[-1]) for row in table) == int(whole[-1])


def test_expected_outputs_are_what_the_figures_say():
    table = rows("### Expected outputs")
    assert len(table) > 10
    for link, says, conclusion in table:
        figure = ROOT / "docs" / re.search(r"\((.+)\.png\)", link)[1]
        assert says in json.loads(figure.with_suffix(".json").read_text())["alt"], link
        assert len(conclusion.split()) >= 8, f"{link}: what should a class conclude?"


@pytest.mark.parametrize("minutes, heading", [(90, "## One lesson of 90 minutes")])
def test_a_lesson_has_no_gap_and_no_overlap(minutes, heading):
    spans = [[int(edge) for edge in row[0].split("-")] for row in rows(heading)]
    assert [start for start, _ in spans] == [0, *(end for _, end in spans[:-1])]
    assert spans[-1][1] == minutes


def test_a_notebook_page_has_new_prose_old_outputs_and_no_widget(build):
    code, text = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
    parameters = code('profile = "smoke"', metadata={"tags": ["parameters"]})
    feedback = code("exercise(answer, 42)", metadata={"tags": ["feedback"]})
    written = nbformat.v4.new_notebook(cells=[text("new"), parameters, code("1 + 1"), feedback])
    written.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    given = code('profile = "desk"\noutput_dir = "/x"', metadata={"tags": ["injected-parameters"]})
    ran = code("1 + 1")
    ran.outputs = [
        nbformat.v4.new_output("display_data", {build.WIDGET: {}, "text/plain": "Box()"}),
        nbformat.v4.new_output("stream", name="stdout", text="more\n"),
        nbformat.v4.new_output("display_data", {"image/png": "eA=="}),
    ]
    executed = nbformat.v4.new_notebook(cells=[text("old"), parameters, given, ran, feedback])
    first, _, told, last = build.page(written, executed).cells
    assert first.source == "new"
    assert 'profile = "desk"' in told.source and "output_dir" not in told.source
    assert [output.output_type for output in last.outputs] == ["stream", "display_data"]
    assert last.outputs[0].text == "more\n"
    written.cells[-2].source = "2 + 2"
    with pytest.raises(ValueError, match="code has changed"):
        build.page(written, executed)


def test_a_series_that_was_not_executed_is_refused(build, tmp_path):
    with pytest.raises(ValueError, match="00_start_here.ipynb is not there; run oskdft"):
        build.stage(tmp_path / "runs", tmp_path / "source")


@pytest.fixture
def site(build, tmp_path, capsys):
    """Builds two pages and a notebook with the settings of docs/: (status, warnings)."""

    def made(page: str) -> tuple[int, str]:
        source = tmp_path / "source"
        source.mkdir()
        notes = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# N\n\n$x^2$")])
        nbformat.write(notes, source / "notes.ipynb")
        Image.new("RGB", (2, 2)).save(source / "p.png")
        (source / "other.md").write_text("# Other\n\n## A part\n")
        contents = "```{toctree}\nother\nnotes\n```\n"
        (source / "index.md").write_text(f"# Start\n\n{page}\n\n{contents}")
        return build.sphinx(source, tmp_path / "html"), capsys.readouterr().err

    return made


def test_a_small_site_builds_offline_with_formulas_and_launch_buttons(site, tmp_path, monkeypatch):
    monkeypatch.setenv("OSKDFT_REPOSITORY", "owner/name")
    assert site("[part](other.md#a-part) ![p](p.png)") == (0, "")
    notes = (tmp_path / "html" / "notes.html").read_text()
    assert "<math" in notes and "<msup>" in notes
    assert "mybinder.org/v2/gh/owner/name/main?urlpath=lab/tree/notes.ipynb" in notes
    assert "colab.research.google.com/github/owner/name/blob/main/notes.ipynb" in notes
    assert not re.search(r"<(?:script|link|img)[^>]+(?:src|href)=\"https?:", notes)


def test_the_page_in_the_browser_opens_in_the_site(build, site, tmp_path):
    assert "docs/app.md" in build.COPIED
    assert site(build.OPENED) == (0, "")
    assert '<iframe src="../app/index.html"' in (tmp_path / "html" / "index.html").read_text()


def test_the_slides_open_in_the_site(build, site, tmp_path):
    assert site(build.slides(ROOT / "docs" / "slides").replace("docs/teaching.md", "other.md")) == (
        0,
        "",
    )
    page = (tmp_path / "html" / "index.html").read_text()
    for name in ("lesson", "lab1", "lab2"):
        assert f'<a href="slides/{name}.html">' in page


def test_a_broken_link_anchor_or_image_fails_the_build(site):
    status, warnings = site("[x](lost.md) [x](other.md#astray) [x](#nowhere) ![x](gone.png)")
    assert status != 0
    for name in ("lost.md", "astray", "nowhere", "gone.png"):
        assert name in warnings


@pytest.fixture(scope="module")
def evidence_page():
    """The module docs/evidence_page.py."""
    return loaded("evidence_page")


@pytest.fixture(scope="module")
def made(evidence_page):
    """What the kept runs come to, by marker."""
    return evidence_page.blocks()


def test_the_kept_evidence_is_small_enough_to_ship():
    assert sum(file.stat().st_size for file in EVIDENCE.rglob("*") if file.is_file()) < 12_000_000


@pytest.mark.slow
def test_tables_of_the_results_are_those_of_the_kept_sweeps(evidence_page):
    page = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    for name in evidence_page.SWEEPS:
        result = evidence.gather(EVIDENCE / name)
        told = page.split(f"<!-- {name} -->\n")[1].split("\n<!-- end -->")[0]
        assert told == f"{evidence.markdown(result)}\n\n```\n{evidence.verdict(result)}\n```"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["results", "evidence"])
def test_tables_in_the_pages_are_what_the_kept_runs_say(name, evidence_page, made):
    page = (ROOT / f"docs/{name}.md").read_text(encoding="utf-8")
    assert page == evidence_page.filled(page, made), "run python docs/evidence_page.py"
    used = set(re.findall(r"^<!-- ([\w-]+) -->$", page, flags=re.MULTILINE)) - {"end"}
    rest = set(evidence_page.SWEEPS)
    assert used == (rest if name == "results" else set(made) - rest)


def test_a_claim_is_judged_by_its_own_scores(evidence_page, made):
    """Difference of EER worked out from the kept scores; intervals across 0 show nothing."""
    rates = {}
    for name in evidence_page.SWEEPS:
        sweep = read(EVIDENCE / name)
        label = sweep.trials().label
        for run in sweep.runs:
            rate = metrics.eer(run.scores["test"], label)[0]
            rates.setdefault((name, run.row), []).append(rate)
    rows = [line.strip("| ").split(" | ") for line in made["claims"].splitlines()[2:]]
    # lines on the verdicts follow the table
    for claim, row in zip(evidence_page.CLAIMS, rows, strict=False):
        told, _, sweep, ours, rival = claim
        assert (row[0], row[3], row[4]) == (told, ours, rival)
        points, low, high = map(float, re.findall(r"[+-][\d.]+", row[5]))
        apart = np.mean(rates[sweep, rival]) - np.mean(rates[sweep, ours])
        assert points == pytest.approx(100 * apart, abs=0.02), row
        assert row[6] == "not shown" or low * high > 0, row


def test_examples_of_the_page_hold(evidence_page):
    found = doctest.testmod(evidence_page)
    assert found.attempted == 3 and not found.failed


def test_a_marker_that_nothing_is_made_for_is_refused(evidence_page):
    with pytest.raises(ValueError, match="nothing is made for <!-- lost -->"):
        evidence_page.filled("<!-- lost -->\nx\n<!-- end -->", {})


ABSTRACT = """\
Several studies have simply compressed SSL models through knowledge distillation (KD) without
considering the target task. Consequently, these methods could not extract SV-tailored features. We
optimize a student model for SV during KD training to avert the distillation of inappropriate
information for the SV. OS-KDFT could downsize Wav2Vec 2.0 based ECAPA-TDNN size by approximately
76.2%, and reduce the SSL model's inference time by 79% while presenting an EER of 0.98%.
"""  # arXiv 2305.17394


def test_the_paper_is_quoted_word_for_word():
    page = (ROOT / "docs/evidence.md").read_text(encoding="utf-8")
    quoted = re.findall(r'"(.+?)"', page)
    assert len(quoted) == 3 and all(words in flat(ABSTRACT) for words in quoted)
    letters = set(re.findall(r"\(([a-z])\)", page.partition("<!-- claims")[2]))
    assert letters == {"a", "b", "c"}
