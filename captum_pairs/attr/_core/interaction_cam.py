#!/usr/bin/env python3

from dataclasses import dataclass
from typing import Any, Callable, Optional

import torch
from captum.log import log_usage
from captum_pairs.attr._core.embedding_attribution import (
    check_finite,
    EmbeddingAttribution,
    NoSettings,
    result_dtype,
)
from captum_pairs.attr._core.pair_attribution import PairAttribution
from captum_pairs.attr._utils.example import Example, Side
from captum_pairs.attr._utils.validation import describe, InvalidArgumentError, one_of
from torch import nn, Tensor

_REDUCTIONS = ("mean", "max", "attention")


@dataclass(frozen=True)
class _Weighted:
    """
    A layer's value with its gradients: positions as rows.

    Args:
        values: F, (positions, d).
        weighted: F times the positive part of its gradient, (positions, d).
    """

    values: Tensor
    weighted: Tensor

    def pooled(self, reduction: str) -> Tensor:
        """(d,)."""
        if reduction == "mean":
            return self.values.mean(0)
        if reduction == "max":
            return self.values.amax(0)
        attention = (self.values @ self.values.mean(0)).softmax(0)
        return attention @ self.values


class _Features(EmbeddingAttribution[NoSettings]):
    """An encoder at a layer, whose value is weighted by the similarity's gradient."""

    has_baseline = False

    def weighted(
        self, example: Example, direction: Tensor
    ) -> tuple[_Weighted, tuple[int, ...]]:
        """By the gradient of the inner product with a direction (k,), and the axes of
        the positions."""
        rows, axes, channel = example.positions()
        with example.run(example.value[None]) as (leaf, embeddings):
            cotangent = direction.to(embeddings)[None]
            gradient = example.gradient(embeddings, leaf, cotangent, create_graph=False)
        positive = gradient[0].to(rows).clamp_min(0.0).movedim(channel, -1)
        return _Weighted(rows, rows * positive.reshape(rows.shape)), axes


