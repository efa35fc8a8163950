#!/usr/bin/env python3
"""
Products of an encoder's Jacobian J with vectors, summed over weighted points.

Shapes as in :mod:`captum_pairs.attr._utils.forward_pass`; s: sums of the same products
with different weights. Points of several examples share a pass where they can (see
:mod:`captum_pairs.attr._utils.joint`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, NamedTuple, Optional, Union

import torch
from captum_pairs.attr._utils.example import Example
from captum_pairs.attr._utils.joint import groups_of, joined
from captum_pairs.attr._utils.layer_norm import transposed
from captum_pairs.attr._utils.rows import probe_of
from captum_pairs.attr._utils.validation import InvalidArgumentError
from torch import Tensor

# Graphs that autograd keeps for a chunk, in those of a forward pass: the graph itself
# and a gradient's buffers, or a graph of the backward pass as well (measured).
GRAPHS_REVERSE, GRAPHS_FORWARD = 1.5, 4.0
# Of a pass without gradients, which keeps none.
GRAPHS_SCAN = 0.5
# How far a Jacobian and its transpose may be apart by rounding; Hugging Face's
# eager attention takes its softmax in float32 whatever the model's precision.
_GAP = {torch.float64: 1e-5, torch.float32: 3e-3}
_LOSSY_GAP = 0.1

# A tangent (*value) for each of some features.
Tangents = Union[Sequence[Tensor], Tensor]


class NotTwiceDifferentiableError(Exception):
    """The encoder's backward pass can't be differentiated (correctly)."""


@dataclass(frozen=True)
class Points:
    """
    Where an example's Jacobian is taken, and the weights with which it is summed.

    Args:

        example (Example): Whose it is.
        nodes (Tensor): See :meth:`Example.points`, (n,).
        weights (Tensor): Of s sums, (s, n).
    """

    example: Example
    nodes: Tensor
    weights: Tensor


class Part(NamedTuple):
    """Some of the points of the example at ``place``, in a pass with others'."""

    place: int
    example: Example
    values: Tensor
    weights: Tensor


class FeatureTangents(Sequence[Tensor]):
    """A tangent (*value), feature by feature."""

    def __init__(self, example: Example, scale: Tensor) -> None:
        self._features = example.features
        self._scale = scale

    def __len__(self) -> int:
        return self._features.count

    def __getitem__(self, index):  # type: ignore[no-untyped-def]  # one, never a slice
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._features.part(self._scale, index)

    def others_than_zero(self) -> list[int]:
        """Features whose tangents are not zero: inputs and baselines may share some, a
        first token that is the same in all texts."""
        return _others_than_zero(self._features.sum(self._scale.abs())[:, None])


def _others_than_zero(rows: Tensor) -> list[int]:
    """Places of rows (m, d) that are not zero (or not known to be)."""
    found: list[int] = (rows != 0).any(dim=1).nonzero()[:, 0].tolist()
    return found


