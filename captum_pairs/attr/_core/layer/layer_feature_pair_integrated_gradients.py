#!/usr/bin/env python3

import typing
from typing import Any, Literal, Optional, Union

from captum.attr import LayerAttribution
from captum.log import log_usage
from captum_pairs.attr._core.feature_pair_integrated_gradients import (
    FeaturePairIntegratedGradients,
)
from captum_pairs.attr._core.integrated_jacobian import (
    Convergence,
    IntegratedJacobian,
    Integration,
)
from captum_pairs.attr._core.layer.layer_integrated_jacobian import (
    LayerIntegratedJacobian,
)
from captum_pairs.attr._core.pair_attribution import (
    layer_pair,
    PairAttribution,
    PairDecomposition,
)
from captum_pairs.attr._utils.similarity import make_similarity
from captum_pairs.attr._utils.validation import pair_of
from torch import Tensor


class LayerFeaturePairIntegratedGradients(
    LayerAttribution, FeaturePairIntegratedGradients
):
    r"""
    :class:`FeaturePairIntegratedGradients` at a layer of each encoder: pairs of
    positions (tokens, patches, places in a feature map).

    Baselines belong to the encoders' *inputs* and are propagated to the layers; see
    :class:`LayerIntegratedJacobian`.
    """

    layer: tuple[Any, Any]

    def __init__(
        self,
        forward_func: Any,
        layer: Any,
        similarity: str = "cosine",
        scale: float = 1.0,
        multiply_by_inputs: bool = True,
        direction: Optional[str] = None,
        channel_dim: Any = None,
    ) -> None:
        r"""
        Args:

            forward_func (Callable or tuple of Callable): (encode_first,
                        encode_second), or one encoder for both sides.
            layer (tuple or torch.nn.Module): (layer_first, layer_second), each a
                        module that its encoder reaches once in a forward pass, or None
                        to attribute to that side's input. One module stands for both.
            similarity, scale, multiply_by_inputs, direction: As for
                        :class:`FeaturePairIntegratedGradients`.
            channel_dim (tuple, optional): For each side, the dimension of the layer's
                        value that is summed when no feature_mask is given. Default: 1
                        for (b, c, h, w) and the last one otherwise
        """
        score = make_similarity(forward_func, similarity, scale)
        layers = layer_pair(layer)
        if channel_dim is None or isinstance(channel_dim, int):
            channel_dim = (channel_dim, channel_dim)
        channel_dims = pair_of("channel_dim", channel_dim)
        encoders = score.encode_first, score.encode_second
        options = score.kind == "cosine", multiply_by_inputs, direction
        first, second = (
            (
                IntegratedJacobian(encoder, *options)
                if module is None
                else LayerIntegratedJacobian(encoder, module, *options, dim)
            )
            for encoder, module, dim in zip(encoders, layers, channel_dims)
        )
        PairAttribution.__init__(self, score, first, second)
        LayerAttribution.__init__(self, score, layers)

    @typing.overload
    def attribute(
        self,
        inputs: tuple[Tensor, Tensor],
        baselines: Any = None,
        feature_mask: Any = None,
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
        inputs: tuple[Tensor, Tensor],
        baselines: Any = None,
        feature_mask: Any = None,
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
        inputs: tuple[Tensor, Tensor],
        baselines: Any = None,
        feature_mask: Any = None,
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

            inputs (tuple[Tensor, Tensor]): The encoders' inputs (b, ...); at a layer,
                        token ids may be integers.
            baselines (tuple, optional): For each side a baseline of the *input*.
                        Default: zeros
            feature_mask (tuple, optional): For each side ids 0...G-1 of the dimensions
                        of the *layer's value*, each its own size or 1. Default: one
                        feature for each position
            attribute_to_layer_input (bool, optional): The layers' inputs instead of
                        their outputs. Default: False

        The other arguments, results and errors are those of
        :meth:`FeaturePairIntegratedGradients.attribute`.

        Examples::

            >>> images = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.Tanh(), nn.Flatten(),
            ...                        nn.Linear(32, 3))
            >>> texts = nn.Sequential(nn.Embedding(9, 5), nn.Tanh(), nn.Flatten(),
            ...                       nn.Linear(20, 3))
            >>> fpig = LayerFeaturePairIntegratedGradients(
            ...     (images, texts), (images[0], texts[0])
            ... )
            >>> pixels, ids = torch.randn(2, 3, 8, 8), torch.randint(9, (2, 4))
            >>> fpig.attribute((pixels, ids), n_steps=16).shape
            torch.Size([2, 2, 2, 4])
        """
        sides = self._sides(
            inputs,
            baselines,
            feature_mask,
            additional_forward_args,
            attribute_to_layer_input,
        )
        settings = Integration.of(n_steps, method, tolerance, internal_batch_size)
        return self._finish(sides, settings, return_convergence_delta)

    @log_usage()
    def decompose(
        self,
        inputs: tuple[Tensor, Tensor],
        baselines: Any = None,
        feature_mask: Any = None,
        additional_forward_args: Any = None,
        n_steps: int = 50,
        method: str = "gausslegendre",
        tolerance: Optional[float] = None,
        internal_batch_size: Optional[int] = None,
        attribute_to_layer_input: bool = False,
    ) -> PairDecomposition:
        """As :meth:`FeaturePairIntegratedGradients.decompose`, at the layers."""
        sides = self._sides(
            inputs,
            baselines,
            feature_mask,
            additional_forward_args,
            attribute_to_layer_input,
        )
        settings = Integration.of(n_steps, method, tolerance, internal_batch_size)
        return self._decompose(sides, settings)

    @log_usage()
    def choose_steps(
        self,
        inputs: tuple[Tensor, Tensor],
        baselines: Any = None,
        additional_forward_args: Any = None,
        n_steps: int = 50,
        method: str = "gausslegendre",
        tolerance: Optional[float] = 1e-3,
        attribute_to_layer_input: bool = False,
    ) -> tuple[Convergence, Convergence]:
        """As :meth:`FeaturePairIntegratedGradients.choose_steps`, at the layers."""
        sides = self._sides(
            inputs, baselines, None, additional_forward_args, attribute_to_layer_input
        )
        settings = Integration.of(n_steps, method, tolerance, None)
        return self._converge(sides, settings)

    @log_usage()
    def compute_convergence_delta(
        self,
        attributions: Tensor,
        start_point: Any,
        end_point: tuple[Tensor, Tensor],
        target: None = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
    ) -> Tensor:
        """
        As :meth:`FeaturePairIntegratedGradients.compute_convergence_delta`, with the
        baselines' values at the layers.
        """
        self._require_multiplied("attributions")
        sides = self._sides(
            end_point,
            start_point,
            None,
            additional_forward_args,
            attribute_to_layer_input,
        )
        return self._interaction_delta(sides, attributions)
