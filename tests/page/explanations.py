"""Explanations made by hand, whose tables are known."""

from typing import Any, Optional

import numpy as np
import torch
from captum_pairs import Contrast, PairExplanation
from captum_pairs.inputs import ExplainedInput
from captum_pairs.models import Feature, Head, Source
from captum_pairs.models.words import word_spans

CAPTION = "a red circle beside a blue square"


def text(words: str = CAPTION, special: tuple[str, ...] = ("[EOS]",)) -> ExplainedInput:
    """Words, then special tokens."""
    found = [Feature(words[a:b], span=(a, b)) for a, b in word_spans(words)]
    found += [Feature(name, special=True) for name in special]
    return _explained(Source("text", text=words), found, None)


def image(
    grid: tuple[int, int] = (4, 6), size: tuple[int, int] = (60, 40), seed: int = 0
) -> ExplainedInput:
    """Patches that cover a picture of noise, then a class token."""
    (rows, columns), (width, height) = grid, size
    found = [
        Feature(f"patch ({row}, {column})", box=(x, y, x + dx, y + dy))
        for dx, dy in [(width / columns, height / rows)]
        for row in range(rows)
        for column in range(columns)
        for x, y in [(column * dx, row * dy)]
    ]
    found.append(Feature("class token", special=True))
    pixels = np.random.default_rng(seed).integers(
        90, 140, (height, width, 3), dtype=np.uint8
    )
    edges = (0.0, 0.0, float(width), float(height))
    source = Source("image", size=size, visible=edges, picture=pixels)
    return _explained(source, found, grid)


def sound(bands: int = 3, pieces: int = 5) -> ExplainedInput:
    """Two seconds of ten mel bands each row, the lowest row first."""
    found = [
        Feature(
            f"piece {band} {at}", box=(2 * at, 10 * band, 2 * at + 2, 10 * band + 10)
        )
        for band in range(bands)
        for at in range(pieces)
    ]
    spectrogram = np.random.default_rng(0).normal(size=(10 * bands, 200))
    size = (2.0 * pieces, 10.0 * bands)
    source = Source(
        "audio", size=size, visible=(0.0, 0.0, *size), picture=spectrogram.astype("f4")
    )
    return _explained(source, found, (bands, pieces))


def vectors(count: int = 3) -> ExplainedInput:
    """Features of an input that can't be shown."""
    found = [Feature(f"feature {index}") for index in range(count)]
    return _explained(Source("tensor"), found, None)


def pair(
    first: ExplainedInput,
    second: ExplainedInput,
    seed: int = 0,
    table: Optional[torch.Tensor] = None,
) -> PairExplanation:
    """An explanation with random numbers that add up to its score."""
    made = torch.Generator().manual_seed(seed)
    counts = len(first.features), len(second.features)
    effects = [0.02 * torch.randn(count, generator=made) for count in counts]
    if table is None:
        table = 0.01 * torch.randn(*counts, generator=made)
    total = sum(float(values.double().sum()) for values in (*effects, table))
    return PairExplanation(
        model="by hand",
        method="integrated_gradients",
        first=first,
        second=second,
        similarity="cosine",
        score=0.1 + total,
        heads=(Head("logits_per_image", 100.0),),
        constant=0.1,
        first_effects=effects[0],
        second_effects=effects[1],
        interactions=table,
        convergence_delta=0.0,
        tolerance=0.01,
    )


def contrast(query: Any, preferred: Any, other: Any) -> Contrast:
    """Of a first input with two second ones."""
    return Contrast(pair(query, preferred), pair(query, other, seed=1), "first")


def _explained(source: Source, found: list[Feature], grid: Any) -> ExplainedInput:
    return ExplainedInput(source, tuple(found), grid, "input", "nothing", 8, 1e-4)
