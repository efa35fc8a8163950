#!/usr/bin/env python3

from dataclasses import dataclass, replace
from typing import Any, Callable, Optional, Union

import torch
from captum.log import log_usage
from captum_pairs.attr._core.embedding_attribution import (
    check_finite,
    check_size,
    EmbeddingAttribution,
    Paths,
    result_dtype,
)
from captum_pairs.attr._core.integrated_jacobian import EmbeddingDecomposition
from captum_pairs.attr._core.pair_attribution import layer_pair, PairAttribution
from captum_pairs.attr._utils.games import (
    marginals,
    product_variance,
    Sampling,
    shapley_nodes,
    validate_probability,
    validate_sampling,
)
from captum_pairs.attr._utils.hooks import Session
from captum_pairs.attr._utils.path import Path, Side
from captum_pairs.attr._utils.quadrature import quadrature
from captum_pairs.attr._utils.similarity import make_similarity
from captum_pairs.attr._utils.subsets import EmbedSubsets, Subsets
from captum_pairs.attr._utils.validation import optional_pair_of
from torch import nn, Tensor

# Embeddings of one input, unless another number is asked for.
DEFAULT_SAMPLES = 2048
# Probabilities at which a sampled Shapley value is estimated: exact up to degree 7.
SAMPLED_NODES = 4

