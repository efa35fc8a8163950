#!/usr/bin/env python3
"""The strongest pairs as lines between words and regions."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Optional, Union

import numpy as np
from captum_pairs.attr._utils.validation import InvalidArgumentError
from captum_pairs.attr._utils.visualization.figures import (
    add_legend,
    add_title,
    FigureAxes,
    finish,
    in_text,
    panels,
    signed,
)
from captum_pairs.attr._utils.visualization.fonts import shortened, width_of
from captum_pairs.attr._utils.visualization.frame import Box, Frame, grey
from captum_pairs.attr._utils.visualization.scale import (
    ArrayLike,
    both,
    Floats,
    numbers,
    Scale,
    scale_of,
)
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path

__all__ = ["lines_size", "visualize_pair_lines"]

# A word's place in its text, or a region's box in units of the image's extent.
End = Union[int, Box]
# All in points: an image's longer side, and the room for lines.
_IMAGE, _GAP, _LONGEST = 250.0, 170.0, 150.0
_LEADING, _SIZE, _NUMBER = 1.6, 11.0, 8.0
# So many words of a text have a row; of a longer one those that have lines.
_MOST_WORDS = 24
_PAIRS = ("pair", "pairs")


def visualize_pair_lines(
    attr: ArrayLike,
    ends: Sequence[tuple[End, End]],
    words: Sequence[Optional[Sequence[str]]],
    original_images: Sequence[Optional[ArrayLike]] = (None, None),
    sign: str = "all",
    plt_fig_axis: Optional[FigureAxes] = None,
    outlier_perc: Optional[float] = None,
    cmap: Union[str, Colormap, None] = None,
    show_colorbar: bool = True,
    title: Optional[str] = None,
    fig_size: Optional[tuple[float, float]] = None,
    use_pyplot: bool = True,
    *,
    extents: Sequence[Optional[Box]] = (None, None),
    ratios: Sequence[Optional[float]] = (None, None),
    limit: Optional[float] = None,
    colorbar_label: Optional[str] = None,
) -> tuple[Any, Axes]:
    r"""
    Pairs as lines: from a word or a region of the first input, on the left, to one of
    the second, on the right. An image is grey, so that colours mean attributions alone.

    Args:

        attr (Tensor or array): (pairs,).
        ends (list of pairs): Of each pair where its line begins and ends: the index of
            a word, or a box (left, top, right, bottom).
        words (pair): Of a text its words, of an image None.
        original_images (pair): Of an image as in :func:`visualize_image_attr`.
        extents (pair): See ``extent`` in :func:`visualize_image_attr`.
        ratios (pair of float): The height of an image divided by its width as it is
            drawn. Default: as its extent.
        sign, plt_fig_axis, outlier_perc, cmap, show_colorbar, title, fig_size,
            use_pyplot, limit, colorbar_label: See :func:`visualize_image_attr`.

    Returns:
        The figure and its axes.

    Raises:
        InvalidArgumentError: naming the argument that does not fit.

    Examples::

        >>> figure, axes = visualization.visualize_pair_lines(
        ...     [0.4, -0.1], [(0, 1), (1, 0)], (["red", "dot"], ["a", "spot"]),
        ...     use_pyplot=False,
        ... )
    """
    values = numbers(attr)
    if values.shape != (len(ends),):
        raise InvalidArgumentError(
            "attr", f"({len(ends)},), as many as ends", f"shape {values.shape}"
        )
    scale = scale_of(values, sign, outlier_perc, cmap, limit)
    sides = _sides(ends, words, original_images, extents, ratios)
    width, height = _size(sides)
    more = 1.3 if show_colorbar else 0.1
    size = fig_size or (width / 72 + more, height / 72 + (0.4 if title else 0.1))
    given = None if plt_fig_axis is None else (plt_fig_axis[0], [plt_fig_axis[1]])
    figure, (axes,) = panels(given, 1, size, use_pyplot)
    axes.set_axis_off()
    axes.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    places = [list(side.draw(axes, at, width, height)) for at, side in enumerate(sides)]
    taken: list[Box] = []
    for at in np.argsort(np.abs(values), kind="stable"):
        value, (start, end) = float(values[at]), (places[0][at], places[1][at])
        _line(axes, start, end, scale, value)
        for side, box in zip(sides, (start, end)):
            if side.words is None:
                _mark(axes, box, scale, value)
    for at in np.argsort(-np.abs(values), kind="stable"):
        curve = _curve(places[0][at], places[1][at])
        _write(axes, curve, signed(float(values[at])), taken)
    add_title(axes, title)
    if show_colorbar:
        look: dict[str, Any] = {"what": _PAIRS, "shrink": 0.7, "aspect": 20}
        add_legend(figure, axes, scale, colorbar_label, **look)
    finish(use_pyplot, plt_fig_axis)
    return figure, axes


def lines_size(
    ends: Sequence[tuple[End, End]],
    words: Sequence[Optional[Sequence[str]]],
    original_images: Sequence[Optional[ArrayLike]] = (None, None),
    extents: Sequence[Optional[Box]] = (None, None),
    ratios: Sequence[Optional[float]] = (None, None),
) -> tuple[float, float]:
    """
    How wide and high :func:`visualize_pair_lines` makes a figure, without legend and
    title.

    Args:

        ends, words, original_images, extents, ratios: As there.

    Returns:
        Inches.
    """
    width, height = _size(_sides(ends, words, original_images, extents, ratios))
    return width / 72, height / 72


# ---- sides -----------------------------------------------------------------


class _Side(NamedTuple):
    """
    What lines begin or end at.

    Args:
        ends: of each line.
        words: of a text.
        frame: of an image.
        ratio: of an image, its height divided by its width.
    """

    ends: list[Any]
    words: Optional[Sequence[str]]
    frame: Frame
    ratio: Optional[float]

    def size(self) -> tuple[float, float]:
        """Width and height, in points."""
        if self.words is not None:
            rows = self._rows()
            widest = max(width_of(said, _SIZE) for said in self._said(rows))
            return widest + 8, len(rows) * _LEADING * _SIZE
        left, top, right, bottom = self._extent()
        ratio = self.ratio or abs((bottom - top) / (right - left))
        wide = _IMAGE / max(ratio, 1.0)
        return wide, wide * ratio

    def draw(
        self, axes: Axes, at: int, width: float, height: float
    ) -> Iterator[tuple[float, float, float, float]]:
        """On the left (at = 0) or right of a canvas; of each line the box that it is
        tied to: left, bottom, right, top."""
        wide, high = self.size()
        left, bottom = (0.0, width - wide)[at], (height - high) / 2
        if self.words is None:
            yield from self._image(axes, (left, bottom, left + wide, bottom + high))
            return
        rows = self._rows()
        boxes = {}
        for row, (index, said) in enumerate(zip(rows, self._said(rows))):
            drawn, how = in_text(said)
            middle = bottom + high - (row + 0.5) * _LEADING * _SIZE
            x = left + 4 if at else left + wide - 4
            look: dict[str, Any] = {
                "ha": "left" if at else "right",
                "va": "center",
                "fontsize": _SIZE,
            }
            color = "black" if index in self.ends else "0.55"
            axes.text(x, middle, drawn, color=color, **look, **how)
            half = 0.5 * _SIZE
            boxes[index] = (left, middle - half, left + wide, middle + half)
        yield from (boxes[end] for end in self.ends)

    def _rows(self) -> list[Optional[int]]:
        """The words that have a row; None for those that are left out."""
        assert self.words is not None
        count = len(self.words)
        if count <= _MOST_WORDS:
            return list(range(count))
        rows: list[Optional[int]] = []
        for index in sorted(set(self.ends)):
            before = rows[-1] if rows else -1
            if before is None or index != before + 1:
                rows.append(None)
            rows.append(index)
        return rows if rows and rows[-1] == count - 1 else [*rows, None]

    def _said(self, rows: Sequence[Optional[int]]) -> list[str]:
        assert self.words is not None
        words = self.words
        return [
            "…" if i is None else shortened(words[i], _LONGEST, _SIZE) for i in rows
        ]

    def _extent(self) -> tuple[float, ...]:
        image = self.frame.image
        return self.frame.extent((1, 1) if image is None else image.shape)

    def _image(
        self, axes: Axes, place: tuple[float, float, float, float]
    ) -> Iterator[tuple[float, float, float, float]]:
        left, bottom, right, top = place
        first = self._extent()
        image = self.frame.image
        shown = np.full((1, 1), 245.0) if image is None else grey(image)
        axes.imshow(
            255 - 0.6 * (255 - shown),
            extent=(left, right, bottom, top),
            cmap="gray",
            vmin=0,
            vmax=255,
        )
        axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
        across = (right - left) / (first[2] - first[0])
        down = (top - bottom) / (first[3] - first[1])
        for end in self.ends:
            x = [left + (edge - first[0]) * across for edge in (end[0], end[2])]
            y = [top - (edge - first[1]) * down for edge in (end[1], end[3])]
            yield min(x), min(y), max(x), max(y)


def _sides(
    ends: Sequence[tuple[End, End]],
    words: Sequence[Optional[Sequence[str]]],
    images: Sequence[Optional[ArrayLike]],
    extents: Sequence[Optional[Box]],
    ratios: Sequence[Optional[float]],
) -> list[_Side]:
    sides = []
    originals, given = both("original_images", images), both("words", words)
    for at, said in enumerate(given):
        mine = [pair[at] for pair in ends]
        for end in mine:
            if said is None and np.shape(end) != (4,):
                raise InvalidArgumentError(
                    "ends", "boxes (left, top, right, bottom) of an image", repr(end)
                )
            if said is not None and end not in range(len(said)):
                expected = f"indices of words, from 0 to {len(said) - 1}"
                raise InvalidArgumentError("ends", expected, repr(end))
        if said is not None and (isinstance(said, str) or not len(said)):
            raise InvalidArgumentError("words", "a list of words, or None", repr(said))
        sides.append(_Side(mine, said, Frame(originals[at], extents[at]), ratios[at]))
    return sides


def _size(sides: Sequence[_Side]) -> tuple[float, float]:
    """Of the canvas, in points."""
    sizes = [side.size() for side in sides]
    return sum(wide for wide, _ in sizes) + _GAP, max(high for _, high in sizes) + 6


# ---- lines -----------------------------------------------------------------


def _curve(start: Box, end: Box) -> Floats:
    """(4, 2): from the right edge of a box to the left edge of another one."""
    begin = start[2], (start[1] + start[3]) / 2
    finish = end[0], (end[1] + end[3]) / 2
    half = (finish[0] - begin[0]) / 2
    inner = (begin[0] + half, begin[1]), (finish[0] - half, finish[1])
    return np.array([begin, *inner, finish])


def _line(axes: Axes, start: Box, end: Box, scale: Scale, value: float) -> None:
    """From box to box, as strong as its value."""
    strength = abs(float(scale.shares(np.array(value))))
    codes = [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]
    width = 1.2 + 3.0 * strength
    for color, more in (("white", 2.0), (_color(scale, value), 0.0)):
        axes.add_patch(
            PathPatch(
                Path(_curve(start, end), codes),
                fill=False,
                edgecolor=color,
                linewidth=width + more,
                capstyle="round",
            )
        )


def _mark(axes: Axes, box: Box, scale: Scale, value: float) -> None:
    """A region of an image."""
    for color, width in (("white", 4.0), (_color(scale, value), 2.2)):
        wide, high = box[2] - box[0], box[3] - box[1]
        look: dict[str, Any] = {"fill": False, "edgecolor": color, "linewidth": width}
        axes.add_patch(Rectangle((box[0], box[1]), wide, high, **look))


def _color(scale: Scale, value: float) -> Any:
    """A line's: never so pale that it is not seen on white."""
    share = float(scale.shares(np.array(value)))
    strong = np.sign(share) * max(abs(share), 0.45)
    return tuple(scale.colors(np.array(strong * scale.limit)))


def _write(axes: Axes, curve: Floats, said: str, taken: list[Box]) -> None:
    """A number on its line, where there is room."""
    wide, high = width_of(said, _NUMBER) + 6, _NUMBER + 5
    found: list[tuple[float, Box, Floats]] = []
    for t in (0.7, 0.6, 0.8, 0.5, 0.4, 0.3, 0.88, 0.2):
        weights = np.array(
            [(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3]
        )
        middle = weights @ curve
        box = (*(middle - (wide / 2, high / 2)), *(middle + (wide / 2, high / 2)))
        found.append((sum(_overlap(box, other) for other in taken), box, middle))
    _, place, middle = min(found, key=lambda each: each[0])
    taken.append(place)
    axes.text(
        float(middle[0]),
        float(middle[1]),
        said,
        ha="center",
        va="center",
        fontsize=_NUMBER,
        zorder=5,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
    )


def _overlap(one: Box, other: Box) -> float:
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    return max(across, 0.0) * max(down, 0.0)
