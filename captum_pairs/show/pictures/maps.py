"""Maps over an image or sound: of words, of regions, of classes."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import torch
from captum_pairs.attr import visualization
from captum_pairs.inputs import ExplainedInput
from captum_pairs.show.pictures.canvas import as_seen, canvas_of, show_input
from captum_pairs.show.pictures.sheet import LEGEND, WIDTH
from captum_pairs.show.results import MatchLike
from captum_pairs.show.wording import signed
from torch import Tensor

__all__ = ["group_of", "map_grid", "PATCHES", "Scales", "strongest", "word_maps"]

# What a legend counts beyond its scale.
PATCHES = ("patch", "patches")

# So many maps are looked at; the strongest, if there are more.
_MOST_MAPS = 24


class Scales(NamedTuple):
    """
    How maps are coloured.

    Args:
        own: each map in a scale of its own.
        outlier_perc: see visualize_image_attr.
    """

    own: bool = False
    outlier_perc: Optional[float] = None


def word_maps(
    asked: ExplainedInput,
    shown: ExplainedInput,
    table: Tensor,
    label: str,
    scales: Scales = Scales(),
) -> visualization.Part:
    """A map for each content word of a table (words, patches)."""
    content = list(asked.content)
    totals = table[:, : shown.count].double()
    if len(content) > _MOST_MAPS:
        content = strongest(totals.abs().sum(1), content, _MOST_MAPS)
    titles = [f"{asked.names[i]}: {signed(float(totals[i].sum()))}" for i in content]
    if len(content) < len(asked.content):
        label = f"the {len(content)} strongest of {len(asked.content)}: {label}"
    return map_grid(shown, [totals[i] for i in content], titles, label, scales)


def strongest(sizes: Tensor, indices: Sequence[int], number: int) -> list[int]:
    """The indices with the largest sizes, in their order."""
    order = sorted(indices, key=lambda index: -float(sizes[index]))
    return sorted(order[:number])


def map_grid(
    shown: ExplainedInput,
    maps: Sequence[Tensor],
    titles: Sequence[str],
    label: str,
    scales: Scales = Scales(),
) -> visualization.Part:
    """Maps with a legend; beside a single one the input itself."""
    canvas = canvas_of(shown)
    lead = int(len(maps) == 1)
    panels = len(maps) + lead
    columns = 4 if canvas.aspect == "equal" else 2
    if panels > 12 and canvas.ratio > 1:
        columns = 6  # many tall ones would be a sheet of more than a page
    columns = min(columns, panels)
    rows = -(-panels // columns)
    across = min((WIDTH - LEGEND) / columns, 3.2)
    narrow = 0.7 * across * 72  # before the layout is made, axes are not wider
    above = (
        0.5
        if any(visualization.width_of(title, 10) > narrow for title in titles)
        else 0.32
    )
    if scales.own:
        above += 0.6
    height = max(rows * (across * canvas.ratio + above), 2.4)

    def draw_on(figure: Any) -> None:
        every = list(figure.subplots(rows, columns, squeeze=False).flat)
        if lead:
            show_input((figure, every[0]), shown, as_seen(shown))
        visualization.visualize_image_attr_per_word(
            torch.stack([shown.shaped(each) for each in maps]),
            titles,
            canvas.image,
            plt_fig_axis=(figure, every[lead:]),
            titles=titles,
            use_pyplot=False,
            boxes=canvas.boxes,
            extent=canvas.extent,
            aspect=canvas.aspect,
            colorbar_label=None if scales.own else label,
            outlier_perc=scales.outlier_perc,
            own_scales=scales.own,
        )

    return visualization.Part(height, draw_on)


def group_of(match: MatchLike, at: int) -> tuple[int, ...]:
    return (match.first_features, match.second_features)[at]
