#!/usr/bin/env python3

from typing import Any, Generic, NamedTuple, Optional, TypeVar

import torch
from captum.attr import Attribution
from captum_pairs.attr._core.embedding_attribution import (
    check_attributions,
    check_finite,
    check_size,
    EmbeddingAttribution,
    Paths,
    result_dtype,
)
from captum_pairs.attr._utils.hooks import Session
from captum_pairs.attr._utils.path import check_norm, Path, Side
from captum_pairs.attr._utils.similarity import different_widths, Similarity
from captum_pairs.attr._utils.validation import (
    check_tensor,
    describe,
    InvalidArgumentError,
    optional_pair_of,
    pair_of,
)
from torch import Tensor

Settings = TypeVar("Settings")


class PairDecomposition(NamedTuple):
    r"""
    A similarity, wholly accounted for:

    .. math::
        s(x, y) = \langle g(r_x), h(r_y) \rangle
                + \sum_i \langle c_i, h(r_y) \rangle
                + \sum_j \langle g(r_x), c_j \rangle
                + \sum_{ij} \langle c_i, c_j \rangle

    Args:

        score (Tensor): s(x, y), (b,).
        constant (Tensor): The score of the two baselines, (b,).
        first (Tensor): Main effects of x, (b, \*features of x).
        second (Tensor): Main effects of y, (b, \*features of y).
        interactions (Tensor): (b, \*features of x, \*features of y), what
                    ``attribute`` returns.
        convergence_delta (Tensor): The sum of the four parts minus the score, (b,).
    """

    score: Tensor
    constant: Tensor
    first: Tensor
    second: Tensor
    interactions: Tensor
    convergence_delta: Tensor


def pair(
    contributions_first: Tensor,
    contributions_second: Tensor,
    all_pairs: bool = False,
) -> Tensor:
    r"""
    Feature-pair attributions from contribution vectors:
    :math:`A_{ij} = \langle c_i, c_j \rangle`.

    Contributions are computed once per input, so that m inputs against n others cost
    m + n embedding attributions and this product.

    Args:

        contributions_first (Tensor): (b, \*i, k), or (m, \*i, k) with ``all_pairs``.
        contributions_second (Tensor): (b, \*j, k), or (n, \*j, k) with ``all_pairs``.
        all_pairs (bool, optional): Every first with every second input instead of
                    aligned pairs. Default: False

    Returns:
        *Tensor* (b, \*i, \*j), or (m, n, \*i, \*j) with ``all_pairs``; half precision
        is multiplied in float32 and returned in half precision.

    Raises:
        InvalidArgumentError: for tensors that don't fit each other.

    Examples::

        >>> pair(torch.randn(8, 50, 512), torch.randn(8, 12, 512)).shape
        torch.Size([8, 50, 12])
        >>> pair(torch.randn(8, 50, 512), torch.randn(3, 12, 512), True).shape
        torch.Size([8, 3, 50, 12])
    """
    first = _contributions("contributions_first", contributions_first)
    second = _contributions("contributions_second", contributions_second)
    if first.shape[-1] != second.shape[-1]:
        raise InvalidArgumentError(
            "contributions_second",
            f"vectors of width k = {first.shape[-1]}, as the first's",
            describe(second),
        )
    if not all_pairs and first.shape[0] != second.shape[0]:
        raise InvalidArgumentError(
            "contributions_second",
            f"a batch of {first.shape[0]}, as the first's (or all_pairs=True)",
            describe(second),
        )
    dtype = torch.promote_types(first.dtype, second.dtype)
    exact = torch.promote_types(dtype, torch.float32)
    # (b, *i, k) -> (b, i, k)
    rows = first.reshape(first.shape[0], -1, first.shape[-1]).to(exact)
    columns = second.reshape(second.shape[0], -1, second.shape[-1])
    columns = columns.to(device=rows.device, dtype=exact)
    axes_first, axes_second = first.shape[1:-1], second.shape[1:-1]
    if all_pairs:
        rows, columns = rows.unsqueeze(1), columns.unsqueeze(0)
    products = rows @ columns.transpose(-1, -2)
    shape = (*products.shape[:-2], *axes_first, *axes_second)
    return products.reshape(shape).to(dtype).contiguous()


def _contributions(argument: str, value: object) -> Tensor:
    tensor = check_tensor(argument, value)
    if tensor.ndim < 2 or not tensor.is_floating_point():
        raise InvalidArgumentError(
            argument, "a floating tensor (b, *features, k)", describe(value)
        )
    return tensor


