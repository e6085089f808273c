"""An executed notebook as a page that asks nothing of the web: no script, formulas as MathML."""

import html
import importlib.util
import re
from pathlib import Path
from typing import Any

from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from traitlets.config import Config as TraitletsConfig

# nbconvert's own page without the blocks that load scripts from elsewhere; a browser would load no other
TEMPLATE = """{% extends 'lab/index.html.j2' %}
{% block html_head_js %}<meta http-equiv="Content-Security-Policy" content="default-src 'none';
img-src 'self' file: data:; media-src 'self' file: data:; style-src 'unsafe-inline'">{% endblock %}
{% block jupyter_widgets %}{% endblock %}
{% block html_head_js_mathjax %}{% endblock %}
{% block html_head_js_mermaidjs %}{% endblock %}
"""


def mathml(tex: str, block: bool = False) -> str:
    """A formula as MathML, which browsers draw themselves; as TeX where docutils is not installed.

    Args:
        tex: the formula. block: whether it stands on a line of its own.

    >>> "<math" in mathml("x < y") or mathml("x < y") == "<code>x &lt; y</code>"
    True
    """
    if importlib.util.find_spec("docutils") is not None:
        from docutils.utils.math import MathError
        from docutils.utils.math.latex2mathml import tex2mathml

        # commands that docutils lacks, in other words: brackets of MathML grow by themselves
        plain = re.sub(r"\\[Bb]ig(?![a-z])", "", tex)
        try:
            return tex2mathml(re.sub(r"\\dots\b", r"\\ldots", plain), as_block=block)
        except (MathError, SyntaxError):
            pass
    return f"<code>{html.escape(tex, quote=False)}</code>"


class _Formulas(IPythonRenderer):
    """Markdown as HTML, with MathML in the place of TeX."""

    def block_math(self, body: str) -> str:
        return f"<div>{mathml(body, block=True)}</div>"

    def inline_math(self, body: str) -> str:
        return mathml(body)


class Page(HTMLExporter):
    """Notebook -> page. Feedback cells, which need a kernel, are left out: their folded code would show."""

    def __init__(self) -> None:
        removal = {"remove_cell_tags": ["feedback"], "enabled": True}
        super().__init__(
            config=TraitletsConfig({"TagRemovePreprocessor": removal}), raw_template=TEMPLATE
        )
        self.register_filter("markdown2html", self._markdown)

    def _markdown(self, source: str) -> str:
        return MarkdownWithMath(renderer=_Formulas(escape=False)).render(source)

    def of(self, path: Path) -> str:
        """The page of an executed notebook."""
        made: tuple[str, Any] = self.from_filename(str(path))
        return made[0]
