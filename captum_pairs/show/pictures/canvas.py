"""An image or sound as it is drawn, and where things are in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Optional

import numpy as np
from captum_pairs.attr import visualization
from captum_pairs.inputs import ExplainedInput
from captum_pairs.models.encoder import AUDIO, IMAGE
from captum_pairs.models.view import Box
from numpy.typing import NDArray

__all__ = [
    "around",
    "as_seen",
    "Canvas",
    "canvas_of",
    "is_seen",
    "place_of",
    "show_input",
]


@dataclass(frozen=True)
class Canvas:
    """An image or sound as it is drawn: see visualize_original_image."""

    image: Optional[NDArray[Any]]
    extent: Optional[Box]
    boxes: tuple[Optional[Box], ...]
    aspect: Literal["equal", "auto"]

    @property
    def ratio(self) -> float:
        """Height by width, as far as a page has room for it."""
        if self.aspect == "auto":
            return 0.45
        if self.extent is None:
            return 1.0
        left, top, right, bottom = self.extent
        return float(np.clip(abs(bottom - top) / abs(right - left), 0.4, 1.6))

    def draw(
        self,
        place: tuple[Any, Any],
        title: str = "",
        region: Optional[Box] = None,
        **more: Any,
    ) -> None:
        """Without attributions, on a figure and axes."""
        visualization.visualize_original_image(
            self.image,
            place,
            title,
            use_pyplot=False,
            region=region,
            boxes=self.boxes,
            extent=self.extent,
            aspect=self.aspect,
            **{"show_ticks": False, **more},
        )


def is_seen(side: ExplainedInput) -> bool:
    return side.kind in (IMAGE, AUDIO) and any(f.box is not None for f in side.features)


def canvas_of(side: ExplainedInput) -> Canvas:
    source = side.source
    boxes = tuple(feature.box for feature in side.features[: side.count])
    extent = source.visible
    if extent is None and source.size is not None:
        extent = (0.0, 0.0, source.size[0], source.size[1])
    if side.kind != AUDIO:
        return Canvas(source.picture, extent, boxes, "equal")
    if extent is not None:  # low bands below
        extent = (extent[0], extent[3], extent[2], extent[1])
    image = None if source.picture is None else _spectrogram(source.picture)
    return Canvas(image, extent, boxes, "auto")


def _spectrogram(values: NDArray[Any]) -> NDArray[np.uint8]:
    """(bands, frames) as grey, loud is dark, low bands below."""
    low, high = np.percentile(values, [1, 99])
    shares = (values[::-1] - low) / max(float(high - low), 1e-12)
    grey = np.rint(255 * (1 - np.clip(shares, 0, 1)))
    return np.asarray(grey, dtype=np.uint8)


def show_input(place: tuple[Any, Any], side: ExplainedInput, title: str) -> None:
    """An input with its pixels (seconds, bands) at the edges; a region outlined."""
    used = side.features[0].box if side.count == 1 and side.grid is None else None
    canvas_of(side).draw(
        place,
        title,
        used if side.asked is None else side.asked,
        used=None if side.asked is None else used,
        show_ticks=True,
        axis_labels=("seconds", "mel band") if side.kind == AUDIO else ("", ""),
    )


def as_seen(side: ExplainedInput) -> str:
    return "what the model hears" if side.kind == AUDIO else "what the model sees"


def around(side: ExplainedInput, group: Sequence[int]) -> Optional[Box]:
    boxes = [box for i in group if (box := side.features[i].box) is not None]
    if not boxes or len(boxes) == side.count > 1:
        return None
    left, top, right, bottom = zip(*boxes)
    return (min(left), min(top), max(right), max(bottom))


def place_of(side: ExplainedInput, group: Sequence[int]) -> str:
    box = around(side, group)
    if box is None:
        return f"the whole {side.kind}"
    if side.grid is None:
        return side.names[group[0]]
    return f"x {box[0]:.0f}–{box[2]:.0f}, y {box[1]:.0f}–{box[3]:.0f}"
