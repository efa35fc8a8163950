"""Which reader a name asks for."""

from collections.abc import Callable, Mapping
from typing import Any

from captum_pairs.attr import InvalidArgumentError
from captum_pairs.grounding.data.row import Data
from captum_pairs.grounding.data.scenes import Scenes

__all__ = ["open_data", "READERS"]

# By the prefix of a name; each takes what stands after it, and options.
READERS: Mapping[str, Callable[..., Data]] = {
    "scenes": Scenes,
}


def open_data(name: str, **options: Any) -> Data:
    """
    A data set.

    Args:
        name: a reader's name, and after a colon what it reads: "scenes:500",
            "coco:annotations/".
        **options: the reader's.

    Raises:
        InvalidArgumentError: naming ``data``, the file and what was expected in it.
    """
    kind, _, rest = name.partition(":")
    if kind not in READERS:
        known = ", ".join(f"{each}:…" for each in READERS)
        raise InvalidArgumentError("data", f"one of {known}", repr(name))
    try:
        return READERS[kind](rest, **options)
    except TypeError as error:
        raise InvalidArgumentError(
            "data", f"options of {kind}", str(error).partition(") ")[2] or str(error)
        ) from error
