"""The page in a real browser, against the numbers that it is made of."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum_pairs import Comparison, load, PairExplanation
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.explain.comparison import Compared
from captum_pairs.inputs import place_in_words
from captum_pairs.models import Feature
from captum_pairs.scenes import checkpoint_path
from captum_pairs.show.page import _script, page_html, write_page
from captum_pairs.show.page._script import joined_script
from captum_pairs.show.reading import verdict
from captum_pairs.show.wording import typeset
from explanations import CAPTION, contrast, image, pair, sound, text, vectors
from PIL import Image

Show = Callable[..., Any]
Floats = Any
ORANGE, PURPLE = (232, 121, 12), (116, 70, 196)

# The colours in the middle of every region of a picture, (r, g, b, alpha) each.
_CENTRES = """(canvas, [rows, columns]) => {
  const {width, height} = canvas;
  const copy = new OffscreenCanvas(width, height).getContext("2d");
  copy.drawImage(canvas, 0, 0);
  const pixels = copy.getImageData(0, 0, width, height).data;
  const found = [];
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      const x = Math.floor((column + 0.5) * width / columns);
      const y = Math.floor((row + 0.5) * height / rows);
      const at = 4 * (y * width + x);
      found.push(Array.from(pixels.slice(at, at + 4)));
    }
  }
  return found;
}"""


def shares_of_regions(page: Any, grid: tuple[int, int], at: int = 0) -> Floats:
    """What the picture's colours say: (rows, columns), from -1 to 1."""
    canvas = page.locator("canvas").nth(at)
    colours = np.array(canvas.evaluate(_CENTRES, list(grid)), dtype=float)
    signs = np.where(colours[:, 0] > colours[:, 2], 1, -1)
    return (signs * colours[:, 3] / 255 / 0.8).reshape(grid)


def shares_of_words(words: Any) -> Floats:
    """What the words' colours say, on the light page: (words,), from -1 to 1."""
    shares = []
    for word in words.all():
        style = word.evaluate("word => getComputedStyle(word).backgroundColor")
        colour = [float(part) for part in re.findall(r"[\d.]+", style)]
        if len(colour) == 4:  # transparent
            shares.append(0.0)
            continue
        sign = 1 if colour[0] > colour[2] else -1
        full = ORANGE if sign > 0 else PURPLE
        # by the channel that has the farthest to go
        at = 2 if sign > 0 else 1
        shares.append(sign * (colour[at] - 255) / (full[at] - 255))
    return np.array(shares)


def words_of(page: Any, at: int = 0) -> Any:
    return page.locator(".words").nth(at).locator(".word")


def relative(values: torch.Tensor) -> Floats:
    """Of the strongest."""
    return (values / values.abs().max()).numpy()


def at_patch(picture: Any, grid: tuple[int, int], row: float, column: float) -> Any:
    """Where a patch's middle is, for the mouse."""
    box = picture.bounding_box()
    x = (column + 0.5) / grid[1] * box["width"]
    y = (row + 0.5) / grid[0] * box["height"]
    return {"x": x, "y": y}


