"""Words and regions: from what a person points at to features, and back."""

import difflib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any, Optional, Union
from unicodedata import normalize

import numpy as np
import torch
from captum_pairs.attr import InvalidArgumentError, validation
from captum_pairs.models.encoder import AUDIO, Feature, IMAGE, Source, TENSOR, TEXT
from captum_pairs.models.equality import ByContent
from captum_pairs.models.view import Box
from captum_pairs.models.words import word_spans
from torch import Tensor

__all__ = ["ExplainedInput", "find_phrase", "STOP_WORDS", "Where"]

# Words that say nothing of what is to be seen: they get no heat map and no place among
# the strongest pairs, but their share is in the score and in the numbers.
STOP_WORDS: frozenset[str] = frozenset(
    "a an the this that these those of in on at to with and or by for from as "
    "is are was were be been being it its there here we see look shows "
    "photo picture image drawing scene thing things".split()
)

# A box, a point (x, y), or a mask (h, w) of the whole original.
Where = Union[Sequence[float], "np.ndarray[Any, Any]", Tensor]


@dataclass(frozen=True, repr=False)
class ExplainedInput(ByContent):
    """
    One of the two inputs of an explanation.

    Args:
        source: what was put in.
        features: words, or patches row by row; special tokens after them.
        grid: rows and columns, if the features are patches.
        layer: where it was attributed to, in words.
        baseline: where the path started, in words.
        n_steps: quadrature steps.
        residual: of the path's integral, relative (see docs/notation.md).
        asked: of an image or sound of which only a region was explained, this region as
            it was asked for: left, top, right, bottom (of a point twice the same, of a
            mask the box around it). The feature's box is that of the patches used.
    """

    source: Source
    features: tuple[Feature, ...]
    grid: Optional[tuple[int, int]]
    layer: str
    baseline: str
    n_steps: int
    residual: float
    asked: Optional[Box] = None

    def __repr__(self) -> str:
        grid = "" if self.grid is None else f" ({self.grid[0]} x {self.grid[1]})"
        return (
            f"<{shorten(str(self.source), 60, placeholder='…')}: {len(self.features)} "
            f"features{grid}, {self.layer}, from {self.baseline}>"
        )

    @property
    def kind(self) -> str:
        """ "image", "text", "audio" or "tensor"."""
        return self.source.kind

    @property
    def count(self) -> int:
        """The number of features that are not special; these come first."""
        return sum(not feature.special for feature in self.features)

    @property
    def has_regions(self) -> bool:
        """Whether its features lie somewhere: in an image, or in a sound."""
        return self.grid is not None and any(f.box for f in self.features)

    @property
    def names(self) -> tuple[str, ...]:
        """Of every feature; of words that come several times "red", "red (2)", ..."""
        seen: Counter[str] = Counter()
        names = []
        for feature in self.features:
            key = feature.name.casefold()
            seen[key] += 1
            count = seen[key]
            names.append(feature.name if count == 1 else f"{feature.name} ({count})")
        return tuple(names)

    @property
    def content(self) -> tuple[int, ...]:
        """The features worth a look: of a text the words that are not in STOP_WORDS
        (all, if none is); of anything else all that are not special."""
        every = tuple(range(self.count))
        if self.kind != TEXT:
            return every
        chosen = tuple(
            index
            for index in every
            if any(letter.isalnum() for letter in self.features[index].name)
            and self.features[index].name.casefold() not in STOP_WORDS
        )
        return chosen or every

    def shaped(self, values: Tensor) -> Tensor:
        """(..., features) to (..., rows, columns) or (..., words), without special
        tokens."""
        values = values[..., : self.count]
        if self.grid is None or self.grid[0] * self.grid[1] != self.count:
            return values
        return values.reshape(*values.shape[:-1], *self.grid)

    def upsampled(self, values: Tensor) -> Tensor:
        """
        A map (rows, columns) in pixels of the original image, (h, w): every pixel has
        its patch's value divided by the patch's pixels, and none where the model did
        not see it, so that the sum over the pixels is that over the patches.
        """
        if self.kind != IMAGE or self.source.size is None or self.grid is None:
            raise InvalidArgumentError(
                "upsampled", "an image with a grid of patches", f"{self.kind}"
            )
        width, height = (int(side) for side in self.source.size)
        result = torch.zeros(height, width, dtype=torch.float64)
        for feature, value in zip(self.features, values.double().flatten().tolist()):
            if feature.box is not None:
                x, y = _cover(feature.box, width, height)
                area = torch.outer(y, x)
                result += value * area / area.sum()
        return result.to(values.dtype)

    def weights(self, where: Where) -> Tensor:
        """
        How much of each feature lies in a region: (features,), from 0 to 1.

        Args:
            where: left, top, right, bottom in pixels of the original image (of sound
                first second, first band, last second, last band); a point (x, y); or a
                mask (h, w) of the image.

        Raises:
            InvalidArgumentError: if it lies outside of what the model saw.
        """
        if not self.has_regions:
            raise InvalidArgumentError(
                "region", "an image or sound, which has regions", f"a {self.kind}"
            )
        array = _numbers(where)
        if array.ndim == 2:
            weights = self._mask_weights(array)
        elif array.shape == (2,):
            weights = self._point_weights(float(array[0]), float(array[1]))
        elif array.shape == (4,):
            weights = self._box_weights([float(edge) for edge in array])
        else:
            raise InvalidArgumentError("region", _A_REGION, f"shape {array.shape}")
        if not bool(weights.any()):
            raise InvalidArgumentError(
                "region",
                f"a region of what the model saw, {_shown(self.source.visible)}",
                "one that lies outside of it",
            )
        return weights

    def _box_weights(self, box: Sequence[float]) -> Tensor:
        left, top, right, bottom = box
        width, height = self.source.size or (0.0, 0.0)
        self._check_unit(box, "left, top, right, bottom")
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise InvalidArgumentError(
                "region",
                f"0 <= left < right <= {width:g} and 0 <= top < bottom <= {height:g}",
                _shown((left, top, right, bottom)),
            )
        return torch.tensor(
            [0.0 if f.box is None else _overlap(f.box, box) for f in self.features]
        )

    def _check_unit(self, where: Sequence[float], names: str) -> None:
        """Refuse shares of an image, which would be its first pixel."""
        width, height = self.source.size or (0.0, 0.0)
        is_tiny = self.kind != IMAGE or min(width, height) <= 2
        is_share = all(0 <= edge <= 1 for edge in where)
        if is_share and not is_tiny and any(edge % 1 for edge in where):
            raise InvalidArgumentError(
                "region",
                f"{names} in pixels of the image of {width:g} x {height:g}",
                f"{_shown(where)}, shares of it (times {width:g} and {height:g} they "
                "are pixels)",
            )

    def _point_weights(self, x: float, y: float) -> Tensor:
        width, height = self.source.size or (0.0, 0.0)
        self._check_unit((x, y), "x, y")
        if not (0 <= x < width and 0 <= y < height):
            raise InvalidArgumentError(
                "region", f"a point inside {width:g} x {height:g}", f"({x:g}, {y:g})"
            )
        inside = [
            f.box is not None and f.box[0] <= x < f.box[2] and f.box[1] <= y < f.box[3]
            for f in self.features
        ]
        return torch.tensor(inside, dtype=torch.float32)

    def _mask_weights(self, mask: "np.ndarray[Any, Any]") -> Tensor:
        width, height = (int(side) for side in self.source.size or (0, 0))
        if self.kind != IMAGE or mask.shape != (height, width):
            raise InvalidArgumentError(
                "region", f"a mask of shape ({height}, {width})", f"shape {mask.shape}"
            )
        if mask.dtype.kind == "f" and np.isnan(mask).any():
            raise InvalidArgumentError("region", "a mask of numbers", "NaN in it")
        inside = torch.from_numpy(mask.astype(bool)).double()
        weights = []
        for feature in self.features:
            if feature.box is None:
                weights.append(0.0)
                continue
            x, y = _cover(feature.box, width, height)
            weights.append(float((y @ inside @ x) / (y.sum() * x.sum())))
        return torch.tensor(weights)


