"""
Which classes does a model not know?

One record a span: how well the whole phrase points at its object, and how well the
*class word alone* does ("cat" of "a brown cat"): a colour can find an object whose
shape is unknown. Where the class word is not known, or the phrase is no more than it,
the two are the same.

**The rule.** g = (m - chance) / (1 - chance) of the class word, m being the mean of the
measure over a class's objects and chance the mean of their chance levels: 0 at chance,
1 if nothing is missed. With intervals that hold for all classes at once at 95 %,

- "too few": the class has objects in fewer than ten images;
- "unknown": g is not told from chance (its interval reaches 0 or below);
- "shaky": above chance, but below the other classes (the interval of its g less that of
  all their objects lies below 0);
- "known": else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Optional, TYPE_CHECKING

import numpy as np
import pyarrow
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.grounding.data.row import Row
from captum_pairs.grounding.maps import check_model, maps_of, phrases_of
from captum_pairs.grounding.measures import measured
from captum_pairs.grounding.studies.grounding import PLACE, place_of
from captum_pairs.grounding.studies.summaries import Resampling, table
from captum_pairs.grounding.study import Column, Columns, Record, Study
from captum_pairs.model import DualEncoder
from numpy.typing import NDArray

if TYPE_CHECKING:
    from captum_pairs.grounding.results import Results

__all__ = ["Gaps", "rank_correlation"]

# Of images with a class, the least that it is judged by.
LEAST_IMAGES = 10
_MEASURES = ("hit", "energy", "energy_overlap")
_OF = {"phrase": "of the phrase", "word": "of the class word alone"}


@dataclass(frozen=True)
class Gaps(Study):
    """
    Args:
        options: of `explain`.
        measure: what classes are judged by: "hit", "energy" or "energy_overlap".
        trained_on: by class, how often it was in the data that the model was trained
            on; tables then have grounding against it.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    measure: str = "hit"
    trained_on: Optional[Mapping[str, int]] = None

    name: ClassVar[str] = "gaps"
    needs: ClassVar[tuple[str, ...]] = ("spans",)
    keys: ClassVar[tuple[str, ...]] = ("span",)
    compared: ClassVar[Mapping[str, int]] = {
        f"{of}_{measure}": 1 for of in _OF for measure in _MEASURES
    }
    classes: ClassVar[str] = "label"
    columns: ClassVar[Columns] = {
        **PLACE,
        **{
            f"{of}_{measure}": Column(float, f"{measure} {what}")
            for of, what in _OF.items()
            for measure in _MEASURES
        },
        "chance": Column(float, "of hit and energy, for this object"),
        "chance_overlap": Column(float, "of energy_overlap"),
        "score": Column(float, "the similarity of image and caption"),
        "residual": Column(float, "of the path integrals, relative"),
    }

    def __post_init__(self) -> None:
        if self.measure not in _MEASURES:
            expected = f"one of {', '.join(_MEASURES)}"
            raise InvalidArgumentError("measure", expected, repr(self.measure))
        check_counts(self.trained_on)

    def records(self, row: Row, model: DualEncoder) -> list[Record]:
        if not row.spans:
            return []
        check_model(model)
        asked = [
            offsets
            for span in row.spans
            for offsets in ((span.start, span.end), span.word)
            if offsets is not None
        ]
        # each once: the class word may be the phrase, or that of two spans
        asked = list(dict.fromkeys((start, end) for start, end in asked))
        kept, vectors = phrases_of(model, row.caption, asked, self.options)
        maps = maps_of(model, row.image, kept, vectors, self.options)
        values = dict(zip(asked, maps.values))
        records = []
        for at, span in enumerate(row.spans):
            inside = maps.inside(span.regions)
            overlap = maps.overlap(span.regions)
            phrase = (span.start, span.end)
            word = phrase if span.word is None else (span.word[0], span.word[1])
            record = place_of(row, at, maps)
            for of, offsets in (("phrase", phrase), ("word", word)):
                found = measured(values[offsets], inside, overlap)
                for measure in _MEASURES:
                    record[f"{of}_{measure}"] = getattr(found, measure)
            record["chance"] = found.chance if inside.any() else None
            record["chance_overlap"] = found.chance_overlap
            record["score"], record["residual"] = maps.score, maps.residual
            records.append(record)
        return records

    def tables(self, results: "Results") -> dict[str, pyarrow.Table]:
        column = results.column
        labels, codes = np.unique(column("label"), return_inverse=True)
        resampling = Resampling(column("group"))
        number = len(labels)
        of_overlap = self.measure == "energy_overlap"
        chances = column("chance_overlap" if of_overlap else "chance")
        chance = resampling.mean(chances, codes, number)
        others_chance = resampling.others(chances, codes, number)
        enough = chance.images >= LEAST_IMAGES
        columns: dict[str, Any] = {
            "label": labels,
            "objects": chance.rows,
            "images": chance.images,
            "chance": chance.value,
        }
        for of in ("word", "phrase"):
            values = column(f"{of}_{self.measure}")
            mean = resampling.mean(values, codes, number)
            above = mean.above(chance)
            others = resampling.others(values, codes, number).above(others_chance)
            less = above - others
            low, high = above.simultaneous(enough)
            less_low, less_high = less.simultaneous(enough)
            columns |= {
                f"{of}_{self.measure}": mean.value,
                f"{of}_g": above.value,
                f"{of}_g_low": low,
                f"{of}_g_high": high,
                f"{of}_less_others": less.value,
                f"{of}_less_others_low": less_low,
                f"{of}_less_others_high": less_high,
            }
        verdicts = [
            verdict(images, low, high)
            for images, low, high in zip(
                columns["images"],
                columns["word_g_low"],
                columns["word_less_others_high"],
            )
        ]
        columns = {"label": labels, "verdict": np.array(verdicts), **columns}
        tables = {}
        if self.trained_on is not None:
            seen = np.array([self.trained_on.get(label, 0) for label in labels])
            columns["trained_on"] = seen
            tables["against_training"] = _against(columns, seen)
        order = np.argsort(columns["word_g"], kind="stable")  # NaN last
        rows = [{name: columns[name][at] for name in columns} for at in order]
        return {"classes": table(rows, list(columns)), **tables}


