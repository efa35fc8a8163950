"""The picture of an explanation, of every kind of pair."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest
import torch
from captum_pairs.attr._utils.visualization import fonts
from captum_pairs.explain.contrast import Contrast
from captum_pairs.explain.pair import PairExplanation
from captum_pairs.explain.zero_shot import ZeroShot
from captum_pairs.inputs import ExplainedInput
from captum_pairs.models.encoder import AUDIO, Feature, IMAGE, Source, TENSOR, TEXT
from captum_pairs.models.encoder_pair import Head
from captum_pairs.show.pictures import (
    draw,
    draw_contrast,
    draw_zero_shot,
    maps,
    save_picture,
    texts,
)
from matplotlib import pyplot as plt, rc_context
from matplotlib.axis import Tick
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image
from torch import Tensor

END = Feature("[EOS]", special=True)
ROWS, COLUMNS = 4, 6


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    plt.rcdefaults()
    with rc_context({"font.family": ["DejaVu Sans"]}):
        yield


def _input(
    source: Source, features: tuple[Feature, ...], **more: Any
) -> ExplainedInput:
    settings = {"grid": None, "layer": "l", "baseline": "b", "n_steps": 4}
    return ExplainedInput(source, features, residual=0.0, **settings | more)


def image() -> ExplainedInput:
    """60 x 40 pixels, all of them seen, in 4 x 6 patches and a class token."""
    patches = tuple(
        Feature(f"patch ({row}, {column})", box=_box(10.0 * column, 10.0 * row))
        for row in range(ROWS)
        for column in range(COLUMNS)
    )
    shown = np.full((40, 60, 3), 200, dtype=np.uint8)
    source = Source(IMAGE, size=(60, 40), visible=(0.0, 0.0, 60.0, 40.0), picture=shown)
    token = Feature("class token", special=True)
    return _input(source, (*patches, token), grid=(ROWS, COLUMNS))


def _box(left: float, top: float) -> tuple[float, float, float, float]:
    return left, top, left + 10, top + 10


def text(said: str = "a red dot") -> ExplainedInput:
    features, at = [], 0
    for word in said.split():
        start = said.index(word, at)
        at = start + len(word)
        features.append(Feature(word, span=(start, at)))
    return _input(Source(TEXT, text=said), (*features, END))


def sound() -> ExplainedInput:
    """Two seconds, 8 bands, in 2 x 4 pieces."""
    pieces = tuple(
        Feature("piece", box=(second / 2, band, second / 2 + 0.5, band + 4.0))
        for band in (0.0, 4.0)
        for second in range(4)
    )
    heard = np.arange(8 * 20, dtype=np.float32).reshape(8, 20)
    source = Source(AUDIO, size=(2, 8), visible=(0.0, 0.0, 2.0, 8.0), picture=heard)
    return _input(source, pieces, grid=(2, 4))


def tensor(count: int = 5) -> ExplainedInput:
    return _input(Source(TENSOR), tuple(Feature(f"unit {i}") for i in range(count)))


def explanation(
    first: ExplainedInput, second: ExplainedInput, table: Optional[Tensor] = None
) -> PairExplanation:
    shape = len(first.features), len(second.features)
    if table is None:
        generator = torch.Generator().manual_seed(0)
        table = torch.randn(shape, generator=generator) ** 3 * 0.01
    return PairExplanation(
        model="none",
        method="integrated_gradients",
        first=first,
        second=second,
        similarity="cosine",
        score=float(table.sum()) + 0.1,
        heads=(Head("logits_per_image", 10.0),),
        constant=0.1,
        first_effects=torch.zeros(shape[0]),
        second_effects=torch.zeros(shape[1]),
        interactions=table,
        convergence_delta=0.0,
        tolerance=0.01,
    )


def drawn(figure: Any) -> Any:
    """Laid out, and looked through: every text is inside, and none on another one."""
    figure.draw_without_rendering()
    texts = [
        each
        for each in set(figure.findobj(Text)) - _unseen(figure)
        if each.get_visible() and each.get_text().strip()
    ]
    boxes = [each.get_window_extent() for each in texts]
    width, height = figure.bbox.width, figure.bbox.height
    for each, box in zip(texts, boxes):
        said = each.get_text()
        assert -2 <= box.x0 and box.x1 <= width + 2, said
        assert -2 <= box.y0 and box.y1 <= height + 2, said
    edges = np.array([box.extents for box in boxes])
    across, down = (
        np.minimum(edges[:, None, at + 2], edges[None, :, at + 2])
        - np.maximum(edges[:, None, at], edges[None, :, at])
        for at in (0, 1)
    )
    on_another = np.argwhere(np.triu((across >= 2) & (down >= 2), 1))
    assert [(texts[i].get_text(), texts[j].get_text()) for i, j in on_another] == []
    return figure


def _unseen(figure: Any) -> set[Text]:
    """Labels of ticks that are beyond the axes' limits, or that were never used."""
    labels = set()
    for tick in figure.findobj(Tick):
        labels |= {tick.label1, tick.label2}
    for axes in figure.axes:
        for axis, ends in (
            (axes.xaxis, axes.get_xlim()),
            (axes.yaxis, axes.get_ylim()),
        ):
            for tick in axis.get_major_ticks() if axes.axison else []:
                if min(ends) <= tick.get_loc() <= max(ends):
                    labels -= {tick.label1, tick.label2}
    return labels


