"""Data sets as rows: one reader a file."""

from captum_pairs.grounding.data.reading import open_data
from captum_pairs.grounding.data.row import (
    Box,
    Changed,
    Data,
    LeftOut,
    Row,
    Span,
    Thing,
)

__all__ = [
    "Box",
    "Changed",
    "Data",
    "LeftOut",
    "open_data",
    "Row",
    "Span",
    "Thing",
]
