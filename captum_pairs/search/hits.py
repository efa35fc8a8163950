"""What a search finds: items and their scores."""

from dataclasses import dataclass

from captum_pairs.show.wording import plain

__all__ = ["Hit"]


@dataclass(frozen=True)
class Hit:
    """
    An item of an index, found by a query.

    Args:
        rank: from 1.
        score: the similarity of the query's embedding with the kept one.
        key: the item's name: a path or a text as it was given, or what it was called.
        number: its place in the index, from 0.
    """

    rank: int
    score: float
    key: str
    number: int

    def __str__(self) -> str:
        return f"{self.rank}. {plain(self.score)} {self.key}"
