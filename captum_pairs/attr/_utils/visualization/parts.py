#!/usr/bin/env python3
"""Numbers as bars: what a score is the sum of, and probabilities."""

from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np
from captum_pairs.attr._utils.validation import InvalidArgumentError
from captum_pairs.attr._utils.visualization.figures import (
    add_title,
    FigureAxes,
    finish,
    in_text,
    panels,
    signed,
)
from captum_pairs.attr._utils.visualization.fonts import wrapped
from captum_pairs.attr._utils.visualization.scale import DIVERGING
from matplotlib.axes import Axes

__all__ = ["visualize_decomposition", "visualize_probabilities"]

FOR, AGAINST = DIVERGING(0.85), DIVERGING(0.15)
# Of a name beside a bar, in points.
_NAME_WIDTH, _NAME_SIZE = 150.0, 9.0


def visualize_decomposition(
    parts: Mapping[str, float],
    total_name: str = "similarity",
    plt_fig_axis: Optional[FigureAxes] = None,
    title: Optional[str] = None,
    fig_size: Optional[tuple[float, float]] = None,
    use_pyplot: bool = True,
) -> tuple[Any, Axes]:
    r"""
    The parts of a score as steps from zero to their sum: constant, main effects,
    interactions.

    Args:

        parts (dict): Names and numbers, in the order of the steps. Numbers that
            are too small for as many places are written with an exponent.
        total_name (str): What the parts sum to.
        plt_fig_axis, title, fig_size, use_pyplot: See :func:`visualize_image_attr`.

    Returns:
        The figure and its axes.

    Raises:
        InvalidArgumentError: naming the argument that does not fit.

    Examples::

        >>> figure, axes = visualization.visualize_decomposition(
        ...     {"constant": 0.1, "the image": 0.3, "pairs": -0.05}, use_pyplot=False
        ... )
    """
    values = np.array([float(value) for value in parts.values()])
    if not values.size or not np.isfinite(values).all():
        raise InvalidArgumentError("parts", "finite numbers", f"{len(values)} parts")
    size = fig_size or (6.4, 0.36 * (len(parts) + 1) + 0.7)
    given = None if plt_fig_axis is None else (plt_fig_axis[0], [plt_fig_axis[1]])
    figure, (axes,) = panels(given, 1, size, use_pyplot)
    stops = np.cumsum(values)
    largest = float(np.abs([*values, stops[-1]]).max())
    for row, (value, stop) in enumerate(zip(values, stops)):
        start = stop - value
        axes.barh(row, value, left=start, height=0.72, color=_color(value))
        axes.plot([stop, stop], [row - 0.36, row + 1.36], color="0.6", linewidth=0.6)
        _label(axes, row, max(start, stop), _shown(value, largest))
    axes.barh(len(values), stops[-1], height=0.72, color="0.35")
    _label(axes, len(values), max(stops[-1], 0.0), _shown(stops[-1], largest))
    # the numbers stand on the right of bars
    low, high = min(0.0, float(stops.min())), max(0.0, float(stops.max()))
    span = (high - low) or 1.0
    axes.set_xlim(low - (0.02 * span if low < 0 else 0), high + 0.13 * span)
    axes.margins(y=0.03)
    axes.axvline(0.0, color="0.6", linewidth=0.8, zorder=0)
    axes.locator_params(axis="x", nbins=6)
    _name_rows(axes, [*parts, total_name])
    add_title(axes, title)
    finish(use_pyplot, plt_fig_axis)
    return figure, axes


def visualize_probabilities(
    probabilities: Sequence[tuple[str, float]],
    plt_fig_axis: Optional[FigureAxes] = None,
    title: Optional[str] = None,
    fig_size: Optional[tuple[float, float]] = None,
    use_pyplot: bool = True,
) -> tuple[Any, Axes]:
    r"""
    Classes and their probabilities, from above to below in the order given.

    Args:

        probabilities (list of tuple): Names and numbers from 0 to 1.
        plt_fig_axis, title, fig_size, use_pyplot: See :func:`visualize_image_attr`.

    Returns:
        The figure and its axes.

    Raises:
        InvalidArgumentError: naming the argument that does not fit.

    Examples::

        >>> figure, axes = visualization.visualize_probabilities(
        ...     [("a dog", 0.7), ("a wolf", 0.3)], use_pyplot=False
        ... )
    """
    values = np.array([float(share) for _, share in probabilities])
    if not values.size or not ((values >= 0) & (values <= 1)).all():
        raise InvalidArgumentError(
            "probabilities", "numbers from 0 to 1", f"{len(values)} of them"
        )
    size = fig_size or (6.4, 0.36 * len(values) + 0.7)
    given = None if plt_fig_axis is None else (plt_fig_axis[0], [plt_fig_axis[1]])
    figure, (axes,) = panels(given, 1, size, use_pyplot)
    axes.barh(range(len(values)), values, color="0.35")
    for row, share in enumerate(values):
        _label(axes, row, share, f"{share:.1%}")
    _name_rows(
        axes, [wrapped(name, _NAME_WIDTH, _NAME_SIZE) for name, _ in probabilities]
    )
    axes.set_xlim(0, float(values.max()) * 1.15 or 1)
    add_title(axes, title)
    finish(use_pyplot, plt_fig_axis)
    return figure, axes


def _color(value: float) -> Any:
    return FOR if value > 0 else AGAINST


def _shown(value: float, largest: float) -> str:
    """Three digits of the largest number; of one too small for these its size."""
    size = np.floor(np.log10(largest)) if largest > 0 else 0.0
    digits = int(np.clip(2 - size, 3 if largest < 10 else 0, 6))
    if value == 0:
        return "0"
    if round(value, digits) == 0:
        return f"{value:+.0e}".replace("-", "−")
    return signed(value, digits)


def _label(axes: Axes, row: int, x: float, text: str) -> None:
    axes.annotate(
        text,
        (x, row),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
        zorder=4,
        # what stands on a line is not struck by it
        bbox={"facecolor": axes.get_facecolor(), "edgecolor": "none", "pad": 0.6},
    )


def _name_rows(axes: Axes, names: list[str]) -> None:
    drawn = [in_text(name) for name in names]
    axes.set_yticks(range(len(names)), [text for text, _ in drawn])
    for label, (_, how) in zip(axes.get_yticklabels(), drawn):
        label.set(fontsize=_NAME_SIZE, **how)
    axes.invert_yaxis()
    axes.tick_params(axis="x", labelsize=8)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
