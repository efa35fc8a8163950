#!/usr/bin/env python3
"""Attributions on texts: the coloured caption, and the matrix of two texts."""

import html
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional, Union

import numpy as np
from captum.attr import visualization as captum_visualization
from captum_pairs.attr._utils.validation import InvalidArgumentError
from captum_pairs.attr._utils.visualization.figures import (
    add_legend,
    add_title,
    FigureAxes,
    FigureManyAxes,
    finish,
    in_text,
    new_figure,
    panels,
    signed,
    width_in_points,
)
from captum_pairs.attr._utils.visualization.fonts import (
    is_right_to_left,
    Line,
    lines_of,
    Piece,
    pieces_of,
    shortened,
    width_of,
)
from captum_pairs.attr._utils.visualization.scale import (
    ArrayLike,
    both,
    Floats,
    numbers,
    Scale,
    scale_of,
)
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, to_hex
from matplotlib.patches import FancyBboxPatch
from matplotlib.transforms import Affine2D, ScaledTranslation, Transform

__all__ = [
    "caption_height",
    "HTML",
    "matrix_size",
    "visualize_text",
    "visualize_text_attr",
    "visualize_text_contrast",
    "visualize_text_pair_attr",
]

# Lines of a caption are so many times as high as its letters.
LEADING = 1.75
# A word's mark is so much larger than the word, on both sides, in sizes of its letters.
_AROUND = 0.1
# Around a figure's caption, in points.
_MARGIN = 24.0
# What a legend counts beyond its scale.
_WORDS, _PAIRS = ("word", "words"), ("pair", "pairs")
# Matrices up to this size have their numbers written in.
_WRITTEN = 12


class HTML:
    """What notebooks show, where IPython's own class of that name is not installed."""

    def __init__(self, data: str) -> None:
        self.data = data

    def _repr_html_(self) -> str:
        return self.data


def visualize_text(
    attr: ArrayLike,
    words: Sequence[str],
    text: Optional[str] = None,
    sign: str = "all",
    outlier_perc: Optional[float] = None,
    cmap: Union[str, Colormap, None] = None,
    legend: bool = True,
    title: Optional[str] = None,
    *,
    limit: Optional[float] = None,
) -> Any:
    r"""
    A text coloured by what its words matched, for a notebook.

    As Captum's function of that name it gives an ``HTML`` object; other than there the
    text is escaped, a word's number shows when it is pointed at, and nothing is
    displayed twice.

    Args:

        attr (Tensor or array): (words,).
        words (list of str): Subwords joined to words.
        text (str, optional): In which they stand, with its spaces and punctuation.
        sign, outlier_perc, cmap, limit: See :func:`visualize_image_attr`.
        legend (bool): What the colours mean.
        title (str, optional): Before the text.

    Returns:
        ``IPython.display.HTML``; without IPython an object with ``data`` and
        ``_repr_html_``.

    Raises:
        InvalidArgumentError: naming the argument that does not fit.

    Examples::

        >>> found = visualization.visualize_text([0.4, -0.1], ["<b>", "dot"])
        >>> "&lt;b&gt;" in found.data
        True
    """
    values = _word_values(attr, words)
    scale = scale_of(values, sign, outlier_perc, cmap, limit)
    marks = []
    for piece in pieces_of(words, text):
        said = html.escape(piece.text)
        if piece.word is None:
            marks.append(said)
            continue
        value = float(values[piece.word])
        marks.append(f'<mark title="{signed(value, 4)}" {_style(scale, value)}>')
        marks[-1] += f"{said}</mark>"
    lead = "" if title is None else f"<b>{html.escape(title)}</b> "
    body = f'<div dir="auto" style="line-height:1.9">{lead}{"".join(marks)}</div>'
    found = body + (_html_legend(scale) if legend else "")
    if captum_visualization.HAS_IPYTHON:
        return captum_visualization.HTML(found)
    return HTML(found)


