"""Drawing scenes: signed distances give antialiased edges and exact masks."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from captum_pairs.scenes.arguments import check
from captum_pairs.scenes.scene import Background, Scene, SceneObject
from numpy.typing import NDArray

__all__ = ["Rendering", "render", "visible_shares"]

Floats = NDArray[np.float32]
# Pixels of a side.
_LARGEST = 2**14


@dataclass(frozen=True)
class Rendering:
    """A drawn scene.

    Args:
        image: (height, width, 3), uint8.
        masks: (objects, height, width), bool: the pixels at which the object is seen,
            that is, covers at least half of the pixel and no later one does.
        boxes: (objects, 4), int64: left, top, right and bottom in pixels, the tight
            box around the mask; right and bottom are exclusive.
    """

    image: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    boxes: NDArray[np.int64]


def render(scene: Scene, image_size: int = 64) -> Rendering:
    """Draws a scene on image_size × image_size pixels.

    Raises:
        ValueError: if image_size is less than 32 pixels, too few to see a shape, or no
            size of an image.
    """
    _check_size(scene, image_size)
    image = _draw_background(scene.background, image_size)  # (h, w, 3)
    owner = np.full((image_size, image_size), -1, dtype=np.int8)
    for index, item in enumerate(scene.objects):
        rows, columns = _window(item, image_size)
        coverage = _coverage(item, image_size, rows, columns)
        color = np.asarray(item.rgb, dtype=np.float32)
        patch = image[rows, columns]
        patch += coverage[..., None] * (color - patch)
        owner[rows, columns][coverage >= 0.5] = index
    masks = owner[None] == np.arange(len(scene.objects), dtype=np.int8)[:, None, None]
    pixels = (image.clip(0, 1) * 255 + 0.5).astype(np.uint8)
    return Rendering(pixels, masks, np.stack([_tight_box(mask) for mask in masks]))


def _check_size(scene: Scene, image_size: int) -> None:
    check(scene=(scene, Scene), image_size=(image_size, int))
    if not 32 <= image_size <= _LARGEST:
        raise ValueError(
            f"image_size must be at least 32 pixels and at most {_LARGEST}, "
            f"got {image_size}"
        )


def visible_shares(scene: Scene, image_size: int = 64) -> NDArray[np.float64]:
    """
    Of each object the share of its pixels that no later object covers, (objects,).

    Raises:
        ValueError: as :func:`render`.
    """
    _check_size(scene, image_size)
    whole = (slice(None), slice(None))
    own = np.stack(
        [_coverage(item, image_size, *whole) >= 0.5 for item in scene.objects]
    )
    hidden = np.zeros((image_size, image_size), dtype=bool)
    shares = np.zeros(len(own))
    for index in range(len(own) - 1, -1, -1):
        shares[index] = (own[index] & ~hidden).sum() / own[index].sum()
        hidden |= own[index]
    return shares


def _tight_box(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    columns = np.flatnonzero(mask.any(axis=0))
    rows = np.flatnonzero(mask.any(axis=1))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def _window(item: SceneObject, image_size: int) -> tuple[slice, slice]:
    """The rows and columns that the object can touch, rotated as it may be."""
    reach = 0.75 * item.diameter * image_size + 1
    x, y = (value * image_size for value in item.center)
    rows = slice(max(int(y - reach), 0), min(int(y + reach) + 1, image_size))
    columns = slice(max(int(x - reach), 0), min(int(x + reach) + 1, image_size))
    return rows, columns


def _coverage(
    item: SceneObject, image_size: int, rows: slice, columns: slice
) -> Floats:
    """The share of each pixel of the window that the object covers, about."""
    centers = _pixel_centers(image_size)
    radius = 0.5 * item.diameter
    x = (centers[None, columns] - item.center[0]) / radius
    y = (centers[rows, None] - item.center[1]) / radius
    cosine, sine = np.float32(np.cos(item.angle)), np.float32(np.sin(item.angle))
    distance = _DISTANCES[item.shape](cosine * x + sine * y, cosine * y - sine * x)
    pixels_inside = -distance * np.float32(radius * image_size)
    covered: Floats = (pixels_inside + np.float32(0.5)).clip(0, 1)
    return covered


@lru_cache(maxsize=8)
def _pixel_centers(image_size: int) -> Floats:
    index = np.arange(image_size, dtype=np.float32)
    centers: Floats = (index + np.float32(0.5)) / np.float32(image_size)
    return centers


def _draw_background(background: Background, image_size: int) -> Floats:
    centers = _pixel_centers(image_size)
    tones: Floats = np.asarray(background.tones, dtype=np.float32)
    first, second = tones
    if background.direction is None:
        image: Floats = np.broadcast_to(first, (image_size, image_size, 3)).copy()
    else:
        along_x = np.float32(np.cos(background.direction)) * (centers - 0.5)
        along_y = np.float32(np.sin(background.direction)) * (centers - 0.5)
        share = (0.5 + 0.7 * (along_x[None] + along_y[:, None])).clip(0, 1)
        image = first + share[..., None] * (second - first)
    if background.amplitude > 0:
        image += _texture(background, image_size)[..., None]
    return image


def _texture(background: Background, image_size: int) -> Floats:
    """Grey noise on a grid of cells, drawn as squares: coarse it looks like tiles,
    fine like grain."""
    rng = np.random.default_rng(background.seed)
    cells = rng.standard_normal((background.grain,) * 2, dtype=np.float32)
    index = np.arange(image_size) * background.grain // image_size
    texture: Floats = np.float32(background.amplitude) * cells[index[:, None], index]
    return texture


# Signed distances, negative inside, in a square from -1 to 1 with y down. Some are
# bounds rather than distances away from the edge: there the coverage is 0 or 1.


def _circle(x: Floats, y: Floats) -> Floats:
    distance: Floats = np.hypot(x, y) - np.float32(1)
    return distance


def _square(x: Floats, y: Floats) -> Floats:
    distance: Floats = np.maximum(abs(x), abs(y)) - np.float32(0.88)
    return distance


def _triangle(x: Floats, y: Floats) -> Floats:
    # sides of an isosceles triangle, apex (0, -1), base from (-1, 0.8) to (1, 0.8)
    slope = np.float32(1 / np.hypot(1.8, 1.0))
    side = (np.float32(1.8) * abs(x) - y - np.float32(1)) * slope
    distance: Floats = np.maximum(side, y - np.float32(0.8))
    return distance


def _diamond(x: Floats, y: Floats) -> Floats:
    # taller than wide, so that no rotation in use makes it a square
    steep = np.float32(1.35) * abs(x) + abs(y) - np.float32(1)
    distance: Floats = steep / np.float32(1.68)
    return distance


def _star(x: Floats, y: Floats) -> Floats:
    # five points: fold the plane into one tenth of the turn, then one half-plane
    turn = np.float32(2 * np.pi / 5)
    angle = np.arctan2(x, -y)
    folded = abs((angle + turn / 2) % turn - turn / 2)
    radius = np.hypot(x, y)
    # the edge runs from the tip (0, 1) to the inner corner at half a turn, radius r
    inner = 0.42
    corner = (inner * np.sin(np.pi / 5), inner * np.cos(np.pi / 5))
    normal = np.array([1 - corner[1], corner[0]], dtype=np.float32)
    normal /= np.hypot(*normal)
    across, along = radius * np.sin(folded), radius * np.cos(folded)
    edge: Floats = across * normal[0] + (along - np.float32(1)) * normal[1]
    return edge


def _cross(x: Floats, y: Floats) -> Floats:
    arm, width = np.float32(1), np.float32(0.32)
    wide = np.maximum(abs(x) - arm, abs(y) - width)
    tall = np.maximum(abs(y) - arm, abs(x) - width)
    distance: Floats = np.minimum(wide, tall)
    return distance


def _ring(x: Floats, y: Floats) -> Floats:
    distance: Floats = abs(np.hypot(x, y) - np.float32(0.76)) - np.float32(0.24)
    return distance


def _heart(x: Floats, y: Floats) -> Floats:
    # a square on its corner with a disc on each of its upper sides
    body = (abs(x) + abs(y - np.float32(0.15)) - np.float32(0.849)) / np.float32(1.414)
    lobe = np.hypot(abs(x) - np.float32(0.41), y + np.float32(0.27)) - np.float32(0.58)
    distance: Floats = np.minimum(body, lobe)
    return distance


def _moon(x: Floats, y: Floats) -> Floats:
    hole = np.hypot(x - np.float32(0.5), y) - np.float32(0.85)
    distance: Floats = np.maximum(_circle(x, y), -hole)
    return distance


_DISTANCES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "diamond": _diamond,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
    "heart": _heart,
    "moon": _moon,
}