Found = Union[Tensor, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Game:
    """
    A value of games, as an integral over the probability p of a feature.

    Args:

        sampling (Sampling): How it is played.
        p (float, optional): The only probability (Banzhaf); None: the mean over all
                    (Shapley).
    """

    sampling: Sampling
    p: Optional[float]

    def nodes(self, *counts: int) -> tuple[Tensor, Tensor]:
        """Probabilities and weights (q,) for a product over these numbers of features,
        or as many as a sampled one has.

        Each side's marginals are a polynomial in p of one degree less than it has
        features, so that the exact ones are integrated exactly.
        """
        if self.p is not None:
            one = torch.ones(1, dtype=torch.float64)
            return self.p * one, one
        if not counts:
            return quadrature(SAMPLED_NODES)
        degree = sum(max(count - 1, 0) for count in counts)
        exact = all(self.sampling.is_exact(count) for count in counts)
        return shapley_nodes(degree, None if exact else SAMPLED_NODES)


class _EmbeddingGame(EmbeddingAttribution[Game]):
    """What the two values of a game share."""

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

    def _prepared(
        self,
        inputs: Tensor,
        baselines: Any = None,
        feature_mask: Optional[Tensor] = None,
        additional_forward_args: Any = None,
        n_samples: int = DEFAULT_SAMPLES,
        generator: Optional[torch.Generator] = None,
        embed_subsets: Optional[EmbedSubsets] = None,
        internal_batch_size: Optional[int] = None,
        attribute_to_layer_input: bool = False,
    ) -> tuple[Side, Sampling]:
        """Validated arguments."""
        side = self._side(
            inputs,
            baselines,
            feature_mask,
            additional_forward_args,
            attribute_to_layer_input,
        )
        sampling = validate_sampling(
            n_samples, generator, internal_batch_size, embed_subsets
        )
        return side, sampling

    def _linear(self, side: Side, game: Game) -> EmbeddingDecomposition:
        """The linear model of the embedding at each of the game's probabilities, of
        every example; several are put beside one another."""
        parts = []
        with Session() as session:
            paths = Paths(side, session)
            for row in range(len(side)):
                path = paths[row]
                nodes, weights = game.nodes()
                found = marginals(_subsets(path, game.sampling), nodes, game.sampling)
                roots = weights.sqrt().tolist()
                end = torch.cat([root * path.embedding for root in roots])
                start = torch.cat([r * one.constant for one, r in zip(found, roots)])
                values = torch.cat(
                    [r * one.values for one, r in zip(found, roots)], dim=1
                )
                check_finite(values)
                missing = values.sum(0) + start - end
                shaped = values.reshape(*path.features.shape, -1)
                parts.append((end, start, shaped, missing))
                paths.release(row)
        stacked = (torch.stack(each) for each in zip(*parts))
        dtype = result_dtype(side, computed=parts[0][2].dtype)
        return EmbeddingDecomposition(*(each.to(dtype) for each in stacked))

    def _play(self, side: Side, game: Game, return_standard_error: bool) -> Found:
        values, errors = [], []
        with Session() as session:
            paths = Paths(side, session)
            for row in range(len(side)):
                path = paths[row]
                found, variance = self._value(path, game)
                check_finite(found)
                shape = (*path.features.shape, -1)
                values.append(found.reshape(shape))
                errors.append(variance.sqrt().reshape(shape))
                paths.release(row)
        result = torch.stack(values)
        dtype = result_dtype(side, computed=result.dtype)
        if not return_standard_error:
            return result.to(dtype)
        return result.to(dtype), torch.stack(errors).to(dtype)

    def _value(self, path: Path, game: Game) -> tuple[Tensor, Tensor]:
        """Values and their variance, (G, k)."""
        subsets = _subsets(path, game.sampling)
        nodes, weights = game.nodes(len(subsets.players))
        found = marginals(subsets, nodes, game.sampling)
        parts = list(zip(found, weights.tolist()))
        return (
            torch.stack([w * one.values for one, w in parts]).sum(0),
            torch.stack([w**2 * one.variance() for one, w in parts]).sum(0),
        )

    def _contributions(self, path: Path, settings: Game) -> Tensor:
        return self._value(path, settings)[0]


def _subsets(path: Path, sampling: Sampling) -> Subsets:
    return Subsets(path, sampling.internal_batch_size, sampling.embed_subsets)


class EmbeddingBanzhaf(_EmbeddingGame):
    r"""
    The weighted Banzhaf value of every feature for every dimension of an embedding:

    .. math::
        \beta_i(p) = E_S[g(S \cup i) - g(S)] \in R^k,

    each other feature being in S with probability p (features that are not have the
    baseline's value). All subsets are enumerated where there are few; otherwise it is
    the linear fit to embeddings of random ones, with a standard error for every entry.
    (Banzhaf, Rutgers Law Review 1965; weighted: Li and Yu, NeurIPS 2023.)
    """

    @log_usage()
    def attribute(
        self,
        inputs: Tensor,
        baselines: Any = None,
        feature_mask: Optional[Tensor] = None,
        additional_forward_args: Any = None,
        p: float = 0.5,
        n_samples: int = DEFAULT_SAMPLES,
        generator: Optional[torch.Generator] = None,
        embed_subsets: Optional[EmbedSubsets] = None,
        internal_batch_size: Optional[int] = None,
        return_standard_error: bool = False,
        attribute_to_layer_input: bool = False,
    ) -> Found:
        r"""
        Args:

            inputs, baselines, feature_mask, additional_forward_args: As for
                        :class:`IntegratedJacobian`.
            p (float, optional): Of a feature to be there. Default: 0.5
            n_samples (int, optional): The most embeddings of an example; all subsets
                        are taken if there are no more. Default: 2048
            generator (torch.Generator, optional): Where chance comes from.
            embed_subsets (Callable, optional): Embeds subsets (n, G) of the (only)
                        example's features as (n, k) in another way than by the
                        baseline's value: tokens taken out.
            internal_batch_size (int, optional): The most points run at once.
            return_standard_error (bool, optional): Default: False
            attribute_to_layer_input (bool, optional): Default: False

        Returns:
            *Tensor*: (b, \*features, k), and with the flag standard errors of that
            shape, zero where all subsets were taken.

        Examples::

            >>> banzhaf = EmbeddingBanzhaf(nn.Linear(4, 3))
            >>> banzhaf.attribute(torch.randn(2, 4)).shape
            torch.Size([2, 4, 3])
        """
        side, sampling = self._prepared(
            inputs,
            baselines,
            feature_mask,
            additional_forward_args,
            n_samples,
            generator,
            embed_subsets,
            internal_batch_size,
            attribute_to_layer_input,
        )
        game = Game(sampling, validate_probability(p))
        return self._play(side, game, return_standard_error)

    def decompose(
        self,
        inputs: Tensor,
        baselines: Any = None,
        *,
        p: float = 0.5,
        **arguments: Any,
    ) -> EmbeddingDecomposition:
        r"""
        The linear model of the embedding that is nearest to it over subsets S,

        .. math::
            g(S) \approx c + \sum_{i \in S} \beta_i(p).

        Args:

            inputs, baselines, p, arguments: As for :meth:`attribute`, without
                        ``return_standard_error``.

        Returns:
            *EmbeddingDecomposition*: the constant c stands for g(r_x); the delta is
            what the model misses at x itself, (b, k).
        """
        side, sampling = self._prepared(inputs, baselines, **arguments)
        return self._linear(side, Game(sampling, validate_probability(p)))


class EmbeddingShapley(_EmbeddingGame):
    r"""
    The Shapley value of every feature for every dimension of an embedding,

    .. math::
        \phi_i = \int_0^1 \beta_i(p)\, dp \in R^k, \qquad
        \sum_i \phi_i = g(x) - g(r_x),

    with :math:`\beta_i(p)` of :class:`EmbeddingBanzhaf` (Owen's multilinear extension,
    Management Science 1972).
    """

    @log_usage()
    def attribute(
        self,
        inputs: Tensor,
        baselines: Any = None,
        feature_mask: Optional[Tensor] = None,
        additional_forward_args: Any = None,
        n_samples: int = DEFAULT_SAMPLES,
        generator: Optional[torch.Generator] = None,
        embed_subsets: Optional[EmbedSubsets] = None,
        internal_batch_size: Optional[int] = None,
        return_standard_error: bool = False,
        attribute_to_layer_input: bool = False,
    ) -> Found:
        r"""
        Args and returns as :meth:`EmbeddingBanzhaf.attribute`, without p.

        Examples::

            >>> shapley = EmbeddingShapley(nn.Linear(4, 3))
            >>> shapley.attribute(torch.randn(2, 4)).shape
            torch.Size([2, 4, 3])
        """
        side, sampling = self._prepared(
            inputs,
            baselines,
            feature_mask,
            additional_forward_args,
            n_samples,
            generator,
            embed_subsets,
            internal_batch_size,
            attribute_to_layer_input,
        )
        return self._play(side, Game(sampling, None), return_standard_error)

    def decompose(
        self, inputs: Tensor, baselines: Any = None, **arguments: Any
    ) -> EmbeddingDecomposition:
        r"""
        :meth:`EmbeddingBanzhaf.decompose` at the four probabilities of a Gauss-Legendre
        quadrature, beside one another and each times the root of its weight: vectors of
        width 4k, whose inner products with another input's are the Shapley interaction
        index (exactly if the two have at most nine features together).

        Args:

            inputs, baselines, arguments: As for :meth:`attribute`, without
                        ``return_standard_error``.

        Returns:
            *EmbeddingDecomposition* of width 4k.
        """
        side, sampling = self._prepared(inputs, baselines, **arguments)
        return self._linear(side, Game(sampling, None))


class _FeaturePairGame(PairAttribution[Game]):
    """What the two interaction indices share."""

    _method: type[_EmbeddingGame]

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
            self._method(encoder, score.kind == "cosine", place)
            for encoder, place in zip((score.encode_first, score.encode_second), layers)
        )
        super().__init__(score, first, second)

    def _play(
        self,
        sides: tuple[Side, Side],
        games: tuple[Game, Game],
        return_standard_error: bool,
    ) -> Found:
        values, errors = [], []
        with Session() as session:
            paths = Paths(sides[0], session), Paths(sides[1], session)
            for row in range(len(sides[0])):
                x, y = paths[0][row], paths[1][row]
                check_size(len(sides[0]), x.features.count, y.features.count, x)
                factor, _ = self._corners(x, y)
                table, variance = self._product(x, y, games)
                check_finite(table)
                shape = (*x.features.shape, *y.features.shape)
                values.append((factor * table.to(factor)).reshape(shape))
                error = factor.abs() * variance.sqrt().to(factor)
                errors.append(error.reshape(shape))
                paths[0].release(row)
                paths[1].release(row)
        result = torch.stack(values)
        dtype = result_dtype(*sides, computed=result.dtype)
        if not return_standard_error:
            return result.to(dtype)
        return result.to(dtype), torch.stack(errors).to(dtype)

    def _product(
        self, x: Path, y: Path, games: tuple[Game, Game]
    ) -> tuple[Tensor, Tensor]:
        """The index and its variance, (G_x, G_y)."""
        subsets = [_subsets(p, game.sampling) for p, game in zip((x, y), games)]
        nodes, weights = self._nodes([len(each.players) for each in subsets], games)
        first, second = (
            marginals(each, nodes, game.sampling) for each, game in zip(subsets, games)
        )
        table = variance = torch.zeros((), dtype=x.dtype, device=x.end.device)
        for one, other, weight in zip(first, second, weights.tolist()):
            values = other.values.to(one.values)
            table = table + weight * (one.values @ values.T)
            variance = variance + weight**2 * product_variance(one, other)
        return table, variance

    def _nodes(
        self, counts: list[int], games: tuple[Game, Game]
    ) -> tuple[Tensor, Tensor]:
        exact = all(game.sampling.is_exact(count) for game, count in zip(games, counts))
        # the sides are integrated together, and so at the nodes of the one that is not
        game = (
            games[0] if exact or not games[0].sampling.is_exact(counts[0]) else games[1]
        )
        return game.nodes(*counts)

    def _games(
        self,
        p: Optional[float],
        n_samples: Any,
        generator: Optional[torch.Generator],
        embed_subsets: Any,
        internal_batch_size: Optional[int],
    ) -> tuple[Game, Game]:
        """One for each side; n_samples is one number or two."""
        counts = n_samples if isinstance(n_samples, tuple) else (n_samples, n_samples)
        sampling = [
            validate_sampling(count, generator, internal_batch_size, embed)
            for count, embed in zip(
                optional_pair_of("n_samples", counts),
                optional_pair_of("embed_subsets", embed_subsets),
            )
        ]
        game = Game(sampling[0], p)
        return game, replace(game, sampling=sampling[1])


