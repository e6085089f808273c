"""The slides of the lessons: figures that exist, no number of their own, nothing from the web."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DECKS = sorted((ROOT / "docs" / "slides").glob("*.md"))
NUMBER = r"(?<![\w.])\d+(?:\.\d+)?"
# notebooks, sections, exercises and minutes are addresses, no measurements
ADDRESS = (
    r"(?:[Nn]otebooks?|sections?|exercises?|[Mm]inutes) \d[\w-]*(?:, \d[\w-]*)*(?: and \d[\w-]*)?"
)


@pytest.fixture(scope="module")
def slides():
    """The module docs/slides/build.py."""
    spec = importlib.util.spec_from_file_location("slides", ROOT / "docs" / "slides" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_lesson_of_the_guide_has_a_deck():
    assert [path.stem for path in DECKS] == ["lab1", "lab2", "lesson"]
    guide = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
    assert all(f"](slides/{path.name})" in guide for path in DECKS)


@pytest.mark.parametrize("path", DECKS, ids=lambda path: path.stem)
def test_a_deck_holds_everything_and_asks_nothing_of_the_web(path, slides):
    text = path.read_text(encoding="utf-8")
    page = slides.deck(text)
    made = slides.parts(text)
    assert page.count("<section>") == page.count("<aside>") == len(made) >= 10
    assert all(notes for _, _, notes in made), "each slide has notes"
    pictures = sum(len(shown) for _, shown, _ in made)
    assert page.count("<img ") == page.count('src="data:image/') == pictures >= 8
    outside = re.sub(r'src="data:[^"]*"', "", page).replace("http://www.w3.org/1998/Math", "")
    assert not re.search(r"src=|href=|url\(|@import|https?:", outside)
    assert "default-src 'none'" in page
    assert not re.search(r'alt=""', page)


@pytest.mark.parametrize("path", DECKS, ids=lambda path: path.stem)
def test_numbers_on_a_slide_are_those_of_its_figures(path, slides):
    for body, pictures, notes in slides.parts(path.read_text(encoding="utf-8")):
        known = {"90"}  # minutes of a lesson
        for _, file in pictures:
            if (saved := file.with_suffix(".json")).is_file():
                told = json.loads(saved.read_text(encoding="utf-8"))
                known |= set(re.findall(NUMBER, told["alt"] + told["caption"]))
        said = re.sub(r"\$.+?\$", "", f"{body} {notes}", flags=re.DOTALL)  # without formulas
        said = re.sub(ADDRESS, "", said)
        own = [number for number in re.findall(NUMBER, said) if number not in known]
        assert not own, f"{body.splitlines()[0]}: {own}"


@pytest.mark.parametrize("path", DECKS, ids=lambda path: path.stem)
def test_the_minutes_in_the_notes_follow_one_another(path):
    spans = re.findall(r"^> Minutes (\d+)-(\d+)\.", path.read_text(encoding="utf-8"), flags=re.M)
    spans = [(int(start), int(end)) for start, end in spans]
    assert all(start < end for start, end in spans)
    assert all(a[1] <= b[0] for a, b in zip(spans, spans[1:], strict=False))
    assert (spans[0][0], spans[-1][1]) == (0, 90)


def test_a_figure_that_is_not_there_is_refused(slides):
    with pytest.raises(ValueError, match=r"lost\.svg is no figure"):
        slides.deck("# A\n\n---\n\n## B\n\n![](../../figures/lost.svg)")


def test_without_a_browser_there_is_html_and_one_line(slides, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(slides.shutil, "which", lambda name: None)
    monkeypatch.setattr(slides.sys, "argv", ["build.py", str(tmp_path)])
    slides.main()
    made = sorted(path.name for path in tmp_path.iterdir())
    assert made == ["lab1.html", "lab2.html", "lesson.html", "worksheet.html"]
    *paths, last = capsys.readouterr().out.splitlines()
    assert len(paths) == 4
    assert last == "no PDF: none of chromium, chromium-browser, google-chrome is installed"


def test_the_examples_hold(slides):
    assert slides.parts("# A\n\n> say it\n\n---\n\n## B\n\n![x](b.svg)") == [
        ("# A", [], "say it"),
        ("## B", [("x", slides.HERE / "b.svg")], ""),
    ]
