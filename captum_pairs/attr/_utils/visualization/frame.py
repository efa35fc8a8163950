#!/usr/bin/env python3
"""An image on axes, and attributions where they belong on it."""

from collections.abc import Sequence
from typing import Any, Literal, Optional

import numpy as np
from captum.attr import visualization as captum_visualization
from captum_pairs.attr._utils.validation import describe, InvalidArgumentError
from captum_pairs.attr._utils.visualization.scale import ArrayLike, Floats, Scale
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Aspect", "Box", "Frame", "grey", "outline"]

Aspect = Literal["equal", "auto"]
# Left, top, right, bottom.
Box = Sequence[float]
# Small images are drawn with at least so many pixels, so that patches' edges are exact.
_FINE = 400
OUTLINE = "#b35806"
_INTERPOLATIONS = ("nearest", "bilinear")


class Frame:
    """An image, and where things are in it."""

    def __init__(
        self,
        original_image: Optional[ArrayLike],
        extent: Optional[Box] = None,
        boxes: Optional[Sequence[Optional[Box]]] = None,
        aspect: Aspect = "equal",
    ) -> None:
        self.image = None if original_image is None else _pixels(original_image)
        self.boxes, self.aspect = boxes, aspect
        self.given_extent = None if extent is None else tuple(map(float, extent))

    def extent(self, shape: Sequence[int]) -> tuple[float, ...]:
        """Left, top, right, bottom; of an empty canvas from what lies on it."""
        if self.given_extent is not None:
            return self.given_extent
        if self.image is not None:
            return (0.0, 0.0, float(self.image.shape[1]), float(self.image.shape[0]))
        placed = [box for box in self.boxes or () if box is not None]
        if placed:
            right = max(float(box[2]) for box in placed)
            return (0.0, 0.0, right, max(float(box[3]) for box in placed))
        return (0.0, 0.0, float(shape[-1]), float(shape[0]))

    def ratio(self, shape: Sequence[int]) -> float:
        """Height by width of what is drawn, within what a figure has room for."""
        if self.aspect == "auto":
            return 1.0
        left, top, right, bottom = self.extent(shape)
        return float(np.clip(abs((bottom - top) / (right - left)), 0.25, 4.0))

    def draw_original(self, axes: Axes) -> None:
        """The image, without attributions."""
        image = self.image
        if image is None:
            image = np.full((1, 1, 3), 245, dtype=np.uint8)
        self._put(axes, image, self.extent(image.shape[:2]))
        _bare(axes)

    def draw(
        self,
        axes: Axes,
        values: Floats,
        scale: Scale,
        method: str,
        alpha_overlay: float,
        interpolation: str,
    ) -> None:
        """Attributions in a given scale, by one of Captum's methods."""
        _check_method(method, scale.sign, interpolation)
        extent = self.extent(values.shape)
        image = self._fine(extent)
        if self.image is None:
            method = "heat_map"
        shares = scale.shares(values)
        spread = _spread(shares, image.shape[:2], extent, self.boxes, interpolation)
        strength = np.abs(spread)[:, :, None]
        if method == "original_image":
            self._put(axes, image, extent)
        elif method == "masked_image":
            self._put(axes, (image * strength).astype(np.uint8), extent)
        elif method == "alpha_scaling":
            alpha = (255 * strength).astype(np.uint8)
            self._put(axes, np.concatenate([image, alpha], axis=2), extent)
        else:
            if is_blended := method == "blended_heat_map":
                look = {"cmap": "gray", "vmin": 0, "vmax": 255}
                self._put(axes, grey(image), extent, **look)
            signed_map = scale.sign == "all"
            self._put(
                axes,
                spread if signed_map else np.abs(spread),
                extent,
                cmap=scale.cmap,
                vmin=-1 if signed_map else 0,
                vmax=1,
                alpha=alpha_overlay if is_blended else None,
            )
        _bare(axes)

    def _put(
        self, axes: Axes, image: NDArray[Any], extent: Sequence[float], **how: Any
    ) -> None:
        left, top, right, bottom = extent
        where = (left, right, bottom, top)
        axes.imshow(image, extent=where, aspect=self.aspect, **how)

    def _fine(self, extent: Sequence[float]) -> NDArray[np.uint8]:
        """The image, its pixels repeated if they are few; white without one."""
        if self.image is None:
            wide, high = abs(extent[2] - extent[0]), abs(extent[3] - extent[1])
            longer = max(wide, high)
            size = [max(round(_FINE * side / longer), 1) for side in (high, wide)]
            return np.full((*size, 3), 255, dtype=np.uint8)
        times = -(-_FINE // max(self.image.shape[:2]))
        return self.image.repeat(times, axis=0).repeat(times, axis=1)


def grey(image: NDArray[np.uint8]) -> Floats:
    """(h, w, 3) to (h, w), as bright as the colours look (ITU-R BT.601), so that what
    differs in colour alone stays apart."""
    return np.asarray(image @ np.array([0.299, 0.587, 0.114]), dtype=np.float64)


def outline(axes: Axes, box: Box, dashed: bool = False) -> None:
    """A box (or a point, twice the same) that is seen on any image: dark with a light
    edge."""
    left, top, right, bottom = box
    for color, width in (("white", 3.5), (OUTLINE, 2.0)):
        if left == right and top == bottom:
            axes.plot(left, top, "o", color=color, markersize=2.5 * width)
            continue
        axes.add_patch(
            Rectangle(
                (left, top),
                right - left,
                bottom - top,
                fill=False,
                edgecolor=color,
                linewidth=0.6 * width if dashed else width,
                linestyle=(0, (3, 2)) if dashed and color == OUTLINE else "solid",
            )
        )


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_linewidth(0.5)
        spine.set_color("0.5")


def _check_method(method: str, sign: str, interpolation: str) -> None:
    names = [each.name for each in captum_visualization.ImageVisualizationMethod]
    if method not in names:
        raise InvalidArgumentError("method", f"one of {', '.join(names)}", repr(method))
    if sign == "all" and method in ("masked_image", "alpha_scaling"):
        raise InvalidArgumentError(
            "sign", f"one sign for {method}, which shows no colours", "'all'"
        )
    if interpolation not in _INTERPOLATIONS:
        raise InvalidArgumentError(
            "interpolation", "'nearest' or 'bilinear'", repr(interpolation)
        )


def _pixels(image: ArrayLike) -> NDArray[np.uint8]:
    """(h, w, 3), from 0 to 255."""
    array = np.asarray(
        image.detach().cpu().numpy() if isinstance(image, Tensor) else image
    )
    if array.ndim == 3 and array.shape[2] not in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or not array.size:
        expected = "an image (h, w), (h, w, 3) or (3, h, w)"
        raise InvalidArgumentError("original_image", expected, describe(image))
    values = array[:, :, :3].astype(np.float64)
    if array.dtype.kind == "f" and values.max() <= 1.0:
        values = values * 255  # Captum's rule
    whole = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return np.broadcast_to(whole, (*whole.shape[:2], 3)).copy()


def _spread(
    values: Floats,
    shape: Sequence[int],
    extent: Sequence[float],
    boxes: Optional[Sequence[Optional[Box]]],
    interpolation: str,
) -> Floats:
    """Values on pixels (h, w) that lie evenly in an extent; zero where none is."""
    left, top, right, bottom = extent
    y = top + (np.arange(shape[0]) + 0.5) * (bottom - top) / shape[0]
    x = left + (np.arange(shape[1]) + 0.5) * (right - left) / shape[1]
    if interpolation == "bilinear" and values.ndim == 2:
        rows, columns = _centers(values.shape, extent, boxes)
        return _between(_between(values, rows, y, 0), columns, x, 1)
    if boxes is None:
        row = np.arange(shape[0]) * values.shape[0] // shape[0]
        column = np.arange(shape[1]) * values.shape[1] // shape[1]
        return np.asarray(values[row][:, column])
    result = np.zeros(tuple(shape))
    found = [(box, value) for box, value in zip(boxes, values.flat) if box is not None]
    # larger ones first: what is "elsewhere" has a box around everything
    for box, value in sorted(found, key=lambda pair: -_area(pair[0])):
        inside_rows = (y >= box[1]) & (y < box[3])
        inside_columns = (x >= box[0]) & (x < box[2])
        result[np.ix_(inside_rows, inside_columns)] = value
    return result


def _area(box: Box) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def _centers(
    shape: Sequence[int],
    extent: Sequence[float],
    boxes: Optional[Sequence[Optional[Box]]],
) -> tuple[Floats, Floats]:
    """Where the centres of rows and of columns are; NaN where nothing is known."""
    left, top, right, bottom = extent
    rows, columns = shape
    if boxes is None:
        return (
            top + (np.arange(rows) + 0.5) * (bottom - top) / rows,
            left + (np.arange(columns) + 0.5) * (right - left) / columns,
        )
    y, x = np.full(rows, np.nan), np.full(columns, np.nan)
    for index, box in enumerate(boxes):
        if box is not None:
            row, column = divmod(index, columns)
            y[row], x[column] = (box[1] + box[3]) / 2, (box[0] + box[2]) / 2
    return y, x


def _between(values: Floats, places: Floats, wanted: Floats, axis: int) -> Floats:
    """Values at known places, interpolated along an axis."""
    known = np.flatnonzero(np.isfinite(places))
    known = known[np.argsort(places[known])]

    def interpolated(line: Floats) -> Floats:
        return np.interp(wanted, places[known], line[known])

    return np.apply_along_axis(interpolated, axis, values)