_A_REGION = "a box (left, top, right, bottom), a point (x, y) or a mask (h, w)"


def _numbers(where: object) -> "np.ndarray[Any, Any]":
    """
    A region's numbers.

    Raises:
        InvalidArgumentError: if there are others.
    """
    try:
        given = where.detach().cpu() if isinstance(where, Tensor) else where
        array = np.asarray(given)
    except Exception as error:  # rows of unequal length, or whatever it raises itself
        raise InvalidArgumentError(
            "region", _A_REGION, validation.describe(where)
        ) from error
    if array.dtype.kind not in "biuf":
        raise InvalidArgumentError(
            "region", f"{_A_REGION}, numbers", validation.describe(where)
        )
    return array


def _cover(box: Box, width: int, height: int) -> tuple[Tensor, Tensor]:
    """How much of each column and of each row of pixels lies in a box."""
    columns = torch.arange(width, dtype=torch.float64)
    rows = torch.arange(height, dtype=torch.float64)
    x = (columns + 1).clamp(max=box[2]) - columns.clamp(min=box[0])
    y = (rows + 1).clamp(max=box[3]) - rows.clamp(min=box[1])
    return x.clamp(min=0), y.clamp(min=0)


def _overlap(patch: Box, box: Sequence[float]) -> float:
    """The share of a patch that lies in a box."""
    across = min(patch[2], box[2]) - max(patch[0], box[0])
    down = min(patch[3], box[3]) - max(patch[1], box[1])
    area = (patch[2] - patch[0]) * (patch[3] - patch[1])
    return max(across, 0.0) * max(down, 0.0) / area


