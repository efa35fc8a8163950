#!/usr/bin/env python3

# pyre-strict
import typing
from typing import Any, Callable, List, Literal, Optional, Tuple, Union

from captum.attr._core.feature_pair_integrated_gradients import (
    FeaturePairIntegratedGradients,
)
from captum.attr._core.integrated_jacobian import IntegratedJacobian
from captum.attr._core.layer.layer_integrated_jacobian import LayerIntegratedJacobian
from captum.attr._utils.attribution import LayerAttribution
from captum.attr._utils.feature_pairs import (
    describe,
    InvalidArgumentError,
    optional_pair_of,
)
from captum.attr._utils.jacobian import EncoderPath
from captum.log import log_usage
from torch import Tensor
from torch.nn import Module


class LayerFeaturePairIntegratedGradients(
    LayerAttribution, FeaturePairIntegratedGradients
):
    r"""
    Layer Feature-Pair Integrated Gradients is a variant of
    :class:`FeaturePairIntegratedGradients` that assigns the similarity to pairs of
    positions (tokens, places in a feature map) of a layer of each encoder.

    Baselines belong to the encoders' inputs and are propagated to the layers; see
    :class:`LayerIntegratedJacobian`.
    """

    def __init__(
        self,
        forward_func: Union[
            Callable[..., Tensor], Tuple[Callable[..., Tensor], Callable[..., Tensor]]
        ],
        layer: Union[Module, Tuple[Optional[Module], Optional[Module]]],
        device_ids: Union[None, List[int]] = None,
        similarity: str = "cosine",
        scale: float = 1.0,
        multiply_by_inputs: bool = True,
    ) -> None:
        r"""
        Args:

            forward_func, similarity, scale, multiply_by_inputs: As for
                        :class:`FeaturePairIntegratedGradients`.
            layer (torch.nn.Module or tuple): A layer of each encoder, that it reaches
                        once in a forward pass; None on a side attributes to its input.
                        One module stands for both.
            device_ids (list[int]): Device ID list, necessary only if forward_func
                        applies a DataParallel model, and is not given as the
                        DataParallel model itself.
        """
        layers: Tuple[Any, Any]
        if isinstance(layer, Module):
            layers = layer, layer
        else:
            layers = optional_pair_of("layer", layer)
        fits = all(each is None or isinstance(each, Module) for each in layers)
        if layers == (None, None) or not fits:
            raise InvalidArgumentError(
                "layer", "a module or a pair (first, second)", describe(layer)
            )
        self.layers: Tuple[Optional[Module], Optional[Module]] = layers
        LayerAttribution.__init__(self, forward_func, layer, device_ids)  # type: ignore
        FeaturePairIntegratedGradients.__init__(
            self, forward_func, similarity, scale, multiply_by_inputs
        )

    def _side(self, encoder: Callable[..., Tensor], index: int) -> IntegratedJacobian:
        layer = self.layers[index]
        if layer is None:
            return super()._side(encoder, index)
        return LayerIntegratedJacobian(
            encoder,
            layer,
            self.device_ids,
            self.similarity.kind == "cosine",
            self._multiply_by_inputs,
        )

    @typing.overload
    def attribute(
        self,
        inputs: Tuple[Tensor, Tensor],
        baselines: Any = None,
        feature_mask: Any = None,
        additional_forward_args: Any = None,
        n_steps: int = 50,
        method: str = "gausslegendre",
        internal_batch_size: Union[None, int] = None,
        return_convergence_delta: Literal[False] = False,
        attribute_to_layer_input: bool = False,
    ) -> Tensor: ...

    @typing.overload
    def attribute(
        self,
        inputs: Tuple[Tensor, Tensor],
        baselines: Any = None,
        feature_mask: Any = None,
        additional_forward_args: Any = None,
        n_steps: int = 50,
        method: str = "gausslegendre",
        internal_batch_size: Union[None, int] = None,
        *,
        return_convergence_delta: Literal[True],
        attribute_to_layer_input: bool = False,
    ) -> Tuple[Tensor, Tensor]: ...

    @log_usage(part_of_slo=True)
    def attribute(
        self,
        inputs: Tuple[Tensor, Tensor],
        baselines: Any = None,
        feature_mask: Any = None,
        additional_forward_args: Any = None,
        n_steps: int = 50,
        method: str = "gausslegendre",
        internal_batch_size: Union[None, int] = None,
        return_convergence_delta: bool = False,
        attribute_to_layer_input: bool = False,
    ) -> Union[Tensor, Tuple[Tensor, Tensor]]:
        r"""
        The arguments are those of :class:`FeaturePairIntegratedGradients`, but for
        these:

        Args:

            inputs (tuple[Tensor, Tensor]): Inputs of the two encoders; at a layer they
                        may hold integers, such as token ids.
            feature_mask (tuple of Tensor, optional): For each side, ids 0...G-1 of
                        features, of as many dimensions as the layer's value. If None,
                        each position of a layer is a feature; see
                        :class:`LayerIntegratedJacobian`.
                        Default: None
            attribute_to_layer_input (bool, optional): Indicates whether to
                        attribute to the layers' inputs or outputs.
                        Default: False

        Returns:
            **attributions** or 2-element tuple of **attributions**, **delta**:
            - **attributions** (*Tensor*):
                (b, \*features of the first, \*features of the second).
            - **delta** (*Tensor*, returned if return_convergence_delta=True):
                (b,): as for :class:`FeaturePairIntegratedGradients`.

        Examples::

            >>> # ImageEncoder maps images Nx3x32x32 to embeddings Nx64, and the output
            >>> # of its attribute conv1 has the shape Nx16x4x4. TextEncoder maps token
            >>> # ids Nx12 to embeddings Nx64, and its attribute embedding is an
            >>> # nn.Embedding with outputs of the shape Nx12x32.
            >>> images, texts = ImageEncoder(), TextEncoder()
            >>> layers = images.conv1, texts.embedding
            >>> fpig = LayerFeaturePairIntegratedGradients((images, texts), layers)
            >>> inputs = torch.randn(2, 3, 32, 32), torch.randint(100, (2, 12))
            >>> # Attributions have the shape 2x4x4x12.
            >>> attributions = fpig.attribute(inputs)
        """
        paths = self._paths(
            inputs,
            baselines,
            feature_mask,
            additional_forward_args,
            attribute_to_layer_input=attribute_to_layer_input,
        )
        return self._attribute_paths(
            paths,
            inputs,
            n_steps,
            method,
            internal_batch_size,
            return_convergence_delta,
        )

    def _path(
        self, index: int, given: Tuple[Tensor, Any, Any, Any], **kwargs: Any
    ) -> EncoderPath:
        if self.layers[index] is None:
            kwargs = {}
        return super()._path(index, given, **kwargs)
