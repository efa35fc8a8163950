"""
Why are objects badly grounded? Causes that can be measured.

One record a span. **Badly grounded** is an object whose map's strongest cell lies
outside of it (its centre; of an object that holds no cell's centre: no part of it lies
inside). Each is assigned every cause that holds:

- **coverage**: "small", it holds no cell's centre, or is smaller than a cell; "cut", it
  touches the image's edge, or the model saw less than three quarters of it; "covered",
  less than half of it is visible, or, where that is not known, more than half of its
  box lies in others' boxes (who is in front is not known then);
- **unusual scene**: "unusual picture", the mean cosine similarity of the image's
  embedding to its ten nearest among the data is below what it is for all but 5 % of the
  images; "unusual classes", the class is less than 0.1 % of what the model was trained
  on (`trained_on`), or, if that is not given, the image has two classes that are
  together in fewer images of the data than any two of all but 5 % of the images;
- **correlated context**: the strongest cell, or more positive attribution, lies in the
  boxes of another class than in the object; more than twice that class's chance level;
  and the two classes' lift (see the matrix) has an interval above 1;
- **unexplained**: none of these.

A cause proves nothing alone: beside each stands its rate among the well grounded.

**The matrix**: of phrases of class a, the positive attribution per area in the boxes of
class b of the same image; its lift is that, divided by the same of phrases of all other
classes. A lift above 1 says that a's words light b more than others' words do.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Optional, TYPE_CHECKING

import numpy as np
import pyarrow
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.grounding.data.row import Row
from captum_pairs.grounding.maps import (
    check_model,
    embedding_of,
    Maps,
    maps_of,
    phrases_of,
)
from captum_pairs.grounding.measures import measured
from captum_pairs.grounding.studies.gaps import check_counts
from captum_pairs.grounding.studies.grounding import bounding_box, PLACE, place_of
from captum_pairs.grounding.studies.summaries import Resampling, table
from captum_pairs.grounding.study import Column, Columns, Record, Study
from captum_pairs.model import DualEncoder
from numpy.typing import NDArray

if TYPE_CHECKING:
    from captum_pairs.grounding.results import Results

__all__ = ["CAUSES", "Failures"]

Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]

# Each cause and the kinds that it has.
CAUSES: Mapping[str, tuple[str, ...]] = {
    "coverage": ("small", "cut", "covered"),
    "unusual scene": ("unusual picture", "unusual classes"),
    "correlated context": ("correlated context",),
}
_UNEXPLAINED = "unexplained"
# Shares of an object.
_SEEN, _COVERED = 0.75, 0.5
# Of images, those that are unusual; of what a model was trained on, a rare class.
_RARE, _RARE_CLASS = 0.05, 0.001
_NEIGHBOURS, _REFERENCES = 10, 1000
# Images that a pair of classes has to be in together for a lift.
_LEAST_IMAGES = 10
_EXAMPLES = 10


@dataclass(frozen=True)
class Failures(Study):
    """
    Args:
        options: of `explain`.
        of: "phrase", or "word" for the class word alone (of spans whose class word is
            known; else the phrase).
        trained_on: by class, how often it was in the data that the model was trained
            on.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    of: str = "phrase"
    trained_on: Optional[Mapping[str, int]] = None

    name: ClassVar[str] = "failures"
    needs: ClassVar[tuple[str, ...]] = ("spans",)
    keys: ClassVar[tuple[str, ...]] = ("span",)
    compared: ClassVar[Mapping[str, int]] = {"hit": 1, "energy_overlap": 1}
    classes: ClassVar[str] = "label"
    columns: ClassVar[Columns] = {
        **PLACE,
        "hit": Column(float, "the strongest cell lies in the object; null: can't"),
        "energy_overlap": Column(float, "positive attribution in it, by overlap"),
        "chance_overlap": Column(float, "of it"),
        "touched": Column(float, "the share of the strongest cell in the object"),
        "overlapped": Column(float, "the share of its box in other objects' boxes"),
        "at_edge": Column(bool, "its box touches the image's edge"),
        "other_labels": Column([str], "the other classes in the image"),
        "other_energy": Column([float], "positive attribution in boxes of each"),
        "other_chance": Column([float], "their share of the cells, by overlap"),
        "other_touched": Column([float], "the share of the strongest cell in each"),
        "image_embedding": Column([float], "once an image: null of later spans"),
        "score": Column(float, "the similarity of image and caption"),
        "residual": Column(float, "of the path integrals, relative"),
    }

    def __post_init__(self) -> None:
        if self.of not in ("phrase", "word"):
            raise InvalidArgumentError("of", "'phrase' or 'word'", repr(self.of))
        check_counts(self.trained_on)

    def records(self, row: Row, model: DualEncoder) -> list[Record]:
        if not row.spans:
            return []
        check_model(model)
        asked = []
        for span in row.spans:
            whole = span.word is None or self.of == "phrase"
            offsets = (span.start, span.end) if whole else span.word
            assert offsets is not None  # a word that is known
            asked.append((offsets[0], offsets[1]))
        kept, vectors = phrases_of(model, row.caption, asked, self.options)
        maps = maps_of(model, row.image, kept, vectors, self.options)
        embedding = embedding_of(model, 0, row.image).float().tolist()
        records = []
        for at in range(len(row.spans)):
            records.append(
                {
                    **place_of(row, at, maps),
                    **_of_object(row, at, maps),
                    "image_embedding": embedding if at == 0 else None,
                    "score": maps.score,
                    "residual": maps.residual,
                }
            )
        return records

    # ---- all rows ----------------------------------------------------------

    def tables(self, results: "Results") -> dict[str, pyarrow.Table]:
        column = results.column
        resampling = Resampling(column("group"))
        pairs = _Pairs(results)
        matrix = pairs.matrix(resampling)
        bad = badly_grounded(results)
        flags, clear = self._flags(results, pairs, matrix)
        return {
            "causes": _rates(resampling, results.column("group"), bad, flags),
            "matrix": matrix,
            "examples": _examples(results, bad, flags, clear),
            "objects": _objects(results, bad, flags),
        }

    def _flags(
        self, results: "Results", pairs: "_Pairs", matrix: pyarrow.Table
    ) -> tuple[dict[str, Flags], dict[str, Floats]]:
        """Of each kind of cause whether it holds of each object, and how clearly."""
        column = results.column
        cell = 1 / (column("rows") * column("columns"))
        area, seen, visible = column("area"), column("in_view"), column("visible")
        edge = column("at_edge").astype(bool)
        covered = np.where(np.isnan(visible), column("overlapped"), 1 - visible)
        similarity = _similarity(results)
        together = self._together(results)
        own = column("energy_overlap"), column("touched")
        correlated, lead = pairs.correlated(matrix, *own)
        flags = {
            "small": (column("cells") == 0) | (area < cell),
            "cut": edge | (seen < _SEEN),
            "covered": covered > _COVERED,
            "unusual picture": _lowest(similarity),
            "unusual classes": (
                _lowest(together) if self.trained_on is None else together < _RARE_CLASS
            ),
            "correlated context": correlated,
        }
        clear = {
            "small": -area,
            "cut": 1 - seen,
            "covered": covered,
            "unusual picture": -similarity,
            "unusual classes": -together,
            "correlated context": lead,
        }
        return flags, clear

    def _together(self, results: "Results") -> Floats:
        """Of each object how usual its class, or the classes of its image, are: a
        share of what the model was trained on, or of the data's images."""
        column = results.column
        labels = column("label")
        if self.trained_on is not None:
            total = max(sum(self.trained_on.values()), 1)
            known, codes = np.unique(labels, return_inverse=True)
            counts = [self.trained_on.get(label, 0) for label in known]
            found: Floats = np.array(counts, dtype=float)[codes] / total
            return found
        _, images = np.unique(column("group"), return_inverse=True)
        others = results.column("other_labels")
        sets: dict[int, set[str]] = {}
        for image, label, more in zip(images.tolist(), labels, others):
            sets.setdefault(image, set()).update((label, *more))
        together: Counter[tuple[str, str]] = Counter()
        for classes in sets.values():
            together.update(_pairs_of(classes))
        rarest = {
            image: min(together[pair] for pair in _pairs_of(classes))
            for image, classes in sets.items()
        }
        shares = np.array([rarest[image] for image in images.tolist()], dtype=float)
        return shares / max(len(sets), 1)


