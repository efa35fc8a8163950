"""Hits with their explanations, and why one stands before another."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload, TYPE_CHECKING, Union

from captum_pairs.attr import InvalidArgumentError, validation
from captum_pairs.explain.contrast import Contrast
from captum_pairs.explain.pair import PairExplanation
from captum_pairs.explain.result import named, Result
from captum_pairs.inputs import ExplainedInput
from captum_pairs.models.encoder import TEXT
from captum_pairs.search.deciding import deciding, Decision
from captum_pairs.search.hits import Hit
from captum_pairs.show.pictures import draw_contrast, draw_hits
from captum_pairs.show.reading import silence
from captum_pairs.show.wording import lacks_picture, NO_PICTURE, plain, quoted, unit

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

__all__ = ["ExplainedHits", "Why", "WhyNot"]

# Decisions, or pairs, that a summary lists.
_LISTED = 5


@dataclass(frozen=True, repr=False)
class ExplainedHits(Result):
    """
    Hits of a query, each with its explanation: a sequence of
    :class:`captum_pairs.PairExplanation` in the order of the hits.

    Args:
        hits: what was explained.
        explanations: of the query and each of them.
        query_side: "first" or "second", which of a pair's inputs the query is.
    """

    hits: tuple[Hit, ...]
    explanations: tuple[PairExplanation, ...]
    query_side: str

    def __len__(self) -> int:
        return len(self.explanations)

    def __iter__(self) -> Iterator[PairExplanation]:
        return iter(self.explanations)

    @overload
    def __getitem__(self, index: int) -> PairExplanation: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[PairExplanation, ...]: ...

    def __getitem__(
        self, index: Union[int, slice]
    ) -> Union[PairExplanation, tuple[PairExplanation, ...]]:
        return self.explanations[index]

    @property
    def query(self) -> ExplainedInput:
        """What was searched for."""
        first = self.explanations[0]
        return getattr(first, self.query_side)  # type: ignore[no-any-return]

    def item(self, at: int) -> ExplainedInput:
        """An item, with its features."""
        side = "second" if self.query_side == "first" else "first"
        return getattr(self.explanations[at], side)  # type: ignore[no-any-return]

    def why(self, a: int, b: int) -> "Why":
        """
        Why one of these stands before another.

        Args:
            a, b: their places here, from 0.

        Raises:
            InvalidArgumentError: naming ``a`` or ``b``.
        """
        for name, at in (("a", a), ("b", b)):
            validation.positive_int(name, at, 0)
            if at >= len(self):
                raise InvalidArgumentError(
                    name, f"a place from 0 to {len(self) - 1}", str(at)
                )
        if a == b:
            raise InvalidArgumentError("b", "another item than a", "the same")
        one, other = self.explanations[a], self.explanations[b]
        return Why(Contrast(one, other, self.query_side), self.hits[a], self.hits[b])

    def summary(self) -> str:
        """The hits, and of each the strongest pair; what separates the first two."""
        lines = [f"{len(self)} hits of {named(self.query)}, {self._measure}:"]
        for hit, explanation in zip(self.hits, self.explanations):
            strongest = explanation.top_pairs(1)
            said = f": {strongest[0]}" if strongest else ""
            lines.append(f"  {hit}{said}")
        for at, hit in enumerate(self.hits):
            if lacks_picture(self.item(at)):
                lines.append(f"  {hit.key} is {NO_PICTURE}")
        if len(self) > 1:
            lines += self.why(0, 1).summary().splitlines()
        lines += dict.fromkeys(
            line for line in silence(self.explanations[0]) if self._is_of_query(line)
        )
        return "\n".join(lines)

    def _is_of_query(self, line: str) -> bool:
        """Whether what the model does not read is the query's."""
        return any(f"“{name}”" in line for name in self.query.names)

    @property
    def _measure(self) -> str:
        return unit(self.explanations[0].similarity)

    def plot(self, number: int = 8) -> "Figure":
        """
        The first hits side by side, and where each speaks for the query; of texts their
        words.

        Args:
            number: of hits.
        """
        validation.positive_int("number", number)
        return draw_hits(self, number)

    def _shown(self) -> Any:
        return self

    def _in_short(self) -> Iterator[str]:
        yield f"{self.explanations[0].model}, {named(self.query)}"
        for hit in self.hits[:3]:
            yield str(hit)

    def to_frame(self) -> "pandas.DataFrame":
        """
        The rows of all explanations (see :meth:`PairExplanation.to_frame`), each with
        its hit's rank, score and name.

        Raises:
            ImportError: without pandas.
        """
        import pandas

        frames = []
        for hit, explanation in zip(self.hits, self.explanations):
            frame = explanation.to_frame()
            for at, name in enumerate(("rank", "score", "key")):
                frame.insert(at, name, getattr(hit, name))
            frames.append(frame)
        return pandas.concat(frames, ignore_index=True)

    def save(self, directory: Union[str, Path], name: str = "hits") -> list[Path]:
        """Writes every number: of each hit DIRECTORY/NAME_RANK.json and .safetensors,
        as :meth:`PairExplanation.save` does."""
        return [
            path
            for hit, explanation in zip(self.hits, self.explanations)
            for path in explanation.save(directory, f"{name}_{hit.rank}")
        ]


