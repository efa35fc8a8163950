"""The one scene that the site's pages tell about."""

from typing import Any

import numpy as np
from captum_pairs import load
from captum_pairs.scenes import render, sample_scene

RIGHT, WRONG = "a blue star and a white heart", "a blue star and a red heart"


def scene(seed: int = 4) -> Any:
    """A drawing that the embedded model was not trained on, as start.md draws it."""
    return render(sample_scene(np.random.default_rng(seed), 2, distinct=True))


def model() -> Any:
    """The one that comes with the package."""
    return load("scenes")


def plain() -> Any:
    """The one that was trained by contrast alone, as most are: what it takes for
    nothing is not neutral, and its paths are steeper."""
    return load("scenes:plain")
