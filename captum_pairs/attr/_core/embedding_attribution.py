#!/usr/bin/env python3

from dataclasses import dataclass
from typing import Any, Callable, Generic, Optional, TypeVar

import torch
from captum.attr import Attribution
from captum_pairs.attr._utils.hooks import Session
from captum_pairs.attr._utils.path import Path, Side, too_large
from captum_pairs.attr._utils.sides import make_side
from captum_pairs.attr._utils.validation import (
    check_tensor,
    describe,
    InvalidArgumentError,
)
from torch import nn, Tensor

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Contributions:
    """
    What an embedding attribution found for a batch.

    Args:

        values (Tensor): c_i, (b, \\*features, k).
        embeddings, baseline_embeddings (Tensor): g(x) and g(r_x), (b, k).
    """

    values: Tensor
    embeddings: Tensor
    baseline_embeddings: Tensor


class EmbeddingAttribution(Attribution, Generic[Settings]):
    r"""
    Base class of the methods that give every feature i of an input a *contribution
    vector* :math:`c_i \in R^k` to the input's embedding.

    An additive method's vectors sum to :math:`g(x) - g(r_x)`; their inner products
    with those of another input are feature-pair attributions (see
    :class:`PairAttribution`), and :math:`\langle c_i, v\rangle` attributes any linear
    reading v of the embedding.

    A method is a subclass with its own ``attribute`` and :meth:`_contributions`.
    Override :meth:`_readings` where a few readings cost less than all of the
    embedding, and :meth:`_plan` where settings are chosen for the whole batch.
    """

    # A method that only runs the encoder says False, and takes those without gradients.
    needs_gradients = True
    # A layer variant sets these.
    layer: Optional[nn.Module] = None
    channel_dim: Optional[int] = None

    def __init__(
        self, forward_func: Callable[..., Tensor], normalize: bool = False
    ) -> None:
        r"""
        Args:

            forward_func (Callable or torch.nn.Module): The encoder: maps (b, ...) to
                        embeddings (b, k).
            normalize (bool, optional): Attribute the embedding divided by its norm.
                        Default: False
        """
        if not callable(forward_func):
            raise InvalidArgumentError(
                "forward_func", "an encoder that can be called", describe(forward_func)
            )
        Attribution.__init__(self, forward_func)
        self.normalize = normalize

    def attribute_future(self) -> None:
        """This method is not implemented, as for Captum's gradient methods."""
        raise NotImplementedError(f"attribute_future: {type(self).__name__}")

    # ---- what a method defines ---------------------------------------------

    def _contributions(self, path: Path, settings: Settings) -> Tensor:
        """Contribution vectors of one example: (G, k)."""
        raise NotImplementedError(f"{type(self).__name__}._contributions")

    def _readings(self, path: Path, directions: Tensor, settings: Settings) -> Tensor:
        """Inner products of contributions with directions (m, k): (G, m)."""
        return self._contributions(path, settings) @ directions.T

    def _plan(self, paths: "Paths", settings: Settings, index: Optional[int]) -> Any:
        """Settings for the whole batch; by default those that were asked for."""
        return settings

    # ---- what it gets ------------------------------------------------------

    def _side(
        self,
        inputs: object,
        baselines: object,
        feature_mask: object,
        additional_forward_args: object,
        attribute_to_layer_input: bool = False,
        index: Optional[int] = None,
    ) -> Side:
        return make_side(
            self.forward_func,
            inputs,
            baselines,
            feature_mask,
            additional_forward_args,
            normalize=self.normalize,
            layer=self.layer,
            attribute_to_layer_input=attribute_to_layer_input,
            channel_dim=self.channel_dim,
            differentiable=self.needs_gradients,
            index=index,
        )

    def _run(
        self, side: Side, settings: Settings, directions: Optional[Tensor] = None
    ) -> Contributions:
        """Contributions of every example of a batch, or with directions (b, m, k) of
        the embedding space their inner products with these instead."""
        with Session() as session:
            paths = Paths(side, session)
            settings = self._plan(paths, settings, None)
            results = []
            for row in range(len(side)):
                path = paths[row]
                check_size(len(side), path.features.count, path.embedding.numel(), path)
                if directions is None:
                    vectors = self._contributions(path, settings)
                else:
                    along = self._directions(path, directions[row])
                    vectors = self._readings(path, along, settings)
                check_finite(vectors)
                shape = (*path.features.shape, -1)
                ends = path.embedding, path.baseline_embedding
                results.append((vectors.reshape(shape), *ends))
                paths.release(row)
        values, embeddings, baseline_embeddings = map(torch.stack, zip(*results))
        return Contributions(values, embeddings, baseline_embeddings)

    def _directions(self, path: Path, directions: Tensor) -> Tensor:
        """(m, k) as the path computes, if they are of the embedding's width."""
        width = path.embedding.numel()
        if directions.shape[-1] != width:
            raise InvalidArgumentError(
                "directions",
                f"vectors of the embedding's width k = {width}",
                describe(directions),
            )
        return directions.to(path.embedding)


