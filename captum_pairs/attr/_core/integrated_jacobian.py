#!/usr/bin/env python3

import typing
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Callable, Literal, NamedTuple, Optional, Union

import torch
from captum.log import log_usage
from captum_pairs.attr._core.embedding_attribution import (
    check_attributions,
    check_directions,
    Contributions,
    EmbeddingAttribution,
    Paths,
    result_dtype,
)
from captum_pairs.attr._utils.hooks import Session
from captum_pairs.attr._utils.path import Path, Side
from captum_pairs.attr._utils.quadrature import (
    quadrature,
    steps_up_to,
    validate_quadrature,
)
from captum_pairs.attr._utils.validation import (
    InvalidArgumentError,
    one_of,
    positive_float,
    positive_int,
    warn_caller,
)
from torch import Tensor

# Graphs that autograd keeps for a chunk, in those of a forward pass: the graph itself
# and a gradient's buffers, or a graph of the backward pass as well (measured).
_GRAPHS_REVERSE = 1.5
_GRAPHS_FORWARD = 4.0
# How far a Jacobian and its transpose may be apart by rounding; Hugging Face's
# eager attention takes its softmax in float32 whatever the model's precision.
_GAP = {torch.float64: 1e-5, torch.float32: 3e-3}
_LOSSY_GAP = 0.1


@dataclass(frozen=True)
class Integration:
    """How the integral over the path is computed; see ``attribute``."""

    n_steps: int
    method: str
    tolerance: Optional[float]
    internal_batch_size: Optional[int]

    @classmethod
    def of(
        cls,
        n_steps: object,
        method: object,
        tolerance: object,
        internal_batch_size: object,
    ) -> "Integration":
        """Validated settings."""
        n_steps, method = validate_quadrature(n_steps, method)
        if tolerance is not None:
            tolerance = positive_float("tolerance", tolerance)
        if internal_batch_size is not None:
            internal_batch_size = positive_int(
                "internal_batch_size", internal_batch_size
            )
        return cls(n_steps, method, tolerance, internal_batch_size)


class Convergence(NamedTuple):
    r"""
    How far the integral of a side is from complete, at the steps that were chosen.

    Args:

        n_steps (int): The number of steps.
        residual (Tensor): :math:`\|\sum_i c_i - (g(x) - g(r_x))\| / \|g(x) - g(r_x)\|`
                    of each example, (b,).
    """

    n_steps: int
    residual: Tensor


class EmbeddingDecomposition(NamedTuple):
    r"""
    An embedding, wholly accounted for: :math:`g(x) = g(r_x) + \sum_i c_i`.

    Args:

        embedding (Tensor): g(x), (b, k).
        baseline_embedding (Tensor): :math:`g(r_x)`, (b, k).
        contributions (Tensor): c_i, (b, \*features, k), what ``attribute`` returns.
        convergence_delta (Tensor): Sum of the contributions minus
                    :math:`g(x) - g(r_x)`, (b, k).
    """

    embedding: Tensor
    baseline_embedding: Tensor
    contributions: Tensor
    convergence_delta: Tensor


class EmbeddingReading(NamedTuple):
    r"""
    Linear readings :math:`\langle g(x), v\rangle` of an embedding, accounted for.

    Args:

        embedding (Tensor): g(x), (b, k).
        baseline_embedding (Tensor): :math:`g(r_x)`, (b, k).
        attributions (Tensor): :math:`\langle c_i, v\rangle`, (b, \*features, m).
        convergence_delta (Tensor): Sum of the attributions minus
                    :math:`\langle g(x) - g(r_x), v\rangle`, (b, m).
    """

    embedding: Tensor
    baseline_embedding: Tensor
    attributions: Tensor
    convergence_delta: Tensor


class _NotTwiceDifferentiable(Exception):
    """The encoder's backward pass can't be differentiated (correctly)."""


