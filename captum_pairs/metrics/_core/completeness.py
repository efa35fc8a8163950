#!/usr/bin/env python3

from typing import Any, Optional, Union

import torch
from captum_pairs.metrics._core.subset_scores import several, subset_scores, table_of
from torch import Tensor


def completeness_residual(
    forward_func: Any,
    inputs: tuple[Tensor, Tensor],
    attributions: Union[Tensor, list[Tensor]],
    baselines: Any = None,
    feature_mask: Any = None,
    additional_forward_args: Any = None,
    similarity: str = "cosine",
    scale: float = 1.0,
    layer: Any = None,
    attribute_to_layer_input: bool = False,
    internal_batch_size: Optional[int] = None,
) -> Union[Tensor, list[Tensor]]:
    r"""
    How far attributions to pairs are from summing to what pairs make of the score,

    .. math::
        t = s(x, y) - s(r_x, y) - s(x, r_y) + s(r_x, r_y),

    as a share of it: :math:`|\sum_{ij} A_{ij} - t| / |t|`. (Completeness: Sundararajan
    et al., ICML 2017; of pairs: Möller et al., TMLR 2025,
    https://arxiv.org/abs/2408.14153.)

    Args:

        forward_func, inputs, baselines, feature_mask, additional_forward_args,
            similarity, scale, layer, attribute_to_layer_input, internal_batch_size: As
            for :class:`captum_pairs.attr.FeaturePairOcclusion`.
        attributions (Tensor or list): (b, \*features of x, \*features of y), complete
                    by their method or not; or a list of several methods'.

    Returns:
        *Tensor* (b,), float64, or a list of them; infinite where t is 0 and the sum is
        not.

    Raises:
        InvalidArgumentError: for what does not fit.

    Examples::

        >>> nets = nn.Linear(6, 3), nn.Linear(4, 3)
        >>> pairs = (torch.randn(2, 6), torch.randn(2, 4))
        >>> found = FeaturePairIntegratedGradients(nets, "dot").attribute(pairs)
        >>> residual = completeness_residual(nets, pairs, found, similarity="dot")
        >>> bool((residual < 1e-3).all())
        True
    """
    methods, is_list = several(attributions)
    found: list[list[Tensor]] = [[] for _ in methods]
    for game in subset_scores(
        forward_func,
        inputs,
        baselines,
        feature_mask,
        additional_forward_args,
        similarity,
        scale,
        layer,
        attribute_to_layer_input,
        internal_batch_size=internal_batch_size,
    ):
        target = game.corners[2].double().cpu()
        for results, attribution in zip(found, methods):
            total = table_of(attribution, game, len(inputs[0])).sum().cpu()
            missing = (total - target).abs()
            results.append(missing / target.abs() if missing else missing)
    every = [torch.stack(results) for results in found]
    return every if is_list else every[0]
