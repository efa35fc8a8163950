#!/usr/bin/env python3

# pyre-strict
import typing
from typing import Any, Callable, cast, List, Literal, Optional, Tuple, Union

import torch
from captum._utils.common import (
    _expand_additional_forward_args,
    _extract_device,
    _format_additional_forward_args,
    _run_forward,
)
from captum._utils.gradient import _forward_layer_eval
from captum._utils.typing import BaselineType
from captum.attr._core.integrated_jacobian import IntegratedJacobian
from captum.attr._utils.attribution import LayerAttribution
from captum.attr._utils.feature_pairs import describe, InvalidArgumentError
from captum.attr._utils.jacobian import EncoderPath, features_of
from captum.log import log_usage
from torch import Tensor
from torch.nn import Module
from torch.nn.parallel.scatter_gather import scatter


class LayerIntegratedJacobian(LayerAttribution, IntegratedJacobian):
    r"""
    Layer Integrated Jacobian is a variant of :class:`IntegratedJacobian` that assigns
    a contribution vector to each position of a layer's input or output: to each token
    of (b, tokens, d), or each place of a feature map (b, c, h, w). The input may hold
    integers, such as token ids.

    Baselines belong to the encoder's input and are propagated to the layer. The path is
    a straight line between the two values there, and :math:`g(r)` is the encoder's
    output for the input with the layer's value replaced by that of the baseline.
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        layer: Module,
        device_ids: Union[None, List[int]] = None,
        normalize: bool = False,
        multiply_by_inputs: bool = True,
    ) -> None:
        r"""
        Args:

            forward_func, normalize, multiply_by_inputs: As for
                        :class:`IntegratedJacobian`.
            layer (torch.nn.Module): A layer that the encoder reaches once in a forward
                        pass, and whose input or output is a single tensor with the
                        examples in dimension 0.
            device_ids (list[int]): Device ID list, necessary only if forward_func
                        applies a DataParallel model. If forward_func is given as the
                        DataParallel model itself, then it is not necessary to provide
                        this argument.
        """
        LayerAttribution.__init__(self, forward_func, layer, device_ids)
        IntegratedJacobian.__init__(self, forward_func, normalize, multiply_by_inputs)

    @typing.overload
    def attribute(
        self,
        inputs: Tensor,
        baselines: BaselineType = None,
        feature_mask: Optional[Tensor] = None,
        additional_forward_args: Optional[object] = None,
        n_steps: int = 50,
        method: str = "gausslegendre",
        internal_batch_size: Union[None, int] = None,
        return_convergence_delta: Literal[False] = False,
        attribute_to_layer_input: bool = False,
    ) -> Tensor: ...

    @typing.overload
    def attribute(
        self,
        inputs: Tensor,
        baselines: BaselineType = None,
        feature_mask: Optional[Tensor] = None,
        additional_forward_args: Optional[object] = None,
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
        inputs: Tensor,
        baselines: BaselineType = None,
        feature_mask: Optional[Tensor] = None,
        additional_forward_args: Optional[object] = None,
        n_steps: int = 50,
        method: str = "gausslegendre",
        internal_batch_size: Union[None, int] = None,
        return_convergence_delta: bool = False,
        attribute_to_layer_input: bool = False,
    ) -> Union[Tensor, Tuple[Tensor, Tensor]]:
        r"""
        The arguments are those of :class:`IntegratedJacobian`, but for these:

        Args:

            inputs (Tensor): Input of the encoder, floating point or integer.
            feature_mask (Tensor, optional): Ids 0...G-1 of features, of as many
                        dimensions as the layer's value. If None, each position is a
                        feature: all channels are summed, which lie in dimension 1 of
                        (b, c, h, w) and in the last one otherwise. Of a value (b, d)
                        each neuron is a feature.
                        Default: None
            attribute_to_layer_input (bool, optional): Indicates whether to
                        compute the contributions of the layer's input or output.
                        Default: False

        Returns:
            **contributions** or 2-element tuple of **contributions**, **delta**:
            - **contributions** (*Tensor*):
                (b, \*features, k): the contribution vector of each feature.
            - **delta** (*Tensor*, returned if return_convergence_delta=True):
                (b, k): the sum of the contributions minus :math:`g(x) - g(r)`.

        Examples::

            >>> # TextEncoder maps token ids Nx12 to embeddings Nx64, and its attribute
            >>> # embedding is an nn.Embedding with outputs of the shape Nx12x32.
            >>> encoder = TextEncoder()
            >>> jacobian = LayerIntegratedJacobian(encoder, encoder.embedding)
            >>> input = torch.randint(100, (2, 12))
            >>> # Contributions have the shape 2x12x64.
            >>> contributions = jacobian.attribute(input)
        """
        path = self._path(
            inputs,
            baselines,
            feature_mask,
            additional_forward_args,
            attribute_to_layer_input=attribute_to_layer_input,
        )
        return self._attribute_path(
            path,
            inputs,
            n_steps,
            method,
            internal_batch_size,
            return_convergence_delta,
        )

    def _path(
        self,
        inputs: Tensor,
        baselines: BaselineType = None,
        feature_mask: Optional[Tensor] = None,
        additional_forward_args: Optional[object] = None,
        suffix: str = "",
        attribute_to_layer_input: bool = False,
    ) -> EncoderPath:
        formatted, starts = self._ends(inputs, baselines, suffix)
        args = _format_additional_forward_args(additional_forward_args)
        end, start = (
            self._layer_value(value, args, suffix, attribute_to_layer_input)
            for value in (formatted, starts)
        )
        rows = len(end)

        def encode(values: Tensor) -> Tensor:
            all_args = (*formatted, *(args if args is not None else ()))
            expanded = _expand_additional_forward_args(all_args, len(values) // rows)
            return self._forward_from_layer(values, expanded, attribute_to_layer_input)

        mask = features_of("feature_mask" + suffix, feature_mask, end, at_layer=True)
        is_global, normalize = self.multiplies_by_inputs, self.normalize
        return EncoderPath(encode, start, end, mask, is_global, normalize, suffix)

    def _layer_value(
        self, inputs: Tuple[Tensor, ...], args: Any, suffix: str, at_input: bool
    ) -> Tensor:
        """The layer's input or output, (b, ...)."""
        found = _forward_layer_eval(
            self.forward_func,
            inputs,
            self.layer,
            additional_forward_args=args,
            device_ids=self.device_ids,
            attribute_to_layer_input=at_input,
        )
        if (
            len(found) != 1
            or not isinstance(found[0], Tensor)
            or not found[0].is_floating_point()
            or len(found[0]) != len(inputs[0])
        ):
            raise InvalidArgumentError(
                "layer" + suffix,
                f"a layer whose value is one floating tensor of {len(inputs[0])} "
                "example(s)",
                describe(found),
            )
        return cast(Tensor, found[0])

    def _forward_from_layer(self, values: Tensor, args: Any, at_input: bool) -> Tensor:
        """The encoder's output with these values at the layer."""
        device_ids = self.device_ids
        if device_ids is None:
            device_ids = getattr(self.forward_func, "device_ids", None)
        parts = scatter(values, target_gpus=device_ids) if device_ids else (values,)
        by_device = {part.device: part for part in parts}
        reached: List[torch.device] = []

        def hook(module: Module, hook_inputs: Any, hook_outputs: Any = None) -> Any:
            device = _extract_device(module, hook_inputs, hook_outputs)
            if device in reached:
                raise InvalidArgumentError(
                    "layer",
                    "a layer that is reached once in a forward pass",
                    "one that is reached again",
                )
            reached.append(device)
            given = hook_inputs if hook_outputs is None else hook_outputs
            value = by_device[device]
            return type(given)([value]) if isinstance(given, (tuple, list)) else value

        layer = cast(Module, self.layer)
        if at_input:
            handle = layer.register_forward_pre_hook(hook)
        else:
            handle = layer.register_forward_hook(hook)
        try:
            return cast(Tensor, _run_forward(self.forward_func, (), None, args))
        finally:
            handle.remove()

    def compute_convergence_delta(  # type: ignore
        self,
        attributions: Tensor,
        start_point: BaselineType,
        end_point: Tensor,
        target: None = None,
        additional_forward_args: Optional[object] = None,
        attribute_to_layer_input: bool = False,
    ) -> Tensor:
        r"""
        As for :class:`IntegratedJacobian`, with :math:`g(r)` as it is at the layer.
        """
        self._require_multiplied("attributions")
        path = self._path(
            end_point,
            start_point,
            None,
            additional_forward_args,
            attribute_to_layer_input=attribute_to_layer_input,
        )
        ends, starts = path.ends
        return attributions.flatten(1, -2).sum(dim=1) - (ends - starts)
