#!/usr/bin/env python3
"""From a user's arguments to one validated :class:`Side`."""

from typing import Any, Callable, Optional

import torch
from captum_pairs.attr._utils.example import Side
from captum_pairs.attr._utils.features import validate_mask
from captum_pairs.attr._utils.hooks import Place
from captum_pairs.attr._utils.validation import (
    check_tensor,
    describe,
    InvalidArgumentError,
)
from torch import nn, Tensor


def make_side(
    encoder: Callable[..., Tensor],
    inputs: object,
    baselines: object,
    feature_mask: object,
    additional_forward_args: object,
    *,
    normalize: bool,
    layer: Optional[nn.Module] = None,
    attribute_to_layer_input: bool = False,
    channel_dim: Optional[int] = None,
    differentiable: bool = True,
    index: Optional[int] = None,
) -> Side:
    """Validate one side's arguments; ``index`` is 0 or 1 in a pair, for errors."""
    suffix = "" if index is None else f"[{index}]"
    values = check_tensor("inputs" + suffix, inputs)
    if layer is None and not values.is_floating_point():
        raise InvalidArgumentError(
            "inputs" + suffix,
            "a floating tensor, since the path from the baseline runs through it "
            "(for token ids, attribute to a layer)",
            describe(inputs),
        )
    rows = int(values.shape[0])
    mask: Optional[Tensor] = None
    if feature_mask is not None:
        mask = validate_mask("feature_mask" + suffix, feature_mask)
    place = None
    if layer is not None:
        place = Place(layer, attribute_to_layer_input, "layer" + suffix)
    side = Side(
        forward_func=encoder,
        inputs=(values,),
        baselines=(baseline_of("baselines" + suffix, baselines, values),),
        args=args_of("additional_forward_args" + suffix, additional_forward_args, rows),
        places=(place,),
        names=("inputs" + suffix,),
        normalize=normalize,
        mask=mask,
        channel_dim=channel_dim,
        differentiable=differentiable,
        scanned=False,
    )
    if mask is not None and place is None:
        _check_mask_at_input("feature_mask" + suffix, mask, values)
    elif mask is not None and not any(
        size in (1, rows) for size in mask.shape[: min(2, mask.ndim)]
    ):
        raise InvalidArgumentError(
            "feature_mask" + suffix, f"ids of batch 1 or {rows}", describe(mask)
        )
    return side


def _check_mask_at_input(argument: str, mask: Tensor, values: Tensor) -> None:
    fits = mask.ndim == values.ndim and all(
        ids in (1, size) for ids, size in zip(mask.shape, values.shape)
    )
    if not fits:
        raise InvalidArgumentError(
            argument,
            f"ids of the input's shape {tuple(values.shape)}, each dimension its own "
            "or 1",
            describe(mask),
        )


def baseline_of(argument: str, baseline: object, values: Tensor) -> Tensor:
    """A baseline as a tensor of batch 1 or b."""
    if baseline is None:
        baseline = 0
    number = baseline
    if isinstance(baseline, Tensor) and baseline.ndim == 0:
        number = baseline.item()
    whole = not values.is_floating_point()
    if isinstance(number, (int, float)) and not isinstance(number, bool):
        if whole and not isinstance(number, int):
            raise InvalidArgumentError(
                argument, "whole numbers, as the input has", describe(baseline)
            )
        try:
            return torch.full_like(values[:1], number, requires_grad=False)
        except (OverflowError, RuntimeError) as error:
            raise InvalidArgumentError(
                argument, f"a number that {values.dtype} holds", describe(baseline)
            ) from error
    if not isinstance(baseline, Tensor):
        raise InvalidArgumentError(
            argument, "a number, a tensor or None", describe(baseline)
        )
    if (
        baseline.ndim != values.ndim
        or baseline.shape[1:] != values.shape[1:]
        or baseline.shape[0] not in (1, values.shape[0])
        or (whole and baseline.is_floating_point())
    ):
        kind = "integers" if whole else "numbers"
        raise InvalidArgumentError(
            argument,
            f"a tensor of {kind} of shape {tuple(values.shape)}, or of batch 1",
            describe(baseline),
        )
    return baseline.to(values.dtype)


def args_of(argument: str, args: object, rows: int) -> tuple[Any, ...]:
    """Additional arguments as a tuple; tensors have batch 1 or b (or no dimension)."""
    if args is None:
        return ()
    parts = tuple(args) if isinstance(args, tuple) else (args,)
    for part in parts:
        if isinstance(part, Tensor) and part.ndim and part.shape[0] not in (1, rows):
            raise InvalidArgumentError(
                argument, f"tensors of batch 1 or {rows}", describe(part)
            )
    return parts