def _pairs_of(classes: set[str]) -> list[tuple[str, str]]:
    """Every two of them, and each with itself."""
    ordered = sorted(classes)
    return [(a, b) for at, a in enumerate(ordered) for b in ordered[at:]]


def _of_object(row: Row, at: int, maps: Maps) -> Record:
    span = row.spans[at]
    values = maps.values[at]
    overlap = maps.overlap(span.regions)
    found = measured(values, maps.inside(span.regions), overlap)
    strongest = values == values.max()
    left, top, right, bottom = box = bounding_box(span.regions)
    width, height = maps.size
    labels, energies, chances, touched = [], [], [], []
    apart = 1 - overlap  # what lies in the object is no context
    positive = values.clip(min=0)
    total = float(positive.sum())
    for label in sorted({thing.label for thing in row.objects} - {span.label}):
        regions = [r for t in row.objects if t.label == label for r in t.regions]
        context = np.minimum(maps.overlap(regions), apart)
        labels.append(label)
        energies.append(float(positive @ context) / total if total else 0.0)
        chances.append(float(context.mean()))
        touched.append(float(context[strongest].mean()))
    return {
        "hit": found.hit,
        "energy_overlap": found.energy_overlap,
        "chance_overlap": found.chance_overlap,
        "touched": float(overlap[strongest].mean()),
        "overlapped": _overlapped(row, at, box, maps),
        "at_edge": bool(
            left <= 0.5 or top <= 0.5 or right >= width - 0.5 or bottom >= height - 0.5
        ),
        "other_labels": labels,
        "other_energy": energies,
        "other_chance": chances,
        "other_touched": touched,
    }