def check_counts(trained_on: Any) -> None:
    """
    Refuse what are no counts of classes.

    Raises:
        InvalidArgumentError: naming ``trained_on``.
    """
    if trained_on is not None and not isinstance(trained_on, Mapping):
        expected = "counts of classes, as grounding.class_counts (--trained-on) reads"
        raise InvalidArgumentError("trained_on", expected, repr(trained_on))


def verdict(images: int, low: float, less_high: float) -> str:
    """
    The rule (see this module).

    Args:
        images: in how many the class is.
        low: the lower end of its g.
        less_high: the upper end of its g less the others'.
    """
    if images < LEAST_IMAGES:
        return "too few"
    if not low > 0:
        return "unknown"
    return "shaky" if less_high < 0 else "known"


def _against(columns: Mapping[str, Any], seen: NDArray[np.int64]) -> pyarrow.Table:
    """How far does what a model saw explain what it knows: over the classes of enough
    images, the rank correlation of g with how often the class was in the training data,
    and an interval by resampling classes."""
    enough = columns["images"] >= LEAST_IMAGES
    rows = []
    for of in ("word", "phrase"):
        g, counts = columns[f"{of}_g"][enough], seen[enough].astype(float)
        rng = np.random.default_rng(0)
        draws = []
        for _ in range(1000 if len(g) > 2 else 0):
            chosen = rng.integers(len(g), size=len(g))
            draws.append(rank_correlation(g[chosen], counts[chosen]))
        value = rank_correlation(g, counts)
        known = [draw for draw in draws if draw == draw]
        low, high = np.quantile(known, [0.025, 0.975]) if known else (np.nan,) * 2
        rows.append(
            {
                "of": of,
                "rank_correlation": value,
                "low": low,
                "high": high,
                "explained": value**2,
                "classes": len(g),
            }
        )
    names = ["of", "rank_correlation", "low", "high", "explained", "classes"]
    return table(rows, names)


def rank_correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Spearman's; NaN, if one of the two does not vary."""
    ranks = [_ranks(values) for values in (one, other)]
    deviations = [rank - rank.mean() for rank in ranks] if len(one) else ranks
    norms = [float(np.sqrt(d @ d)) for d in deviations]
    if not all(norms):
        return float("nan")
    return float(deviations[0] @ deviations[1]) / (norms[0] * norms[1])


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Those that tie share their mean rank."""
    _, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    found: NDArray[np.float64] = (ends - (counts - 1) / 2)[codes]
    return found
