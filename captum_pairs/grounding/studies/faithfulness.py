"""
Conditional insertion and deletion: the paper's main evaluation, over a data set.

One record a row and order. One input's features are put in (insertion) or taken out
(deletion), the most important first, while the other input is whole; the area is the
mean similarity meanwhile. High insertion and low deletion are good.

Orders are by what a feature adds:

- METHOD, "pairs": its attributions to pairs, summed over the other input;
- METHOD, "first order": its share of the similarity to this other input, which is what
  the first-order method of the same kind gives (integrated gradients of the similarity,
  gradient × input, occlusion): its contribution's inner product with the embedding;
- "random": the null.

Source: Möller et al., TMLR 2025, section on conditional perturbation; insertion and
deletion: Petsiuk et al., RISE, BMVC 2018.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TYPE_CHECKING
from zlib import crc32

import numpy as np
import pyarrow
import torch
from captum_pairs.attr import InvalidArgumentError, validation
from captum_pairs.explain.comparison import metric_arguments
from captum_pairs.explain.options import Options
from captum_pairs.grounding.data.row import Row
from captum_pairs.grounding.maps import check_model, contributions_of, embedding_of
from captum_pairs.grounding.studies.summaries import Resampling, table
from captum_pairs.grounding.study import Column, Columns, Record, Study
from captum_pairs.known import METHODS, TAKEN_BY
from captum_pairs.metrics import insertion_deletion, InsertionDeletion
from captum_pairs.model import DualEncoder
from captum_pairs.models.encoder import Feature
from torch import Tensor

if TYPE_CHECKING:
    from captum_pairs.grounding.results import Results

__all__ = ["Faithfulness"]

_AREAS = {
    "image_insertion": "image features put in, the text being whole",
    "image_deletion": "image features taken out, the text being whole",
    "text_insertion": "words put in, the image being whole",
    "text_deletion": "words taken out, the image being whole",
}
_RANDOM = "random"


def _is_method(name: Any) -> bool:
    return isinstance(name, str) and (name in METHODS or ":" in name)


@dataclass(frozen=True)
class Faithfulness(Study):
    """
    Args:
        options: of `explain`, but for the method.
        methods: whose orders are tried.
        n_steps: the most portions of an input's features.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    methods: tuple[str, ...] = ("integrated_gradients", "jacobian_x_input", "occlusion")
    n_steps: int = 32

    name: ClassVar[str] = "faithfulness"
    keys: ClassVar[tuple[str, ...]] = ("method", "order")
    compared: ClassVar[Mapping[str, int]] = {
        "image_insertion": 1,
        "image_deletion": -1,
        "text_insertion": 1,
        "text_deletion": -1,
    }
    classes: ClassVar[str] = "order"
    columns: ClassVar[Columns] = {
        "method": Column(str, "by which features are ordered"),
        "order": Column(str, "'pairs', 'first order' or 'random'"),
        **{name: Column(float, f"area: {what}") for name, what in _AREAS.items()},
        "score": Column(float, "the similarity of image and caption"),
    }

    def __post_init__(self) -> None:
        validation.positive_int("n_steps", self.n_steps)
        is_list = isinstance(self.methods, (list, tuple)) and self.methods
        if not is_list or not all(map(_is_method, self.methods)):
            expected = f"a list of methods ({', '.join(METHODS)}, or MODULE:CLASS)"
            raise InvalidArgumentError("methods", expected, repr(self.methods))

    def records(self, row: Row, model: DualEncoder) -> list[Record]:
        check_model(model)
        shared = {name: v for name, v in self.options.items() if name != "method"}
        orders: list[tuple[str, str]] = []
        worth: list[tuple[Tensor, Tensor]] = []
        score = 0.0
        for method in self.methods:
            options = _taken(shared, method)
            first, pairs, score = _worths(model, row, {**options, "method": method})
            orders += [(method, "pairs"), (method, "first order")]
            worth += [pairs, first]
        generator = torch.Generator().manual_seed(_number(row))
        orders.append((_RANDOM, _RANDOM))
        image, text = worth[0]
        worth.append(
            (
                torch.rand(image.shape, generator=generator),
                torch.rand(text.shape, generator=generator),
            )
        )
        arguments = metric_arguments(
            model, (row.image, row.caption), Options.of(_taken(shared, "occlusion"))
        )
        scores: Any = insertion_deletion(  # a list, of several orders
            attributions=worth, n_steps=self.n_steps, **arguments
        )
        return [
            {"method": method, "order": order, "score": score, **_areas(each)}
            for (method, order), each in zip(orders, scores)
        ]

    def tables(self, results: "Results") -> dict[str, pyarrow.Table]:
        column = results.column
        names = list(zip(column("method"), column("order")))
        known = list(dict.fromkeys(names))
        codes = np.array([known.index(name) for name in names], dtype=np.int64)
        resampling = Resampling(column("group"))
        rows: list[dict[str, Any]] = [
            {"method": method, "order": order} for method, order in known
        ]
        null = known.index((_RANDOM, _RANDOM)) if known else 0
        for area in _AREAS:
            mean = resampling.mean(column(area), codes, len(known))
            random = mean.with_(mean.value[[null]], mean.draws[:, [null]])
            above = mean - random
            for end, each in (("", mean), ("_less_random", above)):
                low, high = each.interval()
                for at, row in enumerate(rows):
                    row["pairs"] = mean.rows[at]
                    row[f"{area}{end}"] = each.value[at]
                    row[f"{area}{end}_low"] = low[at]
                    row[f"{area}{end}_high"] = high[at]
        columns = ["method", "order", "pairs"]
        for area in _AREAS:
            for end in ("", "_less_random"):
                columns += [f"{area}{end}{at}" for at in ("", "_low", "_high")]
        return {"areas": table(rows, columns)}


def _worths(
    model: DualEncoder, row: Row, options: Mapping[str, Any]
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], float]:
    """Of each input's features <c, the other's embedding>, and their sums over pairs,
    each (1, features); and the score."""
    kept = contributions_of(model, row.caption, options)
    # the image is read along the words, and along all of the caption
    features = (*kept.input.features, Feature("the caption"))
    both = replace(
        kept,
        input=replace(kept.input, features=features, grid=None),
        values=torch.cat([kept.values, kept.embedding[None].to(kept.values)]),
    )
    found = model.explain(row.image, both, **options)
    table = found.interactions[:, :-1]
    image = embedding_of(model, 0, row.image).to(kept.values)
    first = found.interactions[:, -1], kept.values @ image
    pairs = table.sum(1), table.sum(0)
    return (
        (first[0][None], first[1][None]),
        (pairs[0][None], pairs[1][None]),
        found.score,
    )


def _taken(options: Mapping[str, Any], method: str) -> dict[str, Any]:
    """Those that a method takes."""
    return {
        name: value
        for name, value in options.items()
        if method in TAKEN_BY.get(name, (method,))
    }


def _areas(scores: InsertionDeletion) -> dict[str, float]:
    found = {}
    for name, of in (("image", "first"), ("text", "second")):
        inserted, deleted = scores.areas(of)
        found[f"{name}_insertion"] = float(inserted)
        found[f"{name}_deletion"] = float(deleted)
    return found


def _number(row: Row) -> int:
    return crc32(row.id.encode("utf-8", "surrogatepass"))
