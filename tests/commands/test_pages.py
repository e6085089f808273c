"""Pages of executed notebooks load nothing from elsewhere, and show names as they are."""

import re

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from oskdft.commands import pages, reproduce
from oskdft.commands.cli import parameters

pytestmark = pytest.mark.slow

EVIL = '"><script>alert(1)</script><img src=x onerror=alert(1)> & </code>'
LOADED = ("script", "link", "iframe", "object", "embed")
POLICY = "default-src 'none'"


def parsed(text: str) -> BeautifulSoup:
    return BeautifulSoup(text, features="html.parser")


def assert_offline(page: BeautifulSoup) -> None:
    assert page.find_all(LOADED) == []
    for tag in page.find_all(src=True):
        assert not re.match("https?:|//", tag["src"]), tag
    assert "@import" not in str(page.find_all("style"))


@pytest.fixture(scope="module")
def exporter():
    return pages.Page()


@pytest.mark.parametrize("path", reproduce.select(None), ids=lambda path: path.stem)
def test_a_page_of_the_series_loads_nothing_and_draws_its_formulas(path, exporter):
    text = exporter.of(path)
    page = parsed(text)
    assert_offline(page)
    assert POLICY in page.find("meta", attrs={"http-equiv": True})["content"]
    prose = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "markdown"]
    written = len(
        re.findall(r"(?<![\\$`\w])\$(?!\$)[^$`]+?\$(?!\d)|\$\$.+?\$\$", "\n\n".join(prose), re.S)
    )
    assert len(page.find_all("math")) >= 0.9 * written, "formulas became something else"


def test_formulas():
    assert pages.mathml(r"\bigl(x\bigr) \dots") != "" and "<math" in pages.mathml("x < y")
    assert pages.mathml(r"\nosuchcommand{<b>}") == r"<code>\nosuchcommand{&lt;b&gt;}</code>"


def test_names_from_outside_are_text(exporter, tmp_path):
    """Names of speakers and files in prose, code, streams, results, errors; parameters and profiles."""
    outputs = [
        new_output("stream", name="stdout", text=EVIL),
        new_output("execute_result", {"text/plain": EVIL}),
        new_output("error", ename=EVIL, evalue=EVIL, traceback=[EVIL]),
        new_output("display_data", {"image/svg+xml": f"<svg><title>{EVIL}</title></svg>"}),
    ]
    given = new_code_cell(
        f"profile = {EVIL!r}\nseed = 0", metadata={"tags": ["injected-parameters"]}
    )
    cells = [given, new_code_cell(f"speaker = {EVIL!r}", outputs=outputs, execution_count=1)]
    cells.append(new_markdown_cell(f"The formula $x < {EVIL.replace('$', '')}$."))
    path = tmp_path / "01_a&b <c>.ipynb"
    nbformat.write(new_notebook(cells=cells), path)
    page = parsed(exporter.of(path))
    svg = page.find_all("svg")  # drawn by the package, whose own tests escape names in it
    for drawn in svg:
        drawn.decompose()
    assert_offline(page)
    assert not [tag for tag in page.find_all(True) if any(a.startswith("on") for a in tag.attrs)]
    assert page.get_text().count("alert(1)") >= 8 and page.title.get_text() == "01_a&b <c>"


def test_parameters_and_profile_are_text_in_the_report(tmp_path, monkeypatch):
    """-p NAME VALUE and --profile with a name of markup."""
    out, name = tmp_path / "batch", "01_x"
    (out / "notebooks").mkdir(parents=True)
    table = f"speaker | EER\n--------+----\n{EVIL} | 3 %"
    cell = new_code_cell("", outputs=[new_output("stream", name="stdout", text=table)])
    nbformat.write(new_notebook(cells=[cell]), out / "notebooks" / f"{name}.ipynb")
    entry = {"seconds": 1.0, "parameters": {"seed": EVIL, EVIL: 1}}
    page = parsed(reproduce.write_report(out, EVIL, {name: entry}).read_text())
    assert_offline(page)
    assert (
        page.find_all("img") == []
        and EVIL in page.get_text()
        and EVIL in page.find("pre").get_text()
    )
    for word in ("<b>", 'x"y', "a=b"):
        with pytest.raises(ValueError, match="no notebook has the parameter"):
            reproduce.reproduce("smoke", ["01"], out, parameters=parameters(["-p", word, "1"]))
