"""Values that nobody means: of wrong types, shapes, ranges and behaviour."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from PIL import Image

__all__ = ["anything", "arrays", "odd"]

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=40)
    | st.builds(object)
    | st.builds(Path, st.text(st.characters(exclude_characters="\0"), max_size=9)),
    lambda inner: st.lists(inner, max_size=3)
    | st.tuples(inner, inner)
    | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
shapes = st.lists(st.integers(0, 9), max_size=5).map(tuple)
_DTYPES = "u1 u2 u4 i2 i4 i8 f2 f4 f8 ? c8 O U3 M8[s]".split()


@st.composite
def arrays(draw: Any) -> Any:
    shape, kind = draw(shapes), draw(st.sampled_from(_DTYPES))
    seed, scale = draw(st.integers(0, 9)), draw(
        st.sampled_from([0, 1, 255, 1e6, np.nan])
    )
    with np.errstate(all="ignore"):
        values = (np.random.default_rng(seed).random(shape) * scale).astype(
            kind if kind not in ("U3", "M8[s]") else "f4"
        )
        array = values if kind not in ("U3", "M8[s]") else np.zeros(shape, kind)
    if draw(st.booleans()):
        try:
            return torch.from_numpy(array)
        except TypeError:
            pass
    return array


class _Silent:
    def __repr__(self) -> str:
        raise RuntimeError("not to be shown")


class _NoArray:
    def __array__(self, *arguments: Any, **settings: Any) -> Any:
        raise RuntimeError("not to be an array")


class _Unequal:
    __hash__ = None  # type: ignore[assignment]  # as an array has none

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not to be compared")


# What one call may wear out is made anew for each.
odd = st.sampled_from(
    [
        lambda: _Silent(),
        lambda: _NoArray(),
        lambda: _Unequal(),
        lambda: 2**70,
        lambda: -(2**70),
        lambda: "x" * 5000,
        lambda: "a\0b",
        lambda: "a\udc80b",
        lambda: "/no/such/file.png",
        lambda: Path("/no/such"),
        lambda: int,
        lambda: {1: 2},
        lambda: set(),
        lambda: range(3),
        lambda: slice(1),
        lambda: ...,
        lambda: (each for each in "ab"),
        lambda: iter([]),
        lambda: np.float32(1),
        lambda: np.array(1),
        lambda: np.array([None]),
        lambda: torch.tensor(1.0),
        lambda: torch.zeros(2, 3, 2).double(),
        lambda: torch.full((2, 3, 2), torch.nan).double(),
        lambda: torch.zeros(2, 3, dtype=torch.complex64),
        lambda: torch.zeros(2, 3).to_sparse(),
        lambda: torch.zeros(3, 2, device="meta"),
        lambda: torch.zeros(2, 3, requires_grad=True),
        lambda: torch.Generator(),
        lambda: np.random.default_rng(0),
        lambda: Image.new("RGB", (4, 4)),
        lambda: Image.new("P", (0, 0)),
    ]
).map(lambda make: make())
