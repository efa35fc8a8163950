"""An explanation as a picture: the image, a heat map for each content word, the parts.

Orange speaks for the match and purple against it, a pair of colours that is told apart
with any colour vision, and in grey.
"""

import textwrap
from pathlib import Path
from typing import Any, Union

import numpy as np
from captum_pairs.explanation import PairExplanation
from captum_pairs.models.photo import ImageLike, read_image
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

__all__ = ["draw", "save_picture"]

_COLORS = colormaps["PuOr_r"]
_FOR, _AGAINST = _COLORS(0.85), _COLORS(0.15)
# A row holds this many heat maps.
_COLUMNS = 4


def save_picture(
    explanation: PairExplanation, image: ImageLike, path: Union[str, Path]
) -> Path:
    """Writes the picture as PNG, without a display."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    draw(explanation, image).savefig(file, dpi=150)
    return file


def draw(explanation: PairExplanation, image: ImageLike) -> Figure:
    """
    The picture of an explanation.

    Args:
        explanation: the numbers.
        image: what was explained; the part that the model saw is shown.
    """
    chosen = explanation.content_words
    columns = min(_COLUMNS, max(len(chosen), 1))
    rows = -(-len(chosen) // columns)
    caption = textwrap.fill(f"“{explanation.text}”", 78)
    height = 3.4 + 2.35 * rows + 0.25 * caption.count("\n")
    figure = Figure(figsize=(9.6, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(_literal(caption), fontsize=13, fontweight="bold")
    halves = figure.subfigures(2, 1, squeeze=False, height_ratios=[2.9, 2.35 * rows])
    upper, lower = halves[:, 0]
    left, right = upper.subplots(1, 2, width_ratios=[1, 1.75])
    seen = _seen(explanation, image)
    _show(left, explanation, seen)
    left.set_title("what the model sees", fontsize=10)
    _draw_parts(right, explanation)
    _draw_maps(lower, explanation, seen, (rows, columns))
    return figure


def _seen(explanation: PairExplanation, image: ImageLike) -> NDArray[np.uint8]:
    """(h, w, 3): the part of the original that the model saw."""
    left, top, right, bottom = explanation.visible
    whole = read_image(image)
    box = int(left), int(top), int(np.ceil(right)), int(np.ceil(bottom))
    cropped = whole.crop(box)
    cropped.thumbnail((640, 640))
    return np.asarray(cropped)


def _show(axes: Axes, explanation: PairExplanation, image: Any) -> None:
    """An image in pixels of the original."""
    left, top, right, bottom = explanation.visible
    axes.imshow(
        image,
        extent=(left, right, bottom, top),
        interpolation="nearest",
        aspect="equal",
    )
    axes.tick_params(labelsize=7, length=2)
    axes.locator_params(nbins=4)


def _draw_parts(axes: Axes, explanation: PairExplanation) -> None:
    """The parts of the score as steps from nothing to the cosine."""
    parts = explanation.parts()
    start = 0.0
    for row, (name, value) in enumerate(parts.items()):
        axes.barh(row, value, left=start, color=_FOR if value > 0 else _AGAINST)
        shown = f"{value:+.0e}" if name.startswith("error") else f"{value:+.3f}"
        _label(axes, row, max(start, start + value), shown)
        start += value
    axes.barh(len(parts), explanation.cosine, color="0.35")
    _label(axes, len(parts), max(explanation.cosine, 0.0), f"{explanation.cosine:+.3f}")
    axes.axvline(0.0, color="0.6", linewidth=0.8, zorder=0)
    axes.set_yticks(range(len(parts) + 1), [*parts, "cosine similarity"], fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.16)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_title(
        f"cosine similarity {explanation.cosine:.3f}, logit {explanation.logit:.2f}, "
        "and its parts",
        fontsize=10,
    )


def _label(axes: Axes, row: int, x: float, text: str) -> None:
    axes.annotate(
        text.replace("-", "−", 1),
        (x, row),
        xytext=(3, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
    )


def _draw_maps(
    figure: Any,
    explanation: PairExplanation,
    seen: NDArray[np.uint8],
    shape: tuple[int, int],
) -> None:
    """A heat map for each content word, and the legend that they share."""
    maps = explanation.maps().float().numpy()
    chosen = explanation.content_words
    limit = max((float(np.abs(maps[index]).max()) for index in chosen), default=0.0)
    norm = Normalize(-(limit or 1.0), limit or 1.0)
    every = figure.subplots(*shape, squeeze=False)
    for axes in every.flat[len(chosen) :]:
        axes.set_axis_off()
    for axes, index in zip(every.flat, chosen):
        colors = _COLORS(norm(maps[index]))
        _show(axes, explanation, _overlay(explanation, seen, colors))
        total = f"{maps[index].sum():+.3f}".replace("-", "−")
        axes.set_title(_literal(f"{explanation.words[index]}  {total}"), fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
    bar = figure.colorbar(
        ScalarMappable(norm, _COLORS), ax=every, shrink=0.85, aspect=25, pad=0.015
    )
    bar.set_label("for (orange) or against (purple)\nthe match, cosine", fontsize=8)
    bar.ax.tick_params(labelsize=8)


def _overlay(
    explanation: PairExplanation,
    seen: NDArray[np.uint8],
    colors: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Patches (rows, columns, 4) in their colours over the image in grey: (h, w, 3)."""
    left, top, right, bottom = explanation.visible
    rows = _patch_of_pixel(explanation, 0, top, bottom, seen.shape[0])
    columns = _patch_of_pixel(explanation, 1, left, right, seen.shape[1])
    grey = seen.mean(axis=2, keepdims=True) / 255
    shaded: NDArray[np.float64] = colors[rows][:, columns, :3] * (0.62 + 0.38 * grey)
    return shaded


def _patch_of_pixel(
    explanation: PairExplanation, axis: int, start: float, stop: float, number: int
) -> NDArray[np.intp]:
    """The row (axis 0) or column (axis 1) of patches on which each of a number of
    pixels lies that are spread evenly from start to stop of the original."""
    rows, columns = explanation.grid
    ends: dict[int, float] = {}
    for position, patch in enumerate(explanation.image_features[: rows * columns]):
        if patch.box is not None:
            ends[divmod(position, columns)[axis]] = patch.box[3 - axis]
    order = sorted(ends)
    centers = start + (np.arange(number) + 0.5) * (stop - start) / number
    found = np.searchsorted([ends[index] for index in order[:-1]], centers, "right")
    return np.array(order)[found]


def _literal(text: str) -> str:
    """Text in which matplotlib finds no formula."""
    return text.replace("$", r"\$")
