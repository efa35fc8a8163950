"""What a transform does to a picture that shows its own coordinates."""

from collections.abc import Callable

import numpy as np
from captum_pairs.models import View
from PIL import Image
from torch import Tensor

__all__ = ["check_view"]


def check_view(
    transform: Callable[[Image.Image], Tensor], view: View, size: tuple[int, int]
) -> None:
    """
    Compare a view with what a transform without normalisation does.

    Args:
        transform: an RGB picture to (3, h, w) in [0, 1]; what it fills in is black.
        view: what it is said to do to an image of this size.
        size: (width, height).
    """
    width, height = size
    # red says the column, green the row, and blue that it is a part of the picture
    across = np.broadcast_to(np.linspace(55, 255, width), (height, width))
    down = np.broadcast_to(np.linspace(55, 255, height)[:, None], (height, width))
    full = np.full((height, width), 255.0)
    picture = np.stack([across, down, full], 2).round().astype(np.uint8)
    pixels = transform(Image.fromarray(picture)).double().numpy()
    assert view.processed == (pixels.shape[2], pixels.shape[1])
    left, top, right, bottom = (
        round(edge) for edge in view.to_processed((0, 0, width, height))
    )
    inside = np.zeros(pixels.shape[1:], dtype=bool)
    inside[max(top, 0) : bottom, max(left, 0) : right] = True
    assert inside.any()
    np.testing.assert_array_equal(pixels[2] == 1, inside)
    np.testing.assert_array_equal(pixels[2] == 0, ~inside)
    rows, columns = np.nonzero(inside)
    for channel, (places, side) in enumerate(((columns, width), (rows, height))):
        scale, offset = view.scale[channel], view.offset[channel]
        expected = (places + 0.5 - offset) / scale - 0.5
        found = (255 * pixels[channel][rows, columns] - 55) / 200 * (side - 1)
        # a resize has only one side to look at near the edges
        inner = (expected > 1 / scale + 1) & (expected < side - 2 - 1 / scale)
        assert inner.any()
        # in processed pixels; levels of 8 bits are averaged out
        assert abs(np.mean(found[inner] - expected[inner])) * scale < 0.2
