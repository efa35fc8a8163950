"""The picture of a contrast."""

from collections.abc import Sequence
from typing import Any, TYPE_CHECKING

import torch
from captum_pairs.attr import visualization
from captum_pairs.models.encoder import TEXT
from captum_pairs.show.pictures.canvas import canvas_of, is_seen
from captum_pairs.show.pictures.maps import map_grid, PATCHES
from captum_pairs.show.pictures.overview import overview
from captum_pairs.show.pictures.sheet import CAPTION_SIZE, CAPTION_WIDTH, LEGEND, WIDTH
from captum_pairs.show.pictures.texts import as_written, colored_text
from captum_pairs.show.reading import key_of_contrast, silence, verdict_of_contrast
from captum_pairs.show.results import ContrastLike
from captum_pairs.show.wording import question, signed, typeset, unit
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
        below.append(_two_texts(contrast, label))
    elif all(map(is_seen, candidates)):
        below.append(_two_images(contrast, label))
    if is_seen(query):
        maps, titles = _changed_maps(contrast)
        repeats = len(maps) == 1
        below.append(map_grid(query, maps, titles, label))
    pictures = [(query, "the query")] if is_seen(query) and not repeats else []
    upper = overview(pictures, (contrast.parts(), "difference"), decided)
    notes = dict.fromkeys([*silence(contrast.preferred), *silence(contrast.other)])
    return visualization.visualize_sheet(
        "\n".join(question(contrast)),
        [upper, *below],
        WIDTH,
        typeset(verdict_of_contrast(contrast)),
        list(map(typeset, notes)),
        key_of_contrast(contrast),
    )


def _by_candidate(contrast: ContrastLike) -> list[Tensor]:
    """What each feature of both candidates makes of the difference: of the other one
    the negative of what it says for its own."""
    preferred, other = (each.double() for each in contrast.by_candidate())
    return [preferred, -other]


def _named(contrast: ContrastLike, values: Sequence[Tensor]) -> list[str]:
    kind = contrast.candidates[0].kind
    return [
        f"the {name} {kind}: {signed(float(each.sum()))}"
        for name, each in zip(("preferred", "other"), values)
    ]


def _two_texts(contrast: ContrastLike, label: str) -> visualization.Part:
    written = [as_written(side) for side in contrast.candidates]
    values = [
        each.flatten()[order]
        for each, (order, _, _) in zip(_by_candidate(contrast), written)
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
            titles=_named(contrast, values),
            colorbar_label=label,
        )

    return visualization.Part(sum(heights) + 0.75, draw_on)


def _two_images(contrast: ContrastLike, label: str) -> visualization.Part:
    candidates = contrast.candidates
    canvases = [canvas_of(side) for side in candidates]
    across = (WIDTH - LEGEND) / 4
    height = across * max(canvas.ratio for canvas in canvases) + 0.4

    maps = _by_candidate(contrast)
    values = torch.cat([each.flatten() for each in maps]).numpy()
    limit = _limit(visualization.scale_of(values).limit, maps)

    def draw_on(figure: Any) -> None:
        every = list(figure.subplots(1, 4, squeeze=False).flat)
        for at, title in enumerate(("preferred", "other")):
            canvases[at].draw((figure, every[2 * at]), f"{title} {candidates[at].kind}")
        visualization.visualize_image_contrast(
            maps,
            [canvas.image for canvas in canvases],
            plt_fig_axis=(figure, every[1::2]),
            titles=[signed(float(each.sum())) for each in maps],
            show_colorbar=False,
            use_pyplot=False,
            boxes=[canvas.boxes for canvas in canvases],
            extents=[canvas.extent for canvas in canvases],
            aspect=canvases[0].aspect,
            limit=limit,
        )
        scale = visualization.scale_of(values, limit=limit)
        look: dict[str, Any] = {"what": PATCHES, "shrink": 0.9, "pad": 0.015}
        visualization.add_legend(figure, every, scale, label, **look)

    return visualization.Part(height, draw_on)


def _limit(limit: float, maps: Sequence[Tensor]) -> float:
    """Of a scale that both share, such that neither is pale beside the other: twice
    what is strongest in the weaker one, and a quarter of the whole at least."""
    weaker = min(float(each.abs().max()) for each in maps)
    return min(limit, max(2 * weaker, limit / 4))


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
