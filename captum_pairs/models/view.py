"""Where the pixels that a model sees lie in the original image."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, Optional

import numpy as np
from captum_pairs.attr import InvalidArgumentError
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

__all__ = ["Box", "View", "view_of", "Views"]

# left, top, right, bottom in pixels; right and bottom are exclusive
Box = tuple[float, float, float, float]
# An RGB image to pixels (3, h, w) or (1, 3, h, w).
Process = Callable[[Image.Image], Tensor]

# How far a view that was told may be from what is measured, in processed pixels.
_AGREES = 0.75
# A ramp over fewer pixels says nothing.
_SHORTEST = 8
# Of so many sizes that agreed in a row, what is told is taken without a measurement.
_TRUSTED = 16
# So many sizes of images are remembered.
_MOST_KNOWN = 4096


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
    offset: tuple[float, float]

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


# ---- what a processor does, measured -----------------------------------------


class Views:
    """
    The views of one processor, measured for each size of images: pictures that say
    their own coordinates go through the processor itself. What is told of it, from its
    settings, is exact and is taken if it agrees; after many sizes of which all agreed
    it is believed.
    """

    def __init__(self, argument: str) -> None:
        """
        Args:
            argument: what the processor is called in an error.
        """
        self._argument = argument
        self._known: dict[tuple[int, int], View] = {}
        self._agreed = 0

    def view(
        self, process: Process, size: tuple[int, int], told: Optional[View]
    ) -> View:
        """
        How the processed image lies on one of a size.

        Args:
            process: the processor.
            size: (width, height).
            told: the view by the processor's settings, if they are understood.

        Raises:
            InvalidArgumentError: for a processor that does something else than to
                resize, cut out and pad.
        """
        if size not in self._known:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            if told is not None and self._agreed >= _TRUSTED:
                return told
            found = self._found(process, size, told)
            # once it was wrong it is not believed again
            self._agreed = self._agreed + 1 if found is told else -(2**31)
            self._known[size] = found
        return self._known[size]

    def _found(
        self, process: Process, size: tuple[int, int], told: Optional[View]
    ) -> View:
        black, white = (
            _values(process, Image.new("RGB", size, color))
            for color in ("black", "white")
        )
        span = white - black
        height, width = span.shape
        if not np.abs(span).max() > 1e-6:
            self._refuse("makes the same of a black and of a white image")
        # what is padded is the same in both
        inside = np.abs(span) > 0.5 * np.abs(span).max()
        across, down = (
            self._line(process, size, axis, black, span, inside) for axis in (0, 1)
        )
        if told is not None and told.processed == (width, height):
            lines = across, down
            if all(
                line is None or _agree(line, told, axis, size[axis])
                for axis, line in enumerate(lines)
            ):
                return told
        if across is None or down is None:
            self._refuse(f"can't be measured on an image of {size[0]} x {size[1]}")
        scale = 1 / across[0], 1 / down[0]
        offset = -across[1] / across[0], -down[1] / down[0]
        return View(size, (width, height), scale, offset)

    def _line(
        self,
        process: Process,
        size: tuple[int, int],
        axis: int,
        black: NDArray[np.float64],
        span: NDArray[np.float64],
        inside: NDArray[np.bool_],
    ) -> Optional[tuple[float, float]]:
        """Slope and intercept of the original coordinate (0: x, 1: y) as a function of
        the processed one; None for an image that is too small to tell."""
        length = size[axis]
        if length < _SHORTEST:
            return None
        ramp = np.linspace(0, 255, length).round().astype(np.uint8)
        grey = np.broadcast_to(ramp if axis == 0 else ramp[:, None], size[::-1])
        values = _values(
            process, Image.fromarray(np.ascontiguousarray(grey)).convert("RGB")
        )
        if values.shape != span.shape:
            self._refuse("makes pixels of another size of an image of the same one")
        share = np.where(inside, values - black, 0.0) / np.where(inside, span, 1.0)
        found = share * (length - 1) + 0.5  # of a pixel its middle
        rows, columns = np.nonzero(inside)
        at = (columns if axis == 0 else rows) + 0.5
        return self._fitted(at, found[rows, columns], length)

    def _fitted(
        self, at: NDArray[Any], found: NDArray[Any], length: int
    ) -> Optional[tuple[float, float]]:
        # filters see nothing beyond the edges, and overshoot there
        reach = max(2.0, (found.max() - found.min()) / max(at.max() - at.min(), 1.0))
        inner = (found > 2 * reach) & (found < length - 2 * reach)
        if len(np.unique(at[inner])) < 2:
            inner = np.ones_like(inner)
        if len(np.unique(at[inner])) < 2:
            return None
        slope, intercept = np.polyfit(at[inner], found[inner], 1)
        if slope <= 0:
            self._refuse("mirrors or turns images")
        # in processed pixels: rounding to 8 bits, and one sample of either image
        error = np.abs(found[inner] - slope * at[inner] - intercept) / slope
        if error.max() > 1.5 + (1.5 + length / 255) / slope:
            self._refuse("bends images, or changes them by what is on them")
        return float(slope), float(intercept)

    def _refuse(self, what: str) -> NoReturn:
        raise InvalidArgumentError(
            self._argument,
            "one that resizes images, cuts out of them and pads them",
            f"one that {what}",
        )


def _values(process: Process, image: Image.Image) -> NDArray[np.float64]:
    """(h, w): the mean of the channels."""
    pixels = process(image).detach().double()
    found: NDArray[np.float64] = pixels.reshape(-1, *pixels.shape[-2:]).mean(0).numpy()
    return found


def _agree(line: tuple[float, float], told: View, axis: int, length: int) -> bool:
    """Whether a view maps both ends to where the line has them."""
    slope, intercept = line
    return all(
        abs((at - intercept) / slope - (at * told.scale[axis] + told.offset[axis]))
        <= _AGREES + 0.5 / slope * length / 255
        for at in (0.0, float(length))
    )