class FeaturePairInteractionCam(PairAttribution):
    r"""
    Interaction-CAM (Sammani et al., "Visualizing and Understanding Contrastive
    Learning", IEEE TIP 2023, https://arxiv.org/abs/2206.09753): class activation maps
    of two inputs that pass the same layer, whose channels count as both use them.

    With F and H the layer's value for x and y, and G and K the gradients of the score
    with respect to them, the published maps (:meth:`maps`) are

    .. math::
        M_p = \sum_d F_{pd} \max(G_{pd}, 0)\, w_d, \qquad
        w_d = \mathrm{pool}_p(F_{pd})\, \mathrm{pool}_q(H_{qd}),

    and likewise of y. They tell what of each input matters for the pair, and not which
    place matches which; :meth:`attribute` is the product before pooling,

    .. math::
        A_{pq} = \sum_d F_{pd} \max(G_{pd}, 0)\, H_{qd} \max(K_{qd}, 0).

    A channel has to mean the same for both inputs: one encoder, one layer. The default
    similarity keeps the norms as they are at the inputs: under the differentiated
    cosine the two gradients of similar inputs point in opposite directions, so that
    their positive parts hardly meet.
    """

    embedding_attribution = _Features
    first: _Features
    second: _Features

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        layer: nn.Module,
        similarity: str = "frozen_cosine",
        scale: float = 1.0,
        channel_dim: Optional[int] = None,
    ) -> None:
        r"""
        Args:

            forward_func (Callable or torch.nn.Module): The encoder of both inputs: maps
                        (b, ...) to (b, k).
            layer (torch.nn.Module): Whose value, feature maps or tokens, is used.
            similarity, scale: As for :class:`FeaturePairIntegratedGradients`.
            channel_dim (int, optional): Of the layer's value. Default: 1 of (b, c, h,
                        w), else the last one
        """
        given: Any = forward_func
        if isinstance(given, (tuple, list)) and len({*map(id, given)}) != 1:
            raise InvalidArgumentError(
                "forward_func",
                "one encoder for both inputs, since they share channels",
                describe(forward_func),
            )
        if not isinstance(layer, nn.Module):
            raise InvalidArgumentError(
                "layer", "one module that both inputs pass", describe(layer)
            )
        super().__init__(forward_func, similarity, scale, layer, channel_dim)

    @property
    def multiplies_by_inputs(self) -> bool:
        """As Captum's class activation maps."""
        return False

    @log_usage()
    def attribute(
        self,
        inputs: tuple[Tensor, Tensor],
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
    ) -> Tensor:
        r"""
        Args:

            inputs (tuple[Tensor, Tensor]): (b, ...) of one batch size.
            additional_forward_args (tuple, optional): One for each side.
            attribute_to_layer_input (bool, optional): Default: False

        Returns:
            *Tensor*: (b, \*places of x, \*places of y).

        Examples::

            >>> pool = nn.AdaptiveAvgPool2d(1)
            >>> net = nn.Sequential(nn.Conv2d(3, 5, 2), nn.ReLU(), pool, nn.Flatten())
            >>> pairs = FeaturePairInteractionCam(net, net[1])
            >>> x, y = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 3, 3)
            >>> pairs.attribute((x, y)).shape
            torch.Size([2, 3, 3, 2, 2])
        """
        given = (inputs, None, None, additional_forward_args)
        sides = self._sides(*given, attribute_to_layer_input)
        found = []
        for (x, axes_x), (y, axes_y) in self._weighted(sides):
            table = x.weighted @ y.weighted.T
            found.append(table.reshape(*axes_x, *axes_y))
        return _stacked(sides, found)

    def maps(
        self,
        inputs: tuple[Tensor, Tensor],
        additional_forward_args: Any = None,
        reduction: str = "mean",
        attribute_to_layer_input: bool = False,
    ) -> tuple[Tensor, Tensor]:
        r"""
        The published maps of both inputs.

        Args:

            inputs, additional_forward_args, attribute_to_layer_input: As for
                        :meth:`attribute`.
            reduction (str, optional): How channels are pooled: "mean", "max" or
                        "attention" (each place weighted by the softmax of its inner
                        product with the mean). Default: "mean"

        Returns:
            *tuple* of (b, \*places of x) and (b, \*places of y).
        """
        one_of("reduction", reduction, _REDUCTIONS)
        given = (inputs, None, None, additional_forward_args)
        sides = self._sides(*given, attribute_to_layer_input)
        first, second = [], []
        for (x, axes_x), (y, axes_y) in self._weighted(sides):
            joint = x.pooled(reduction) * y.pooled(reduction)
            first.append((x.weighted @ joint).reshape(axes_x))
            second.append((y.weighted @ joint).reshape(axes_y))
        return _stacked(sides, first), _stacked(sides, second)

    def decompose(self, *args: Any, **kwargs: Any) -> Any:
        """Class activation maps are no parts of a score."""
        raise NotImplementedError(f"{type(self).__name__} has no decomposition")

    def _weighted(self, sides: tuple[Side, Side]) -> Any:
        """Both sides of each example."""
        for x, y in self._examples(sides):
            factor, _ = self.corners(x, y)
            # before the positive part is taken, since a scale may be negative
            first, second = (
                method.weighted(example, factor * other.embedding.to(factor))
                for method, example, other in ((self.first, x, y), (self.second, y, x))
            )
            widths = [each.values.shape[1] for each, _ in (first, second)]
            if widths[0] != widths[1]:
                raise InvalidArgumentError(
                    "channel_dim",
                    "channels that both inputs share",
                    f"{widths[0]} of the first input's value, {widths[1]} of the "
                    "second's",
                )
            yield first, second


def _stacked(sides: tuple[Side, Side], found: list[Tensor]) -> Tensor:
    result = torch.stack(found)
    check_finite(result)
    return result.to(result_dtype(*sides, computed=result.dtype)).contiguous()
