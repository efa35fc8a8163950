"""Formulas as MathML, which browsers draw and screen readers read, by docutils."""

import html
import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util.logging import getLogger


_LOGGER = getLogger(__name__)
# What people type, and TeX has a command for.
_SIGNS = {"∖": r"\setminus ", "−": "-"}
# Sizes of brackets, which MathML finds by itself, and docutils does not know.
_SIZES = re.compile(r"\\[bB]igg?[lr]?(?![a-zA-Z])")


def _mathml(node: Any, **options: bool) -> str:
    formula = _SIZES.sub("", node.astext()).replace(r"\dots", r"\ldots")
    for sign, command in _SIGNS.items():
        formula = formula.replace(sign, command)
    try:
        return str(tex2mathml(formula, **options))
    except MathError as error:
        _LOGGER.warning("formula: %s", error, location=node)
        return f"<code>{html.escape(node.astext())}</code>"


def _inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(_mathml(node))
    raise nodes.SkipNode


def _display(writer: Any, node: nodes.math_block) -> None:
    formula = _mathml(node, as_block=True)
    writer.body.append(f'<div class="math" tabindex="0">{formula}</div>')
    raise nodes.SkipNode


def setup(app: Any) -> None:
    """Registers the renderer, and makes it the one."""
    app.add_html_math_renderer("mathml", (_inline, None), (_display, None))
    app.config.html_math_renderer = "mathml"
