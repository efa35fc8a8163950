"""
Does a model account for a mismatch?

One record a row that has a negative: whether the wrong caption scores lower; of the
changed word, whether its attributions sum to less than zero, to less than those of the
right word in its place, and to the least of all words of the wrong caption; and where
in the image it lights, if the place of what it stands for is known.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Optional, TYPE_CHECKING

import numpy as np
import pyarrow
from captum_pairs.explain.sides import InputContributions
from captum_pairs.grounding.data.row import Offsets, Row, Span
from captum_pairs.grounding.maps import (
    check_model,
    contributions_of,
    embedding_of,
    maps_of,
    phrase_vector,
)
from captum_pairs.grounding.measures import measured
from captum_pairs.grounding.studies.summaries import by_group, figures, Resampling
from captum_pairs.grounding.study import Column, Columns, Record, Study
from captum_pairs.model import DualEncoder

if TYPE_CHECKING:
    from captum_pairs.grounding.results import Results

__all__ = ["Negatives"]


@dataclass(frozen=True)
class Negatives(Study):
    """
    Args:
        options: of `explain`.
    """

    options: Mapping[str, Any] = field(default_factory=dict)

    name: ClassVar[str] = "negatives"
    needs: ClassVar[tuple[str, ...]] = ("negative",)
    compared: ClassVar[Mapping[str, int]] = dict.fromkeys(
        ["score_lower", "wrong_negative", "wrong_below_right", "lowest"], 1
    )
    classes: ClassVar[str] = "kind"
    columns: ClassVar[Columns] = {
        "negative": Column(str, "the wrong caption"),
        "kind": Column(str, "of the change"),
        "right": Column(str, "the words that are right; null, if not known"),
        "wrong": Column(str, "the words in their place; null, if not known"),
        "score": Column(float, "the similarity of image and caption"),
        "score_negative": Column(float, "of image and wrong caption"),
        "score_lower": Column(float, "the wrong caption scores lower: 1, tie 0.5, 0"),
        "right_total": Column(float, "the right words' attributions, summed"),
        "wrong_total": Column(float, "the wrong words', in the wrong caption"),
        "wrong_negative": Column(float, "their sum is below zero: 1 or 0"),
        "wrong_below_right": Column(float, "it is below the right words': 1 or 0"),
        "lowest": Column(float, "no word of the wrong caption sums to less: 1 or 0"),
        "lowest_chance": Column(float, "of it: 1 in as many words as there are"),
        "words": Column(int, "of the wrong caption that are not stop words"),
        "label": Column(str, "of the object that was named; null, if not known"),
        "right_hit": Column(float, "the right words' strongest cell is in it"),
        "wrong_hit": Column(float, "the wrong words' strongest cell is in it"),
        "right_energy": Column(float, "of the right words, positive in the object"),
        "wrong_energy": Column(float, "of the wrong words, positive in the object"),
        "wrong_against": Column(float, "of the wrong words, negative in the object"),
        "chance": Column(float, "of these, for this object"),
        "residual": Column(float, "of the path integrals, relative"),
    }

    def records(self, row: Row, model: DualEncoder) -> list[Record]:
        if row.negative is None:
            return []
        check_model(model)
        changed = row.changed
        right = None if changed is None else changed.right
        wrong = None if changed is None else changed.wrong
        record: Record = {
            "negative": row.negative,
            "kind": "unknown" if changed is None else changed.kind,
            "right": None if right is None else row.caption[slice(*right)],
            "wrong": None if wrong is None else row.negative[slice(*wrong)],
        }
        true = contributions_of(model, row.caption, self.options)
        false = contributions_of(model, row.negative, self.options)
        with_right = [] if right is None else [phrase_vector(true, right)]
        words = _words(false, wrong)
        number = len(with_right)
        # both captions' words are read from the image at once; the wrong caption's
        # score is that of the two embeddings
        vectors = [*with_right, *words]
        if not vectors:
            vectors = [true.values.sum(0)]
        maps = maps_of(model, row.image, true, vectors, self.options)
        score = maps.score
        score_negative = float(
            embedding_of(model, 0, row.image) @ false.embedding.double()
        )
        record |= {
            "score": score,
            "score_negative": score_negative,
            "score_lower": _half_of_ties(score_negative, score),
            "residual": max(maps.residual, false.input.residual),
        }
        totals = maps.totals
        if right is not None:
            record["right_total"] = float(totals[0])
        if wrong is not None:
            of_wrong = float(totals[number])
            record["wrong_total"] = of_wrong
            record["wrong_negative"] = float(of_wrong < 0)
            record["lowest"] = float(of_wrong <= totals[number:].min())
            record["words"] = len(words)
            record["lowest_chance"] = 1 / len(words)
            if right is not None:
                record["wrong_below_right"] = float(of_wrong < totals[0])
        span = _span_of(row, right)
        if span is not None:
            inside, overlap = maps.inside(span.regions), maps.overlap(span.regions)
            record["label"] = span.label
            found = measured(maps.values[0], inside, overlap)
            record["chance"] = found.chance if inside.any() else None
            record["right_hit"], record["right_energy"] = found.hit, found.energy
            if wrong is not None:
                of = maps.values[number]
                found = measured(of, inside, overlap)
                record["wrong_hit"], record["wrong_energy"] = found.hit, found.energy
                record["wrong_against"] = measured(-of, inside, overlap).energy
        return [record]

    def tables(self, results: "Results") -> dict[str, pyarrow.Table]:
        column = results.column
        resampling = Resampling(column("group"))
        half = np.full(len(results), 0.5)
        measures = {
            "score_lower": {"model": column("score_lower"), "chance": half},
            "wrong_negative": {"model": column("wrong_negative")},
            "wrong_below_right": {"model": column("wrong_below_right"), "chance": half},
            "lowest": {"model": column("lowest"), "chance": column("lowest_chance")},
            "right_hit": {"model": column("right_hit"), "chance": column("chance")},
            "wrong_hit": {"model": column("wrong_hit"), "chance": column("chance")},
            "right_energy": {
                "model": column("right_energy"),
                "chance": column("chance"),
            },
            "wrong_energy": {
                "model": column("wrong_energy"),
                "chance": column("chance"),
            },
            "wrong_against": {
                "model": column("wrong_against"),
                "chance": column("chance"),
            },
        }
        grouped = {name: of["model"] for name, of in measures.items()}
        grouped |= {"right_total": column("right_total")}
        grouped |= {"wrong_total": column("wrong_total")}
        return {
            "figures": figures(resampling, measures),
            "kinds": by_group(resampling, "kind", column("kind"), grouped),
        }


def _words(kept: InputContributions, wrong: Optional[Offsets]) -> list[Any]:
    """The changed words' vector, and those of the other words that say something."""
    if wrong is None:
        return []
    start, end = wrong
    others = []
    for index in kept.input.content:
        span = kept.input.features[index].span
        if span is not None and not (span[0] < end and start < span[1]):
            others.append(kept.values[index])
    return [phrase_vector(kept, wrong), *others]


def _half_of_ties(value: float, other: float) -> float:
    return 0.5 if value == other else float(value < other)


def _span_of(row: Row, offsets: Optional[Offsets]) -> Optional[Span]:
    """The first span that has some of these characters."""
    if offsets is None:
        return None
    start, end = offsets
    fits = [span for span in row.spans if span.start < end and start < span.end]
    return fits[0] if fits else None
