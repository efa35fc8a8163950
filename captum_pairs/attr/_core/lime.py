#!/usr/bin/env python3

from dataclasses import dataclass
from typing import Any, Callable, Optional

import torch
from captum.log import log_usage
from captum_pairs.attr._core.embedding_attribution import (
    check_finite,
    EmbeddingAttribution,
    Paths,
    result_dtype,
)
from captum_pairs.attr._core.integrated_jacobian import EmbeddingDecomposition
from captum_pairs.attr._core.pair_attribution import layer_pair, PairAttribution
from captum_pairs.attr._utils.games import draw, Sampling, validate_sampling
from captum_pairs.attr._utils.hooks import Session
from captum_pairs.attr._utils.path import Path, Side
from captum_pairs.attr._utils.similarity import make_similarity
from captum_pairs.attr._utils.subsets import all_subsets, EmbedSubsets, Subsets
from captum_pairs.attr._utils.validation import (
    describe,
    InvalidArgumentError,
    optional_pair_of,
    positive_float,
)
from torch import nn, Tensor

# Embeddings of one input, and how near to the whole input a subset has to be.
_SAMPLES, _KERNEL_WIDTH = 1000, 0.25


@dataclass(frozen=True)
class Locality:
    """
    How a linear model is fitted near an input.

    Args:

        sampling (Sampling): Of the subsets.
        kernel_width (float): Of the weights of subsets.
        intercept (bool): Whether the model has a constant.
    """

    sampling: Sampling
    kernel_width: float
    intercept: bool

    @classmethod
    def of(
        cls,
        n_samples: object,
        kernel_width: object,
        intercept: object,
        generator: object,
        embed_subsets: Optional[EmbedSubsets],
        internal_batch_size: Optional[int],
    ) -> "Locality":
        """Validated settings."""
        if not isinstance(intercept, bool):
            raise InvalidArgumentError("intercept", "a bool", describe(intercept))
        return cls(
            validate_sampling(n_samples, generator, internal_batch_size, embed_subsets),
            positive_float("kernel_width", kernel_width),
            intercept,
        )

    def fit(self, path: Path) -> tuple[Tensor, Tensor]:
        """Slopes (G, k) and the constant (k,)."""
        sampling = self.sampling
        subsets = Subsets(path, sampling.internal_batch_size, sampling.embed_subsets)
        count = len(subsets.players)
        if sampling.is_exact(count):
            present = all_subsets(count)
        else:
            present = draw(count, 0.5, sampling)
            present[0] = True  # the input itself, as LIME has it
        embeddings = subsets.embed_players(present)
        design = present.to(embeddings.device, torch.float64)
        weights = self.weights(design)
        if float(weights.sum().square() / weights.square().sum()) < min(count, 2):
            raise InvalidArgumentError(
                "kernel_width",
                f"wide enough for a fit of {count} features",
                f"{self.kernel_width}, with which one subset counts alone",
            )
        roots = weights.sqrt()[:, None]
        if self.intercept:
            design = torch.cat([design, torch.ones_like(design[:, :1])], 1)
        weighted = torch.linalg.pinv(roots * design) @ (roots * embeddings.double())
        slopes = embeddings.new_zeros(subsets.count, embeddings.shape[1])
        slopes[subsets.players] = weighted[:count].to(embeddings)
        constant = weighted[count:].sum(0).to(embeddings)
        return slopes, constant

    def weights(self, present: Tensor) -> Tensor:
        """Of subsets (n, G): exp(-d² / width²) of the cosine distance d to the whole
        input, 1 - sqrt(share of features that are there)."""
        share = present.mean(1) if present.shape[1] else present.new_ones(len(present))
        return torch.exp(-((1 - share.sqrt()) ** 2) / self.kernel_width**2)