def check_directions(directions: object, rows: int) -> Tensor:
    """Directions (b, m, k) of those that were given, (m, k) or (b, m, k)."""
    values = check_tensor("directions", directions)
    if (
        values.ndim not in (2, 3)
        or not values.is_floating_point()
        or (values.ndim == 3 and values.shape[0] not in (1, rows))
    ):
        raise InvalidArgumentError(
            "directions",
            f"a floating tensor (m, k), or (b, m, k) with b = {rows}",
            describe(directions),
        )
    return values.detach().expand(rows, -1, -1)


class Paths:
    """
    The paths of a batch, each made when it is asked for.

    A batch of one keeps its path between the passes that a method makes over it;
    larger ones are made anew, so that memory does not grow with the batch.
    """

    def __init__(self, side: Side, session: Session) -> None:
        self.side = side
        self._session = session
        self._kept: dict[int, Path] = {}

    def __len__(self) -> int:
        return len(self.side)

    def __getitem__(self, row: int) -> Path:
        if row not in self._kept:
            self._kept[row] = self.side.path(row, self._session)
        return self._kept[row]

    def release(self, row: int) -> None:
        """Say that a pass is done with an example."""
        if len(self) > 1:
            self._kept.pop(row, None)


def check_size(
    rows: int, first: int, second: int, path: Path, argument: str = "feature_mask"
) -> None:
    """Refuse an output (b, first, second) that the device can't hold."""
    size = too_large(rows * first * second, path.dtype, path.end.device)
    if size is not None:
        raise InvalidArgumentError(
            argument,
            "features few enough for the attributions to fit in memory",
            f"an output of {rows} x {first:,} x {second:,} values, {size}; pass a "
            "feature_mask that sums scalars into fewer features",
        )


def check_attributions(attributions: object, rows: int) -> None:
    """Refuse what can't be the attributions of a batch of ``rows`` examples."""
    values = check_tensor("attributions", attributions)
    if values.shape[0] != rows or not values.is_floating_point():
        raise InvalidArgumentError(
            "attributions",
            f"a floating tensor with a batch of {rows}",
            describe(values),
        )


def check_finite(values: Tensor) -> None:
    """Refuse derivatives that overflowed or are not defined on the path."""
    if not bool(torch.isfinite(values).all()):
        raise InvalidArgumentError(
            "forward_func",
            "an encoder with finite derivatives between baseline and input",
            f"NaN or infinity in {describe(values)} (float16 overflows early; an "
            "embedding of norm zero on the path has no cosine)",
        )


def result_dtype(*sides: Side, computed: torch.dtype) -> torch.dtype:
    """The floating inputs' dtype; of integer ids, that in which they were computed."""
    dtypes = [side.inputs.dtype for side in sides if side.inputs.is_floating_point()]
    if len(dtypes) < len(sides):
        dtypes.append(computed)
    result = dtypes[0]
    for dtype in dtypes[1:]:
        result = torch.promote_types(result, dtype)
    return result
