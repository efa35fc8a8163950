"""Numbers and phrases in words."""

from dataclasses import replace
from typing import Any

import pytest
from captum_pairs import Contrast, PairExplanation
from captum_pairs.models import Head
from captum_pairs.show import wording
from test_results import explanation, image, text


@pytest.fixture
def found() -> PairExplanation:
    return explanation("a red dot")


def test_numbers_for_a_terminal_and_for_paper() -> None:
    assert wording.plain(-0.1234) == "-0.123" and wording.plain(2, 1) == "+2.0"
    assert wording.signed(-0.1234) == "−0.123" and wording.signed(2, 1) == "+2.0"
    assert float(wording.plain(-0.5)) == -0.5
    assert wording.small(0.00042) == "4e-04" and wording.small(0.0) == "0"
    said = "miss it by 4e-04 (-0.5, block -1), 10-fold, grade-3"
    expected = "miss it by 4e−4 (−0.5, block −1), 10-fold, grade-3"
    assert wording.typeset(said) == expected


@pytest.mark.parametrize(
    "words, expected",
    [
        (("red", "blue"), "“red” instead of “blue”"),
        (("Red", "red"), "“Red”"),
        (("red", ""), "“red” instead of nothing"),
        (("", "blue"), "nothing instead of “blue”"),
    ],
)
def test_words_in_the_same_place(words: tuple[str, str], expected: str) -> None:
    assert wording.instead_of(*words) == expected


def test_words_that_are_read_in_the_other_direction_keep_to_themselves() -> None:
    said = wording.instead_of("אדום", "blue", wording.isolated("{}"))
    assert said == "“\u2068אדום\u2069” instead of “\u2068blue\u2069”"


def test_what_it_is_about(found: PairExplanation) -> None:
    assert wording.subject(found) == ["“a red dot”"]
    phrase = replace(found.second, features=found.second.features[1:2])
    assert wording.subject(replace(found, second=phrase)) == ["“red” in “a red dot”"]
    texts = replace(found, first=text("a dog"))
    assert wording.subject(texts) == ["“a dog”", "“a red dot”"]
    images = replace(found, second=image())
    assert wording.subject(images) == ["two images"]
    larger = replace(image().source, size=(60, 40))
    images = replace(found, second=replace(image(), source=larger))
    both = "image of 30 x 20 px and image of 60 x 40 px"
    assert wording.subject(images) == [both]


def test_what_is_asked(found: PairExplanation) -> None:
    texts = Contrast(found, explanation("a blue dot"), "first")
    assert wording.question(texts) == ["“a red dot”", "rather than “a blue dot”"]
    images = Contrast(found, found, "second")
    expected = "Why the preferred image rather than the other one for “a red dot”?"
    assert wording.question(images) == [expected]


def test_the_models_own_scores(found: PairExplanation) -> None:
    assert wording.logits(found) == [("logits_per_image", 10 * found.score)]
    assert wording.logits(replace(found, heads=(Head(),))) == []


def test_lines_of_a_sum() -> None:
    parts = {"pairs": -0.5, "the text": 0.25, "error of it": -0.0004}
    lines = ["  = -0.500 pairs", "    +0.250 the text", "    -4e-04 error of it"]
    assert list(wording.parts(parts)) == lines


def test_where_it_began_and_how_complete_it_is(found: PairExplanation) -> None:
    first = replace(found.first, residual=0.0004)
    made: Any = replace(found, first=first, convergence_delta=-0.0003)
    assert wording.path(first, made.method) == "layer, from black, 4 steps"
    assert wording.completeness(made) == (
        "the parts miss the score by 3e-04; path residuals 4e-04 (image) and 0 (text), "
        "within the tolerance 0.01"
    )
    above = replace(made, tolerance=1e-4)
    assert "ABOVE the tolerance 0.0001" in wording.completeness(above)
    sides = [replace(side, n_steps=0) for side in (made.first, made.second)]
    other = replace(made, first=sides[0], second=sides[1], method="jacobian_x_input")
    assert wording.completeness(other) == ""
    assert wording.path(sides[0], other.method) == "layer, from black, jacobian x input"
