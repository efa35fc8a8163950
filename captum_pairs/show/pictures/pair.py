"""The picture of an explanation of a pair."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TYPE_CHECKING, Union

import torch
from captum_pairs.attr import visualization
from captum_pairs.models.encoder import TEXT
from captum_pairs.show.pictures.canvas import (
    around,
    as_seen,
    canvas_of,
    is_seen,
    place_of,
)
from captum_pairs.show.pictures.maps import group_of, PATCHES, Scales, word_maps
from captum_pairs.show.pictures.overview import overview
from captum_pairs.show.pictures.sheet import LEGEND, WIDTH
from captum_pairs.show.pictures.texts import colored_text, matrix
from captum_pairs.show.reading import key, OF_PAIRS, silence, SUMS, verdict
from captum_pairs.show.results import PairLike
from captum_pairs.show.wording import (
    capitalized,
    compared_with,
    for_or_against,
    logits,
    measure,
    signed,
    subject,
    typeset,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw", "save_picture"]


def save_picture(explanation: PairLike, path: Union[str, Path]) -> Path:
    """Writes the picture as PNG, without a display."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    draw(explanation).savefig(file, dpi=150)
    return file


def draw(explanation: PairLike, scales: Scales = Scales()) -> "Figure":
    """
    The picture of an explanation: its inputs, the parts of the score as a waterfall,
    and what matched what.

    Of an image (or sound) and a text that is a map for each content word, or the
    coloured text if only a region was asked for; of two texts a matrix; of two images
    the strongest regions of the first one and what they matched.

    Args:
        scales: of the maps, by default one that all share.
    """
    sides = explanation.first, explanation.second
    seen = [is_seen(side) for side in sides]
    lower, repeats = _matched(explanation, seen, scales)
    pictures = []
    if not repeats:
        pictures = [(side, as_seen(side)) for side in sides if is_seen(side)]
    if all(seen):
        pictures = list(zip(sides, ("the first", "the second")))
    name = measure(explanation.similarity)
    waterfall = explanation.parts(), name
    said = [f"{name} {explanation.score:.3f}"]
    said += [f"{head} {value:.2f}" for head, value in logits(explanation)]
    title = typeset(f"{', '.join(said)}, and its parts")
    if compared := compared_with(explanation):
        title = f"{title}\n{compared}"
    upper = overview(pictures, waterfall, title)
    return visualization.visualize_sheet(
        capitalized("\n".join(subject(explanation))),
        [upper, lower],
        WIDTH,
        typeset(verdict(explanation)),
        list(map(typeset, silence(explanation))),
        key(explanation.similarity, numbers=SUMS if any(seen) else OF_PAIRS),
    )


def _matched(
    explanation: PairLike, seen: Sequence[bool], scales: Scales
) -> tuple[visualization.Part, bool]:
    """What matched what, and whether the input that is seen is shown there too."""
    sides = explanation.first, explanation.second
    if all(seen):
        return _region_pairs(explanation, scales), False
    if not any(seen):
        return matrix(explanation, scales.outlier_perc), False
    at = seen.index(True)
    table = explanation.interactions if at == 1 else explanation.interactions.T
    asked, shown = sides[1 - at], sides[at]
    label = for_or_against(explanation.similarity)
    if shown.count == 1 and asked.kind == TEXT:
        values = table[: asked.count, 0]
        perc = scales.outlier_perc
        return colored_text(asked, values, label, outlier_perc=perc), False
    return word_maps(asked, shown, table, label, scales), asked.count == 1


def _region_pairs(explanation: PairLike, scales: Scales) -> visualization.Part:
    """The strongest regions of one image, and what they matched in the other."""
    sides = explanation.first, explanation.second
    at = 1 if sides[1].count == 1 < sides[0].count else 0  # whose regions
    asked, shown = sides[at], sides[1 - at]
    table = explanation.interactions if at == 0 else explanation.interactions.T
    groups = [group_of(match, at) for match in explanation.top_pairs(4)]
    groups = list(dict.fromkeys(groups)) or [tuple(range(asked.count))]
    sums = [table[list(group), : shown.count].double().sum(0) for group in groups]
    perc = scales.outlier_perc
    shared = visualization.scale_of(torch.stack(sums).numpy(), outlier_perc=perc)
    canvases = canvas_of(asked), canvas_of(shown)
    columns = 2 if len(groups) == 1 else 4
    rows = -(-2 * len(groups) // columns)
    across = min((WIDTH - LEGEND) / columns, 3.2)
    height = rows * (across * max(canvas.ratio for canvas in canvases) + 0.35)

    def draw_on(figure: Any) -> None:
        every = list(figure.subplots(rows, columns, squeeze=False).flat)
        for row, (group, values) in enumerate(zip(groups, sums)):
            visualization.visualize_image_pair_attr(
                shown.shaped(values),
                (canvases[0].image, canvases[1].image),
                around(asked, group),
                plt_fig_axis=(figure, every[2 * row : 2 * row + 2]),
                show_colorbar=scales.own,
                titles=(
                    place_of(asked, group),
                    signed(float(values.sum())),
                ),
                use_pyplot=False,
                boxes=canvases[1].boxes,
                extents=(canvases[0].extent, canvases[1].extent),
                aspect=canvases[1].aspect,
                outlier_perc=perc,
                limit=None if scales.own else shared.limit,
                colorbar_label="",
            )
        for axes in every[2 * len(groups) :]:
            axes.set_axis_off()
        if not scales.own:
            label = for_or_against(explanation.similarity)
            look: dict[str, Any] = {"shrink": 0.9, "aspect": 25, "pad": 0.015}
            visualization.add_legend(figure, every, shared, label, what=PATCHES, **look)

    return visualization.Part(max(height, 2.2), draw_on)
