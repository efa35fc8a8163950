"""The picture of a late interaction: attributions beside the map of output tokens."""

from collections.abc import Sequence
from typing import Any, Optional, TYPE_CHECKING, Union

import torch
from captum_pairs.attr import visualization
from captum_pairs.inputs import ExplainedInput
from captum_pairs.models.encoder import TEXT
from captum_pairs.show.pictures.canvas import canvas_of, is_seen
from captum_pairs.show.pictures.maps import strongest
from captum_pairs.show.pictures.sheet import LABEL, WIDTH
from captum_pairs.show.reading import silence, verdict
from captum_pairs.show.results import PairLike, TokenMapLike
from captum_pairs.show.wording import capitalized, subject, typeset
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_token_map"]

# So many words of a text, and maps beside one another.
_MOST_WORDS, _MOST_MAPS = 14, 4
_NAMES = "attributions\nto the input", "similarities of\noutput tokens"
_KEY = (
    "Orange: for a match; purple: against it; each of the two has its own scale. An "
    "output token has read its whole input, so that a similarity of output tokens does "
    "not say which words or patches it came from. 0 where the score skips a word."
)


def draw_token_map(explanation: PairLike, tokens: TokenMapLike) -> "Figure":
    """
    Attributions and the map of output tokens.

    Of two texts two matrices side by side; of an image and a text a row for each, with
    a map for each of the words whose attributions are strongest.
    """
    both: list[tuple[Union[PairLike, TokenMapLike], Tensor]] = [
        (explanation, explanation.interactions),
        (tokens, tokens.values.nan_to_num()),
    ]
    seen = [is_seen(side) for side in (explanation.first, explanation.second)]
    if seen.count(True) == 1:
        at = seen.index(False)
        asked = (explanation.first, explanation.second)[at]
        words = [
            (asked.names[i], asked.features[i].span)
            for i in _words(asked, both[0][1], at)
        ]
        parts = [
            visualization.labelled(_maps(found, table, at, words), name, LABEL / WIDTH)
            for name, (found, table) in zip(_NAMES, both)
        ]
    else:
        parts = [_matrices(both)]
    return visualization.visualize_sheet(
        capitalized("\n".join(subject(explanation))),
        parts,
        WIDTH,
        typeset(verdict(explanation)),
        list(map(typeset, silence(explanation))),
        _KEY,
    )


def _words(side: ExplainedInput, table: Tensor, at: int) -> list[int]:
    """The content words with the strongest attributions."""
    sizes = (table if at == 0 else table.T).double().abs().sum(1)
    return strongest(sizes, side.content, _MOST_MAPS)


def _maps(
    found: Union[PairLike, TokenMapLike],
    table: Tensor,
    at: int,
    words: Sequence[tuple[str, Optional[tuple[int, int]]]],
) -> visualization.Part:
    """A map over the image of each word or phrase, by its name and characters."""
    sides = found.first, found.second
    asked, shown = sides[at], sides[1 - at]
    canvas = canvas_of(shown)
    rows = table if at == 0 else table.T
    maps = torch.stack(
        [shown.shaped(rows[_inside(asked, span)].double().sum(0)) for _, span in words]
    )
    titles = [name for name, _ in words]
    height = min((WIDTH - LABEL) / len(words), 2.4) * canvas.ratio + 0.3

    def draw_on(figure: Any) -> None:
        every = list(figure.subplots(1, len(words), squeeze=False).flat)
        visualization.visualize_image_attr_per_word(
            maps,
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

    return visualization.Part(height, draw_on)


def _inside(side: ExplainedInput, span: Optional[tuple[int, int]]) -> list[int]:
    """The features that lie on these characters."""
    start, stop = span or (0, 0)
    spans = [feature.span for feature in side.features]
    return [at for at, s in enumerate(spans) if s and start <= s[0] and s[1] <= stop]


def _matrices(both: Sequence[tuple[Any, Tensor]]) -> visualization.Part:
    """Both tables, of the strongest rows and columns if there are many."""
    tables, named = [], []
    for found, table in both:
        sides = found.first, found.second
        inner = table[: sides[0].count, : sides[1].count].double()
        kept = [list(range(side.count)) for side in sides]
        for at in (0, 1):
            if len(kept[at]) > _MOST_WORDS:
                sizes = inner.abs().sum(1 - at)
                content = sides[at].content if sides[at].kind == TEXT else kept[at]
                kept[at] = strongest(sizes, content, _MOST_WORDS)
        tables.append(inner[kept[0]][:, kept[1]])
        named.append([[s.names[i] for i in each] for s, each in zip(sides, kept)])
    sheets = [visualization.matrix_size(words) for words in named]
    height = max(size[1] for size in sheets)
    scaled = min(1.0, WIDTH / sum(size[0] for size in sheets))

    def draw_on(figure: Any) -> None:
        axes = figure.subplots(1, 2)
        for each, table, words, title in zip(axes, tables, named, _NAMES):
            visualization.visualize_text_pair_attr(
                table,
                words,
                plt_fig_axis=(figure, each),
                use_pyplot=False,
                title=title,
                show_colorbar=False,
            )

    return visualization.Part(max(height * scaled, 2.6) + 0.3, draw_on)
