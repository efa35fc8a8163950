"""Two wordings of a query: what they find, what moved, and which words moved it."""

import difflib
import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from captum_pairs.attr import validation
from captum_pairs.explain.result import named
from captum_pairs.explain.sides import InputContributions
from captum_pairs.inputs import ExplainedInput
from captum_pairs.models.encoder_pair import EncoderPair
from captum_pairs.models.equality import ByContent
from captum_pairs.search.hits import Hit
from captum_pairs.show.pictures import draw_paraphrases
from captum_pairs.show.reading import unknown_words
from captum_pairs.show.wording import instead_of, plain, unit
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

__all__ = ["Move", "Mover", "Paraphrases", "paraphrases_of"]

_LISTED = 5


@dataclass(frozen=True)
class Move:
    """
    An item that at least one of two wordings has among its first.

    Args:
        key, number: its name and its place in the index.
        ranks: by the first and by the second wording, from 1.
        scores: the similarities with both.
        mover: the words that made most of the difference of its scores, beside what
            they made of the other items'.
    """

    key: str
    number: int
    ranks: tuple[int, int]
    scores: tuple[float, float]
    mover: str

    @property
    def change(self) -> int:
        """By how many ranks the second wording has it higher."""
        return self.ranks[0] - self.ranks[1]

    def __str__(self) -> str:
        before, after = self.ranks
        return (
            f"{self.key}: {before} to {after} ({plain(self.scores[0])} to "
            f"{plain(self.scores[1])}), moved most by {self.mover}"
        )


@dataclass(frozen=True)
class Mover:
    """
    Words that stand in the same place in two wordings.

    Args:
        query, other: the words; "" where a wording has none.
        is_changed: whether they are not the same.
        weight: how much they move items apart: the mean, over the items, of the size of
            what they make of an item's difference of scores, less what they make of it
            for all of these items alike.
    """

    query: str
    other: str
    is_changed: bool
    weight: float

    @property
    def name(self) -> str:
        """In words: “disc” instead of “circle”."""
        return instead_of(self.other, self.query)

    def __str__(self) -> str:
        return f"{self.name}: {self.weight:.3f}"


@dataclass(frozen=True, repr=False)
class Paraphrases(ByContent):
    """
    What two wordings find in the same index.

    The difference of an item's scores is the inner product of its embedding with the
    difference of the two wordings' embeddings, and these are sums of what their words
    contribute (up to the baselines, and the error of the path integrals): so every
    item's move is attributed to words, without anything being computed of the items.

    Args:
        model: what was loaded.
        query, other: the two wordings.
        similarity: "cosine" or "dot".
        first, second: what each finds, the same number of hits.
        keys, items: of the m items that are in one of the lists or in both: names, and
            places in the index, in their order.
        ranks: (2, m), of the items among all, by the first and the second wording.
        scores: (2, m).
        words: the n groups of words that stand in the same place; "" for none.
        values: (m, n), what each group makes of an item's difference of scores, the
            second wording's minus the first's.
        size: how many items the index has.
    """

    model: str
    query: ExplainedInput
    other: ExplainedInput
    similarity: str
    first: tuple[Hit, ...]
    second: tuple[Hit, ...]
    keys: tuple[str, ...]
    items: tuple[int, ...]
    ranks: Tensor
    scores: Tensor
    words: tuple[tuple[str, str], ...]
    values: Tensor
    size: int

    # ---- how far the lists agree -------------------------------------------

    @property
    def overlap(self) -> float:
        """The share of each list's items that the other one has."""
        return len(self._common(len(self.first))) / len(self.first)

    @property
    def jaccard(self) -> float:
        """Items that both lists have, by those that at least one has (JS@k of Cheng et
        al., "Adapting Dual-encoder Vision-language Models for Paraphrased Retrieval",
        https://arxiv.org/abs/2405.03190)."""
        return len(self._common(len(self.first))) / len(self.keys)

    @property
    def average_overlap(self) -> float:
        """The mean of the overlaps of the first 1, 2, ..., k items (AO@k of the same):
        what stands first counts most."""
        depths = range(1, len(self.first) + 1)
        return float(np.mean([len(self._common(depth)) / depth for depth in depths]))

    @property
    def rank_correlation(self) -> float:
        """Spearman's, from -1 to 1, of the items of both lists by their ranks among
        these; NaN for fewer than two."""
        count = len(self.keys)
        if count < 2:
            return float("nan")
        ranks = self.ranks.argsort(dim=1).argsort(dim=1).double()
        squares = float(((ranks[0] - ranks[1]) ** 2).sum())
        return 1.0 - 6.0 * squares / (count * (count**2 - 1))

    def _common(self, depth: int) -> set[int]:
        lists = (self.first, self.second)
        found = [{hit.number for hit in hits[:depth]} for hits in lists]
        return found[0] & found[1]

    # ---- what moved --------------------------------------------------------

    @property
    def _apart(self) -> Tensor:
        """(m, n): values without what moves all items alike, and no rank."""
        return self.values - self.values.mean(0)

    def moved(self, number: int = 5) -> list[Move]:
        """The items whose rank changed most; of those alike, whose score did."""
        validation.positive_int("number", number, 0)
        apart = self._apart
        names = [instead_of(other, query) for query, other in self.words]
        changed = self._changed()
        moves = []
        for at, key in enumerate(self.keys):
            ranks, scores = self.ranks[:, at].tolist(), self.scores[:, at].tolist()
            best = max(changed, key=lambda group: abs(float(apart[at, group])))
            pair = (ranks[0], ranks[1]), (scores[0], scores[1])
            moves.append(Move(key, self.items[at], *pair, names[best]))
        moves = [move for move in moves if move.change]
        moves.sort(key=lambda m: (-abs(m.change), -abs(m.scores[1] - m.scores[0])))
        return moves[:number]

    def movers(self) -> list[Mover]:
        """The words by how much they moved items, the strongest first: those that
        changed, then those that both wordings have."""
        weights = self._apart.abs().mean(0).tolist()
        changed = set(self._changed())
        found = [
            Mover(query, other, at in changed, weight)
            for at, ((query, other), weight) in enumerate(zip(self.words, weights))
        ]
        return sorted(found, key=lambda mover: (not mover.is_changed, -mover.weight))

    def _changed(self) -> list[int]:
        """Groups whose words are not the same; all, if only their order is."""
        found = [
            at
            for at, (query, other) in enumerate(self.words)
            if query.casefold() != other.casefold()
        ]
        return found or list(range(len(self.words)))

    @property
    def rest(self) -> Tensor:
        """(m,): what of the items' differences no word makes: special tokens, the
        baselines, and the error of the path integrals."""
        return self.scores[1] - self.scores[0] - self.values.sum(1)

    # ---- in words ----------------------------------------------------------

    def __repr__(self) -> str:
        return f"<Paraphrases: {'; '.join(self._in_short())}>"

    def _in_short(self) -> Iterator[str]:
        yield f"{self.model}, {named(self.query)} and {named(self.other)}"
        yield self._agreement()
        yield f"moved most by {self.movers()[0].name}"

    def _agreement(self) -> str:
        count = len(self.first)
        both = len(self._common(count))
        said = f"{both} of the first {count} are the same"
        if len(self.keys) > 1:
            said += f", rank correlation {self.rank_correlation:+.2f}"
        return said

    def summary(self) -> str:
        """How far the lists agree, which items moved most, and what moved them."""
        lines = [
            f"{named(self.query)} and {named(self.other)}, of {self.size} items: "
            f"{self._agreement()}, average overlap {self.average_overlap:.2f}"
        ]
        moved = self.moved(_LISTED)
        lines.append("items that moved most:" if moved else "no item moved")
        lines += [f"  {move}" for move in moved]
        lines.append(
            "words that moved them, by how far they move items apart "
            f"({unit(self.similarity)}):"
        )
        lines += [f"  {mover}" for mover in self.movers() if mover.is_changed]
        lines += dict.fromkeys([*unknown_words(self.query), *unknown_words(self.other)])
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """The summary, as notebooks show it."""
        return f"<pre>{html.escape(self.summary())}</pre>"

    def plot(self) -> "Figure":
        """The two lists side by side, and the words that moved items, as a matplotlib
        figure."""
        return draw_paraphrases(self)

    def to_frame(self) -> "pandas.DataFrame":
        """
        A row for each item and each group of words: the item's name, ranks and scores,
        the words, and what they make of its difference of scores; with a row for the
        rest these add up to it.

        Raises:
            ImportError: without pandas.
        """
        import pandas

        rest = self.rest.tolist()
        rows = []
        for at, key in enumerate(self.keys):
            ranks, scores = self.ranks[:, at].tolist(), self.scores[:, at].tolist()
            values = self.values[at].tolist()
            for (query, other), value in zip(self.words, values):
                rows.append((key, *ranks, *scores, query, other, value))
            rows.append((key, *ranks, *scores, "", "", rest[at]))
        columns = "key rank other_rank score other_score words other_words value"
        return pandas.DataFrame(rows, columns=columns.split())


