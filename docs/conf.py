"""The site's settings; ``docs/build.py`` gathers the pages and runs Sphinx."""

import os
import re
import tomllib
from pathlib import Path

from docutils.nodes import SkipNode
from docutils.utils.math.latex2mathml import tex2mathml

_PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]

project = html_title = _PROJECT["name"]
release = _PROJECT["version"]
author = "The oskdft authors"
extensions = ["myst_nb"]
nitpicky = True
exclude_patterns = []

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # the series was executed by `oskdft reproduce`
nb_merge_streams = True
nb_output_stderr = "remove"  # progress
nb_ipywidgets_js = {}  # a page needs no network

html_theme = "sphinx_book_theme"
html_theme_options = {
    "show_toc_level": 2,
    "use_download_button": False,
    "navbar_persistent": [],  # one search field, in the menu
}
if repository := os.environ.get("OSKDFT_REPOSITORY"):  # owner/name on GitHub
    html_theme_options |= {
        "repository_url": f"https://github.com/{repository}",
        "repository_branch": "main",
        "use_repository_button": True,
        "launch_buttons": {
            "binderhub_url": "https://mybinder.org",
            "colab_url": "https://colab.research.google.com",
            "notebook_interface": "jupyterlab",
        },
    }
html_context = {"default_mode": "light"}  # figures are drawn on white
html_static_path = [str(Path(__file__).parent / "static")]
html_css_files = ["site.css"]
html_math_renderer = "mathml"  # drawn by the browser; MathJax would come from the web
html_copy_source = False
html_show_copyright = False

linkcheck_timeout = 20


def mathml(tex: str, block: bool) -> str:
    """MathML of a formula, with the few commands that docutils lacks put in other words."""
    tex = re.sub(r"\\[Bb]ig(?![a-z])", "", tex)  # brackets of MathML grow by themselves
    return tex2mathml(re.sub(r"\\dots\b", r"\\ldots", tex), as_block=block)


def _inline(writer, node) -> None:
    writer.body.append(mathml(node.astext(), block=False))
    raise SkipNode


def _block(writer, node) -> None:
    writer.body.append(f'<div class="math">{mathml(node.astext(), block=True)}</div>')
    raise SkipNode


def setup(app) -> None:
    """Formulas as MathML."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
