"""The pointing game: does an attribution point at the object that it should?

An attribution is a grid of cells that covers an image evenly (patches, places in a
feature map, pixels). An object's region is given at the image's resolution, as a box
or as a mask, and holds the cells whose centres lie in it.

Notation: b objects, one map each; (h, w) the grid; (H, W) the image in pixels.
"""

import torch
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.attr._utils.validation import describe, pair_of, positive_int
from torch import Tensor

__all__ = [
    "pointing_game_accuracy",
    "pointing_game_chance",
    "pointing_game_energy",
]


def pointing_game_accuracy(
    attributions: Tensor,
    boxes: Tensor | None = None,
    masks: Tensor | None = None,
    image_size: tuple[int, int] | None = None,
) -> Tensor:
    r"""Whether the strongest cell of each map lies in its object.

    The measure of Zhang et al., "Top-down Neural Attention by Excitation Backprop"
    (ECCV 2016, https://arxiv.org/abs/1608.00507), without a tolerance around the
    object; PGA in Möller et al. (TMLR 2025, https://arxiv.org/abs/2408.14153).

    Args:
        attributions: (b, h, w), floating.
        boxes: (b, 4): left, top, right and bottom in pixels from the image's upper left
            corner, right and bottom exclusive. Either boxes or masks.
        masks: (b, H, W), bool.
        image_size: (H, W) in pixels; needed with boxes, known with masks.

    Returns:
        (b,), in the dtype of the attributions: 1 for a hit, 0 for a miss. Cells that
        tie for the maximum count by the share of them that hit, so that a constant map
        scores its chance. The mean over objects is the accuracy.

    Raises:
        InvalidArgumentError: for anything else than the above, and for attributions
            that are not finite.

    Examples::

        >>> # a patch model: 64 patches of 8 x 8 pixels
        >>> hits = pointing_game_accuracy(
        ...     attributions.unflatten(-1, (8, 8)), boxes, image_size=(64, 64)
        ... )
        >>> accuracy = hits.mean()
    """
    inside = _cells_inside(attributions, boxes, masks, image_size)
    strongest = attributions == attributions.amax((1, 2), keepdim=True)
    hits = (strongest & inside).sum((1, 2)) / strongest.sum((1, 2))
    return hits.to(attributions.dtype)


def pointing_game_energy(
    attributions: Tensor,
    boxes: Tensor | None = None,
    masks: Tensor | None = None,
    image_size: tuple[int, int] | None = None,
) -> Tensor:
    r"""The share of each map's positive attribution that lies in its object.

    The energy-based pointing game of Wang et al., "Score-CAM" (CVPR workshops 2020,
    https://arxiv.org/abs/1910.01279); PGE in Möller et al. (TMLR 2025,
    https://arxiv.org/abs/2408.14153).

    Args:
        attributions, boxes, masks, image_size: as for
            :func:`pointing_game_accuracy`.

    Returns:
        (b,), in the dtype of the attributions, from 0 to 1; 0 for a map without
        positive attribution.

    Raises:
        InvalidArgumentError: as :func:`pointing_game_accuracy`.
    """
    inside = _cells_inside(attributions, boxes, masks, image_size)
    positive = attributions.clamp(min=0)
    total = positive.sum((1, 2))
    share = (positive * inside).sum((1, 2)) / total
    return torch.where(total > 0, share, torch.zeros_like(share))


def pointing_game_chance(
    attributions: Tensor,
    boxes: Tensor | None = None,
    masks: Tensor | None = None,
    image_size: tuple[int, int] | None = None,
) -> Tensor:
    r"""What a map that knows nothing scores: the share of cells in each object.

    It is the expected accuracy of a cell chosen at random, and the energy of a map that
    is the same everywhere.

    Args:
        attributions, boxes, masks, image_size: as for
            :func:`pointing_game_accuracy`; only the attributions' shape matters.

    Returns:
        (b,), in the dtype of the attributions, from 0 to 1.

    Raises:
        InvalidArgumentError: as :func:`pointing_game_accuracy`.
    """
    inside = _cells_inside(attributions, boxes, masks, image_size)
    return inside.to(attributions.dtype).mean((1, 2))


