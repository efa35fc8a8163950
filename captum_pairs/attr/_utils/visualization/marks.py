"""Boxes, lines, dots and texts at places that somebody else chose, as a PNG."""

from io import BytesIO
from typing import Any

from captum_pairs.attr._utils.visualization.figures import in_text
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

__all__ = ["Marks"]


class Marks:
    """
    A picture in units of a point, from its upper left corner; every text in the fonts
    that have it.

    Args:

        width, height (float): In points.
        ground (str): Its colour.
    """

    def __init__(self, width: float, height: float, ground: str = "white") -> None:
        self.figure = Figure(figsize=(width / 72, height / 72), facecolor=ground)
        FigureCanvasAgg(self.figure)
        self.axes = self.figure.add_axes((0.0, 0.0, 1.0, 1.0))
        self.axes.set_axis_off()
        self.axes.set_xlim(0, width)
        self.axes.set_ylim(height, 0)

    def box(
        self, x: float, y: float, width: float, height: float, **style: Any
    ) -> None:
        """Filled."""
        self.axes.add_patch(Rectangle((x, y), width, height, linewidth=0, **style))

    def line(self, x: float, y: float, to_x: float, to_y: float, **style: Any) -> None:
        """From one point to another."""
        self.axes.plot([x, to_x], [y, to_y], solid_capstyle="butt", **style)

    def dot(self, x: float, y: float, radius: float, **style: Any) -> None:
        """Filled."""
        self.axes.add_patch(Circle((x, y), radius, **style))

    def text(self, x: float, y: float, text: str, **style: Any) -> None:
        """On its base line."""
        drawn, how = in_text(text)
        self.axes.text(x, y, drawn, va="baseline", **how, **style)

    def png(self, dpi: float = 180) -> bytes:
        """The picture as a file's bytes."""
        file = BytesIO()
        self.figure.savefig(file, format="png", dpi=dpi)
        return file.getvalue()
