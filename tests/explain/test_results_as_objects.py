"""Every result as a Python object: a short repr, HTML for notebooks, == and hash by
content, a figure that shows itself."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from captum_pairs import Contributions, DualEncoder, load
from captum_pairs.attr import visualization
from PIL import Image

TEXT = "a red circle on a red square"
MAKES: dict[str, Callable[[DualEncoder], Any]] = {
    "explanation": lambda m: m.explain(_photo(), TEXT),
    "contrast": lambda m: m.contrast(_photo(), TEXT, "a circle"),
    "comparison": lambda m: m.compare(
        _photo(), "red circle", methods=["occlusion", "token_similarity"]
    ),
    "classification": lambda m: m.zero_shot(_photo(), ["red", "square"]),
    "contributions": lambda m: m.contributions([_photo(), _photo()]),
}


def _photo() -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (20, 32, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def model(tiny_clip: Path) -> DualEncoder:
    return load(tiny_clip)


@pytest.fixture(scope="module")
def results(model: DualEncoder) -> dict[str, Any]:
    return {name: make(model) for name, make in MAKES.items()}


@pytest.mark.parametrize("name", MAKES)
def test_a_result_says_what_it_is(name: str, results: dict[str, Any]) -> None:
    found = results[name]
    assert 20 < len(repr(found)) < 700 and "tensor(" not in repr(found)
    assert len(repr([found] * 4)) < 2800
    assert "<" in found._repr_html_() and "object at" not in found._repr_html_()
    assert found != "something else" and found in [None, found]


def test_equal_by_content(results: dict[str, Any], model: DualEncoder) -> None:
    for name in ("explanation", "contrast", "classification", "contributions"):
        again = MAKES[name](model)
        assert again is not results[name] and again == results[name]
        assert {again, results[name]} == {again}
    comparison = results["comparison"]  # which has its time
    assert replace(comparison) == comparison and hash(comparison)
    assert results["contrast"] != results["explanation"]
    classes = results["classification"]
    assert replace(classes, scores=classes.scores + 1) != classes


def test_what_results_are_made_of(results: dict[str, Any], model: DualEncoder) -> None:
    found = results["explanation"]
    assert repr(found.top_pairs(1)[0]) == f"<Match: {found.top_pairs(1)[0]}>"
    assert repr(found.first) == (
        "<image of 32 x 20 px: 26 features (5 x 5), input of block 0 of 2, from an "
        "image of the mean color>"
    )
    assert found.first == MAKES["explanation"](model).first and hash(found.first)
    black = np.zeros_like(found.first.source.picture)
    other = replace(found.first.source, picture=black)
    assert other != found.first.source and hash(other)
    assert repr(other) == "<Source: image of 32 x 20 px>"
    one, two = results["contributions"]
    assert one == two and hash(one) == hash(two) and len(repr(one)) < 250
    assert replace(one, values=one.values + 1) != one
    compared = results["comparison"].compared[0]
    assert repr(compared).startswith("<Compared: occlusion faithful ")


def test_contributions_that_differ(model: DualEncoder, tmp_path: Path) -> None:
    texts = ["red", "circle"]
    kept = model.contributions(texts, directory=tmp_path)
    assert kept == model.contributions(texts, directory=tmp_path)
    assert kept == Contributions.load(tmp_path)
    assert kept != model.contributions(texts[::-1], directory=tmp_path)
    assert kept != model.contributions(texts[:1], directory=tmp_path)
    assert kept != model.contributions(texts, layer=(1, 1)) and kept != texts


def test_a_notebook_shows_a_figure_once() -> None:
    formatters = pytest.importorskip("IPython.core.formatters")
    figure, _ = visualization.visualize_text_attr([1.0], ["a"], use_pyplot=False)
    assert figure._repr_png_().startswith(b"\x89PNG\r\n")
    shown, _ = formatters.DisplayFormatter().format(figure)
    assert set(shown) == {"text/plain", "image/png"}
