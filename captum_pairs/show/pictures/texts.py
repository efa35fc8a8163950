"""Texts whose words have values, and the matrix of two."""

from typing import Any, Optional

from captum_pairs.attr import visualization
from captum_pairs.inputs import ExplainedInput
from captum_pairs.show.pictures.maps import strongest
from captum_pairs.show.pictures.sheet import CAPTION_SIZE, CAPTION_WIDTH, LEGEND, WIDTH
from captum_pairs.show.results import PairLike
from captum_pairs.show.wording import for_or_against, signed
from torch import Tensor

__all__ = ["colored_text", "matrix", "as_written"]

# So many rows of a matrix are looked at; the strongest, if there are more.
_MOST_ROWS = 60


def colored_text(
    side: ExplainedInput,
    values: Tensor,
    label: str,
    title: str = "the text",
    outlier_perc: Optional[float] = None,
) -> visualization.Part:
    """A text whose features have values."""
    order, words, text = as_written(side)
    height = (
        visualization.caption_height(words, text, CAPTION_WIDTH, CAPTION_SIZE) + 1.05
    )
    colored = values.double()[order]
    named = f"{title}: {signed(float(colored.sum()))}"

    def draw_on(figure: Any) -> None:
        visualization.visualize_text_attr(
            colored,
            words,
            text,
            plt_fig_axis=(figure, figure.subplots()),
            title=named,
            use_pyplot=False,
            fontsize=CAPTION_SIZE,
            colorbar_label=label,
            outlier_perc=outlier_perc,
        )

    return visualization.Part(height, draw_on)


def as_written(side: ExplainedInput) -> tuple[list[int], list[str], Optional[str]]:
    """A text's features as they stand in it: indices, words, and the text, if the words
    are literally there."""
    count = range(side.count)
    spans = [side.features[index].span or (0, 0) for index in count]
    order = sorted(count, key=lambda index: spans[index])
    words = [side.features[index].name for index in order]
    text = side.source.text
    literal = all(
        side.features[index].name == text[slice(*spans[index])] for index in order
    )
    return order, words, text if literal else None


def matrix(
    explanation: PairLike, outlier_perc: Optional[float] = None
) -> visualization.Part:
    """Two texts, or whatever has no picture."""
    sides = explanation.first, explanation.second
    table = explanation.interactions[: sides[0].count, : sides[1].count].double()
    kept = [list(range(side.count)) for side in sides]
    for at in (0, 1):
        if len(kept[at]) > _MOST_ROWS:
            sizes = table.abs().sum(1 - at)
            kept[at] = strongest(sizes, kept[at], _MOST_ROWS)
    words = [[side.names[i] for i in each] for side, each in zip(sides, kept)]
    values = table[kept[0]][:, kept[1]]
    width, height = visualization.matrix_size(words)
    scaled = min(1.0, (WIDTH - LEGEND) / width)
    label = for_or_against(explanation.similarity)
    if values.shape != table.shape:
        label = f"the strongest of {table.shape[0]} × {table.shape[1]}: {label}"

    def draw_on(figure: Any) -> None:
        visualization.visualize_text_pair_attr(
            values,
            words,
            plt_fig_axis=(figure, figure.subplots()),
            use_pyplot=False,
            colorbar_label=label,
            outlier_perc=outlier_perc,
        )

    return visualization.Part(max(height * scaled, 2.4), draw_on)