def _overlapped(row: Row, at: int, box: Any, maps: Maps) -> float:
    """The share of an object's box that lies in the boxes of other objects, but for
    those that are around it as a whole (a table under a plate)."""
    own = {tuple(bounding_box([region])) for region in row.spans[at].regions}
    others = [
        other
        for thing in row.objects
        for region in thing.regions
        if (other := bounding_box([region])) not in own and not _is_around(other, box)
    ]
    if not others:
        return 0.0
    return float(maps.share_within(others, np.array([box]))[0])


def _is_around(other: Any, box: Any) -> bool:
    return bool(
        other[0] <= box[0]
        and other[1] <= box[1]
        and other[2] >= box[2]
        and other[3] >= box[3]
    )


def badly_grounded(results: "Results") -> Flags:
    """(objects,): see this module."""
    column = results.column
    hit, touched = column("hit"), column("touched")
    found: Flags = np.where(np.isnan(hit), touched == 0, hit < 0.5)
    return found


def _similarity(results: "Results") -> Floats:
    """Of each object's image the mean similarity to its ten nearest."""
    column = results.column
    _, images = np.unique(column("group"), return_inverse=True)
    there = np.array([each is not None for each in column("image_embedding")])
    found = np.full(len(images), np.nan)
    if not there.any():
        return found
    vectors = np.stack(list(column("image_embedding")[there]))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    of_image = images[there]
    # of several captions of an image one counts
    _, first = np.unique(of_image, return_index=True)
    rng = np.random.default_rng(0)
    some = rng.permutation(first)[:_REFERENCES]
    references, names = vectors[some], of_image[some]
    by_image = np.full(images.max() + 1, np.nan)
    number = min(_NEIGHBOURS, len(some) - 1)
    if number < 1:
        return found
    for start in range(0, len(first), 1024):
        chosen = first[start : start + 1024]
        cosines = vectors[chosen] @ references.T
        cosines[of_image[chosen][:, None] == names[None]] = -np.inf  # itself
        nearest = np.partition(cosines, -number, axis=1)[:, -number:]
        by_image[of_image[chosen]] = nearest.mean(1)
    return by_image[images]


