"""The picture of a classification."""

from typing import Any, TYPE_CHECKING

from captum_pairs.attr import visualization
from captum_pairs.show.pictures.canvas import as_seen, show_input
from captum_pairs.show.pictures.maps import map_grid, Scales
from captum_pairs.show.pictures.sheet import WIDTH
from captum_pairs.show.reading import key, silence_of_classes, verdict_of_classes
from captum_pairs.show.results import ZeroShotLike
from captum_pairs.show.wording import for_or_against, typeset

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_zero_shot"]


def draw_zero_shot(
    zero_shot: ZeroShotLike, number: int = 3, scales: Scales = Scales()
) -> "Figure":
    """
    The picture of a classification: the probabilities, where the image speaks for each
    of a number of most probable classes, and what separates the first two.
    """
    top = zero_shot.top(number)
    maps = [zero_shot.map(name) for name, _ in top]
    titles = [f"{name}: {share:.1%}" for name, share in top]
    if len(top) > 1:
        maps.append(zero_shot.difference())
        titles.append(f"{top[0][0]} rather than {top[1][0]}")
    table = zero_shot.by_class()
    upper = _probabilities(zero_shot)
    label = for_or_against(table.similarity, "the class")
    flat = [each.flatten() for each in maps]
    lower = map_grid(zero_shot.input, flat, titles, label, scales)
    heading = f"“{top[0][0]}”, with a probability of {top[0][1]:.1%}"
    return visualization.visualize_sheet(
        heading,
        [upper, lower],
        WIDTH,
        typeset(verdict_of_classes(zero_shot)),
        list(map(typeset, silence_of_classes(zero_shot))),
        key(table.similarity, "the similarity with the class", ""),
    )


def _probabilities(zero_shot: ZeroShotLike) -> visualization.Part:
    top = zero_shot.top(6)

    def draw_on(figure: Any) -> None:
        left, right = figure.subplots(1, 2, width_ratios=[1, 1.75])
        show_input((figure, left), zero_shot.input, as_seen(zero_shot.input))
        visualization.visualize_probabilities(
            top, (figure, right), "the most probable classes", use_pyplot=False
        )

    return visualization.Part(2.9, draw_on)