def _cells_inside(
    attributions: Tensor,
    boxes: Tensor | None,
    masks: Tensor | None,
    image_size: tuple[int, int] | None,
) -> Tensor:
    """(b, h, w), bool: the cells whose centres lie in the object."""
    _check_attributions(attributions)
    for name, given in (("boxes", boxes), ("masks", masks)):
        if given is not None:
            _check_tensor(name, given)
    if masks is not None and boxes is None:
        return _inside_masks(attributions, masks, image_size)
    if boxes is not None and masks is None:
        return _inside_boxes(attributions, boxes, image_size)
    raise InvalidArgumentError(
        "boxes", "either boxes or masks", "none" if boxes is None else "both"
    )


def _inside_boxes(
    attributions: Tensor, boxes: Tensor, image_size: tuple[int, int] | None
) -> Tensor:
    b, h, w = attributions.shape
    if boxes.shape != (b, 4) or boxes.is_complex() or boxes.dtype == torch.bool:
        raise InvalidArgumentError(
            "boxes", f"numbers of shape ({b}, 4), one box for each map", describe(boxes)
        )
    if image_size is None:
        raise InvalidArgumentError(
            "image_size", "(height, width), since there are boxes", "None"
        )
    height, width = _checked_size(image_size)
    boxes = boxes.to(attributions.device, torch.float64)
    left, top, right, bottom = boxes[:, :, None].unbind(1)  # each (b, 1)
    if not bool(((left < right) & (top < bottom)).all()):
        raise InvalidArgumentError(
            "boxes", "left < right and top < bottom", "others among them"
        )
    x = _centers(w, width, attributions.device)
    y = _centers(h, height, attributions.device)
    columns = (left <= x) & (x < right)  # (b, w)
    rows = (top <= y) & (y < bottom)  # (b, h)
    return rows[:, :, None] & columns[:, None, :]


def _inside_masks(
    attributions: Tensor, masks: Tensor, image_size: tuple[int, int] | None
) -> Tensor:
    b, h, w = attributions.shape
    if masks.ndim != 3 or len(masks) != b or masks.dtype != torch.bool:
        raise InvalidArgumentError(
            "masks",
            f"bool of shape ({b}, height, width), one for each map",
            describe(masks),
        )
    if image_size is not None and _checked_size(image_size) != masks.shape[1:]:
        raise InvalidArgumentError(
            "image_size",
            f"that of the masks, {tuple(masks.shape[1:])}",
            f"{image_size}",
        )
    height, width = masks.shape[1:]
    rows = _centers(h, height, masks.device).long()
    columns = _centers(w, width, masks.device).long()
    return masks[:, rows[:, None], columns].to(attributions.device)


def _centers(cells: int, pixels: int, device: torch.device) -> Tensor:
    """The cells' centres along one side, in pixels."""
    index = torch.arange(cells, dtype=torch.float64, device=device)
    return (index + 0.5) * (pixels / cells)


def _check_tensor(name: str, value: object) -> None:
    if not isinstance(value, Tensor) or value.is_meta or value.layout != torch.strided:
        raise InvalidArgumentError(name, "a dense tensor", describe(value))


def _check_attributions(attributions: Tensor) -> None:
    _check_tensor("attributions", attributions)
    shape = tuple(attributions.shape)
    if attributions.ndim != 3 or not attributions.is_floating_point():
        raise InvalidArgumentError(
            "attributions",
            "floating, of shape (objects, height, width)",
            describe(attributions),
        )
    if attributions.numel() == 0:
        raise InvalidArgumentError("attributions", "at least one", f"shape {shape}")
    if not bool(attributions.isfinite().all()):
        raise InvalidArgumentError("attributions", "finite ones", "NaN or infinity")


def _checked_size(image_size: tuple[int, int]) -> tuple[int, int]:
    height, width = pair_of("image_size", image_size)
    return positive_int("image_size", height), positive_int("image_size", width)
