"""Encoders of images whose pixels a transform makes."""

from collections.abc import Callable, Sequence
from typing import Any, Optional

import torch
from captum_pairs.models.images import ImageEncoder
from captum_pairs.models.observed import ImageParts
from captum_pairs.models.view import View, Views
from PIL import Image
from torch import nn, Tensor

__all__ = [
    "centre_view",
    "measured_colors",
    "shortest_edge",
    "TransformedImageEncoder",
]

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
            mean, std: with which it normalises, (3,), as its settings say; if it does
                otherwise, what it does counts.
            parts: of the network.
        """
        self.module = module
        self.mean, self.std = tuple(mean), tuple(std)
        colors = measured_colors(transform)
        told = (*self.mean, *self.std)
        if any(abs(a - b) > 1e-3 for a, b in zip(told, (*colors[0], *colors[1]))):
            self.mean, self.std = colors
        self.blocks = list(parts.blocks)
        self.grid = parts.grid
        self.default_block = parts.default_block
        if parts.finer is not None:
            self.finer_block = parts.finer
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


def measured_colors(
    transform: Callable[[Image.Image], Tensor],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """
    Mean and standard deviation (3,) with which a transform normalises, by what it makes
    of black and of white.

    Raises:
        ValueError: if it makes something else of them than pixels of two colours.
    """
    black, white = (
        transform(Image.new("RGB", (256, 256), color)).double()
        for color in ("black", "white")
    )
    if black.ndim != 3 or len(black) != 3 or black.shape != white.shape:
        raise ValueError(f"it makes {tuple(black.shape)} of an image")
    # at the centre: what is padded has no color of the image's
    low, high = (p[:, p.shape[1] // 2, p.shape[2] // 2] for p in (black, white))
    if not bool((high - low).abs().min() > 1e-9):
        raise ValueError("it makes the same of black and of white")
    std = 1 / (high - low)
    return tuple((-low * std).tolist()), tuple(std.tolist())


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
