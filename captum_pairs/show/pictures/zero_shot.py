"""The picture of a classification."""

from typing import Any

from captum_pairs.attr._utils.visualization.figures import add_title, in_text
from captum_pairs.attr._utils.visualization.fonts import wrapped
from captum_pairs.explain.zero_shot import ZeroShot
from captum_pairs.show.pictures.canvas import as_seen, show_input
from captum_pairs.show.pictures.maps import map_grid
from captum_pairs.show.pictures.sheet import Part, sheet
from matplotlib.figure import Figure

__all__ = ["draw_zero_shot"]


def draw_zero_shot(zero_shot: ZeroShot, number: int = 3) -> Figure:
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
    upper = _probabilities(zero_shot)
    label = "for (orange) or against (purple) the class, similarity"
    lower = map_grid(zero_shot.input, [each.flatten() for each in maps], titles, label)
    return sheet(
        f"“{top[0][0]}”, with a probability of {top[0][1]:.1%}", [upper, lower]
    )


def _probabilities(zero_shot: ZeroShot) -> Part:
    top = zero_shot.top(6)

    def draw_on(figure: Any) -> None:
        left, right = figure.subplots(1, 2, width_ratios=[1, 1.75])
        show_input(left, zero_shot.input, as_seen(zero_shot.input))
        right.barh(range(len(top)), [share for _, share in top], color="0.35")
        for row, (_, share) in enumerate(top):
            right.annotate(
                f"{share:.1%}",
                (share, row),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
        names = [in_text(wrapped(name, 150, 9)) for name, _ in top]
        right.set_yticks(range(len(top)), [drawn for drawn, _ in names])
        for label, (_, how) in zip(right.get_yticklabels(), names):
            label.set(fontsize=9, **how)
        right.invert_yaxis()
        right.set_xlim(0, max(share for _, share in top) * 1.15 or 1)
        right.tick_params(axis="x", labelsize=8)
        right.tick_params(axis="y", length=0)
        right.spines[["top", "right", "left"]].set_visible(False)
        add_title(right, "the most probable classes")

    return Part(2.9, draw_on)