def passes(
    points: Sequence[Points], graphs: float, size: Optional[int] = None
) -> Iterator[list[Part]]:
    """
    Points in as few passes as memory allows, of about the same size: 3 + 3 + 2 + 2 and
    not 3 + 3 + 3 + 1.

    Args:

        points (sequence of Points): Of one example each.
        graphs (float): How many graphs of a forward pass autograd keeps.
        size (int, optional): The most points of a pass. Default: by memory
    """
    groups = [[at] for at in range(len(points))]
    if size is None:  # who says how many wants no others beside them
        groups = groups_of([each.example for each in points])
    for group in groups:
        most = points[group[0]].example.chunk_size(size, graphs)
        total = sum(len(points[at].nodes) for at in group)
        room = most = -(-total // -(-total // most))
        parts: list[Part] = []
        for at in group:
            own, start = points[at], 0
            while start < len(own.nodes):
                some = slice(start, start + room)
                values = own.example.points(own.nodes[some])
                parts.append(Part(at, own.example, values, own.weights[:, some]))
                start, room = start + len(values), room - len(values)
                if not room:
                    yield parts
                    parts, room = [], most
        if parts:
            yield parts


def together(parts: Sequence[Part]) -> tuple[Example, Tensor]:
    """The parts of a pass as one example, and all of their points."""
    counts = [len(part.values) for part in parts]
    example = joined([part.example for part in parts], counts)
    return example, torch.cat([part.values for part in parts])


def feature_products(
    points: Sequence[Points],
    scales: Sequence[Tensor],
    direction: Optional[str] = None,
    size: Optional[int] = None,
) -> list[Tensor]:
    """
    Of each example the Jacobian times its scale (*value), summed into features.

    Args:

        points (sequence of Points): Of one example each; of all of them the products
                    are either a few for features or a few for dimensions.
        scales (sequence of Tensor): (*value).
        direction (str, optional): ``forward``, a product for each feature; ``reverse``,
                    one for each dimension of the embedding. Default: what is fewer.
        size (int, optional): The most points of a pass. Default: by memory

    Returns:
        *list of Tensor*: (s, G, k).
    """
    results: list[Any] = [None] * len(points)
    by_features: list[int] = []
    by_width: list[int] = []
    for at, each in enumerate(points):
        few = each.example.features.count <= each.example.embedding.numel()
        is_forward = direction == "forward" or (direction is None and few)
        (by_features if is_forward else by_width).append(at)
    if by_features:
        tangents = [
            FeatureTangents(points[at].example, scales[at]) for at in by_features
        ]
        try:
            found = forward_products([points[at] for at in by_features], tangents, size)
        except NotTwiceDifferentiableError as error:
            if direction == "forward":
                raise InvalidArgumentError(
                    "direction",
                    "'reverse' or None for an encoder whose backward pass can't "
                    "be differentiated",
                    "'forward'",
                ) from error
            by_width += by_features
        else:
            for at, values in zip(by_features, found):
                results[at] = values
    if by_width:
        axes = [
            torch.eye(len(embedding), dtype=embedding.dtype, device=embedding.device)
            for embedding in (points[at].example.embedding for at in by_width)
        ]
        chosen = [points[at] for at in by_width], axes, [scales[at] for at in by_width]
        for at, values in zip(by_width, reverse_products(*chosen, size)):
            results[at] = values
    return results


def reverse_products(
    points: Sequence[Points],
    directions: Sequence[Tensor],
    scales: Sequence[Tensor],
    size: Optional[int] = None,
) -> list[Tensor]:
    r"""
    :math:`\langle J_i\,s_i, v\rangle` of every feature i of each example for its
    directions v (m, k), by as many vector-Jacobian products at each point; scales s are
    (\*value).

    Returns:
        *list of Tensor*: (s, G, m).
    """
    columns = [
        scale.new_zeros(
            len(along), len(each.weights), each.example.features.count
        )  # (m, s, G)
        for each, along, scale in zip(points, directions, scales)
    ]
    # Half precision underflows less if the largest entry is one.
    sizes = [
        along.abs().amax(dim=1, keepdim=True).clamp_min(1e-30) for along in directions
    ]
    wanted = [_others_than_zero(along) for along in directions]
    _leave_rows_out(points, [1 + len(rows) for rows in wanted])
    for parts in passes(points, GRAPHS_REVERSE, size):
        whole, values = together(parts)
        counts = [len(part.values) for part in parts]
        with whole.run(values) as (leaf, embeddings):
            for rows in zip_longest(*(wanted[part.place] for part in parts)):
                cotangent = _cotangent(
                    embeddings,
                    [
                        (
                            None
                            if row is None
                            else directions[part.place][row] / sizes[part.place][row]
                        )
                        for part, row in zip(parts, rows)
                    ],
                    counts,
                )
                gradients = whole.gradient(embeddings, leaf, cotangent, False)
                for part, row, gradient in zip(
                    parts, rows, torch.split(gradients, counts)
                ):
                    if row is None:
                        continue
                    # (s, n), (n, *value) -> (s, *value)
                    means = torch.tensordot(
                        part.weights, gradient.to(part.example.dtype), 1
                    )
                    features, column = part.example.features, columns[part.place][row]
                    norm = sizes[part.place][row].to(column.device)
                    for at, mean in enumerate(means):
                        column[at] += features.sum(mean * scales[part.place]) * norm
    return [column.permute(1, 2, 0) for column in columns]


def _leave_rows_out(points: Sequence[Points], products: Sequence[int]) -> None:
    """Of so many products, passes among them, at each point of each example."""
    for each, many in zip(points, products):
        each.example.leave_rows_out(len(each.nodes) * many)


def _cotangent(
    embeddings: Tensor, rows: Sequence[Optional[Tensor]], counts: Sequence[int]
) -> Tensor:
    """A row (k,) for each example's points, (n, k); None is zero."""
    first = rows[0]
    if len(rows) == 1 and first is not None:
        return first.to(embeddings).expand_as(embeddings)
    return torch.cat(
        [
            (embeddings.new_zeros(1) if row is None else row.to(embeddings)).expand(
                count, embeddings.shape[1]
            )
            for row, count in zip(rows, counts)
        ]
    )


def forward_products(
    points: Sequence[Points],
    tangents: Sequence[Tangents],
    size: Optional[int] = None,
) -> list[Tensor]:
    r"""
    :math:`J\,t` of each example for its tangents t (\*value).

    A Jacobian-vector product is the transpose of the vector-Jacobian product:
    :math:`u \mapsto J^T u` is linear, so that differentiating it once gives
    :math:`J t` for each tangent at the cost of one matrix product a layer, a third
    of a dual number's (forward mode computes the primal again for each tangent).

    Returns:
        *list of Tensor*: (s, len(tangents), k).

    Raises:
        NotTwiceDifferentiableError: if autograd does not see all of the backward pass.
    """
    results = [
        each.example.embedding.new_zeros(
            len(each.weights), len(own), each.example.embedding.numel()
        )
        for each, own in zip(points, tangents)
    ]
    wanted = [
        (
            own.others_than_zero()
            if isinstance(own, FeatureTangents)
            else list(range(len(own)))
        )
        for own in tangents
    ]
    _leave_rows_out(points, [2 + len(rows) for rows in wanted])
    for parts in passes(points, GRAPHS_FORWARD, size):
        whole, values = together(parts)
        counts = [len(part.values) for part in parts]
        norms = transposed(whole.session.modules)
        with norms, whole.run(values, twice=True) as (leaf, embeddings):
            # Any u does for the derivative; this one also shows, by <u, J t> =
            # <J^T u, t>, whether autograd saw all of the backward pass.
            probe = probe_of(embeddings).requires_grad_()
            pulled = _pull(whole, embeddings, leaf, probe)
            sums = torch.zeros_like(leaf, dtype=whole.dtype)
            pushes = torch.zeros_like(embeddings)
            for rows in zip_longest(*(wanted[part.place] for part in parts)):
                tangent = _tangent(
                    leaf,
                    [
                        None if row is None else tangents[part.place][row]
                        for part, row in zip(parts, rows)
                    ],
                    counts,
                )
                pushed = _push(pulled, probe, tangent.to(leaf.dtype))
                for part, row, own in zip(parts, rows, torch.split(pushed, counts)):
                    if row is not None:
                        # (s, n), (n, k) -> (s, k)
                        results[part.place][:, row] += part.weights.to(own) @ own
                sums += tangent
                pushes += pushed
            limit = _LOSSY_GAP if whole.is_lossy else _GAP[whole.precision]
            _check_transpose(pulled.to(whole.dtype), sums, probe, pushes, limit)
    return results


def _tangent(
    leaf: Tensor, rows: Sequence[Optional[Tensor]], counts: Sequence[int]
) -> Tensor:
    """A tangent (*value) for each example's points, (n, *value); None is zero."""
    first = rows[0]
    if len(rows) == 1 and first is not None:
        return first.expand_as(leaf)
    zero = leaf.new_zeros(()).expand(leaf.shape[1:])
    return torch.cat(
        [
            (zero if row is None else row).expand(count, *leaf.shape[1:])
            for row, count in zip(rows, counts)
        ]
    )


def _pull(example: Example, embeddings: Tensor, leaf: Tensor, probe: Tensor) -> Tensor:
    """J^T u with its graph: (n, *value)."""
    try:
        pulled = example.gradient(embeddings, leaf, probe, True)
    except InvalidArgumentError:
        raise
    except torch.cuda.OutOfMemoryError:  # its name before torch 2.5 as well
        raise
    except RuntimeError as error:
        raise NotTwiceDifferentiableError(str(error)) from error
    if not pulled.requires_grad:
        raise NotTwiceDifferentiableError("the backward pass has no graph")
    return pulled


def _push(pulled: Tensor, probe: Tensor, tangent: Tensor) -> Tensor:
    """J t from J^T u: (n, k)."""
    try:
        with torch.autocast(pulled.device.type, enabled=False):
            (pushed,) = torch.autograd.grad(
                pulled,
                probe,
                tangent.expand_as(pulled),
                retain_graph=True,
                materialize_grads=True,
            )
    except torch.cuda.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise NotTwiceDifferentiableError(str(error)) from error
    return pushed


def _check_transpose(
    pulled: Tensor, tangent: Tensor, probe: Tensor, pushed: Tensor, limit: float
) -> None:
    """
    <J^T u, t> = <u, J t> at every point, or some of the backward pass is hidden from
    autograd (summed over the points, what is hidden may cancel); up to a share
    ``limit`` of their sizes.
    """
    left = (pulled.detach() * tangent).flatten(1)
    right = probe.detach() * pushed
    # (n, value), (n, k) -> (n,)
    gap = left.sum(dim=1).to(right.device) - right.sum(dim=1)
    size = left.norm().to(right.device) + right.norm()
    # Of derivatives that are not finite nothing can be said here.
    if bool(gap.norm() > limit * size):
        raise NotTwiceDifferentiableError("part of the backward pass has no graph")


def check_slope(found: Tensor, difference: Tensor) -> None:
    """Refuse an encoder that is flat at every step and yet differs between the ends."""
    if bool(difference.any()) and not bool(found.any()):
        raise InvalidArgumentError(
            "forward_func",
            "an encoder with derivatives on the path",
            "derivatives of zero at every step, though the embeddings of inputs and "
            "baselines differ (rounding or another step inside the encoder; or too "
            "few steps)",
        )