class FeaturePairBanzhaf(_FeaturePairGame):
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
    """

    _method = EmbeddingBanzhaf

    @log_usage()
    def attribute(
        self,
        inputs: tuple[Tensor, Tensor],
        baselines: Any = None,
        feature_mask: Any = None,
        additional_forward_args: Any = None,
        p: float = 0.5,
        n_samples: Any = DEFAULT_SAMPLES,
        generator: Optional[torch.Generator] = None,
        embed_subsets: Any = None,
        internal_batch_size: Optional[int] = None,
        return_standard_error: bool = False,
        attribute_to_layer_input: bool = False,
    ) -> Found:
        r"""
        Args:

            inputs, baselines, feature_mask, additional_forward_args: As for
                        :class:`FeaturePairIntegratedGradients`.
            p (float, optional): Of a feature to be there. Default: 0.5
            n_samples (int or tuple, optional): The most embeddings of each input.
            generator (torch.Generator, optional): Where chance comes from.
            embed_subsets (tuple, optional): For each side as for
                        :class:`EmbeddingBanzhaf`.
            internal_batch_size (int, optional): The most points run at once.
            return_standard_error (bool, optional): Default: False
            attribute_to_layer_input (bool, optional): Default: False

        Returns:
            *Tensor*: (b, \*features of x, \*features of y), and with the flag standard
            errors of that shape.

        Examples::

            >>> pairs = FeaturePairBanzhaf((nn.Linear(6, 3), nn.Linear(4, 3)))
            >>> pairs.attribute((torch.randn(2, 6), torch.randn(2, 4))).shape
            torch.Size([2, 6, 4])
        """
        sides = self._sides(
            inputs,
            baselines,
            feature_mask,
            additional_forward_args,
            attribute_to_layer_input,
        )
        games = self._games(
            validate_probability(p),
            n_samples,
            generator,
            embed_subsets,
            internal_batch_size,
        )
        return self._play(sides, games, return_standard_error)


class FeaturePairShapley(_FeaturePairGame):
    r"""
    The Shapley interaction index of every pair of features, one from each input:

    .. math::
        A_{ij} = \int_0^1 \langle \beta_i(p), \beta_j(p) \rangle\, dp,

    exactly, by a quadrature that is exact for polynomials in p. (Grabisch and Roubens,
    1999; by Owen's multilinear extension.)
    """

    _method = EmbeddingShapley

    @log_usage()
    def attribute(
        self,
        inputs: tuple[Tensor, Tensor],
        baselines: Any = None,
        feature_mask: Any = None,
        additional_forward_args: Any = None,
        n_samples: Any = DEFAULT_SAMPLES,
        generator: Optional[torch.Generator] = None,
        embed_subsets: Any = None,
        internal_batch_size: Optional[int] = None,
        return_standard_error: bool = False,
        attribute_to_layer_input: bool = False,
    ) -> Found:
        r"""
        Args and returns as :meth:`FeaturePairBanzhaf.attribute`, without p. Where a
        side is sampled, the integral is taken at four probabilities, which is exact up
        to degree seven in p.

        Examples::

            >>> pairs = FeaturePairShapley((nn.Linear(6, 3), nn.Linear(4, 3)))
            >>> pairs.attribute((torch.randn(2, 6), torch.randn(2, 4))).shape
            torch.Size([2, 6, 4])
        """
        sides = self._sides(
            inputs,
            baselines,
            feature_mask,
            additional_forward_args,
            attribute_to_layer_input,
        )
        games = self._games(
            None, n_samples, generator, embed_subsets, internal_batch_size
        )
        return self._play(sides, games, return_standard_error)
