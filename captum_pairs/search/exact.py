"""Exact search: every item is compared, and rounding decides no order."""

from functools import cached_property

import numpy as np
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.search.items import Items
from numpy.typing import NDArray

__all__ = ["Scan"]


class Scan:
    """
    One vector compared with all items.

    In single precision, in blocks; where what that rounds could decide, again in double
    precision. Items of the same score stand in their order.

    Args:
        items: what is searched, not empty.
        query: (k,).

    Raises:
        InvalidArgumentError: naming ``directory``, for vectors that are not finite.
    """

    def __init__(self, items: Items, query: NDArray[np.float64]) -> None:
        self.items, self.query = items, query
        self.scores = items.scores(query)
        if not bool(np.isfinite(self.scores).all()):
            raise InvalidArgumentError(
                "directory",
                "vectors as they were written",
                f"NaN or infinity among those of {items.directory}; Index.check() "
                "names the file",
            )

    @cached_property
    def margin(self) -> float:
        """What the order of two scores in single precision may be wrong by."""
        return 2 * self.items.bound(self.query)

    def first(self, k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The items of the k highest scores (all, if there are no more), and these."""
        count = min(k, len(self.scores))
        least = np.partition(self.scores, -count)[-count]
        near = np.flatnonzero(self.scores >= least - self.margin)
        exact = self.items.exact(self.query, near)
        order = np.lexsort((near, -exact))[:count]
        return near[order], exact[order]

    def ranks(
        self, items: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Of some items the ranks among all, from 1, and the scores."""
        exact = self.items.exact(self.query, items)
        ranks = []
        for item, score in zip(items.tolist(), exact.tolist()):
            near = np.flatnonzero(np.abs(self.scores - score) <= self.margin)
            own = self.items.exact(self.query, near)
            above = (own > score) | ((own == score) & (near < item))
            surely = self.scores > score + self.margin
            ranks.append(int(surely.sum() + above.sum()) + 1)
        return np.array(ranks, dtype=np.int64), exact
