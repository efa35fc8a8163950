"""
Recall in both directions, beside all that is said of explanations.

One record a row: the two embeddings. A caption is right for its own image (the rows of
one group have the same), an image for each of its captions; ties count by their share.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TYPE_CHECKING

import numpy as np
import pyarrow
from captum_pairs.attr import validation
from captum_pairs.grounding.data.row import Row
from captum_pairs.grounding.maps import check_model, embedding_of
from captum_pairs.grounding.studies.summaries import Resampling, table
from captum_pairs.grounding.study import Column, Columns, Record, Study
from captum_pairs.model import DualEncoder
from numpy.typing import NDArray

if TYPE_CHECKING:
    from captum_pairs.grounding.results import Results

__all__ = ["embeddings", "Retrieval"]

_AT = (1, 5, 10)
_QUERIES_AT_A_TIME = 512


@dataclass(frozen=True)
class Retrieval(Study):
    """
    Args:
        options: of `explain`; of no use here, and in the plan as of all studies.
        gallery: the most images that one is looked for among; of more images as many,
            drawn at random.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    gallery: int = 5000

    name: ClassVar[str] = "retrieval"
    compared: ClassVar[Mapping[str, int]] = {"score": 1}
    columns: ClassVar[Columns] = {
        "image_embedding": Column([float], "of the image, as it is compared"),
        "text_embedding": Column([float], "of the caption, as it is compared"),
        "score": Column(float, "their similarity"),
    }

    def __post_init__(self) -> None:
        validation.positive_int("gallery", self.gallery)

    def records(self, row: Row, model: DualEncoder) -> list[Record]:
        check_model(model)
        image = embedding_of(model, 0, row.image)
        text = embedding_of(model, 1, row.caption)
        return [
            {
                # as exact as float32, the shortest way to write it
                "image_embedding": image.float().tolist(),
                "text_embedding": text.float().tolist(),
                "score": float(image @ text),
            }
        ]

    def tables(self, results: "Results") -> dict[str, pyarrow.Table]:
        groups = results.column("group")
        names, images = np.unique(groups, return_inverse=True)
        if len(names) > self.gallery:
            # by place in the sample's own order, which names know nothing of
            order = np.random.default_rng(0).permutation(len(names))
            images = order[images]
            names = names[np.argsort(order)]
        kept = images < self.gallery
        images, groups = images[kept], groups[kept]
        number = int(images.max()) + 1 if len(images) else 0
        first = np.array([np.flatnonzero(images == at)[0] for at in range(number)])
        of_images = embeddings(results, "image_embedding")[kept][first]
        of_texts = embeddings(results, "text_embedding")[kept]
        ranks = {
            "text to image": _ranks(of_texts, of_images, images),
            "image to text": _best_ranks(of_images, of_texts, images),
        }
        rows = []
        for direction, found in ranks.items():
            resampling = Resampling(
                groups if direction == "text to image" else names[:number]
            )
            to_image = direction == "text to image"
            gallery = number if to_image else len(of_texts)
            own = np.bincount(images, minlength=number)
            own = np.ones_like(own) if to_image else own
            chance = {at: _by_chance(own, gallery, at) for at in _AT}
            for at in _AT:
                estimate = resampling.mean(found <= at)
                (low,), (high,) = estimate.interval()
                rows.append(
                    {
                        "direction": direction,
                        "recall_at": at,
                        "value": estimate.value[0],
                        "low": low,
                        "high": high,
                        "chance": chance[at],
                        "queries": len(found),
                        "images": number,
                        "texts": len(of_texts),
                    }
                )
        return {"recall": table(rows, list(rows[0]))}


def _by_chance(own: NDArray[np.int64], gallery: int, at: int) -> float:
    """
    Of queries that have so many partners of their own in a gallery, the share that
    finds one among the first of a random order: 1 - C(n - m, k) / C(n, k).
    """
    missed = np.ones(len(own))
    for drawn in range(min(at, gallery)):
        missed *= np.maximum(gallery - own - drawn, 0) / (gallery - drawn)
    return float(1 - missed.mean()) if len(own) else 0.0


def embeddings(results: "Results", name: str) -> NDArray[np.float64]:
    """A column of vectors, (rows, k)."""
    vectors = list(results.column(name))
    return np.stack(vectors) if vectors else np.zeros((0, 0))


def _ranks(
    queries: NDArray[np.float64],
    gallery: NDArray[np.float64],
    right: NDArray[np.int64],
) -> NDArray[np.float64]:
    """(queries,): the place of what is right, from 1; those that tie share theirs."""
    found = []
    for start in range(0, len(queries), _QUERIES_AT_A_TIME):
        some = slice(start, start + _QUERIES_AT_A_TIME)
        scores = queries[some] @ gallery.T
        own = scores[np.arange(len(scores)), right[some]][:, None]
        above, tied = (scores > own).sum(1), (scores == own).sum(1)
        found.append(above + (tied + 1) / 2)
    return np.concatenate(found) if found else np.zeros(0)


def _best_ranks(
    images: NDArray[np.float64],
    texts: NDArray[np.float64],
    image_of: NDArray[np.int64],
) -> NDArray[np.float64]:
    """(images,): the best place of one of an image's captions, from 1."""
    found = []
    for start in range(0, len(images), _QUERIES_AT_A_TIME):
        some = np.arange(start, min(start + _QUERIES_AT_A_TIME, len(images)))
        scores = images[some] @ texts.T
        own = np.where(image_of[None] == some[:, None], scores, -np.inf)
        best = own.max(1, keepdims=True)
        others = np.where(image_of[None] == some[:, None], -np.inf, scores)
        above, tied = (others > best).sum(1), (others == best).sum(1)
        found.append(above + 1 + tied / 2)
    return np.concatenate(found) if found else np.zeros(0)
