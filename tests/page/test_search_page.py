"""The page of a search in a real browser: hits, and two of them side by side."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from captum_pairs.search.explained import ExplainedHits
from captum_pairs.search.hits import Hit
from captum_pairs.show.page import page_html
from explanations import image, pair, text
from test_page import relative, shares_of_regions, shares_of_words, signed, words_of

Show = Callable[..., Any]
HOSTILE = '<script>alert("it\'s")</script> & <!-- </style> \u2028 {{body}} x.png'
NAMES = ("a red dog.png", HOSTILE, "third.png")


def hits_of(names: tuple[str, ...] = NAMES) -> ExplainedHits:
    """Images that a text found."""
    hits = [Hit(at + 1, 0.5 - at / 10, name, at) for at, name in enumerate(names)]
    asked = text()
    found = [pair(image(seed=at), asked, seed=at) for at in range(len(names))]
    return ExplainedHits(tuple(hits), tuple(found), "second")


def of_texts() -> ExplainedHits:
    """Texts that an image found."""
    words = ("a red circle", f"a blue {HOSTILE}", "two squares")
    hits = [Hit(at + 1, 0.5 - at / 10, words[at], at) for at in range(3)]
    asked = image()
    found = [pair(asked, text(each), seed=at) for at, each in enumerate(words)]
    return ExplainedHits(tuple(hits), tuple(found), "first")


def compare(page: Any, *ticked: int) -> None:
    for at in ticked:
        page.locator(".tick input").nth(at).check()
    page.click("#compare")


def test_two_hits_that_are_picked(show: Show) -> None:
    found = hits_of()
    page = show(found)
    # each hit with its map
    assert page.locator(".entry").count() == 3
    words_of(page).nth(1).hover()
    expected = relative(found[0].interactions[:24, 1].reshape(4, 6))
    np.testing.assert_allclose(shares_of_regions(page, (4, 6)), expected, atol=0.01)
    # by keyboard: two boxes, and what they have before one another
    assert page.locator("#compare").is_disabled()
    page.locator(".tick input").nth(2).focus()
    page.keyboard.press("Space")
    assert page.inner_text("#compared") == "Tick one more"
    page.locator(".tick input").nth(0).focus()
    page.keyboard.press("Space")
    page.locator("#compare").focus()
    page.keyboard.press("Enter")
    why = found.why(0, 2)
    heading = page.inner_text("#heading")
    assert "a red dog.png" in heading and "third.png" in heading
    assert page.inner_text("#score") == signed(why.difference)
    # what decided, in its order, and a word is selected in both
    listed = page.locator("#changes .number").all_inner_texts()
    assert listed == [signed(each.value) for each in why.decided]
    assert page.inner_text("#changes-title") == "What decided"
    page.locator("#changes .match").first.click()
    (index,) = why.decided[0].features
    for at, each in enumerate((found[0], found[2])):
        values = each.interactions[:24, index].reshape(4, 6)
        shares = shares_of_regions(page, (4, 6), at)
        most = max(
            float(e.interactions[:24, index].abs().max()) for e in (found[0], found[2])
        )
        np.testing.assert_allclose(shares, (values / most).numpy(), atol=0.01)
    # the address keeps it, and a hit is come back to
    assert "compare=1.3" in page.url
    page.reload()
    assert page.inner_text("#heading") == heading
    page.locator(".entry").nth(1).click()
    assert HOSTILE.split()[0] in page.inner_text("#heading")
    assert "compare" not in page.url


@pytest.mark.slow
def test_a_third_one_takes_the_place_of_the_first(show: Show) -> None:
    page = show(hits_of())
    compare(page, 0, 1)
    page.locator(".tick input").nth(2).check()
    ticked = [box.is_checked() for box in page.locator(".tick input").all()]
    assert ticked == [False, True, True]
    page.locator(".tick input").nth(1).uncheck()
    assert page.locator("#compare").is_disabled()


@pytest.mark.slow
def test_texts_of_an_image_word_by_word(show: Show) -> None:
    found = of_texts()
    page = show(found)
    compare(page, 0, 2)
    changes = found.why(0, 2).contrast.changes()
    assert page.inner_text("#changes-title") == "Word by word"
    listed = page.locator("#changes .number").all_inner_texts()
    assert listed == [signed(change.total) for change in changes]
    assert shares_of_words(words_of(page, 0)).any()


def test_texts_of_a_text() -> None:
    """Both are texts: which is the query is said, and texts are quoted in sentences."""
    words, asked = ("A dog.", "Two cats."), text("a red dog")
    hits = tuple(Hit(at + 1, 0.5 - at / 10, words[at], at) for at in range(2))
    for side in ("first", "second"):
        both = [(text(each), asked)[:: -1 if side == "first" else 1] for each in words]
        found = tuple(pair(*each, seed=at) for at, each in enumerate(both))
        written = page_html(ExplainedHits(hits, found, side))
        content = json.loads(written.split('id="data">')[1].split("</script>")[0])
        names = ["The query", "The hit"][:: 1 if side == "first" else -1]
        assert [entry["pairs"][0]["names"] for entry in content["entries"]] == [
            names
        ] * 2
        (compared,) = content["compared"]
        said = re.sub("[\u2068\u2069]", "", compared["entry"]["label"])
        assert said == "Why 1. “A dog.” rather than 2. “Two cats.”?"
        assert "In the query, which shows the difference" in compared["entry"]["key"]
    why = ExplainedHits(hits, found, side).why(1, 0)
    where = "above" if why.difference > 0 else "below"
    assert why.summary().startswith(f"2. “Two cats.” is {where} 1. “A dog.” by ")
    # of an image and a text both are told by what they are
    assert '"The query"' not in page_html(hits_of())


def test_what_the_page_is_made_of() -> None:
    written = page_html(hits_of())
    assert "<script>alert" not in written
    assert "\u2028" not in written.split('id="data">')[1]
    assert "&lt;script&gt;alert" in written  # without scripts, as words
    more = hits_of(tuple(f"{at}.png" for at in range(22)))
    many = ExplainedHits(more.hits, more.explanations, "second")
    assert page_html(many).count('"titles":') == 20 * 19 // 2
    # one alone is compared with none
    one = replace(many, hits=many.hits[:1], explanations=many.explanations[:1])
    assert '"compared":[]' in page_html(one)


@pytest.mark.slow
def test_without_scripts(show: Show) -> None:
    page = show(hits_of(), java_script_enabled=False)
    said = page.inner_text("body")
    assert "3 hits of" in said and "is below 2." in said and HOSTILE.split()[0] in said


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_a_search(
    show: Show, axe: str, width: int, scheme: str
) -> None:
    page = show(hits_of(), width, color_scheme=scheme)
    page.evaluate(axe)
    for ticked in ((), (0, 1)):
        if ticked:
            compare(page, *ticked)
        found = page.evaluate("axe.run({preload: false})")
        assert [(r["id"], r["nodes"][0]["html"]) for r in found["violations"]] == []
        assert page.evaluate("document.documentElement.scrollWidth") == width
        small = page.evaluate(
            "[...document.querySelectorAll('.tick')].filter(tick => {"
            "const {width, height} = tick.getBoundingClientRect();"
            "return Math.min(width, height) < 24}).length"
        )
        assert small == 0


@pytest.mark.slow
def test_a_picture_of_both(show: Show, tmp_path: Path) -> None:
    page = show(hits_of())
    compare(page, 0, 1)
    with page.expect_download() as download:
        page.click("#save-picture")
    assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")
