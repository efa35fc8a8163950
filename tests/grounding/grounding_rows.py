"""Rows of pictures of noise, and maps without values."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from captum_pairs.grounding.data.row import Row
from captum_pairs.grounding.maps import Maps
from captum_pairs.grounding.results import Results
from captum_pairs.grounding.study import Study

MakeResults = Callable[[Study, Sequence[dict[str, Any]]], Results]
# The text of the tiny CLIP has no room for more.
CAPTION = "red circle, square"


def plan_of(study: Study, size: int = 1) -> dict[str, Any]:
    return {
        "study": study.name,
        "parameters": study.parameters(),
        "data": {"name": f"scenes:{size}", "options": {}},
        "sample": {"size": size, "seed": 0},
        "model": "none",
    }


def picture(seed: int, size: int = 20) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (size, size, 3), dtype=np.uint8)


def row_of(seed: int = 0, **fields: Any) -> Row:
    """A row with two objects, whose caption the tiny CLIP can read."""
    given: dict[str, Any] = {
        "id": f"row-{seed}",
        "image": picture(seed),
        "caption": CAPTION,
        "spans": (
            (0, 10, "circle", ((0.0, 0.0, 8.0, 8.0),), (4, 10)),
            (12, 18, "square", ((8.0, 4.0, 20.0, 20.0),)),
        ),
        "objects": (
            ("circle", ((0.0, 0.0, 8.0, 8.0),)),
            ("square", ((8.0, 4.0, 20.0, 20.0),)),
        ),
    }
    return Row(**{**given, **fields})


def grid(rows: int, columns: int, cell: float = 4.0, **fields: Any) -> Maps:
    """Maps over a whole image, without values."""
    boxes = np.array(
        [
            (c * cell, r * cell, (c + 1) * cell, (r + 1) * cell)
            for r in range(rows)
            for c in range(columns)
        ]
    )
    size = columns * cell, rows * cell
    given: dict[str, Any] = {
        "values": np.zeros((0, rows * columns)),
        "boxes": boxes,
        "view": (0.0, 0.0, *size),
        "size": size,
        "grid": (rows, columns),
        "score": 0.0,
        "constant": 0.0,
        "image_effect": 0.0,
        "effects": np.zeros(0),
        "totals": np.zeros(0),
        "residual": 0.0,
    }
    return Maps(**{**given, **fields})
