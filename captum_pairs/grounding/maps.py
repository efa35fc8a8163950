"""What phrases of a caption matched in an image: their maps, and nothing else's.

The caption's contribution vectors are summed over each phrase's words, and the image is
read along these alone: one gradient a step for each phrase that is asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.explain.options import Options
from captum_pairs.explain.sides import InputContributions, stored_in_groups
from captum_pairs.grounding.data.row import Box, Offsets, Region
from captum_pairs.inputs import ExplainedInput, words_of
from captum_pairs.model import DualEncoder
from captum_pairs.models import TextLengthError
from captum_pairs.models.encoder import Feature, IMAGE, TEXT
from numpy.typing import NDArray

__all__ = [
    "check_model",
    "contributions_of",
    "embedding_of",
    "Maps",
    "maps_of",
    "phrase_vector",
    "phrases_of",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Maps:
    """
    What phrases matched in an image.

    Args:
        values: (phrases, cells), attributions in units of the similarity.
        boxes: (cells, 4): each cell's left, top, right and bottom in pixels of the
            original image; NaN for padding, which lies nowhere.
        view: the part of the image that the model saw.
        size: width and height of the image.
        grid: rows and columns, if the cells are such; else (1, cells).
        score, constant: of the image and the caption, and of the two baselines.
        image_effect: what the image adds whatever the caption says.
        effects: (phrases,), what each phrase adds whatever the image shows.
        totals: (phrases,), each phrase's sum over the whole image, special tokens too.
        residual: of the path's integral, relative; the worse of the two sides.
    """

    values: Floats
    boxes: Floats
    view: Box
    size: tuple[float, float]
    grid: tuple[int, int]
    score: float
    constant: float
    image_effect: float
    effects: Floats
    totals: Floats
    residual: float

    @property
    def centers(self) -> Floats:
        """(cells, 2): x and y of each cell's centre in pixels."""
        return (self.boxes[:, :2] + self.boxes[:, 2:]) / 2

    def inside(self, regions: Sequence[Region]) -> NDArray[np.bool_]:
        """(cells,): those whose centre lies in one of the regions."""
        found = np.zeros(len(self.boxes), dtype=bool)
        x, y = self.centers.T
        for region in regions:
            if isinstance(region, np.ndarray):
                found |= self._in_mask(region, x, y)
            else:
                left, top, right, bottom = region
                found |= (left <= x) & (x < right) & (top <= y) & (y < bottom)
        return found

    def _in_mask(
        self, mask: NDArray[np.bool_], x: Floats, y: Floats
    ) -> NDArray[np.bool_]:
        self._check_mask(mask)
        there = np.isfinite(x)
        columns = np.where(there, x, 0).astype(int).clip(0, mask.shape[1] - 1)
        rows = np.where(there, y, 0).astype(int).clip(0, mask.shape[0] - 1)
        found: NDArray[np.bool_] = there & mask[rows, columns]
        return found

    def _check_mask(self, mask: NDArray[np.bool_]) -> None:
        width, height = self.size
        if mask.shape != (height, width):
            raise InvalidArgumentError(
                "regions",
                f"masks of the image's shape ({height:.0f}, {width:.0f})",
                f"one of shape {mask.shape}",
            )

    def overlap(self, regions: Sequence[Region]) -> Floats:
        """(cells,): the share of each cell that lies in one of the regions."""
        return self.share_within(regions, self.boxes)

    def share_in_view(self, regions: Sequence[Region]) -> float:
        """The share of the regions that the model saw."""
        width, height = self.size
        whole = np.array([[0.0, 0.0, width, height]])
        area = float(self.share_within(regions, whole)[0]) * width * height
        left, top, right, bottom = self.view
        seen = self.share_within(regions, np.array([self.view]))[0]
        return float(seen) * (right - left) * (bottom - top) / area if area else 0.0

    def share_within(self, regions: Sequence[Region], boxes: Floats) -> Floats:
        """(boxes,): the share of each box that lies in one of the regions."""
        masks = [region for region in regions if isinstance(region, np.ndarray)]
        if masks:
            for mask in masks:
                self._check_mask(mask)
            union = np.any(masks, axis=0)
            for region in regions:
                if not isinstance(region, np.ndarray):
                    left, top, right, bottom = (round(edge) for edge in region)
                    union[max(top, 0) : bottom, max(left, 0) : right] = True
            return _mask_shares(union, boxes)
        return _union_shares([tuple(r) for r in regions], boxes)


def _lengths(boxes: Floats, axis: int, cuts: Floats) -> Floats:
    """(boxes, cuts - 1): how much of each interval between cuts lies in each box."""
    low = np.maximum(boxes[:, axis, None], cuts[None, :-1])
    high = np.minimum(boxes[:, axis + 2, None], cuts[None, 1:])
    found: Floats = (high - low).clip(min=0)
    return found


def _union_shares(regions: Sequence[tuple[float, ...]], boxes: Floats) -> Floats:
    """The cuts at all edges make cells that are in the union as a whole or not."""
    edges = np.array(regions, dtype=float)
    x, y = np.unique(edges[:, [0, 2]]), np.unique(edges[:, [1, 3]])
    inside = np.zeros((len(y) - 1, len(x) - 1))
    for left, top, right, bottom in edges:
        columns = (left <= x[:-1]) & (x[:-1] < right)
        rows = (top <= y[:-1]) & (y[:-1] < bottom)
        inside[np.ix_(rows, columns)] = 1
    across, down = _lengths(boxes, 0, x), _lengths(boxes, 1, y)
    areas = np.einsum("br,rc,bc->b", down, inside, across)
    return _divided(areas, boxes)


