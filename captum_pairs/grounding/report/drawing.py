"""Drawings: marks at places, written as SVG (in the report, or alone) and as PNG."""

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from captum_pairs.attr._utils.visualization.fonts import shortened, width_of
from captum_pairs.attr._utils.visualization.marks import Marks

__all__ = ["Drawing", "escaped", "fitted", "width_of"]

# What a mark is for, and its colour on white; in the report the style says which.
COLOURS: Mapping[str, str] = {
    "ink": "#1c1e24",
    "soft": "#565b66",
    "line": "#dcdad4",
    "ground": "#ffffff",
    "accent": "#1f4fd8",
    "chance": "#565b66",
    "for": "#e8790c",
    "against": "#7446c4",
}
# Characters that no XML may have, and halves of surrogate pairs.
_NONE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")
SMALL, TEXT = 11.5, 13.0


def escaped(text: object) -> str:
    """Anybody's text as text of HTML or SVG, and of their attributes."""
    return html.escape(_NONE.sub("\ufffd", str(text)))


def fitted(text: str, width: float, size: float = TEXT) -> str:
    """A text that is at most so wide."""
    return shortened(_NONE.sub("\ufffd", text), width, size)


@dataclass
class Drawing:
    """
    Marks in units of a pixel, from the upper left corner.

    Args:
        width, height: of the drawing.
        said: what it shows, for those who can't see it.
    """

    width: float
    height: float
    said: str
    marks: list[tuple[str, tuple[float, ...], str, dict[str, Any]]] = field(
        default_factory=list
    )

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        role: str,
        opacity: float = 1.0,
        tip: str = "",
    ) -> None:
        """Filled; `tip` is shown to those who point at it."""
        style = {"opacity": opacity, "tip": tip}
        self.marks.append(("box", (x, y, width, height), role, style))

    def line(
        self, x: float, y: float, to_x: float, to_y: float, role: str, wide: float = 1.0
    ) -> None:
        """From one point to another."""
        self.marks.append(("line", (x, y, to_x, to_y), role, {"wide": wide}))

    def dot(
        self,
        x: float,
        y: float,
        role: str,
        radius: float = 5.0,
        hollow: bool = False,
        tip: str = "",
    ) -> None:
        """A point."""
        style = {"hollow": hollow, "tip": tip}
        self.marks.append(("dot", (x, y, radius), role, style))

    def text(
        self,
        x: float,
        y: float,
        text: str,
        role: str = "ink",
        anchor: str = "start",
        size: float = TEXT,
    ) -> None:
        """On its base line; anchor: "start", "middle" or "end"."""
        style = {"text": text, "anchor": anchor, "size": size}
        self.marks.append(("text", (x, y), role, style))

    # ---- as SVG ------------------------------------------------------------

    def svg(self) -> str:
        """For the report, whose style colours it."""
        return self._svg('class="chart" role="img"', "")

    def file(self) -> str:
        """As a file of its own, on white."""
        rules = "".join(
            f".f-{role}{{fill:{colour}}}.s-{role}{{stroke:{colour}}}"
            for role, colour in COLOURS.items()
        )
        style = f"<style>text{{font-family:sans-serif}}{rules}</style>"
        ground = '<rect width="100%" height="100%" class="f-ground"/>'
        attributes = (
            f'xmlns="http://www.w3.org/2000/svg" role="img" '
            f'width="{self.width:g}" height="{self.height:g}"'
        )
        return self._svg(attributes, style + ground) + "\n"

    def _svg(self, attributes: str, start: str) -> str:
        size = f"0 0 {self.width:g} {self.height:g}"
        marks = "".join(map(self._one, self.marks))
        said = escaped(self.said)
        return (
            f'<svg {attributes} viewBox="{size}" aria-label="{said}">'
            f"{start}{marks}</svg>"
        )

    @staticmethod
    def _one(mark: tuple[str, tuple[float, ...], str, dict[str, Any]]) -> str:
        shape, places, role, style = mark
        at = [f"{round(place, 2):g}" for place in places]
        tip = f"<title>{escaped(style['tip'])}</title>" if style.get("tip") else ""
        if shape == "box":
            x, y, width, height = at
            opacity = f' fill-opacity="{style["opacity"]:.3g}"'
            return (
                f'<rect class="f-{role}" x="{x}" y="{y}" width="{width}" '
                f'height="{height}"{opacity}>{tip}</rect>'
            )
        if shape == "line":
            x, y, to_x, to_y = at
            return (
                f'<line class="s-{role}" x1="{x}" y1="{y}" x2="{to_x}" y2="{to_y}" '
                f'stroke-width="{style["wide"]:g}"/>'
            )
        if shape == "dot":
            x, y, radius = at
            classes = f"f-ground s-{role}" if style["hollow"] else f"f-{role}"
            stroke = ' stroke-width="2"' if style["hollow"] else ""
            return (
                f'<circle class="{classes}" cx="{x}" cy="{y}" r="{radius}"{stroke}>'
                f"{tip}</circle>"
            )
        x, y = at
        return (
            f'<text class="f-{role}" x="{x}" y="{y}" text-anchor="{style["anchor"]}" '
            f'font-size="{style["size"]:g}">{escaped(style["text"])}</text>'
        )

    # ---- as PNG ------------------------------------------------------------

    def png(self) -> bytes:
        """On white."""
        marks = Marks(self.width, self.height, COLOURS["ground"])
        for order, (shape, places, role, style) in enumerate(self.marks):
            colour = COLOURS[role]
            if shape == "box":
                alpha = style["opacity"]
                marks.box(*places, color=colour, alpha=alpha, zorder=order)
            elif shape == "line":
                marks.line(*places, color=colour, lw=style["wide"], zorder=order)
            elif shape == "dot":
                inner = COLOURS["ground"] if style["hollow"] else colour
                wide = 2 if style["hollow"] else 0
                marks.dot(*places, fc=inner, ec=colour, lw=wide, zorder=order)
            else:
                ha = {"start": "left", "middle": "center", "end": "right"}
                x, y = places
                marks.text(
                    x,
                    y,
                    style["text"],
                    color=colour,
                    ha=ha[style["anchor"]],
                    fontsize=style["size"],
                    zorder=order,
                )
        return marks.png()
