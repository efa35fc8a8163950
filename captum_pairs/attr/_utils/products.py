#!/usr/bin/env python3
"""
Products of an encoder's Jacobian J with vectors, summed over weighted points.

Shapes as in :mod:`captum_pairs.attr._utils.forward_pass`. Points come in chunks:
values (n, *value) and weights (n,).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Optional, Union

import torch
from captum_pairs.attr._utils.example import Example
from captum_pairs.attr._utils.validation import InvalidArgumentError
from torch import Tensor

# Graphs that autograd keeps for a chunk, in those of a forward pass: the graph itself
# and a gradient's buffers, or a graph of the backward pass as well (measured).
GRAPHS_REVERSE, GRAPHS_FORWARD = 1.5, 4.0
# How far a Jacobian and its transpose may be apart by rounding; Hugging Face's
# eager attention takes its softmax in float32 whatever the model's precision.
_GAP = {torch.float64: 1e-5, torch.float32: 3e-3}
_LOSSY_GAP = 0.1

# Makes the chunks for so many graphs of a forward pass that autograd keeps.
Points = Callable[[float], Iterable[tuple[Tensor, Tensor]]]


class NotTwiceDifferentiableError(Exception):
    """The encoder's backward pass can't be differentiated (correctly)."""


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


def feature_products(
    example: Example, points: Points, scale: Tensor, direction: Optional[str] = None
) -> Tensor:
    """
    The Jacobian times ``scale`` (*value), summed into features: (G, k).

    Args:

        example (Example): Whose encoder it is.
        points (Callable): Where the Jacobian is taken, and the weights.
        scale (Tensor): (*value).
        direction (str, optional): ``forward``, a product for each feature; ``reverse``,
                    one for each dimension of the embedding. Default: what is fewer.
    """
    count, width = example.features.count, example.embedding.numel()
    if direction == "forward" or (direction is None and count <= width):
        try:
            return forward_products(example, points, FeatureTangents(example, scale))
        except NotTwiceDifferentiableError as error:
            if direction == "forward":
                raise InvalidArgumentError(
                    "direction",
                    "'reverse' or None for an encoder whose backward pass can't "
                    "be differentiated",
                    "'forward'",
                ) from error
    axes = torch.eye(width, dtype=example.dtype, device=example.embedding.device)
    return reverse_products(example, points, axes, scale)


def reverse_products(
    example: Example, points: Points, directions: Tensor, scale: Tensor
) -> Tensor:
    r"""
    :math:`\langle J_i\,s_i, v\rangle` of every feature i for directions v (m, k):
    (G, m), by m vector-Jacobian products at each point; ``scale`` s is (\*value).
    """
    columns = [scale.new_zeros(example.features.count) for _ in directions]
    for values, weights in points(GRAPHS_REVERSE):
        with example.run(values) as (leaf, embeddings):
            for column, direction in zip(columns, directions):
                # Half precision underflows less if the largest entry is one.
                size = direction.abs().amax().clamp_min(1e-30)
                cotangent = (direction / size).expand_as(embeddings)
                gradient = example.gradient(embeddings, leaf, cotangent, False)
                # (n, *value) -> (*value)
                mean = torch.tensordot(weights, gradient.to(example.dtype), 1)
                column += example.features.sum(mean * scale) * size.to(column.device)
    return torch.stack(columns, dim=-1)


def forward_products(
    example: Example, points: Points, tangents: Union[Sequence[Tensor], Tensor]
) -> Tensor:
    r"""
    :math:`J\,t` for tangents t (\*value): (len(tangents), k).

    A Jacobian-vector product is the transpose of the vector-Jacobian product:
    :math:`u \mapsto J^T u` is linear, so that differentiating it once gives
    :math:`J t` for each tangent at the cost of one matrix product a layer, a third
    of a dual number's (forward mode computes the primal again for each tangent).

    Raises:
        NotTwiceDifferentiableError: if autograd does not see all of the backward pass.
    """
    results = example.value.new_zeros(len(tangents), example.embedding.numel())
    results = results.to(example.embedding.device)
    for values, weights in points(GRAPHS_FORWARD):
        with example.run(values, twice=True) as (leaf, embeddings):
            # Any u does for the derivative; this one also shows, by <u, J t> =
            # <J^T u, t>, whether autograd saw all of the backward pass.
            probe = _probe(embeddings)
            pulled = _pull(example, embeddings, leaf, probe)
            sums = torch.zeros_like(leaf[0], dtype=example.dtype)
            pushes = torch.zeros_like(embeddings)
            for index in range(len(tangents)):
                tangent = tangents[index]
                pushed = _push(pulled, probe, tangent.to(leaf.dtype))
                # (n, k) -> (k,)
                results[index] += weights.to(pushed) @ pushed
                sums += tangent
                pushes += pushed
            _check_transpose(example, pulled, sums, probe, pushes)
    return results


def _probe(embeddings: Tensor) -> Tensor:
    """Some u of no special direction, (n, k), that takes nothing from the generator."""
    phase = torch.arange(
        embeddings.numel(), dtype=embeddings.dtype, device=embeddings.device
    )
    return torch.cos(phase).reshape(embeddings.shape).requires_grad_()


def _pull(example: Example, embeddings: Tensor, leaf: Tensor, probe: Tensor) -> Tensor:
    """J^T u with its graph: (n, *value)."""
    try:
        pulled = example.gradient(embeddings, leaf, probe, True)
    except InvalidArgumentError:
        raise
    except torch.OutOfMemoryError:
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
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise NotTwiceDifferentiableError(str(error)) from error
    return pushed


def _check_transpose(
    example: Example, pulled: Tensor, tangent: Tensor, probe: Tensor, pushed: Tensor
) -> None:
    """
    <J^T u, t> = <u, J t> at every point, or some of the backward pass is hidden from
    autograd (summed over the points, what is hidden may cancel).
    """
    left = (pulled.detach().to(example.dtype) * tangent).flatten(1)
    right = probe.detach() * pushed
    # (n, value), (n, k) -> (n,)
    gap = left.sum(dim=1).to(right.device) - right.sum(dim=1)
    size = left.norm().to(right.device) + right.norm()
    limit = _LOSSY_GAP if example.is_lossy else _GAP[example.precision]
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
