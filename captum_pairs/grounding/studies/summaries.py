"""
Means with intervals: resampled by image, since the rows of one are not independent.

1000 draws, with replacement, of as many images as there are. More than 4000 images are
resampled in 4000 random bundles: a mean varies over these as it does over images, and a
million rows take seconds. The same rows give the same intervals.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Optional

import numpy as np
import pyarrow
from numpy.typing import NDArray

__all__ = ["by_group", "Estimate", "figures", "Resampling", "table"]

Floats = NDArray[np.float64]

_DRAWS = 1000
_BUNDLES = 4000
_SEED = 0
# Of intervals.
LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class Estimate:
    """
    A figure of each of G classes.

    Args:
        value: (G,); NaN where there are no rows.
        draws: (draws, G), the same of resampled images.
        rows: (G,), how many rows have a value.
        images: (G,), in how many images.
    """

    value: Floats
    draws: Floats
    rows: NDArray[np.int64]
    images: NDArray[np.int64]

    def interval(self, level: float = LEVEL) -> tuple[Floats, Floats]:
        """Each class's own interval by percentiles, (G,) and (G,); NaN for one that is
        in a single image, which resampling can't tell anything of."""
        single = self.images < 2
        low, high = _percentiles(self.draws, level)
        return np.where(single, np.nan, low), np.where(single, np.nan, high)

    def simultaneous(
        self, among: NDArray[np.bool_], level: float = LEVEL
    ) -> tuple[Floats, Floats]:
        """
        Intervals that all hold at once with this probability: as many standard errors
        wide as the largest deviation among the classes is in that share of the draws.

        Args:
            among: (G,), the classes that they are to hold of; others have none (NaN).
        """
        errors = np.where(among, self.error, np.nan)
        with np.errstate(invalid="ignore", divide="ignore"):
            t = np.abs(self.draws - self.value) / errors
        t = np.where(np.isfinite(t), t, 0.0)
        t = t[:, among]
        width = np.quantile(t.max(1), level) * errors if t.size else errors
        return self.value - width, self.value + width

    @cached_property
    def error(self) -> Floats:
        """(G,): standard errors."""
        return _over_draws(np.nanstd, self.draws)

    def __sub__(self, other: "Estimate") -> "Estimate":
        """A difference, of the same resampled images."""
        return self.with_(self.value - other.value, self.draws - other.draws)

    def with_(self, value: Floats, draws: Floats) -> "Estimate":
        """Something else of the same rows."""
        return Estimate(value, draws, self.rows, self.images)

    def above(self, chance: "Estimate") -> "Estimate":
        """(value - chance) / (1 - chance): 0 at chance, 1 if nothing is missed."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.with_(
                (self.value - chance.value) / (1 - chance.value),
                (self.draws - chance.draws) / (1 - chance.draws),
            )


def _percentiles(draws: Floats, level: float) -> tuple[Floats, Floats]:
    low, high = (1 - level) / 2, (1 + level) / 2
    if not np.isnan(draws).any():
        found = np.quantile(draws, [low, high], axis=0)
        return found[0], found[1]
    return (
        _over_draws(lambda d, axis: np.nanquantile(d, low, axis=axis), draws),
        _over_draws(lambda d, axis: np.nanquantile(d, high, axis=axis), draws),
    )


def _over_draws(function: Any, draws: Floats) -> Floats:
    """Of classes that are in any draw; NaN of the others."""
    found = np.full(draws.shape[1], np.nan)
    there = ~np.isnan(draws).all(0)
    if there.any():
        found[there] = function(draws[:, there], axis=0)
    return found


class Resampling:
    """
    Images drawn again and again.

    Args:
        groups: (rows,), what each row's image is called.
    """

    def __init__(self, groups: Sequence[str] | NDArray[Any]) -> None:
        names, codes = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
        self.images = codes.astype(np.int64)
        rng = np.random.default_rng(_SEED)
        count = min(len(names), _BUNDLES)
        self._bundles = self.images
        if len(names) > _BUNDLES:
            self._bundles = (rng.permutation(len(names)) % _BUNDLES)[self.images]
        self.number = len(names)
        self._count = count
        # how often each is drawn, (draws, images)
        self._weights = np.zeros((_DRAWS, 0))
        if count:
            drawn = rng.multinomial(count, np.full(count, 1 / count), _DRAWS)
            self._weights = drawn.astype(np.float64)

    def sums(
        self, values: Floats, classes: NDArray[np.int64], number: int
    ) -> tuple[Floats, Floats]:
        """Of each class (number,), and the same of every draw (draws, number)."""
        places = self._bundles * number + classes
        flat = np.bincount(places, values, minlength=self._count * number)
        by_bundle = flat.reshape(self._count, number)
        return by_bundle.sum(0), self._weights @ by_bundle

    def mean(
        self,
        values: Any,
        classes: Optional[NDArray[np.int64]] = None,
        number: int = 1,
    ) -> Estimate:
        """
        Means of each class.

        Args:
            values: (rows,); NaN counts nowhere.
            classes: (rows,), from 0 to number - 1; below 0: in none. Default: one class
            number: of classes.
        """
        values = np.asarray(values, dtype=float)
        if classes is None:
            classes = np.zeros(len(values), dtype=np.int64)
        there = np.isfinite(values) & (classes >= 0)
        safe = np.where(classes >= 0, classes, 0)
        total, totals = self.sums(np.where(there, values, 0.0), safe, number)
        count, counts = self.sums(there.astype(float), safe, number)
        pairs = np.unique(self.images[there] * number + classes[there])
        images = np.bincount(pairs % number, minlength=number)
        with np.errstate(invalid="ignore", divide="ignore"):
            return Estimate(
                total / count, totals / counts, count.astype(np.int64), images
            )

    def others(self, values: Any, classes: NDArray[np.int64], number: int) -> Estimate:
        """For each class the mean of all rows that are of another one."""
        values = np.asarray(values, dtype=float)
        there = np.isfinite(values) & (classes >= 0)
        safe = np.where(classes >= 0, classes, 0)
        total, totals = self.sums(np.where(there, values, 0.0), safe, number)
        count, counts = self.sums(there.astype(float), safe, number)
        with np.errstate(invalid="ignore", divide="ignore"):
            value = (total.sum() - total) / (count.sum() - count)
            draws = (totals.sum(1, keepdims=True) - totals) / (
                counts.sum(1, keepdims=True) - counts
            )
        rest = (count.sum() - count).astype(np.int64)
        return Estimate(value, draws, rest, np.full(number, self.number))


# ---- tables ------------------------------------------------------------------


def table(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> pyarrow.Table:
    """Rows as a table with these columns; NaN is null."""
    columns = {name: [_plain(row.get(name)) for row in rows] for name in names}
    return pyarrow.table(columns)


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and value != value else value


def figures(
    resampling: Resampling, measures: Mapping[str, Mapping[str, Any]]
) -> pyarrow.Table:
    """
    Measures of all rows.

    Args:
        measures: by name, each with what it is "of" ("model", "chance", ...) and the
            rows' values.

    Returns:
        a row for each measure and what it is of, and for the difference of the model to
        each other one (of the rows that have both): measure, of, value, low, high,
        rows, images.
    """
    rows = []
    for measure, of in measures.items():
        for name, values in of.items():
            rows.append(_figure(measure, name, resampling.mean(values)))
        for name, values in of.items():
            if name != "model":
                difference = np.asarray(of["model"], float) - np.asarray(values, float)
                estimate = resampling.mean(difference)
                rows.append(_figure(measure, f"model - {name}", estimate))
    return table(rows, ["measure", "of", "value", "low", "high", "rows", "images"])


def _figure(measure: str, name: str, estimate: Estimate) -> dict[str, Any]:
    (low,), (high,) = estimate.interval()
    return {
        "measure": measure,
        "of": name,
        "value": estimate.value[0],
        "low": low,
        "high": high,
        "rows": estimate.rows[0],
        "images": estimate.images[0],
    }


def by_group(
    resampling: Resampling,
    name: str,
    groups: Any,
    measures: Mapping[str, Any],
    order: Optional[Sequence[Any]] = None,
) -> pyarrow.Table:
    """
    Measures of each group of rows.

    Args:
        name: the first column's.
        groups: (rows,), what each row belongs to.
        measures: by name, each (rows,).
        order: of the groups. Default: sorted

    Returns:
        a row for each group: its name, rows, images, and of each measure NAME,
        NAME_low, NAME_high; rows and images are those of the first measure.
    """
    groups = np.asarray(groups)
    known = list(np.unique(groups)) if order is None else list(order)
    codes = np.full(len(groups), -1, dtype=np.int64)
    for code, group in enumerate(known):
        codes[groups == group] = code
    rows: list[dict[str, Any]] = [{name: group} for group in known]
    for at, (measure, values) in enumerate(measures.items()):
        estimate = resampling.mean(values, codes, len(known))
        low, high = estimate.interval()
        for code, row in enumerate(rows):
            if at == 0:
                row["rows"] = estimate.rows[code]
                row["images"] = estimate.images[code]
            row[measure] = estimate.value[code]
            row[f"{measure}_low"], row[f"{measure}_high"] = low[code], high[code]
    columns = [f"{m}{end}" for m in measures for end in ("", "_low", "_high")]
    return table(rows, [name, "rows", "images", *columns])
