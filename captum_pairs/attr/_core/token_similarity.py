#!/usr/bin/env python3

from dataclasses import dataclass
from typing import Any, Callable, Optional

import torch
from captum.log import log_usage
from captum_pairs.attr._core.embedding_attribution import (
    EmbeddingAttribution,
    result_dtype,
)
from captum_pairs.attr._core.pair_attribution import layer_pair, PairAttribution
from captum_pairs.attr._utils.path import Path, Side
from captum_pairs.attr._utils.similarity import make_similarity
from captum_pairs.attr._utils.validation import (
    describe,
    InvalidArgumentError,
    optional_pair_of,
    positive_int,
)
from torch import nn, Tensor

_CHUNK = 64


@dataclass(frozen=True)
class Pooling:
    """How tokens are pooled: their weights (1 or b, positions), equal by default."""

    weights: Optional[Tensor] = None
    internal_batch_size: Optional[int] = None


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
    """

    needs_gradients = False

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        normalize: bool = False,
        layer: Optional[nn.Module] = None,
        channel_dim: Optional[int] = None,
    ) -> None:
        r"""
        Args:

            forward_func, layer: As for :class:`JacobianXInput`.
            normalize (bool, optional): Divide by the norm of g(x), so that inner
                        products are in units of the cosine. Default: False
            channel_dim (int, optional): Of the layer's value. Default: 1 of (b, c, h,
                        w), else the last one
        """
        super().__init__(forward_func, normalize)
        self.layer = layer
        self.channel_dim = channel_dim

    @log_usage()
    def attribute(
        self,
        inputs: Tensor,
        feature_mask: Optional[Tensor] = None,
        additional_forward_args: Any = None,
        weights: Optional[Tensor] = None,
        internal_batch_size: Optional[int] = None,
        attribute_to_layer_input: bool = False,
    ) -> Tensor:
        r"""
        Args:

            inputs (Tensor): (b, ...); at a layer they may be integers.
            feature_mask (Tensor, optional): As for :class:`IntegratedJacobian`;
                        positions are summed, not channels.
            additional_forward_args (Any, optional): Further arguments of the encoder.
            weights (Tensor, optional): (1 or b, positions), of the pooling: 0 for
                        padding. Default: one divided by the number of positions
            internal_batch_size (int, optional): The most tokens run at once.
            attribute_to_layer_input (bool, optional): Default: False

        Returns:
            *Tensor*: contributions (b, \*features, k).

        Examples::

            >>> net = nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Flatten())
            >>> tokens = TokenDecomposition(net, channel_dim=1)
            >>> x = torch.randn(2, 4, 7)  # 7 tokens of 4 channels
            >>> mask = torch.arange(7).reshape(1, 1, 7)
            >>> tokens.attribute(x, mask).sum(1).allclose(net(x), atol=1e-6)
            True
        """
        # there is no path: its other end is the input as well
        side = self._side(
            inputs,
            inputs,
            feature_mask,
            additional_forward_args,
            attribute_to_layer_input,
        )
        found = self._run(side, _pooling(weights, internal_batch_size, len(side)))
        return found.values.to(result_dtype(side, computed=found.values.dtype))

    def _plan(self, paths: Any, settings: Any, index: Optional[int]) -> Pooling:
        mine: Pooling = settings if index is None else settings[index]
        return mine

    def _contributions(self, path: Path, settings: Pooling) -> Tensor:
        tokens, positions, channel = self._tokens(path)
        ids = path.features.mask.movedim(channel, -1)
        if ids.shape[-1] != 1 and path.end.ndim > 1:
            raise InvalidArgumentError(
                path.side.name("feature_mask"),
                "ids of positions, whose channels belong together",
                describe(path.features.mask),
            )
        readouts = []
        for some in torch.split(tokens, settings.internal_batch_size or _CHUNK):
            # (n, d) -> (n, *positions, d) -> (n, *value)
            shape = (len(some), *[1] * len(positions), some.shape[1])
            values = some.reshape(shape).expand(-1, *positions, -1)
            readouts.append(_embedded(path, values.movedim(-1, channel + 1)))
        found = torch.cat(readouts)
        if path.side.normalize:
            found = found / torch.linalg.vector_norm(_embedded(path, path.end[None]))
        weights = self._weights(settings, path, len(tokens)).to(found)
        sums = found.new_zeros(path.features.count, found.shape[1])
        of_token = ids[..., 0].expand(positions).flatten()
        return sums.index_add_(0, of_token, weights[:, None] * found)

    def _tokens(self, path: Path) -> tuple[Tensor, tuple[int, ...], int]:
        """Tokens (T, d), the positions that they lie in, and the channels' axis in the
        value without the batch."""
        value = path.end
        if value.ndim < 2:
            raise InvalidArgumentError(
                "layer" if self.layer is not None else path.side.argument,
                "a value with positions, (b, tokens, d) or (b, c, h, w)",
                f"one of shape (b, {', '.join(map(str, value.shape))})",
            )
        channel = path._channel_axis()
        if channel is None:
            channel = 0 if value.ndim == 3 else value.ndim - 1
        moved = value.movedim(channel, -1)
        return moved.reshape(-1, moved.shape[-1]), tuple(moved.shape[:-1]), channel

    def _weights(self, settings: Pooling, path: Path, count: int) -> Tensor:
        """(T,)."""
        if settings.weights is None:
            return torch.full((count,), 1.0 / count, dtype=torch.float64)
        weights = settings.weights
        if weights.shape[1] != count:
            raise InvalidArgumentError(
                "weights", f"one for each of {count} positions", describe(weights)
            )
        return weights[0 if len(weights) == 1 else path.row]


def _embedded(path: Path, values: Tensor) -> Tensor:
    """Embeddings (n, k) as they are."""
    with path._run(values, normalize=False, grad=False) as (_, embeddings):
        return embeddings


def _pooling(weights: object, internal_batch_size: object, rows: int) -> Pooling:
    """Validated settings."""
    if internal_batch_size is not None:
        internal_batch_size = positive_int("internal_batch_size", internal_batch_size)
    if weights is None:
        return Pooling(None, internal_batch_size)
    if (
        not isinstance(weights, Tensor)
        or weights.ndim != 2
        or len(weights) not in (1, rows)
        or not weights.is_floating_point()
    ):
        raise InvalidArgumentError(
            "weights", f"a floating tensor (1 or {rows}, positions)", describe(weights)
        )
    return Pooling(weights.detach(), internal_batch_size)


class FeaturePairTokenSimilarity(PairAttribution[Any]):
    r"""
    Similarities of tokens: inner products of :class:`TokenDecomposition`'s vectors.
    They sum to the score where the tokens' shares are exact, on both sides.
    """

    def __init__(
        self,
        forward_func: Any,
        similarity: str = "cosine",
        scale: float = 1.0,
        layer: Any = None,
        channel_dim: Any = None,
    ) -> None:
        r"""
        Args:

            forward_func, similarity, scale, layer: As for
                        :class:`FeaturePairJacobianXInput`; the norms are those at the
                        inputs, and not differentiated.
            channel_dim (tuple, optional): As for :class:`TokenDecomposition`, for each
                        side.
        """
        score = make_similarity(forward_func, similarity, scale)
        layers = (None, None) if layer is None else layer_pair(layer)
        first, second = (
            TokenDecomposition(encoder, score.kind == "cosine", place, dim)
            for encoder, place, dim in zip(
                (score.encode_first, score.encode_second),
                layers,
                optional_pair_of("channel_dim", channel_dim),
            )
        )
        super().__init__(score, first, second)

    @log_usage()
    def attribute(
        self,
        inputs: tuple[Tensor, Tensor],
        feature_mask: Any = None,
        additional_forward_args: Any = None,
        weights: Any = None,
        internal_batch_size: Optional[int] = None,
        attribute_to_layer_input: bool = False,
    ) -> Tensor:
        r"""
        Args:

            inputs (tuple[Tensor, Tensor]): (b, ...) of one batch size.
            feature_mask, additional_forward_args, weights (tuple, optional): As for
                        :meth:`TokenDecomposition.attribute`, for each side.
            internal_batch_size (int, optional): The most tokens run at once.
            attribute_to_layer_input (bool, optional): Default: False

        Returns:
            *Tensor*: (b, \*features of x, \*features of y).

        Examples::

            >>> pool = nn.AdaptiveAvgPool2d(1)
            >>> net = nn.Sequential(nn.Conv2d(3, 5, 2), pool, nn.Flatten())
            >>> pairs = FeaturePairTokenSimilarity(net, layer=net[0])
            >>> x, y = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 3, 3)
            >>> pairs.attribute((x, y)).shape
            torch.Size([2, 3, 3, 2, 2])
        """
        sides: tuple[Side, Side] = self._sides(
            inputs,
            inputs,
            feature_mask,
            additional_forward_args,
            attribute_to_layer_input,
        )
        settings = tuple(
            _pooling(each, internal_batch_size, len(sides[0]))
            for each in optional_pair_of("weights", weights)
        )
        return self._pairs(sides, settings, effects=False).interactions
