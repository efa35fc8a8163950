"""Every ``Examples`` section of a docstring runs as it stands there."""

import ast
import doctest
from pathlib import Path
from typing import Any

import captum_pairs.attr
import captum_pairs.metrics
import pytest
import torch
from matplotlib import rc_context
from torch import nn

PACKAGE = Path(captum_pairs.__file__).parent


def _examples() -> dict[str, str]:
    """By place: what stands below ``Examples::``."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                _, section, text = (ast.get_docstring(node) or "").partition(
                    "Examples::\n"
                )
                if section:
                    place = path.relative_to(PACKAGE).with_suffix("")
                    found[f"{place.as_posix()}:{node.name}"] = text
    return found


EXAMPLES = _examples()


def _names() -> dict[str, Any]:
    return {
        **{
            name: getattr(captum_pairs.attr, name) for name in captum_pairs.attr.__all__
        },
        **{
            name: getattr(captum_pairs.metrics, name)
            for name in captum_pairs.metrics.__all__
        },
        "torch": torch,
        "nn": nn,
        # what the pointing game's example is given
        "attributions": torch.rand(3, 64),
        "boxes": torch.tensor([[0, 0, 32, 32]] * 3),
    }


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 45
    for place, text in EXAMPLES.items():
        assert doctest.DocTestParser().get_examples(text), place


@pytest.mark.parametrize("place", sorted(EXAMPLES))
def test_it_runs_as_it_stands(place: str) -> None:
    test = doctest.DocTestParser().get_doctest(
        EXAMPLES[place], _names(), place, None, 0
    )
    report: list[str] = []
    with rc_context({"figure.max_open_warning": 0}):
        result = doctest.DocTestRunner().run(test, out=report.append)
    assert result.attempted > 0 and result.failed == 0, "".join(report)
