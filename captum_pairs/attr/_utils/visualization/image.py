#!/usr/bin/env python3
"""Attributions on images: for a phrase, for each word, from image to image."""

from collections.abc import Sequence
from typing import Any, Optional, Union

import numpy as np
from captum_pairs.attr._utils.validation import InvalidArgumentError
from captum_pairs.attr._utils.visualization.figures import (
    add_legend,
    add_title,
    FigureAxes,
    FigureManyAxes,
    finish,
    panels,
    signed,
    width_in_points,
)
from captum_pairs.attr._utils.visualization.fonts import width_of
from captum_pairs.attr._utils.visualization.frame import Aspect, Box, Frame, outline
from captum_pairs.attr._utils.visualization.scale import (
    ArrayLike,
    both,
    Floats,
    numbers,
    Scale,
    scale_of,
)
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.ticker import MaxNLocator

__all__ = [
    "visualize_image_attr",
    "visualize_image_attr_per_word",
    "visualize_image_contrast",
    "visualize_image_pair_attr",
    "visualize_original_image",
]

# The methods whose colours need a legend.
_COLORED = ("heat_map", "blended_heat_map")
_PATCHES = ("patch", "patches")
_TICK_SIZE = 7.0


def visualize_image_attr(
    attr: ArrayLike,
    original_image: Optional[ArrayLike] = None,
    method: str = "blended_heat_map",
    sign: str = "all",
    plt_fig_axis: Optional[FigureAxes] = None,
    outlier_perc: Optional[float] = None,
    cmap: Union[str, Colormap, None] = None,
    alpha_overlay: float = 0.7,
    show_colorbar: bool = True,
    title: Optional[str] = None,
    fig_size: tuple[float, float] = (5, 4.2),
    use_pyplot: bool = True,
    *,
    interpolation: str = "nearest",
    boxes: Optional[Sequence[Optional[Box]]] = None,
    extent: Optional[Box] = None,
    aspect: Aspect = "equal",
    limit: Optional[float] = None,
    colorbar_label: Optional[str] = None,
) -> tuple[Any, Axes]:
    r"""
    What a phrase (or anything else) matched in an image.

    The parameters are those of Captum's function of that name. Other than there,
    patches are not upsampled by the caller, the scale can be shared, is centred on
    zero, in the attributions' units and in colours that are told apart with any colour
    vision, and an attribution that is zero everywhere has a picture too.

    Args:

        attr (Tensor or array): Attributions of patches (rows, columns), of pixels
            (h, w), of channels (h, w, c), which are summed; or (features,) together
            with ``boxes``.
        original_image (Tensor or array, optional): (h, w), (h, w, 3) or (3, h, w), from
            0 to 1 or 0 to 255. Default: None, an empty canvas.
        method (str): ``"heat_map"``, ``"blended_heat_map"``, ``"original_image"``,
            ``"masked_image"`` or ``"alpha_scaling"``; the last two not for all signs.
        sign (str): ``"all"``, ``"positive"``, ``"negative"`` or ``"absolute_value"``.
        plt_fig_axis (tuple, optional): Figure and axes to draw on.
        outlier_perc (float, optional): The strongest attributions that make up that
            percentage of the sum of all absolute ones are shown like the weakest of
            them; 0 for none. Default: a few that would leave the others pale (see
            :func:`scale_of`). The legend says how many are beyond the scale.
        cmap (str or Colormap, optional): Default: purple, white, orange.
        alpha_overlay (float): Of the heat map over the image.
        show_colorbar (bool): The legend.
        title (str, optional): In at most two lines, as wide as the axes.
        fig_size (tuple): In inches, of a new figure.
        use_pyplot (bool): Make the figure by pyplot and show it.
        interpolation (str): ``"nearest"``, patches as they are, or ``"bilinear"``
            between their centres; the legend then says of how many patches.
        boxes (list, optional): For each attribution left, top, right, bottom in units
            of ``extent``, or None if it is nowhere. Default: patches of equal size that
            fill the image.
        extent (tuple, optional): Where the image's left, top, right and bottom edges
            are. Default: its pixels, (0, 0, w, h).
        aspect (str): ``"auto"`` fills the axes, for sound.
        limit (float, optional): The attribution with the strongest colour, to share a
            scale. Default: from ``attr`` and ``outlier_perc``.
        colorbar_label (str, optional): Beside the legend.

    Returns:
        The figure and its axes.

    Raises:
        InvalidArgumentError: naming the argument that does not fit.

    Examples::

        >>> attr, image = torch.randn(8, 8), torch.rand(64, 64, 3)
        >>> figure, axes = visualization.visualize_image_attr(
        ...     attr, image, use_pyplot=False
        ... )
    """
    values = _attributions(attr, boxes)
    scale = scale_of(values, sign, outlier_perc, cmap, limit)
    figure, (axes,) = panels(
        None if plt_fig_axis is None else (plt_fig_axis[0], [plt_fig_axis[1]]),
        1,
        fig_size,
        use_pyplot,
    )
    frame = Frame(original_image, extent, boxes, aspect)
    frame.draw(axes, values, scale, method, alpha_overlay, interpolation)
    add_title(axes, title)
    if show_colorbar and method in _COLORED:
        label = _legend_label(scale, colorbar_label, interpolation, values)
        add_legend(figure, axes, scale, label, what=_PATCHES, shrink=0.9)
    finish(use_pyplot, plt_fig_axis)
    return figure, axes


