#!/usr/bin/env python3

import typing
from typing import Any, Callable, Literal, Optional, Union

from captum.attr import LayerAttribution
from captum.log import log_usage
from captum_pairs.attr._core.integrated_jacobian import (
    Convergence,
    EmbeddingDecomposition,
    EmbeddingReading,
    IntegratedJacobian,
    Integration,
)
from captum_pairs.attr._utils.validation import describe, InvalidArgumentError
from torch import nn, Tensor


class LayerIntegratedJacobian(LayerAttribution, IntegratedJacobian):
    r"""
    :class:`IntegratedJacobian` at a layer: the contributions of the layer's positions
    (tokens, patches, places in a feature map) to the embedding.

    The baseline belongs to the encoder's *input* and is propagated to the layer; the
    path is a straight line between the two values there. :math:`g(r_x)` is the
    encoder's forward pass for x (its mask, its pooling) with the layer's value
    replaced by the baseline's. The part of the encoder before the layer runs once.
    """

    layer: nn.Module

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        layer: nn.Module,
        normalize: bool = False,
        multiply_by_inputs: bool = True,
        direction: Optional[str] = None,
        channel_dim: Optional[int] = None,
    ) -> None:
        r"""
        Args:

            forward_func (Callable or torch.nn.Module): The encoder: maps (b, ...) to
                        embeddings (b, k).
            layer (torch.nn.Module): A layer that the encoder reaches once in a forward
                        pass.
            normalize, multiply_by_inputs, direction: As for
                        :class:`IntegratedJacobian`.
            channel_dim (int, optional): The dimension of the layer's value that is
                        summed when no feature_mask is given. Default: 1 for
                        (b, c, h, w) and the last one otherwise; a value (b, d) has no
                        positions, so that each of its units is a feature
        """
        if not isinstance(layer, nn.Module):
            raise InvalidArgumentError("layer", "a torch.nn.Module", describe(layer))
        if channel_dim is not None and (
            isinstance(channel_dim, bool) or not isinstance(channel_dim, int)
        ):
            raise InvalidArgumentError(
                "channel_dim", "a dimension or None", describe(channel_dim)
            )
        IntegratedJacobian.__init__(
            self, forward_func, normalize, multiply_by_inputs, direction
        )
        LayerAttribution.__init__(self, forward_func, layer)
        self.channel_dim = channel_dim

    @typing.overload
    def attribute(
        self,
        inputs: Tensor,
        baselines: Any = None,
        feature_mask: Optional[Tensor] = None,
        additional_forward_args: Any = None,
        n_steps: int = 50,
        method: str = "gausslegendre",
        tolerance: Optional[float] = None,
        internal_batch_size: Optional[int] = None,
        *,
        return_convergence_delta: Literal[True],
        attribute_to_layer_input: bool = False,
    ) -> tuple[Tensor, Tensor]: ...

    @typing.overload
    def attribute(
        self,
        inputs: Tensor,
        baselines: Any = None,
        feature_mask: Optional[Tensor] = None,
        additional_forward_args: Any = None,
        n_steps: int = 50,
        method: str = "gausslegendre",
        tolerance: Optional[float] = None,
        internal_batch_size: Optional[int] = None,
        return_convergence_delta: Literal[False] = False,
        attribute_to_layer_input: bool = False,
    ) -> Tensor: ...

    @log_usage()
    def attribute(
        self,
        inputs: Tensor,
        baselines: Any = None,
        feature_mask: Optional[Tensor] = None,
        additional_forward_args: Any = None,
        n_steps: int = 50,
        method: str = "gausslegendre",
        tolerance: Optional[float] = None,
        internal_batch_size: Optional[int] = None,
        return_convergence_delta: bool = False,
        attribute_to_layer_input: bool = False,
    ) -> Union[Tensor, tuple[Tensor, Tensor]]:
        r"""
        Args:

            inputs (Tensor): The encoder's input (b, ...); token ids may be integers.
            baselines (scalar or Tensor, optional): A baseline of the *input*, of its
                        shape or of batch 1; whole numbers for whole numbers.
                        Default: zeros
            feature_mask (Tensor, optional): Ids 0...G-1 of the dimensions of the
                        *layer's value*, each its own size or 1. Default: one feature
                        for each position
            attribute_to_layer_input (bool, optional): The layer's input instead of its
                        output. Default: False

        The other arguments, results and errors are those of
        :meth:`IntegratedJacobian.attribute`.

        Examples::

            >>> encoder = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
            >>> jacobian = LayerIntegratedJacobian(encoder, encoder[1])
            >>> jacobian.attribute(torch.randn(2, 4), n_steps=8).shape
            torch.Size([2, 6, 3])
        """
        side = self._side(
            inputs,
            baselines,
            feature_mask,
            additional_forward_args,
            attribute_to_layer_input,
        )
        settings = Integration.of(n_steps, method, tolerance, internal_batch_size)
        return self._finish(side, settings, return_convergence_delta)

    @log_usage()
    def decompose(
        self,
        inputs: Tensor,
        baselines: Any = None,
        feature_mask: Optional[Tensor] = None,
        additional_forward_args: Any = None,
        n_steps: int = 50,
        method: str = "gausslegendre",
        tolerance: Optional[float] = None,
        internal_batch_size: Optional[int] = None,
        attribute_to_layer_input: bool = False,
    ) -> EmbeddingDecomposition:
        """As :meth:`IntegratedJacobian.decompose`, at the layer."""
        side = self._side(
            inputs,
            baselines,
            feature_mask,
            additional_forward_args,
            attribute_to_layer_input,
        )
        settings = Integration.of(n_steps, method, tolerance, internal_batch_size)
        return self._decompose(side, settings)

    @log_usage()
    def read(
        self,
        inputs: Tensor,
        directions: Tensor,
        baselines: Any = None,
        feature_mask: Optional[Tensor] = None,
        additional_forward_args: Any = None,
        n_steps: int = 50,
        method: str = "gausslegendre",
        tolerance: Optional[float] = None,
        internal_batch_size: Optional[int] = None,
        attribute_to_layer_input: bool = False,
    ) -> EmbeddingReading:
        """As :meth:`IntegratedJacobian.read`, at the layer."""
        side = self._side(
            inputs,
            baselines,
            feature_mask,
            additional_forward_args,
            attribute_to_layer_input,
        )
        settings = Integration.of(n_steps, method, tolerance, internal_batch_size)
        return self._read(side, directions, settings)

    @log_usage()
    def compute_convergence_delta(
        self,
        attributions: Tensor,
        start_point: Any,
        end_point: Tensor,
        target: None = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
    ) -> Tensor:
        r"""
        As :meth:`IntegratedJacobian.compute_convergence_delta`, with the baseline's
        value at the layer.
        """
        side = self._side(
            end_point,
            start_point,
            None,
            additional_forward_args,
            attribute_to_layer_input,
        )
        return self._delta_of(side, attributions)

    @log_usage()
    def choose_steps(
        self,
        inputs: Tensor,
        baselines: Any = None,
        additional_forward_args: Any = None,
        n_steps: int = 50,
        method: str = "gausslegendre",
        tolerance: Optional[float] = 1e-3,
        attribute_to_layer_input: bool = False,
    ) -> Convergence:
        """As :meth:`IntegratedJacobian.choose_steps`, at the layer."""
        side = self._side(
            inputs, baselines, None, additional_forward_args, attribute_to_layer_input
        )
        return self._converge(side, Integration.of(n_steps, method, tolerance, None))
