#!/usr/bin/env python3
"""What bad input gets: one error class, one way to say what was expected and came."""

import math
import sys
from typing import Any, Optional
from warnings import warn

from torch import strided, Tensor


# Of what came, in letters: of an argument the shown part, of an error all that is told.
_SHOWN, _LONGEST = 100, 2000


class InvalidArgumentError(ValueError):
    r"""
    An argument does not fit.

    The message names the argument, what was expected and the shape or type that
    came; it never holds a tensor's values.

    Args:

        argument (str): The argument's name, with the side where it has two.
        expected (str): What would have been accepted.
        got (str): The shape or type that came.
    """

    def __init__(self, argument: str, expected: str, got: str) -> None:
        if len(got) > _LONGEST:
            got = f"{got[:_LONGEST]}…"
        super().__init__(f"{argument}: expected {expected}, got {got}")
        self.argument = argument
        self.expected = expected
        self.got = got

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        return type(self), (self.argument, self.expected, self.got)


# What is counted fits into 32 bits.
_MOST = 2**31 - 1


def describe(value: object) -> str:
    """A value in words for an error message: shapes and types, never contents."""
    if isinstance(value, Tensor):
        return f"a {value.dtype} tensor of shape {tuple(value.shape)}"
    if isinstance(value, (tuple, list)):
        parts = ", ".join(
            # Numbers in a list are data, as a tensor's are.
            "a number" if isinstance(part, (int, float)) else describe(part)
            for part in value[:4]
        )
        return f"a {type(value).__name__} of {len(value)} ({parts})"
    if isinstance(value, int) and value.bit_length() > 64:
        return f"a whole number of {value.bit_length()} bits"
    if isinstance(value, str) and len(value) > _SHOWN:
        return f"{value[:_SHOWN]!r}… ({len(value)} letters)"
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    return f"an object of type {type(value).__name__}"


def pair_of(argument: str, value: object) -> tuple[Any, Any]:
    """``value`` as a pair, one element for each side."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise InvalidArgumentError(argument, "a pair (first, second)", describe(value))
    return value[0], value[1]


def optional_pair_of(argument: str, value: object) -> tuple[Any, Any]:
    """As :func:`pair_of`; ``None`` stands for ``(None, None)``."""
    return (None, None) if value is None else pair_of(argument, value)


def flag(argument: str, value: object) -> bool:
    """``value`` if it is True or False."""
    if not isinstance(value, bool):
        raise InvalidArgumentError(argument, "True or False", describe(value))
    return value


def positive_int(argument: str, value: object, least: int = 1) -> int:
    """``value`` if it is a whole number of at least ``least``, and countable."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidArgumentError(
            argument, f"a whole number of at least {least}", describe(value)
        )
    if value > _MOST:
        raise InvalidArgumentError(
            argument, f"a whole number of at most {_MOST}", describe(value)
        )
    return value


def check_chunk(internal_batch_size: object) -> None:
    """Refuse what can't be the most points that run at once."""
    if internal_batch_size is not None:
        positive_int("internal_batch_size", internal_batch_size)


def positive_float(argument: str, value: object) -> float:
    """``value`` if it is a finite number above zero."""
    number = finite_float(argument, value)
    if number <= 0.0:
        raise InvalidArgumentError(argument, "a number above 0", describe(value))
    return number


def finite_float(argument: str, value: object) -> float:
    """``value`` (a number, or a tensor of one) if it is finite."""
    number = value
    if isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex():
        number = value.detach().item()
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise InvalidArgumentError(argument, "a number", describe(value))
    if not math.isfinite(number):
        raise InvalidArgumentError(argument, "a finite number", describe(value))
    return float(number)


def one_of(argument: str, value: object, choices: tuple[Optional[str], ...]) -> Any:
    """``value`` if it is among the ``choices``."""
    if not (value is None or isinstance(value, str)) or value not in choices:
        known = ", ".join(repr(choice) for choice in choices)
        raise InvalidArgumentError(argument, f"one of {known}", describe(value))
    return value


def check_tensor(argument: str, value: object) -> Tensor:
    """``value`` if it is a tensor with at least one example in dimension 0."""
    if not isinstance(value, Tensor):
        raise InvalidArgumentError(argument, "a tensor", describe(value))
    if value.is_meta or value.layout != strided:
        raise InvalidArgumentError(
            argument,
            "a dense tensor with numbers",
            f"a {'meta' if value.is_meta else str(value.layout)} one",
        )
    if value.ndim == 0 or value.shape[0] == 0 or value.numel() == 0:
        raise InvalidArgumentError(
            argument, "a tensor (b, ...) of at least one example", describe(value)
        )
    return value


def warn_caller(message: str) -> None:
    """Warn at the line that called the library, however deep inside this is."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and _is_inside(frame.f_globals.get("__name__")):
        level, frame = level + 1, frame.f_back
    warn(message, UserWarning, stacklevel=level)


def _is_inside(module: object) -> bool:
    # Captum's own decorators stand between a method and its caller.
    return str(module).split(".")[0] in ("captum", "captum_pairs")