def visualize_text_attr(
    attr: ArrayLike,
    words: Sequence[str],
    text: Optional[str] = None,
    sign: str = "all",
    plt_fig_axis: Optional[FigureAxes] = None,
    outlier_perc: Optional[float] = None,
    cmap: Union[str, Colormap, None] = None,
    show_colorbar: bool = True,
    title: Optional[str] = None,
    fig_size: Optional[tuple[float, float]] = None,
    use_pyplot: bool = True,
    *,
    fontsize: float = 13,
    limit: Optional[float] = None,
    colorbar_label: Optional[str] = None,
) -> tuple[Any, Axes]:
    r"""
    A caption coloured by what a region (or anything else) matched, wrapped to the width
    of the figure; from right to left, if its script is.

    Args:

        attr (Tensor or array): (words,).
        words (list of str): Subwords joined to words.
        text (str, optional): In which they stand, with its spaces and punctuation.
            Default: words with spaces between.
        fontsize (float): Of the caption, in points.
        sign, plt_fig_axis, outlier_perc, cmap, show_colorbar, title, fig_size,
            use_pyplot, limit, colorbar_label: See :func:`visualize_image_attr`.

    Returns:
        The figure and its axes.

    Raises:
        InvalidArgumentError: naming the argument that does not fit.

    Examples::

        >>> figure, axes = visualization.visualize_text_attr(
        ...     [0.0, 0.4, -0.1], ["a", "red", "dot"], use_pyplot=False
        ... )
    """
    values = _word_values(attr, words)
    scale = scale_of(values, sign, outlier_perc, cmap, limit)
    caption = Caption(words, text, fontsize)
    if plt_fig_axis is None:
        size = fig_size or _caption_size([caption], show_colorbar, bool(title))
        figure = new_figure(size, use_pyplot)
        axes = figure.subplots()
    else:
        figure, axes = plt_fig_axis
    caption.draw(axes, values, scale)
    add_title(axes, title, loc="right" if caption.is_right_to_left else "left")
    if show_colorbar:
        _legend_below(figure, axes, scale, colorbar_label)
    finish(use_pyplot, plt_fig_axis)
    return figure, axes


def visualize_text_contrast(
    attr: Sequence[ArrayLike],
    words: Sequence[Sequence[str]],
    texts: Sequence[Optional[str]] = (None, None),
    sign: str = "all",
    plt_fig_axis: Optional[FigureManyAxes] = None,
    outlier_perc: Optional[float] = None,
    cmap: Union[str, Colormap, None] = None,
    show_colorbar: bool = True,
    titles: Optional[Sequence[str]] = None,
    fig_size: Optional[tuple[float, float]] = None,
    use_pyplot: bool = True,
    *,
    fontsize: float = 13,
    limit: Optional[float] = None,
    colorbar_label: Optional[str] = None,
) -> tuple[Any, list[Axes]]:
    r"""
    Two captions that were compared with the same image, in one scale.

    Args:

        attr (pair): What each caption's words say for its own match, (words,).
        words (pair of lists of str): Subwords joined to words.
        texts (pair of str, optional): In which they stand.
        titles (pair of str, optional): Default: the sums.
        sign, plt_fig_axis, outlier_perc, cmap, show_colorbar, fig_size, use_pyplot,
            fontsize, limit, colorbar_label: See :func:`visualize_text_attr`;
            ``plt_fig_axis`` is a figure and two axes.

    Returns:
        The figure and both axes.

    Raises:
        InvalidArgumentError: naming the argument that does not fit.

    Examples::

        >>> figure, axes = visualization.visualize_text_contrast(
        ...     ([0.4, 0.1], [-0.2, 0.1]),
        ...     (["red", "dot"], ["blue", "dot"]),
        ...     use_pyplot=False,
        ... )
    """
    each = both("words", words)
    values = [_word_values(a, w) for a, w in zip(both("attr", attr), each)]
    scale = scale_of(np.concatenate(values), sign, outlier_perc, cmap, limit)
    captions = [Caption(w, t, fontsize) for w, t in zip(each, texts)]
    if plt_fig_axis is None:
        size = fig_size or _caption_size(captions, show_colorbar, True)
        figure: Any = new_figure(size, use_pyplot)
        heights = [caption.height(_inner(size)) + 20 for caption in captions]
        grid = figure.subplots(2, 1, squeeze=False, height_ratios=heights)
        every = list(grid.flat)
    else:
        figure, every = panels(plt_fig_axis, 2, (1, 1), use_pyplot)
    for at, (axes, caption) in enumerate(zip(every, captions)):
        caption.draw(axes, values[at], scale)
        named = f"{('preferred', 'other')[at]}: {signed(float(values[at].sum()))}"
        side = "right" if caption.is_right_to_left else "left"
        add_title(axes, titles[at] if titles else named, loc=side)
    if show_colorbar:
        _legend_below(figure, every, scale, colorbar_label)
    finish(use_pyplot, plt_fig_axis)
    return figure, every


