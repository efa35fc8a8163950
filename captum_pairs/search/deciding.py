"""What decides between two items: words, or regions, by what they make of the
difference of their scores."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Optional

from captum_pairs.explain.contrast import Contrast
from captum_pairs.explain.pair import PairExplanation
from captum_pairs.inputs import (
    box_around,
    ExplainedInput,
    place_in_words,
    strong_region,
)
from captum_pairs.models.encoder import TEXT
from captum_pairs.models.view import Box
from captum_pairs.show.wording import instead_of, plain, quoted
from torch import Tensor

__all__ = ["deciding", "Decision"]


@dataclass(frozen=True)
class Decision:
    """
    Words of the query, or of the items if these are texts, or a region of the query if
    there are no words; and what that makes of the difference of two scores.

    Args:
        name: a word; of two texts the first one's words instead of the second one's;
            where a region is.
        value: its share of the difference of the similarities: above zero, if it speaks
            for the first item. All that it contributes counts, what it does whatever
            the other input says included.
        features: of a word or a region of the query, their indices.
        boxes: where it is strongest in the first and in the second item, in pixels of
            these; None for what has no regions.
        places: the same in words; "" for none.
        is_changed: of two texts' words, whether they are not the same.
    """

    name: str
    value: float
    features: tuple[int, ...] = ()
    boxes: tuple[Optional[Box], Optional[Box]] = (None, None)
    places: tuple[str, str] = ("", "")
    is_changed: bool = True

    def __str__(self) -> str:
        name = self.name if self.is_changed else f"{self.name} (both)"
        where = [
            f"{place} of the {which}"
            for place, which in zip(self.places, ("first", "second"))
            if place
        ]
        seen = f", strongest at the {' and the '.join(where)}" if where else ""
        return f"{name}: {plain(self.value)}{seen}"


def deciding(contrast: Contrast) -> list[Decision]:
    """What speaks for the preferred item, the strongest first, and then against it."""
    if all(side.kind == TEXT for side in contrast.candidates):
        found = _of_texts(contrast)
    elif contrast.query.has_regions:
        found = _of_regions(contrast)
    else:
        found = _of_words(contrast)
    return sorted(found, key=lambda decision: -decision.value)


def _whole(explanation: PairExplanation, side: str) -> Tensor:
    """What each feature of one input makes of the score: with every feature of the
    other one, and on its own. They sum to what the input differs from its baseline
    by."""
    is_first = side == "first"
    table = explanation.interactions.double()
    effects = explanation.first_effects if is_first else explanation.second_effects
    assert effects is not None  # items are explained whole
    return table.sum(1 if is_first else 0) + effects.double()


def _of_texts(contrast: Contrast) -> Iterator[Decision]:
    """Word by word, where the two texts align."""
    side = "second" if contrast.query_side == "first" else "first"
    values = [_whole(each, side) for each in (contrast.preferred, contrast.other)]
    names = [[f.name for f in each.features] for each in contrast.candidates]
    for groups in contrast.aligned():
        words = [" ".join(own[i] for i in group) for own, group in zip(names, groups)]
        sums = [float(own[list(group)].sum()) for own, group in zip(values, groups)]
        changed = words[0].casefold() != words[1].casefold()
        name = instead_of(words[0], words[1])
        yield Decision(name, sums[0] - sums[1], is_changed=changed)


def _of_words(contrast: Contrast) -> Iterator[Decision]:
    """The query's words, and where in both items they are strongest."""
    query, side = contrast.query, contrast.query_side
    values = _whole(contrast.preferred, side) - _whole(contrast.other, side)
    both = contrast.preferred, contrast.other
    tables = [e.interactions if side == "first" else e.interactions.T for e in both]
    for index in query.content:
        found = [
            _strongest(item, table[index])
            for item, table in zip(contrast.candidates, tables)
        ]
        name = quoted(query.names[index]) if query.kind == TEXT else query.names[index]
        boxes, places = (found[0][0], found[1][0]), (found[0][1], found[1][1])
        yield Decision(name, float(values[index]), (index,), boxes, places)


def _strongest(side: ExplainedInput, values: Tensor) -> tuple[Optional[Box], str]:
    """Where values are strongest, and that in words."""
    region = strong_region(side, values) if side.has_regions else None
    box = None if region is None else box_around(side, region)
    return box, "" if box is None else place_in_words(side.source, box)


def _of_regions(contrast: Contrast) -> Iterator[Decision]:
    """Where the query speaks for the one and for the other item."""
    query, side = contrast.query, contrast.query_side
    values = _whole(contrast.preferred, side) - _whole(contrast.other, side)
    values = values[: query.count]
    for sign in (1.0, -1.0):
        region: Optional[Sequence[int]] = strong_region(query, sign * values)
        if region is None:
            continue
        box = box_around(query, region)
        assert box is not None  # a region's patches have boxes
        value = float(values[list(region)].sum())
        yield Decision(f"the {place_in_words(query.source, box)}", value, tuple(region))
