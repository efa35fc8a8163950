"""One pair of an image and a caption with what its words name: what every reader yields
and every study takes."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

import numpy as np
from captum_pairs.attr import InvalidArgumentError, validation
from numpy.typing import NDArray

__all__ = ["Box", "Changed", "Data", "LeftOut", "Region", "Row", "Span", "Thing"]

# Left, top, right and bottom in pixels of the original image, right and bottom
# exclusive.
Box = tuple[float, float, float, float]
# A box, or a mask (h, w) of bool in pixels of the original image.
Region = Union[Box, NDArray[np.bool_]]
# Half-open character offsets.
Offsets = tuple[int, int]


class Span(NamedTuple):
    """
    Words of a caption and what they name in the image.

    Args:
        start, end: of the phrase, half-open character offsets.
        label: the class of what is named.
        regions: where it is; several ("two dogs") are one object for a study.
        word: of the class word alone ("dog" in "a brown dog"), if it is known.
        visible: the share of the object that nothing covers, if it is known.
    """

    start: int
    end: int
    label: str
    regions: tuple[Region, ...]
    word: Optional[Offsets] = None
    visible: Optional[float] = None


class Thing(NamedTuple):
    """An object of the image, whether the caption names it or not."""

    label: str
    regions: tuple[Region, ...]


class Changed(NamedTuple):
    """
    What a wrong caption has in the place of what is right.

    Args:
        kind: of the change: "color", "replace_obj".
        right, wrong: the words in the caption and in the negative; None for what only
            one of the two says.
    """

    kind: str
    right: Optional[Offsets] = None
    wrong: Optional[Offsets] = None


@dataclass(frozen=True, eq=False)
class Row:
    """
    An image, a caption and what is known of them.

    Args:
        id: unique in its data.
        image: a path, or what else :meth:`captum_pairs.DualEncoder.explain` takes.
        caption: what is true of the image.
        spans: what the caption's words name; may be empty.
        negative: a caption that is not true of it, or less so.
        changed: what the negative has changed.
        group: rows of one image are not independent of one another, and have the same;
            intervals are resampled by it. Default: the id
        objects: all objects of the image whose place is known.

    Raises:
        InvalidArgumentError: for what does not fit.
    """

    id: str
    image: Any
    caption: str
    spans: tuple[Span, ...] = ()
    negative: Optional[str] = None
    changed: Optional[Changed] = None
    group: Optional[str] = None
    objects: tuple[Thing, ...] = ()

    def __post_init__(self) -> None:
        for name in ("id", "caption"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                came = validation.describe(getattr(self, name))
                raise InvalidArgumentError(name, "a text", came)
        for name in ("negative", "group"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                came = validation.describe(value)
                raise InvalidArgumentError(name, "a text or None", came)
        spans = tuple(Span(*span) for span in self.spans)
        object.__setattr__(self, "spans", spans)
        objects = tuple(Thing(*thing) for thing in self.objects)
        object.__setattr__(self, "objects", objects)
        for at, span in enumerate(spans):
            _check_offsets(f"spans[{at}]", (span.start, span.end), self.caption)
            if span.word is not None:
                _check_offsets(f"spans[{at}].word", span.word, self.caption)
            _check_regions(f"spans[{at}]", span.label, span.regions)
        for at, thing in enumerate(objects):
            _check_regions(f"objects[{at}]", thing.label, thing.regions)
        if self.changed is not None:
            changed = Changed(*self.changed)
            object.__setattr__(self, "changed", changed)
            if self.negative is None:
                raise InvalidArgumentError("changed", "None without a negative", "one")
            if changed.right is not None:
                _check_offsets("changed.right", changed.right, self.caption)
            if changed.wrong is not None:
                _check_offsets("changed.wrong", changed.wrong, self.negative)

    @property
    def group_or_id(self) -> str:
        """What intervals are resampled by."""
        return self.id if self.group is None else self.group

    @property
    def path(self) -> str:
        """The image's file; of an image in memory nothing."""
        return str(self.image) if isinstance(self.image, (str, Path)) else ""


def _check_offsets(name: str, offsets: Any, text: str) -> None:
    is_pair = isinstance(offsets, (tuple, list)) and len(offsets) == 2
    whole = is_pair and all(type(edge) is int for edge in offsets)
    if not whole or not 0 <= offsets[0] < offsets[1] <= len(text):
        raise InvalidArgumentError(
            name,
            f"a start and an end with 0 <= start < end <= {len(text)} (characters)",
            f"{offsets}" if whole else validation.describe(offsets),
        )


def _check_regions(name: str, label: Any, regions: Any) -> None:
    if not isinstance(label, str) or not label:
        came = validation.describe(label)
        raise InvalidArgumentError(f"{name}.label", "a text", came)
    if not isinstance(regions, (tuple, list)) or not regions:
        came = validation.describe(regions)
        raise InvalidArgumentError(f"{name}.regions", "boxes or masks", came)
    for region in regions:
        if isinstance(region, np.ndarray) and region.ndim == 2:
            if region.dtype != np.bool_ or not region.any():
                came = f"{region.dtype} of shape {region.shape}"
                came += "" if region.any() else ", all of it zero"
                raise InvalidArgumentError(
                    f"{name}.regions", "a mask (h, w) of bool that is not empty", came
                )
            continue
        fits = len(region) == 4 and all(isfinite(edge) for edge in region)
        if not fits or not (region[0] < region[2] and region[1] < region[3]):
            raise InvalidArgumentError(
                f"{name}.regions",
                "left, top, right, bottom with left < right and top < bottom (pixels)",
                f"{tuple(region)}",
            )


@dataclass
class LeftOut:
    """
    What of a data set can't be used, counted and listed by reason; nothing is dropped
    in silence.

    Args:
        counts: by reason.
        examples: by reason the names of the first ones.
    """

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    # Of each reason; the counts are of all.
    LISTED = 1000

    def add(self, name: str, reason: str) -> None:
        """One more."""
        self.counts[reason] += 1
        listed = self.examples.setdefault(reason, [])
        if len(listed) < self.LISTED:
            listed.append(name)

    def as_json(self) -> dict[str, Any]:
        """For a plan."""
        return {
            reason: {"number": number, "first": self.examples[reason]}
            for reason, number in self.counts.most_common()
        }


class Data(Sequence[Row], ABC):
    """
    Rows in a fixed order, each read when it is asked for.

    Attributes:
        name: as :func:`captum_pairs.grounding.data.open_data` takes it.
        options: the options that it was opened with, of which JSON can be made.
        left_out: what can't be used, and why.
    """

    name: str
    options: Mapping[str, Any]
    left_out: LeftOut

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def row(self, place: int) -> Row:
        """The row at a place from 0 on."""

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self.row(at) for at in range(*place.indices(len(self)))]
        at = place + len(self) if place < 0 else place
        if not 0 <= at < len(self):
            raise IndexError(f"row {place} of {len(self)}")
        return self.row(at)

    def __iter__(self) -> Iterator[Row]:
        return (self.row(at) for at in range(len(self)))

    def shard(self, index: int, count: int) -> range:
        """The places of one of `count` parts, as even as can be."""
        validation.positive_int("count", count)
        if not 0 <= index < count:
            raise InvalidArgumentError("index", f"from 0 to {count - 1}", f"{index}")
        return range(index, len(self), count)