def visualize_text_pair_attr(
    attr: ArrayLike,
    words: Sequence[Sequence[str]],
    sign: str = "all",
    plt_fig_axis: Optional[FigureAxes] = None,
    outlier_perc: Optional[float] = None,
    cmap: Union[str, Colormap, None] = None,
    show_colorbar: bool = True,
    title: Optional[str] = None,
    fig_size: Optional[tuple[float, float]] = None,
    use_pyplot: bool = True,
    *,
    limit: Optional[float] = None,
    colorbar_label: Optional[str] = None,
) -> tuple[Any, Axes]:
    r"""
    The words of two texts as a matrix.

    Args:

        attr (Tensor or array): (words of the first, words of the second).
        words (pair of lists of str): The first text's stand at the rows, the second's
            above the columns. Up to 12 of each the numbers are written in.
        sign, plt_fig_axis, outlier_perc, cmap, show_colorbar, title, fig_size,
            use_pyplot, limit, colorbar_label: See :func:`visualize_image_attr`.

    Returns:
        The figure and its axes.

    Raises:
        InvalidArgumentError: naming the argument that does not fit.

    Examples::

        >>> attr = torch.randn(2, 3)
        >>> figure, axes = visualization.visualize_text_pair_attr(
        ...     attr, (["red", "dot"], ["a", "scarlet", "spot"]), use_pyplot=False
        ... )
    """
    values = numbers(attr)
    first, second = both("words", words)
    if values.shape != (len(first), len(second)) or not values.size:
        shape = f"({len(first)}, {len(second)}), as many as words"
        raise InvalidArgumentError("attr", shape, f"shape {values.shape}")
    scale = scale_of(values, sign, outlier_perc, cmap, limit)
    plan = matrix_plan(first, second)
    more = 1.5 if show_colorbar else 0.2
    size = fig_size or (plan.width + more, max(plan.height, 2.2))
    given = None if plt_fig_axis is None else (plt_fig_axis[0], [plt_fig_axis[1]])
    figure, (axes,) = panels(given, 1, size, use_pyplot)
    axes.imshow(scale.colors(values), aspect="equal", interpolation="nearest")
    _name_cells(axes, plan)
    if max(values.shape) <= _WRITTEN:
        _write_cells(axes, values, scale)
    add_title(axes, title, pad=10)
    if show_colorbar:
        look: dict[str, Any] = {"what": _PAIRS, "shrink": 0.85, "aspect": 25}
        add_legend(figure, axes, scale, colorbar_label, plan.inner, **look)
    finish(use_pyplot, plt_fig_axis)
    return figure, axes


# ---- captions --------------------------------------------------------------


