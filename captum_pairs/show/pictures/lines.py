"""The picture of the strongest pairs, as lines."""

from collections.abc import Sequence
from typing import Any, TYPE_CHECKING

from captum_pairs.attr import visualization
from captum_pairs.inputs import box_around, ExplainedInput
from captum_pairs.show.pictures.canvas import canvas_of, is_seen
from captum_pairs.show.pictures.sheet import LEGEND, WIDTH
from captum_pairs.show.reading import key, OF_PAIRS, silence, verdict
from captum_pairs.show.results import PairLike
from captum_pairs.show.wording import capitalized, for_or_against, subject, typeset

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_pairs"]


def draw_pairs(explanation: PairLike, number: int = 6) -> "Figure":
    """
    The strongest pairs as lines between the words and regions of the first input, on
    the left, and those of the second.

    Args:
        number: of pairs.
    """
    sides = explanation.first, explanation.second
    if explanation.second.has_regions and not explanation.first.has_regions:
        order = (1, 0)  # an image stands on the left
    else:
        order = (0, 1)
    matches = explanation.top_pairs(number)
    groups = [(match.first_features, match.second_features) for match in matches]
    ends = [
        (_end(sides[order[0]], pair[order[0]]), _end(sides[order[1]], pair[order[1]]))
        for pair in groups
    ]
    shown = [sides[at] for at in order]
    canvases = [canvas_of(side) if is_seen(side) else None for side in shown]
    inputs: dict[str, Any] = {
        "ends": ends,
        "words": [
            side.names[: side.count] if canvas is None else None
            for side, canvas in zip(shown, canvases)
        ],
        "original_images": [None if c is None else c.image for c in canvases],
        "extents": [None if c is None else c.extent for c in canvases],
        "ratios": [None if c is None else c.ratio for c in canvases],
    }
    width, height = visualization.lines_size(**inputs)
    scaled = min(1.0, (WIDTH - LEGEND) / width)
    label = for_or_against(explanation.similarity)

    def draw_on(figure: Any) -> None:
        _, axes = visualization.visualize_pair_lines(
            [match.value for match in matches],
            plt_fig_axis=(figure, figure.subplots()),
            use_pyplot=False,
            colorbar_label=label,
            **inputs,
        )
        axes.set_anchor("C")  # beside its legend there is more room than it needs

    return visualization.visualize_sheet(
        capitalized("\n".join(subject(explanation))),
        [visualization.Part(max(height * scaled, 1.6), draw_on)],
        WIDTH,
        typeset(verdict(explanation)),
        list(map(typeset, silence(explanation))),
        key(explanation.similarity, numbers=OF_PAIRS),
    )


def _end(side: ExplainedInput, group: Sequence[int]) -> Any:
    """A region's box, or the index of a word."""
    return box_around(side, group) if is_seen(side) else group[0]