def visualize_image_attr_per_word(
    attr: ArrayLike,
    words: Sequence[str],
    original_image: Optional[ArrayLike] = None,
    method: str = "blended_heat_map",
    sign: str = "all",
    plt_fig_axis: Optional[FigureManyAxes] = None,
    outlier_perc: Optional[float] = None,
    cmap: Union[str, Colormap, None] = None,
    alpha_overlay: float = 0.7,
    show_colorbar: bool = True,
    titles: Optional[Sequence[str]] = None,
    fig_size: Optional[tuple[float, float]] = None,
    use_pyplot: bool = True,
    *,
    columns: int = 4,
    interpolation: str = "nearest",
    boxes: Optional[Sequence[Optional[Box]]] = None,
    extent: Optional[Box] = None,
    aspect: Aspect = "equal",
    limit: Optional[float] = None,
    colorbar_label: Optional[str] = None,
    own_scales: bool = False,
) -> tuple[Any, list[Axes]]:
    r"""
    One map for each word, all in one scale, or each in its own.

    Args:

        attr (Tensor or array): (words, rows, columns), or (words, features) together
            with ``boxes``.
        words (list of str): As many.
        titles (list of str, optional): Default: each word and the sum of its map.
        columns (int): Maps in a row.
        own_scales (bool): A scale for each map, with a legend below it, which has no
            label unless ``colorbar_label`` is given.
        original_image, method, sign, plt_fig_axis, outlier_perc, cmap, alpha_overlay,
            show_colorbar, fig_size, use_pyplot, interpolation, boxes, extent, aspect,
            limit, colorbar_label: See :func:`visualize_image_attr`; ``plt_fig_axis`` is
            a figure and a list of at least as many axes as words.

    Returns:
        The figure and the maps' axes.

    Raises:
        InvalidArgumentError: naming the argument that does not fit.

    Examples::

        >>> attr, image = torch.randn(2, 8, 8), torch.rand(64, 64, 3)
        >>> figure, axes = visualization.visualize_image_attr_per_word(
        ...     attr, ["red", "circle"], image, use_pyplot=False
        ... )
    """
    values = numbers(attr)
    maps = [_attributions(each, boxes) for each in values]
    if len(maps) != len(words) or not maps:
        raise InvalidArgumentError("words", f"{len(maps)} of them", f"{len(words)}")
    shared = scale_of(values, sign, outlier_perc, cmap, limit)
    across = min(columns, len(maps))
    rows = -(-len(maps) // across)
    frame = Frame(original_image, extent, boxes, aspect)
    high = 2.2 * frame.ratio(maps[0].shape) + (0.9 if own_scales else 0.3)
    size = fig_size or (2.2 * across + 1.2, max(high * rows, 1.6))
    figure, every = panels(plt_fig_axis, len(maps), size, use_pyplot, across)
    has_legend = show_colorbar and method in _COLORED
    for index, (axes, each) in enumerate(zip(every, maps)):
        scale = shared
        if own_scales:
            scale = scale_of(each, sign, outlier_perc, cmap, limit)
        frame.draw(axes, each, scale, method, alpha_overlay, interpolation)
        named = f"{words[index]}: {signed(float(each.sum()))}"
        add_title(axes, titles[index] if titles else named)
        if has_legend and own_scales:
            said = "" if colorbar_label is None else colorbar_label
            below: dict[str, Any] = {"location": "bottom", "aspect": 20, "pad": 0.03}
            add_legend(figure, axes, scale, said, what=_PATCHES, **below)
    if has_legend and not own_scales:
        label = _legend_label(shared, colorbar_label, interpolation, maps[0])
        around = every if plt_fig_axis is None else list(plt_fig_axis[1])
        look: dict[str, Any] = {
            "shrink": 0.9,
            "aspect": 13.0 * max(rows, 2),
            "pad": 0.015,
        }
        add_legend(figure, around, shared, label, what=_PATCHES, **look)
    finish(use_pyplot, plt_fig_axis)
    return figure, every


def visualize_image_pair_attr(
    attr: ArrayLike,
    original_images: Sequence[Optional[ArrayLike]],
    region: Optional[Box] = None,
    method: str = "blended_heat_map",
    sign: str = "all",
    plt_fig_axis: Optional[FigureManyAxes] = None,
    outlier_perc: Optional[float] = None,
    cmap: Union[str, Colormap, None] = None,
    alpha_overlay: float = 0.7,
    show_colorbar: bool = True,
    titles: Sequence[str] = ("a region of the first", "and what it matched"),
    fig_size: tuple[float, float] = (7, 3.4),
    use_pyplot: bool = True,
    *,
    interpolation: str = "nearest",
    boxes: Optional[Sequence[Optional[Box]]] = None,
    extents: Sequence[Optional[Box]] = (None, None),
    aspect: Aspect = "equal",
    limit: Optional[float] = None,
    colorbar_label: Optional[str] = None,
) -> tuple[Any, list[Axes]]:
    r"""
    A region of one image, and what it matched in another one, side by side.

    Args:

        attr (Tensor or array): Of the second image, as in
            :func:`visualize_image_attr`.
        original_images (pair): The two images.
        region (tuple, optional): Left, top, right, bottom in units of the first one's
            extent. Default: the whole image.
        titles (pair of str): Above the images.
        extents (pair): See ``extent`` in :func:`visualize_image_attr`.
        method, sign, plt_fig_axis, outlier_perc, cmap, alpha_overlay, show_colorbar,
            fig_size, use_pyplot, interpolation, boxes, aspect, limit, colorbar_label:
            See :func:`visualize_image_attr`; ``plt_fig_axis`` is a figure and two axes.

    Returns:
        The figure and both axes.

    Raises:
        InvalidArgumentError: naming the argument that does not fit.

    Examples::

        >>> attr, images = torch.randn(8, 8), torch.rand(2, 64, 64, 3)
        >>> figure, axes = visualization.visualize_image_pair_attr(
        ...     attr, (images[0], images[1]), (8, 8, 24, 24), use_pyplot=False
        ... )
    """
    values = _attributions(attr, boxes)
    scale = scale_of(values, sign, outlier_perc, cmap, limit)
    originals = both("original_images", original_images)
    figure, every = panels(plt_fig_axis, 2, fig_size, use_pyplot)
    first = Frame(originals[0], extents[0], None, aspect)
    first.draw_original(every[0])
    if region is not None:
        outline(every[0], region)
    second = Frame(originals[1], extents[1], boxes, aspect)
    second.draw(every[1], values, scale, method, alpha_overlay, interpolation)
    for axes, title in zip(every, titles):
        add_title(axes, title)
    if show_colorbar and method in _COLORED:
        label = _legend_label(scale, colorbar_label, interpolation, values)
        add_legend(figure, every, scale, label, what=_PATCHES, shrink=0.9, aspect=25)
    finish(use_pyplot, plt_fig_axis)
    return figure, every


def visualize_image_contrast(
    attr: Sequence[ArrayLike],
    original_images: Sequence[Optional[ArrayLike]],
    method: str = "blended_heat_map",
    sign: str = "all",
    plt_fig_axis: Optional[FigureManyAxes] = None,
    outlier_perc: Optional[float] = None,
    cmap: Union[str, Colormap, None] = None,
    alpha_overlay: float = 0.7,
    show_colorbar: bool = True,
    titles: Optional[Sequence[str]] = None,
    fig_size: tuple[float, float] = (7, 3.4),
    use_pyplot: bool = True,
    *,
    interpolation: str = "nearest",
    boxes: Sequence[Optional[Sequence[Optional[Box]]]] = (None, None),
    extents: Sequence[Optional[Box]] = (None, None),
    aspect: Aspect = "equal",
    limit: Optional[float] = None,
    colorbar_label: Optional[str] = None,
) -> tuple[Any, list[Axes]]:
    r"""
    Two images that were compared with the same text, in one scale.

    Args:

        attr (pair): What each image's patches say for its own match, as in
            :func:`visualize_image_attr`.
        original_images (pair): The two images.
        titles (pair of str, optional): Default: the sums of the maps.
        boxes, extents (pair): See :func:`visualize_image_attr`.
        method, sign, plt_fig_axis, outlier_perc, cmap, alpha_overlay, show_colorbar,
            fig_size, use_pyplot, interpolation, aspect, limit, colorbar_label: See
            :func:`visualize_image_attr`; ``plt_fig_axis`` is a figure and two axes.

    Returns:
        The figure and both axes.

    Raises:
        InvalidArgumentError: naming the argument that does not fit.

    Examples::

        >>> attr, images = torch.randn(2, 8, 8), torch.rand(2, 64, 64, 3)
        >>> figure, axes = visualization.visualize_image_contrast(
        ...     (attr[0], attr[1]), (images[0], images[1]), use_pyplot=False
        ... )
    """
    originals = both("original_images", original_images)
    maps = [
        _attributions(each, around) for each, around in zip(both("attr", attr), boxes)
    ]
    every_value = np.concatenate([each.ravel() for each in maps])
    scale = scale_of(every_value, sign, outlier_perc, cmap, limit)
    figure, every = panels(plt_fig_axis, 2, fig_size, use_pyplot)
    for at, (axes, values) in enumerate(zip(every, maps)):
        frame = Frame(originals[at], extents[at], boxes[at], aspect)
        frame.draw(axes, values, scale, method, alpha_overlay, interpolation)
        named = f"{('preferred', 'other')[at]}: {signed(float(values.sum()))}"
        add_title(axes, titles[at] if titles else named)
    if show_colorbar and method in _COLORED:
        label = _legend_label(scale, colorbar_label, interpolation, maps[0])
        add_legend(figure, every, scale, label, what=_PATCHES, shrink=0.9, aspect=25)
    finish(use_pyplot, plt_fig_axis)
    return figure, every


def visualize_original_image(
    original_image: Optional[ArrayLike],
    plt_fig_axis: Optional[FigureAxes] = None,
    title: Optional[str] = None,
    fig_size: tuple[float, float] = (5, 4.2),
    use_pyplot: bool = True,
    *,
    region: Optional[Box] = None,
    used: Optional[Box] = None,
    boxes: Optional[Sequence[Optional[Box]]] = None,
    extent: Optional[Box] = None,
    aspect: Aspect = "equal",
    show_ticks: bool = True,
    axis_labels: tuple[str, str] = ("", ""),
) -> tuple[Any, Axes]:
    r"""
    An image without attributions, with its pixels at the edges.

    Args:

        original_image (Tensor or array, optional): See :func:`visualize_image_attr`.
        region (tuple, optional): Left, top, right, bottom in units of ``extent``, of a
            box that is outlined; of a point twice the same.
        used (tuple, optional): As ``region``, of what stands for it: the patches that
            lie in it, in part or whole. Outlined with dashes.
        show_ticks (bool): Where in the image things are, in units of ``extent``.
        axis_labels (pair of str): What the ticks count, across and down.
        plt_fig_axis, title, fig_size, use_pyplot, boxes, extent, aspect: See
            :func:`visualize_image_attr`.

    Returns:
        The figure and its axes.

    Raises:
        InvalidArgumentError: naming the argument that does not fit.

    Examples::

        >>> figure, axes = visualization.visualize_original_image(
        ...     torch.rand(64, 64, 3), region=(8, 8, 24, 24), use_pyplot=False
        ... )
    """
    given = None if plt_fig_axis is None else (plt_fig_axis[0], [plt_fig_axis[1]])
    figure, (axes,) = panels(given, 1, fig_size, use_pyplot)
    Frame(original_image, extent, boxes, aspect).draw_original(axes)
    if show_ticks:
        for axis, label, most in zip(
            (axes.xaxis, axes.yaxis), axis_labels, _most_ticks(axes)
        ):
            axis.set_major_locator(MaxNLocator(most))
            axis.set_label_text(label, fontsize=8)
        axes.tick_params(labelsize=_TICK_SIZE, length=2)
    if used is not None:
        outline(axes, used, dashed=True)
    if region is not None:
        outline(axes, region)
    add_title(axes, title)
    finish(use_pyplot, plt_fig_axis)
    return figure, axes


def _most_ticks(axes: Axes) -> tuple[int, int]:
    """How many spaces between ticks there is room for, across and down."""
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    box = axes.get_window_extent()
    wide, high = width_in_points(axes), width_in_points(axes) * box.height / box.width
    if axes.get_aspect() != "auto":  # a tall image does not fill its axes
        wide = min(wide, high * abs(right - left) / abs(top - bottom))
    longest = max(width_of(f"{edge:.0f}", _TICK_SIZE) for edge in (left, right))
    # before the layout is made, axes are larger
    room = 0.75 * wide / (1.6 * longest), 0.75 * high / (2.5 * _TICK_SIZE)
    return max(min(int(room[0]), 4), 1), max(min(int(room[1]), 4), 1)


def _attributions(
    attr: ArrayLike, boxes: Optional[Sequence[Optional[Box]]] = None
) -> Floats:
    """(rows, columns), or (features,) if they have boxes."""
    values = numbers(attr)
    if values.ndim == 3:
        values = values.sum(2)
    if values.ndim != 2 and (boxes is None or values.ndim != 1) or not values.size:
        expected = "(rows, columns), or (features,) with boxes"
        raise InvalidArgumentError("attr", expected, f"shape {values.shape}")
    if boxes is not None and len(boxes) != values.size:
        raise InvalidArgumentError("boxes", f"{values.size} of them", f"{len(boxes)}")
    return values


def _legend_label(
    scale: Scale, label: Optional[str], interpolation: str, values: Floats
) -> str:
    """What the legend says; of a smooth map also how fine the patches are."""
    said = scale.meaning if label is None else label
    if interpolation == "nearest" or values.ndim != 2:
        return said
    rows, columns = values.shape
    return f"{said}\n(smoothed from {rows} × {columns} patches)"
