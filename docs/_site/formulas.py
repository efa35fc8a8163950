"""Formulas as MathML, which browsers draw and screen readers read, by docutils."""

import re
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml


# Sizes of brackets, which MathML finds by itself, and docutils does not know.
_SIZES = re.compile(r"\\[bB]igg?[lr]?(?![a-zA-Z])")


def _mathml(node: Any, **options: bool) -> str:
    formula = _SIZES.sub("", node.astext()).replace(r"\dots", r"\ldots")
    return str(tex2mathml(formula, **options))


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