class Caption:
    """Words in lines, to be coloured."""

    def __init__(
        self, words: Sequence[str], text: Optional[str] = None, fontsize: float = 13
    ) -> None:
        self.pieces = pieces_of(words, text)
        self.fontsize = fontsize
        joined = "".join(piece.text for piece in self.pieces)
        self.is_right_to_left = is_right_to_left(joined)

    def lines(self, width: float) -> list[Line]:
        """Of at most so many points."""
        # the marks of two words without a space between do not overlap
        apart = 2 * _AROUND * self.fontsize
        return lines_of(self.pieces, width, self.fontsize, between=apart)

    def height(self, width: float) -> float:
        """In points, if it is at most so wide."""
        return len(self.lines(width)) * LEADING * self.fontsize

    def draw(self, axes: Axes, values: Floats, scale: Scale) -> None:
        """Lines from the top of axes downwards, as wide as these are."""
        axes.set_axis_off()
        size, colors = self.fontsize, scale.colors(values)
        for row, line in enumerate(self.lines(width_in_points(axes))):
            baseline = -(row * LEADING + 1.2) * size
            for piece, x, width in line.pieces:
                if self.is_right_to_left:
                    x = -x - width
                shade = None if piece.word is None else colors[piece.word]
                if shade is not None:
                    place = x - _AROUND * size, baseline - 0.38 * size
                    self._mark(axes, place, width + 2 * _AROUND * size, shade)
                self._write(axes, piece, x, baseline, shade)

    def _points(self, axes: Axes) -> Transform:
        """Points from the corner of axes where a text begins."""
        figure = axes.figure
        assert figure is not None
        edge, place = float(self.is_right_to_left), axes.transAxes
        corner = ScaledTranslation(edge, 1.0, place)  # type: ignore[arg-type]  # any
        return Affine2D().scale(1 / 72) + figure.dpi_scale_trans + corner

    def _mark(
        self, axes: Axes, place: tuple[float, float], width: float, shade: Floats
    ) -> None:
        axes.add_patch(
            FancyBboxPatch(
                place,
                width,
                1.5 * self.fontsize,
                boxstyle=f"round,pad=0,rounding_size={0.2 * self.fontsize}",
                facecolor=tuple(shade),
                edgecolor="0.85",
                linewidth=0.5,
                transform=self._points(axes),
                clip_on=False,
            )
        )

    def _write(
        self,
        axes: Axes,
        piece: Piece,
        x: float,
        baseline: float,
        shade: Optional[Floats],
    ) -> None:
        drawn, how = in_text(piece.text)
        axes.text(
            x,
            baseline,
            drawn,
            fontsize=self.fontsize,
            color="black" if shade is None else _ink(shade),
            transform=self._points(axes),
            **how,
        )


def caption_height(
    words: Sequence[str],
    text: Optional[str] = None,
    width: float = 7.5,
    fontsize: float = 13,
) -> float:
    """
    How high :func:`visualize_text_attr` makes a caption, title and legend not counted.

    Args:

        words, text, fontsize: As there.
        width (float): Of its axes, in inches.

    Returns:
        Inches.
    """
    return Caption(words, text, fontsize).height(width * 72) / 72


def _caption_size(
    captions: Sequence[Caption], legend: bool, titles: bool
) -> tuple[float, float]:
    """Of a figure with captions, in inches."""
    width = 7.5
    most = _inner((width, 0))
    points = sum(c.height(most) + (24.0 if titles else 6.0) for c in captions)
    return width, (points + (52.0 if legend else 12.0)) / 72


def _inner(size: tuple[float, float]) -> float:
    """The width that a figure leaves for a caption, in points."""
    return size[0] * 0.775 * 72


def _legend_below(figure: Any, axes: Any, scale: Scale, label: Optional[str]) -> None:
    add_legend(
        figure,
        axes,
        scale,
        label,
        what=_WORDS,
        location="bottom",
        shrink=0.5,
        fraction=0.08,
        aspect=40,
        pad=0.02,
    )


def _word_values(attr: ArrayLike, words: Sequence[str]) -> Floats:
    values = numbers(attr)
    if isinstance(words, str) or values.shape != (len(words),) or not len(words):
        raise InvalidArgumentError(
            "words",
            f"a list of as many as attributions {values.shape}",
            f"{len(words)}",
        )
    return values


def _ink(shade: Floats) -> str:
    """Black or white, whichever is read better on a colour (WCAG's luminance)."""
    rgb = np.asarray(shade[:3])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return "white" if float(linear @ [0.2126, 0.7152, 0.0722]) < 0.18 else "black"


def _style(scale: Scale, value: float) -> str:
    shade = scale.colors(np.array(value))
    return (
        f'style="background-color:{to_hex(tuple(shade))};color:{_ink(shade)};'
        'padding:0.1em 0.2em;border-radius:0.2em"'
    )


