"""What the library needs to know of an encoder: the description that adapters fill in.

An adapter hooks a model and never rewrites its forward pass: it says how an input is
prepared, where the path to it starts, which blocks there are, what the positions of a
block's value stand for, and how the model embeds.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Optional, TypeVar

import torch
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.models.view import Box, View
from PIL.Image import Image
from torch import nn, Tensor

__all__ = [
    "DualEncoder",
    "Encoder",
    "Feature",
    "Prepared",
    "PreparedImage",
    "PreparedText",
]


@dataclass(frozen=True)
class Feature:
    """
    Positions of a block's value that stand for one thing.

    Args:
        name: a word as written, "patch (row, column)", or a special token's name.
        positions: the positions that are summed.
        special: whether it is no part of the input: [BOS], [EOS], the class token.
        span: a word's half-open character offsets in the text.
        box: a patch's box in pixels of the original image, cut at its edges; None if
            it shows nothing of it.
        processed_box: a patch's box in pixels of the processed image.
    """

    name: str
    positions: tuple[int, ...]
    special: bool = False
    span: Optional[tuple[int, int]] = None
    box: Optional[Box] = None
    processed_box: Optional[Box] = None


@dataclass(frozen=True)
class Prepared:
    """
    An input as its encoder takes it.

    Args:
        inputs: (1, ...).
        baseline: where the path starts, of the shape of inputs.
        features: a partition of the positions of a block's value; special ones last.
    """

    inputs: Tensor
    baseline: Tensor
    features: tuple[Feature, ...]

    def feature_mask(self) -> Tensor:
        """(1, positions, 1): each position's feature."""
        ids = {
            position: index
            for index, feature in enumerate(self.features)
            for position in feature.positions
        }
        return torch.tensor([ids[position] for position in range(len(ids))])[
            None, :, None
        ]


@dataclass(frozen=True)
class PreparedImage(Prepared):
    """
    An image as its encoder takes it.

    Args:
        image: the original, RGB, upright.
        view: how the processed image lies on it.
        grid: rows and columns of patches; they are the first features, row by row.
    """

    image: Image
    view: View
    grid: tuple[int, int]


@dataclass(frozen=True)
class PreparedText(Prepared):
    """
    A text as its encoder takes it.

    Args:
        text: as it was written.
    """

    text: str


Input = TypeVar("Input", bound=Prepared, covariant=True)


class Encoder(ABC, Generic[Input]):
    """
    One side of a dual encoder.

    Attributes:
        blocks: the modules at whose inputs can be attributed, in order; the value there
            is (b, positions, width).
        default_block: the index of the one that is used unless another is asked for.
        baseline_name: the baseline in words.
    """

    blocks: Sequence[nn.Module]
    default_block: int
    baseline_name: str

    @abstractmethod
    def prepare(self, raw: Any) -> Input:
        """An image (path, PIL image, array) or a text, made ready."""

    @abstractmethod
    def embed(self, inputs: Tensor) -> Tensor:
        """(b, ...) to embeddings (b, k), before normalisation."""

    def block_index(self, argument: str, index: Optional[int]) -> int:
        """The index of a block from 0; negative ones count from the last."""
        if index is None:
            return self.default_block
        count = len(self.blocks)
        if not -count <= index < count:
            raise InvalidArgumentError(
                argument,
                f"a block from 0 to {count - 1}, or -{count} to -1",
                f"{index}",
            )
        return index % count


@dataclass(frozen=True)
class DualEncoder:
    """
    An image encoder and a text encoder whose embeddings are compared by their cosine.

    Args:
        name: what was loaded.
        image, text: the two sides.
        logit_scale: what the model multiplies the cosine by.
    """

    name: str
    image: Encoder[PreparedImage]
    text: Encoder[PreparedText]
    logit_scale: float
