#!/usr/bin/env python3

from dataclasses import dataclass
from typing import ClassVar, Optional

import torch
from captum_pairs.attr._core.embedding_attribution import EmbeddingAttribution
from captum_pairs.attr._core.pair_attribution import PairAttribution
from captum_pairs.attr._utils.example import Example
from captum_pairs.attr._utils.validation import (
    check_chunk,
    describe,
    InvalidArgumentError,
)
from torch import Tensor

_CHUNK = 64


@dataclass(frozen=True)
class Pooling:
    """
    How tokens are pooled.

    Args:

        weights (Tensor, optional): (1 or b, positions), of the pooling: 0 for padding.
                    Default: one divided by the number of positions
        internal_batch_size (int, optional): The most tokens run at once.
    """

    weights: Optional[Tensor] = None
    internal_batch_size: Optional[int] = None

    per_side: ClassVar[tuple[str, ...]] = ("weights",)

    def __post_init__(self) -> None:
        check_chunk(self.internal_batch_size)
        weights = self.weights
        if weights is not None and (
            not isinstance(weights, Tensor)
            or weights.ndim != 2
            or not weights.is_floating_point()
            or weights.layout != torch.strided
        ):
            raise InvalidArgumentError(
                "weights", "a floating tensor (1 or b, positions)", describe(weights)
            )


class TokenDecomposition(EmbeddingAttribution[Pooling]):
    r"""
    Every token's share of an embedding, read from the token alone:

    .. math::
        c_t = w_t\, g(t, t, \dots, t) \in R^k,

    what the rest of the network makes of a sequence that has token t of a layer's value
    in every position, times the token's weight in the pooling. Attention between equal
    tokens mixes nothing, and a class token, an end token, a mean or an attention pool
    all read the same vector: the readout of this token.

    At the last layer of an encoder with mean pooling and linear layers behind it the
    shares are exact, :math:`\sum_t c_t = g(x)`. With another pooling they are the
    tokens' own embeddings, which image-text similarity maps compare (ITSM; Li et al.,
    "Exploring Visual Interpretability for Contrastive Language-Image Pre-training",
    https://arxiv.org/abs/2209.07046; of mean pooling: Black et al., "Visualizing Paired
    Image Similarity in Transformer Networks", WACV 2022). Of an encoder that normalises
    its embedding itself a token's readout is normalised too.
    The norm of g(x) that ``normalize`` divides by is not differentiated.

    Examples::

        >>> net = nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Flatten())
        >>> tokens = TokenDecomposition(net, channel_dim=1)
        >>> x = torch.randn(2, 4, 7)  # 7 tokens of 4 channels
        >>> mask = torch.arange(7).reshape(1, 1, 7)
        >>> tokens.attribute(x, mask).sum(1).allclose(net(x), atol=1e-6)
        True
    """

    needs_gradients = False
    has_baseline = False
    settings_type = Pooling

    def contributions(self, example: Example, settings: Pooling) -> Tensor:
        tokens, positions, channel = example.positions()
        ids = example.features.mask.movedim(channel, -1)
        if ids.shape[-1] != 1 and example.value.ndim > 1:
            raise InvalidArgumentError(
                example.side.name("feature_mask"),
                "ids of positions, whose channels belong together",
                describe(example.features.mask),
            )
        readouts = []
        for some in torch.split(tokens, settings.internal_batch_size or _CHUNK):
            # (n, d) -> (n, *positions, d) -> (n, *value)
            shape = (len(some), *[1] * len(positions), some.shape[1])
            values = some.reshape(shape).expand(-1, *positions, -1)
            moved = values.movedim(-1, channel + 1)
            readouts.append(example.embed(moved, normalize=False))
        found = torch.cat(readouts)
        if example.side.normalize:
            found = found / torch.linalg.vector_norm(example.output.to(found))
        weights = self._weights(settings, example, len(tokens)).to(found)
        sums = found.new_zeros(example.features.count, found.shape[1])
        of_token = ids[..., 0].expand(positions).flatten()
        return sums.index_add_(0, of_token, weights[:, None] * found)

    def _weights(self, settings: Pooling, example: Example, count: int) -> Tensor:
        """(T,)."""
        if settings.weights is None:
            return torch.full((count,), 1.0 / count, dtype=torch.float64)
        weights, rows = settings.weights.detach(), len(example.side)
        if weights.shape[1] != count or len(weights) not in (1, rows):
            raise InvalidArgumentError(
                "weights",
                f"one for each of {count} positions, of batch 1 or {rows}",
                describe(weights),
            )
        return weights[0 if len(weights) == 1 else example.row]


class FeaturePairTokenSimilarity(PairAttribution):
    r"""
    Similarities of tokens: inner products of :class:`TokenDecomposition`'s vectors.
    They sum to the score where the tokens' shares are exact, on both sides.

    Examples::

        >>> pool = nn.AdaptiveAvgPool2d(1)
        >>> net = nn.Sequential(nn.Conv2d(3, 5, 2), pool, nn.Flatten())
        >>> pairs = FeaturePairTokenSimilarity(net, layer=net[0])
        >>> x, y = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 3, 3)
        >>> pairs.attribute((x, y)).shape
        torch.Size([2, 3, 3, 2, 2])
    """

    embedding_attribution = TokenDecomposition
