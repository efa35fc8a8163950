#!/usr/bin/env python3

# pyre-strict
"""
Products of an encoder's Jacobian J with vectors, integrated along straight paths.

Notation used for tensor shapes: b: examples; n: steps; value: the shape of the
attributed tensor of one example; G: features; k: dimensions of the embedding; m:
directions in the embedding space.
"""

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Callable, List, Optional, Tuple

import torch
from captum.attr._utils.feature_pairs import (
    check_norm,
    describe,
    Features,
    InvalidArgumentError,
    mask_row,
    masked_features,
    normalized,
    position_features,
    scalar_features,
    validate_mask,
)
from captum_pairs.attr._utils.products import (
    _check_transpose,
    _GAP,
    _LOSSY_GAP,
    _push,
    check_slope,
    NotTwiceDifferentiableError,
)
from captum_pairs.attr._utils.rows import probe_of
from torch import Tensor
from torch.nn.attention import sdpa_kernel, SDPBackend


@dataclass(frozen=True)
class EncoderPath:
    r"""
    The straight lines of a batch from baselines to inputs, at the attributed tensor,
    and the encoder from there on.

    Args:

        encode (Callable): Embeddings (n * b, k) of values (n * b, \*value), all
                    examples of the first step first.
        start, end (Tensor): Both ends of the lines, (b, \*value).
        features (tuple): Of each example, the partition of its scalars.
        is_global (bool): Whether derivatives are multiplied by end - start.
        normalize (bool): Whether embeddings are divided by their norms.
        suffix (str): What an error adds to an argument's name.
    """

    encode: Callable[[Tensor], Tensor]
    start: Tensor
    end: Tensor
    features: Tuple[Features, ...]
    is_global: bool
    normalize: bool
    suffix: str = ""

    @cached_property
    def ends(self) -> Tuple[Tensor, Tensor]:
        """The embeddings of inputs and of baselines, (b, k) each."""
        with torch.no_grad():
            embeddings = self._embed(torch.cat([self.end, self.start]))
        ends, starts = embeddings.to(self.dtype).chunk(2)
        return self._directed(ends, "inputs"), self._directed(starts, "baselines")

    @property
    def dtype(self) -> torch.dtype:
        """In which results are accumulated: at least float32."""
        return torch.promote_types(self.end.dtype, torch.float32)

    @property
    def scale(self) -> Tensor:
        r"""What derivatives are multiplied by, (b, \*value)."""
        if self.is_global:
            return (self.end - self.start).to(self.dtype)
        return torch.ones_like(self.end, dtype=self.dtype)

    def _directed(self, embeddings: Tensor, role: str) -> Tensor:
        if not self.normalize:
            return embeddings
        for embedding in embeddings:
            check_norm(embedding, role + self.suffix)
        return normalized(embeddings)

    def run(self, alphas: List[float]) -> Tuple[Tensor, Tensor]:
        r"""A leaf with the points (n * b, \*value) and its embeddings (n * b, k)."""
        difference = self.end - self.start
        points = [self.start + alpha * difference for alpha in alphas]
        leaf = torch.cat(points).detach().requires_grad_()
        embeddings = self._embed(leaf).to(self.dtype)
        if not embeddings.requires_grad:
            raise self._independent()
        return leaf, normalized(embeddings) if self.normalize else embeddings

    def _embed(self, values: Tensor) -> Tensor:
        embeddings = self.encode(values)
        if (
            not isinstance(embeddings, Tensor)
            or embeddings.ndim != 2
            or len(embeddings) != len(values)
            or not embeddings.is_floating_point()
        ):
            raise InvalidArgumentError(
                "forward_func",
                f"an encoder that maps {len(values)} examples to a floating tensor "
                f"(b, k) = ({len(values)}, k)",
                describe(embeddings),
            )
        return embeddings

    def pull(
        self, embeddings: Tensor, leaf: Tensor, cotangent: Tensor, graph: bool
    ) -> Tensor:
        r"""One vector-Jacobian product: (n * b, k) -> (n * b, \*value)."""
        (gradient,) = torch.autograd.grad(
            embeddings,
            leaf,
            cotangent,
            retain_graph=True,
            create_graph=graph,
            allow_unused=True,
        )
        if gradient is None:
            raise self._independent()
        return gradient

    def _independent(self) -> InvalidArgumentError:
        return InvalidArgumentError(
            "forward_func",
            f"an encoder that can be differentiated with respect to inputs{self.suffix}"
            " or their layer's value",
            "an embedding that does not depend on it, or not through autograd",
        )

    def integral(self, values: Tensor, step_sizes: List[float]) -> Tensor:
        """The weighted sum over the steps: (n * b, ...) -> (b, ...)."""
        weights = torch.tensor(step_sizes, dtype=self.dtype, device=values.device)
        steps = values.to(self.dtype).reshape(len(step_sizes), -1, *values.shape[1:])
        return torch.tensordot(weights, steps, 1)

    def sum(self, values: Tensor) -> Tensor:
        r"""Scalars summed into features: (b, \*value) -> (b, G)."""
        rows = zip(self.features, values)
        return torch.stack([features.sum(row) for features, row in rows])

    def part(self, values: Tensor, feature: int) -> Tensor:
        r"""Values where they belong to a feature, and zero elsewhere: (b, \*value)."""
        rows = zip(self.features, values)
        return torch.stack([features.part(row, feature) for features, row in rows])


