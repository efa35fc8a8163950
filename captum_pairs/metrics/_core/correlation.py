#!/usr/bin/env python3
"""Correlations, of values and of ranks."""

import torch
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.attr._utils.validation import check_tensor, describe
from torch import Tensor


# Of a norm: what is smaller is zero but for rounding.
ROUNDING = 1e-12


def pearson(first: Tensor, second: Tensor) -> Tensor:
    """Of two vectors (n,); 0 if one of them is constant."""
    found = []
    for values in (first.double(), second.double()):
        left = values - values.mean()
        size = left.norm()
        if size <= ROUNDING * values.norm():
            return torch.zeros((), dtype=torch.float64)
        found.append(left / size)
    product: Tensor = found[0] @ found[1]
    return product.cpu()


def mean_ranks(values: Tensor) -> Tensor:
    """Ranks of a vector (n,) from 1; those of equal values are their mean."""
    _, places, counts = torch.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    ranks: Tensor = (last - (counts.double() - 1) / 2)[places]
    return ranks


def spearman(first: Tensor, second: Tensor) -> Tensor:
    """The rank correlation of two vectors (n,); 0 if one of them is constant."""
    return pearson(mean_ranks(first), mean_ranks(second))


def rank_agreement(first: Tensor, second: Tensor) -> Tensor:
    r"""
    How far two methods agree in which pairs of features are the strongest: Spearman's
    rank correlation of their attributions, ties by mean ranks.

    Args:

        first, second (Tensor): (b, ...) of one shape.

    Returns:
        *Tensor* (b,), float64, from -1 to 1; 0 for attributions that are all the same.

    Raises:
        InvalidArgumentError: for tensors that don't fit each other.

    Examples::

        >>> attributions = torch.rand(2, 5, 3)
        >>> rank_agreement(attributions, attributions ** 3).round(decimals=6)
        tensor([1., 1.], dtype=torch.float64)
    """
    one, other = check_tensor("first", first), check_tensor("second", second)
    if one.shape != other.shape:
        raise InvalidArgumentError(
            "second", f"shape {tuple(one.shape)}, as the first's", describe(second)
        )
    for name, values in (("first", one), ("second", other)):
        if not values.is_floating_point() or not bool(values.isfinite().all()):
            raise InvalidArgumentError(
                name, "finite floating attributions", describe(values)
            )
    pairs = zip(one.flatten(1), other.flatten(1))
    return torch.stack([spearman(a.detach(), b.detach()) for a, b in pairs])
