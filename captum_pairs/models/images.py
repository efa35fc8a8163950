"""What every encoder of images has in common: baselines, and where patches lie."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Optional

import numpy as np
import torch
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.models.encoder import (
    Encoder,
    Feature,
    IMAGE,
    Layer,
    Layout,
    Prepared,
    Source,
    thumbnail,
)
from captum_pairs.models.photo import ImageLike, read_image
from captum_pairs.models.removal import PatchesLeft
from captum_pairs.models.view import View
from PIL.Image import Image
from PIL.ImageFilter import GaussianBlur
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

__all__ = ["blurred", "image_source", "ImageEncoder", "patch_features", "PreparedImage"]

MEAN, BLACK, BLUR = "mean color", "black", "blur"
IN_WORDS = {
    MEAN: "an image of the mean color",
    BLACK: "a black image",
    BLUR: "the blurred image",
}
# Of the image's side: what is left of it is its colours, not its shapes.
_BLUR_SHARE = 1 / 8


@dataclass(frozen=True)
class PreparedImage(Prepared):
    """
    An image as its encoder takes it.

    Args:
        view: how the processed image lies on the original.
        grid: rows and columns of the patches into which the model cuts it; what the
            pixels are summed into if they are attributed to.
    """

    view: View = View((1, 1), (1, 1), (1.0, 1.0), (0, 0))
    grid: tuple[int, int] = (1, 1)
    channels_last: bool = False

    def layout(self, shape: Sequence[int], at_input: bool, tokens: bool) -> Layout:
        """Patches or places of a feature map, then tokens that are no patch."""
        if at_input:
            return self._pixel_layout(shape)
        if len(shape) == 4:
            rows, columns = shape[1:3] if self.channels_last else shape[2:4]
            mask = torch.arange(rows * columns).reshape(1, rows, columns)
            mask = mask.unsqueeze(3 if self.channels_last else 1)
            grid = int(rows), int(columns)
            return Layout(patch_features(self.view, grid), mask, grid)
        if len(shape) == 3:
            return self._token_layout(shape)
        if len(shape) == 2:
            whole = Feature("whole image", box=self.view.visible)
            return Layout((whole,), torch.zeros(1, 1, dtype=torch.int64), (1, 1))
        raise InvalidArgumentError(
            "layer", "a layer whose value has patches", f"shape {tuple(shape)}"
        )

    def embed_what_is_left(
        self, encoder: Encoder, layer: Layer, layout: Layout
    ) -> Callable[[Tensor], Tensor]:
        """Patches are taken out at the layer, if its value is a sequence."""
        if layer.module is None or layout.mask.ndim != 3:
            return super().embed_what_is_left(encoder, layer, layout)
        return PatchesLeft(encoder, self, layer, layout)

    def _pixel_layout(self, shape: Sequence[int]) -> Layout:
        """(1, 3, h, w): pixels, summed into patches."""
        (rows, columns), (height, width) = self.grid, shape[-2:]
        row = (torch.arange(height) * rows) // height
        column = (torch.arange(width) * columns) // width
        mask = (row[:, None] * columns + column)[None, None]
        return Layout(patch_features(self.view, self.grid), mask, self.grid)

    def _token_layout(self, shape: Sequence[int]) -> Layout:
        """(1, tokens, d) or (tokens, 1, d): tokens before the patches are special."""
        axis = 1 if shape[0] == 1 else 0
        count = int(shape[axis])
        grid = self.grid
        while math.prod(grid) > count and max(grid) > 1:
            # deeper stages of a hierarchical model have half the rows and columns
            grid = -(-grid[0] // 2), -(-grid[1] // 2)
        before = count - math.prod(grid)
        if grid != self.grid and before:
            raise InvalidArgumentError(
                "layer",
                f"a value whose tokens are patches of a {self.grid[0]} x "
                f"{self.grid[1]} grid",
                f"{count} tokens",
            )
        names = ["class token", *(f"register {n}" for n in range(1, before))]
        features = patch_features(self.view, grid) + tuple(
            Feature(name, special=True) for name in names[:before]
        )
        patches = math.prod(grid)
        ids = torch.cat([torch.arange(patches, count), torch.arange(patches)])
        mask_shape = [1] * 3
        mask_shape[axis] = count
        return Layout(features, ids.reshape(mask_shape), grid)


def patch_features(view: View, grid: tuple[int, int]) -> tuple[Feature, ...]:
    """The patches of a grid that covers the processed image, row by row."""
    width, height = view.processed
    across, down = width / grid[1], height / grid[0]
    return tuple(
        Feature(
            f"patch ({row}, {column})",
            box=view.to_original(
                (
                    column * across,
                    row * down,
                    (column + 1) * across,
                    (row + 1) * down,
                )
            ),
        )
        for row in range(grid[0])
        for column in range(grid[1])
    )


class ImageEncoder(Encoder):
    """
    Base of the encoders of images: an adapter says how pixels are made.

    Attributes:
        grid: rows and columns of patches of the processed image; for a convolutional
            model those of its last feature map.
        channels_last: whether its feature maps are (b, h, w, c).
    """

    kind = IMAGE
    baselines: ClassVar[tuple[str, ...]] = (MEAN, BLACK, BLUR)
    grid: tuple[int, int]
    channels_last: bool = False

    def process(self, image: Image) -> tuple[Tensor, View]:
        """An RGB image's pixels (1, 3, h, w), and how they lie on it."""
        raise NotImplementedError(f"{type(self).__name__}.process")

    def normalized(self, color: Sequence[float]) -> Tensor:
        """A colour in [0, 1] as the model sees it, (3,)."""
        raise NotImplementedError(f"{type(self).__name__}.normalized")

    # The colour that normalisation maps to zero.
    mean: Sequence[float] = (0.5, 0.5, 0.5)

    def prepare(self, raw: ImageLike, baseline: Optional[str] = None) -> PreparedImage:
        """
        An image as the model takes it.

        Raises:
            UnreadableImageError: for what is not an image.
            InvalidArgumentError: if image processor and model don't fit each other.
        """
        name = self.check_baseline(baseline)
        image = read_image(raw)
        pixels, view = self.process(image)
        pixels = pixels.to(self.dtype)
        return PreparedImage(
            pixels,
            self.baseline(pixels, name),
            image_source(image, view),
            IN_WORDS[name],
            view=view,
            grid=self.grid,
            channels_last=self.channels_last,
        )

    def baseline(self, pixels: Tensor, name: str) -> Tensor:
        """Pixels that say nothing, of the shape of pixels (1, 3, h, w)."""
        if name == BLUR:
            sigma = _BLUR_SHARE * min(pixels.shape[-2:])
            size = 2 * int(2 * sigma) + 1
            size = min(size, 2 * ((min(pixels.shape[-2:]) - 1) // 2) + 1)
            blurred: Tensor = gaussian_blur(pixels, [size, size], [sigma, sigma])
            return blurred
        color = self.normalized(self.mean if name == MEAN else (0.0, 0.0, 0.0))
        return color.to(pixels)[None, :, None, None].expand_as(pixels).contiguous()


def blurred(image: Image) -> Image:
    """An image of which colours are left, but no shapes."""
    return image.filter(GaussianBlur(_BLUR_SHARE * min(image.size)))


def image_source(image: Image, view: View) -> Source:
    """What an explanation remembers of an image."""
    left, top, right, bottom = view.visible
    box = math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)
    seen = thumbnail(np.asarray(image.crop(box)))
    size: Any = tuple(float(side) for side in image.size)
    return Source(IMAGE, size=size, visible=view.visible, picture=seen)
