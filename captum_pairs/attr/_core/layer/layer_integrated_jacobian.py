#!/usr/bin/env python3

from typing import Callable, Optional

from captum.attr import LayerAttribution
from captum_pairs.attr._core.integrated_jacobian import IntegratedJacobian
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

    Examples::

        >>> encoder = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
        >>> jacobian = LayerIntegratedJacobian(encoder, encoder[1])
        >>> jacobian.attribute(torch.randn(2, 4), n_steps=8).shape
        torch.Size([2, 6, 3])
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

            forward_func, normalize, multiply_by_inputs, direction, channel_dim: As for
                        :class:`IntegratedJacobian`.
            layer (torch.nn.Module): A layer that the encoder reaches once in a forward
                        pass.
        """
        if not isinstance(layer, nn.Module):
            raise InvalidArgumentError("layer", "a torch.nn.Module", describe(layer))
        LayerAttribution.__init__(self, forward_func, layer)
        IntegratedJacobian.__init__(
            self,
            forward_func,
            normalize,
            multiply_by_inputs,
            direction,
            layer,
            channel_dim,
        )
