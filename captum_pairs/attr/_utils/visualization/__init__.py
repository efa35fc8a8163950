#!/usr/bin/env python3
"""
Pictures of feature-pair attributions, in the manner of ``captum.attr.visualization``.

Functions take tensors or arrays and lists of words, with Captum's parameter names, and
return the figure and its axes (the coloured text for notebooks: an HTML object). Orange
speaks for the match and purple against it, on a scale centred on zero.
"""

from captum_pairs.attr._utils.visualization.image import (
    visualize_image_attr,
    visualize_image_attr_per_word,
    visualize_image_contrast,
    visualize_image_pair_attr,
)
from captum_pairs.attr._utils.visualization.parts import visualize_decomposition
from captum_pairs.attr._utils.visualization.text import (
    HTML,
    visualize_text,
    visualize_text_attr,
    visualize_text_contrast,
    visualize_text_pair_attr,
)

__all__ = [
    "HTML",
    "visualize_decomposition",
    "visualize_image_attr",
    "visualize_image_attr_per_word",
    "visualize_image_contrast",
    "visualize_image_pair_attr",
    "visualize_text",
    "visualize_text_attr",
    "visualize_text_contrast",
    "visualize_text_pair_attr",
]
