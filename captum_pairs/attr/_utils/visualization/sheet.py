#!/usr/bin/env python3
"""A sheet of several figures below one another, under a heading."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from captum_pairs.attr._utils.visualization.figures import in_text, new_figure
from captum_pairs.attr._utils.visualization.fonts import weight_for, wrapped
from matplotlib.figure import Figure

__all__ = ["labelled", "Part", "visualize_sheet"]

_HEADING, _NAME, _SMALL = 13.0, 10.0, 9.0


class Part(NamedTuple):
    """
    A part of a sheet.

    Args:

        height (float): In inches.
        draw (callable): Draws it on a figure (a ``SubFigure``), as high as that and as
            wide as the sheet.
    """

    height: float
    draw: Callable[[Any], object]


def visualize_sheet(heading: str, parts: Sequence[Part], width: float = 9.6) -> Figure:
    r"""
    Parts below one another under a heading, which is wrapped to the width.

    Args:

        heading (str): In as many lines as it has, or needs.
        parts (list of Part): From above to below.
        width (float): In inches.

    Returns:
        A figure that pyplot does not know of, so that none is left open.

    Examples::

        >>> part = visualization.Part(2.0, lambda figure: figure.subplots())
        >>> figure = visualization.visualize_sheet("Twice the same", [part, part])
    """
    lines = "\n".join(
        wrapped(line, (width - 0.5) * 72, _HEADING, "bold")
        for line in heading.splitlines()
    )
    title = 0.15 + (lines.count("\n") + 1) * _HEADING * 1.3 / 72
    heights = [part.height for part in parts]
    figure = new_figure((width, title + sum(heights)), use_pyplot=False)
    drawn, how = in_text(lines)
    figure.suptitle(drawn, fontsize=_HEADING, weight=weight_for(lines), **how)
    places = figure.subfigures(len(parts), 1, squeeze=False, height_ratios=heights)
    for place, part in zip(places.flat, parts):
        part.draw(place)
    return figure


def labelled(part: Part, label: str, share: float) -> Part:
    r"""
    A part with a label on its left.

    Args:

        part (Part): What is drawn on the right.
        label (str): A name, and what else is known of it in further lines.
        share (float): Of the width that the label takes.

    Returns:
        A part as high as the given one.
    """

    def draw(figure: Any) -> None:
        left, right = figure.subfigures(1, 2, width_ratios=[share, 1 - share])
        name, *rest = label.split("\n")
        left.text(0.06, 0.55, name, fontsize=_NAME, weight="bold", va="bottom")
        left.text(0.06, 0.5, "\n".join(rest), fontsize=_SMALL, va="top", color="0.3")
        part.draw(right)

    return Part(part.height, draw)
