"""What all results have in common: how they are shown, and told apart."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from textwrap import shorten
from typing import Any, TYPE_CHECKING, Union

from captum_pairs.attr import InvalidArgumentError, validation
from captum_pairs.explain.files import usable
from captum_pairs.inputs import ExplainedInput
from captum_pairs.models.encoder import TEXT
from captum_pairs.models.equality import ByContent
from captum_pairs.show.page import page_frame, write_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["named", "Result"]

# Of a text, in a short repr.
_LETTERS = 60


def named(side: ExplainedInput) -> str:
    """An input in a few words: a text, shortened, or what else it is."""
    if side.kind != TEXT:
        return str(side.source)
    return f"“{shorten(side.source.text, _LETTERS, placeholder='…')}”"


# ---- what is shown -----------------------------------------------------------


class Result(ByContent, ABC):
    """
    A result that a person works with: it can be read, seen, explored and compared.

    Subclasses say what it is (``_in_short``, ``summary``), draw it (``plot``), and say
    what a page shows of it (``_shown``: itself, unless it is several explanations).
    """

    @abstractmethod
    def summary(self) -> str:
        """What it says, in lines."""

    @abstractmethod
    def plot(self) -> "Figure":
        """A picture of it, as a matplotlib figure."""

    @abstractmethod
    def _in_short(self) -> Iterator[str]:
        """The model, the inputs, the score, and what is strongest."""

    def _shown(self) -> Any:
        return self

    def page(self, path: Union[str, Path]) -> Path:
        """Writes a page to explore it, one file (see :mod:`captum_pairs.show.page`)."""
        is_path = isinstance(path, (str, os.PathLike)) and "\0" not in os.fsdecode(path)
        if not is_path or path == "":
            raise InvalidArgumentError(
                "path", "a file's path", validation.describe(path)
            )
        with usable("path", Path(os.fsdecode(path))):
            return write_page(self._shown(), os.fsdecode(path))

    def _repr_html_(self) -> str:
        """The page, as notebooks show it."""

        return page_frame(self._shown())

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {'; '.join(self._in_short())}>"