def _mask_shares(mask: NDArray[np.bool_], boxes: Floats) -> Floats:
    height, width = mask.shape
    across = _lengths(boxes, 0, np.arange(width + 1.0))
    down = _lengths(boxes, 1, np.arange(height + 1.0))
    areas = np.einsum("br,rc,bc->b", down, mask.astype(float), across, optimize=True)
    return _divided(areas, boxes)


def _divided(areas: Floats, boxes: Floats) -> Floats:
    whole = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return np.nan_to_num(areas / whole)  # padding lies nowhere


# ---- reading -----------------------------------------------------------------


def check_model(model: DualEncoder) -> None:
    """
    Refuse a model that does not compare images with texts.

    Raises:
        InvalidArgumentError: naming ``model``.
    """
    kinds = model.first.kind, model.second.kind
    if kinds != (IMAGE, TEXT):
        raise InvalidArgumentError(
            "model", "one of images and texts", f"{model.name}: {' and '.join(kinds)}"
        )


def contributions_of(
    model: DualEncoder, caption: str, options: Mapping[str, Any]
) -> InputContributions:
    """
    The caption's contribution vectors, one a word.

    Raises:
        InvalidArgumentError: naming ``caption``, with the reason why it can't be read.
    """
    found = model.contributions([caption], side="second", dtype="float32", **options)
    for reason in found.failed.values():
        raise _unreadable(reason)
    return found[0]


def _unreadable(reason: object) -> InvalidArgumentError:
    expected = "a text that the model can read"
    return InvalidArgumentError("caption", expected, f"one it can't: {reason}")


def phrases_of(
    model: DualEncoder,
    caption: str,
    asked: Sequence[Offsets],
    options: Mapping[str, Any],
) -> tuple[InputContributions, list[torch.Tensor]]:
    """
    The caption's contribution vectors of some phrases alone: words that no phrase tells
    apart are one feature of the path's integral, and cost as much.

    Args:
        asked: where each phrase stands in the caption.

    Returns:
        Contributions of groups of words, as :func:`maps_of` takes them, and each
        phrase's vector (k,).

    Raises:
        InvalidArgumentError: naming ``caption``, with the reason why it can't be read;
            naming ``phrase``, if none of its words was explained.
    """
    members: list[list[int]] = []

    def groups_of(given: ExplainedInput) -> list[int]:
        words = [_words(given, offsets) for offsets in asked]
        count = len(given.features)
        kinds = [tuple(at in each for each in words) for at in range(count)]
        ids = {kind: at for at, kind in enumerate(dict.fromkeys(kinds))}
        for place in range(len(asked)):
            members.append([at for kind, at in ids.items() if kind[place]])
        return [ids[kind] for kind in kinds]

    if type(model).contributions is not DualEncoder.contributions:
        model.contributions([caption])  # an input has none of its own, which it says
    settings = Options.of({**options})
    try:
        kept = stored_in_groups(model, 1, caption, settings, groups_of)
    except TextLengthError as error:
        raise _unreadable(error) from error
    return kept, [kept.values[groups].sum(0) for groups in members]


@torch.no_grad()
def embedding_of(model: DualEncoder, at: int, raw: Any) -> torch.Tensor:
    """An input's embedding (k,) in float64, normalised if the similarity is the cosine.

    Args:
        at: 0 for an image, 1 for a text.
    """
    encoder = (model.first, model.second)[at]
    prepared = encoder.prepare(raw).to(encoder.device)
    found = encoder.embed(prepared.inputs, *prepared.arguments)[0].cpu().double()
    if model.similarity == "cosine":
        found = found / torch.linalg.vector_norm(found)
    return found


def phrase_vector(kept: InputContributions, offsets: Offsets) -> torch.Tensor:
    """
    The sum of a phrase's contribution vectors, (k,).

    Raises:
        InvalidArgumentError: if none of its words was explained.
    """
    return kept.values[_words(kept.input, offsets)].sum(0)


def _words(given: ExplainedInput, offsets: Offsets) -> list[int]:
    """The features that are a phrase's words."""
    chosen = words_of(given.features, offsets)
    if not chosen:
        raise InvalidArgumentError(
            "phrase",
            f"words that were explained ({', '.join(given.names)})",
            repr(given.source.text[slice(*offsets)]),
        )
    return list(chosen)


def maps_of(
    model: DualEncoder,
    image: Any,
    kept: InputContributions,
    vectors: Sequence[torch.Tensor],
    options: Mapping[str, Any],
) -> Maps:
    """
    What phrases matched in an image.

    Args:
        model: which one.
        image: as :meth:`captum_pairs.DualEncoder.explain` takes it.
        kept: the caption's contributions (see :func:`contributions_of`).
        vectors: of each phrase (see :func:`phrase_vector`), of this caption or another.
        options: of `explain`.
    """
    features = tuple(Feature(f"phrase {at}") for at in range(len(vectors)))
    phrases = replace(
        kept,
        input=replace(kept.input, features=features, grid=None),
        values=torch.stack(list(vectors)),
    )
    found = model.explain(image, phrases, **options)
    side: ExplainedInput = found.first
    values = found.interactions.double().numpy().T  # (phrases, features)
    nowhere = (float("nan"),) * 4
    boxes = [feature.box or nowhere for feature in side.features[: side.count]]
    size = side.source.size or (0.0, 0.0)
    effects = found.first_effects
    assert effects is not None and found.second_effects is not None  # both were read
    return Maps(
        values=values[:, : side.count].copy(),
        boxes=np.array(boxes, dtype=float).reshape(-1, 4),
        view=side.source.visible or (0.0, 0.0, *size),
        size=size,
        grid=side.grid or (1, side.count),
        score=found.score,
        constant=found.constant,
        image_effect=float(effects.double().sum()),
        effects=found.second_effects.double().numpy(),
        totals=values.sum(1),
        residual=max(side.residual, kept.input.residual),
    )