def features_of(
    argument: str, mask: Any, value: Tensor, at_layer: bool
) -> Tuple[Features, ...]:
    r"""
    Of each example of a value (b, \*value) its features: those of a mask, or every
    scalar, or at a layer every position.
    """
    rows, shape = len(value), tuple(value.shape[1:])
    if mask is not None:
        ids = validate_mask(argument, mask).to(value.device)
        count = int(ids.max()) + 1
        each = [mask_row(argument, ids, shape, 0, row, rows) for row in range(rows)]
        return tuple(masked_features(argument, row, count, shape) for row in each)
    if at_layer:
        return (position_features(shape, None, value.device),) * rows
    return (scalar_features(shape, value.device),) * rows


def jacobian_products(
    path: EncoderPath,
    step_sizes: List[float],
    alphas: List[float],
    directions: Optional[Tensor] = None,
) -> Tensor:
    r"""
    The Jacobian, integrated over some steps, times the scale, summed into features.

    Args:

        path (EncoderPath): Where.
        step_sizes, alphas (list): Weights and places of the steps.
        directions (Tensor, optional): (b, m, k), to return the inner products with
                    them instead. Default: None

    Returns:
        *Tensor*: (b, G, k), or (b, G, m) with directions. It takes a product for each
        feature, each dimension of the embedding or each direction at each step,
        whatever is fewest.
    """
    width = path.ends[0].shape[1]
    if directions is not None and directions.shape[1] <= width:
        return _reverse_products(path, step_sizes, alphas, directions)
    products: Optional[Tensor] = None
    if path.features[0].count <= width:
        with suppress(NotTwiceDifferentiableError):
            products = _forward_products(path, step_sizes, alphas)
    if products is None:
        axes = torch.eye(width, dtype=path.dtype, device=path.end.device)
        axes = axes.expand(len(path.end), -1, -1)
        products = _reverse_products(path, step_sizes, alphas, axes)
    if directions is not None:
        products = products @ directions.to(products).transpose(1, 2)
    return products


def _reverse_products(
    path: EncoderPath, step_sizes: List[float], alphas: List[float], directions: Tensor
) -> Tensor:
    """(b, G, m), by a vector-Jacobian product for each direction (b, m, k)."""
    with torch.enable_grad():
        leaf, embeddings = path.run(alphas)
    scale, columns = path.scale, []
    for direction in directions.unbind(dim=1):
        cotangent = direction.to(embeddings).repeat(len(alphas), 1)
        gradient = path.pull(embeddings, leaf, cotangent, graph=False)
        # (n * b, *value) -> (b, *value) -> (b, G)
        columns.append(path.sum(path.integral(gradient, step_sizes) * scale))
    return torch.stack(columns, dim=-1)


def _forward_products(
    path: EncoderPath, step_sizes: List[float], alphas: List[float]
) -> Tensor:
    r"""
    (b, G, k), by a Jacobian-vector product for each feature.

    It is the transpose of the vector-Jacobian product: :math:`u \mapsto J^T u` is
    linear, so that differentiating it once gives :math:`J t` for each tangent t, at
    the cost of about one backward pass and without forward-mode differentiation.
    Fused attention has no second derivative: PyTorch's math kernel runs meanwhile,
    which is a setting of the process.

    Raises:
        NotTwiceDifferentiableError: if autograd does not see all of the backward pass.
    """
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        leaf, embeddings = path.run(alphas)
        probe = probe_of(embeddings)
        pulled = _transposed(path, embeddings, leaf, probe)
    scale, rows = path.scale, []
    tangents = torch.zeros_like(pulled, dtype=path.dtype)
    pushes = torch.zeros_like(embeddings)
    for feature in range(path.features[0].count):
        tangent = path.part(scale, feature)
        tangent = tangent.repeat(len(alphas), *[1] * (tangent.ndim - 1))
        pushed = _push(pulled, probe, tangent.to(pulled.dtype))
        # (n * b, k) -> (b, k)
        rows.append(path.integral(pushed, step_sizes))
        tangents += tangent
        pushes += pushed
    limit = _GAP.get(leaf.dtype, _LOSSY_GAP)
    _check_transpose(pulled.to(path.dtype), tangents, probe, pushes, limit)
    return torch.stack(rows, dim=1)


def _transposed(
    path: EncoderPath, embeddings: Tensor, leaf: Tensor, probe: Tensor
) -> Tensor:
    r"""J^T u with its graph, (n * b, \*value)."""
    try:
        pulled = path.pull(embeddings, leaf, probe, graph=True)
    except (InvalidArgumentError, torch.cuda.OutOfMemoryError):
        raise
    except RuntimeError as error:
        raise NotTwiceDifferentiableError(str(error)) from error
    if not pulled.requires_grad:
        raise NotTwiceDifferentiableError("the backward pass has no graph")
    return pulled


def require_slope(path: EncoderPath, products: Tensor, differences: Tensor) -> None:
    """Refuse an encoder without derivatives on the path between different ends."""
    rows = zip(path.start, path.end, products, differences)
    for start, end, found, difference in rows:
        if not torch.equal(start, end):
            check_slope(found, difference)
