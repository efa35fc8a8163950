#!/usr/bin/env python3

from typing import Any, Optional

import torch
from captum.log import log_usage
from captum_pairs.attr._core.embedding_attribution import check_size, result_dtype
from captum_pairs.attr._core.expected_jacobian import (
    ExpectedIntegration,
    ExpectedJacobian,
    Found,
)
from captum_pairs.attr._core.pair_attribution import PairAttribution
from captum_pairs.attr._utils.settings import described, settings_of_pair
from captum_pairs.attr._utils.spread import standard_error_of_products
from captum_pairs.attr._utils.validation import flag
from torch import Tensor


class FeaturePairExpectedGradients(PairAttribution):
    r"""
    Attributes what is *specific to this pair* of a similarity to pairs of features: the
    inner products of :class:`ExpectedJacobian`'s vectors, with references of each side.

    References of the two sides are independent, so that the mean over all pairs of
    them is the inner product of both sides' means, and

    .. math::
        \sum_{ij} A_{ij} = s(x, y) - E\,s(r_x, y) - E\,s(x, r_y) + E\,s(r_x, r_y),

    the similarity, doubly centred: what an input has with everything, and what all
    have in common, drops out. References have to be drawn for each side by itself, and
    not as pairs that belong together; a side may have a single one. (For pairs of one
    input's features: Janizek et al., JMLR 2021, https://arxiv.org/abs/2002.04138.)
    """

    embedding_attribution = ExpectedJacobian
    first: ExpectedJacobian
    second: ExpectedJacobian

    def __init__(
        self,
        forward_func: Any,
        similarity: str = "cosine",
        scale: float = 1.0,
        direction: Optional[str] = None,
        layer: Any = None,
        channel_dim: Any = None,
    ) -> None:
        r"""
        Args:

            forward_func, similarity, scale, layer, channel_dim: As for
                        :class:`PairAttribution`.
            direction (str, optional): As for :class:`FeaturePairIntegratedGradients`.
        """
        one = {"direction": direction}
        self._build(forward_func, similarity, scale, layer, channel_dim, (one, one))


@log_usage()
def _attribute(
    self: FeaturePairExpectedGradients,
    inputs: tuple[Tensor, Tensor],
    baselines: Any = None,
    feature_mask: Any = None,
    additional_forward_args: Any = None,
    return_standard_error: bool = False,
    return_convergence_delta: bool = False,
    attribute_to_layer_input: bool = False,
    **settings: Any,
) -> Found:
    r"""
    Args:

        inputs, feature_mask, additional_forward_args, attribute_to_layer_input: As for
                    :class:`FeaturePairIntegratedGradients`.
        baselines (tuple, optional): For each side its references, as for
                    :class:`ExpectedJacobian`: (M, ...) and (N, ...), or a number.
                    Default: zeros
        return_standard_error (bool, optional): From the spread over both sides'
                    references, for which the contributions of both sides are computed
                    for each of them. Default: False
        return_convergence_delta (bool, optional): Default: False
        **settings: Those of the method.

    Returns:
        **attributions** (b, \*features of x, \*features of y), or a tuple of these and
        what was asked for: **standard errors** of that shape (see
        :func:`confidence_factor`), and **delta** (b,), the sum of the attributions
        minus :math:`s(x,y) - E\,s(r_x,y) - E\,s(x,r_y) + E\,s(r_x,r_y)`.

    Raises:
        InvalidArgumentError: a ``ValueError`` that names the argument.

    Examples::

        >>> images, texts = nn.Linear(6, 3), nn.Linear(4, 3)
        >>> pairs = FeaturePairExpectedGradients((images, texts))
        >>> x, y = torch.randn(2, 6), torch.randn(2, 4)
        >>> references = torch.randn(16, 6), torch.randn(8, 4)
        >>> pairs.attribute((x, y), references, n_steps=4).shape
        torch.Size([2, 6, 4])
    """
    given = (inputs, baselines, feature_mask, additional_forward_args)
    sides = self._sides(*given, attribute_to_layer_input)
    asked = settings_of_pair(ExpectedIntegration, settings)
    flag("return_standard_error", return_standard_error)
    flag("return_convergence_delta", return_convergence_delta)
    values, errors, deltas = [], [], []
    methods = self.first, self.second
    x: Any
    y: Any
    for x, y in self._examples(sides):
        check_size((x, y), len(sides[0]))
        known = methods[0].refined(x, asked[0]), methods[1].refined(y, asked[1])
        found = self._of_block([(x, y)], known, effects=False)[0]
        values.append(found.interactions)
        deltas.append(found.convergence_delta)
        if return_standard_error:
            apart = (
                method.contributions_by_reference(paths, own)
                for method, paths, own in zip(methods, (x, y), known)
            )
            factor, _ = self.corners(x, y)
            error = standard_error_of_products(*apart).to(factor)
            errors.append((factor.abs() * error).reshape(found.interactions.shape))
    parts = [values]
    parts += [errors] if return_standard_error else []
    parts += [deltas] if return_convergence_delta else []
    dtype = result_dtype(*sides, computed=values[0].dtype)
    stacked = tuple(torch.stack(part).to(dtype).contiguous() for part in parts)
    return stacked if len(stacked) > 1 else stacked[0]


FeaturePairExpectedGradients.attribute = described(
    _attribute, ExpectedIntegration, has_baseline=True
)
