"""What the functions of scenes are given, checked without anything but NumPy."""

from collections.abc import Set
from typing import Any

import numpy as np

__all__ = ["check", "check_kinds"]

_WORDS = {
    bool: "True or False",
    int: "a whole number",
    str: "a text",
    np.random.Generator: "a numpy.random.Generator",
}


def check(**arguments: tuple[Any, type]) -> None:
    """
    Refuse what is of another type.

    Args:
        arguments: by name, what was given and of which class it has to be.

    Raises:
        ValueError: naming the argument.
    """
    for name, (value, kind) in arguments.items():
        known = (int, np.integer) if kind is int else kind
        if not isinstance(value, known) or kind is int and isinstance(value, bool):
            wanted = _WORDS.get(kind, f"of class {kind.__name__}")
            raise ValueError(f"{name} must be {wanted}, got {type(value).__name__}")


def check_kinds(name: str, kinds: Any) -> None:
    """
    Refuse what are no kinds of object: (shape, colour), of which None stands for any.

    Raises:
        ValueError: naming the argument.
    """
    is_several = isinstance(kinds, (tuple, list, Set))
    if not is_several or not all(_is_kind(kind) for kind in kinds):
        raise ValueError(f"{name} must be pairs (shape, colour) of texts or None")


def _is_kind(kind: Any) -> bool:
    return (
        isinstance(kind, (tuple, list))
        and len(kind) == 2
        and all(part is None or isinstance(part, str) for part in kind)
    )
