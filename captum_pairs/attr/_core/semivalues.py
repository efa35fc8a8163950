#!/usr/bin/env python3

from dataclasses import dataclass
from typing import Any, Optional, Union

import torch
from captum.log import log_usage
from captum_pairs.attr._core.embedding_attribution import (
    check_finite,
    check_size,
    EmbeddingAttribution,
    result_dtype,
    Shares,
)
from captum_pairs.attr._core.pair_attribution import PairAttribution
from captum_pairs.attr._utils.example import BaselinePath
from captum_pairs.attr._utils.marginals import (
    Marginals,
    marginals,
    product_variance,
    Sampling,
    shapley_nodes,
    validate_probability,
)
from captum_pairs.attr._utils.quadrature import quadrature
from captum_pairs.attr._utils.settings import described, settings_of, settings_of_pair
from captum_pairs.attr._utils.subsets import Subsets
from captum_pairs.attr._utils.validation import flag
from torch import Tensor

# Probabilities at which a sampled Shapley value is estimated: exact up to degree 7.
SAMPLED_NODES = 4

Found = Union[Tensor, tuple[Tensor, Tensor]]
# Places of the integral over p and their weights, (q,).
Nodes = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class SamplingAt(Sampling):
    """
    How subsets of the features are drawn, at one probability.

    Args:

        p (float): Of a feature to be there. Default: 0.5
        n_samples, generator, embed_subsets, internal_batch_size: See ``Sampling``.
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "p", validate_probability(self.p))


def _nodes(samplings: tuple[Sampling, ...], counts: tuple[int, ...]) -> Nodes:
    """
    Probabilities and weights for a product over these numbers of features.

    A Banzhaf value has one. The mean over all (Shapley): each side's marginals are a
    polynomial in p of one degree less than it has features, so that the exact ones are
    integrated exactly.
    """
    at = getattr(samplings[0], "p", None)
    if at is not None:
        one = torch.ones(1, dtype=torch.float64)
        return at * one, one
    degree = sum(max(count - 1, 0) for count in counts)
    exact = all(each.is_exact(count) for each, count in zip(samplings, counts))
    return shapley_nodes(degree, None if exact else SAMPLED_NODES)


class _EmbeddingSemivalue(EmbeddingAttribution[Sampling]):
    """What the two values share."""

    needs_gradients = False
    settings_type = Sampling

    def contributions(self, path: BaselinePath, settings: Sampling) -> Tensor:
        return self._value(path, settings)[0]

    def shares(self, path: BaselinePath, settings: Sampling) -> Shares:
        """The linear model of the embedding at each of the probabilities, one beside
        the other and each times the root of its weight."""
        at = getattr(settings, "p", None)
        nodes, weights = (
            quadrature(SAMPLED_NODES) if at is None else _nodes((settings,), (0,))
        )
        found = marginals(Subsets.of(path, settings), nodes, settings)
        roots = weights.sqrt().tolist()
        return Shares(
            torch.cat([root * each.values for each, root in zip(found, roots)], dim=1),
            torch.cat([root * path.embedding for root in roots]),
            torch.cat([root * each.constant for each, root in zip(found, roots)]),
        )

    def _value(self, path: Any, settings: Sampling) -> tuple[Tensor, Tensor]:
        """Values and their variance, (G, k)."""
        subsets = Subsets.of(path, settings)
        nodes, weights = _nodes((settings,), (len(subsets.players),))
        parts = list(zip(marginals(subsets, nodes, settings), weights.tolist()))
        return (
            torch.stack([w * each.values for each, w in parts]).sum(0),
            torch.stack([w**2 * each.variance() for each, w in parts]).sum(0),
        )


@log_usage()
def _attribute(
    self: _EmbeddingSemivalue,
    inputs: Tensor,
    baselines: Any = None,
    feature_mask: Optional[Tensor] = None,
    additional_forward_args: Any = None,
    return_standard_error: bool = False,
    attribute_to_layer_input: bool = False,
    **settings: Any,
) -> Found:
    r"""
    Args:

        inputs, baselines, feature_mask, additional_forward_args,
                    attribute_to_layer_input: As for :class:`IntegratedJacobian`.
        return_standard_error (bool, optional): Default: False
        **settings: Those of the method.

    Returns:
        *Tensor*: (b, \*features, k), and with the flag standard errors of that shape,
        zero where all subsets were taken.
    """
    flag("return_standard_error", return_standard_error)
    given = (inputs, baselines, feature_mask, additional_forward_args)
    side = self._side(*given, attribute_to_layer_input)
    asked = settings_of(self.settings_type, settings)
    values, errors = [], []
    for example in self._examples(side):
        found, variance = self._value(example, asked)
        check_finite(found)
        shape = (*example.features.shape, -1)
        values.append(found.reshape(shape))
        errors.append(variance.sqrt().reshape(shape))
    dtype = result_dtype(side, computed=values[0].dtype)
    result = torch.stack(values).to(dtype)
    if not return_standard_error:
        return result
    return result, torch.stack(errors).to(dtype)


class EmbeddingBanzhaf(_EmbeddingSemivalue):
    r"""
    The weighted Banzhaf value of every feature for every dimension of an embedding:

    .. math::
        \beta_i(p) = E_S[g(S \cup i) - g(S)] \in R^k,

    each other feature being in S with probability p (features that are not have the
    baseline's value). All subsets are enumerated where there are few; otherwise it is
    the linear fit to embeddings of random ones, with a standard error for every entry.
    (Banzhaf, Rutgers Law Review 1965; weighted: Li and Yu, NeurIPS 2023.)

    ``decompose`` gives the linear model of the embedding that is nearest to it over
    subsets S, :math:`g(S) \approx c + \sum_{i \in S} \beta_i(p)`: the constant c stands
    for g(r_x), and the delta is what the model misses at x itself.

    Examples::

        >>> banzhaf = EmbeddingBanzhaf(nn.Linear(4, 3))
        >>> banzhaf.attribute(torch.randn(2, 4)).shape
        torch.Size([2, 4, 3])
    """

    settings_type = SamplingAt
    attribute = described(_attribute, SamplingAt, has_baseline=True)


class EmbeddingShapley(_EmbeddingSemivalue):
    r"""
    The Shapley value of every feature for every dimension of an embedding,

    .. math::
        \phi_i = \int_0^1 \beta_i(p)\, dp \in R^k, \qquad
        \sum_i \phi_i = g(x) - g(r_x),

    with :math:`\beta_i(p)` of :class:`EmbeddingBanzhaf` (Owen's multilinear extension,
    Management Science 1972).

    ``decompose`` gives :class:`EmbeddingBanzhaf`'s linear model at the four
    probabilities of a Gauss-Legendre quadrature, beside one another and each times the
    root of its weight: vectors of width 4k, whose inner products with another input's
    are the Shapley interaction index (exactly if the two have at most nine features
    together).

    Examples::

        >>> shapley = EmbeddingShapley(nn.Linear(4, 3))
        >>> shapley.attribute(torch.randn(2, 4)).shape
        torch.Size([2, 4, 3])
    """

    keeps_width = False
    attribute = described(_attribute, Sampling, has_baseline=True)

    def readings(
        self, path: BaselinePath, directions: Tensor, settings: Sampling
    ) -> Optional[Tensor]:
        """Of the values, if the directions are as wide as the embedding."""
        if directions.shape[-1] != path.embedding.numel():
            return None
        values = self.contributions(path, settings)
        return values @ directions.to(values).T


class _FeaturePairSemivalue(PairAttribution):
    """What the two interaction indices share."""

    def _index(
        self, x: Any, y: Any, settings: tuple[Sampling, Sampling]
    ) -> tuple[Tensor, Tensor]:
        """The index and its variance, (G_x, G_y)."""
        subsets = Subsets.of(x, settings[0]), Subsets.of(y, settings[1])
        counts = len(subsets[0].players), len(subsets[1].players)
        # the sides are integrated together
        nodes, weights = _nodes(settings, counts)
        first: list[Marginals]
        first, second = (
            marginals(each, nodes, own) for each, own in zip(subsets, settings)
        )
        table = variance = torch.zeros((), dtype=x.dtype, device=x.value.device)
        for one, other, weight in zip(first, second, weights.tolist()):
            values = other.values.to(one.values)
            table = table + weight * (one.values @ values.T)
            variance = variance + weight**2 * product_variance(one, other)
        return table, variance


@log_usage()
def _attribute_pairs(
    self: _FeaturePairSemivalue,
    inputs: tuple[Tensor, Tensor],
    baselines: Any = None,
    feature_mask: Any = None,
    additional_forward_args: Any = None,
    return_standard_error: bool = False,
    attribute_to_layer_input: bool = False,
    **settings: Any,
) -> Found:
    r"""
    Args:

        inputs, baselines, feature_mask, additional_forward_args,
                    attribute_to_layer_input: As for
                    :class:`FeaturePairIntegratedGradients`.
        return_standard_error (bool, optional): Default: False
        **settings: Those of the method.

    Returns:
        *Tensor*: (b, \*features of x, \*features of y), and with the flag standard
        errors of that shape.
    """
    flag("return_standard_error", return_standard_error)
    given = (inputs, baselines, feature_mask, additional_forward_args)
    sides = self._sides(*given, attribute_to_layer_input)
    asked = settings_of_pair(self.embedding_attribution.settings_type, settings)
    values, errors = [], []
    for x, y in self._examples(sides):
        check_size((x, y), len(sides[0]))
        factor, _ = self.corners(x, y)
        table, variance = self._index(x, y, asked)
        check_finite(table)
        shape = (*x.features.shape, *y.features.shape)
        values.append((factor * table.to(factor)).reshape(shape))
        errors.append((factor.abs() * variance.sqrt().to(factor)).reshape(shape))
    dtype = result_dtype(*sides, computed=values[0].dtype)
    result = torch.stack(values).to(dtype)
    if not return_standard_error:
        return result
    return result, torch.stack(errors).to(dtype)


class FeaturePairBanzhaf(_FeaturePairSemivalue):
    r"""
    The weighted Banzhaf interaction index of every pair of features, one from each
    input:

    .. math::
        A_{ij} = E_{S, T}[s(S{\cup}i, T{\cup}j) - s(S, T{\cup}j) - s(S{\cup}i, T)
                 + s(S, T)] = \langle \beta_i(p), \beta_j(p) \rangle.

    Since the two sides' features come independently, the inner product of the sides'
    values is exact: :math:`2^{G_x} + 2^{G_y}` embeddings instead of
    :math:`2^{G_x + G_y}` scores. Of sampled values every entry has a standard error.
    (The index: Grabisch and Roubens, 1999; of CLIP, by sampling pairs of subsets:
    Baniecki et al., "Explaining Similarity in Vision-Language Encoders with Weighted
    Banzhaf Interactions", 2025.)

    Examples::

        >>> pairs = FeaturePairBanzhaf((nn.Linear(6, 3), nn.Linear(4, 3)))
        >>> pairs.attribute((torch.randn(2, 6), torch.randn(2, 4))).shape
        torch.Size([2, 6, 4])
    """

    embedding_attribution = EmbeddingBanzhaf
    attribute = described(_attribute_pairs, SamplingAt, has_baseline=True)


class FeaturePairShapley(_FeaturePairSemivalue):
    r"""
    The Shapley interaction index of every pair of features, one from each input:

    .. math::
        A_{ij} = \int_0^1 \langle \beta_i(p), \beta_j(p) \rangle\, dp,

    exactly, by a quadrature that is exact for polynomials in p. (Grabisch and Roubens,
    1999; by Owen's multilinear extension.) Where a side is sampled, the integral is
    taken at four probabilities, which is exact up to degree seven in p.

    Examples::

        >>> pairs = FeaturePairShapley((nn.Linear(6, 3), nn.Linear(4, 3)))
        >>> pairs.attribute((torch.randn(2, 6), torch.randn(2, 4))).shape
        torch.Size([2, 6, 4])
    """

    embedding_attribution = EmbeddingShapley
    attribute = described(_attribute_pairs, Sampling, has_baseline=True)