def titled(figure: Any, start: str) -> Any:
    for each in figure.axes:
        for loc in ("center", "left", "right"):
            if each.get_title(loc=loc).startswith(start):
                return each
    raise AssertionError(f"no axes titled {start}")


def titles(figure: Any) -> list[str]:
    return [title for each in figure.axes if (title := each.get_title())]


def shares(axes: Any) -> Any:
    """The map (h, w) as shares of the strongest colour."""
    return np.asarray(axes.images[-1].get_array())


@pytest.mark.parametrize("is_text_first", [False, True])
def test_each_patch_is_drawn_where_it_is(is_text_first: bool) -> None:
    table = torch.zeros(ROWS * COLUMNS + 1, 4)
    table[COLUMNS - 1, 1], table[3 * COLUMNS, 1], table[7, 2] = 1.0, -1.0, 0.25
    table[-1], table[:, -1] = 5.0, 5.0  # special tokens are in no map
    found = explanation(image(), text(), table)
    if is_text_first:
        found = explanation(text(), image(), table.T)
    figure = drawn(draw(found))
    axes = titled(figure, "red")
    expected = np.zeros((ROWS, COLUMNS))
    expected[0, 5], expected[3, 0] = 1.0, -1.0
    size = shares(axes).shape
    pixels = np.kron(expected, np.ones((size[0] // ROWS, size[1] // COLUMNS)))
    assert np.array_equal(shares(axes), pixels)
    assert axes.images[-1].get_extent() == [0, 60, 40, 0]
    # one scale for all words, stop words without a map
    assert shares(titled(figure, "dot")).max() == pytest.approx(0.25)
    assert not any(title.startswith("a:") for title in titles(figure))
    assert "red: +0.000" in titles(figure)
    legend = figure.axes[-1]
    assert legend.get_ylim() == pytest.approx((-1.0, 1.0))


def test_score_and_parts() -> None:
    found = explanation(image(), text())
    figure = drawn(draw(found))
    axes = titled(figure, "cosine similarity")
    assert f"{found.score:.3f}".replace("-", "−") in axes.get_title()
    assert f"logits_per_image {found.logit:.2f}".replace("-", "−") in axes.get_title()
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [*found.parts(), "cosine similarity"]
    assert figure.get_suptitle() == "“a red dot”"
    assert titled(figure, "what the model sees").images


PAIRS = {
    "image-image": (image, image),
    "text-text": (text, lambda: text("one scarlet spot, seen from far away")),
    "sound-text": (sound, text),
    "text-sound": (text, sound),
    "sound-sound": (sound, sound),
    "tensor-tensor": (tensor, lambda: tensor(3)),
    "image-tensor": (image, tensor),
}


@pytest.mark.parametrize("kinds", PAIRS)
def test_every_kind_of_pair(kinds: str) -> None:
    first, second = (make() for make in PAIRS[kinds])
    drawn(draw(explanation(first, second)))
    if kinds in ("text-text", "image-image", "text-sound"):  # one of each lower part
        zeros = torch.zeros(len(first.features), len(second.features))
        drawn(draw(explanation(first, second, zeros)))


# The limits themselves, and smaller ones, which show the same in a tenth of the time.
real = pytest.mark.slow


@pytest.mark.parametrize("most", [3, pytest.param(24, marks=real)])
def test_of_many_words_the_strongest_have_maps(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert maps._MOST_MAPS == 24
    monkeypatch.setattr(maps, "_MOST_MAPS", most)
    shown, words = image(), tensor(most + 16)
    table = torch.zeros(len(shown.features), most + 16)
    strong = torch.arange(most) * (most + 16) // most
    table[3, strong] = 1.0 + torch.arange(most)
    figure = drawn(draw(explanation(shown, words, table)))
    named = [title.split(":")[0] for title in titles(figure) if "unit" in title]
    assert named == [f"unit {at}" for at in strong.tolist()]
    label = " ".join(figure.axes[-1].get_ylabel().split())
    assert label.startswith(f"the {most} strongest of {most + 16}: for (orange)")


@pytest.mark.parametrize("most", [6, pytest.param(60, marks=real)])
def test_of_large_matrices_the_strongest_rows(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert texts._MOST_ROWS == 60
    monkeypatch.setattr(texts, "_MOST_ROWS", most)
    table = torch.zeros(most + 10, most + 20)
    table[torch.arange(most) + 10, torch.arange(most) + 20] = 1.0
    figure = drawn(draw(explanation(tensor(most + 10), tensor(most + 20), table)))
    axes = next(axes for axes in figure.axes if axes.images)
    assert np.asarray(axes.images[0].get_array()).shape[:2] == (most, most)
    rows = [label.get_text() for label in axes.get_yticklabels()]
    assert rows == [f"unit {at}" for at in range(10, most + 10)]


def test_texts_as_a_matrix() -> None:
    found = explanation(text(), text("a scarlet spot"))
    figure = drawn(draw(found))
    axes = next(axes for axes in figure.axes if axes.images)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "red", "dot"]
    assert np.asarray(axes.images[0].get_array()).shape[:2] == (3, 3)
    assert figure.get_suptitle() == "“a red dot”\n“a scarlet spot”"


def test_regions_of_one_image_and_what_they_matched() -> None:
    table = torch.zeros(ROWS * COLUMNS + 1, ROWS * COLUMNS + 1)
    table[7, 10] = 1.0  # row 1, column 1, with row 1, column 4
    figure = drawn(draw(explanation(image(), image(), table)))
    region = titled(figure, "x 10–20, y 10–20")
    assert region.patches[0].get_bbox().extents.tolist() == [10, 10, 20, 20]
    found = shares(titled(figure, "+1.000"))
    rows, columns = np.nonzero(found)
    height, width = found.shape
    assert (rows.min() * ROWS // height, rows.max() * ROWS // height) == (1, 1)
    assert set(columns * COLUMNS // width) == {4}


def test_low_bands_are_below() -> None:
    table = torch.zeros(8, 4)
    table[0, 1] = 1.0  # the first half second, bands 0 to 4
    figure = drawn(draw(explanation(sound(), text(), table)))
    axes = titled(figure, "red")
    found = shares(axes)
    assert found[-1, 0] == 1.0 and found[0, 0] == 0.0 and found[-1, -1] == 0.0
    assert axes.images[-1].get_extent() == [0, 2, 0, 8]
    assert titled(figure, "what the model hears").get_ylabel() == "mel band"


def test_without_a_picture() -> None:
    found = explanation(image(), text())
    first = replace(found.first, source=replace(found.first.source, picture=None))
    figure = drawn(draw(replace(found, first=first)))
    assert shares(titled(figure, "red")).any()


def test_only_a_phrase_or_a_region() -> None:
    pictured, caption = image(), text()
    phrase = replace(caption, features=(Feature("red dot", span=(2, 9)),))
    found = replace(explanation(pictured, phrase), first_effects=None)
    figure = drawn(draw(found))
    assert titled(figure, "red dot") and titled(figure, "what the model sees")
    box = (10.0, 10.0, 30.0, 30.0)
    region = replace(pictured, features=(Feature("region", box=box),), grid=None)
    table = torch.tensor([[0.0, 0.5, -0.25, 9.0]])
    found = replace(explanation(region, caption, table), second_effects=None)
    figure = drawn(draw(found))
    outlined = titled(figure, "what the model sees").patches
    assert outlined[0].get_bbox().extents.tolist() == list(box)
    said = [each.get_text() for each in titled(figure, "the text").texts]
    assert [word for word in said if word.strip()] == ["a", "red", "dot"]
    assert titled(figure, "the text: +0.250")


def test_a_region_is_drawn_as_it_was_asked_for() -> None:
    feature = Feature("region", box=(10.0, 10.0, 30.0, 30.0))
    asked = replace(
        image(), features=(feature,), grid=None, asked=(12.0, 11.0, 29.0, 24)
    )
    found = explanation(asked, text(), torch.tensor([[0.0, 0.5, -0.25, 9.0]]))
    patches = titled(draw(found), "what the model sees").patches
    boxes = [patch.get_bbox().extents.tolist() for patch in patches]
    assert boxes == [[10, 10, 30, 30]] * 2 + [[12, 11, 29, 24]] * 2
    assert [patch.get_linestyle() == "solid" for patch in patches][1:] == [
        False,
        True,
        True,
    ]


def test_what_it_says_stands_above_and_how_to_read_it_below() -> None:
    unknown = replace(text().features[2], unknown=True)
    caption = replace(text(), features=(*text().features[:2], unknown, END))
    table = torch.full((ROWS * COLUMNS + 1, 4), 1e-3)
    table[0, 1], table[1, 2] = 0.2, -0.1
    figure = drawn(draw(explanation(image(), caption, table)))
    written = [
        " ".join(each.get_text().split())
        for part in figure.subfigs
        for each in part.texts
    ]
    assert written == [
        "“red” and the top left (x 0–10, y 0–10 px) add most to the cosine similarity "
        "of +0.298: +0.200; “dot” and the top left (x 10–20, y 0–10 px) speak against "
        "it most: −0.100.",
        "The tokenizer does not know “dot”: the model reads an unknown word there.",
        "Orange adds to the similarity, purple takes away from it, what has no colour "
        "does neither; all in units of cosine. A number above a map or a text is its "
        "sum.",
    ]
    heights = [part.bbox.y0 for part in figure.subfigs]
    assert heights == sorted(heights, reverse=True) and len(heights) == 5
    assert figure._repr_png_()[1:4] == b"PNG"  # as a notebook shows it


def test_one_patch_beyond_the_scale_and_scales_on_request() -> None:
    table = torch.full((ROWS * COLUMNS + 1, 4), 0.1)
    table[3, 1] = 4.0
    found = explanation(image(), text(), table)
    bar = draw(found).axes[-1]
    assert bar.get_ylim()[1] == pytest.approx(0.2)
    assert "1 patch beyond the scale" in " ".join(bar.get_ylabel().split())
    assert found.plot(outlier_perc=0).axes[-1].get_ylim()[1] == pytest.approx(4.0)
    figure = drawn(found.plot(own_scales=True))
    ends = [axes.get_xlim()[1] for axes in figure.axes[-2:]]  # of "red" and "dot"
    assert ends == pytest.approx([4.0, 0.1])


def test_merged() -> None:
    found = explanation(image(), text("a red dot on a blue dot"))
    words = found.merge(second=["blue dot", "red dot"])
    assert any(t.startswith("red dot:") for t in titles(drawn(draw(words))))
    regions = found.merge(first=[(0, 0, 30, 40)])
    figure = drawn(draw(regions.merge(second=["red dot"])))
    both = shares(titled(figure, "red dot"))
    assert len(np.unique(both.round(6))) == 2
    drawn(draw(explanation(text(), text("a red dot on it")).merge(second=["red dot"])))


SCRIPTS = (
    "粉红色的 星星",
    "نجمة وردية على اليمين",
    "😀 🚀 👩\u200d🔬",
    "$x and $y _a_",
    "<b> & \\",
)


@pytest.mark.parametrize("said", SCRIPTS)
@pytest.mark.parametrize("has_fonts", [False, True])
def test_any_script(
    said: str,
    has_fonts: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fonts._family_of.cache_clear()
    fonts.width_of.cache_clear()
    if not has_fonts:
        monkeypatch.setattr(fonts, "_candidates", lambda: [])
    found = draw(explanation(text(said), text(said)))
    drawn(found).canvas.draw()
    assert not caplog.records  # matplotlib logs which fonts it did not find
    fonts._family_of.cache_clear()
    fonts.width_of.cache_clear()


def test_every_script_above_maps(caplog: pytest.LogCaptureFixture) -> None:
    drawn(draw(explanation(image(), text(" ".join(SCRIPTS))))).canvas.draw()
    assert not caplog.records


@pytest.mark.parametrize("number", [9, pytest.param(23, marks=real)])
def test_nothing_overlaps_with_many_words(number: int, tmp_path: Path) -> None:
    said = " ".join(f"word{index}" for index in range(number))
    found = explanation(image(), text(f"{said}{' a' * 40}"))
    figure = drawn(draw(found))
    shown = [title for title in titles(figure) if title.startswith("word")]
    assert len(shown) == number
    assert figure.get_suptitle().count("\n") >= 1
    file = save_picture(found, tmp_path / "new" / "many.png")
    assert file == tmp_path / "new" / "many.png"
    with Image.open(file) as picture:
        assert picture.width == 1440


@pytest.mark.parametrize(
    "word",
    [
        "Donaudampfschifffahrtsgesellschaft",
        pytest.param("w" * 100, marks=pytest.mark.slow),
        pytest.param("w" * 300, marks=pytest.mark.slow),
    ],
)
def test_long_words(word: str) -> None:
    drawn(draw(explanation(image(), text(f"{word} {word} red"))))
    drawn(draw(explanation(text(f"a {word}"), text(f"{word} red"))))


# ---- pairs as lines -----------------------------------------------------------------


def test_the_strongest_pairs_as_lines() -> None:
    table = torch.zeros(ROWS * COLUMNS + 1, 4)
    table[0, 1], table[8, 2] = 0.2, -0.1
    found = explanation(image(), text(), table)
    for made in (found, explanation(text(), image(), table.T)):  # an image on the left
        axes = next(axes for axes in drawn(made.plot_pairs()).axes if axes.images)
        said = [each.get_text() for each in axes.texts]
        assert said == ["a", "red", "dot", "+0.200", "−0.100"]
        left, right, bottom, top = axes.images[0].get_extent()
        assert left == 0 and right < axes.texts[0].get_position()[0]
        boxes = [p.get_bbox().extents for p in axes.patches if isinstance(p, Rectangle)]
        corner = [left, top - (top - bottom) / 4, left + (right - left) / 6, top]
        assert any(box.tolist() == pytest.approx(corner) for box in boxes)
    one = next(axes for axes in found.plot_pairs(1).axes if axes.images)
    assert [each.get_text() for each in one.texts][3:] == ["+0.200"]


@pytest.mark.parametrize("kinds", ["text-text", "image-image", "sound-text", "zeros"])
def test_lines_of_every_kind(kinds: str) -> None:
    first, second = (make() for make in PAIRS.get(kinds, (image, text)))
    table = None
    if kinds == "zeros":
        table = torch.zeros(len(first.features), len(second.features))
    drawn(explanation(first, second, table).plot_pairs(4))


# ---- contrasts and classes ----------------------------------------------------------


def test_contrast_of_two_texts() -> None:
    query = image()
    preferred = explanation(query, text("a red dot"))
    other = explanation(query, text("a blue dot"), -preferred.interactions)
    found = Contrast(preferred, other, "first")
    figure = drawn(draw_contrast(found))
    names = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert names == [*found.parts(), "difference"]
    by_query = shares(titled(figure, "all in all"))
    strongest = found.by_query().flatten().abs().argmax()
    row, column = divmod(int(strongest), COLUMNS)
    height, width = by_query.shape
    middle = (2 * row + 1) * height // (2 * ROWS), (2 * column + 1) * width // 12
    sign = np.sign(float(found.by_query().flatten()[strongest]))
    assert np.sign(by_query[middle]) == sign
    assert titled(figure, "red / blue") and titled(figure, "the preferred text:")
    assert "rather than “a blue dot”" in figure.get_suptitle()
    # one sign throughout: what speaks for the preferred one is above zero
    own = float(found.by_candidate()[1].sum())
    assert titled(figure, f"the other text: {-own:+.3f}".replace("-", "−"))
    labels = [axes.get_xlabel() + axes.get_ylabel() for axes in figure.axes]
    bars = [" ".join(label.split()) for label in labels if "orange" in label]
    said = "for the preferred (orange) or the other text (purple), cosine"
    assert bars == [said] * 2
    same = Contrast(preferred, preferred, "first")
    assert same.difference == 0.0
    drawn(draw_contrast(same))


def test_contrast_of_two_images() -> None:
    query = text("a red dot")
    one, two = explanation(image(), query), explanation(image(), query)
    figure = drawn(draw_contrast(Contrast(one, two, "second")))
    assert titled(figure, "preferred image") and titled(figure, "other image")
    assert titled(figure, "the query, word by word")


@pytest.mark.parametrize(
    "strongest, limit",
    [((0.2, 0.1), 0.2), ((0.2, 0.07), 0.14), ((0.01, 0.2), 0.05), ((0.2, 0.0), 0.05)],
)
def test_no_image_of_a_contrast_is_pale(
    strongest: tuple[float, float], limit: float
) -> None:
    query = text("a red dot")
    side = image()
    pairs = []
    for size in strongest:
        table = torch.zeros(len(side.features), len(query.features))
        table[: side.count] = size / len(query.features)
        pairs.append(replace(explanation(side, query), interactions=table))
    figure = draw_contrast(Contrast(pairs[0], pairs[1], "second"))
    drawn(figure)
    bars = [axes for axes in figure.axes if axes.get_label() == "<colorbar>"]
    ends = [np.round(axes.get_ylim(), 6).tolist() for axes in bars]
    assert [-limit, limit] in ends


@pytest.mark.parametrize("kind", ["text-text", "image-image", "sound-text", "tensor"])
def test_contrasts_of_other_kinds(kind: str) -> None:
    makes = {**PAIRS, "tensor": (tensor, tensor)}[kind]
    one, two = (explanation(makes[0](), makes[1]()) for _ in range(2))
    drawn(draw_contrast(Contrast(one, two, "first")))


def test_zero_shot() -> None:
    shown = image()
    names = ("a dog", "a red dot", "something with a very long name, in two lines")
    attributions = torch.zeros(3, len(shown.features))
    attributions[1, 0], attributions[0, 1] = 1.0, 0.5
    found = ZeroShot(
        "none",
        shown,
        names,
        names,
        torch.tensor([0.2, 0.3, 0.1]),
        torch.tensor([0.2, 0.7, 0.1]),
        torch.zeros(3),
        attributions,
    )
    figure = drawn(draw_zero_shot(found))
    assert shares(titled(figure, "a red dot: 70.0%"))[0, 0] == 1.0
    size = shares(titled(figure, "a dog")).shape[1]
    assert shares(titled(figure, "a dog"))[0, size // 4] == pytest.approx(0.5)
    assert shares(titled(figure, "a red dot rather"))[0, size // 4] == -0.5
    assert figure.get_suptitle() == "“a red dot”, with a probability of 70.0%"
    drawn(draw_zero_shot(found, 1))
