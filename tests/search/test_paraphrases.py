"""Two wordings: what their lists have in common, and words that move items."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum_pairs import DualEncoder, load
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.inputs import ExplainedInput
from captum_pairs.models import Feature, Source
from captum_pairs.models.words import word_spans
from captum_pairs.search.hits import Hit
from captum_pairs.search.paraphrases import _aligned, Paraphrases
from PIL import Image

FAST: Any = {"layer": (-1, -1), "tolerance": 0.3}


def wording(words: str) -> ExplainedInput:
    found = [Feature(words[a:b], span=(a, b)) for a, b in word_spans(words)]
    source = Source("text", text=words)
    return ExplainedInput(source, tuple(found), None, "input", "nothing", 8, 1e-4)


def by_hand(first: list[int], second: list[int], values: Any, size: int = 9) -> Any:
    """Two lists of items of nine, by their numbers."""
    lists = [
        tuple(Hit(at + 1, 0.9 - at / 10, f"n{n}", n) for at, n in enumerate(each))
        for each in (first, second)
    ]
    items = sorted({*first, *second})
    ranks = [
        [each.index(n) + 1 if n in each else size - at for at, n in enumerate(items)]
        for each in (first, second)
    ]
    return Paraphrases(
        "by hand",
        wording("a red dog"),
        wording("one crimson dog"),
        "cosine",
        lists[0],
        lists[1],
        tuple(f"n{n}" for n in items),
        tuple(items),
        torch.tensor(ranks),
        torch.zeros(2, len(items), dtype=torch.float64),
        (("a", "one"), ("red", "crimson"), ("dog", "dog")),
        torch.tensor(values, dtype=torch.float64),
        size,
    )


def test_how_far_lists_agree() -> None:
    values = [[0.5, 0.1, 0.0], [0.5, -0.1, 9.0], [0.5, 0.3, 0.0], [0.5, 0.3, 0.0]]
    found = by_hand([0, 1, 2], [1, 0, 3], values)
    # in common of the first one none, of the first two both, of the first three two
    assert found.overlap == pytest.approx(2 / 3)
    assert found.jaccard == pytest.approx(2 / 4)
    assert found.average_overlap == pytest.approx((0 + 1 + 2 / 3) / 3)
    # ranks 1 2 3 6 and 2 1 7 3, among themselves 0 1 2 3 and 1 0 3 2
    assert found.rank_correlation == pytest.approx(1 - 6 * 4 / (4 * 15))
    # "a" moves all alike, and no rank; what both have moves, but did not change
    movers = found.movers()
    assert [m.query for m in movers] == ["red", "a", "dog"]
    assert movers[0].weight == pytest.approx(0.15) and movers[1].weight == 0
    assert movers[0].name == "“crimson” instead of “red”"
    moves = found.moved(2)
    assert [(m.key, m.change) for m in moves] == [("n2", -4), ("n3", 3)]
    assert {m.mover for m in moves} == {movers[0].name}
    assert found == by_hand([0, 1, 2], [1, 0, 3], values)
    same = by_hand([0], [0], [[0.0, 0.0, 0.0]])
    assert same.overlap == same.jaccard == same.average_overlap == 1
    assert math.isnan(same.rank_correlation) and same.moved() == []
    assert "no item moved" in same.summary()


def test_words_are_aligned() -> None:
    def words(one: str, other: str) -> list[tuple[str, str]]:
        sides = wording(one), wording(other)
        return [
            (
                " ".join(sides[0].features[i].name for i in a),
                " ".join(sides[1].features[i].name for i in b),
            )
            for a, b in _aligned(*sides)
        ]

    assert words("a red dog", "A crimson dog") == [
        ("a", "A"),
        ("red", "crimson"),
        ("dog", "dog"),
    ]
    assert words("a red dog", "a big puppy") == [
        ("a", "a"),
        ("red", "big"),
        ("dog", "puppy"),
    ]
    assert words("dog left of cat", "dog beside cat") == [
        ("dog", "dog"),
        ("left of", "beside"),
        ("cat", "cat"),
    ]
    assert words("a dog", "a small dog")[1] == ("", "small")


@pytest.fixture(scope="module")
def clip(tiny_clip: Path) -> DualEncoder:
    return load(tiny_clip)


@pytest.fixture
def pictures() -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (20, 20, 3), dtype=np.uint8) for _ in range(6)]
    return [np.asarray(Image.fromarray(each)) for each in noise]


def test_of_a_model(clip: DualEncoder, pictures: Any) -> None:
    names = [f"{at}.png" for at in range(6)]
    index = clip.index(pictures, keys=names, **FAST)
    one, other = "a red circle", "a blue circle"
    found = index.paraphrases(one, other, k=3)
    assert list(found.first) == index.search(one, 3)
    assert list(found.second) == index.search(other, 3)
    assert found.words == (("a", "a"), ("red", "blue"), ("circle", "circle"))
    # every item's ranks and scores are those of a search
    for at, key in enumerate(found.keys):
        for which, query in enumerate((one, other)):
            (hit,) = (h for h in index.search(query, 100) if h.key == key)
            assert int(found.ranks[which, at]) == hit.rank
            assert float(found.scores[which, at]) == hit.score
    # what words make of an item: as its explanations have it
    for at, key in enumerate(found.keys):
        pair = [index.explain(query, key) for query in (one, other)]
        for word in range(3):
            mine = [
                float(e.interactions[:, word].sum() + e.second_effects[word])
                for e in pair
                if e.second_effects is not None
            ]
            expected = mine[1] - mine[0]
            assert float(found.values[at, word]) == pytest.approx(expected, abs=2e-2)
    whole = found.values.sum(1) + found.rest
    torch.testing.assert_close(whole, found.scores[1] - found.scores[0])
    frame = found.to_frame()
    assert len(frame) == 4 * len(found.keys)
    total = frame.groupby("key")["value"].sum()
    for at, key in enumerate(found.keys):
        moved = float(found.scores[1, at] - found.scores[0, at])
        assert total[key] == pytest.approx(moved)
    assert "“blue” instead of “red”" in found.summary() and repr(found) in f"{found}"
    assert found._repr_html_().startswith("<pre>")


@pytest.mark.slow
def test_a_picture_of_two_wordings() -> None:
    values = [[0.5, 0.1, 0.0], [0.5, -0.1, 9.0], [0.5, 0.3, 0.0], [0.5, 0.3, 0.0]]
    figure = by_hand([0, 1, 2], [1, 0, 3], values).plot()
    figure.canvas.draw()
    shown = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert "n0  1." in shown and "2.  n0" in shown


def test_texts_of_a_text(clip: DualEncoder) -> None:
    index = clip.index(["a red circle", "square", "a blue square"], **FAST)
    found = index.paraphrases("red", "blue", k=10)
    assert len(found.first) == 3 and found.overlap == 1
    assert found.movers()[0].name == "“blue” instead of “red”"


def test_a_model_without_texts(pictures: Any) -> None:
    from captum_pairs import siamese
    from torch import nn

    layers = nn.Conv2d(3, 4, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    model = siamese(nn.Sequential(*layers), (16, (0.5,) * 3, (0.5,) * 3))
    index = DualEncoder.of(model).index(pictures)
    with pytest.raises(InvalidArgumentError, match="query: .*takes no texts"):
        index.paraphrases("red", "blue")
