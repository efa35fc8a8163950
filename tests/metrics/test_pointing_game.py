"""The pointing game on maps small enough to score by hand."""

import pytest
import torch
from captum_pairs.metrics import (
    pointing_game_accuracy,
    pointing_game_chance,
    pointing_game_energy,
)
from torch import Tensor

# Two maps of 2 x 3 cells over an image of 4 x 6 pixels: each cell is 2 x 2 pixels and
# its centre lies on a pixel's corner, x in (1, 3, 5), y in (1, 3).
MAPS = torch.tensor(
    [[[1.0, 2.0, -3.0], [4.0, 0.0, 1.0]], [[0.5, 1.5, -9.0], [0.0, -1.0, 2.0]]]
)
# the left column; the right column but for the upper cell's centre
BOXES = torch.tensor([[0, 0, 2, 4], [4, 2, 6, 4]])


def _masks() -> Tensor:
    masks = torch.zeros(2, 4, 6, dtype=torch.bool)
    masks[0, :, :2] = True
    masks[1, 2:, 4:] = True
    return masks


def test_accuracy_of_boxes() -> None:
    hits = pointing_game_accuracy(MAPS, BOXES, image_size=(4, 6))
    assert hits.tolist() == [1.0, 1.0]
    missed = pointing_game_accuracy(MAPS, BOXES.flip(0), image_size=(4, 6))
    assert missed.tolist() == [0.0, 0.0]


def test_energy_of_boxes() -> None:
    energy = pointing_game_energy(MAPS, BOXES, image_size=(4, 6))
    assert energy.tolist() == [5 / 8, 2 / 4]


def test_chance() -> None:
    chance = pointing_game_chance(MAPS.double(), BOXES, image_size=(4, 6))
    assert chance.tolist() == [2 / 6, 1 / 6]


@pytest.mark.parametrize(
    "metric", [pointing_game_accuracy, pointing_game_energy, pointing_game_chance]
)
def test_masks_agree_with_boxes(metric) -> None:  # type: ignore[no-untyped-def]
    of_boxes = metric(MAPS, BOXES, image_size=(4, 6))
    assert torch.equal(metric(MAPS, masks=_masks()), of_boxes)
    assert torch.equal(metric(MAPS, masks=_masks(), image_size=(4, 6)), of_boxes)


def test_box_edges_are_half_open() -> None:
    # the strongest cell's centre is at x = 1, y = 3
    maps = MAPS[:1]
    for box, hit in [([1, 3, 2, 4], 1.0), ([0, 3, 1, 4], 0.0), ([1, 2, 2, 3], 0.0)]:
        hits = pointing_game_accuracy(maps, torch.tensor([box]), image_size=(4, 6))
        assert hits.tolist() == [hit], box


def test_ties_count_by_their_share() -> None:
    constant = torch.zeros(2, 2, 3)
    hits = pointing_game_accuracy(constant, BOXES, image_size=(4, 6))
    assert torch.equal(hits, pointing_game_chance(constant, BOXES, image_size=(4, 6)))


def test_no_positive_attribution_has_no_energy() -> None:
    energy = pointing_game_energy(-MAPS.abs(), BOXES, image_size=(4, 6))
    assert energy.tolist() == [0.0, 0.0]


def test_object_between_centers_has_no_chance() -> None:
    box = torch.tensor([[1.5, 0.0, 2.5, 4.0]])
    assert pointing_game_chance(MAPS[:1], box, image_size=(4, 6)).item() == 0
    assert pointing_game_accuracy(MAPS[:1], box, image_size=(4, 6)).item() == 0


def test_dtype_is_kept() -> None:
    for metric in (pointing_game_accuracy, pointing_game_energy, pointing_game_chance):
        assert metric(MAPS.double(), BOXES, image_size=(4, 6)).dtype == torch.float64


@pytest.mark.parametrize(
    "change, message",
    [
        ({"attributions": MAPS[0]}, "attributions"),
        ({"attributions": MAPS.long()}, "attributions"),
        ({"attributions": MAPS[:, :0]}, "attributions"),
        ({"attributions": MAPS / 0}, "finite"),
        ({"boxes": None}, "either boxes or masks"),
        ({"masks": _masks()}, "either boxes or masks"),
        ({"boxes": BOXES[:1]}, "boxes"),
        ({"boxes": BOXES > 2}, "boxes"),
        ({"boxes": BOXES[:, [2, 1, 0, 3]]}, "left < right"),
        ({"image_size": None}, "image_size"),
        ({"image_size": (0, 6)}, "image_size"),
        ({"boxes": None, "masks": _masks()[:1]}, "masks"),
        ({"boxes": None, "masks": _masks().long()}, "masks"),
        ({"boxes": None, "masks": _masks(), "image_size": (6, 4)}, "image_size"),
    ],
)
def test_bad_input(change: dict[str, object], message: str) -> None:
    good = {"attributions": MAPS, "boxes": BOXES, "image_size": (4, 6)}
    for metric in (pointing_game_accuracy, pointing_game_energy, pointing_game_chance):
        with pytest.raises(ValueError, match=message):
            metric(**(good | change))  # type: ignore[arg-type]