def drag(page: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    page.mouse.move(*end)
    page.mouse.up()


def in_window(picture: Any, grid: tuple[int, int], row: int, column: int) -> Any:
    box = picture.bounding_box()
    inside = at_patch(picture, grid, row, column)
    return box["x"] + inside["x"], box["y"] + inside["y"]


def box_of(cells: list[tuple[int, int]], side: float = 10) -> Any:
    rows, columns = zip(*cells)
    edges = min(columns), min(rows), max(columns) + 1, max(rows) + 1
    return tuple(side * edge for edge in edges)


@pytest.fixture
def found() -> PairExplanation:
    return pair(image(), text())


# ---- words and regions -----------------------------------------------------


def test_a_word_shows_its_regions(show: Show, found: PairExplanation) -> None:
    page = show(found)
    for index, word in enumerate(words_of(page).all()):
        word.hover()
        values = found.interactions[:24, index].reshape(4, 6)
        shares = shares_of_regions(page, (4, 6))
        np.testing.assert_allclose(shares, relative(values), atol=0.01)
        assert np.abs(shares).argmax() == int(values.abs().argmax())
    page.mouse.move(2, 2)
    values = found.interactions[:24, :7].sum(1).reshape(4, 6)
    words = found.interactions[:24, :7].sum(0)
    most = max(values.abs().max(), words.abs().max())
    shares = shares_of_regions(page, (4, 6))
    np.testing.assert_allclose(shares, (values / most).numpy(), atol=0.01)


@pytest.mark.skipif(not checkpoint_path().is_dir(), reason="no embedded checkpoint")
def test_a_trained_models_words_show_their_regions(show: Show) -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
    found = load("scenes").explain(
        picture, "a red circle and a blue square", tolerance=0.1
    )
    page = show(found)
    for word in ("red", "circle", "blue"):
        words_of(page).get_by_text(word, exact=True).hover()
        values = found.phrase(word)
        shares = shares_of_regions(page, (8, 8))
        np.testing.assert_allclose(shares, relative(values), atol=0.01)
        brightest = divmod(int(np.abs(shares).argmax()), 8)
        assert brightest == divmod(int(values.abs().argmax()), 8)


def test_a_patch_shows_its_words(show: Show, found: PairExplanation) -> None:
    page = show(found)
    for row, column in ((0, 0), (2, 4), (3, 5)):
        page.locator(".picture").hover(
            position=at_patch(page.locator(".picture"), (4, 6), row, column)
        )
        values = found.interactions[6 * row + column, :7]
        shares = shares_of_words(words_of(page))
        np.testing.assert_allclose(shares, relative(values), atol=0.02)
        assert np.abs(shares).argmax() == int(values.abs().argmax())
        box = found.first.features[6 * row + column].box
        assert box is not None
        place = place_in_words(found.first.source, box)
        assert page.inner_text(".what") == place


def test_a_box_shows_the_words_of_its_patches(
    show: Show, found: PairExplanation
) -> None:
    page = show(found)
    picture = page.locator(".picture")
    for start, end in (((1, 1), (2, 3)), ((3, 5), (0, 4))):
        drag(
            page,
            in_window(picture, (4, 6), *start),
            in_window(picture, (4, 6), *end),
        )
        values = found.region(box_of([start, end]))[:7]
        shares = shares_of_words(words_of(page))
        np.testing.assert_allclose(shares, relative(values), atol=0.02)
        assert np.abs(shares).argmax() == int(values.abs().argmax())
        assert "patches" in page.inner_text("#readout")
        assert page.inner_text("#readout-title") == "Pinned"


def test_several_words_show_their_regions(show: Show, found: PairExplanation) -> None:
    page = show(found)
    boxes = [word.bounding_box() for word in words_of(page).all()]
    middles = [(b["x"] + b["width"] / 2, b["y"] + b["height"] / 2) for b in boxes]
    drag(page, middles[4], middles[6])
    page.mouse.move(2, 2)
    expected = relative(found.phrase("a blue square"))
    np.testing.assert_allclose(shares_of_regions(page, (4, 6)), expected, atol=0.01)
    assert plain(page.inner_text(".what")) == "“a (2) blue square”"
    total = float(found.phrase("a blue square").sum())
    assert signed(total) in page.inner_text(".sums")


def plain(said: str) -> str:
    """Without what says in which direction a name is read."""
    return re.sub("[\u2068\u2069]", "", said)


def signed(value: float) -> str:
    digits = 4 if abs(value) < 0.09995 else 3
    return f"{value:+.{digits}f}".replace("-", "−")


def test_a_click_pins(show: Show, found: PairExplanation) -> None:
    page = show(found)
    words, picture = words_of(page), page.locator(".picture")
    words.nth(2).click()
    expected = relative(found.phrase("circle"))
    assert words.nth(2).get_attribute("aria-pressed") == "true"
    words.nth(5).hover()
    np.testing.assert_allclose(shares_of_regions(page, (4, 6)), expected, atol=0.01)
    picture.hover(position=at_patch(picture, (4, 6), 1, 2))
    value = float(found.interactions[8, 2])
    said = page.inner_text("#readout")
    assert f"With centre (x 20–30, y 10–20 px): {signed(value)}" in said
    words.nth(2).click()
    assert page.inner_text("#readout-title") == "Selection"
    assert words.nth(2).get_attribute("aria-pressed") == "false"
    for take_out in (
        lambda: page.keyboard.press("Escape"),
        page.locator("#unpin").click,
    ):
        words.nth(1).click()
        page.mouse.move(2, 2)
        assert page.inner_text("#readout-title") == "Pinned"
        take_out()
        assert "Nothing selected" in page.inner_text("#readout")


def test_the_strongest_pairs_show_word_and_region(
    show: Show, found: PairExplanation
) -> None:
    page = show(found)
    best = found.top_pairs(1)[0]
    button = page.locator("#matches .match").first
    assert signed(best.value) in button.inner_text()
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    # what is said is this pair, and in the words that the list has
    said = page.inner_text("#readout")
    assert said.startswith(page.locator(".match-label").first.inner_text())
    assert page.locator("#readout dt").first.inner_text() == signed(best.value)
    assert page.locator("#readout dd").first.inner_text() == "this pair"
    (index,) = best.second_features
    assert "selected" in (words_of(page).nth(index).get_attribute("class") or "")
    values = found.interactions[:24, index].reshape(4, 6)
    shares = shares_of_regions(page, (4, 6))
    np.testing.assert_allclose(shares, relative(values), atol=0.01)


# ---- other kinds of inputs -------------------------------------------------


def test_two_texts(show: Show) -> None:
    found = pair(text("a small dog"), text("one puppy plays here"))
    page = show(found)
    words_of(page, 0).nth(2).hover()
    shares = shares_of_words(words_of(page, 1))
    expected = relative(found.interactions[2, :4])
    np.testing.assert_allclose(shares, expected, atol=0.02)
    words_of(page, 1).nth(1).hover()
    shares = shares_of_words(words_of(page, 0))
    expected = relative(found.interactions[:3, 1])
    np.testing.assert_allclose(shares, expected, atol=0.02)


def test_two_images(show: Show) -> None:
    found = pair(image((2, 3), (30, 20)), image((3, 2), (20, 30), seed=1))
    page = show(found)
    pictures = page.locator(".picture")
    pictures.nth(0).hover(position=at_patch(pictures.nth(0), (2, 3), 1, 2))
    expected = relative(found.interactions[5, :6].reshape(3, 2))
    np.testing.assert_allclose(shares_of_regions(page, (3, 2), 1), expected, atol=0.01)
    pictures.nth(1).hover(position=at_patch(pictures.nth(1), (3, 2), 2, 0))
    expected = relative(found.interactions[:6, 4].reshape(2, 3))
    np.testing.assert_allclose(shares_of_regions(page, (2, 3), 0), expected, atol=0.01)


def test_a_sound_has_its_low_bands_below(show: Show) -> None:
    found = pair(sound(), text())
    page = show(found)
    words_of(page).nth(2).hover()
    expected = relative(found.phrase("circle").flip(0))
    np.testing.assert_allclose(shares_of_regions(page, (3, 5)), expected, atol=0.01)
    page.locator(".cell").first.focus()
    assert "0.00–2.00 s, mel 0–10" in page.inner_text("#readout")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowRight")
    assert "2.00–4.00 s, mel 10–20" in page.inner_text("#readout")


def test_features_without_a_place_are_named(show: Show) -> None:
    found = pair(vectors(), text())
    page = show(found)
    page.get_by_role("button", name="feature 1", exact=True).hover()
    shares = shares_of_words(words_of(page))
    expected = relative(found.interactions[1, :7])
    np.testing.assert_allclose(shares, expected, atol=0.02)


def test_merged_words_and_regions(show: Show, found: PairExplanation) -> None:
    merged = found.merge(
        first={"left": (0, 0, 30, 40)}, second=["red circle", "blue square"]
    )
    page = show(merged)
    words = words_of(page)
    assert words.all_inner_texts() == ["a", "red circle", "beside", "a", "blue square"]
    words.nth(1).hover()
    values = found.phrase("red circle")
    sums = torch.stack([values[:, :3].sum(), values[:, 3:].sum()])
    shares = shares_of_regions(page, (1, 2))[0]
    np.testing.assert_allclose(shares, relative(sums), atol=0.01)
    page.get_by_role("button", name="left", exact=True).hover()
    shares = shares_of_words(words)
    order = [merged.second.names.index(n) for n in ("a", "red circle", "beside")]
    np.testing.assert_allclose(
        shares[:3], relative(merged.interactions[0, :5])[order], atol=0.02
    )


def test_tokens_that_share_letters_are_named(show: Show) -> None:
    side = text("a dog")
    halves = [replace(side.features[1], name=name) for name in ("half 1", "half 2")]
    side = replace(side, features=(side.features[0], *halves, side.features[2]))
    page = show(pair(image(), side))
    assert page.locator(".words").inner_text() == "a dog"
    page.get_by_role("button", name="half 2", exact=True).hover()
    assert "half 2" in page.inner_text(".what")


# ---- two texts, and what is on them ------------------------------------------


def test_the_words_of_two_texts_as_a_table_and_lines(show: Show) -> None:
    found = pair(text("a small dog"), text("one puppy plays here"))
    page = show(found)
    table = found.interactions[:3, :4]
    cells = page.locator(".words-table td:not(:first-child)")
    said = [signed(float(value)) for value in table.flatten()]
    assert cells.all_inner_texts() == said
    cells.nth(2 * 4 + 1).click()
    assert plain(page.inner_text(".what")) == "“dog” – “puppy”"
    assert page.locator("#readout dt").first.inner_text() == said[9]
    assert page.locator("td.chosen").count() == 1
    widths = {}
    for line in page.locator(".strokes line").all():
        ends = [float(line.get_attribute(name)) for name in ("y1", "y2")]
        height = float(page.locator(".strokes").get_attribute("viewBox").split()[3])
        at = [int(end / height * count) for end, count in zip(ends, (3, 4))]
        widths[tuple(at)] = float(line.get_attribute("stroke-width")) / 8
        colour = line.get_attribute("stroke")
        is_for = float(table[tuple(at)]) > 0
        assert colour == f"rgb({' '.join(map(str, ORANGE if is_for else PURPLE))})"
    assert len(widths) == 12
    for at, width in widths.items():
        share = float(table[at].abs() / table.abs().max())
        assert width == pytest.approx(share, abs=0.01)
    # what is chosen in the texts is shown in the table
    words_of(page, 1).nth(3).click()
    assert page.locator("td.chosen").count() == 3
    assert show(pair(image(), text())).locator("#crossing").is_hidden()


def test_special_tokens_are_explained_where_they_are_bright(show: Show) -> None:
    table = torch.full((25, 8), 0.001)
    table[24] = table[:, 7] = 0
    page = show(pair(image(), text(), table=table))
    assert page.locator(".panel .aside").count() == 0
    table[:, 7] = 0.1
    page = show(pair(image(), text(), table=table))
    assert "no part of the text" in page.inner_text(".panel .aside")


def test_silence_is_said(show: Show) -> None:
    table = 0.01 * torch.ones(25, 8)
    table[:, 5:7] = 0
    found = pair(image(), text(), table=table)
    effects = found.second_effects.clone()
    effects[5:7] = 0
    page = show(replace(found, second_effects=effects))
    assert "stops reading after “a (2)”" in page.inner_text("#notes")
    assert show(pair(image(), text())).locator("#notes").is_hidden()


# ---- what can be kept ----------------------------------------------------------


def test_what_is_pinned_stands_in_the_address(show: Show) -> None:
    many = [pair(image(), text(f"caption {at}"), seed=at) for at in range(3)]
    page = show(many)
    page.get_by_label("Next explanation").click()
    page.locator("#matches .match").nth(1).click()
    kept, said = page.url, page.inner_text("#readout")
    best = many[1].top_pairs(2)[1]
    chosen = ".".join(map(str, best.second_features))
    partner = ".".join(map(str, best.first_features))
    assert kept.endswith(f"#entry=2&pair=1&side=2&features={chosen}&with={partner}")
    page.reload()
    assert page.inner_text("#position") == "2 of 3"
    assert page.inner_text("#readout") == said
    page.keyboard.press("Escape")
    assert page.url.endswith("#entry=2")
    for wrong in ("entry=9", "pair=7&features=1", "features=999", "features=x&with=%"):
        page.evaluate("fragment => { location.hash = fragment; }", wrong)
        page.wait_for_function("document.getElementById('position').innerText[0]==='1'")
        assert "Nothing selected" in page.inner_text("#readout")


def test_numbers_and_picture_are_saved(
    show: Show, found: PairExplanation, tmp_path: Path
) -> None:
    page = show(found)
    words_of(page).nth(2).click()
    with page.expect_download() as told:
        page.get_by_role("button", name="Save numbers").click()
    told.value.save_as(tmp_path / "numbers.json")
    kept = json.loads((tmp_path / "numbers.json").read_text(encoding="utf-8"))
    (numbers,) = kept["pairs"]
    np.testing.assert_allclose(numbers["interactions"], found.interactions, atol=1e-6)
    assert numbers["inputs"][1]["features"][2] == "“\u2068circle\u2069”"
    assert kept["score"] == pytest.approx(found.score)
    with page.expect_download() as told:
        page.get_by_role("button", name="Save picture").click()
    told.value.save_as(tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.width == 1200 and picture.height > 900
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    # the map is in it: orange, and purple, beside grey
    red, blue = pixels[..., 0], pixels[..., 2]
    assert (red - blue > 60).mean() > 0.01 and (blue - red > 40).mean() > 0.01


def test_a_comparison_says_how_faithful_each_method_is(show: Show) -> None:
    found = [
        replace(pair(image(), text(), seed), method=method)
        for seed, method in enumerate(("occlusion", "jacobian_x_input"))
    ]
    compared = (
        Compared(found[0], 1.24, 10, 0, 0.91, 0.83, 0.5, 0.7, 0.2),
        Compared(found[1], 0.1, 2, 3, None, 0.41, 0.4, 0.6, 0.3),
    )
    failed = {"bilrp": "no such layer"}
    page = show(Comparison(compared, torch.eye(2), failed))
    assert page.locator("#entries li").count() == 2
    for faithful, seconds, label in (
        ("faithfulness 0.91, of pairs alone 0.83", "1.2 s", "Occlusion: "),
        ("faithfulness of pairs alone 0.41", "0.1 s", "Jacobian"),
    ):
        assert page.inner_text("#heading").startswith(label)
        assert faithful in page.inner_text(".subheading")
        facts = page.inner_text("#facts")
        assert "how well a method predicts the similarity" in facts
        assert plain(seconds) in plain(facts)
        assert "Could not run" in page.inner_text("#notes")
        if page.get_by_label("Next explanation").is_enabled():
            page.get_by_label("Next explanation").click()


def test_a_saved_picture_of_two_texts_has_the_table_and_lines(
    show: Show, tmp_path: Path
) -> None:
    table = torch.zeros(4, 5)
    table[1, 2], table[2, 0] = 0.2, -0.2
    found = pair(text("a small dog"), text("one puppy plays here"), table=table)
    page = show(found)
    with page.expect_download() as told:
        page.get_by_role("button", name="Save picture").click()
    told.value.save_as(tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    # the table's three rows of 28 pixels lie above the margin, and lines above these
    top = len(pixels) - 36 - 3 * 28
    for row, colour in ((1, ORANGE), (2, PURPLE)):
        there = np.abs(pixels - colour).max(-1) <= 2
        cells = [there[top + 28 * at : top + 28 * (at + 1)].sum() for at in range(3)]
        assert cells[row] > 0.6 * 89 * 27 and sum(cells) == cells[row]
        pale = 0.85 * np.array(colour) + 0.15 * 255  # as lines are
        line = np.abs(pixels - pale).max(-1)[400 : top - 28] <= 3
        assert line.any(0).sum() > 300


def test_a_region_is_drawn_as_it_was_asked(show: Show) -> None:
    side = image()
    box = Feature("region", box=(10.0, 10.0, 30.0, 30.0))
    side = replace(side, features=(box,), grid=None, asked=(14.0, 12.0, 26.0, 28.0))
    page = show(pair(side, text(), table=torch.zeros(1, 8)))
    dark = """(canvas, [x, y]) => {
      const {width, height} = canvas;
      const copy = new OffscreenCanvas(width, height).getContext("2d");
      copy.drawImage(canvas, 0, 0);
      const at = [Math.round(x * width), Math.round(y * height)];
      return Array.from(copy.getImageData(...at, 1, 1).data);
    }"""
    for place in ((14 / 60, 20 / 40), (26 / 60, 20 / 40), (20 / 60, 12 / 40)):
        drawn = page.locator("canvas").evaluate(dark, list(place))
        assert max(drawn[:3]) < 60 and drawn[3] == 255


# ---- how it is shown -------------------------------------------------------


def test_one_sign_and_opacity(show: Show, found: PairExplanation) -> None:
    page = show(found)
    values = found.phrase("circle")
    words_of(page).nth(2).click()
    for name, kept in (("for", values.clamp(min=0)), ("against", values.clamp(max=0))):
        page.get_by_text(name, exact=True).locator("visible=true").last.click()
        shares = shares_of_regions(page, (4, 6))
        np.testing.assert_allclose(shares, relative(kept), atol=0.01)
        values_listed = page.locator("#matches .number:visible").all_inner_texts()
        assert {each[0] for each in values_listed} == {"+" if name == "for" else "−"}
    page.get_by_label("Opacity").fill("40")
    shares = 2 * shares_of_regions(page, (4, 6))
    np.testing.assert_allclose(shares, relative(values.clamp(max=0)), atol=0.02)


def test_one_scale_for_all(show: Show, found: PairExplanation) -> None:
    page = show(found)
    page.get_by_text("global").click()
    words_of(page).nth(2).hover()
    expected = found.phrase("circle") / found.interactions[:24, :7].abs().max()
    shares = shares_of_regions(page, (4, 6))
    np.testing.assert_allclose(shares, expected.numpy(), atol=0.01)


def test_outliers_are_capped(show: Show) -> None:
    table = torch.full((25, 8), 0.01)
    table[0] = 1.0
    page = show(pair(image(), text(), table=table))
    words_of(page).nth(0).hover()
    assert shares_of_regions(page, (4, 6))[1, 1] == pytest.approx(0.01, abs=0.006)
    assert page.inner_text("#high") == "+1.000"
    table[0] = 0.02
    table[1:, :] = 0.01
    page = show(pair(image(), text(), table=table))
    page.get_by_label("cap outliers").check()
    words_of(page).nth(0).hover()
    assert page.inner_text("#high") == "+0.0200"  # it is no more than 2 % of the sum


def test_nothing_matched(show: Show) -> None:
    page = show(pair(image(), text(), table=torch.zeros(25, 8)))
    words_of(page).nth(0).hover()
    assert "It matched nothing" in page.inner_text("#readout")
    assert not shares_of_regions(page, (4, 6)).any()


def test_the_score_and_its_parts(show: Show, found: PairExplanation) -> None:
    page = show(found)
    assert page.inner_text("h1") == f"“{CAPTION}”"
    below = page.inner_text(".subheading")
    assert below.startswith(f"Cosine similarity {signed(found.score)} · logits_per_im")
    assert page.inner_text("#verdict") == typeset(verdict(found))
    rows = [row.inner_text().split("\t") for row in page.locator("#parts tr").all()]
    parts = list(found.parts().items())
    assert len(rows) == len(parts) + 1
    for row, (name, value) in zip(rows, parts):
        assert row[0].lower() == name.lower()
        assert row[-1] == (signed(value) if value else "0")
    assert rows[-1][-1] == signed(found.score)
    _is_a_waterfall(page, [value for _, value in parts], found.score)
    facts = page.inner_text("#facts")
    for said in ("by hand", "integrated gradients", "input", "nothing", "tolerance"):
        assert said in facts


def _is_a_waterfall(page: Any, parts: list[float], score: float) -> None:
    """Each bar begins where the parts before it lead to, and the score's at zero."""
    sums = np.cumsum([0.0, *parts])
    ends = [*zip(sums[:-1], sums[1:]), (0.0, score)]
    low, high = min(*sums, score), max(*sums, score)
    bars = page.locator("#parts .bar i").all()
    assert len(bars) == len(ends)
    for bar, (start, end) in zip(bars, ends):
        style = bar.evaluate("bar => [bar.style.left, bar.style.width]")
        left, width = (float(share[:-1]) / 100 * (high - low) for share in style)
        assert left == pytest.approx(min(start, end) - low, abs=1e-4)
        assert width == pytest.approx(abs(end - start), abs=1e-4)


# ---- several, contrasts ----------------------------------------------------


def test_several_are_stepped_through(show: Show) -> None:
    many = [pair(image(), text(f"caption {at}"), seed=at) for at in range(4)]
    page = show(many)
    for at in range(4):
        assert page.inner_text("#position") == f"{at + 1} of 4"
        current = page.locator(".entry[aria-current=true]")
        assert f"caption {at}" in current.inner_text()
        assert words_of(page).all_inner_texts() == ["caption", str(at)]
        words_of(page).nth(1).hover()
        expected = relative(many[at].phrase(str(at)))
        np.testing.assert_allclose(shares_of_regions(page, (4, 6)), expected, atol=0.01)
        if at < 3:
            page.get_by_label("Next explanation").click()
    assert page.get_by_label("Next explanation").is_disabled()
    page.locator(".entry").first.click()
    assert words_of(page).all_inner_texts() == ["caption", "0"]
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert words_of(page).all_inner_texts() == ["caption", "2"]
    assert page.locator(".entry:focus").get_attribute("aria-current") == "true"


def test_two_captions_side_by_side(show: Show) -> None:
    found = contrast(image(), text("a red dog"), text("a blue dog"))
    page = show(found)
    # the photo stands there once, and shows the difference
    assert page.locator("canvas").count() == 1
    values = [e.interactions[:24] for e in (found.preferred, found.other)]
    both = [value[:, :3].sum(1).reshape(4, 6) for value in values]
    words = [e.interactions[:24, :3].sum(0) for e in (found.preferred, found.other)]
    most = max(each.abs().max() for each in (both[0] - both[1], *words))
    shares = shares_of_regions(page, (4, 6))
    np.testing.assert_allclose(shares, (both[0] - both[1]) / most, atol=0.01)
    words_of(page, 0).nth(1).hover()
    differing = (values[0][:, 1] - values[1][:, 1]).reshape(4, 6)
    shares = shares_of_regions(page, (4, 6))
    np.testing.assert_allclose(shares, relative(differing), atol=0.01)
    difference = float(found.changes()[1].total)
    assert f"Difference: {signed(difference)}" in page.inner_text("#readout")
    change = page.locator("#changes .match").nth(1)
    assert plain(change.inner_text()).startswith("“red” instead of “blue”")
    assert signed(difference) in change.inner_text()
    picture = page.locator(".picture")
    picture.hover(position=at_patch(picture, (4, 6), 2, 2))
    rows = [e.interactions[14, :3] for e in (found.preferred, found.other)]
    most = max(row.abs().max() for row in rows)
    for at, row in enumerate(rows):
        shares = shares_of_words(words_of(page, at))
        np.testing.assert_allclose(shares, (row / most).numpy(), atol=0.02)
    assert page.inner_text("#score") == signed(found.difference)
    key = page.inner_text("#key")
    assert "a candidate's own similarity" in key and "In the image, which shows" in key


def test_two_images_side_by_side(show: Show) -> None:
    found = contrast(text("a dog"), image(), image(seed=1))
    page = show(found)
    words_of(page, 0).nth(1).hover()
    values = [
        e.interactions[1, :24].reshape(4, 6) for e in (found.preferred, found.other)
    ]
    most = max(value.abs().max() for value in values)
    for at, value in enumerate(values):
        shares = shares_of_regions(page, (4, 6), at)
        np.testing.assert_allclose(shares, (value / most).numpy(), atol=0.01)
    assert words_of(page).all_inner_texts() == ["a", "dog"]
    # patches of the first image, which the other one has not
    picture = page.locator(".picture").first
    picture.hover(position=at_patch(picture, (4, 6), 1, 2))
    expected = relative(found.preferred.interactions[:2, 8])
    np.testing.assert_allclose(shares_of_words(words_of(page)), expected, atol=0.02)
    page.mouse.move(2, 2)
    maps = [e.interactions[:2, :24].sum(0) for e in (found.preferred, found.other)]
    words = found.preferred.interactions[:2, :24].sum(1)
    words = words - found.other.interactions[:2, :24].sum(1)
    most = max(each.abs().max() for each in (*maps, words))
    shares = shares_of_words(words_of(page))
    np.testing.assert_allclose(shares, words / most, atol=0.02)


# ---- for everyone ----------------------------------------------------------


STILL = """() => new Promise((resolve) => {
  const entered = [];
  for (const item of document.querySelectorAll(".match")) {
    item.addEventListener("pointerenter", () => entered.push(item.innerText));
  }
  setTimeout(() => resolve(entered), 700);
})"""
# Two sentences that differ in many words: what is said of them has as many lines.
SENTENCES = [
    "a red circle beside a blue square below some green stars at the left",
    "one striped parallelogram above three dark purple hexagons and a dotted line",
]


@pytest.mark.parametrize(
    "name, width",
    [
        ("contrast", 360),
        ("pair", 1200),
        *(
            pytest.param(name, width, marks=pytest.mark.slow)
            for name, width in (
                ("contrast", 1200),
                ("contrast", 800),
                ("pair", 800),
                ("pair", 360),
            )
        ),
    ],
)
def test_nothing_slides_under_a_still_mouse(show: Show, name: str, width: int) -> None:
    long = text(" ".join(SENTENCES))
    found = {
        "contrast": lambda: contrast(image(), *map(text, SENTENCES)),
        "pair": lambda: pair(image(), long).merge(second=SENTENCES),
    }[name]()
    page = show(found, width=width, height=800)
    items = page.locator(".match:visible")
    assert items.count() >= 4
    for item in items.all()[:8]:
        item.scroll_into_view_if_needed()
        box = item.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 2)
        assert len(page.evaluate(STILL)) == 0
        assert item.bounding_box() == box
    # with a pin, what is pointed at has a line of its own
    page.mouse.move(2, 2)
    page.locator(".picture").first.click(position={"x": 5, "y": 5})
    items.first.scroll_into_view_if_needed()
    box = items.first.bounding_box()
    items.first.hover()
    assert "With " in page.inner_text("#readout")
    assert items.first.bounding_box() == box


def test_by_keyboard_alone(show: Show, found: PairExplanation) -> None:
    page = show(found)
    press = page.keyboard.press

    def focused(asked: str) -> Any:
        return page.evaluate(
            f"(() => {{ const on = document.activeElement; return {asked} }})()"
        )

    for _ in range(20):
        press("Tab")
        if focused("on.getAttribute('role')") == "gridcell":
            break
    assert focused("on.getAttribute('aria-label')").startswith("top left (x 0–10")
    assert focused("getComputedStyle(on).outlineStyle") == "solid"
    for key in ("ArrowDown", "ArrowRight", "ArrowRight"):
        press(key)
    assert focused("on.getAttribute('aria-label')").startswith(
        "centre (x 20–30, y 10–20 px)"
    )
    expected = relative(found.interactions[8, :7])
    np.testing.assert_allclose(shares_of_words(words_of(page)), expected, atol=0.02)
    press("Shift+ArrowDown")
    press("Shift+ArrowRight")
    expected = relative(found.region(box_of([(1, 2), (2, 3)]))[:7])
    np.testing.assert_allclose(shares_of_words(words_of(page)), expected, atol=0.02)
    press("Enter")
    assert page.inner_text("#readout-title") == "Pinned"
    press("Escape")
    press("Tab")  # the class token
    press("Tab")
    assert focused("on.textContent") == "a"
    assert focused("getComputedStyle(on).outlineStyle") == "solid"
    press("ArrowRight")
    press("Shift+ArrowRight")
    press(" ")
    expected = relative(found.phrase("red circle"))
    np.testing.assert_allclose(shares_of_regions(page, (4, 6)), expected, atol=0.01)
    press("End")
    assert focused("on.textContent") == "square"
    assert page.inner_text("#readout-title") == "Pinned"


def kinds() -> dict[str, Any]:
    """A page of every kind."""
    return {
        "image and text": pair(image(), text()),
        "texts": pair(text("a small dog"), text("one puppy plays here")),
        "images": pair(image(), image(seed=1)),
        "sound": pair(sound(), text()),
        "captions": contrast(image(), text("a red dog"), text("a blue dog")),
        "several": [pair(image(), text(f"caption {at}")) for at in range(12)],
        "long": pair(image((1, 1)), text("Donaudampfschifffahrtsgesellschaft" * 4)),
    }


@pytest.mark.parametrize("name", kinds())
def test_a_narrow_window(show: Show, name: str) -> None:
    page = show(kinds()[name], width=360, height=740)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    for part in page.locator(".card, .word, .controls label").all():
        box = part.bounding_box()
        assert box is None or (box["x"] >= 0 and box["x"] + box["width"] <= 360)


def test_touch(show: Show, found: PairExplanation) -> None:
    page = show(found, width=360, height=740, has_touch=True)
    words_of(page).nth(2).tap()
    expected = relative(found.phrase("circle"))
    np.testing.assert_allclose(shares_of_regions(page, (4, 6)), expected, atol=0.01)
    picture = page.locator(".picture")
    picture.tap(position=at_patch(picture, (4, 6), 1, 1))
    expected = relative(found.interactions[7, :7])
    np.testing.assert_allclose(shares_of_words(words_of(page)), expected, atol=0.02)


def test_dark(show: Show, found: PairExplanation) -> None:
    grounds = {}
    for scheme in ("light", "dark"):
        page = show(found, color_scheme=scheme)
        for asked in ("backgroundColor", "color"):
            style = page.evaluate(f"getComputedStyle(document.body).{asked}")
            channels = [int(part) for part in re.findall(r"\d+", style)]
            grounds[scheme, asked] = sum(channels) / 3
    assert grounds["light", "backgroundColor"] > 200 > 60 > grounds["light", "color"]
    assert grounds["dark", "backgroundColor"] < 60 < 200 < grounds["dark", "color"]


def test_reduced_motion(show: Show, found: PairExplanation) -> None:
    still = """Array.from(document.querySelectorAll("*"), (each) => {
      const style = getComputedStyle(each);
      return style.transitionDuration + style.animationDuration;
    }).every((duration) => duration === "0s0s")"""
    assert show(found, reduced_motion="reduce").evaluate(still)


@pytest.mark.parametrize(
    "name, scheme",
    [
        pytest.param(
            name,
            scheme,
            # in the dark only colours are others, of which this one shows all
            marks=(
                ()
                if scheme == "light" or name in ("image and text",)
                else pytest.mark.slow
            ),
        )
        for name in kinds()
        for scheme in ("light", "dark")
    ],
)
def test_axe_finds_nothing(show: Show, axe: str, name: str, scheme: str) -> None:
    page = show(kinds()[name], color_scheme=scheme)
    page.evaluate(axe)
    # in the dark only colours are others; what has to be loaded for a rule (styles that
    # lock the orientation, sounds) is the same in every state
    first, others = "axe.run()", "axe.run({preload: false})"
    if scheme == "dark":
        first = others = "axe.run({runOnly: ['color-contrast']})"
    states = [lambda: None, lambda: page.locator(".picture").first.hover()]
    if name == "texts":
        states.pop()
    states.append(lambda: page.locator(".word").first.click())
    for state in states:
        state()
        found = page.evaluate(others if state is not states[0] else first)
        assert _violations(found) == []
        assert found["passes"]
    page.set_viewport_size({"width": 360, "height": 740})
    assert _violations(page.evaluate(others)) == []


def _violations(found: Any) -> list[str]:
    return [
        f"{rule['id']}: {node['html']} {node['failureSummary']}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


# ---- what is in the file ---------------------------------------------------

HOSTILE = '<script>alert("it\'s")</script> & <!-- </script> \u2028 {{data}} \\u003c'


def test_markup_is_text(show: Show) -> None:
    page = show(pair(image(), text(HOSTILE)))
    shown = page.locator(".words").evaluate("element => element.textContent")
    assert shown == HOSTILE
    assert page.locator("script").count() == 2


def test_without_scripts_the_numbers_are_there(
    show: Show, found: PairExplanation
) -> None:
    page = show([found, pair(image(), text(HOSTILE))], java_script_enabled=False)
    said = page.inner_text("noscript pre")
    assert found.summary() in said and '"it\'s"' in said


def test_nothing_else_can_run(
    browser: Any, found: PairExplanation, tmp_path: Path
) -> None:
    path = write_page(found, tmp_path / "page.html")
    page = browser.new_page()
    page.goto(path.as_uri())
    ran = page.evaluate(
        """async () => {
          const script = document.createElement("script");
          script.textContent = "window.ran = true";
          document.head.append(script);
          const image = new Image();
          image.src = "https://example.org/image.png";
          const loaded = await new Promise((resolve) => {
            image.onload = () => resolve(true);
            image.onerror = () => resolve(false);
          });
          return [Boolean(window.ran), loaded];
        }"""
    )
    assert ran == [False, False]
    page.close()


def test_the_file_names_no_address(found: PairExplanation) -> None:
    assert not re.search(r"https?://|@import|url\(", page_html(found))


MODULES = Path(__file__).parents[2] / "captum_pairs" / "show" / "page"


def test_the_script_is_all_modules_in_one_scope() -> None:
    script = joined_script()
    assert not re.search(r"^(import|export)\b", script, re.MULTILINE)
    for module in MODULES.glob("*.js"):
        text = module.read_text(encoding="utf-8")
        assert script.count(text.split("\n")[0]) == 1, module.name
        assert not re.search(r"^import \{[^}]* as ", text, re.MULTILINE)
    # one scope has no room for two things of a name
    pattern = r"^(?:async )?(?:function|class|const|let) (\w+)"
    names = re.findall(pattern, script, re.MULTILINE)
    assert len(names) == len(set(names)) > 40


def test_modules_that_import_one_another_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    modules = {
        "one.js": 'import { b } from "./two.js";\nexport const a = b;\n',
        "two.js": 'import { a } from "./one.js";\nexport const b = a;\n',
        "three.js": 'import { c } from "./four.js";\nexport const d = c + 1;\n',
        "four.js": "export const c = 1;\n",
    }
    monkeypatch.setattr(_script, "part", modules.__getitem__)
    with pytest.raises(ImportError, match="one imports two imports one"):
        joined_script.__wrapped__("one")
    script = joined_script.__wrapped__("three")
    assert script.index("const c = 1;") < script.index("const d = c + 1;")


def test_inputs_are_kept_once() -> None:
    side = image((24, 24), (240, 240))
    several = [pair(side, text(f"caption {at}")) for at in range(8)]
    content = _content(page_html(several))
    assert len(content["pictures"]) == 1
    assert len(content["sides"]) == 9


def _content(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)
    assert found
    return json.loads(found.group(1))


def test_what_can_not_be_shown(found: PairExplanation, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="explanations.*none"):
        page_html([])
    with pytest.raises(InvalidArgumentError, match="explanations.*int"):
        page_html([found, 3])  # type: ignore[list-item]
    table = found.interactions.clone()
    table[3, 1] = float("nan")
    with pytest.raises(InvalidArgumentError, match="finite"):
        write_page(replace(found, interactions=table), tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_methods_write_the_page(found: PairExplanation, tmp_path: Path) -> None:
    path = found.page(tmp_path / "new" / "out.html")
    assert path.read_text(encoding="utf-8") == page_html(found)
    both = contrast(image(), text("a red dog"), text("a blue dog"))
    assert both.page(tmp_path / "both.html").stat().st_size > 1000


def test_half_a_character_does_no_harm(tmp_path: Path) -> None:
    found = pair(image(), text("half \ud83d dog"))
    write_page(found, tmp_path / "page.html")
    assert "srcdoc" in found._repr_html_()


# ---- large, and in notebooks -----------------------------------------------


def test_a_large_table(show: Show) -> None:
    words = " ".join(f"word{at}" for at in range(64))
    found = pair(image((24, 24), (336, 336)), text(words, special=()))
    html = page_html(found)
    pictures = sum(map(len, _content(html)["pictures"]))
    print(f"576 x 64: {(len(html) - pictures) / 1000:.0f} kB beside the picture")
    assert len(html) - pictures < 300_000
    page = show(found)
    words_of(page).nth(40).hover()
    expected = relative(found.phrase("word40"))
    np.testing.assert_allclose(shares_of_regions(page, (24, 24)), expected, atol=0.01)
    picture = page.locator(".picture")
    picture.hover(position=at_patch(picture, (24, 24), 11, 17))
    values = found.interactions[11 * 24 + 17]
    np.testing.assert_allclose(
        shares_of_words(words_of(page)), relative(values), atol=0.02
    )


def test_small_numbers_of_large_tables_are_kept(show: Show) -> None:
    words = " ".join(f"word{at}" for at in range(64))
    found = pair(image((24, 24), (336, 336)), text(words, special=()))
    table = found.interactions.clone()
    table[:, 3] *= 1e-4
    page = show(replace(found, interactions=table))
    words_of(page).nth(3).hover()
    expected = relative(found.phrase("word3"))
    np.testing.assert_allclose(shares_of_regions(page, (24, 24)), expected, atol=0.03)
