#!/usr/bin/env python3

from dataclasses import dataclass
from typing import Any, Callable, Optional

import torch
from captum.log import log_usage
from captum_pairs.attr._core.embedding_attribution import (
    EmbeddingAttribution,
    result_dtype,
)
from captum_pairs.attr._core.pair_attribution import layer_pair, PairAttribution
from captum_pairs.attr._utils.path import Path, Side
from captum_pairs.attr._utils.similarity import make_similarity
from captum_pairs.attr._utils.subsets import EmbedSubsets, Subsets
from captum_pairs.attr._utils.validation import (
    describe,
    InvalidArgumentError,
    optional_pair_of,
    positive_int,
)
from torch import nn, Tensor


@dataclass(frozen=True)
class Windows:
    """How features are occluded: alone, or in windows of a grid (rows, columns)."""

    grid: Optional[tuple[int, int]] = None
    size: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    internal_batch_size: Optional[int] = None
    embed_subsets: Optional[EmbedSubsets] = None

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
        for top in _starts(rows, self.size[0], self.stride[0]):
            for left in _starts(columns, self.size[1], self.stride[1]):
                window = torch.zeros(rows, columns, dtype=torch.bool)
                window[top : top + self.size[0], left : left + self.size[1]] = True
                hidden.append(window.flatten())
        masks = torch.zeros(len(hidden), count, dtype=torch.bool)
        masks[:, : rows * columns] = torch.stack(hidden)
        # features beside the grid (a class token) are occluded alone
        alone = torch.eye(count, dtype=torch.bool)[rows * columns :]
        return torch.cat([masks, alone])


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
    """

    needs_gradients = False

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        normalize: bool = False,
        layer: Optional[nn.Module] = None,
    ) -> None:
        r"""
        Args:

            forward_func, normalize, layer: As for :class:`JacobianXInput`.
        """
        super().__init__(forward_func, normalize)
        self.layer = layer

    @log_usage()
    def attribute(
        self,
        inputs: Tensor,
        baselines: Any = None,
        feature_mask: Optional[Tensor] = None,
        additional_forward_args: Any = None,
        grid: Optional[tuple[int, int]] = None,
        window: Any = 1,
        stride: Any = 1,
        embed_subsets: Optional[EmbedSubsets] = None,
        internal_batch_size: Optional[int] = None,
        attribute_to_layer_input: bool = False,
    ) -> Tensor:
        r"""
        Args:

            inputs, baselines, feature_mask, additional_forward_args: As for
                        :class:`IntegratedJacobian`.
            grid (tuple[int, int], optional): The first features are the places of a
                        grid (rows, columns), of which windows are occluded. Default:
                        every feature alone
            window, stride (int or tuple, optional): Of windows, in places. Default: 1
            embed_subsets (Callable, optional): As for :class:`EmbeddingBanzhaf`.
            internal_batch_size (int, optional): The most points run at once.
            attribute_to_layer_input (bool, optional): Default: False

        Returns:
            *Tensor*: contributions (b, \*features, k).

        Examples::

            >>> occlusion = EmbeddingOcclusion(nn.Linear(4, 3))
            >>> occlusion.attribute(torch.randn(2, 4)).shape
            torch.Size([2, 4, 3])
        """
        side = self._side(
            inputs,
            baselines,
            feature_mask,
            additional_forward_args,
            attribute_to_layer_input,
        )
        windows = _windows(grid, window, stride, internal_batch_size, embed_subsets)
        found = self._run(side, windows)
        return found.values.to(result_dtype(side, computed=found.values.dtype))

    def _plan(self, paths: Any, settings: Any, index: Optional[int]) -> Windows:
        mine: Windows = settings if index is None else settings[index]
        return mine

    def _contributions(self, path: Path, settings: Windows) -> Tensor:
        subsets = Subsets(path, settings.internal_batch_size, settings.embed_subsets)
        hidden = settings.masks(path.features.count)
        lost = path.embedding - subsets.embed(~hidden)  # (windows, k)
        shares = hidden.to(lost) / hidden.to(lost).sum(1, keepdim=True)
        covered = hidden.to(lost).sum(0)[:, None]
        mean: Tensor = shares.T @ lost / covered.clamp_min(1.0)
        return mean


def _windows(
    grid: object,
    window: object,
    stride: object,
    internal_batch_size: object,
    embed_subsets: Optional[EmbedSubsets],
) -> Windows:
    """Validated settings."""
    if internal_batch_size is not None:
        internal_batch_size = positive_int("internal_batch_size", internal_batch_size)
    if grid is None:
        if window != 1 or stride != 1:
            raise InvalidArgumentError(
                "grid", "rows and columns, for windows", describe(grid)
            )
        return Windows(
            internal_batch_size=internal_batch_size, embed_subsets=embed_subsets
        )
    return Windows(
        _two("grid", grid),
        _two("window", window),
        _two("stride", stride),
        internal_batch_size,
        embed_subsets,
    )


def _two(name: str, value: object) -> tuple[int, int]:
    parts = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(parts) != 2:
        raise InvalidArgumentError(name, "a number or two", describe(value))
    return positive_int(name, parts[0]), positive_int(name, parts[1])


class FeaturePairOcclusion(PairAttribution[Any]):
    r"""
    What a similarity loses together: inner products of :class:`EmbeddingOcclusion`'s
    vectors, which are four forward passes,

    .. math::
        A_{ij} = s(x, y) - s(x \setminus i, y) - s(x, y \setminus j)
                 + s(x \setminus i, y \setminus j),

    at the cost of one embedding for each feature of each side instead of one score for
    each pair.
    """

    def __init__(
        self,
        forward_func: Any,
        similarity: str = "cosine",
        scale: float = 1.0,
        layer: Any = None,
    ) -> None:
        r"""
        Args:

            forward_func, similarity, scale, layer: As for
                        :class:`FeaturePairJacobianXInput`.
        """
        score = make_similarity(forward_func, similarity, scale)
        layers = (None, None) if layer is None else layer_pair(layer)
        first, second = (
            EmbeddingOcclusion(encoder, score.kind == "cosine", place)
            for encoder, place in zip((score.encode_first, score.encode_second), layers)
        )
        super().__init__(score, first, second)

    @log_usage()
    def attribute(
        self,
        inputs: tuple[Tensor, Tensor],
        baselines: Any = None,
        feature_mask: Any = None,
        additional_forward_args: Any = None,
        grid: Any = None,
        window: Any = None,
        stride: Any = None,
        embed_subsets: Any = None,
        internal_batch_size: Optional[int] = None,
        attribute_to_layer_input: bool = False,
    ) -> Tensor:
        r"""
        Every argument but the last two is a pair, one element for each side.

        Args:

            inputs, baselines, feature_mask, additional_forward_args: As for
                        :class:`FeaturePairIntegratedGradients`.
            grid, window, stride, embed_subsets (tuple, optional): As for
                        :class:`EmbeddingOcclusion`, for each side.
            internal_batch_size (int, optional): The most points run at once.
            attribute_to_layer_input (bool, optional): Default: False

        Returns:
            *Tensor*: (b, \*features of x, \*features of y).

        Examples::

            >>> pairs = FeaturePairOcclusion((nn.Linear(6, 3), nn.Linear(4, 3)))
            >>> pairs.attribute((torch.randn(2, 6), torch.randn(2, 4))).shape
            torch.Size([2, 6, 4])
        """
        sides: tuple[Side, Side] = self._sides(
            inputs,
            baselines,
            feature_mask,
            additional_forward_args,
            attribute_to_layer_input,
        )
        settings = tuple(
            _windows(
                grid_of,
                1 if window_of is None else window_of,
                1 if stride_of is None else stride_of,
                internal_batch_size,
                embed_of,
            )
            for grid_of, window_of, stride_of, embed_of in zip(
                optional_pair_of("grid", grid),
                optional_pair_of("window", window),
                optional_pair_of("stride", stride),
                optional_pair_of("embed_subsets", embed_subsets),
            )
        )
        return self._pairs(sides, settings, effects=False).interactions