def _html_legend(scale: Scale) -> str:
    """From the weakest to the strongest colour, with the numbers at the ends."""
    low, high = scale.mappable.get_clim()
    assert low is not None and high is not None
    beyond = scale.beyond_in_words(_WORDS)
    said = f"{scale.meaning}, {beyond}" if beyond else scale.meaning
    steps = np.linspace(low, high, 9)
    stops = ",".join(to_hex(tuple(scale.colors(np.array(each)))) for each in steps)
    return (
        '<div style="font-size:80%;margin-top:0.4em">'
        f"{html.escape(said)}: {_number(low)} "
        '<span style="display:inline-block;width:8em;height:0.8em;'
        "vertical-align:middle;border:1px solid #888;"
        f'background:linear-gradient(to right,{stops})"></span> {_number(high)}</div>'
    )


def _number(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


# ---- matrices --------------------------------------------------------------


class MatrixPlan(NamedTuple):
    """How a matrix is drawn: labels, their size, inches, and of its rows points."""

    rows: list[str]
    columns: list[str]
    fontsize: float
    is_turned: bool
    width: float
    height: float
    inner: float


def matrix_plan(first: Sequence[str], second: Sequence[str]) -> MatrixPlan:
    """Cells as large as labels need and a page has room for; long labels are cut."""
    number = max(len(first), len(second))
    cell = float(np.clip(11.0 / number, 0.16, 0.62))
    size = float(np.clip(cell * 72 * 0.62, 5.0, 10.0))
    rows = [shortened(word, 130.0, size) for word in first]
    columns = [shortened(word, 130.0, size) for word in second]
    widest = [
        max(width_of(word, size) for word in words) / 72 for words in (rows, columns)
    ]
    is_turned = widest[1] > cell * 0.95
    above = widest[1] + 0.1 if is_turned else size / 72 + 0.1
    width = widest[0] + cell * len(second) + 0.3
    inner = cell * len(first)
    height = above + inner + 0.3
    return MatrixPlan(rows, columns, size, is_turned, width, height, 72 * inner)


def matrix_size(words: Sequence[Sequence[str]]) -> tuple[float, float]:
    """
    How wide and high :func:`visualize_text_pair_attr` makes a matrix and its labels.

    Args:

        words (pair of lists of str): As there.

    Returns:
        Inches; the legend is not counted.
    """
    plan = matrix_plan(*words)
    return plan.width, plan.height


def _name_cells(axes: Axes, plan: MatrixPlan) -> None:
    rows, columns = (
        [in_text(word) for word in words] for words in (plan.rows, plan.columns)
    )
    axes.xaxis.tick_top()
    axes.set_xticks(range(len(columns)), [drawn for drawn, _ in columns])
    axes.set_yticks(range(len(rows)), [drawn for drawn, _ in rows])
    turned = {"rotation": 90, "ha": "center", "va": "bottom"} if plan.is_turned else {}
    for label, (_, how) in zip(axes.get_xticklabels(), columns):
        label.set(fontsize=plan.fontsize, **how, **turned)
    for label, (_, how) in zip(axes.get_yticklabels(), rows):
        label.set(fontsize=plan.fontsize, **how)
    axes.tick_params(length=0, pad=3)
    axes.set_xticks(np.arange(1, len(columns)) - 0.5, minor=True)
    axes.set_yticks(np.arange(1, len(rows)) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.0)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)


def _write_cells(axes: Axes, values: Floats, scale: Scale) -> None:
    digits = _digits(scale.limit)
    for (row, column), value in np.ndenumerate(values):
        axes.text(
            column,
            row,
            signed(float(value), digits) if round(float(value), digits) else "0",
            ha="center",
            va="center",
            fontsize=7,
            color=_ink(scale.colors(np.array(value))),
        )


def _digits(limit: float) -> int:
    """Decimal places that show two or three digits of the largest number."""
    return int(np.clip(np.ceil(1.5 - np.log10(limit)), 0, 4))
