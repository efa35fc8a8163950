"""The picture of a contrast."""

from typing import Any, TYPE_CHECKING

import torch
from captum_pairs.attr import visualization
from captum_pairs.models.encoder import TEXT
from captum_pairs.show.pictures.canvas import canvas_of, is_seen
from captum_pairs.show.pictures.maps import map_grid
from captum_pairs.show.pictures.overview import overview
from captum_pairs.show.pictures.sheet import CAPTION_SIZE, CAPTION_WIDTH, LEGEND, WIDTH
from captum_pairs.show.pictures.texts import as_written, colored_text
from captum_pairs.show.results import ContrastLike
from captum_pairs.show.wording import for_or_against, question, signed, unit
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_contrast"]


def draw_contrast(contrast: ContrastLike) -> "Figure":
    """
    The picture of a contrast: the parts of the difference, what each candidate's
    features say for their own, and where (or by which words) the query decides.
    """
    query, candidates = contrast.query, contrast.candidates
    told = unit(contrast.preferred.similarity)
    scores = contrast.preferred.score, contrast.other.score, contrast.difference
    preferred, other, difference = map(signed, scores)
    decided = f"{told} {preferred} against {other}: a difference of {difference}"
    below, repeats = [], False
    kind = candidates[0].kind
    label = f"for the preferred (orange) or the other {kind} (purple), {told}"
    if query.kind == TEXT:
        name = "the query, word by word"
        below.append(colored_text(query, contrast.by_query(), label, name))
    if all(side.kind == TEXT for side in candidates):
        below.append(_two_texts(contrast))
    elif all(map(is_seen, candidates)):
        below.append(_two_images(contrast))
    if is_seen(query):
        maps, titles = _changed_maps(contrast)
        repeats = len(maps) == 1
        below.append(map_grid(query, maps, titles, label))
    pictures = [(query, "the query")] if is_seen(query) and not repeats else []
    upper = overview(pictures, (contrast.parts(), "difference"), decided)
    heading = "\n".join(question(contrast))
    return visualization.visualize_sheet(heading, [upper, *below], WIDTH)


def _two_texts(contrast: ContrastLike) -> visualization.Part:
    similarity = contrast.preferred.similarity
    written = [as_written(side) for side in contrast.candidates]
    values = [
        each.double().flatten()[order]
        for each, (order, _, _) in zip(contrast.by_candidate(), written)
    ]
    heights = [
        visualization.caption_height(words, text, CAPTION_WIDTH, CAPTION_SIZE) + 0.35
        for _, words, text in written
    ]

    def draw_on(figure: Any) -> None:
        grid = figure.subplots(2, 1, squeeze=False, height_ratios=heights)
        visualization.visualize_text_contrast(
            (values[0], values[1]),
            [words for _, words, _ in written],
            [text for _, _, text in written],
            plt_fig_axis=(figure, list(grid.flat)),
            use_pyplot=False,
            fontsize=CAPTION_SIZE,
            colorbar_label=for_or_against(similarity, "the text's own match"),
        )

    return visualization.Part(sum(heights) + 0.75, draw_on)


def _two_images(contrast: ContrastLike) -> visualization.Part:
    candidates = contrast.candidates
    canvases = [canvas_of(side) for side in candidates]
    across = (WIDTH - LEGEND) / 4
    height = across * max(canvas.ratio for canvas in canvases) + 0.4

    def draw_on(figure: Any) -> None:
        every = list(figure.subplots(1, 4, squeeze=False).flat)
        for at, name in enumerate(("the preferred", "the other")):
            title = f"{name} {candidates[at].kind}"
            canvases[at].draw((figure, every[2 * at]), title)
        maps = contrast.by_candidate()
        visualization.visualize_image_contrast(
            maps,
            [canvas.image for canvas in canvases],
            plt_fig_axis=(figure, every[1::2]),
            titles=[f"its match: {signed(float(each.sum()))}" for each in maps],
            show_colorbar=False,
            use_pyplot=False,
            boxes=[canvas.boxes for canvas in canvases],
            extents=[canvas.extent for canvas in canvases],
            aspect=canvases[0].aspect,
        )
        values = torch.cat([each.double().flatten() for each in maps]).numpy()
        label = for_or_against(contrast.preferred.similarity, "its match")
        visualization.add_legend(
            figure, every, visualization.scale_of(values), label, shrink=0.9, pad=0.015
        )

    return visualization.Part(height, draw_on)


def _changed_maps(contrast: ContrastLike) -> tuple[list[Tensor], list[str]]:
    """Where the query decides, all in all and by each word that differs; and titles."""
    maps, titles = [contrast.by_query().flatten()], ["all in all"]
    if contrast.candidates[0].kind == TEXT:
        changed = [change for change in contrast.changes() if change.is_changed]
        for change in sorted(changed, key=lambda c: -abs(c.total))[:3]:
            maps.append(change.values.flatten())
            titles.append(f"{change.preferred or '–'} / {change.other or '–'}")
    totals = [signed(float(each.sum())) for each in maps]
    return maps, [f"{title}: {total}" for title, total in zip(titles, totals)]
