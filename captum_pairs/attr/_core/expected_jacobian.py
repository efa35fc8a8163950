#!/usr/bin/env python3

import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from typing import Any, Callable, Optional, Union

import torch
from captum.log import log_usage
from captum_pairs.attr._core.embedding_attribution import (
    check_finite,
    check_size,
    EmbeddingAttribution,
    result_dtype,
    Shares,
)
from captum_pairs.attr._core.integrated_jacobian import IntegratedJacobian, Integration
from captum_pairs.attr._utils.example import Side
from captum_pairs.attr._utils.hooks import Session
from captum_pairs.attr._utils.quadrature import quadrature
from captum_pairs.attr._utils.references import (
    ReferencePaths,
    references_of,
    ReferenceValues,
)
from captum_pairs.attr._utils.settings import described, settings_of
from captum_pairs.attr._utils.spread import standard_error
from captum_pairs.attr._utils.validation import flag, positive_int, warn_caller
from torch import nn, Tensor

Found = Union[Tensor, tuple[Tensor, ...]]
# Multiples of it lie evenly in [0, 1), however many there are.
_GOLDEN = (5**0.5 - 1) / 2
# Up to so many points of each path shifted middles were nearer than Gauss-Legendre's.
_SHIFTED = 8


@dataclass(frozen=True)
class ExpectedIntegration(Integration):
    """
    How the integrals over the references' paths are computed.

    Args:

        n_steps (int): Points of each reference's path; with a tolerance, the most that
                    are tried.
        method (str): Of quadrature, as Captum calls it; up to eight points of several
                    paths that a tolerance chooses are shifted middles instead, other
                    ones of each path.
        tolerance (float, optional): Take as few of 1, 2, 4, ... points of each path as
                    bring the residual of their mean within it.
        internal_batch_size (int, optional): The most points run at once.
        n_points (int, optional): The most points of all paths together: fewer
                    references (the first ones) are taken if they leave a smaller error.
                    With a tolerance as many references as can be within it; else the
                    split between references and points with the smallest measured
                    error, the mean's own standard error included.
    """

    n_points: Optional[int] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_points is not None:
            positive_int("n_points", self.n_points, self.least)

    @property
    def least(self) -> int:
        """Points that the rule needs."""
        return 2 if self.rule == "riemann_trapezoid" else 1

    def ladder(self, most: int) -> list[int]:
        """Points of each path that are tried, up to so many."""
        most = min(self.n_steps, most)
        if self.tolerance is None:
            return [most]
        steps = [self.least]
        while steps[-1] * 2 < most:
            steps.append(steps[-1] * 2)
        return [n for n in steps if n < most] + [most]


@dataclass(frozen=True)
class Split(ExpectedIntegration):
    """
    Points that were chosen: ``n_steps`` of each path.

    Args:

        n_references (int): The first so many are used.
        is_shifted (bool): Whether each path has other points than the next one.
    """

    n_references: int = 0
    is_shifted: bool = False


@dataclass(frozen=True)
class _Points(Integration):
    """The points of several paths, instead of one's."""

    is_shifted: bool = False

    def nodes(self, path: Any) -> tuple[Tensor, Tensor]:
        """Each a path's number and a place on it, (n, 2), and their weights (n,)."""
        nodes, weights = self._nodes(path)  # (M, n)
        owners = torch.arange(len(nodes), device=nodes.device)[:, None]
        pairs = torch.stack([owners.expand_as(nodes).to(nodes), nodes], dim=-1)
        return pairs.flatten(0, 1), weights.flatten() / len(nodes)

    def _nodes(self, path: Any) -> tuple[Tensor, Tensor]:
        """Of each path, (M, n)."""
        numbers, like = path.numbers, dict(dtype=path.dtype, device=path.value.device)
        if not self.is_shifted:
            nodes, weights = quadrature(self.n_steps, self.rule, **like)
            shape = len(numbers), self.n_steps
            return nodes.expand(shape), weights.expand(shape)
        # Paths are alike, so that different places in them are one finer rule for
        # what they have in common; what they have not is as if drawn at random.
        shifts = (0.5 + numbers.double() * _GOLDEN) % 1.0
        nodes = (torch.arange(self.n_steps) + shifts[:, None]) / self.n_steps
        return nodes.to(**like), torch.full_like(nodes, 1 / self.n_steps).to(**like)


