"""A sheet of a picture: parts below one another, under a heading."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from captum_pairs.attr._utils.visualization.figures import in_text, new_figure
from captum_pairs.attr._utils.visualization.fonts import weight_for, wrapped
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = [
    "CAPTION_SIZE",
    "LABEL",
    "labelled_row",
    "LEGEND",
    "Part",
    "row_height",
    "sheet",
    "WIDTH",
    "write_label",
]

# Inches; room for a legend on the right.
WIDTH, LEGEND = 9.6, 1.1
# And on the left for a method's name.
LABEL = 1.9
_TITLE_SIZE, CAPTION_SIZE = 13.0, 12.0


class Part(NamedTuple):
    """A part of a page: how high it is in inches, and what draws it on a figure."""

    height: float
    draw: Any


def sheet(heading: str, parts: Sequence[Part]) -> Figure:
    """Parts below one another, under a heading that is wrapped."""
    lines = "\n".join(
        wrapped(line, (WIDTH - 0.5) * 72, _TITLE_SIZE, "bold")
        for line in heading.splitlines()
    )
    title = 0.15 + (lines.count("\n") + 1) * _TITLE_SIZE * 1.3 / 72
    heights = [part.height for part in parts]
    figure = new_figure((WIDTH, title + sum(heights)), use_pyplot=False)
    drawn, how = in_text(lines)
    figure.suptitle(drawn, fontsize=_TITLE_SIZE, weight=weight_for(lines), **how)
    places = figure.subfigures(len(parts), 1, squeeze=False, height_ratios=heights)
    for place, part in zip(places.flat, parts):
        part.draw(place)
    return figure


def labelled_row(figure: Any, label: str, number: int) -> tuple[Any, list[Axes]]:
    """A label on the left and so many axes."""
    left, right = figure.subfigures(1, 2, width_ratios=[LABEL, WIDTH - LABEL])
    write_label(left, label)
    return right, list(right.subplots(1, number, squeeze=False).flat)


def row_height(number: int, ratio: float) -> float:
    return min((WIDTH - LABEL) / number, 2.4) * ratio + 0.3


def write_label(figure: Any, label: str) -> None:
    name, *rest = label.split("\n")
    figure.text(0.06, 0.55, name, fontsize=10, weight="bold", va="bottom")
    figure.text(0.06, 0.5, "\n".join(rest), fontsize=9, va="top", color="0.3")
