#!/usr/bin/env python3
"""
Pictures of feature-pair attributions, in the manner of ``captum.attr.visualization``.

Functions take tensors or arrays and lists of words, with Captum's parameter names, and
return the figure and its axes (the coloured text for notebooks: an HTML object). Orange
speaks for the match and purple against it, on a scale centred on zero.

Several of them make a sheet (:func:`visualize_sheet`), of parts whose heights are known
before they are drawn (:func:`caption_height`, :func:`matrix_size`,
:func:`lines_size`) and which may share
a scale and its legend (:func:`scale_of`, :func:`add_legend`).
"""

from captum_pairs.attr._utils.visualization.figures import add_legend, signed
from captum_pairs.attr._utils.visualization.fonts import width_of
from captum_pairs.attr._utils.visualization.image import (
    visualize_image_attr,
    visualize_image_attr_per_word,
    visualize_image_contrast,
    visualize_image_pair_attr,
    visualize_original_image,
)
from captum_pairs.attr._utils.visualization.lines import (
    lines_size,
    visualize_pair_lines,
)
from captum_pairs.attr._utils.visualization.parts import (
    visualize_decomposition,
    visualize_probabilities,
)
from captum_pairs.attr._utils.visualization.scale import Scale, scale_of
from captum_pairs.attr._utils.visualization.sheet import labelled, Part, visualize_sheet
from captum_pairs.attr._utils.visualization.text import (
    caption_height,
    HTML,
    matrix_size,
    visualize_text,
    visualize_text_attr,
    visualize_text_contrast,
    visualize_text_pair_attr,
)

__all__ = [
    "add_legend",
    "caption_height",
    "HTML",
    "labelled",
    "lines_size",
    "matrix_size",
    "Part",
    "Scale",
    "scale_of",
    "signed",
    "visualize_decomposition",
    "visualize_image_attr",
    "visualize_image_attr_per_word",
    "visualize_image_contrast",
    "visualize_image_pair_attr",
    "visualize_original_image",
    "visualize_pair_lines",
    "visualize_probabilities",
    "visualize_sheet",
    "visualize_text",
    "visualize_text_attr",
    "visualize_text_contrast",
    "visualize_text_pair_attr",
    "width_of",
]
