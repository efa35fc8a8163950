#!/usr/bin/env python3
"""Nodes and weights of the integral over the path from baseline to input."""

from functools import lru_cache

import numpy as np
import torch
from captum_pairs.attr._utils.validation import (
    InvalidArgumentError,
    one_of,
    positive_int,
)
from torch import Tensor

# Captum's names. Its trapezoid's weights sum to (n - 1) / n; ours sum to one.
QUADRATURES = (
    "gausslegendre",
    "riemann_right",
    "riemann_left",
    "riemann_middle",
    "riemann_trapezoid",
)


def validate_quadrature(n_steps: object, method: object) -> tuple[int, str]:
    """``(n_steps, method)`` if there is such a rule.

    Raises:
        InvalidArgumentError: for an unknown method, or fewer steps than it needs.
    """
    name = str(one_of("method", method, QUADRATURES))
    least = 2 if name == "riemann_trapezoid" else 1
    return positive_int("n_steps", n_steps, least), name


@lru_cache(maxsize=64)
def _rule(n_steps: int, method: str) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on [0, 1] in float64, each (n,)."""
    if method == "gausslegendre":
        # Exact for polynomials of degree 2n - 1; numpy's rule is on [-1, 1].
        nodes, weights = np.polynomial.legendre.leggauss(n_steps)
        return (nodes + 1.0) / 2.0, weights / 2.0
    if method == "riemann_trapezoid":
        weights = np.full(n_steps, 1.0 / (n_steps - 1))
        weights[[0, -1]] /= 2.0
        return np.linspace(0.0, 1.0, n_steps), weights
    shift = {"riemann_left": 0.0, "riemann_middle": 0.5, "riemann_right": 1.0}[method]
    nodes = (np.arange(n_steps) + shift) / n_steps
    return nodes, np.full(n_steps, 1.0 / n_steps)


def quadrature(
    n_steps: int,
    method: str = "gausslegendre",
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor]:
    r"""
    Nodes :math:`\alpha` and weights :math:`w` with
    :math:`\int_0^1 f(\alpha)\,d\alpha \approx \sum_n w_n f(\alpha_n)`.

    Args:

        n_steps (int): The number of nodes n.
        method (str, optional): One of Captum's: ``gausslegendre``,
                    ``riemann_right``, ``riemann_left``, ``riemann_middle``,
                    ``riemann_trapezoid`` (at least two nodes).
        dtype (torch.dtype, optional): The dtype of both tensors.
        device (optional): Their device.

    Returns:
        *tuple* of nodes (n,) and weights (n,).

    Raises:
        InvalidArgumentError: for an unknown method, or fewer steps than it needs.
    """
    n_steps, method = validate_quadrature(n_steps, method)
    nodes, weights = _rule(n_steps, method)
    return (
        torch.tensor(nodes, dtype=dtype, device=device),
        torch.tensor(weights, dtype=dtype, device=device),
    )


def steps_up_to(n_steps: int, method: str) -> list[int]:
    """4, 8, 16, ... and the ceiling ``n_steps`` itself: what ``tolerance`` climbs."""
    least = 2 if method == "riemann_trapezoid" else 1
    if n_steps < least:
        raise InvalidArgumentError("n_steps", f"at least {least}", str(n_steps))
    ladder = [4]
    while ladder[-1] * 2 < n_steps:
        ladder.append(ladder[-1] * 2)
    return [n for n in ladder if n < n_steps] + [n_steps]
