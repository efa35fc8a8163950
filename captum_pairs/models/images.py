"""What every encoder of images has in common: baselines, and where patches lie."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
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
from captum_pairs.models.errors import reason_of
from captum_pairs.models.observed import MOST_BEFORE, observe_patches, Patches
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
        patches: into which the model cuts it; what the pixels are summed into if they
            are attributed to.
        channels_last: whether feature maps are (b, h, w, c).
    """

    view: View = View((1, 1), (1, 1), (1.0, 1.0), (0, 0))
    patches: Patches = Patches((1, 1))
    channels_last: bool = False

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the patches."""
        return self.patches.grid

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
        down, across = self.patches.size or (height / rows, width / columns)
        # a rest at the edge that is in no patch goes with the last one
        row = (torch.arange(height) / down).long().clamp(max=rows - 1)
        column = (torch.arange(width) / across).long().clamp(max=columns - 1)
        mask = (row[:, None] * columns + column)[None, None]
        features = patch_features(self.view, self.grid, self.patches.size)
        return Layout(features, mask, self.grid)

    def _token_layout(self, shape: Sequence[int]) -> Layout:
        """(1, tokens, d) or (tokens, 1, d): tokens that are no patches are special."""
        axis = 1 if shape[0] == 1 else 0
        count = int(shape[axis])
        grid, size = self.grid, self.patches.size
        while math.prod(grid) > count and max(grid) > 1:
            # deeper stages of a hierarchical model have half the rows and columns
            grid = -(-grid[0] // 2), -(-grid[1] // 2)
            size = None if size is None else (2 * size[0], 2 * size[1])
        more = count - math.prod(grid)
        if not 0 <= more <= (MOST_BEFORE if grid == self.grid else 0):
            raise InvalidArgumentError(
                "layer",
                f"a value whose tokens are patches of a {self.grid[0]} x "
                f"{self.grid[1]} grid",
                f"{count} tokens",
            )
        before = more if self.patches.before is None else self.patches.before
        names = ["class token", *(f"register {n}" for n in range(1, before))][:before]
        names += [f"token behind {n}" for n in range(1, more - before + 1)]
        features = patch_features(self.view, grid, size) + tuple(
            Feature(name, special=True) for name in names[:more]
        )
        patches, before = math.prod(grid), min(before, more)
        ids = torch.cat(
            [
                torch.arange(patches, patches + before),
                torch.arange(patches),
                torch.arange(patches + before, count),
            ]
        )
        mask_shape = [1] * 3
        mask_shape[axis] = count
        return Layout(features, ids.reshape(mask_shape), grid)


def patch_features(
    view: View,
    grid: tuple[int, int],
    size: Optional[tuple[float, float]] = None,
) -> tuple[Feature, ...]:
    """
    The patches of a grid, row by row.

    Args:
        size: their height and width in pixels of the processed image; None if they
            cover it evenly.
    """
    width, height = view.processed
    down, across = size or (height / grid[0], width / grid[1])
    return tuple(
        Feature(
            f"patch ({row}, {column})",
            box=view.to_original(
                (
                    column * across,
                    row * down,
                    min((column + 1) * across, width),
                    min((row + 1) * down, height),
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
        grid: rows and columns of patches of an image that is processed as most are;
            for a convolutional model those of its last feature map.
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
            patches=self.patches(pixels),
            channels_last=self.channels_last,
        )

    @cached_property
    def _known_patches(self) -> dict[tuple[int, ...], Patches]:
        """By the shape of pixels; kept of earlier questions, and no setting."""
        return {}

    def patches(self, pixels: Tensor) -> Patches:
        """
        How the model cuts pixels of this shape, which it is asked once for each.

        Raises:
            InvalidArgumentError: naming ``image_processor``, if it does not take them.
        """
        known = self._known_patches
        shape = tuple(pixels.shape)
        if shape not in known:
            if self.module is None:
                return Patches(self.grid)
            inputs = pixels.to(self.device)
            try:
                known[shape] = observe_patches(
                    self.module, self.embed, inputs, self.blocks
                )
            except (AssertionError, IndexError, RuntimeError, ValueError) as error:
                if isinstance(error, InvalidArgumentError):
                    raise
                raise InvalidArgumentError(
                    "image_processor",
                    "one that makes pixels that the model takes",
                    f"{shape[3]} x {shape[2]}: {reason_of(error)}",
                ) from error
        return known[shape]

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
