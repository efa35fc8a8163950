"""Which reader a name asks for."""

from collections.abc import Callable
from inspect import signature
from typing import Any

from captum_pairs.attr import InvalidArgumentError
from captum_pairs.grounding.data.coco import Coco, Lvis
from captum_pairs.grounding.data.flickr30k import Flickr30k
from captum_pairs.grounding.data.negatives import Foil, Hnc, SugarCrepe, Winoground
from captum_pairs.grounding.data.own import Own
from captum_pairs.grounding.data.refcoco import RefCoco
from captum_pairs.grounding.data.row import Data
from captum_pairs.grounding.data.scenes import Scenes

__all__ = ["open_data", "READERS"]

# By the prefix of a name; each takes what stands after it, and options.
READERS: dict[str, Callable[..., Data]] = {
    "scenes": Scenes,
    "coco": Coco,
    "rows": Own,
    "sugarcrepe": SugarCrepe,
    "flickr30k": Flickr30k,
    "hnc": Hnc,
    "refcoco": RefCoco,
    "lvis": Lvis,
    "foil": Foil,
    "winoground": Winoground,
}


def open_data(name: str, /, **options: Any) -> Data:
    """
    A data set.

    Args:
        name: a reader's name, and after a colon what it reads: "scenes:500",
            "coco:annotations/".
        **options: the reader's (see the class of READERS), such as `images`.

    Raises:
        InvalidArgumentError: naming ``data``, the file and what was expected in it.
    """
    kind, colon, rest = name.partition(":")
    if kind not in READERS or not colon or not rest:
        known = ", ".join(f"{each}:…" for each in READERS)
        raise InvalidArgumentError("data", f"one of {known}", repr(name))
    reader = READERS[kind]
    known_options = list(signature(reader).parameters)[1:]
    for option in options:
        if option not in known_options:
            expected = f"one of {', '.join(known_options)} for {kind}"
            raise InvalidArgumentError(option, expected, "this option")
    return reader(rest, **options)
