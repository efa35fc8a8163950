"""Phrases' maps are those of explain; an object's cells are those that lie in it."""

from typing import Any

import numpy as np
import pytest
import torch
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.grounding.maps import (
    contributions_of,
    embedding_of,
    maps_of,
    phrase_vector,
    phrases_of,
)
from captum_pairs.model import DualEncoder
from grounding_rows import CAPTION, grid, picture


def test_phrases_are_read_as_explain_does(model: DualEncoder) -> None:
    image = picture(1)
    # a rule that is named takes the same steps for some of the words as for all
    options: dict[str, Any] = {"settings": {"method": "gausslegendre"}}
    kept = contributions_of(model, CAPTION, options)
    vectors = [phrase_vector(kept, each) for each in ((0, 10), (4, 10), (12, 18))]
    maps = maps_of(model, image, kept, vectors, options)
    whole = model.explain(image, CAPTION, **options)
    for at, phrase in enumerate(("red circle", "circle", "square")):
        expected = whole.phrase(phrase)
        torch.testing.assert_close(
            torch.from_numpy(maps.values[at]).reshape(5, 5).float(), expected
        )
        alone = model.explain(image, CAPTION, phrase=phrase, **options)
        assert alone.second_effects is not None
        assert maps.effects[at] == pytest.approx(float(alone.second_effects), abs=1e-5)
        total = float(alone.interactions.sum())
        assert maps.totals[at] == pytest.approx(total, abs=1e-5)
    assert whole.first_effects is not None
    assert maps.score == pytest.approx(whole.score, abs=1e-5)
    assert maps.constant == pytest.approx(whole.constant, abs=1e-5)
    assert maps.image_effect == pytest.approx(
        float(whole.first_effects.sum()), abs=1e-5
    )
    assert maps.grid == (5, 5) and maps.size == (20, 20)
    embedded = embedding_of(model, 0, image) @ embedding_of(model, 1, CAPTION)
    assert float(embedded) == pytest.approx(whole.score, abs=1e-5)


@pytest.mark.parametrize(
    "options",
    [{"settings": {"method": "gausslegendre"}}, {"method": "occlusion"}],
    ids=["integrated", "occlusion"],
)
def test_phrases_alone_are_sums_of_their_words(
    model: DualEncoder, options: dict[str, Any]
) -> None:
    every = contributions_of(model, CAPTION, options)
    asked = [(0, 10), (4, 10), (12, 18), (0, 18)]
    kept, vectors = phrases_of(model, CAPTION, asked, options)
    for offsets, vector in zip(asked, vectors):
        torch.testing.assert_close(vector, phrase_vector(every, offsets))
    # "red", "circle", "square", the comma between them, and the special tokens
    assert len(kept.values) == 5 < len(every.values)
    torch.testing.assert_close(kept.values.sum(0), every.values.sum(0))
    assert kept.input.residual == every.input.residual
    maps = maps_of(model, picture(1), kept, vectors, options)
    others = [phrase_vector(every, offsets) for offsets in asked]
    np.testing.assert_allclose(
        maps.values,
        maps_of(model, picture(1), every, others, options).values,
        atol=1e-6,
    )
    with pytest.raises(InvalidArgumentError, match="phrase: .*explained"):
        phrases_of(model, CAPTION, [(0, 10), (3, 4)], options)


def test_a_phrase_without_words_is_refused(model: DualEncoder) -> None:
    kept = contributions_of(model, "red, circle", {})
    with pytest.raises(InvalidArgumentError, match="phrase: expected words"):
        phrase_vector(kept, (4, 5))  # the space


def test_cells_of_boxes_and_masks_are_counted_pixel_by_pixel() -> None:
    maps = grid(3, 4)
    rng = np.random.default_rng(0)
    for _ in range(20):
        left, top = rng.integers(0, 11), rng.integers(0, 9)
        right, bottom = rng.integers(left + 1, 17), rng.integers(top + 1, 13)
        boxes = ((left, top, right, bottom), (2, 3, 5, 9))
        pixels = np.zeros((12, 16), dtype=bool)
        for x1, y1, x2, y2 in boxes:
            pixels[y1:y2, x1:x2] = True
        share = pixels.reshape(3, 4, 4, 4).mean((1, 3)).ravel()
        centers = pixels[2::4, 2::4].ravel()
        for regions in (boxes, (pixels,)):
            np.testing.assert_allclose(maps.overlap(regions), share)
            np.testing.assert_array_equal(maps.inside(regions), centers)
        mixed = (pixels, (0, 0, 1, 1))
        assert maps.overlap(mixed)[0] == max(share[0], (16 * share[0] + 1) / 16) or (
            pixels[0, 0] and maps.overlap(mixed)[0] == share[0]
        )


def test_padding_lies_nowhere_and_the_view_may_be_a_part() -> None:
    boxes = grid(2, 2).boxes.copy()
    boxes[3] = np.nan
    maps = grid(2, 2, boxes=boxes, view=(0.0, 0.0, 4.0, 8.0))
    everything = ((0.0, 0.0, 8.0, 8.0),)
    assert maps.overlap(everything).tolist() == [1, 1, 1, 0]
    assert maps.inside(everything).tolist() == [True, True, True, False]
    assert maps.inside((np.ones((8, 8), dtype=bool),)).tolist()[3] is False
    assert maps.share_in_view(everything) == 0.5
    assert maps.share_in_view(((4.0, 0.0, 8.0, 8.0),)) == 0
    assert maps.share_in_view(((2.0, 0.0, 6.0, 8.0),)) == 0.5
    with pytest.raises(InvalidArgumentError, match="masks of the image's shape"):
        maps.overlap((np.ones((4, 4), dtype=bool),))
