"""Pictures and pages know a result by what results.py says, and by nothing else."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from captum_pairs import Contrast, PairExplanation
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.explain.comparison import Compared, Comparison
from captum_pairs.explain.zero_shot import ZeroShot
from captum_pairs.inputs import ExplainedInput
from captum_pairs.models import Feature, Head, Source
from captum_pairs.show.page import page_html
from captum_pairs.show.pictures import (
    draw,
    draw_comparison,
    draw_contrast,
    draw_zero_shot,
)
from captum_pairs.show.results import (
    ChangeLike,
    ComparedLike,
    ComparisonLike,
    ContrastLike,
    MatchLike,
    PairLike,
    ZeroShotLike,
)


def only(protocol: Any, found: Any, **members: Any) -> Any:
    """What a protocol asks of a result, and no more of it."""
    names = [name for name in vars(protocol) if not name.startswith("_")]
    return SimpleNamespace(**{name: getattr(found, name) for name in names} | members)


def pair_like(found: PairExplanation) -> Any:
    def top_pairs(number: int) -> list[Any]:
        return [only(MatchLike, match) for match in found.top_pairs(number)]

    return only(PairLike, found, top_pairs=top_pairs)


def contrast_like(found: Contrast) -> Any:
    changes = [only(ChangeLike, change) for change in found.changes()]
    return only(
        ContrastLike,
        found,
        preferred=pair_like(found.preferred),
        other=pair_like(found.other),
        changes=lambda: changes,
    )


def image() -> ExplainedInput:
    patches = tuple(
        Feature(f"patch ({row}, {column})", box=(x, y, x + 10.0, y + 10.0))
        for row in range(2)
        for column in range(3)
        for x, y in [(10.0 * column, 10.0 * row)]
    )
    shown = np.full((20, 30, 3), 200, dtype=np.uint8)
    source = Source("image", size=(30, 20), picture=shown)
    return ExplainedInput(source, patches, (2, 3), "layer", "black", 4, 0.0)


def text(said: str) -> ExplainedInput:
    features, at = [], 0
    for word in said.split():
        features.append(Feature(word, span=(at, at + len(word))))
        at += len(word) + 1
    source = Source("text", text=said)
    return ExplainedInput(source, tuple(features), None, "layer", "blank", 4, 0.0)


def explanation(said: str, seed: int = 0) -> PairExplanation:
    sides = image(), text(said)
    made = torch.Generator().manual_seed(seed)
    table = torch.randn(6, len(sides[1].features), generator=made) * 0.01
    return PairExplanation(
        model="none",
        method="integrated_gradients",
        first=sides[0],
        second=sides[1],
        similarity="cosine",
        score=float(table.sum()) + 0.1,
        heads=(Head("logits_per_image", 10.0),),
        constant=0.1,
        first_effects=torch.zeros(6),
        second_effects=torch.zeros(len(sides[1].features)),
        interactions=table,
        convergence_delta=0.0,
        tolerance=0.01,
    )


def pixels(figure: Any) -> Any:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())


def test_a_pair() -> None:
    found = explanation("a red dot")
    stand_in = pair_like(found)
    assert np.array_equal(pixels(draw(stand_in)), pixels(draw(found)))
    assert page_html(stand_in) == page_html(found)


def test_a_contrast() -> None:
    found = Contrast(explanation("a red dot"), explanation("a blue dot", 1), "first")
    stand_in = contrast_like(found)
    drawn = draw_contrast(stand_in), draw_contrast(found)
    assert np.array_equal(*map(pixels, drawn))
    assert page_html(stand_in) == page_html(found)


def test_a_comparison() -> None:
    measures: Any = (1.5, 10, 3, 0.9, -0.5, 0.4, 0.3, 0.2)
    found = Comparison(
        (Compared(explanation("a red dot"), *measures),), torch.ones(1, 1)
    )
    one = found.compared[0]
    compared = only(ComparedLike, one, explanation=pair_like(one.explanation))
    stand_in = only(ComparisonLike, found, compared=[compared])
    drawn = draw_comparison(stand_in), draw_comparison(found)
    assert np.array_equal(*map(pixels, drawn))


def test_a_classification() -> None:
    names = ("a dog", "a dot")
    numbers = torch.tensor([0.2, 0.8])
    table = torch.arange(12.0).reshape(2, 6)
    found = ZeroShot(
        "none", image(), names, names, numbers, numbers, torch.zeros(2), table
    )
    drawn = draw_zero_shot(only(ZeroShotLike, found)), draw_zero_shot(found)
    assert np.array_equal(*map(pixels, drawn))


@pytest.mark.parametrize("lacking", ["interactions", "side_names", "top_pairs"])
def test_a_page_refuses_what_lacks_a_member(lacking: str) -> None:
    stand_in = pair_like(explanation("a red dot"))
    delattr(stand_in, lacking)
    with pytest.raises(InvalidArgumentError, match="explanations.*SimpleNamespace"):
        page_html(stand_in)
