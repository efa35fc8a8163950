#!/usr/bin/env python3
r"""
Marginal contributions of features to an embedding, over subsets of the others.

:math:`\beta_i(p) = E_S[g(S \cup i) - g(S)]`, other features in S with probability p.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Optional

import numpy as np
import torch
from captum_pairs.attr._utils.quadrature import quadrature
from captum_pairs.attr._utils.subsets import all_subsets, EmbedSubsets, Subsets
from captum_pairs.attr._utils.validation import (
    check_chunk,
    describe,
    InvalidArgumentError,
)
from torch import Tensor

# Subsets that are enumerated are kept in memory with their embeddings.
_MOST_EXACT = 20
# How often each feature is there, and is not, at least; and how often that is tried.
_LEAST_TIMES = 3
_MOST_DRAWS = 100


@dataclass(frozen=True)
class Sampling:
    """
    How subsets of the features are drawn.

    Args:

        n_samples (int or tuple): The most embeddings of an input; all subsets are
                    taken if there are no more. Of a pair one for both sides or a tuple.
        generator (torch.Generator, optional): Where chance comes from.
        embed_subsets (Callable, optional): Embeds subsets (n, G) of the (only)
                    example's features as (n, k) in another way than by the baseline's
                    value: tokens taken out. Of a pair one for each side.
        internal_batch_size (int, optional): The most points run at once.
    """

    n_samples: int = 2048
    generator: Optional[torch.Generator] = None
    embed_subsets: Optional[EmbedSubsets] = None
    internal_batch_size: Optional[int] = None

    per_side: ClassVar[tuple[str, ...]] = ("embed_subsets",)
    either: ClassVar[tuple[str, ...]] = ("n_samples",)

    def __post_init__(self) -> None:
        n_samples = self.n_samples
        if isinstance(n_samples, bool) or not isinstance(n_samples, (int, np.integer)):
            raise InvalidArgumentError(
                "n_samples", "a whole number", describe(n_samples)
            )
        if n_samples < 2:
            raise InvalidArgumentError("n_samples", "at least 2", str(n_samples))
        object.__setattr__(self, "n_samples", int(n_samples))
        validate_generator(self.generator)
        check_chunk(self.internal_batch_size)

    def is_exact(self, count: int) -> bool:
        """Whether all subsets of that many features are enumerated."""
        return count <= _MOST_EXACT and 2**count <= self.n_samples


@dataclass(frozen=True)
class Marginals:
    r"""
    :math:`\beta_i(p)` of every feature, and how far chance may have led it astray.

    An estimate's error is :math:`\sum_s h_{si} r_s` over independent samples s.

    Args:

        values (Tensor): (G, k).
        constant (Tensor): (k,), what the embedding is without any of the features, as
                    far as it is linear in them.
        influence (Tensor): h, (n, G); none if the values are exact.
        residuals (Tensor): r, (n, k), as far from the fit as a sample that the fit has
                    not seen is.
    """

    values: Tensor
    constant: Tensor
    influence: Optional[Tensor] = None
    residuals: Optional[Tensor] = None

    def among(self, features: Tensor, count: int) -> "Marginals":
        """The same of ``count`` features, of which these (players,) are the only ones
        that change anything."""
        values = self.values.new_zeros(count, self.values.shape[1])
        values[features] = self.values
        if self.influence is None:
            return replace(self, values=values)
        influence = self.influence.new_zeros(len(self.influence), count)
        influence[:, features] = self.influence
        return replace(self, values=values, influence=influence)

    def variance_along(self, directions: Tensor) -> Tensor:
        r"""Of :math:`\langle\beta_i, v\rangle` for v (m, k): (G, m)."""
        if self.influence is None or self.residuals is None:
            return self.values.new_zeros(len(self.values), len(directions))
        # sum_s (h_si <r_s, v>)^2
        along = (self.residuals @ directions.T).square()
        return self.influence.square().T @ along

    def variance(self) -> Tensor:
        """Of every entry of the values, (G, k)."""
        if self.influence is None or self.residuals is None:
            return torch.zeros_like(self.values)
        return self.influence.square().T @ self.residuals.square()

    def gram(self) -> Optional[tuple[Tensor, Tensor]]:
        """Influence squared (n, G), and inner products of residuals (n, k)."""
        if self.influence is None or self.residuals is None:
            return None
        return self.influence.square(), self.residuals


def product_variance(first: Marginals, second: Marginals) -> Tensor:
    r"""
    Of :math:`\langle\beta_i, \beta_j\rangle` for independent estimates of both sides,
    (G_x, G_y).

    With covariances V and W of the two, it is :math:`\beta_j^T V \beta_j +
    \beta_i^T W \beta_i + tr(V W)`; the first two terms taken at the estimates hold the
    third one each, so that it is subtracted once.
    """
    total = first.variance_along(second.values)
    total = total + second.variance_along(first.values).T
    x, y = first.gram(), second.gram()
    if x is None or y is None:
        return total
    # tr(V_i W_j) = sum_st h_si^2 h_tj^2 <r_s, r_t>^2
    cross = (x[1] @ y[1].T).square()
    trace = x[0].T @ cross @ y[0]
    return (total - trace).clamp_min(0.0)


def marginals(subsets: Subsets, nodes: Tensor, sampling: Sampling) -> list[Marginals]:
    """At each probability p of ``nodes`` (q,); samples are shared out among them."""
    players = len(subsets.players)
    if sampling.is_exact(players):
        present = all_subsets(players)
        embeddings = subsets.embed_players(present)
        present = present.to(embeddings)
        found = [_exact(present, embeddings, float(p)) for p in nodes]
    else:
        share = sampling.n_samples // len(nodes)
        _check_share(share, players, nodes.tolist())
        found = [_sampled(subsets, float(p), share, sampling) for p in nodes]
    return [each.among(subsets.players, subsets.count) for each in found]


def _exact(present: Tensor, embeddings: Tensor, p: float) -> Marginals:
    """All subsets (2^G, G) with their embeddings (2^G, k)."""
    size = present.sum(1)
    chance = p**size * (1 - p) ** (present.shape[1] - size)  # (2^G,)
    # E[g | i] - E[g | not i], since features come independently
    signs = present / p - (1 - present) / (1 - p)
    values = (chance[:, None] * signs).T @ embeddings
    return Marginals(values, chance @ embeddings - p * values.sum(0))


def _sampled(
    subsets: Subsets, p: float, n_samples: int, sampling: Sampling
) -> Marginals:
    """
    The coefficients of a linear fit to embeddings of random subsets.

    In expectation over independent features they are the marginal contributions, and
    what the other features add does not blur them, as it blurs a difference of means.
    At p = 1/2 subsets come with their complements: what is even in the features
    cancels.
    """
    count = len(subsets.players)
    is_paired = p == 0.5
    draws = n_samples // 2 if is_paired else n_samples
    present = _drawn(draws, count, p, sampling.generator)
    if is_paired:
        both = subsets.embed_players(torch.cat([present, ~present]))
        targets = both[:draws] - both[draws:]
        design = 2.0 * present.to(targets) - 1.0
        found = _fitted(design, targets)
        return replace(found, constant=both.mean(0) - 0.5 * found.values.sum(0))
    targets = subsets.embed_players(present)
    ones = targets.new_ones(draws, 1)
    found = _fitted(torch.cat([present.to(targets), ones], 1), targets)
    assert found.influence is not None  # it was fitted
    return Marginals(
        found.values[:-1], found.values[-1], found.influence[:, :-1], found.residuals
    )


def _check_share(share: int, count: int, nodes: list[float]) -> None:
    """Refuse fewer samples at a probability than a fit takes."""
    # at p = 1/2 a subset and its complement say the same
    least = max((2 if p == 0.5 else 1) * (count + 2) for p in nodes)
    if share < least:
        at = f" at each of {len(nodes)} probabilities" if len(nodes) > 1 else ""
        raise InvalidArgumentError(
            "n_samples",
            f"at least {least * len(nodes)} for a fit of {count} features{at}",
            f"{share} there" if at else f"{share}",
        )


def draw(count: int, p: float, sampling: Sampling) -> Tensor:
    """Subsets (n, G), enough for a linear fit with a constant."""
    if sampling.n_samples < count + 2:
        raise InvalidArgumentError(
            "n_samples",
            f"at least {count + 2} for a fit of {count} features",
            f"{sampling.n_samples}",
        )
    return _drawn(sampling.n_samples, count, p, sampling.generator)


def _drawn(
    draws: int, count: int, p: float, generator: Optional[torch.Generator]
) -> Tensor:
    """Random subsets (draws, G), bool, in which no feature is all but always the same:
    nothing could be said of it."""
    chances = torch.full((draws, count), p, dtype=torch.float64)
    for _ in range(_MOST_DRAWS):
        present = torch.bernoulli(chances, generator=generator).bool()
        times = present.sum(0)
        if bool((torch.minimum(times, draws - times) >= _LEAST_TIMES).all()):
            return present
    raise InvalidArgumentError(
        "n_samples",
        f"enough for each of {count} features to be there and not to be there "
        f"{_LEAST_TIMES} times, at a probability of {p:.2f}",
        f"{draws} there",
    )


def _fitted(design: Tensor, targets: Tensor) -> Marginals:
    """Least squares of targets (n, k) on a design (n, G)."""
    exact, wanted = design.double(), targets.double()
    influence = exact @ torch.linalg.pinv(exact.T @ exact, hermitian=True)
    values = influence.T @ wanted
    leverage = (influence * exact).sum(1, keepdim=True)
    # what a sample is off that the fit has not seen
    residuals = (wanted - exact @ values) / (1 - leverage).clamp_min(1e-6)
    values, influence, residuals = (
        part.to(targets) for part in (values, influence, residuals)
    )
    return Marginals(values, torch.zeros_like(values[0]), influence, residuals)


def validate_generator(generator: object) -> Optional[torch.Generator]:
    """A source of chance, or None for torch's own."""
    if generator is not None and not isinstance(generator, torch.Generator):
        raise InvalidArgumentError(
            "generator", "a torch.Generator or None", describe(generator)
        )
    return generator


def validate_probability(p: object) -> float:
    """p between 0 and 1."""
    if isinstance(p, bool) or not isinstance(p, (int, float)) or not 0 < p < 1:
        raise InvalidArgumentError("p", "a probability between 0 and 1", describe(p))
    return float(p)


def shapley_nodes(degree: int, most: Optional[int]) -> tuple[Tensor, Tensor]:
    """Nodes and weights (q,) of the integral over p of a polynomial of that degree, or
    at most so many."""
    exact = degree // 2 + 1
    return quadrature(exact if most is None else min(most, exact))
