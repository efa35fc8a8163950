#!/usr/bin/env python3

from dataclasses import dataclass
from typing import Optional

import torch
from captum_pairs.attr._core.embedding_attribution import EmbeddingAttribution
from captum_pairs.attr._core.pair_attribution import PairAttribution
from captum_pairs.attr._utils.example import Example
from captum_pairs.attr._utils.products import feature_products, Points, reverse_products
from captum_pairs.attr._utils.validation import check_chunk
from torch import Tensor


@dataclass(frozen=True)
class SinglePoint:
    """
    A derivative at the input alone.

    Args:

        internal_batch_size (int, optional): Of no use here: there is one point.
    """

    internal_batch_size: Optional[int] = None

    def __post_init__(self) -> None:
        check_chunk(self.internal_batch_size)


class JacobianXInput(EmbeddingAttribution[SinglePoint]):
    r"""
    The Jacobian of an embedding at the input, times the input:

    .. math::
        c_i = \sum_{e \in i} x_e \frac{\partial g}{\partial x_e}(x) \in R^k.

    It is what gradient times input (:class:`captum.attr.InputXGradient`) is for a
    score, for every dimension of an embedding at once: as cheap as a single step of
    :class:`IntegratedJacobian`, and not complete.

    Examples::

        >>> jacobian = JacobianXInput(nn.Linear(4, 3))
        >>> jacobian.attribute(torch.randn(2, 4)).shape
        torch.Size([2, 4, 3])
    """

    has_baseline = False
    settings_type = SinglePoint

    def contributions(self, example: Example, settings: SinglePoint) -> Tensor:
        return feature_products([_at_itself(example)], [example.value])[0][0]

    def readings(
        self, example: Example, directions: Tensor, settings: SinglePoint
    ) -> Optional[Tensor]:
        if len(directions) > min(example.features.count, example.embedding.numel()):
            return None
        point = [_at_itself(example)]
        return reverse_products(point, [directions], [example.value])[0][0]


def _at_itself(example: Example) -> Points:
    """The only point is the example."""
    one = torch.ones(1, dtype=example.dtype, device=example.value.device)
    return Points(example, one, one[None])


class FeaturePairJacobianXInput(PairAttribution):
    r"""
    Pairwise gradient times input: inner products of :class:`JacobianXInput`'s vectors,

    .. math::
        A_{ij} = \sum_{e \in i,\, f \in j} x_e y_f
                 \frac{\partial^2 s}{\partial x_e \partial y_f}(x, y).

    The first-order member of the family: one step, no baseline, not complete.

    Examples::

        >>> pairs = FeaturePairJacobianXInput((nn.Linear(6, 3), nn.Linear(4, 3)))
        >>> pairs.attribute((torch.randn(2, 6), torch.randn(2, 4))).shape
        torch.Size([2, 6, 4])
    """

    embedding_attribution = JacobianXInput
