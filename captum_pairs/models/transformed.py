"""Encoders of images whose pixels a transform makes."""

from collections.abc import Callable, Sequence
from typing import Any, Optional

import torch
from captum_pairs.models.images import ImageEncoder
from captum_pairs.models.observed import ImageParts
from captum_pairs.models.view import View, Views
from PIL import Image
from torch import nn, Tensor

__all__ = ["centre_view", "shortest_edge", "TransformedImageEncoder"]

Size = tuple[int, int]


class TransformedImageEncoder(ImageEncoder):
    """An image through a transform (PIL image to (3, h, w)) and a network."""

    def __init__(
        self,
        module: nn.Module,
        embed: Callable[[Tensor], Tensor],
        transform: Callable[[Image.Image], Tensor],
        view: Optional[Callable[[Size], View]],
        mean: Sequence[float],
        std: Sequence[float],
        parts: ImageParts,
    ) -> None:
        """
        Args:
            module: what the network is a part of.
            embed: pixels (b, 3, h, w) to embeddings (b, k).
            transform: resizes, crops and normalises.
            view: what the transform does to an image of a size (width, height), as its
                settings say; None if it has to be measured.
            mean, std: with which it normalises, (3,).
            parts: of the network.
        """
        self.module = module
        self.mean = tuple(mean)
        self.std = tuple(std)
        self.blocks = list(parts.blocks)
        self.grid = parts.grid
        self.default_block = parts.default_block
        self.channels_last = parts.channels_last
        self._embed = embed
        self._transform = transform
        self._told = view
        self._views = Views("transform")

    def process(self, image: Image.Image) -> tuple[Tensor, View]:
        told = None if self._told is None else self._told(image.size)
        view = self._views.view(self._transform, image.size, told)
        return self._transform(image)[None].float(), view

    def normalized(self, color: Sequence[float]) -> Tensor:
        return (torch.tensor(color) - torch.tensor(self.mean)) / torch.tensor(self.std)

    def embed(self, inputs: Tensor, *arguments: Any) -> Tensor:
        return self._embed(inputs, *arguments)


def shortest_edge(size: Size, edge: int) -> Size:
    """A size (width, height) whose shorter side is made `edge`, as torchvision does."""
    short, long = min(size), max(size)
    other = int(edge * long / short)
    return (edge, other) if size[0] <= size[1] else (other, edge)


def centre_view(original: Size, resized: Size, processed: Size) -> View:
    """
    A resize, and torchvision's crop at the centre, which pads what is missing.

    Args:
        original, resized, processed: (width, height).
    """
    left, top = (
        # torchvision rounds half a pixel to the even one
        (want - have) // 2 if want > have else -round((have - want) / 2)
        for have, want in zip(resized, processed)
    )
    scale = resized[0] / original[0], resized[1] / original[1]
    return View(original, processed, scale, (left, top))
