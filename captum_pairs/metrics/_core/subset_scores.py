#!/usr/bin/env python3
"""
A similarity where only some features of each input are there.

Notation: S and T are subsets of the features of x and of y, Z_x (m, G_x) and Z_y
(n, G_y) several of each as rows of zeros and ones. Absent features have the baseline's
value. Since the similarity is an inner product, m subsets and n subsets have m x n
scores that cost m + n embeddings.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Optional, Union

import torch
from captum_pairs.attr import FeaturePairOcclusion, InvalidArgumentError, Subsets
from captum_pairs.attr._utils.validation import (
    check_tensor,
    describe,
    optional_pair_of,
    positive_int,
)
from torch import Tensor

# What is measured of one method: A, or what each side's features are worth.
Attributions = Union[Tensor, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class SubsetScores:
    """
    One example.

    Args:

        row (int): Its place in the batch.
        sides (tuple[Subsets, Subsets]): Both inputs without some of their features.
        factor (Tensor): The similarity's.
        corners (Tensor): The score, that of the two baselines, and
                    s(x,y) - s(r_x,y) - s(x,r_y) + s(r_x,r_y): (3,).
        always (tuple): Of each side the features that are never absent, (G,) bool.
    """

    row: int
    sides: tuple[Subsets, Subsets]
    factor: Tensor
    corners: Tensor
    always: tuple[Tensor, Tensor]

    @property
    def counts(self) -> tuple[int, int]:
        """G_x and G_y."""
        return self.sides[0].count, self.sides[1].count

    def axes(self, side: int) -> tuple[int, ...]:
        """Those that a side's features have in attributions."""
        return self.sides[side].path.features.shape

    def draw(
        self, side: int, p: float, number: int, generator: Optional[torch.Generator]
    ) -> Tensor:
        """Subsets (number, G), bool, in which a feature is with probability p."""
        chances = torch.full((number, self.counts[side]), p, dtype=torch.float64)
        drawn = torch.bernoulli(chances, generator=generator).bool()
        return drawn | self.always[side]

    def scores(self, first: Tensor, second: Tensor) -> Tensor:
        """Of every S of Z_x and every T of Z_y, (m, n)."""
        x, y = self.sides[0].embed(first), self.sides[1].embed(second)
        dtype = torch.promote_types(x.dtype, y.dtype)
        scores = self.factor * (x.to(dtype) @ y.to(x.device, dtype).T)
        if not bool(torch.isfinite(scores).all()):
            raise InvalidArgumentError(
                "forward_func",
                "embeddings that the similarity is defined for",
                "NaN or infinity for a subset of the features (an embedding of norm "
                "zero has no cosine)",
            )
        return scores


def subset_scores(
    forward_func: Any,
    inputs: Any,
    baselines: Any,
    feature_mask: Any,
    additional_forward_args: Any,
    similarity: str,
    scale: float,
    layer: Any,
    attribute_to_layer_input: bool,
    always: Any = None,
    embed_subsets: Any = None,
    internal_batch_size: Optional[int] = None,
) -> Iterator[SubsetScores]:
    """The scores of a batch, one after the other, from the arguments that a pair method
    takes."""
    if internal_batch_size is not None:
        positive_int("internal_batch_size", internal_batch_size)
    pairs = FeaturePairOcclusion(forward_func, similarity, scale, layer)
    embeds = optional_pair_of("embed_subsets", embed_subsets)
    kept = optional_pair_of("always", always)
    examples = pairs.examples(
        inputs,
        baselines,
        feature_mask,
        additional_forward_args,
        attribute_to_layer_input,
    )
    x: Any
    y: Any
    for row, (x, y) in enumerate(examples):
        factor, corners = pairs.corners(x, y)
        yield SubsetScores(
            row,
            (
                Subsets(x, internal_batch_size, embeds[0]),
                Subsets(y, internal_batch_size, embeds[1]),
            ),
            factor,
            factor * corners,
            (
                _always(kept[0], x.features.count, 0),
                _always(kept[1], y.features.count, 1),
            ),
        )


def _always(features: Any, count: int, side: int) -> Tensor:
    """Indices of features as (G,), bool."""
    chosen = torch.zeros(count, dtype=torch.bool)
    given = features.tolist() if isinstance(features, Tensor) else features
    indices = list(given) if isinstance(given, (list, tuple, range, set)) else [given]
    indices = [] if given is None else indices
    if not all(type(i) is int and 0 <= i < count for i in indices) or (
        type(given) is int
    ):
        raise InvalidArgumentError(
            f"always[{side}]",
            f"a list of features from 0 to {count - 1}",
            describe(features),
        )
    chosen[indices] = True
    return chosen


def several(attributions: object) -> tuple[list[Any], bool]:
    """What is measured as a list, and whether it was one."""
    if isinstance(attributions, list):
        if not attributions:
            raise InvalidArgumentError(
                "attributions", "a tensor or several", describe(attributions)
            )
        return attributions, True
    return [attributions], False


def table_of(attributions: object, scores: SubsetScores, rows: int) -> Tensor:
    """A of an example, (G_x, G_y)."""
    first, second = scores.axes(0), scores.axes(1)
    shapes = ((*first, *second), scores.counts)
    found = _row("attributions", attributions, scores.row, rows, shapes)
    return found.reshape(scores.counts)


def effects_of(
    argument: str, values: object, scores: SubsetScores, side: int, rows: int
) -> Tensor:
    """What each feature of a side is worth, (G,)."""
    shapes = (scores.axes(side), (scores.counts[side],))
    return _row(argument, values, scores.row, rows, shapes).reshape(-1)


def _row(
    argument: str,
    values: object,
    row: int,
    rows: int,
    shapes: tuple[tuple[int, ...], ...],
) -> Tensor:
    """An example's numbers, if the tensor has one of these shapes behind its batch."""
    tensor = check_tensor(argument, values)
    if (
        tensor.shape[0] != rows
        or tuple(tensor.shape[1:]) not in shapes
        or not tensor.is_floating_point()
        or not bool(torch.isfinite(tensor[row]).all())
    ):
        raise InvalidArgumentError(
            argument,
            f"finite floating numbers of shape {(rows, *shapes[0])}",
            describe(values),
        )
    return tensor[row].detach().double()
