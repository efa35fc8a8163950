#!/usr/bin/env python3

from typing import Any, Callable, Optional

from captum.log import log_usage
from captum_pairs.attr._core.embedding_attribution import (
    EmbeddingAttribution,
    result_dtype,
)
from captum_pairs.attr._core.integrated_jacobian import IntegratedJacobian, Integration
from captum_pairs.attr._core.pair_attribution import layer_pair, PairAttribution
from captum_pairs.attr._utils.path import Path, Side
from captum_pairs.attr._utils.similarity import make_similarity
from torch import nn, Tensor


class _AtTheInput(IntegratedJacobian):
    """The products of the Jacobian at x itself with x."""

    def _scale(self, path: Path) -> Tensor:
        return path.end


class JacobianXInput(EmbeddingAttribution[Integration]):
    r"""
    The Jacobian of an embedding at the input, times the input:

    .. math::
        c_i = \sum_{e \in i} x_e \frac{\partial g}{\partial x_e}(x) \in R^k.

    It is what gradient times input (:class:`captum.attr.InputXGradient`) is for a
    score, for every dimension of an embedding at once: as cheap as a single step of
    :class:`IntegratedJacobian`, and not complete.
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        normalize: bool = False,
        layer: Optional[nn.Module] = None,
    ) -> None:
        r"""
        Args:

            forward_func (Callable or torch.nn.Module): The encoder: maps (b, ...) to
                        embeddings (b, k).
            normalize (bool, optional): Attribute the embedding divided by its norm.
                        Default: False
            layer (torch.nn.Module, optional): Attribute to a layer's value instead of
                        the input. Default: None
        """
        super().__init__(forward_func, normalize)
        self.layer = layer
        self._jacobian = _AtTheInput(forward_func, normalize)

    @log_usage()
    def attribute(
        self,
        inputs: Tensor,
        feature_mask: Optional[Tensor] = None,
        additional_forward_args: Any = None,
        internal_batch_size: Optional[int] = None,
        attribute_to_layer_input: bool = False,
    ) -> Tensor:
        r"""
        Args:

            inputs (Tensor): (b, ...); at a layer they may be integers.
            feature_mask (Tensor, optional): As for :class:`IntegratedJacobian`.
            additional_forward_args (Any, optional): Further arguments of the encoder.
            internal_batch_size (int, optional): Of no use here: there is one point.
            attribute_to_layer_input (bool, optional): The layer's input instead of its
                        output. Default: False

        Returns:
            *Tensor*: contributions (b, \*features, k).

        Examples::

            >>> jacobian = JacobianXInput(nn.Linear(4, 3))
            >>> jacobian.attribute(torch.randn(2, 4)).shape
            torch.Size([2, 4, 3])
        """
        # the path is never walked: its other end is the input as well
        side = self._side(
            inputs,
            inputs,
            feature_mask,
            additional_forward_args,
            attribute_to_layer_input,
        )
        found = self._run(side, _one_step(internal_batch_size))
        return found.values.to(result_dtype(side, computed=found.values.dtype))

    def _contributions(self, path: Path, settings: Integration) -> Tensor:
        return self._jacobian._integrals(path, settings)

    def _readings(
        self, path: Path, directions: Tensor, settings: Integration
    ) -> Tensor:
        if len(directions) > min(path.features.count, path.embedding.numel()):
            return self._contributions(path, settings) @ directions.T
        return self._jacobian._reverse_products(path, directions, path.end, settings)


def _one_step(internal_batch_size: Optional[int]) -> Integration:
    """The quadrature whose only node is the input."""
    return Integration.of(1, "riemann_right", None, internal_batch_size)


class FeaturePairJacobianXInput(PairAttribution[Integration]):
    r"""
    Pairwise gradient times input: inner products of :class:`JacobianXInput`'s vectors,

    .. math::
        A_{ij} = \sum_{e \in i,\, f \in j} x_e y_f
                 \frac{\partial^2 s}{\partial x_e \partial y_f}(x, y).

    The first-order member of the family: one step, no baseline, not complete.
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

            forward_func, similarity, scale: As for
                        :class:`FeaturePairIntegratedGradients`.
            layer (Module or tuple, optional): A layer of each encoder; None on a side:
                        its input. Default: None
        """
        score = make_similarity(forward_func, similarity, scale)
        layers = (None, None) if layer is None else layer_pair(layer)
        first, second = (
            JacobianXInput(encoder, score.kind == "cosine", place)
            for encoder, place in zip((score.encode_first, score.encode_second), layers)
        )
        super().__init__(score, first, second)

    @log_usage()
    def attribute(
        self,
        inputs: tuple[Tensor, Tensor],
        feature_mask: Any = None,
        additional_forward_args: Any = None,
        internal_batch_size: Optional[int] = None,
        attribute_to_layer_input: bool = False,
    ) -> Tensor:
        r"""
        Args:

            inputs (tuple[Tensor, Tensor]): (b, ...) of one batch size.
            feature_mask, additional_forward_args (tuple, optional): One for each side.
            internal_batch_size (int, optional): Of no use here: there is one point.
            attribute_to_layer_input (bool, optional): Default: False

        Returns:
            *Tensor*: (b, \*features of x, \*features of y).

        Examples::

            >>> pairs = FeaturePairJacobianXInput((nn.Linear(6, 3), nn.Linear(4, 3)))
            >>> pairs.attribute((torch.randn(2, 6), torch.randn(2, 4))).shape
            torch.Size([2, 6, 4])
        """
        sides: tuple[Side, Side] = self._sides(
            inputs,
            inputs,
            feature_mask,
            additional_forward_args,
            attribute_to_layer_input,
        )
        settings = _one_step(internal_batch_size)
        return self._pairs(sides, settings, effects=False).interactions
