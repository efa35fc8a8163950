#!/usr/bin/env python3

from dataclasses import dataclass
from typing import Any, ClassVar, Optional

import torch
from captum_pairs.attr._core.embedding_attribution import EmbeddingAttribution, Shares
from captum_pairs.attr._core.pair_attribution import PairAttribution
from captum_pairs.attr._utils.example import BaselinePath
from captum_pairs.attr._utils.subsets import EmbedSubsets, Subsets
from captum_pairs.attr._utils.validation import (
    check_chunk,
    describe,
    InvalidArgumentError,
    positive_int,
)
from torch import Tensor


@dataclass(frozen=True)
class Windows:
    """
    How features are occluded: alone, or in windows of a grid.

    Args:

        grid (tuple[int, int], optional): The first features are the places of a grid
                    (rows, columns), of which windows are occluded. Default: every
                    feature alone
        window, stride (int or tuple): Of windows, in places. Default: 1
        embed_subsets (Callable, optional): As for :class:`EmbeddingBanzhaf`.
        internal_batch_size (int, optional): The most points run at once.
    """

    grid: Optional[tuple[int, int]] = None
    window: Any = 1
    stride: Any = 1
    embed_subsets: Optional[EmbedSubsets] = None
    internal_batch_size: Optional[int] = None

    per_side: ClassVar[tuple[str, ...]] = ("grid", "window", "stride", "embed_subsets")

    def __post_init__(self) -> None:
        check_chunk(self.internal_batch_size)
        for name in ("grid", "window", "stride"):
            if name != "grid" or self.grid is not None:
                object.__setattr__(self, name, _two(name, getattr(self, name)))
        if self.grid is None and (*self.window, *self.stride) != (1, 1, 1, 1):
            raise InvalidArgumentError(
                "grid", "rows and columns, for windows", describe(self.grid)
            )

    def masks(self, count: int) -> Tensor:
        """(windows, G), bool: what each window hides; every feature is in one."""
        if self.grid is None:
            return torch.eye(count, dtype=torch.bool)
        rows, columns = self.grid
        if rows * columns > count:
            raise InvalidArgumentError(
                "grid", f"rows and columns of at most {count} features", str(self.grid)
            )
        hidden = []
        for top in _starts(rows, self.window[0], self.stride[0]):
            for left in _starts(columns, self.window[1], self.stride[1]):
                window = torch.zeros(rows, columns, dtype=torch.bool)
                window[top : top + self.window[0], left : left + self.window[1]] = True
                hidden.append(window.flatten())
        masks = torch.zeros(len(hidden), count, dtype=torch.bool)
        masks[:, : rows * columns] = torch.stack(hidden)
        # features beside the grid (a class token) are occluded alone
        alone = torch.eye(count, dtype=torch.bool)[rows * columns :]
        return torch.cat([masks, alone])


def _two(name: str, value: object) -> tuple[int, int]:
    parts = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(parts) != 2:
        raise InvalidArgumentError(name, "a number or two", describe(value))
    return positive_int(name, parts[0]), positive_int(name, parts[1])


def _starts(length: int, size: int, stride: int) -> list[int]:
    """Where windows begin; the last one ends with the grid."""
    last = max(length - size, 0)
    starts = list(range(0, last + 1, stride))
    return starts if starts[-1] == last else [*starts, last]


class EmbeddingOcclusion(EmbeddingAttribution[Windows]):
    r"""
    What an embedding loses without a feature, whose scalars take the baseline's value:

    .. math::
        c_i = g(x) - g(x \setminus i) \in R^k.

    With windows, a feature's vector is the mean over the windows that hide it of what
    is lost, divided by the features that each hides. (Zeiler and Fergus, ECCV 2014, of
    a class score.)

    Examples::

        >>> occlusion = EmbeddingOcclusion(nn.Linear(4, 3))
        >>> occlusion.attribute(torch.randn(2, 4)).shape
        torch.Size([2, 4, 3])
    """

    needs_gradients = False
    settings_type = Windows

    def contributions(self, path: BaselinePath, settings: Windows) -> Tensor:
        subsets = Subsets.of(path, settings)
        hidden = settings.masks(path.features.count)
        lost = path.embedding - subsets.embed(~hidden)  # (windows, k)
        shares = hidden.to(lost) / hidden.to(lost).sum(1, keepdim=True)
        covered = hidden.to(lost).sum(0)[:, None]
        mean: Tensor = shares.T @ lost / covered.clamp_min(1.0)
        return mean

    def shares(self, path: BaselinePath, settings: Windows) -> Shares:
        found = super().shares(path, settings)
        if settings.embed_subsets is None:
            return found
        nothing = torch.zeros(1, path.features.count, dtype=torch.bool)
        start = Subsets.of(path, settings).embed(nothing)[0]
        return found._replace(baseline_embedding=start)


class FeaturePairOcclusion(PairAttribution):
    r"""
    What a similarity loses together: inner products of :class:`EmbeddingOcclusion`'s
    vectors, which are four forward passes,

    .. math::
        A_{ij} = s(x, y) - s(x \setminus i, y) - s(x, y \setminus j)
                 + s(x \setminus i, y \setminus j),

    at the cost of one embedding for each feature of each side instead of one score for
    each pair. Of ``grid``, ``window``, ``stride`` and ``embed_subsets`` there is a
    pair, one for each side.

    Examples::

        >>> pairs = FeaturePairOcclusion((nn.Linear(6, 3), nn.Linear(4, 3)))
        >>> pairs.attribute((torch.randn(2, 6), torch.randn(2, 4))).shape
        torch.Size([2, 6, 4])
    """

    embedding_attribution = EmbeddingOcclusion
