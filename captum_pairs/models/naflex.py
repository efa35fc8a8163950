"""SigLIP 2's NaFlex images: patches of any number of rows and columns."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Optional

import numpy as np
import torch
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.models.encoder import Encoder, IMAGE, Layout
from captum_pairs.models.images import (
    BLACK,
    BLUR,
    blurred,
    image_source,
    IN_WORDS,
    MEAN,
    patch_features,
    PreparedImage,
)
from captum_pairs.models.observed import find_blocks, Patches
from captum_pairs.models.photo import ImageLike, read_image
from captum_pairs.models.view import View, Views
from PIL import Image
from torch import Tensor

__all__ = ["NaFlexEncoder"]


@dataclass(frozen=True)
class PreparedPatches(PreparedImage):
    """An image as patches (1, rows * columns, values)."""

    def layout(self, shape: Sequence[int], at_input: bool, tokens: bool) -> Layout:
        """The patches, in the input as in every block."""
        count = self.grid[0] * self.grid[1]
        if len(shape) != 3 or shape[1] != count:
            raise InvalidArgumentError(
                "layer",
                f"a layer whose value has a place for each of {count} patches",
                f"a value of shape {tuple(shape)}",
            )
        mask = torch.arange(count).reshape(1, count, 1)
        return Layout(patch_features(self.view, self.grid), mask, self.grid)


class NaFlexEncoder(Encoder):
    """
    The image side of a ``Siglip2Model``.

    Its processor cuts an image of any shape into at most so many patches and pads
    these. The padding, which the model masks, is left out.
    """

    kind = IMAGE
    baselines: ClassVar[tuple[str, ...]] = (MEAN, BLACK, BLUR)

    def __init__(self, model: Any, processor: Any) -> None:
        """
        Args:
            model: a ``Siglip2Model``.
            processor: its image processor.
        """
        self.module = model
        self.processor = processor
        self.blocks = find_blocks(model.vision_model)
        self.default_block = len(self.blocks) // 3
        self.views = Views("image_processor")

    def prepare(
        self, raw: ImageLike, baseline: Optional[str] = None
    ) -> PreparedPatches:
        """
        An image as the model takes it.

        Raises:
            UnreadableImageError: for what is not an image.
            InvalidArgumentError: naming ``image_processor``, for one that does more
                than to resize images and to cut them into patches.
        """
        name = self.check_baseline(baseline)
        image = read_image(raw)
        patches, (rows, columns) = self._patches(image)
        side = int(self.processor.patch_size)
        width, height = columns * side, rows * side
        scale = width / image.width, height / image.height
        told = View(image.size, (width, height), scale, (0, 0))
        view = self.views.view(self._pixels, image.size, told)
        return PreparedPatches(
            patches,
            self._baseline(image, patches, name),
            image_source(image, view),
            IN_WORDS[name],
            (torch.ones(1, rows * columns), torch.tensor([[rows, columns]])),
            view=view,
            patches=Patches((rows, columns)),
        )

    def _patches(self, image: Image.Image) -> tuple[Tensor, tuple[int, int]]:
        """(1, rows * columns, values) without padding; rows and columns."""
        found = self.processor(images=image, return_tensors="pt")
        rows, columns = (int(n) for n in found["spatial_shapes"][0])
        patches = found["pixel_values"][:, : rows * columns].to(self.dtype)
        return patches, (rows, columns)

    def _pixels(self, image: Image.Image) -> Tensor:
        """(3, h, w): the patches in their places."""
        patches, (rows, columns) = self._patches(image)
        side = int(self.processor.patch_size)
        shape = rows, columns, side, side, 3
        if patches.numel() != math.prod(shape):
            raise InvalidArgumentError(
                "image_processor",
                f"patches of {side} x {side} pixels, in {rows} rows and {columns} "
                "columns",
                f"{patches.shape[1]} of {patches.shape[2]} values",
            )
        # (rows, columns, down, across, channel) -> (channel, h, w)
        moved = patches.reshape(shape).permute(4, 0, 2, 1, 3)
        return moved.reshape(3, rows * side, columns * side)

    def _baseline(self, image: Image.Image, patches: Tensor, name: str) -> Tensor:
        if name == MEAN and self.processor.do_normalize:
            return torch.zeros_like(patches)
        if name == BLUR:
            return self._patches(blurred(image))[0]
        color = (0, 0, 0)
        if name == MEAN:
            color = tuple(round(255 * value) for value in self.processor.image_mean)
        plain = Image.fromarray(
            np.full((image.height, image.width, 3), color, dtype=np.uint8)
        )
        return self._patches(plain)[0]

    def embed(self, inputs: Tensor, *arguments: Any) -> Tensor:
        mask, shapes = arguments
        model: Any = self.module
        found = model.get_image_features(
            pixel_values=inputs, pixel_attention_mask=mask, spatial_shapes=shapes
        )
        embeddings: Tensor = getattr(found, "pooler_output", found)
        return embeddings