def _shown(box: Optional[Sequence[float]]) -> str:
    return "nothing" if box is None else f"({', '.join(f'{e:g}' for e in box)})"


def find_phrase(
    text: str, phrase: str, occurrence: Optional[int] = None, argument: str = "phrase"
) -> tuple[int, int]:
    """
    Where a phrase stands in a text: half-open character offsets.

    Args:
        text, phrase: compared word by word, whatever case and space.
        occurrence: which one, from 1, if there are several.
        argument: the name for an error.

    Raises:
        InvalidArgumentError: with the nearest match, if it is not there; if there are
            several and none was chosen.
    """
    if not isinstance(phrase, str) or not word_spans(phrase):
        raise InvalidArgumentError(
            argument, "at least one word", validation.describe(phrase)
        )
    spans, wanted = word_spans(text), _words(phrase)
    words = _words(text)
    size = len(wanted)
    found = [
        (spans[at][0], spans[at + size - 1][1])
        for at in range(len(words) - size + 1)
        if words[at : at + size] == wanted
    ]
    if not found:
        raise InvalidArgumentError(
            argument, f"words of “{text}”{_nearest(text, spans, wanted)}", repr(phrase)
        )
    if occurrence is None:
        if len(found) > 1:
            raise InvalidArgumentError(
                "occurrence",
                f"a number from 1 to {len(found)}, since “{phrase}” occurs so often",
                "None",
            )
        return found[0]
    is_number = isinstance(occurrence, int) and not isinstance(occurrence, bool)
    if not is_number or not 1 <= occurrence <= len(found):
        raise InvalidArgumentError(
            "occurrence",
            f"a number from 1 to {len(found)}",
            validation.describe(occurrence),
        )
    return found[occurrence - 1]


def _words(text: str) -> list[str]:
    """In one of the forms in which Unicode writes the same."""
    return [normalize("NFC", text[slice(*s)].casefold()) for s in word_spans(text)]