class IntegratedJacobian(EmbeddingAttribution[Integration]):
    r"""
    Integrated gradients of every dimension of an embedding at once.

    Feature i's contribution vector is the Jacobian of the encoder g, integrated along
    the straight line from the baseline :math:`r` to the input x, times the difference,
    summed over the feature's scalars e:

    .. math::
        c_i = \sum_{e \in i} (x - r)_e \int_0^1
              \frac{\partial g}{\partial x_e}(r + \alpha (x - r))\, d\alpha
        \in R^k,

    so that :math:`\sum_i c_i = g(x) - g(r)`: k equations of completeness. It is the
    half of a feature-pair attribution that belongs to one input (Möller et al., TMLR
    2025, https://arxiv.org/abs/2408.14153, section 3), and is computed once per input
    however many pairs the input is part of.

    Contributions come either from one Jacobian-vector product per feature or from one
    vector-Jacobian product per dimension of the embedding, whichever is fewer.
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        normalize: bool = False,
        multiply_by_inputs: bool = True,
        direction: Optional[str] = None,
    ) -> None:
        r"""
        Args:

            forward_func (Callable or torch.nn.Module): The encoder: maps (b, ...) to
                        embeddings (b, k).
            normalize (bool, optional): Attribute the embedding divided by its norm;
                        the normalisation is part of the path. Default: False
            multiply_by_inputs (bool, optional): Whether contributions are global
                        (multiplied by input minus baseline) or local (the averaged
                        Jacobian, summed over each feature). Default: True
            direction (str, optional): ``forward`` (a product per feature) or
                        ``reverse`` (a product per embedding dimension) instead of the
                        cheaper one. Default: None
        """
        super().__init__(forward_func, normalize)
        self._multiply_by_inputs = multiply_by_inputs
        self.direction = one_of("direction", direction, (None, "forward", "reverse"))

    @typing.overload
    def attribute(
        self,
        inputs: Tensor,
        baselines: Any = None,
        feature_mask: Optional[Tensor] = None,
        additional_forward_args: Any = None,
        n_steps: int = 50,
        method: str = "gausslegendre",
        tolerance: Optional[float] = None,
        internal_batch_size: Optional[int] = None,
        *,
        return_convergence_delta: Literal[True],
    ) -> tuple[Tensor, Tensor]: ...

    @typing.overload
    def attribute(
        self,
        inputs: Tensor,
        baselines: Any = None,
        feature_mask: Optional[Tensor] = None,
        additional_forward_args: Any = None,
        n_steps: int = 50,
        method: str = "gausslegendre",
        tolerance: Optional[float] = None,
        internal_batch_size: Optional[int] = None,
        return_convergence_delta: Literal[False] = False,
    ) -> Tensor: ...

    @log_usage()
    def attribute(
        self,
        inputs: Tensor,
        baselines: Any = None,
        feature_mask: Optional[Tensor] = None,
        additional_forward_args: Any = None,
        n_steps: int = 50,
        method: str = "gausslegendre",
        tolerance: Optional[float] = None,
        internal_batch_size: Optional[int] = None,
        return_convergence_delta: bool = False,
    ) -> Union[Tensor, tuple[Tensor, Tensor]]:
        r"""
        Args:

            inputs (Tensor): Floating tensor (b, ...).
            baselines (scalar or Tensor, optional): Where the path starts: a number, or
                        a tensor of the input's shape or of batch 1. Default: zeros
            feature_mask (Tensor, optional): Ids 0...G-1 that sum scalars into G
                        features; of the input's dimensions, each its own size or 1.
                        Default: every scalar is a feature
            additional_forward_args (Any, optional): One further argument of the
                        encoder, or a tuple of them; tensors of batch 1 or b stay with
                        their example. Default: None
            n_steps (int, optional): Quadrature steps; with a tolerance, the most that
                        are tried. Default: 50
            method (str, optional): ``gausslegendre``, ``riemann_right``,
                        ``riemann_left``, ``riemann_middle`` or ``riemann_trapezoid``.
            tolerance (float, optional): Take as few of 4, 8, 16, ... steps as bring
                        the residual (see :class:`Convergence`), worst over the batch,
                        within it; warn if ``n_steps`` do not. Default: None
            internal_batch_size (int, optional): The most points run at once.
                        Default: chosen by the memory that a point needs
            return_convergence_delta (bool, optional): Default: False

        Returns:
            **contributions** or 2-element tuple of **contributions**, **delta**:

            - **contributions** (*Tensor*): (b, \*features, k), of the input's dtype.
            - **delta** (*Tensor*): sum of the contributions minus the difference of
              the embeddings, (b, k).

        Raises:
            InvalidArgumentError: a ``ValueError`` that names the argument.

        Examples::

            >>> encoder = nn.Linear(4, 3)
            >>> jacobian = IntegratedJacobian(encoder, normalize=True)
            >>> x = torch.randn(2, 4)
            >>> contributions, delta = jacobian.attribute(
            ...     x, return_convergence_delta=True
            ... )
            >>> contributions.shape, delta.shape
            (torch.Size([2, 4, 3]), torch.Size([2, 3]))
        """
        side = self._side(inputs, baselines, feature_mask, additional_forward_args)
        settings = Integration.of(n_steps, method, tolerance, internal_batch_size)
        return self._finish(side, settings, return_convergence_delta)

    @log_usage()
    def decompose(
        self,
        inputs: Tensor,
        baselines: Any = None,
        feature_mask: Optional[Tensor] = None,
        additional_forward_args: Any = None,
        n_steps: int = 50,
        method: str = "gausslegendre",
        tolerance: Optional[float] = None,
        internal_batch_size: Optional[int] = None,
    ) -> EmbeddingDecomposition:
        """
        The whole embedding: the baseline's, and contributions. The arguments are those
        of :meth:`attribute`.

        Returns:
            :class:`EmbeddingDecomposition`
        """
        side = self._side(inputs, baselines, feature_mask, additional_forward_args)
        settings = Integration.of(n_steps, method, tolerance, internal_batch_size)
        return self._decompose(side, settings)

    @log_usage()
    def read(
        self,
        inputs: Tensor,
        directions: Tensor,
        baselines: Any = None,
        feature_mask: Optional[Tensor] = None,
        additional_forward_args: Any = None,
        n_steps: int = 50,
        method: str = "gausslegendre",
        tolerance: Optional[float] = None,
        internal_batch_size: Optional[int] = None,
    ) -> EmbeddingReading:
        r"""
        Attributes linear readings of the embedding: :math:`\langle c_i, v\rangle` for
        directions v, such as another input's embedding or contributions, a class
        prompt's embedding or a probe's weights. It costs one backward pass a step for
        each direction, or that of all contributions if these are fewer.

        Args:

            inputs (Tensor): Floating tensor (b, ...).
            directions (Tensor): (m, k) for every example, or (b, m, k).

        The other arguments are those of :meth:`attribute`.

        Returns:
            :class:`EmbeddingReading`

        Examples::

            >>> jacobian = IntegratedJacobian(nn.Linear(4, 3))
            >>> jacobian.read(torch.randn(2, 4), torch.eye(3)[:1]).attributions.shape
            torch.Size([2, 4, 1])
        """
        side = self._side(inputs, baselines, feature_mask, additional_forward_args)
        settings = Integration.of(n_steps, method, tolerance, internal_batch_size)
        return self._read(side, directions, settings)

    def _decompose(self, side: Side, settings: Integration) -> EmbeddingDecomposition:
        self._require_multiplied("decompose")
        found = self._run(side, settings)
        dtype = result_dtype(side, computed=found.values.dtype)
        parts = (found.embeddings, found.baseline_embeddings, found.values)
        return EmbeddingDecomposition(
            *(part.to(dtype) for part in (*parts, _delta(found.values, found)))
        )

    def _read(
        self, side: Side, directions: object, settings: Integration
    ) -> EmbeddingReading:
        self._require_multiplied("read")
        along = check_directions(directions, len(side))
        found = self._run(side, settings, along)
        dtype = result_dtype(side, computed=found.values.dtype)
        # (b, *features, m) -> (b, m)
        total = found.values.flatten(1, -2).sum(dim=1)
        difference = found.embeddings - found.baseline_embeddings
        expected = (along.to(difference) @ difference.unsqueeze(-1)).squeeze(-1)
        parts = (found.embeddings, found.baseline_embeddings, found.values)
        return EmbeddingReading(*(p.to(dtype) for p in (*parts, total - expected)))

    def _finish(
        self, side: Side, settings: Integration, return_convergence_delta: bool
    ) -> Union[Tensor, tuple[Tensor, Tensor]]:
        if return_convergence_delta:
            self._require_multiplied("return_convergence_delta")
        found = self._run(side, settings)
        dtype = result_dtype(side, computed=found.values.dtype)
        values = found.values.to(dtype)
        if not return_convergence_delta:
            return values
        return values, _delta(found.values, found).to(dtype)

    @log_usage()
    def compute_convergence_delta(
        self,
        attributions: Tensor,
        start_point: Any,
        end_point: Tensor,
        target: None = None,
        additional_forward_args: Any = None,
    ) -> Tensor:
        r"""
        Args:

            attributions (Tensor): Contributions (b, \*features, k).
            start_point (scalar or Tensor, optional): The baselines.
            end_point (Tensor): The inputs (b, ...).
            target (None, optional): As in Captum; an embedding has none.
            additional_forward_args (Any, optional): As for ``attribute``.

        Returns:
            *Tensor* (b, k): sum of the contributions minus
            :math:`g(x) - g(r_x)`.
        """
        side = self._side(end_point, start_point, None, additional_forward_args)
        return self._delta_of(side, attributions)

    def _delta_of(self, side: Side, attributions: Tensor) -> Tensor:
        self._require_multiplied("attributions")
        check_attributions(attributions, len(side))
        with Session() as session:
            paths = [side.path(row, session) for row in range(len(side))]
        ends = Contributions(
            attributions,
            torch.stack([path.embedding for path in paths]),
            torch.stack([path.baseline_embedding for path in paths]),
        )
        return _delta(attributions.to(paths[0].dtype), ends).to(attributions.dtype)

    @log_usage()
    def choose_steps(
        self,
        inputs: Tensor,
        baselines: Any = None,
        additional_forward_args: Any = None,
        n_steps: int = 50,
        method: str = "gausslegendre",
        tolerance: Optional[float] = 1e-3,
    ) -> Convergence:
        r"""
        The steps that ``attribute`` would take for a tolerance, and their residual, at
        the cost of one Jacobian-vector product a step. With ``tolerance=None`` the
        residual of exactly ``n_steps``.

        Returns:
            :class:`Convergence` (n_steps, residual (b,)).
        """
        side = self._side(inputs, baselines, None, additional_forward_args)
        return self._converge(side, Integration.of(n_steps, method, tolerance, None))

    def _converge(self, side: Side, settings: Integration) -> Convergence:
        with Session() as session:
            paths = Paths(side, session)
            return self._climb(paths, settings)

    def has_convergence_delta(self) -> bool:
        return self._multiply_by_inputs

    @property
    def multiplies_by_inputs(self) -> bool:
        return self._multiply_by_inputs

    def _require_multiplied(self, argument: str) -> None:
        if not self._multiply_by_inputs:
            raise InvalidArgumentError(
                argument,
                "multiply_by_inputs=True, without which nothing is complete",
                "multiply_by_inputs=False",
            )

    # ---- the steps ---------------------------------------------------------

    def _plan(
        self, paths: Paths, settings: Integration, index: Optional[int]
    ) -> Integration:
        """The number of steps for the whole batch, chosen before the costly passes."""
        if settings.tolerance is None:
            return settings
        chosen = self._climb(paths, settings)
        worst = float(chosen.residual.max())
        if worst > settings.tolerance:
            side = "" if index is None else f" of inputs[{index}]"
            warn_caller(
                f"the path integral{side} has a residual of {worst:.1e} after n_steps="
                f"{settings.n_steps}, above tolerance={settings.tolerance:.1e}"
            )
        return replace(settings, n_steps=chosen.n_steps)

    def _climb(self, paths: Paths, settings: Integration) -> Convergence:
        """The fewest steps within the tolerance, worst over the batch."""
        ladder = [settings.n_steps]
        if settings.tolerance is not None:
            ladder = steps_up_to(settings.n_steps, settings.method)
        limit = settings.tolerance or float("inf")
        rung, row = 0, 0
        residuals: dict[int, Tensor] = {}
        while row < len(paths):
            trial = replace(settings, n_steps=ladder[rung])
            residuals[row] = self._residual(paths[row], trial)
            if float(residuals[row]) <= limit or rung == len(ladder) - 1:
                paths.release(row)
                row += 1
            else:  # what came before is not worse for more steps, but say what holds
                rung, row = rung + 1, 0
        found = torch.stack([residuals[at] for at in range(len(paths))])
        return Convergence(ladder[rung], found)

    def _residual(self, path: Path, settings: Integration) -> Tensor:
        """Relative distance of the quadrature from the difference it integrates."""
        target = path.embedding - path.baseline_embedding
        try:
            total = self._forward_products(path, [path.difference], settings)[0]
        except _NotTwiceDifferentiable:
            total = self._reverse(path, path.difference, settings).sum(dim=0)
        norm: Tensor = torch.linalg.vector_norm(target)
        distance: Tensor = torch.linalg.vector_norm(total - target)
        return distance / torch.where(norm > 0, norm, 1.0)

    # ---- the products ------------------------------------------------------

    def _contributions(self, path: Path, settings: Integration) -> Tensor:
        """(G, k), from a product per feature or one per embedding dimension."""
        found = self._integrals(path, settings)
        _check_slope(found, path.embedding - path.baseline_embedding)
        return found

    def _integrals(self, path: Path, settings: Integration) -> Tensor:
        """Contributions (G, k), whatever they are."""
        count, width = path.features.count, path.embedding.numel()
        if self.direction == "forward" or (self.direction is None and count <= width):
            tangents = _Tangents(path, self._scale(path))
            try:
                return self._forward_products(path, tangents, settings)
            except _NotTwiceDifferentiable as error:
                if self.direction == "forward":
                    raise InvalidArgumentError(
                        "direction",
                        "'reverse' or None for an encoder whose backward pass can't "
                        "be differentiated",
                        "'forward'",
                    ) from error
        return self._reverse(path, self._scale(path), settings)

    def _readings(
        self, path: Path, directions: Tensor, settings: Integration
    ) -> Tensor:
        """(G, m): one vector-Jacobian product for each of m directions, if fewer."""
        count, width = path.features.count, path.embedding.numel()
        fewest = width if self.direction == "reverse" else min(count, width)
        if self.direction == "forward" or directions.shape[0] > fewest:
            return self._contributions(path, settings) @ directions.T
        scale = self._scale(path)
        found = self._reverse_products(path, directions, scale, settings)
        _check_slope(found, directions @ (path.embedding - path.baseline_embedding))
        return found

    def _scale(self, path: Path) -> Tensor:
        """What a Jacobian is multiplied by: (*value)."""
        if self._multiply_by_inputs:
            return path.difference
        return torch.ones_like(path.end)

    def _reverse(self, path: Path, scale: Tensor, settings: Integration) -> Tensor:
        """Contributions (G, k), by a vector-Jacobian product per dimension."""
        width = path.embedding.numel()
        axes = torch.eye(width, dtype=path.dtype, device=path.embedding.device)
        return self._reverse_products(path, axes, scale, settings)

    def _reverse_products(
        self, path: Path, directions: Tensor, scale: Tensor, settings: Integration
    ) -> Tensor:
        r"""
        :math:`\langle c_i, v\rangle` for directions v (m, k): (G, m), by m
        vector-Jacobian products at each step; ``scale`` (\*value) is what the Jacobian
        is multiplied by.
        """
        columns = [scale.new_zeros(path.features.count) for _ in directions]
        for nodes, weights in _chunks(path, settings, _GRAPHS_REVERSE):
            with path.run(nodes, twice=False) as (leaf, embeddings):
                for column, direction in zip(columns, directions):
                    # Half precision underflows less if the largest entry is one.
                    size = direction.abs().amax().clamp_min(1e-30)
                    cotangent = (direction / size).expand_as(embeddings)
                    gradient = path.gradient(embeddings, leaf, cotangent, False)
                    # (n, *value) -> (*value)
                    mean = torch.tensordot(weights, gradient.to(path.dtype), 1)
                    column += path.features.sum(mean * scale) * size.to(column.device)
        return torch.stack(columns, dim=-1)

    def _forward_products(
        self, path: Path, tangents: "_TangentsLike", settings: Integration
    ) -> Tensor:
        r"""
        :math:`\int J\,t\,d\alpha` for tangents t (\*value): (len(tangents), k).

        A Jacobian-vector product is the transpose of the vector-Jacobian product:
        :math:`u \mapsto J^T u` is linear, so that differentiating it once gives
        :math:`J t` for each tangent at the cost of one matrix product a layer, a third
        of a dual number's (forward mode computes the primal again for each tangent).
        """
        width = path.embedding.numel()
        results = path.end.new_zeros(len(tangents), width)
        results = results.to(path.embedding.device)
        for nodes, weights in _chunks(path, settings, _GRAPHS_FORWARD):
            with path.run(nodes, twice=True) as (leaf, embeddings):
                # Any u does for the derivative; this one also shows, by <u, J t> =
                # <J^T u, t>, whether autograd saw all of the backward pass.
                probe = _probe(embeddings)
                pulled = _pull(path, embeddings, leaf, probe)
                sums = torch.zeros_like(leaf[0], dtype=path.dtype)
                pushes = torch.zeros_like(embeddings)
                for index in range(len(tangents)):
                    tangent = tangents[index]
                    pushed = _push(pulled, probe, tangent.to(leaf.dtype))
                    # (n, k) -> (k,)
                    results[index] += weights.to(pushed) @ pushed
                    sums += tangent
                    pushes += pushed
                _check_transpose(path, pulled, sums, probe, pushes)
        return results


class _Tangents:
    """The difference x - r (or ones), feature by feature."""

    def __init__(self, path: Path, scale: Tensor) -> None:
        self._features = path.features
        self._scale = scale

    def __len__(self) -> int:
        return self._features.count

    def __getitem__(self, index: int) -> Tensor:
        return self._features.part(self._scale, index)


_TangentsLike = Union[_Tangents, list[Tensor]]


def _chunks(
    path: Path, settings: Integration, graphs: float
) -> Iterator[tuple[Tensor, Tensor]]:
    """The rule's nodes and weights, as many at a time as memory allows."""
    nodes, weights = quadrature(
        settings.n_steps, settings.method, path.dtype, path.end.device
    )
    size = path.chunk_size(settings.internal_batch_size, graphs)
    # Equal chunks: 3 + 3 + 2 + 2 and not 3 + 3 + 3 + 1.
    count = -(-settings.n_steps // size)
    yield from zip(nodes.tensor_split(count), weights.tensor_split(count))


def _probe(embeddings: Tensor) -> Tensor:
    """Some u of no special direction, (n, k), that takes nothing from the generator."""
    phase = torch.arange(
        embeddings.numel(), dtype=embeddings.dtype, device=embeddings.device
    )
    return torch.cos(phase).reshape(embeddings.shape).requires_grad_()


def _pull(path: Path, embeddings: Tensor, leaf: Tensor, probe: Tensor) -> Tensor:
    """J^T u with its graph: (n, *value)."""
    try:
        pulled = path.gradient(embeddings, leaf, probe, True)
    except InvalidArgumentError:
        raise
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise _NotTwiceDifferentiable(str(error)) from error
    if not pulled.requires_grad:
        raise _NotTwiceDifferentiable("the backward pass has no graph")
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
        raise _NotTwiceDifferentiable(str(error)) from error
    return pushed


def _check_transpose(
    path: Path, pulled: Tensor, tangent: Tensor, probe: Tensor, pushed: Tensor
) -> None:
    """
    <J^T u, t> = <u, J t> at every point, or some of the backward pass is hidden from
    autograd (summed over the points, what is hidden may cancel).
    """
    left = (pulled.detach().to(path.dtype) * tangent).flatten(1)
    right = probe.detach() * pushed
    # (n, value), (n, k) -> (n,)
    gap = left.sum(dim=1).to(right.device) - right.sum(dim=1)
    size = left.norm().to(right.device) + right.norm()
    limit = _LOSSY_GAP if path.is_lossy else _GAP[path.precision]
    # Of derivatives that are not finite nothing can be said here.
    if bool(gap.norm() > limit * size):
        raise _NotTwiceDifferentiable("part of the backward pass has no graph")


def _check_slope(found: Tensor, difference: Tensor) -> None:
    """Refuse an encoder that is flat at every step and yet differs between the ends."""
    if bool(difference.any()) and not bool(found.any()):
        raise InvalidArgumentError(
            "forward_func",
            "an encoder with derivatives on the path",
            "derivatives of zero at every step, though the embeddings of inputs and "
            "baselines differ (rounding or another step inside the encoder; or too "
            "few steps)",
        )


def _delta(values: Tensor, found: Contributions) -> Tensor:
    """Sum of the contributions minus the embeddings' difference: (b, k)."""
    total = values.flatten(1, -2).sum(dim=1) if values.ndim > 2 else values
    return total - (found.embeddings - found.baseline_embeddings)
