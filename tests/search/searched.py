"""What is searched in these tests."""

from typing import Any

import numpy as np
from PIL import Image

TEXTS = ["a red circle", "square", "red or not red", "a blue square"]
FAST: Any = {"layer": (-1, -1), "tolerance": 0.3}


def photo(seed: int, width: int = 20) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (20, width, 3), dtype=np.uint8))