def _nearest(text: str, spans: Sequence[tuple[int, int]], wanted: list[str]) -> str:
    """What of the text is most like the words, for an error."""
    if not spans:
        return ""
    sizes = {min(max(len(wanted) + more, 1), len(spans)) for more in (-1, 0, 1)}
    parts = [
        text[spans[at][0] : spans[at + size - 1][1]]
        for size in sizes
        for at in range(len(spans) - size + 1)
    ]
    folded = {part.casefold(): part for part in parts}
    if not STOP_WORDS.issuperset(wanted):  # "cat" is not meant by "a"
        folded = {key: part for key, part in folded.items() if key not in STOP_WORDS}
    close = difflib.get_close_matches(" ".join(wanted), folded, n=1, cutoff=0.6)
    return f"; the nearest match is “{folded[close[0]]}”" if close else ""


def words_of(features: Sequence[Feature], span: tuple[int, int]) -> list[int]:
    """The features that have characters of a span."""
    start, stop = span
    return [
        index
        for index, feature in enumerate(features)
        if feature.span and feature.span[0] < stop and start < feature.span[1]
    ]


def grown(
    cells: dict[tuple[int, int], float], seed: tuple[int, int], share: float = 0.5
) -> list[tuple[int, int]]:
    """The seed and what is connected to it by cells of that share of its value; what is
    no number, or no cell, is not."""
    enough = {cell for cell, value in cells.items() if value >= share * cells[seed]}
    chosen, waiting = {seed}, [seed]
    while waiting:
        row, column = waiting.pop()
        for step in ((0, 1), (0, -1), (1, 0), (-1, 0)):
            cell = row + step[0], column + step[1]
            if cell in enough and cell not in chosen:
                chosen.add(cell)
                waiting.append(cell)
    return sorted(chosen)


def strong_region(
    side: ExplainedInput, values: Tensor, seed: Optional[int] = None
) -> Optional[list[int]]:
    """The strongest patch (or that one) and its strong neighbours, if positive."""
    columns = (side.grid or (1, 1))[1]
    numbers = values.tolist()
    cells = {
        divmod(index, columns): numbers[index]
        for index in range(side.count)
        if side.features[index].box is not None and not math.isnan(numbers[index])
    }
    start = max(cells, key=lambda cell: cells[cell], default=None)
    if seed is not None:
        start = divmod(seed, columns)
    if start is None or cells.get(start, 0.0) <= 0:
        return None
    return [row * columns + column for row, column in grown(cells, start)]


def box_around(side: ExplainedInput, group: Sequence[int]) -> Optional[Box]:
    """The box around features."""
    boxes = [box for i in group if (box := side.features[i].box) is not None]
    if not boxes:
        return None
    edges = list(zip(*boxes))
    return (min(edges[0]), min(edges[1]), max(edges[2]), max(edges[3]))


def box_of(where: Where) -> Box:
    """The box that a region is, or that is around it; of a point twice the same."""
    array = _numbers(where)
    if array.ndim == 2:
        rows, columns = np.nonzero(array.any(1))[0], np.nonzero(array.any(0))[0]
        edges = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    else:
        edges = tuple(array) if len(array) == 4 else (*array, *array)
    left, top, right, bottom = (float(edge) for edge in edges)
    return (left, top, right, bottom)


def place_in_words(source: Source, box: Box) -> str:
    """In which part of the whole a box has its centre, and where that is."""
    if source.kind == TENSOR or source.size is None:
        return f"({_shown(box)})"
    left, top, right, bottom = box
    if source.kind == AUDIO:
        return f"{left:.2f}–{right:.2f} s, mel {top:.0f}–{bottom:.0f}"
    x, y = (left + right) / 2 / source.size[0], (top + bottom) / 2 / source.size[1]
    column = ("left", "", "right")[min(int(3 * x), 2)]
    row = ("top", "", "bottom")[min(int(3 * y), 2)]
    place = f"{row} {column}".strip() or "centre"
    return f"{place} (x {left:.0f}–{right:.0f}, y {top:.0f}–{bottom:.0f} px)"
