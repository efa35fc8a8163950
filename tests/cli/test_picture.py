"""Reading an explanation: maps, strongest pairs, words, and the picture of it."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from captum_pairs import explanation as explanation_module
from captum_pairs.explanation import explain, PairExplanation
from captum_pairs.models import Feature, load
from captum_pairs.picture import draw, save_picture
from PIL import Image
from torch import Tensor

IMAGE = np.full((40, 60, 3), 200, dtype=np.uint8)


def _explanation(
    maps: Tensor, names: tuple[str, ...] = ("a", "red", "dot")
) -> PairExplanation:
    """One of an image of 60 x 40 pixels that is wholly seen, in 4 x 6 patches."""
    words, rows, columns = maps.shape
    patches = tuple(
        Feature(
            f"patch ({row}, {column})",
            (1 + row * columns + column,),
            box=(10.0 * column, 10.0 * row, 10.0 * column + 10, 10.0 * row + 10),
        )
        for row in range(rows)
        for column in range(columns)
    )
    end = Feature("[EOS]", (words,), special=True)
    texts = (*(Feature(name, (j,)) for j, name in enumerate(names)), end)
    table = torch.zeros(rows * columns + 1, words + 1)
    table[:-1, :-1] = maps.flatten(1).T
    effects = torch.zeros(len(table)), torch.zeros(words + 1)
    return PairExplanation(
        model="none",
        text=" ".join(names),
        image_size=(60, 40),
        visible=(0.0, 0.0, 60.0, 40.0),
        grid=(rows, columns),
        cosine=table.sum().item(),
        logit_scale=10.0,
        image_features=(*patches, Feature("class token", (0,), special=True)),
        text_features=texts,
        interactions=table,
        image_effects=effects[0],
        text_effects=effects[1],
        constant=0.0,
        convergence_delta=0.0,
        layers=(0, 0),
        blocks=(1, 1),
        baselines=("black", "nothing"),
        n_steps=4,
        residuals=(0.0, 0.0),
        tolerance=0.01,
    )


def test_strongest_pairs_by_hand() -> None:
    maps = torch.zeros(3, 4, 6)
    maps[0, 0, 0] = 9.0  # "a" is a stop word
    maps[1, 0, 0], maps[1, 0, 1], maps[1, 1, 1] = 0.2, 0.1, 0.09
    maps[1, 3, 5] = 0.19  # not connected to the strongest
    maps[2, 2, 3] = -0.4
    maps[2, 3, 0] = 0.1
    pairs = _explanation(maps).top_pairs()
    assert [str(pair) for pair in pairs] == [
        "“dot” – centre (x 30–40, y 20–30 px): −0.400",
        "“red” – top left (x 0–20, y 0–10 px): +0.300",
        "“dot” – bottom left (x 0–10, y 30–40 px): +0.100",
    ]
    assert len(_explanation(maps).top_pairs(2)) == 2


def test_all_zero() -> None:
    found = _explanation(torch.zeros(3, 4, 6))
    assert found.top_pairs() == []
    assert "every attribution is zero" in found.summary()
    draw(found, IMAGE).canvas.draw()


def test_repeated_words_are_told_apart() -> None:
    names = ("Red", "dot", "red")
    assert _explanation(torch.zeros(3, 4, 6), names).words == ("Red", "dot", "red (2)")


def test_each_patch_is_drawn_where_it_is(tmp_path: Path) -> None:
    maps = torch.zeros(3, 4, 6)
    maps[1, 0, 5], maps[1, 3, 0] = 1.0, -1.0
    figure = draw(_explanation(maps), IMAGE)
    figure.canvas.draw()
    axes = next(a for a in figure.axes if a.get_title().startswith("red"))
    drawn = np.asarray(axes.images[0].get_array())
    assert axes.images[0].get_extent() == [0, 60, 40, 0]
    assert drawn.shape == (40, 60, 3)
    assert drawn[5, 55, 0] > drawn[5, 55, 2] + 0.2  # for: orange
    assert drawn[35, 5, 2] > drawn[35, 5, 1] + 0.2  # against: purple
    white = drawn[20, 30]
    assert white.max() - white.min() < 0.02  # nothing: grey
    # the patch's edges, to the pixel
    assert np.allclose(drawn[9, 50], drawn[0, 59]) and np.allclose(drawn[10, 50], white)
    assert np.allclose(drawn[0, 49], white)


def test_titles_legend_and_formulas() -> None:
    names = ("$x", "100", "$y")
    figure = draw(_explanation(torch.rand(3, 4, 6), names), IMAGE)
    figure.canvas.draw()
    titles = [axes.get_title() for axes in figure.axes]
    assert any(title.startswith(r"\$x") for title in titles)
    legend = figure.axes[-1]
    low, high = legend.get_ylim()
    assert low == -high


def test_nothing_overlaps_with_many_words(tmp_path: Path) -> None:
    names = tuple(f"word{index}" for index in range(23))
    found = replace(_explanation(torch.rand(23, 4, 6), names), text=" ".join(names))
    figure = draw(found, IMAGE)
    figure.canvas.draw()
    boxes = [a.get_tightbbox() for a in figure.axes if a.axison]
    for index, box in enumerate(boxes):
        for other in boxes[:index]:
            width = min(box.x1, other.x1) - max(box.x0, other.x0)
            height = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert width < 1 or height < 1
    file = save_picture(found, IMAGE, tmp_path / "new" / "many.png")
    with Image.open(file) as picture:
        assert picture.width == 1440


def test_the_progress_bar_ends_where_it_says(
    tiny_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    totals: list[int] = []

    class Bar(explanation_module.tqdm):  # type: ignore[misc]  # untyped
        def update(self, n: int = 1) -> None:
            counted.append(n)

        def reset(self, total: int) -> None:  # the costly part begins
            counted.clear()
            totals.append(total)

    monkeypatch.setattr(explanation_module, "tqdm", Bar)
    explain(load(tiny_clip), IMAGE, "a red circle", progress=True)
    assert totals == [sum(counted)]
    assert math.isfinite(totals[0]) and totals[0] > 0