@dataclass(frozen=True, repr=False)
class Why(Result):
    """
    Why one item stands before another one.

    Args:
        contrast: the difference of the two similarities, attributed; `a` is its
            preferred candidate.
        a, b: the two items.
    """

    contrast: Contrast
    a: Hit
    b: Hit

    @property
    def difference(self) -> float:
        """Of the similarities: above zero, if a is more similar."""
        return self.contrast.difference

    @cached_property
    def decided(self) -> list[Decision]:
        """What decided: first what speaks for a, the strongest before. The query's
        words, and where in both items they are; of two texts their words where they
        align; of an image as the query its regions."""
        return deciding(self.contrast)

    @property
    def rest(self) -> float:
        """What of the difference is no decision's: of stop words and special tokens, of
        the baselines, and the error of the path integral."""
        return self.difference - sum(each.value for each in self.decided)

    def summary(self) -> str:
        """Which stands before the other one, by how much, and by what."""
        lines = [self._headline()]
        lines += [f"  {decision}" for decision in self._listed()]
        lines.append(f"  {plain(self.rest)} all else")
        return "\n".join(lines)

    def _listed(self) -> list[Decision]:
        """The largest decisions, in their order."""
        sizes = sorted(self.decided, key=lambda each: -abs(each.value))[:_LISTED]
        return [each for each in self.decided if each in sizes]

    def _headline(self) -> str:
        told = unit(self.contrast.preferred.similarity)
        where, how_far = "as high as", f"({told})"
        if self.difference:
            where = "above" if self.difference > 0 else "below"
            how_far = f"by {plain(abs(self.difference))} {how_far}"
        a, b = map(self._called, (self.a, self.b))
        return f"{self.a.rank}. {a} is {where} {self.b.rank}. {b} {how_far}:"

    def _called(self, item: Hit) -> str:
        """An item's name in a sentence, a text in quotes."""
        is_text = self.contrast.candidates[0].kind == TEXT
        return quoted(item.key) if is_text else item.key

    def plot(self) -> "Figure":
        """A picture of the contrast, as a matplotlib figure."""
        return draw_contrast(self.contrast)

    def _shown(self) -> Any:
        return self.contrast

    def _in_short(self) -> Iterator[str]:
        yield self._headline()[:-1]
        yield from map(str, self._listed()[:2])

    def to_frame(self) -> "pandas.DataFrame":
        """
        What decided, as rows: a name, whether the words differ, and the value.

        Raises:
            ImportError: without pandas.
        """
        import pandas

        rows = [(each.name, each.is_changed, each.value) for each in self.decided]
        rows.append(("all else", False, self.rest))
        return pandas.DataFrame(rows, columns=["name", "changed", "value"])


@dataclass(frozen=True, repr=False)
class WhyNot(Why):
    """
    Why an item is not among the first: what the last of these has before it.

    Args:
        contrast: of the last of the first k, its preferred candidate, with the item.
        a: the last of the first k.
        b: the item.
    """

    @property
    def needed(self) -> float:
        """What the item's similarity lacks."""
        return self.difference

    def enough(self) -> list[Decision]:
        """The fewest decisions that keep the item away: if each of them were for it
        what it is for the last of the first, it would be as high; all that speak
        against it, if that is not enough."""
        found, sum_ = [], 0.0
        for decision in self.decided:
            if decision.value <= 0 or sum_ >= self.needed:
                break
            found.append(decision)
            sum_ += decision.value
        return found

    def _headline(self) -> str:
        a, b = map(self._called, (self.a, self.b))
        return (
            f"{b} is number {self.b.rank}, and lacks {plain(self.needed)} "
            f"({unit(self.contrast.preferred.similarity)}) to be as high as number "
            f"{self.a.rank}, {a}. What keeps it away:"
        )
