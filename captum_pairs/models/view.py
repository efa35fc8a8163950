"""Where the pixels that a model sees lie in the original image."""

from dataclasses import dataclass
from typing import Any, Optional

from captum_pairs.attr import InvalidArgumentError

__all__ = ["Box", "View", "view_of"]

# left, top, right, bottom in pixels; right and bottom are exclusive
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class View:
    """
    A resize and a centre crop (or padding), as a map of coordinates.

    Args:
        original, processed: (width, height) in pixels.
        scale: processed pixels per original pixel, (x, y).
        offset: where the original's top left corner lies in the processed image,
            (x, y); negative where it was cropped.
    """

    original: tuple[int, int]
    processed: tuple[int, int]
    scale: tuple[float, float]
    offset: tuple[int, int]

    def to_processed(self, box: Box) -> Box:
        """A box of the original in pixels of the processed image, not cut."""
        (sx, sy), (ox, oy) = self.scale, self.offset
        left, top, right, bottom = box
        return (left * sx + ox, top * sy + oy, right * sx + ox, bottom * sy + oy)

    def to_original(self, box: Box) -> Optional[Box]:
        """A box of the processed image in pixels of the original, cut at its edges;
        None if nothing of it lies inside."""
        (sx, sy), (ox, oy), (width, height) = self.scale, self.offset, self.original
        left, right = (min(max((x - ox) / sx, 0.0), width) for x in box[::2])
        top, bottom = (min(max((y - oy) / sy, 0.0), height) for y in box[1::2])
        if left >= right or top >= bottom:
            return None
        return (left, top, right, bottom)

    @property
    def visible(self) -> Box:
        """The part of the original that the model sees, in its pixels."""
        whole = self.to_original((0, 0, *self.processed))
        return whole or (0.0, 0.0, float(self.original[0]), float(self.original[1]))


def view_of(processor: Any, size: tuple[int, int]) -> View:
    """
    What a Hugging Face image processor does to an image of this size.

    Args:
        processor: resizes to a height and width or to a shortest edge, then crops at
            the centre (padding what is missing), each if it is switched on.
        size: (width, height) of the original.

    Raises:
        InvalidArgumentError: for a processor that resizes in another way.
    """
    width, height = size
    resized = size
    if getattr(processor, "do_resize", False):
        resized = _resized(processor.size, size)
    left = top = 0
    processed = resized
    if getattr(processor, "do_center_crop", False):
        crop = _known(processor.crop_size)
        if not {"height", "width"} <= set(crop):
            raise _not_understood("crop_size", crop)
        processed = crop["width"], crop["height"]
        left, top = (_crop_offset(have, want) for have, want in zip(resized, processed))
    scale = resized[0] / width, resized[1] / height
    return View(size, processed, scale, (left, top))


def _resized(setting: Any, size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) after the resize."""
    known = _known(setting)
    if set(known) == {"height", "width"}:
        return known["width"], known["height"]
    if set(known) == {"shortest_edge"}:
        edge, short, long = known["shortest_edge"], min(size), max(size)
        # the longer side is cut to a whole number, as torchvision does
        new_long = int(edge * long / short)
        return (edge, new_long) if size[0] <= size[1] else (new_long, edge)
    raise _not_understood("size", known)


def _crop_offset(have: int, want: int) -> int:
    """Where the first pixel of a side comes to lie."""
    return (want - have) // 2 if want > have else -int((have - want) / 2)


def _known(setting: Any) -> dict[str, int]:
    """A processor's size without the keys that it leaves out."""
    values = setting if isinstance(setting, dict) else vars(setting)
    return {key: int(value) for key, value in values.items() if value is not None}


def _not_understood(name: str, setting: dict[str, int]) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"image_processor.{name}",
        "height and width, or (of a resize) a shortest edge",
        f"{setting}",
    )
