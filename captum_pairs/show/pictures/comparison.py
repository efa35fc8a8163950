"""The picture of several methods on the same pair."""

from collections.abc import Sequence
from typing import Any, TYPE_CHECKING

import torch
from captum_pairs.attr import visualization
from captum_pairs.inputs import ExplainedInput
from captum_pairs.models.encoder import TEXT
from captum_pairs.show.pictures.canvas import around, canvas_of, is_seen, place_of
from captum_pairs.show.pictures.maps import group_of, strongest
from captum_pairs.show.pictures.sheet import LABEL, WIDTH
from captum_pairs.show.pictures.texts import matrix
from captum_pairs.show.reading import (
    FAITHFULNESS,
    key,
    OF_PAIRS,
    silence,
    verdict_of_comparison,
)
from captum_pairs.show.results import ComparedLike, ComparisonLike, PairLike
from captum_pairs.show.wording import capitalized, method_name, subject, typeset
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_comparison"]

# Of a sheet's width what a method's name takes.
_SHARE = LABEL / WIDTH


def draw_comparison(comparison: ComparisonLike, number: int = 4) -> "Figure":
    """
    Small multiples: a row for each method with its faithfulness and time, in a scale of
    its own; those that could not run are named.

    Of an image (or sound) and a text a column for each of the strongest words, of two
    images for each of the strongest regions of the first one, of two texts the matrix.
    """
    every = [each.explanation for each in comparison.compared]
    first = every[0]
    sides = first.first, first.second
    seen = [is_seen(side) for side in sides]
    if any(seen):
        at = 0 if all(seen) else seen.index(False)  # whose words or regions
        groups = _strongest_groups(every, at, number)
        asked, shown = sides[at], sides[1 - at]
        titles = [_group_name(asked, group) for group in groups]
        rows = [("the first image", _regions(asked, groups))] if all(seen) else []
        rows += [
            (_measured(each), _maps(shown, maps, titles))
            for each in comparison.compared
            for maps in [_group_maps(each.explanation, at, groups)]
        ]
    else:
        rows = [(_measured(c), matrix(c.explanation)) for c in comparison.compared]
    parts = [visualization.labelled(part, name, _SHARE) for name, part in rows]
    missing = []
    if comparison.failed:
        names = ", ".join(map(method_name, comparison.failed))
        missing.append(typeset(f"Could not run: {names}."))
    numbers = "" if any(seen) else OF_PAIRS
    return visualization.visualize_sheet(
        capitalized("\n".join(subject(first))),
        parts,
        WIDTH,
        typeset(verdict_of_comparison(comparison)),
        [*map(typeset, silence(first)), *missing],
        f"{key(first.similarity, numbers=numbers)} Each row has its own scale. "
        f"Faithfulness: {FAITHFULNESS}.",
    )


def _measured(compared: ComparedLike) -> str:
    """A method's name and measures, in lines."""
    whole = compared.faithfulness
    lines = [method_name(compared.method)]
    if whole is not None:
        lines.append(f"faithfulness {whole:.2f}")
    lines.append(f"of pairs alone {compared.faithfulness_of_pairs:.2f}")
    return typeset("\n".join([*lines, f"{compared.seconds:.2g} s"]))


def _strongest_groups(
    explanations: Sequence[PairLike], at: int, number: int
) -> list[tuple[int, ...]]:
    """The words whose attributions are largest, over all methods, each method's table
    divided by its norm; of an image the strongest regions by the first method."""
    asked = (explanations[0].first, explanations[0].second)[at]
    if asked.has_regions:
        matches = explanations[0].top_pairs(number)
        groups = [group_of(match, at) for match in matches]
        return list(dict.fromkeys(groups)) or [tuple(range(asked.count))]
    sizes = torch.zeros(asked.count, dtype=torch.float64)
    for explanation in explanations:
        table = explanation.interactions.double()
        table = (table if at == 0 else table.T)[: asked.count]
        sizes += table.norm(dim=1) / table.norm().clamp_min(1e-30)
    return [(i,) for i in strongest(sizes, asked.content, number)]


def _group_name(side: ExplainedInput, group: Sequence[int]) -> str:
    return side.names[group[0]] if side.kind == TEXT else place_of(side, group)


def _group_maps(
    explanation: PairLike, at: int, groups: Sequence[Sequence[int]]
) -> list[Tensor]:
    table = explanation.interactions if at == 0 else explanation.interactions.T
    shown = (explanation.first, explanation.second)[1 - at]
    return [table[list(group), : shown.count].double().sum(0) for group in groups]


def _regions(
    side: ExplainedInput, groups: Sequence[Sequence[int]]
) -> visualization.Part:
    """Where the regions are that the columns belong to."""
    canvas = canvas_of(side)

    def draw_on(figure: Any) -> None:
        every = figure.subplots(1, len(groups), squeeze=False).flat
        for axes, group in zip(every, groups):
            canvas.draw((figure, axes), region=around(side, group))

    return visualization.Part(_row_height(len(groups), canvas.ratio), draw_on)


def _maps(
    shown: ExplainedInput, maps: Sequence[Tensor], titles: Sequence[str]
) -> visualization.Part:
    canvas = canvas_of(shown)

    def draw_on(figure: Any) -> None:
        every = list(figure.subplots(1, len(maps), squeeze=False).flat)
        visualization.visualize_image_attr_per_word(
            torch.stack([shown.shaped(each) for each in maps]),
            titles,
            canvas.image,
            plt_fig_axis=(figure, every),
            titles=titles,
            use_pyplot=False,
            boxes=canvas.boxes,
            extent=canvas.extent,
            aspect=canvas.aspect,
            colorbar_label="",
        )

    return visualization.Part(_row_height(len(maps), canvas.ratio), draw_on)


def _row_height(number: int, ratio: float) -> float:
    return min((WIDTH - LABEL) / number, 2.4) * ratio + 0.3
