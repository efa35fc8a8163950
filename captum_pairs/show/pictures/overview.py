"""The inputs beside what a score is the sum of."""

from collections.abc import Sequence
from typing import Any

from captum_pairs.attr import visualization
from captum_pairs.inputs import ExplainedInput
from captum_pairs.show.pictures.canvas import show_input

__all__ = ["overview"]


def overview(
    pictures: Sequence[tuple[ExplainedInput, str]],
    waterfall: tuple[dict[str, float], str],
    title: str,
) -> visualization.Part:
    """Pictures on the left, the waterfall on the right."""
    parts, total = waterfall
    height = 0.3 * (len(parts) + 1) + 0.7
    if len(pictures) == 1:
        height = max(height, 2.9)

    def draw_on(figure: Any) -> None:
        shares = [1.0] * len(pictures) + [1.75]
        grid = figure.subplots(1, len(shares), squeeze=False, width_ratios=shares)
        every = list(grid.flat)
        for axes, (side, name) in zip(every, pictures):
            show_input((figure, axes), side, name)
        visualization.visualize_decomposition(
            parts, total, (figure, every[-1]), title, use_pyplot=False
        )

    return visualization.Part(height, draw_on)