class ExpectedJacobian(EmbeddingAttribution[ExpectedIntegration]):
    r"""
    The mean of integrated Jacobians over a set of references, which stand for what the
    encoder usually sees:

    .. math::
        c_i = \frac{1}{M} \sum_m \sum_{e \in i} (x - r_m)_e \int_0^1
              \frac{\partial g}{\partial x_e}(r_m + \alpha (x - r_m))\, d\alpha,
        \qquad \sum_i c_i = g(x) - \frac{1}{M} \sum_m g(r_m),

    still one vector per feature. Where a reference is drawn at random the mean
    estimates an expectation, and every entry has a standard error. (Expected gradients
    of a score: Erion et al., Nature Machine Intelligence 2021,
    https://arxiv.org/abs/1906.10670; as Captum's ``GradientShap``, whose places on the
    paths are random where these are a quadrature's.)

    **Baselines** are the references: a tensor (M, ...) of any M for every example of a
    batch, or one reference, which gives what :class:`IntegratedJacobian` does.
    """

    settings_type = ExpectedIntegration

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        normalize: bool = False,
        direction: Optional[str] = None,
        layer: Optional[nn.Module] = None,
        channel_dim: Optional[int] = None,
    ) -> None:
        r"""
        Args:

            forward_func, normalize, layer, channel_dim: As for
                        :class:`EmbeddingAttribution`.
            direction (str, optional): As for :class:`IntegratedJacobian`.
        """
        super().__init__(forward_func, normalize, layer, channel_dim)
        self._along = IntegratedJacobian(forward_func, direction=direction)

    # ---- references --------------------------------------------------------

    def reference_values(
        self,
        references: Tensor,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
    ) -> ReferenceValues:
        r"""
        The references as they arrive at the layer, to be given as ``baselines`` of
        several calls: what comes before the layer runs once for each of them.

        Args:

            references (Tensor): (M, ...), inputs of the encoder.
            additional_forward_args (Any, optional): Of batch 1, the same for every
                        example that is explained.
            attribute_to_layer_input (bool, optional): As for ``attribute``.

        Returns:
            :class:`ReferenceValues`

        Examples::

            >>> encoder = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
            >>> jacobian = ExpectedJacobian(encoder, layer=encoder[1])
            >>> kept = jacobian.reference_values(torch.randn(16, 4))
            >>> jacobian.attribute(torch.randn(2, 4), kept, n_steps=2).shape
            torch.Size([2, 6, 3])
        """
        first = references[:1] if isinstance(references, Tensor) else references
        given = (first, references, None, additional_forward_args)
        side = self._side(*given, attribute_to_layer_input)
        with Session() as session:
            return ReferenceValues(ReferencePaths(side, 0, session).starts)

    def _side(
        self,
        inputs: object,
        baselines: object,
        feature_mask: object,
        additional_forward_args: object,
        attribute_to_layer_input: bool,
        index: Optional[int] = None,
    ) -> Side:
        side = super()._side(
            inputs,
            None,
            feature_mask,
            additional_forward_args,
            attribute_to_layer_input,
            index,
        )
        if isinstance(baselines, ReferenceValues):
            return _Side(**_fields(side), known=baselines)
        references = references_of(side.name("baselines"), baselines, side.inputs[0])
        return replace(side, baselines=(references,))

    def _examples(
        self, side: Side, session: Optional[Session] = None
    ) -> Iterator[ReferencePaths]:
        known = side.known if isinstance(side, _Side) else None
        with Session() if session is None else nullcontext(session) as opened:
            for row in range(len(side)):
                example = ReferencePaths(side, row, opened, known)
                if example.is_shared:
                    known = ReferenceValues(example.starts)
                yield example

    def has_convergence_delta(self) -> bool:
        return True

    # ---- the points --------------------------------------------------------

    def refined(
        self, paths: ReferencePaths, settings: ExpectedIntegration
    ) -> tuple[Split, Tensor]:
        """How many references, and points of each path, and the residual of the mean:
        chosen before the costly passes, by one Jacobian-vector product a point."""
        most = settings.n_points or len(paths) * settings.n_steps
        is_free = settings.rule == "gausslegendre" and bool(
            settings.tolerance or settings.n_points
        )
        tried: list[tuple[float, Split, Tensor]] = []
        for count in _halved(len(paths), settings.n_points is not None):
            if most // count < settings.least:
                continue
            for n_steps in settings.ladder(most // count):
                split = _split(settings, n_steps, count, is_free)
                residual = self._residual(paths, split)
                if settings.tolerance and float(residual) <= settings.tolerance:
                    return split, residual
                error = math.hypot(float(residual), self._sampling(paths, count))
                tried.append((error, split, residual))
        _, split, residual = min(tried, key=lambda each: each[0])
        return split, residual

    def _residual(self, paths: ReferencePaths, split: Split) -> Tensor:
        """Relative distance of the quadrature from the difference it integrates."""
        several = paths.chosen(slice(split.n_references)).as_one_feature
        total = self._along.contributions(several, _points(split))[0]
        target = several.embedding - several.baseline_embedding
        norm: Tensor = torch.linalg.vector_norm(target)
        distance: Tensor = torch.linalg.vector_norm(total - target)
        return distance / torch.where(norm > 0, norm, 1.0)

    def _sampling(self, paths: ReferencePaths, count: int) -> float:
        """The standard error of the references' mean embedding, relative likewise."""
        if len(paths) < 2:
            return 0.0
        spread = paths.start_embeddings.var(0).sum() / count
        target = paths.embedding - paths.baseline_embedding
        norm = float(torch.linalg.vector_norm(target))
        return math.sqrt(float(spread)) / norm if norm else 0.0

    def settled(self, paths: ReferencePaths, settings: ExpectedIntegration) -> Split:
        """Settings with points that are known; a warning if they do not do."""
        if isinstance(settings, Split):
            return settings
        if settings.tolerance is None and settings.n_points is None:
            return _split(settings, settings.n_steps, len(paths), False)
        chosen, residual = self.refined(paths, settings)
        if settings.tolerance and float(residual) > settings.tolerance:
            name = paths.side.names[0]
            side = f" of {name}" if name != "inputs" else ""
            warn_caller(
                f"the path integrals{side} have a residual of {float(residual):.1e} "
                f"with {chosen.n_references} references and {chosen.n_steps} points "
                f"of each one's path, above tolerance={settings.tolerance:.1e}"
            )
        return chosen

    # ---- the products ------------------------------------------------------

    def contributions(
        self, paths: ReferencePaths, settings: ExpectedIntegration
    ) -> Tensor:
        return self.shares(paths, settings).values

    def shares(self, paths: ReferencePaths, settings: ExpectedIntegration) -> Shares:
        split = self.settled(paths, settings)
        several = paths.chosen(slice(split.n_references))
        found = self._along.contributions(several, _points(split))
        return Shares(found, several.embedding, several.baseline_embedding)

    def shares_along(
        self, paths: ReferencePaths, directions: Tensor, settings: ExpectedIntegration
    ) -> Shares:
        split = self.settled(paths, settings)
        several = paths.chosen(slice(split.n_references))
        along = directions.to(several.embedding)
        found = self._along.readings(several, along, _points(split))
        if found is None:
            whole = self.shares(paths, split)
            return whole._replace(values=whole.values @ directions.to(whole.values).T)
        return Shares(found, several.embedding, several.baseline_embedding)

    def contributions_by_reference(
        self, paths: ReferencePaths, settings: ExpectedIntegration
    ) -> Tensor:
        """Of each reference its own contributions, (M, G, k)."""
        split = self.settled(paths, settings)
        found = []
        for at in range(split.n_references):
            one = paths.chosen(slice(at, at + 1))
            found.append(self._along.contributions(one, _points(split)))
        return torch.stack(found)


@dataclass(frozen=True)
class _Side(Side):
    """One whose references are known where they arrive."""

    known: ReferenceValues


def _fields(side: Side) -> dict[str, Any]:
    return {field.name: getattr(side, field.name) for field in fields(side)}


def _split(
    settings: ExpectedIntegration, n_steps: int, n_references: int, free: bool
) -> Split:
    """
    Args:

        free (bool): Whether the rule is chosen too.
    """
    is_shifted = free and 1 < n_references and n_steps <= _SHIFTED
    chunk = settings.internal_batch_size
    return Split(n_steps, settings.method, None, chunk, None, n_references, is_shifted)


def _points(split: Split) -> _Points:
    chunk = split.internal_batch_size
    return _Points(split.n_steps, split.method, None, chunk, split.is_shifted)


def _halved(count: int, fewer: bool) -> list[int]:
    """All references, and if there may be fewer, half of them, a quarter, ..., one."""
    found = [count]
    while fewer and found[-1] > 1:
        found.append(found[-1] // 2)
    return found


@log_usage()
def _attribute(
    self: ExpectedJacobian,
    inputs: Tensor,
    baselines: Any = None,
    feature_mask: Optional[Tensor] = None,
    additional_forward_args: Any = None,
    return_standard_error: bool = False,
    return_convergence_delta: bool = False,
    attribute_to_layer_input: bool = False,
    **settings: Any,
) -> Found:
    r"""
    Args:

        inputs, feature_mask, additional_forward_args, attribute_to_layer_input: As for
                    :class:`IntegratedJacobian`.
        baselines (scalar or Tensor, optional): The references, for every example of
                    the batch the same: (M, ...), a number, or what
                    :meth:`ExpectedJacobian.reference_values` returned. Default: zeros
        return_standard_error (bool, optional): From the spread over references, which
                    are followed one after the other for it. Default: False
        return_convergence_delta (bool, optional): Default: False
        **settings: Those of the method.

    Returns:
        **contributions** (b, \*features, k), or a tuple of these and what was asked
        for: **standard errors** of that shape (zero for one reference; see
        :func:`confidence_factor`), and **delta** (b, k), the sum of the contributions
        minus :math:`g(x) - E\,g(r)`.

    Raises:
        InvalidArgumentError: a ``ValueError`` that names the argument.

    Examples::

        >>> expected = ExpectedJacobian(nn.Linear(4, 3))
        >>> references = torch.randn(16, 4)
        >>> found, error = expected.attribute(
        ...     torch.randn(2, 4), references, n_steps=1, return_standard_error=True
        ... )
        >>> found.shape, error.shape
        (torch.Size([2, 4, 3]), torch.Size([2, 4, 3]))
    """
    given = (inputs, baselines, feature_mask, additional_forward_args)
    side = self._side(*given, attribute_to_layer_input)
    asked = settings_of(self.settings_type, settings)
    flag("return_standard_error", return_standard_error)
    flag("return_convergence_delta", return_convergence_delta)
    values, errors, deltas = [], [], []
    for paths in self._examples(side):
        check_size([paths], len(side), paths.embedding.numel())
        found = self.shares(paths, asked)
        if return_standard_error:
            apart = self.contributions_by_reference(paths, asked)
            errors.append(standard_error(apart).reshape(*paths.features.shape, -1))
        check_finite(found.values)
        total = found.values.sum(0)
        deltas.append(total - (found.embedding - found.baseline_embedding))
        values.append(found.values.reshape(*paths.features.shape, -1))
    parts = [values]
    parts += [errors] if return_standard_error else []
    parts += [deltas] if return_convergence_delta else []
    dtype = result_dtype(side, computed=values[0].dtype)
    stacked = tuple(torch.stack(part).to(dtype) for part in parts)
    return stacked if len(stacked) > 1 else stacked[0]


ExpectedJacobian.attribute = described(
    _attribute, ExpectedIntegration, has_baseline=True
)
