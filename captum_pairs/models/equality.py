"""Equality of what holds tensors and pictures."""

from collections.abc import Hashable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["ByContent"]


class ByContent:
    """
    Equal to what has equal content, tensors and pictures included.

    For frozen dataclasses, whose own comparison is by ``==``, which raises for tensors
    and pictures.
    """

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        # its own, so that the dataclass makes none
        for name in ("__eq__", "__hash__"):
            if name not in vars(cls):
                setattr(cls, name, getattr(ByContent, name))

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return _is_same(_content(self), _content(other))

    def __hash__(self) -> int:
        return hash((type(self).__name__, _key(_content(self))))


def _content(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _is_same(one: Any, other: Any) -> bool:
    """Whether two values say the same: tensors of equal type, shape and numbers."""
    if one is other:
        return True
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        alike = one.dtype == other.dtype and one.shape == other.shape
        return alike and torch.equal(one.cpu(), other.cpu())
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if type(one) is not type(other):
        return False
    if is_dataclass(one):
        return _is_same(_content(one), _content(other))
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(
            _is_same(one[name], other[name]) for name in one
        )
    if isinstance(one, (tuple, list)):
        pairs = zip(one, other)
        return len(one) == len(other) and all(_is_same(a, b) for a, b in pairs)
    return bool(one == other)


def _key(value: Any) -> Hashable:
    """The same for what is the same; of tensors and pictures the shape alone."""
    if isinstance(value, (Tensor, np.ndarray)):
        return tuple(value.shape)
    if is_dataclass(value) and not isinstance(value, type):
        return _key(_content(value))
    if isinstance(value, Mapping):
        return tuple((name, _key(value[name])) for name in sorted(value))
    if isinstance(value, (tuple, list)):
        return tuple(_key(each) for each in value)
    return value if isinstance(value, Hashable) else type(value).__name__
