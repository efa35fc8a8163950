#!/usr/bin/env python3
"""How far means over references may be off: their standard errors, from the spread."""

import math
from functools import lru_cache

import numpy as np
import torch
from captum_pairs.attr._utils.validation import (
    finite_float,
    InvalidArgumentError,
    positive_int,
)
from torch import Tensor


def standard_error(values: Tensor) -> Tensor:
    """Of the mean over values (M, ...): (...). One value alone is no sample of
    anything: its error is zero."""
    if len(values) < 2:
        return torch.zeros_like(values[0])
    return values.std(dim=0) / math.sqrt(len(values))


def standard_error_of_products(first: Tensor, second: Tensor) -> Tensor:
    r"""
    Of the inner products of two means, :math:`\langle \bar c_i, \bar c_j \rangle`.

    The two sides' references are independent of each other, so that the variance is

    .. math::
        \frac{\bar c_j^T \Sigma_i\, \bar c_j}{M} +
        \frac{\bar c_i^T \Sigma_j\, \bar c_i}{N} -
        \frac{\mathrm{tr}(\Sigma_i \Sigma_j)}{M N}

    with the sample covariances; the last term is in both of the others already.

    Args:

        first, second (Tensor): Of each reference its contributions, (M, i, k) and
                    (N, j, k).

    Returns:
        *Tensor* (i, j).
    """
    second = second.to(first)
    means = first.mean(0), second.mean(0)
    variance = first.new_zeros(first.shape[1], second.shape[1])
    off = [each - mean for each, mean in zip((first, second), means)]
    counts = [len(each) for each in off]
    if counts[0] > 1:
        along = off[0] @ means[1].T  # (M, i, j)
        variance += (along**2).sum(0) / (counts[0] * (counts[0] - 1))
    if counts[1] > 1:
        along = means[0] @ off[1].transpose(1, 2)  # (N, i, j)
        variance += (along**2).sum(0) / (counts[1] * (counts[1] - 1))
    if min(counts) > 1:
        both = torch.zeros_like(variance)
        flat = off[1].flatten(0, 1)  # (N j, k)
        for each in off[0]:  # (M, N, i, j) would be large
            squares = (each @ flat.T) ** 2
            both += squares.unflatten(1, (counts[1], -1)).sum(1)
        pairs = counts[0] * (counts[0] - 1) * counts[1] * (counts[1] - 1)
        variance -= both / pairs
    return variance.clamp_min(0.0).sqrt()


def confidence_factor(n_references: int, level: float = 0.95) -> float:
    """
    By how much a standard error is multiplied to get half a confidence interval:
    the quantile of Student's t-distribution.

    Args:

        n_references (int): From which the standard error was estimated; of two sides,
                    the fewer (more than one).
        level (float, optional): The chance that the interval covers the expected
                    value. Default: 0.95

    Raises:
        InvalidArgumentError: for less than two references, or a level outside of
                    (0, 1).

    Examples::

        >>> round(confidence_factor(5), 3), round(confidence_factor(64), 3)
        (2.776, 1.998)
    """
    degrees = positive_int("n_references", n_references, 2) - 1
    chance = finite_float("level", level)
    if not 0.0 < chance < 1.0:
        raise InvalidArgumentError("level", "a chance between 0 and 1", str(level))
    return _quantile(degrees, chance)


@lru_cache(maxsize=64)
def _quantile(degrees: int, level: float) -> float:
    """t with P(|T| < t) = level, by bisection."""
    low, high = 0.0, 1.0
    while _inside(high, degrees) < level:
        low, high = high, 2 * high
    for _ in range(80):
        middle = (low + high) / 2
        if _inside(middle, degrees) < level:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _inside(t: float, degrees: int) -> float:
    """P(|T| < t), by Gauss-Legendre over the angle atan(t / sqrt(degrees)): there the
    integrand is a power of a cosine."""
    nodes, weights = _rule()
    angle = math.atan(t / math.sqrt(degrees))
    cosines = np.cos((nodes + 1) / 2 * angle) ** (degrees - 1)
    log = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)
    area = float(weights @ cosines) / 2 * angle
    return 2 * math.exp(log) / math.sqrt(math.pi) * area


@lru_cache(maxsize=1)
def _rule() -> tuple[np.ndarray, np.ndarray]:
    """On [-1, 1]."""
    return np.polynomial.legendre.leggauss(64)
