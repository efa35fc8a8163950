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
from captum_pairs.attr._core.integrated_jacobian import Integration
from captum_pairs.attr._utils.example import Side
from captum_pairs.attr._utils.hooks import Session
from captum_pairs.attr._utils.products import (
    check_slope,
    feature_products,
    Points,
    reverse_products,
)
from captum_pairs.attr._utils.quadrature import quadrature
from captum_pairs.attr._utils.references import (
    ReferencePaths,
    references_of,
    ReferenceValues,
    SeveralPaths,
)
from captum_pairs.attr._utils.settings import described, settings_of
from captum_pairs.attr._utils.spread import standard_error
from captum_pairs.attr._utils.validation import flag, one_of, positive_int, warn_caller
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
        method (str, optional): Of quadrature, as Captum calls it. Default:
                    ``gausslegendre``; up to eight points of each path that are chosen
                    are shifted middles, other ones of each path
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
        residual (float): Of the mean, relative.
    """

    n_references: int = 0
    is_shifted: bool = False
    residual: float = 0.0

    def points(self, paths: ReferencePaths, apart: bool = False) -> Points:
        """Those of all paths, in one sum; or in one for each of them."""
        several = paths.chosen(slice(self.n_references))
        count, like = len(several.starts), several.start_embeddings.new_ones(())
        like = like.to(device=several.value.device, dtype=several.dtype)
        nodes, weights = self._nodes(count, like)  # (M, n)
        owners = torch.arange(count).to(like)[:, None].expand_as(nodes)
        nodes = torch.stack([owners.flatten(), nodes.flatten()], dim=1)
        sums = torch.eye(count).to(like) if apart else like.new_ones(1, count) / count
        # (s, M), (M, n) -> (s, M n)
        return Points(several, nodes, (sums[:, :, None] * weights).flatten(1))

    def _nodes(self, count: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Of each path, (M, n)."""
        if not self.is_shifted:
            rule = quadrature(self.n_steps, self.rule, like.dtype, like.device)
            nodes, weights = (each.expand(count, -1) for each in rule)
            return nodes, weights
        # Paths are alike, so that different places in them are one finer rule for
        # what they have in common; what they have not is as if drawn at random.
        shifts = (0.5 + torch.arange(count).double() * _GOLDEN) % 1.0
        places = (torch.arange(self.n_steps) + shifts[:, None]) / self.n_steps
        return places.to(like), torch.full_like(places, 1 / self.n_steps).to(like)


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
        self.direction = one_of("direction", direction, (None, "forward", "reverse"))

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

    def refined(self, paths: ReferencePaths, settings: ExpectedIntegration) -> Split:
        """How many references, and points of each path: chosen before the costly
        passes, by one Jacobian-vector product a point."""
        if isinstance(settings, Split):
            return settings
        if settings.tolerance is None and settings.n_points is None:
            return _split(settings, settings.n_steps, len(paths), False)
        most = settings.n_points or len(paths) * settings.n_steps
        tried: list[tuple[float, Split]] = []
        for count in _halved(len(paths), settings.n_points is not None):
            if most // count < settings.least:
                continue
            for n_steps in settings.ladder(most // count):
                split = _split(settings, n_steps, count, settings.method is None)
                split = replace(split, residual=self._residual(paths, split))
                if settings.tolerance and split.residual <= settings.tolerance:
                    return split
                error = math.hypot(split.residual, self._sampling(paths, count))
                tried.append((error, split))
        return min(tried, key=lambda each: each[0])[1]

    def at_points(self, settings: ExpectedIntegration, number: int) -> Split:
        """Settings that take exactly so many points, of the first reference's path."""
        return _split(settings, number, 1, False)

    def _residual(self, paths: ReferencePaths, split: Split) -> float:
        """Relative distance of the quadrature from the difference it integrates."""
        points = split.points(paths)
        several = _several(points).as_one_feature
        points = replace(points, example=several)
        size = split.internal_batch_size
        found = feature_products([points], [several.difference], self.direction, size)
        return _missed(found[0][0], several)

    def _sampling(self, paths: ReferencePaths, count: int) -> float:
        """The standard error of the references' mean embedding, relative likewise."""
        if len(paths) < 2:
            return 0.0
        spread = paths.start_embeddings.var(0).sum() / count
        target = paths.embedding - paths.baseline_embedding
        norm = float(torch.linalg.vector_norm(target))
        return math.sqrt(float(spread)) / norm if norm else 0.0

    def check_shares(
        self, paths: ReferencePaths, found: Shares, settings: ExpectedIntegration
    ) -> None:
        """Warn of integrals that did not reach their tolerance."""
        if settings.tolerance is not None and found.residual > settings.tolerance:
            warn_caller(
                f"the path integrals{paths.side.in_words} have a residual of "
                f"{found.residual:.1e} with {found.n_steps} points of each "
                f"reference's path, above tolerance={settings.tolerance:.1e}"
            )

    # ---- the products ------------------------------------------------------

    def contributions(
        self, paths: ReferencePaths, settings: ExpectedIntegration
    ) -> Tensor:
        return self.shares(paths, settings).values

    def shares(self, paths: ReferencePaths, settings: ExpectedIntegration) -> Shares:
        split = self.refined(paths, settings)
        points = split.points(paths)
        values, several = self._products(points, split)[0], _several(points)
        check_slope(values, several.embedding - several.baseline_embedding)
        ends = several.embedding, several.baseline_embedding
        return Shares(values, *ends, split.n_steps, _missed(values, several))

    def shares_along(
        self, paths: ReferencePaths, directions: Tensor, settings: ExpectedIntegration
    ) -> Shares:
        count, width = paths.features.count, paths.embedding.numel()
        fewest = width if self.direction == "reverse" else min(count, width)
        along = directions.to(paths.embedding)
        if self.direction == "forward" or len(along) > fewest:
            whole = self.shares(paths, settings)
            return whole._replace(values=whole.values @ along.T)
        split = self.refined(paths, settings)
        points = split.points(paths)
        several = _several(points)
        scales, size = [several.difference], split.internal_batch_size
        values = reverse_products([points], [along], scales, size)[0][0]
        ends = several.embedding, several.baseline_embedding
        check_slope(values, along @ (ends[0] - ends[1]))
        return Shares(values, *ends, split.n_steps, split.residual)

    def contributions_by_reference(
        self, paths: ReferencePaths, settings: ExpectedIntegration
    ) -> Tensor:
        """Of each reference its own contributions, (M, G, k)."""
        split = self.refined(paths, settings)
        return self._products(split.points(paths, apart=True), split)

    def _products(self, points: Points, split: Split) -> Tensor:
        """(s, G, k)."""
        scales, size = [_several(points).difference], split.internal_batch_size
        return feature_products([points], scales, self.direction, size)[0]


def _several(points: Points) -> SeveralPaths:
    paths = points.example
    assert isinstance(paths, SeveralPaths)  # as a split makes them
    return paths


def _missed(values: Tensor, several: SeveralPaths) -> float:
    """By how much contributions (G, k) miss what they should sum to, relative."""
    target = several.embedding - several.baseline_embedding
    norm = torch.linalg.vector_norm(target)
    distance = torch.linalg.vector_norm(values.sum(dim=0) - target)
    return float(distance / norm) if norm else float(distance)


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
    is_shifted = free and n_references > 1 and n_steps <= _SHIFTED
    return Split(
        n_steps,
        settings.method,
        settings.tolerance,
        settings.internal_batch_size,
        None,
        n_references,
        is_shifted,
    )


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
        split = self.refined(paths, asked)
        found = self.shares(paths, split)
        self.check_shares(paths, found, asked)
        if return_standard_error:
            apart = self.contributions_by_reference(paths, split)
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
