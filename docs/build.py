"""Build the site from an executed series: ``python docs/build.py runs/classroom``."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
from sphinx.cmd.build import build_main

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "build" / "site"
COPIED = (
    "CONTRIBUTING.md",
    "CITATION.cff",
    "LICENSE",
    "docs/METHOD.md",
    "docs/answers.md",
    "docs/app.md",
    "docs/evidence.md",
    "docs/extend.md",
    "docs/glossary.md",
    "docs/misconceptions.md",
    "docs/references.md",
    "docs/researchers.md",
    "docs/results.md",
    "docs/scale.md",
    "docs/teaching.md",
    "docs/worksheet.md",
    "docs/static/*.png",
    "benchmarks/*.md",
    "benchmarks/results/*.json",
    "figures/*.png",
    "figures/*_classroom.svg",
    "figures/*.webp",
    "oskdft/assets/*/README.md",
)
APP = ROOT / "app" / "dist"  # of `make app`
OPENED = """
```{raw} html
<p><a href="../app/index.html">Open the page in the whole window</a></p>
<iframe src="../app/index.html" title="Who speaks?" allow="microphone"></iframe>
```
"""
SLIDES = """# Slides

One deck for each lesson of the [teacher's guide](docs/teaching.md). The arrow keys turn the slides,
N shows the notes.
"""
WIDGET = "application/vnd.jupyter.widget-view+json"
PRIVATE = ("output_dir", "save_figures")  # parameters that say nothing to a reader


def stage(run: Path, source: Path) -> None:
    """Gather the pages in the places that their links expect.

    Args:
        run: folder of `oskdft reproduce` with executed notebooks. source: is emptied and filled.
    Raises:
        ValueError: a notebook has not been executed in that folder, or has changed since.
    """
    shutil.rmtree(source, ignore_errors=True)
    for path in (path for pattern in COPIED for path in sorted(ROOT.glob(pattern))):
        text = _to_site(path.read_text()) if path.suffix == ".md" else None
        _write(source / path.relative_to(ROOT), path.read_bytes() if text is None else text)
    readme = (ROOT / "README.md").read_text() + (ROOT / "docs" / "index.md").read_text()
    _write(source / "index.md", readme)
    _write(source / "figures.md", gallery(ROOT / "figures"))
    _write(source / "slides.md", slides(ROOT / "docs" / "slides"))
    if APP.is_dir():
        _write(source / "docs" / "app.md", (ROOT / "docs" / "app.md").read_text() + OPENED)
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        executed = run / "notebooks" / path.name
        again = f"run oskdft reproduce with the same profile, --out {run} and --resume"
        if not executed.is_file():
            raise ValueError(f"{executed} is not there; {again}")
        try:
            notes = page(nbformat.read(path, as_version=4), nbformat.read(executed, as_version=4))
        except ValueError as error:
            raise ValueError(f"{executed}: {error}; {again}") from None
        _write(source / "notebooks" / path.name, nbformat.writes(notes))


def page(written: nbformat.NotebookNode, executed: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The committed prose with the executed cells: new prose needs no new run.

    Raises:
        ValueError: the code has changed since it was executed.
    """
    ran = [cell for cell in executed.cells if cell.cell_type == "code"]
    [given] = [cell for cell in ran if "injected-parameters" in cell.metadata.get("tags", [])]
    ran = [cell for cell in ran if cell is not given]
    if [c.source for c in ran] != [c.source for c in written.cells if c.cell_type == "code"]:
        raise ValueError("its code has changed since it was executed")
    ran, cells = iter(ran), []
    for cell in written.cells:
        if cell.cell_type == "markdown":
            cells.append(cell)
            continue
        made, tags = static(next(ran)), cell.metadata.get("tags", [])
        if "feedback" in tags:
            continue  # it needs a kernel, and shows the answer
        cells.append(made)
        if "parameters" in tags:
            lines = [x for x in given.source.splitlines() if "=" in x and not x.startswith(PRIVATE)]
            told = ", ".join(f"`{line}`" for line in lines)
            cells.append(nbformat.v4.new_markdown_cell(f"*This page was run with* {told}."))
    return nbformat.v4.new_notebook(
        cells=cells, metadata={"kernelspec": written.metadata.kernelspec}
    )


def static(cell: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The cell without widgets, which need a kernel; the picture beside them stays."""
    cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
    return cell


def gallery(folder: Path) -> str:
    """Markdown of every figure with its caption, notebook by notebook."""
    lines, number = ["# Figures"], ""
    for path in sorted(folder.glob("*.json")):
        if path.name.partition("_")[0] != number:
            number = path.name.partition("_")[0]
            [notebook] = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
            lines.append(f"## [{notebook.stem}](notebooks/{notebook.name})")
        saved = json.loads(path.read_text())
        picture = f"![{saved['alt']}](figures/{path.stem}.png)"
        lines += [picture, f"*{path.stem}: {saved['caption']}*"]
    return "\n\n".join(lines)


def slides(folder: Path) -> str:
    """Markdown that links each deck of slides; the site holds them as they are."""
    lines = [SLIDES]
    for path in sorted(folder.glob("*.md")):
        title = path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
        lines.append(f'<p><a href="slides/{path.stem}.html">{title}</a></p>')
    return "\n".join([lines[0], "```{raw} html", *lines[1:], "```\n"])


def _to_site(text: str) -> str:
    """Links to the project's README, and to a deck, lead to the pages that are made of them."""
    text = re.sub(r"\]\(((?:\.\./)*)README\.md", r"](\1index.md", text)
    return re.sub(r"\]\(slides/\w+\.md\)", "](../slides.md)", text)


def _write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def sphinx(source: Path, target: Path, builder: str = "html") -> int:
    """Run Sphinx with every warning an error; the exit status."""
    shutil.rmtree(target, ignore_errors=True)
    folders = ["-c", ROOT / "docs", "-d", source.parent / "doctrees", source, target]
    return build_main(["-q", "-n", "-W", "--keep-going", "-E", "-b", builder, *map(str, folders)])


def main() -> None:
    """Build the site; with the word "linkcheck", follow its links into the web instead."""
    run, builder = ROOT / sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "html"
    try:
        stage(run, TARGET / "source")
    except ValueError as error:
        sys.exit(f"docs: {error}")
    if status := sphinx(TARGET / "source", TARGET / builder, builder):
        sys.exit(status)
    deck = [sys.executable, ROOT / "docs" / "slides" / "build.py", TARGET / builder / "slides"]
    subprocess.run(deck, check=True)
    if APP.is_dir():
        shutil.copytree(APP, TARGET / builder / "app", ignore=shutil.ignore_patterns("*.gz"))
    else:
        print("docs: the site has no page to verify speakers in the browser; make app, then again")
    print(TARGET / builder / ("index.html" if builder == "html" else "output.txt"))


if __name__ == "__main__":
    main()
