"""Build slides and worksheet of the lessons: ``python docs/slides/build.py [FOLDER]``.

They go to build/slides. A slide ends at a line ``---``. Lines that begin with ``>`` are the speaker's
notes. A picture is a file of figures/; its text for people who cannot see it comes from its JSON.
"""

import base64
import html
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from docutils.utils.math.latex2mathml import tex2mathml
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
KINDS = {".svg": "image/svg+xml", ".webp": "image/webp"}
PICTURE = re.compile(r"^!\[(.*)\]\((\S+)\)$", flags=re.MULTILINE)


def parts(text: str) -> list[tuple[str, list[tuple[str, Path]], str]]:
    """The slides of a source: (Markdown without pictures, its pictures as (text, file), notes).

    >>> parts("# A\\n\\n> say it\\n\\n---\\n\\n## B\\n\\n![](b.svg)")[0]
    ('# A', [], 'say it')
    """
    made = []
    for slide in re.split(r"^---$", text, flags=re.MULTILINE):
        lines = slide.strip().splitlines()
        notes = " ".join(line[1:].strip() for line in lines if line.startswith(">"))
        body = "\n".join(line for line in lines if not line.startswith(">"))
        pictures = [(alt, HERE / name) for alt, name in PICTURE.findall(body)]
        made.append((PICTURE.sub("", body).strip(), pictures, notes))
    return made


def picture(alt: str, file: Path) -> str:
    """A figure as an image that holds its own data; without ``alt``, the text of its JSON.

    Raises:
        ValueError: no such figure, or none with a text.
    """
    told = file.with_suffix(".json")
    if not file.is_file() or not (alt or told.is_file()):
        raise ValueError(f"{file.resolve()} is no figure with a JSON beside it")
    alt = alt or json.loads(told.read_text(encoding="utf-8"))["alt"]
    data = base64.b64encode(file.read_bytes()).decode()
    return f'<img alt="{html.escape(alt)}" src="data:{KINDS[file.suffix]};base64,{data}">'


def wide(file: Path) -> bool:
    """Whether a figure is so wide that text stands above it and not beside it."""
    box = re.search(
        r'viewBox="0 0 ([\d.]+) ([\d.]+)"', file.read_bytes()[:2000].decode(errors="replace")
    )
    return bool(box) and float(box[1]) > 2 * float(box[2])


def deck(text: str) -> str:
    """The HTML page of a source."""
    markdown = MarkdownIt("commonmark").enable("table")
    markdown.use(
        dollarmath_plugin,
        renderer=lambda tex, options: tex2mathml(tex, as_block=options["display_mode"]),
    )
    slides = parts(text)
    sections = []
    for number, (body, pictures, notes) in enumerate(slides, 1):
        heading, _, rest = body.partition("\n")
        head, said = markdown.render(heading), markdown.render(rest)
        if pictures:
            images = "".join(picture(*shown) for shown in pictures)
            images = f'<div class="pictures">{images}</div>'
            if said and not wide(pictures[0][1]):
                said, images = f'<div class="beside"><div>{said}</div>{images}</div>', ""
            said += images
        footer = f"<footer>{number} / {len(slides)}</footer>"
        sections.append(f"<section>{head}{said}{footer}</section>")
        sections.append(f"<aside>{html.escape(notes)}</aside>")
    title = slides[0][0].partition("\n")[0].lstrip("# ")
    template = (HERE / "deck.html").read_text(encoding="utf-8")
    return template.replace("TITLE", html.escape(title)).replace("SLIDES", "\n".join(sections))


def sheet(text: str) -> str:
    """The worksheet as an HTML page for A4."""
    body = MarkdownIt("commonmark").enable("table").render(text)
    template = (HERE / "sheet.html").read_text(encoding="utf-8")
    return template.replace("BODY", body)


def printed(page: Path, program: str) -> Path:
    """The page as PDF, printed by a headless browser."""
    out = page.with_suffix(".pdf")
    with tempfile.TemporaryDirectory() as profile:
        quiet = ("--headless", "--disable-gpu", "--no-sandbox", f"--user-data-dir={profile}")
        made = (f"--print-to-pdf={out}", "--no-pdf-header-footer", page.as_uri())
        subprocess.run([program, *quiet, *made], check=True, capture_output=True, timeout=120)
    return out


def main() -> None:
    """Write decks and worksheet as HTML and, where a browser is found, as PDF; prints paths."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "slides"
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    for source in (*sorted(HERE.glob("*.md")), HERE.parent / "worksheet.md"):
        page = folder / f"{source.stem}.html"
        made = sheet if source.stem == "worksheet" else deck
        page.write_text(made(source.read_text(encoding="utf-8")), encoding="utf-8")
        print(page)
        if program:
            print(printed(page, program))
    if not program:
        print(f"no PDF: none of {', '.join(BROWSERS)} is installed")


if __name__ == "__main__":
    main()