class PairAttribution(Attribution, Generic[Settings]):
    r"""
    Base class of the methods that attribute a similarity to pairs of features, made of
    two :class:`EmbeddingAttribution` methods: :math:`A_{ij} = \langle c_i, c_j\rangle`.

    A method is a subclass whose constructor builds the two sides and whose
    ``attribute`` and ``decompose`` call :meth:`_pairs`.
    """

    forward_func: Similarity

    def __init__(
        self,
        similarity: Similarity,
        first: EmbeddingAttribution[Settings],
        second: EmbeddingAttribution[Settings],
    ) -> None:
        Attribution.__init__(self, similarity)
        self.similarity = similarity
        self.first = first
        self.second = second

    def attribute_future(self) -> None:
        """This method is not implemented, as for Captum's gradient methods."""
        raise NotImplementedError(f"attribute_future: {type(self).__name__}")

    def _sides(
        self,
        inputs: object,
        baselines: object,
        feature_mask: object,
        additional_forward_args: object,
        attribute_to_layer_input: bool = False,
    ) -> tuple[Side, Side]:
        """Both sides' validated arguments."""
        values = pair_of("inputs", inputs)
        starts = optional_pair_of("baselines", baselines)
        masks = optional_pair_of("feature_mask", feature_mask)
        args = optional_pair_of("additional_forward_args", additional_forward_args)
        for index, value in enumerate(values):
            check_tensor(f"inputs[{index}]", value)
        if values[0].shape[0] != values[1].shape[0]:
            raise InvalidArgumentError(
                "inputs",
                "two batches of the same size",
                f"batches of {values[0].shape[0]} and {values[1].shape[0]}",
            )
        first, second = (
            method._side(value, start, mask, arg, attribute_to_layer_input, index=index)
            for index, (method, value, start, mask, arg) in enumerate(
                zip((self.first, self.second), values, starts, masks, args)
            )
        )
        return first, second

    def _pairs(
        self, sides: tuple[Side, Side], settings: Settings, effects: bool
    ) -> PairDecomposition:
        """
        Feature-pair attributions of a batch.

        Args:

            sides (tuple): Both sides' arguments.
            settings: The method's, for both sides.
            effects (bool): Whether main effects are computed too (else they are zero
                        and the delta is that of the interactions).
        """
        results = []
        with Session() as session:
            paths = Paths(sides[0], session), Paths(sides[1], session)
            plans = tuple(
                method._plan(of_side, settings, index)
                for index, (method, of_side) in enumerate(
                    zip((self.first, self.second), paths)
                )
            )
            for row in range(len(sides[0])):
                example = paths[0][row], paths[1][row]
                results.append(self._one_pair(example, plans, effects))
                paths[0].release(row)
                paths[1].release(row)
        dtype = result_dtype(*sides, computed=results[0].interactions.dtype)
        return PairDecomposition(
            *(torch.stack(parts).to(dtype).contiguous() for parts in zip(*results))
        )

    def _one_pair(
        self, paths: tuple[Path, Path], plans: tuple[Any, ...], effects: bool
    ) -> PairDecomposition:
        x, y = paths
        factor, (score, constant, target) = self._corners(x, y)
        check_size(len(x.side), x.features.count, y.features.count, x)
        # Contributions on the side with fewer features, readings on the other one.
        if x.features.count < y.features.count:
            table, main_x, main_y = self._products(
                (self.first, x, plans[0]), (self.second, y, plans[1]), effects
            )
            table = table.T
        else:
            table, main_y, main_x = self._products(
                (self.second, y, plans[1]), (self.first, x, plans[0]), effects
            )
        check_finite(table)
        first, second, interactions = (
            factor * part.to(factor) for part in (main_x, main_y, table)
        )
        total = interactions.sum()
        if effects:
            delta = total + first.sum() + second.sum() - factor * (score - constant)
        else:
            delta = total - factor * target
        axes = x.features.shape, y.features.shape
        return PairDecomposition(
            factor * score,
            factor * constant,
            first.reshape(axes[0]),
            second.reshape(axes[1]),
            interactions.reshape(*axes[0], *axes[1]),
            delta,
        )

    def _products(
        self, few: tuple[Any, Path, Any], many: tuple[Any, Path, Any], effects: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The table (many, few), and main effects of few and of many."""
        method, path, plan = few
        other, other_path, other_plan = many
        vectors = method._contributions(path, plan)  # (few, k)
        main_few = vectors @ other_path.baseline_embedding.to(vectors)
        directions = vectors
        if effects:
            baseline = path.baseline_embedding.to(vectors)
            directions = torch.cat([vectors, baseline[None]])
        directions = directions.to(other_path.embedding)
        readings = other._readings(other_path, directions, other_plan)  # (many, m)
        if not effects:
            return readings, main_few, readings.new_zeros(readings.shape[0])
        return readings[:, :-1], main_few, readings[:, -1]

    def _corners(self, x: Path, y: Path) -> tuple[Tensor, tuple[Tensor, ...]]:
        """
        The similarity's factor, and the inner products that it multiplies: the score,
        that of the two baselines, and what the interactions sum to.
        """
        if x.embedding.numel() != y.embedding.numel():
            raise different_widths(x.embedding.numel(), y.embedding.numel())
        if self.similarity.kind == "frozen_cosine":
            for path in (x, y):
                check_norm(path.embedding, path.side.name("inputs"))
        dtype = torch.promote_types(x.dtype, y.dtype)
        g, g_baseline, h, h_baseline = (
            end.to(device=x.end.device, dtype=dtype)
            for path in (x, y)
            for end in (path.embedding, path.baseline_embedding)
        )
        products = g @ h, g_baseline @ h_baseline, (g - g_baseline) @ (h - h_baseline)
        return self.similarity.factor(g, h), products

    def _interaction_delta(
        self, sides: tuple[Side, Side], attributions: Tensor
    ) -> Tensor:
        """Sum of the attributions minus what the four corners say, (b,)."""
        check_attributions(attributions, len(sides[0]))
        targets = []
        with Session() as session:
            for row in range(len(sides[0])):
                x, y = (side.path(row, session) for side in sides)
                factor, corners = self._corners(x, y)
                targets.append(factor * corners[2])
        target = torch.stack(targets)
        total = attributions.to(target).flatten(1).sum(dim=1)
        return (total - target).to(attributions.dtype)


def layer_pair(layer: object) -> tuple[Optional[Any], Optional[Any]]:
    """One layer for each side; one module stands for both."""
    if isinstance(layer, torch.nn.Module):
        return layer, layer
    return pair_of("layer", layer)
