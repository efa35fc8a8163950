"""The pictures of a search: hits and where they speak for the query, and what two
wordings find."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TYPE_CHECKING

import numpy as np
from captum_pairs.attr import visualization
from captum_pairs.models.encoder import TEXT
from captum_pairs.show.pictures.canvas import canvas_of, is_seen
from captum_pairs.show.pictures.maps import PATCHES
from captum_pairs.show.pictures.sheet import CAPTION_SIZE, CAPTION_WIDTH, LEGEND, WIDTH
from captum_pairs.show.pictures.texts import as_written
from captum_pairs.show.reading import key
from captum_pairs.show.results import HitsLike, ParaphrasesLike
from captum_pairs.show.wording import for_or_against, signed
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_hits", "draw_paraphrases"]

_COLUMNS = 4
# Words that moved items, and items that moved, of which there is room for the names.
_MOVERS, _LETTERS = 8, 34
_LINE = 0.3


def draw_hits(found: HitsLike, number: int = 8) -> "Figure":
    """The first hits: of images where each speaks for the query, of texts which words
    do."""
    count = min(number, len(found.hits))
    sides = [found.item(at) for at in range(count)]
    values = [_values(found, at) for at in range(count)]
    titles = [
        f"{hit.rank}. {signed(hit.score)} {_name(hit.key, sides[0].kind)}".strip()
        for hit in found.hits[:count]
    ]
    similarity = found.explanations[0].similarity
    label = for_or_against(similarity, "the query")
    if all(map(is_seen, sides)):
        parts = [_maps(sides, values, titles, label)]
    else:
        parts = [_texts(sides, values, titles, label)]
    query = found.query
    heading = f"What {query.source if query.kind == TEXT else 'the query'} finds"
    return visualization.visualize_sheet(heading, parts, WIDTH, foot=key(similarity))


def _values(found: HitsLike, at: int) -> Tensor:
    """What each of an item's features says with the query, its special tokens left
    out."""
    table = found.explanations[at].interactions.double()
    table = table.T if found.query_side == "first" else table
    return table[: found.item(at).count, : found.query.count].sum(1)


def _name(name: str, kind: str) -> str:
    """Of a file without its folders."""
    return "" if kind == TEXT else Path(name).name


def _maps(
    sides: Sequence[Any], values: Sequence[Tensor], titles: Sequence[str], label: str
) -> visualization.Part:
    """Each image, and below it its map."""
    canvases = [canvas_of(side) for side in sides]
    columns = min(_COLUMNS, len(sides))
    rows = -(-len(sides) // columns)
    across = min((WIDTH - LEGEND) / columns, 3.2)
    height = 2 * rows * (across * max(canvas.ratio for canvas in canvases) + 0.4)
    scale = visualization.scale_of(np.concatenate([each.numpy() for each in values]))

    def draw_on(figure: Any) -> None:
        every = figure.subplots(2 * rows, columns, squeeze=False)
        for axes in every.flat:
            axes.set_axis_off()
        for at, (canvas, own) in enumerate(zip(canvases, values)):
            row, column = 2 * (at // columns), at % columns
            canvas.draw((figure, every[row, column]), titles[at])
            visualization.visualize_image_attr(
                sides[at].shaped(own),
                canvas.image,
                plt_fig_axis=(figure, every[row + 1, column]),
                title=signed(float(own.sum())),
                show_colorbar=False,
                use_pyplot=False,
                boxes=canvas.boxes,
                extent=canvas.extent,
                aspect=canvas.aspect,
                limit=scale.limit,
            )
        look: dict[str, Any] = {"what": PATCHES, "shrink": 0.9, "pad": 0.015}
        visualization.add_legend(figure, list(every.flat), scale, label, **look)

    return visualization.Part(height, draw_on)


def _texts(
    sides: Sequence[Any], values: Sequence[Tensor], titles: Sequence[str], label: str
) -> visualization.Part:
    """Texts whose words have values, in one scale."""
    written = [as_written(side) for side in sides]
    heights = [
        visualization.caption_height(words, text, CAPTION_WIDTH, CAPTION_SIZE) + 0.35
        for _, words, text in written
    ]
    scale = visualization.scale_of(np.concatenate([each.numpy() for each in values]))

    def draw_on(figure: Any) -> None:
        grid = figure.subplots(len(sides), 1, squeeze=False, height_ratios=heights)
        for axes, (order, words, text), own, title in zip(
            grid.flat, written, values, titles
        ):
            visualization.visualize_text_attr(
                own[order],
                words,
                text,
                plt_fig_axis=(figure, axes),
                title=f"{title}: {signed(float(own.sum()))}",
                use_pyplot=False,
                fontsize=CAPTION_SIZE,
                show_colorbar=False,
                limit=scale.limit,
            )
        visualization.add_legend(figure, list(grid.flat), scale, label, pad=0.015)

    return visualization.Part(max(sum(heights), 1.8), draw_on)


def draw_paraphrases(found: ParaphrasesLike) -> "Figure":
    """The two lists, lines between the same items, and by which words they moved."""
    height = max(_LINE * (len(found.first) + 2), 2.0)
    movers = [mover for mover in found.movers() if mover.is_changed] or found.movers()
    movers = list(movers[:_MOVERS])
    parts = [
        visualization.Part(height, lambda figure: _lists(figure, found)),
        visualization.Part(
            _LINE * len(movers) + 1.0, lambda figure: _bars(figure, movers)
        ),
    ]
    heading = f"{found.query.source}\nand {found.other.source}"
    both = f"{found.overlap:.0%} of the first {len(found.first)} are the same"
    foot = (
        "A word's bar is by how much it moves items apart: the mean size of what it "
        "makes of an item's difference of scores, less what it makes of all alike."
    )
    return visualization.visualize_sheet(heading, parts, WIDTH, both, foot=foot)


def _lists(figure: Any, found: ParaphrasesLike) -> None:
    axes = figure.subplots()
    count = max(len(found.first), len(found.second))
    places = {hit.number: at for at, hit in enumerate(found.second)}
    for x, align, hits in ((0.0, "right", found.first), (1.0, "left", found.second)):
        for at, hit in enumerate(hits):
            shown = f"{_short(hit.key)}  {hit.rank}."
            if x:
                shown = f"{hit.rank}.  {_short(hit.key)}"
            said: dict[str, Any] = {"ha": align, "va": "center", "fontsize": 9}
            axes.text(x, at, shown, parse_math=False, **said)
    for at, hit in enumerate(found.first):
        if hit.number in places:
            to = places[hit.number]
            axes.plot([0.02, 0.98], [at, to], color="0.35" if at == to else "#e8790c")
    axes.set_xlim(-1.1, 2.1)
    axes.set_ylim(count - 0.5, -0.5)
    axes.set_axis_off()


def _short(name: str) -> str:
    """The end of a name, which tells files of a folder apart."""
    return name if len(name) <= _LETTERS else f"…{name[-_LETTERS + 1 :]}"


def _bars(figure: Any, movers: Sequence[Any]) -> None:
    axes = figure.subplots()
    places = list(range(len(movers)))
    axes.barh(places, [mover.weight for mover in movers], color="0.45", height=0.6)
    axes.set_yticks(places, [mover.name for mover in movers])
    for text in axes.get_yticklabels():
        text.set_parse_math(False)
    axes.set_ylim(len(movers) - 0.5, -0.5)  # one bar is no thicker than several
    axes.set_xlabel("moves items apart by")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
