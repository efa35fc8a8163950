#!/usr/bin/env python3
"""A sheet of several figures below one another, under a heading."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from captum_pairs.attr._utils.visualization.figures import in_text, new_figure
from captum_pairs.attr._utils.visualization.fonts import weight_for, wrapped
from matplotlib.figure import Figure

__all__ = ["labelled", "Part", "visualize_sheet"]

_HEADING, _NAME, _LEAD, _SMALL = 13.0, 10.0, 10.5, 9.0
# Of notes: dark red, which is read on white.
_NOTED = "#7f2704"


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


def visualize_sheet(
    heading: str,
    parts: Sequence[Part],
    width: float = 9.6,
    lead: str = "",
    notes: Sequence[str] = (),
    foot: str = "",
) -> Figure:
    r"""
    Parts below one another under a heading, which is wrapped to the width.

    Args:

        heading (str): In as many lines as it has, or needs.
        parts (list of Part): From above to below.
        width (float): In inches.
        lead (str): What it shows, in a sentence or two below the heading.
        notes (list of str): What is to be kept in mind, below that.
        foot (str): How to read it, below the parts.

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
    every = [
        *_texts([lead], width, _LEAD, "black"),
        *_texts(notes, width, _SMALL, _NOTED),
        *parts,
        *_texts([foot], width, _SMALL, "0.3"),
    ]
    heights = [part.height for part in every]
    figure = new_figure((width, title + sum(heights)), use_pyplot=False)
    drawn, how = in_text(lines)
    figure.suptitle(drawn, fontsize=_HEADING, weight=weight_for(lines), **how)
    places = figure.subfigures(len(every), 1, squeeze=False, height_ratios=heights)
    for place, part in zip(places.flat, every):
        part.draw(place)
    return figure


def _texts(
    texts: Sequence[str], width: float, size: float, color: str
) -> Iterator[Part]:
    """Paragraphs as wide as a sheet."""
    for text in filter(None, texts):
        # small letters are hinted, which makes them wider where dots are few
        lines = wrapped(text, 0.88 * (width - 0.2) * 72, size)
        height = (lines.count("\n") + 1) * size * 1.3 / 72 + 0.08

        def draw(figure: Any, lines: str = lines) -> None:
            drawn, how = in_text(lines)
            look = {"fontsize": size, "color": color, "va": "center"}
            figure.text(0.1 / width, 0.5, drawn, **look, **how)

        yield Part(height, draw)


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