def paraphrases_of(
    model: EncoderPair,
    asked: tuple[InputContributions, InputContributions],
    lists: tuple[Sequence[Hit], Sequence[Hit]],
    keys: Sequence[str],
    items: NDArray[np.int64],
    ranks: NDArray[np.int64],
    scores: NDArray[np.float64],
    vectors: Tensor,
    size: int,
) -> Paraphrases:
    """
    See :meth:`captum_pairs.search.index.Index.paraphrases`.

    Args:
        asked: what the two wordings contribute.
        lists: what they find.
        keys, items, vectors: of all that is found, names, places and embeddings (m, k).
        ranks, scores: (2, m) of these.
        size: how many items the index has.
    """
    query, other = (each.input for each in asked)
    # (features, m): what every word makes of every item's score
    tables = [each.values.double() @ vectors.T for each in asked]
    words, columns = [], []
    for groups in _aligned(query, other):
        names = [
            " ".join(side.features[i].name for i in group)
            for side, group in zip((query, other), groups)
        ]
        words.append((names[0], names[1]))
        sums = [table[list(group)].sum(0) for table, group in zip(tables, groups)]
        columns.append(sums[1] - sums[0])
    return Paraphrases(
        model.name,
        query,
        other,
        model.similarity,
        tuple(lists[0]),
        tuple(lists[1]),
        tuple(keys),
        tuple(items.tolist()),
        torch.from_numpy(ranks),
        torch.from_numpy(scores),
        tuple(words),
        torch.stack(columns, dim=1),
        size,
    )


def _aligned(
    query: ExplainedInput, other: ExplainedInput
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The features of both wordings that stand in the same place; () for none. Words
    that take the place of as many are aligned one by one."""
    names = [
        [feature.name.casefold() for feature in side.features[: side.count]]
        for side in (query, other)
    ]
    matcher = difflib.SequenceMatcher(None, names[0], names[1], autojunk=False)
    found: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    for _, a, a_end, b, b_end in matcher.get_opcodes():
        if a_end - a == b_end - b:
            found += [((i,), (j,)) for i, j in zip(range(a, a_end), range(b, b_end))]
        else:
            found.append((tuple(range(a, a_end)), tuple(range(b, b_end))))
    return found
