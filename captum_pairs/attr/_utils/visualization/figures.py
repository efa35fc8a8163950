#!/usr/bin/env python3
"""Figures, legends and titles that all visualizations share."""

import io
from collections.abc import Sequence
from typing import Any, Optional, Union

from captum_pairs.attr._utils.validation import InvalidArgumentError
from captum_pairs.attr._utils.visualization.fonts import legible, shortened, wrapped
from captum_pairs.attr._utils.visualization.scale import Scale
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, FigureBase

__all__ = [
    "add_legend",
    "add_title",
    "FigureAxes",
    "FigureManyAxes",
    "finish",
    "in_text",
    "new_figure",
    "panels",
    "signed",
    "width_in_points",
]

# As Captum's `plt_fig_axis`; a SubFigure will do.
FigureAxes = tuple[Any, Axes]
FigureManyAxes = tuple[Any, Sequence[Axes]]
Size = tuple[float, float]


class ShownFigure(Figure):
    """A figure that pyplot does not know of, and that a notebook shows nevertheless,
    with or without ``%matplotlib inline``."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()


def new_figure(fig_size: Size, use_pyplot: bool) -> Figure:
    """A figure whose parts are placed so that nothing overlaps."""
    if use_pyplot:
        return plt.figure(figsize=fig_size, layout="constrained")
    figure = ShownFigure(figsize=fig_size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def panels(
    given: Optional[FigureManyAxes],
    number: int,
    fig_size: Size,
    use_pyplot: bool,
    columns: Optional[int] = None,
) -> tuple[Any, list[Axes]]:
    """
    A figure and that many axes, new or given ones; surplus axes are switched off.

    Args:
        given: `plt_fig_axis`.
        number: of axes.
        fig_size, use_pyplot: of a new figure.
        columns: how many of them stand in a row. Default: all.
    """
    if given is None:
        figure: FigureBase = new_figure(fig_size, use_pyplot)
        columns = min(columns or number, number) or 1
        grid = figure.subplots(-(-number // columns) or 1, columns, squeeze=False)
        every = list(grid.flat)
    else:
        figure, chosen = given
        every = [chosen] if isinstance(chosen, Axes) else list(chosen)
    if len(every) < number:
        raise InvalidArgumentError(
            "plt_fig_axis", f"a figure and {number} axes", f"{len(every)} axes"
        )
    for axes in every[number:]:
        axes.set_axis_off()
    return figure, every[:number]


def finish(use_pyplot: bool, given: object) -> None:
    """Shows a figure that was made here, as Captum does."""
    if use_pyplot and given is None:
        plt.show()


def in_text(text: str) -> tuple[str, dict[str, Any]]:
    """A text as it can be drawn, and how: in the fonts that have it, never a
    formula."""
    drawn, families = legible(text)
    return drawn, {"family": families, "parse_math": False}


def add_title(axes: Axes, title: Optional[str], size: float = 10, **more: Any) -> None:
    """A title no wider than its axes, in two lines at most."""
    if title:
        most = max(width_in_points(axes), 40.0)
        lines = wrapped(title, most, size).split("\n")
        if len(lines) > 2:
            lines[1:] = [shortened(" ".join(lines[1:]), most, size)]
        drawn, how = in_text("\n".join(lines))
        axes.set_title(drawn, fontsize=size, **how, **more)


def width_in_points(axes: Axes) -> float:
    """The width of axes before the layout is made."""
    return float(axes.get_window_extent().width) * 72 / _dpi(axes)


def _dpi(axes: Axes) -> float:
    # the figure of axes in a SubFigure is that; it has the dpi of its parent
    figure = axes.figure
    return 72.0 if figure is None else float(figure.dpi)


def add_legend(
    figure: Any,
    axes: Union[Axes, Sequence[Axes]],
    scale: Scale,
    label: Optional[str] = None,
    along: Optional[float] = None,
    what: tuple[str, str] = ("value", "values"),
    **more: Any,
) -> Any:
    """
    The legend of a scale that several figures share, with an arrow at each end beyond
    which there are attributions, and how many these are.

    Args:

        figure (Figure or SubFigure): On which it is drawn.
        axes (Axes or list of them): Beside which (``location="bottom"``: below which)
            it stands.
        scale (Scale): See :func:`scale_of`.
        label (str, optional): Default: what the colours mean.
        along (float, optional): To how many points the label is wrapped; default: what
            the axes have now.
        what (pair of str): What one attribution, and several, belong to: "patch".
        more: As ``Figure.colorbar`` takes it.

    Returns:
        The ``matplotlib.colorbar.Colorbar``.
    """
    look: dict[str, Any] = {"extend": scale.extend, "extendfrac": 0.03, **more}
    bar = figure.colorbar(scale.mappable, ax=axes, **look)
    said = scale.meaning if label is None else label
    if beyond := scale.beyond_in_words(what):
        said += f"\n{beyond}"
    is_horizontal = bar.orientation == "horizontal"
    if along is None:
        along = _length(axes, is_horizontal)
    lines = [wrapped(line, max(0.8 * along, 60.0), 8) for line in said.split("\n")]
    drawn, how = in_text("\n".join(lines))
    bar.set_label(drawn, fontsize=8, **how)
    bar.ax.tick_params(labelsize=8)
    # numbers beside one another need more room than those below one another
    bar.ax.locator_params(nbins=max(2, min(5, int(along / 75))) if is_horizontal else 5)
    bar.outline.set_linewidth(0.5)
    return bar


def _length(axes: Union[Axes, Sequence[Axes]], horizontal: bool) -> float:
    """From the first to the last of axes, in points, before the layout is made."""
    every = [axes] if isinstance(axes, Axes) else list(axes)
    boxes = [each.get_window_extent() for each in every]
    if horizontal:
        length = max(box.x1 for box in boxes) - min(box.x0 for box in boxes)
    else:
        length = max(box.y1 for box in boxes) - min(box.y0 for box in boxes)
    return float(length) * 72 / _dpi(every[0])


def signed(value: float, digits: int = 3, minus: str = "−") -> str:
    """
    A number with its sign.

    Args:

        value (float): The number.
        digits (int): Behind the point.
        minus (str): By default as wide as a plus; ``"-"`` for a terminal.
    """
    return f"{value:+.{digits}f}".replace("-", minus, 1)