def _lowest(values: Floats) -> Flags:
    """Those below what all but a few are at; of values that tie there, none."""
    there = values[np.isfinite(values)]
    if not len(there):
        return np.zeros(len(values), dtype=bool)
    found: Flags = values < np.quantile(there, _RARE)
    return found


class _Pairs:
    """Objects and the other classes in their images, one entry each."""

    def __init__(self, results: "Results") -> None:
        column = results.column
        labels = column("label")
        others = column("other_labels")
        lengths = np.array([len(each) for each in others], dtype=np.int64)
        flat = [label for each in others for label in each]
        self.names = sorted({*labels, *flat})
        index = {name: at for at, name in enumerate(self.names)}
        self.rows = np.repeat(np.arange(len(labels)), lengths)
        codes = np.array([index[label] for label in labels], dtype=np.int64)
        self.of = codes[self.rows]
        self.other = np.array([index[label] for label in flat], dtype=np.int64)
        self.energy = _flat(column("other_energy"))
        self.chance = _flat(column("other_chance"))
        self.touched = _flat(column("other_touched"))
        self.groups = column("group")[self.rows]
        self.objects = len(labels)

    def matrix(self, resampling: Resampling) -> pyarrow.Table:
        """A row for each two classes that are together in enough images."""
        names = ["label", "other", "lift", "low", "high", "rate", "base", "images"]
        number = len(self.names)
        if not len(self.rows):
            return table([], names)
        pair = self.of * number + self.other
        groups = np.unique(self.groups, return_inverse=True)[1].astype(np.int64)
        together = np.unique(np.stack([pair, groups]), axis=1)[0]
        counts = np.bincount(together, minlength=number * number)
        kept = np.flatnonzero(counts >= _LEAST_IMAGES)
        if not len(kept):
            return table([], names)
        code = np.full(number * number, len(kept))
        code[kept] = np.arange(len(kept))
        drawn = Resampling(self.groups)
        energy, energies = drawn.sums(self.energy, code[pair], len(kept) + 1)
        chance, chances = drawn.sums(self.chance, code[pair], len(kept) + 1)
        # what lights b whatever is said: phrases of every other class
        all_energy, all_energies = drawn.sums(self.energy, self.other, number)
        all_chance, all_chances = drawn.sums(self.chance, self.other, number)
        b = kept % number
        with np.errstate(invalid="ignore", divide="ignore"):
            rate = energy[:-1] / chance[:-1]
            base = (all_energy[b] - energy[:-1]) / (all_chance[b] - chance[:-1])
            rates = energies[:, :-1] / chances[:, :-1]
            bases = (all_energies[:, b] - energies[:, :-1]) / (
                all_chances[:, b] - chances[:, :-1]
            )
            lift, lifts = rate / base, rates / bases
        rows = []
        for at, both in enumerate(kept):
            draws = lifts[:, at][np.isfinite(lifts[:, at])]
            low, high = (
                np.quantile(draws, [0.025, 0.975]) if len(draws) else (np.nan,) * 2
            )
            rows.append(
                {
                    "label": self.names[both // number],
                    "other": self.names[both % number],
                    "lift": lift[at],
                    "low": low,
                    "high": high,
                    "rate": rate[at],
                    "base": base[at],
                    "images": counts[both],
                }
            )
        rows.sort(key=lambda row: -np.nan_to_num(row["low"], nan=-1.0))
        return table(rows, names)

    def correlated(
        self, matrix: pyarrow.Table, own: Floats, touched: Floats
    ) -> tuple[Flags, Floats]:
        """Whether another class's boxes have more than the object, and by how much."""
        lifted = {
            (row["label"], row["other"])
            for row in matrix.to_pylist()
            if row["low"] is not None and row["low"] > 1
        }
        is_lifted = np.array(
            [
                (self.names[a], self.names[b]) in lifted
                for a, b in zip(self.of.tolist(), self.other.tolist())
            ],
            dtype=bool,
        )
        lead = self.energy - own[self.rows]
        is_more = (lead > 0) | (self.touched > touched[self.rows])
        holds = is_lifted & is_more & (self.energy > 2 * self.chance)
        flags = np.zeros(self.objects, dtype=bool)
        flags[self.rows[holds]] = True
        leads = np.full(self.objects, -np.inf)
        np.maximum.at(leads, self.rows, np.where(holds, lead, -np.inf))
        return flags, leads


def _flat(lists: NDArray[Any]) -> Floats:
    return np.concatenate([np.zeros(0), *lists]) if len(lists) else np.zeros(0)


def _by_cause(flags: Mapping[str, Flags]) -> dict[str, Flags]:
    """Of the causes, of each kind of them, and of none."""
    found: dict[str, Flags] = {}
    for cause, kinds in CAUSES.items():
        found[cause] = np.any([flags[kind] for kind in kinds], axis=0)
        found |= {kind: flags[kind] for kind in kinds if kind != cause}
    found[_UNEXPLAINED] = ~np.any(list(found.values()), axis=0)
    return found


def _rates(
    resampling: Resampling,
    groups: NDArray[Any],
    bad: Flags,
    flags: Mapping[str, Flags],
) -> pyarrow.Table:
    """Of each cause its rate among the badly and among the well grounded objects, and
    how many times as frequent it is there, with an interval if it is in enough images:
    of few, resampling does not see how far the ratio may be off."""
    codes = np.where(bad, 0, 1).astype(np.int64)
    rows = []
    for name, holds in _by_cause(flags).items():
        rate = resampling.mean(holds.astype(float), codes, 2)
        low, high = rate.interval()
        with np.errstate(invalid="ignore", divide="ignore"):
            value = rate.value[0] / rate.value[1]
            ratios = rate.draws[:, 0] / rate.draws[:, 1]
        ratios = ratios[np.isfinite(ratios)]
        ends = np.quantile(ratios, [0.025, 0.975]) if len(ratios) else (np.nan,) * 2
        if len(np.unique(groups[holds])) < _LEAST_IMAGES:
            ends = (np.nan,) * 2
        cause = next((c for c, kinds in CAUSES.items() if name in kinds), name)
        rows.append(
            {
                "cause": cause,
                "kind": name,
                "badly_grounded": int((holds & bad).sum()),
                "rate": rate.value[0],
                "rate_low": low[0],
                "rate_high": high[0],
                "base_rate": rate.value[1],
                "base_rate_low": low[1],
                "base_rate_high": high[1],
                "lift": value if np.isfinite(value) else np.nan,
                "lift_low": ends[0],
                "lift_high": ends[1],
            }
        )
    return table(rows, list(rows[0]))


def _examples(
    results: "Results",
    bad: Flags,
    flags: Mapping[str, Flags],
    clear: Mapping[str, Floats],
) -> pyarrow.Table:
    """The clearest of each cause: of each kind the most extreme objects, and of the
    unexplained those whose maps have least in the object."""
    column = results.column
    none = _by_cause(flags)[_UNEXPLAINED]
    kinds = {**flags, _UNEXPLAINED: none}
    how_clear = {**clear, _UNEXPLAINED: -column("energy_overlap")}
    rows = []
    for kind, holds in kinds.items():
        chosen = np.flatnonzero(holds & bad)
        order = chosen[np.argsort(-how_clear[kind][chosen], kind="stable")][:_EXAMPLES]
        cause = next((c for c, those in CAUSES.items() if kind in those), kind)
        for rank, at in enumerate(order.tolist()):
            rows.append(
                {
                    "cause": cause,
                    "kind": kind,
                    "rank": rank + 1,
                    "clearness": how_clear[kind][at],
                    **{
                        name: column(name)[at]
                        for name in ("place", "id", "span", "phrase", "label")
                    },
                }
            )
    names = ["cause", "kind", "rank", "clearness"]
    return table(rows, [*names, "place", "id", "span", "phrase", "label"])


def _objects(
    results: "Results", bad: Flags, flags: Mapping[str, Flags]
) -> pyarrow.Table:
    """Every object: whether it is badly grounded, and which causes hold."""
    kept = results.select(["place", "id", "span", "label"])
    kept = kept.append_column("badly_grounded", pyarrow.array(bad))
    for name, holds in _by_cause(flags).items():
        kept = kept.append_column(name, pyarrow.array(holds))
    return kept
