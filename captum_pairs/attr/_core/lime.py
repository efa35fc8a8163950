#!/usr/bin/env python3

from dataclasses import dataclass

import torch
from captum_pairs.attr._core.embedding_attribution import EmbeddingAttribution, Shares
from captum_pairs.attr._core.pair_attribution import PairAttribution
from captum_pairs.attr._utils.example import BaselinePath
from captum_pairs.attr._utils.marginals import draw, Sampling
from captum_pairs.attr._utils.subsets import all_subsets, Subsets
from captum_pairs.attr._utils.validation import (
    describe,
    InvalidArgumentError,
    positive_float,
)
from torch import Tensor


@dataclass(frozen=True)
class Locality(Sampling):
    """
    How a linear model is fitted near an input.

    Args:

        n_samples (int): The most embeddings of an example; all subsets are taken if
                    there are no more. Default: 1000
        kernel_width (float): w; large: all subsets count alike. Default: 0.25
        intercept (bool): Whether there is a constant. Default: True
        generator, embed_subsets, internal_batch_size: See ``Sampling``.
    """

    n_samples: int = 1000
    kernel_width: float = 0.25
    intercept: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        width = positive_float("kernel_width", self.kernel_width)
        object.__setattr__(self, "kernel_width", width)
        if not isinstance(self.intercept, bool):
            raise InvalidArgumentError("intercept", "a bool", describe(self.intercept))

    def fit(self, path: BaselinePath) -> tuple[Tensor, Tensor]:
        """Slopes (G, k) and the constant (k,)."""
        subsets = Subsets.of(path, self)
        count = len(subsets.players)
        if self.is_exact(count):
            present = all_subsets(count)
        else:
            present = draw(count, 0.5, self)
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

    Examples::

        >>> lime = EmbeddingLime(nn.Linear(4, 3))
        >>> lime.attribute(torch.randn(2, 4)).shape
        torch.Size([2, 4, 3])
    """

    needs_gradients = False
    settings_type = Locality

    def contributions(self, path: BaselinePath, settings: Locality) -> Tensor:
        return settings.fit(path)[0]

    def shares(self, path: BaselinePath, settings: Locality) -> Shares:
        """The linear model: its constant stands for g(r_x)."""
        slopes, constant = settings.fit(path)
        return Shares(slopes, path.embedding, constant)

    @property
    def multiplies_by_inputs(self) -> bool:
        """As Captum's Lime: slopes of a model."""
        return False


class FeaturePairLime(PairAttribution):
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

    Examples::

        >>> pairs = FeaturePairLime((nn.Linear(6, 3), nn.Linear(4, 3)))
        >>> pairs.attribute((torch.randn(2, 6), torch.randn(2, 4))).shape
        torch.Size([2, 6, 4])
    """

    embedding_attribution = EmbeddingLime