class EmbeddingLime(EmbeddingAttribution[Locality]):
    r"""
    A linear model of an embedding near the input: the slopes of the least-squares fit
    to embeddings of random subsets of the features, weighted by their nearness,

    .. math::
        \min_{c} \sum_S \pi(S) \Big\| g(S) - c_0 - \sum_{i \in S} c_i \Big\|^2, \qquad
        \pi(S) = \exp\!\big(-(1 - \sqrt{|S| / G})^2 / w^2\big).

    The kernel is that of LIME with the cosine distance (Ribeiro et al., KDD 2016,
    https://arxiv.org/abs/1602.04938), G counts the features that are not the same in
    input and baseline, and the regression is without a penalty.
    """

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

    @log_usage()
    def attribute(
        self,
        inputs: Tensor,
        baselines: Any = None,
        feature_mask: Optional[Tensor] = None,
        additional_forward_args: Any = None,
        n_samples: int = _SAMPLES,
        kernel_width: float = _KERNEL_WIDTH,
        intercept: bool = True,
        generator: Optional[torch.Generator] = None,
        embed_subsets: Optional[EmbedSubsets] = None,
        internal_batch_size: Optional[int] = None,
        attribute_to_layer_input: bool = False,
    ) -> Tensor:
        r"""
        Args:

            inputs, baselines, feature_mask, additional_forward_args, generator,
                        embed_subsets, internal_batch_size: As for
                        :class:`EmbeddingBanzhaf`.
            n_samples (int, optional): The most embeddings of an example; all subsets
                        are taken if there are no more. Default: 1000
            kernel_width (float, optional): w; large: all subsets count alike.
                        Default: 0.25
            intercept (bool, optional): Whether there is a :math:`c_0`. Default: True
            attribute_to_layer_input (bool, optional): Default: False

        Returns:
            *Tensor*: contributions (b, \*features, k).

        Examples::

            >>> lime = EmbeddingLime(nn.Linear(4, 3))
            >>> lime.attribute(torch.randn(2, 4)).shape
            torch.Size([2, 4, 3])
        """
        found = self.decompose(
            inputs,
            baselines,
            feature_mask,
            additional_forward_args,
            n_samples,
            kernel_width,
            intercept,
            generator,
            embed_subsets,
            internal_batch_size,
            attribute_to_layer_input,
        )
        return found.contributions

    def decompose(
        self,
        inputs: Tensor,
        baselines: Any = None,
        feature_mask: Optional[Tensor] = None,
        additional_forward_args: Any = None,
        n_samples: int = _SAMPLES,
        kernel_width: float = _KERNEL_WIDTH,
        intercept: bool = True,
        generator: Optional[torch.Generator] = None,
        embed_subsets: Optional[EmbedSubsets] = None,
        internal_batch_size: Optional[int] = None,
        attribute_to_layer_input: bool = False,
    ) -> EmbeddingDecomposition:
        r"""
        The linear model.

        Args:

            inputs, ...: As for :meth:`attribute`.

        Returns:
            *EmbeddingDecomposition*: :math:`c_0` stands for g(r_x); the delta is what
            the model misses at x itself, (b, k).
        """
        side = self._side(
            inputs,
            baselines,
            feature_mask,
            additional_forward_args,
            attribute_to_layer_input,
        )
        locality = Locality.of(
            n_samples,
            kernel_width,
            intercept,
            generator,
            embed_subsets,
            internal_batch_size,
        )
        parts = []
        with Session() as session:
            paths = Paths(side, session)
            for row in range(len(side)):
                path = paths[row]
                slopes, constant = locality.fit(path)
                check_finite(slopes)
                missing = slopes.sum(0) + constant - path.embedding
                shaped = slopes.reshape(*path.features.shape, -1)
                parts.append((path.embedding, constant, shaped, missing))
                paths.release(row)
        dtype = result_dtype(side, computed=parts[0][2].dtype)
        return EmbeddingDecomposition(
            *(torch.stack(each).to(dtype) for each in zip(*parts))
        )

    def _plan(self, paths: Any, settings: Any, index: Optional[int]) -> Locality:
        mine: Locality = settings if index is None else settings[index]
        return mine

    def _contributions(self, path: Path, settings: Locality) -> Tensor:
        return settings.fit(path)[0]


class FeaturePairLime(PairAttribution[Any]):
    r"""
    A bilinear model of a similarity near both inputs (InteractionLIME; Joukovsky et
    al., "Model-Agnostic Visual Explanations via Approximate Bilinear Models", ICIP
    2023): the weighted least-squares fit of

    .. math::
        s(S, T) \approx \sum_{i \in S, j \in T} A_{ij} \;(+ \text{ constant and main
        effects})

    to perturbations of both inputs at once. Here every subset of x meets every one of
    y, and since the similarity is an inner product the fit over all pairs is the inner
    product of two fits, those of :class:`EmbeddingLime`: in closed form, for m + m
    embeddings instead of m² scores. Without intercept it is the bilinear form alone.
    Kernel and sampling are this library's choice.
    """

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
            EmbeddingLime(encoder, score.kind == "cosine", place)
            for encoder, place in zip((score.encode_first, score.encode_second), layers)
        )
        super().__init__(score, first, second)

    @log_usage()
    def attribute(
        self,
        inputs: tuple[Tensor, Tensor],
        baselines: Any = None,
        feature_mask: Any = None,
        additional_forward_args: Any = None,
        n_samples: int = _SAMPLES,
        kernel_width: float = _KERNEL_WIDTH,
        intercept: bool = True,
        generator: Optional[torch.Generator] = None,
        embed_subsets: Any = None,
        internal_batch_size: Optional[int] = None,
        attribute_to_layer_input: bool = False,
    ) -> Tensor:
        r"""
        Args:

            inputs, baselines, feature_mask, additional_forward_args: As for
                        :class:`FeaturePairIntegratedGradients`.
            n_samples, kernel_width, intercept, generator, internal_batch_size: As for
                        :class:`EmbeddingLime`, the same for both sides.
            embed_subsets (tuple, optional): For each side as for
                        :class:`EmbeddingBanzhaf`.
            attribute_to_layer_input (bool, optional): Default: False

        Returns:
            *Tensor*: (b, \*features of x, \*features of y).

        Examples::

            >>> pairs = FeaturePairLime((nn.Linear(6, 3), nn.Linear(4, 3)))
            >>> pairs.attribute((torch.randn(2, 6), torch.randn(2, 4))).shape
            torch.Size([2, 6, 4])
        """
        sides: tuple[Side, Side] = self._sides(
            inputs,
            baselines,
            feature_mask,
            additional_forward_args,
            attribute_to_layer_input,
        )
        settings = tuple(
            Locality.of(
                n_samples,
                kernel_width,
                intercept,
                generator,
                embed,
                internal_batch_size,
            )
            for embed in optional_pair_of("embed_subsets", embed_subsets)
        )
        return self._pairs(sides, settings, effects=False).interactions
