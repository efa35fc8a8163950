"""What all results have in common: how they are shown, and told apart."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any, TYPE_CHECKING, Union

import numpy as np
import torch
from captum_pairs.inputs import ExplainedInput
from captum_pairs.models.encoder import TEXT
from captum_pairs.show.page import page_frame, write_page
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ByContent", "named", "Result"]

# Of a text, in a short repr.
_LETTERS = 60


def named(side: ExplainedInput) -> str:
    """An input in a few words: a text, shortened, or what else it is."""
    if side.kind != TEXT:
        return str(side.source)
    return f"“{shorten(side.source.text, _LETTERS, placeholder='…')}”"


# ---- equality ----------------------------------------------------------------


class ByContent:
    """
    Equal to what has equal content, tensors and pictures included.

    For frozen dataclasses that are made with ``eq=False``: what dataclasses make
    themselves compares tensors by ``==`` and raises.
    """

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


# ---- what is shown -----------------------------------------------------------


class Result(ByContent, ABC):
    """
    A result that a person works with: it can be read, seen, explored and compared.

    Subclasses say what it is (``_in_short``, ``summary``), draw it (``plot``), and say
    what a page shows of it (``_shown``: itself, unless it is several explanations).
    """

    @abstractmethod
    def summary(self) -> str:
        """What it says, in lines."""

    @abstractmethod
    def plot(self) -> "Figure":
        """A picture of it, as a matplotlib figure."""

    @abstractmethod
    def _in_short(self) -> Iterator[str]:
        """The model, the inputs, the score, and what is strongest."""

    def _shown(self) -> Any:
        return self

    def page(self, path: Union[str, Path]) -> Path:
        """Writes a page to explore it, one file (see :mod:`captum_pairs.show.page`)."""

        return write_page(self._shown(), path)

    def _repr_html_(self) -> str:
        """The page, as notebooks show it."""

        return page_frame(self._shown())

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {'; '.join(self._in_short())}>"
