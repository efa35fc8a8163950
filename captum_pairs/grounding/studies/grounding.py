"""
Does what a phrase matched lie where the object is?

One record a span. Each measure of :mod:`captum_pairs.grounding.measures` stands beside
its chance level for that object and three nulls, each measured on the same object: a
centre prior; the map that a phrase of another image has on *this* image; the phrase's
map by the same model with the values of each parameter in random order (of a part of
the rows, since it costs as much again).
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Optional, TYPE_CHECKING
from zlib import crc32

import numpy as np
import pyarrow
import torch
from captum_pairs.attr import validation
from captum_pairs.grounding.data.row import Data, Row
from captum_pairs.grounding.maps import check_model, Maps, maps_of, phrases_of
from captum_pairs.grounding.measures import center_prior, measured
from captum_pairs.grounding.studies.summaries import by_group, figures, Resampling
from captum_pairs.grounding.study import Column, Columns, Record, Study
from captum_pairs.model import DualEncoder
from numpy.typing import NDArray

if TYPE_CHECKING:
    from captum_pairs.grounding.results import Results

__all__ = ["bounding_box", "Grounding", "place_of", "PLACE", "UP_TO"]

# What is known of an object, whatever a model makes of it.
PLACE: Columns = {
    "span": Column(int, "which of the row's spans, from 0"),
    "start": Column(int, "of the phrase in the caption, characters"),
    "end": Column(int, "after its last character"),
    "phrase": Column(str, "its words"),
    "label": Column(str, "the class of the object"),
    "word": Column(str, "the class word in the phrase; null, if it is not known"),
    "regions": Column(int, "how many boxes or masks the object has"),
    "left": Column(float, "of the box around them, pixels of the image"),
    "top": Column(float, "of the same"),
    "right": Column(float, "of the same, exclusive"),
    "bottom": Column(float, "of the same, exclusive"),
    "width": Column(float, "of the image, pixels"),
    "height": Column(float, "of the image, pixels"),
    "area": Column(float, "the object's share of what the model saw, 0 to 1"),
    "x": Column(float, "the middle of its box, as a share of what the model saw"),
    "y": Column(float, "of the same"),
    "in_view": Column(float, "the share of the object that the model saw"),
    "visible": Column(float, "the share that nothing covers; null, if not known"),
    "objects": Column(int, "in the image, whose place is known"),
    "cells": Column(int, "whose centre lies in the object; 0: it can't be hit"),
    "rows": Column(int, "of the map"),
    "columns": Column(int, "of the map"),
}
_MEASURES: Columns = {
    "hit": Column(float, "PGA: the strongest cell lies in the object, 0 to 1"),
    "energy": Column(float, "PGE: the share of positive attribution in it"),
    "mass": Column(float, "positive inside and negative outside, of all"),
    "rank": Column(float, "of as many strongest cells as it has, the share in it"),
}
_CHANCES: Columns = {
    "chance": Column(float, "of hit, energy and rank, for this object"),
    "mass_chance": Column(float, "of mass"),
    "energy_overlap": Column(float, "energy, cells counted by overlap"),
    "mass_overlap": Column(float, "mass, cells counted by overlap"),
    "chance_overlap": Column(float, "of energy_overlap"),
    "mass_chance_overlap": Column(float, "of mass_overlap"),
}
_NULLS = {
    "center": "of a centre prior",
    "other": "of another image's phrase on this image",
    "permuted": "by the model with permuted parameters; null, if not computed",
}
_SCORE: Columns = {
    "total": Column(float, "the phrase's attributions, summed over the image"),
    "effect": Column(float, "what the phrase adds whatever the image shows"),
    "score": Column(float, "the similarity of image and caption"),
    "constant": Column(float, "the similarity of the two baselines"),
    "image_effect": Column(float, "what the image adds whatever the caption says"),
    "residual": Column(float, "of the path integrals, relative"),
}


def bounding_box(regions: Sequence[Any]) -> tuple[float, float, float, float]:
    """Around boxes and masks."""
    edges = []
    for region in regions:
        if isinstance(region, np.ndarray):
            rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
            edges.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
        else:
            edges.append(tuple(region))
    left, top, right, bottom = zip(*edges)
    return float(min(left)), float(min(top)), float(max(right)), float(max(bottom))


def place_of(row: Row, at: int, maps: Maps) -> Record:
    """The columns of PLACE."""
    span = row.spans[at]
    left, top, right, bottom = box = bounding_box(span.regions)
    view = maps.view
    area = maps.share_within(span.regions, np.array([view]))[0]
    return {
        "span": at,
        "start": span.start,
        "end": span.end,
        "phrase": row.caption[span.start : span.end],
        "label": span.label,
        "word": None if span.word is None else row.caption[slice(*span.word)],
        "regions": len(span.regions),
        **dict(zip(("left", "top", "right", "bottom"), box)),
        "width": float(maps.size[0]),
        "height": float(maps.size[1]),
        "area": float(area),
        "x": ((left + right) / 2 - view[0]) / (view[2] - view[0]),
        "y": ((top + bottom) / 2 - view[1]) / (view[3] - view[1]),
        "in_view": maps.share_in_view(span.regions),
        "visible": span.visible,
        "objects": len(row.objects),
        "cells": int(maps.inside(span.regions).sum()),
        "rows": maps.grid[0],
        "columns": maps.grid[1],
    }


@dataclass(frozen=True)
class Grounding(Study):
    """
    Args:
        options: of `explain`.
        permuted: of about how many rows the model with permuted parameters is asked.
        seed: of the permutation, and of which phrase of another image is read.
        permuted_share: of the rows, made of `permuted` and the sample.
        pool: other images' phrases, (caption, start, end, label), made of the sample.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    permuted: int = 100
    seed: int = 0
    permuted_share: float = 0.0
    pool: tuple[tuple[str, int, int, str], ...] = ()

    name: ClassVar[str] = "grounding"
    needs: ClassVar[tuple[str, ...]] = ("spans",)
    keys: ClassVar[tuple[str, ...]] = ("span",)
    compared: ClassVar[Mapping[str, int]] = dict.fromkeys(
        [*_MEASURES, "energy_overlap", "word_hit", "word_energy"], 1
    )
    classes: ClassVar[str] = "label"
    columns: ClassVar[Columns] = {
        **PLACE,
        **_MEASURES,
        **_CHANCES,
        **{
            f"{measure}_{null}": Column(float, f"{measure}, {what}")
            for null, what in _NULLS.items()
            for measure in _MEASURES
        },
        "other": Column(str, "the other image's phrase"),
        "word_hit": Column(float, "hit of the class word alone; null, if not known"),
        "word_energy": Column(float, "energy of the class word alone"),
        "word_energy_overlap": Column(float, "the same, cells counted by overlap"),
        **_SCORE,
    }

    def __post_init__(self) -> None:
        validation.positive_int("permuted", self.permuted, 0)
        validation.positive_int("seed", self.seed, 0)

    def prepared(self, data: Data, places: Sequence[int]) -> "Grounding":
        pool: list[tuple[str, int, int, str]] = []
        rng = np.random.default_rng(self.seed)
        for at in rng.permutation(len(places))[:_LOOKED_AT]:
            row = data[places[at]]
            if row.spans:
                span = row.spans[int(rng.integers(len(row.spans)))]
                pool.append((row.caption, span.start, span.end, span.label))
            if len(pool) == _POOL:
                break
        share = min(1.0, self.permuted / max(len(places), 1))
        return replace(self, pool=tuple(pool), permuted_share=share)

    def records(self, row: Row, model: DualEncoder) -> list[Record]:
        if not row.spans:
            return []
        check_model(model)
        asked = [(span.start, span.end) for span in row.spans]
        words = {
            at: (span.word[0], span.word[1])
            for at, span in enumerate(row.spans)
            if span.word is not None and span.word != (span.start, span.end)
        }
        asked += words.values()
        kept, vectors = phrases_of(model, row.caption, asked, self.options)
        other = self._other(row)
        if other is not None:
            vectors.append(self._vector(model, other))
        maps = maps_of(model, row.image, kept, vectors, self.options)
        number = len(row.spans)
        null = maps.values[-1] if other is not None else None
        of_word = dict(zip(words, maps.values[number : number + len(words)]))
        permuted = self._permuted(row, model)
        records = []
        for at, span in enumerate(row.spans):
            inside = maps.inside(span.regions)
            overlap = maps.overlap(span.regions)
            record = place_of(row, at, maps)
            record |= measured(maps.values[at], inside, overlap)._asdict()
            nulls = {
                "center": center_prior(maps),
                "other": null,
                "permuted": None if permuted is None else permuted[at],
            }
            for name, values in nulls.items():
                if values is not None:
                    found = measured(values, inside, overlap)
                    for measure in _MEASURES:
                        record[f"{measure}_{name}"] = getattr(found, measure)
            if span.word is not None:
                word = measured(of_word.get(at, maps.values[at]), inside, overlap)
                record["word_hit"] = word.hit
                record["word_energy"] = word.energy
                record["word_energy_overlap"] = word.energy_overlap
            if other is not None:
                record["other"] = other[0][other[1] : other[2]]
            record |= {
                "total": float(maps.totals[at]),
                "effect": float(maps.effects[at]),
                "score": maps.score,
                "constant": maps.constant,
                "image_effect": maps.image_effect,
                "residual": maps.residual,
            }
            records.append(record)
        return records

    def _other(self, row: Row) -> Optional[tuple[str, int, int, str]]:
        """A phrase of another image, of a class that this one does not have."""
        here = {each.label for each in row.spans}
        here |= {each.label for each in row.objects}
        fits = [p for p in self.pool if p[3] not in here and p[0] != row.caption]
        return fits[self._number(row) % len(fits)] if fits else None

    def _number(self, row: Row) -> int:
        return crc32(f"{self.seed} {row.id}".encode("utf-8", "surrogatepass"))

    def _vector(
        self, model: DualEncoder, other: tuple[str, int, int, str]
    ) -> torch.Tensor:
        caption, start, end, _ = other
        key = (model.fingerprint, repr(self.options), caption, start, end)
        if key not in _vectors:
            if len(_vectors) >= _POOL:
                _vectors.clear()
            _, found = phrases_of(model, caption, [(start, end)], self.options)
            _vectors[key] = found[0]
        return _vectors[key]

    def _permuted(self, row: Row, model: DualEncoder) -> Optional[NDArray[np.float64]]:
        """The phrases' maps by the model with permuted parameters."""
        if self._number(row) / 2**32 >= self.permuted_share:
            return None
        key = f"{model.fingerprint} {self.seed}"
        if key not in _permuted:
            _permuted.clear()
            _permuted[key] = permuted(model, self.seed)
        other = _permuted[key]
        asked = [(span.start, span.end) for span in row.spans]
        kept, vectors = phrases_of(other, row.caption, asked, self.options)
        return maps_of(other, row.image, kept, vectors, self.options).values

    def tables(self, results: "Results") -> dict[str, pyarrow.Table]:
        column = results.column
        resampling = Resampling(column("group"))
        of = {
            measure: {
                "model": column(measure),
                "chance": column("mass_chance" if measure == "mass" else "chance"),
                **{null: column(f"{measure}_{null}") for null in _NULLS},
            }
            for measure in _MEASURES
        }
        # an object without a cell's centre has no chance to be hit
        there = column("cells") > 0
        for measures in of.values():
            measures["chance"] = np.where(there, measures["chance"], np.nan)
        of["energy_overlap"] = {
            "model": column("energy_overlap"),
            "chance": column("chance_overlap"),
        }
        of["mass_overlap"] = {
            "model": column("mass_overlap"),
            "chance": column("mass_chance_overlap"),
        }
        grouped = {
            **{measure: of[measure]["model"] for measure in of},
            "chance": of["hit"]["chance"],
            "chance_overlap": column("chance_overlap"),
            "word_hit": column("word_hit"),
            "word_energy": column("word_energy"),
            "total": column("total"),
        }
        thirds = [np.clip((3 * column(axis)).astype(int), 0, 2) for axis in "xy"]
        places = np.array([f"{r} {c}" for r in _ROWS for c in _COLUMNS])
        parts = ["score", "constant", "image_effect", "effect", "total", "residual"]
        return {
            "figures": figures(resampling, of),
            "classes": by_group(resampling, "label", column("label"), grouped),
            "sizes": by_group(
                resampling,
                "area up to",
                UP_TO[np.searchsorted(UP_TO[:-1], column("area"))],
                grouped,
            ),
            "positions": by_group(
                resampling, "position", places[3 * thirds[1] + thirds[0]], grouped
            ),
            "numbers": by_group(resampling, "objects", column("objects"), grouped),
            "cells": by_group(
                resampling,
                "cells",
                np.where(there, "one or more", "none: can't be hit"),
                grouped,
            ),
            "parts": figures(resampling, {p: {"model": column(p)} for p in parts}),
        }


# How many phrases the null is drawn from, and in how many rows they are looked for.
_POOL, _LOOKED_AT = 64, 500
# Of each process: of phrases of other images, and the model with permuted parameters.
_vectors: dict[tuple[Any, ...], torch.Tensor] = {}
_permuted: dict[str, DualEncoder] = {}
# Shares of what the model saw.
UP_TO = np.array([0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0])
_ROWS, _COLUMNS = ("top", "middle", "bottom"), ("left", "middle", "right")


@torch.no_grad()
def permuted(model: DualEncoder, seed: int) -> DualEncoder:
    """The same model with the values of each parameter in random order, so that each
    keeps its scale and has learnt nothing."""
    other = deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    seen: set[int] = set()
    for encoder in (other.first, other.second):
        module = encoder.module
        for parameter in () if module is None else module.parameters():
            if id(parameter) not in seen:
                seen.add(id(parameter))
                order = torch.randperm(parameter.numel(), generator=generator)
                values = parameter.flatten()[order.to(parameter.device)]
                parameter.copy_(values.reshape(parameter.shape))
    return other
