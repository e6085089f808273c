"""The slides in a browser: nothing runs over its edge, the keys turn them, the PDF has every slide."""

import importlib.util
import re
from pathlib import Path

import pytest

from browser.conftest import PROGRAM

ROOT = Path(__file__).parents[2]
OVER = """() => slides.flatMap((slide, n) => {
  const edge = slide.getBoundingClientRect();
  const out = [...slide.querySelectorAll("h1, h2, li, p, td, img")].filter((part) => {
    const box = part.getBoundingClientRect();
    return box.bottom > edge.bottom + 1 || box.right > edge.right + 1 || box.height < 8;
  });
  return out.map((part) => `${n + 1}: ${part.tagName} ${part.textContent.slice(0, 40)}`);
})"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, chromium) -> Path:
    """The decks as HTML and PDF."""
    source = ROOT / "docs" / "slides"
    spec = importlib.util.spec_from_file_location("slides", source / "build.py")
    slides = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(slides)
    made = tmp_path_factory.mktemp("slides")
    for path in source.glob("*.md"):
        page = made / f"{path.stem}.html"
        page.write_text(slides.deck(path.read_text(encoding="utf-8")), encoding="utf-8")
        slides.printed(page, PROGRAM)
    page = made / "worksheet.html"
    text = (ROOT / "docs" / "worksheet.md").read_text(encoding="utf-8")
    page.write_text(slides.sheet(text), encoding="utf-8")
    slides.printed(page, PROGRAM)
    return made


def test_the_worksheet_has_two_pages(folder):
    printed = (folder / "worksheet.pdf").read_bytes()
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) == 2


@pytest.mark.parametrize("name", ["lesson", "lab1", "lab2"])
def test_slides_fit_turn_and_print(name, folder, watched):
    page = watched(f"slides_{name}").page
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((folder / f"{name}.html").as_uri())
    count = page.evaluate("slides.length")
    assert page.evaluate(OVER) == []
    page.keyboard.press("ArrowRight")
    assert page.evaluate("at") == 1
    page.keyboard.press("End")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("at") == count - 1 and page.url.endswith(f"#{count}")
    page.keyboard.press("n")
    assert page.locator("aside.shown").is_visible()
    assert all(url.startswith(("file:", "data:")) for url in asked)
    printed = (folder / f"{name}.pdf").read_bytes()
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) == count
