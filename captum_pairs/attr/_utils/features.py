#!/usr/bin/env python3
"""Features: which scalars of an attributed tensor are summed into one."""

from dataclasses import dataclass
from typing import Optional

import torch
from captum_pairs.attr._utils.validation import describe, InvalidArgumentError
from torch import Tensor

_INTEGER_DTYPES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True)
class Features:
    """
    A partition of one example's scalars into features.

    Args:

        mask (Tensor): Ids 0...G-1, int64, of the attributed tensor's dimensions
                    without the batch; a dimension of size 1 broadcasts.
        count (int): G, the number of features.
        shape (tuple of int): The axes that the features have in an attribution;
                    their product is G.
    """

    mask: Tensor
    count: int
    shape: tuple[int, ...]

    def sum(self, values: Tensor) -> Tensor:
        """Sum scalars into features: (*value) -> (G,)."""
        broadcast = [
            axis
            for axis, (ids, size) in enumerate(zip(self.mask.shape, values.shape))
            if ids == 1 and size > 1
        ]
        if broadcast:
            values = values.sum(dim=broadcast, keepdim=True)
        totals = values.new_zeros(self.count)
        return totals.index_add_(0, self.mask.flatten(), values.flatten())

    def part(self, values: Tensor, feature: int) -> Tensor:
        """``values`` where they belong to ``feature`` and zero elsewhere: (*value)."""
        return torch.where(self.mask == feature, values, values.new_zeros(()))


def scalar_features(shape: tuple[int, ...], device: torch.device) -> Features:
    """Every scalar is a feature."""
    count = 1
    for size in shape:
        count *= size
    mask = torch.arange(count, device=device).reshape(shape)
    return Features(mask, count, shape)


def default_channel(ndim: int) -> int:
    """The channels' axis of a value without the batch: the first of (c, h, w), and the
    last one otherwise."""
    return 0 if ndim == 3 else ndim - 1


def position_features(
    shape: tuple[int, ...], channel_axis: Optional[int], device: torch.device
) -> Features:
    """
    One feature for each position of a layer's value, its channels summed.

    ``shape`` is without the batch, and so is ``channel_axis``: by default 0 for
    (c, h, w) and the last one otherwise. A value (d,) has no positions: each of its
    units is a feature.
    """
    if len(shape) <= 1:
        return scalar_features(shape, device)
    if channel_axis is None:
        channel_axis = default_channel(len(shape))
    positions = [size for axis, size in enumerate(shape) if axis != channel_axis]
    features = scalar_features(tuple(positions), device)
    return Features(
        features.mask.unsqueeze(channel_axis), features.count, features.shape
    )


def validate_mask(argument: str, mask: object) -> Tensor:
    """``mask`` if it is a tensor of ids 0...G-1; its shape is checked with a value."""
    if not isinstance(mask, Tensor) or mask.dtype not in _INTEGER_DTYPES:
        raise InvalidArgumentError(argument, "a tensor of integers", describe(mask))
    if mask.numel() == 0:
        raise InvalidArgumentError(argument, "at least one id", describe(mask))
    if bool((mask < 0).any()):
        raise InvalidArgumentError(argument, "ids from 0 on", "negative ids")
    return mask


def mask_row(
    argument: str,
    mask: Tensor,
    shape: tuple[int, ...],
    batch_axis: int,
    row: int,
    rows: int,
) -> Tensor:
    """
    An example's row of a mask whose batch lies where the value's does.

    Args:

        argument (str): The name for an error.
        mask (Tensor): Ids of the attributed tensor's dimensions, the batch included.
        shape (tuple of int): The attributed tensor's, without the batch.
        batch_axis, row, rows (int): Where the batch lies, which example, of how many.
    """
    if mask.ndim != len(shape) + 1 or mask.shape[batch_axis] not in (1, rows):
        whole = [*shape]
        whole.insert(batch_axis, rows)
        raise InvalidArgumentError(
            argument,
            f"a mask of {len(whole)} dimensions, those of {tuple(whole)}",
            describe(mask),
        )
    found: Tensor = mask.movedim(batch_axis, 0)
    return found[row if len(found) > 1 else 0]


def masked_features(
    argument: str, mask: Tensor, count: int, shape: tuple[int, ...]
) -> Features:
    """
    The features of one example's row of a mask.

    Args:

        argument (str): The name for an error.
        mask (Tensor): The row: ids of the attributed tensor's dimensions without
                    the batch, each its own size or 1.
        count (int): G, the largest id of the whole mask and one.
        shape (tuple of int): The attributed tensor's shape without the batch.
    """
    fits = len(mask.shape) == len(shape) and all(
        ids in (1, size) for ids, size in zip(mask.shape, shape)
    )
    if not fits:
        raise InvalidArgumentError(
            argument,
            f"each example's ids of shape {shape}, or 1 where they broadcast",
            f"ids of shape {tuple(mask.shape)}",
        )
    return Features(mask.to(torch.int64), count, (count,))
