#!/usr/bin/env python3

import typing
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Callable, Literal, NamedTuple, Optional, Union

import numpy as np
import torch
from captum.log import log_usage
from captum_pairs.attr._core.embedding_attribution import EmbeddingAttribution, Shares
from captum_pairs.attr._utils.example import BaselinePath, Example, Side
from captum_pairs.attr._utils.placement import (
    Density,
    error_estimate,
    Scan,
    scan_nodes,
    SCANS,
    share_of_change,
)
from captum_pairs.attr._utils.products import (
    check_slope,
    feature_products,
    forward_products,
    GRAPHS_FORWARD,
    GRAPHS_SCAN,
    NotTwiceDifferentiableError,
    passes,
    Points,
    reverse_products,
    together,
)
from captum_pairs.attr._utils.quadrature import (
    quadrature,
    steps_up_to,
    validate_quadrature,
)
from captum_pairs.attr._utils.validation import (
    check_chunk,
    flag,
    InvalidArgumentError,
    one_of,
    positive_float,
    warn_caller,
)
from torch import nn, Tensor


_RULE = "gausslegendre"
# Below this tolerance Gauss and Legendre's rule is the better one: no map of the nodes
# is as smooth as a smooth curve.
_FINEST = 1e-5
# Points of an example in a pass that several share: fewer examples would leave room.
_POINTS_OF_EXAMPLE = 8


@dataclass(frozen=True)
class Integration:
    """
    How the integral over the path is computed.

    Args:

        n_steps (int): Quadrature steps; with a tolerance, the most that are tried.
        method (str, optional): Of quadrature, as Captum calls it. Default:
                    ``gausslegendre``; with a tolerance, nodes where the embedding moves
        tolerance (float, optional): Take as few steps as bring the residual within it.
        internal_batch_size (int, optional): The most points run at once.
    """

    n_steps: int = 50
    method: Optional[str] = None
    tolerance: Optional[float] = None
    internal_batch_size: Optional[int] = None

    def __post_init__(self) -> None:
        n_steps, _ = validate_quadrature(self.n_steps, self.rule)
        object.__setattr__(self, "n_steps", n_steps)
        if self.tolerance is not None:
            tolerance = positive_float("tolerance", self.tolerance)
            object.__setattr__(self, "tolerance", tolerance)
        check_chunk(self.internal_batch_size)

    def nodes(self, path: BaselinePath) -> tuple[Tensor, Tensor]:
        """Where on a path (see :meth:`BaselinePath.points`) and with what weights."""
        return quadrature(self.n_steps, self.rule, path.dtype, path.value.device)

    @property
    def rule(self) -> str:
        """The rule that is named, or the default one."""
        return _RULE if self.method is None else self.method


def _is_placed(settings: Integration) -> bool:
    """Whether nodes go where the embedding moves, and not where a rule has them."""
    tolerance = settings.tolerance
    return tolerance is not None and settings.method is None and tolerance >= _FINEST


class Convergence(NamedTuple):
    r"""
    How far the integral of a side is from complete, at the steps that were chosen.

    Args:

        n_steps (Tensor): The number of steps of each example, (b,).
        residual (Tensor): :math:`\|\sum_i c_i - (g(x) - g(r_x))\| / \|g(x) - g(r_x)\|`
                    of each example, (b,); where nodes were placed, at least a share of
                    the change from the rule of every second node, relative.
    """

    n_steps: Tensor
    residual: Tensor


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

    settings_type = Integration

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        normalize: bool = False,
        multiply_by_inputs: bool = True,
        direction: Optional[str] = None,
        layer: Optional[nn.Module] = None,
        channel_dim: Optional[int] = None,
    ) -> None:
        r"""
        Args:

            forward_func, normalize, layer, channel_dim: As for
                        :class:`EmbeddingAttribution`; the normalisation is part of the
                        path.
            multiply_by_inputs (bool, optional): Whether contributions are global
                        (multiplied by input minus baseline) or local (the averaged
                        Jacobian, summed over each feature). Default: True
            direction (str, optional): ``forward`` (a product per feature) or
                        ``reverse`` (a product per embedding dimension) instead of the
                        cheaper one. Default: None
        """
        super().__init__(forward_func, normalize, layer, channel_dim)
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
        method: Optional[str] = None,
        tolerance: Optional[float] = None,
        internal_batch_size: Optional[int] = None,
        *,
        return_convergence_delta: Literal[True],
        attribute_to_layer_input: bool = False,
    ) -> tuple[Tensor, Tensor]: ...

    @typing.overload
    def attribute(
        self,
        inputs: Tensor,
        baselines: Any = None,
        feature_mask: Optional[Tensor] = None,
        additional_forward_args: Any = None,
        n_steps: int = 50,
        method: Optional[str] = None,
        tolerance: Optional[float] = None,
        internal_batch_size: Optional[int] = None,
        return_convergence_delta: Literal[False] = False,
        attribute_to_layer_input: bool = False,
    ) -> Tensor: ...

    @log_usage()
    def attribute(
        self,
        inputs: Tensor,
        baselines: Any = None,
        feature_mask: Optional[Tensor] = None,
        additional_forward_args: Any = None,
        n_steps: int = 50,
        method: Optional[str] = None,
        tolerance: Optional[float] = None,
        internal_batch_size: Optional[int] = None,
        return_convergence_delta: bool = False,
        attribute_to_layer_input: bool = False,
    ) -> Union[Tensor, tuple[Tensor, Tensor]]:
        r"""
        Args:

            inputs (Tensor): Floating tensor (b, ...); at a layer it may hold integers
                        (token ids).
            baselines (scalar or Tensor, optional): Where the path starts: a number, or
                        a tensor of the input's shape or of batch 1; at a layer it is
                        propagated there. Default: zeros
            feature_mask (Tensor, optional): Ids 0...G-1 that sum scalars into G
                        features; of the dimensions of the input, or of the layer's
                        value, each its own size or 1. Default: every scalar is a
                        feature, at a layer every position
            additional_forward_args (Any, optional): One further argument of the
                        encoder, or a tuple of them; tensors of batch 1 or b stay with
                        their example. Default: None
            n_steps (int, optional): Quadrature steps; with a tolerance, the most that
                        are tried. Default: 50
            method (str, optional): ``gausslegendre``, ``riemann_right``,
                        ``riemann_left``, ``riemann_middle`` or ``riemann_trapezoid``.
                        Default: ``gausslegendre``; with a tolerance, nodes where the
                        embedding moves (see :mod:`captum_pairs.attr._utils.placement`)
            tolerance (float, optional): Of every example take as few steps as bring its
                        residual (see :class:`Convergence`) within it, of a named method
                        4, 8, 16, ...; warn if ``n_steps`` do not. Default: None
            internal_batch_size (int, optional): The most points run at once.
                        Default: chosen by the memory that a point needs
            return_convergence_delta (bool, optional): Default: False
            attribute_to_layer_input (bool, optional): The layer's input instead of its
                        output. Default: False

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
        if flag("return_convergence_delta", return_convergence_delta):
            self._require_multiplied("return_convergence_delta")
        given = (inputs, baselines, feature_mask, additional_forward_args)
        side = self._side(*given, attribute_to_layer_input)
        names = "n_steps", "method", "tolerance", "internal_batch_size"
        asked = zip(names, (n_steps, method, tolerance, internal_batch_size))
        found = self._decomposed(side, dict(asked))
        if return_convergence_delta:
            return found.contributions, found.convergence_delta
        return found.contributions

    @log_usage()
    def choose_steps(
        self,
        inputs: Tensor,
        baselines: Any = None,
        additional_forward_args: Any = None,
        n_steps: int = 50,
        method: Optional[str] = None,
        tolerance: Optional[float] = 1e-3,
        attribute_to_layer_input: bool = False,
    ) -> Convergence:
        r"""
        The steps that a tolerance takes for all features as one (``attribute`` may take
        more for many of them), and their residual, at the cost of one Jacobian-vector
        product a step. With ``tolerance=None`` the residual of exactly ``n_steps``.

        Returns:
            :class:`Convergence` (n_steps (b,), residual (b,)).
        """
        given = (inputs, baselines, None, additional_forward_args)
        examples = self.examples(*given, attribute_to_layer_input)
        return self._converge(examples, Integration(n_steps, method, tolerance))

    def _converge(
        self, examples: Iterable[Example], settings: Integration
    ) -> Convergence:
        steps, residuals = [], []
        for path in examples:
            assert isinstance(path, BaselinePath)  # this method has a baseline
            if _is_placed(settings):
                # all of the value as one feature
                axes = (1,) * (path.value.ndim + 1)
                ids = torch.zeros(axes, dtype=torch.long, device=path.value.device)
                whole = path.masked(ids)
                assert isinstance(whole, BaselinePath)  # as the example is
                found = self._placed([Wanted(whole, settings)])[0]
                n_steps, residual = found.n_steps, found.residual
            else:
                chosen, residual = self.refined(path, settings)
                n_steps = chosen.n_steps
            if settings.tolerance is None:
                residual = self._residual(path, settings)
            steps.append(n_steps)
            residuals.append(torch.tensor(residual, dtype=path.dtype))
        return Convergence(torch.tensor(steps), torch.stack(residuals))

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

    def refined(
        self, path: BaselinePath, settings: Integration
    ) -> tuple[Integration, float]:
        """
        The fewest of 4, 8, 16, ... steps of a rule that are within the tolerance, and
        their residual: how far they are from the embeddings' difference, relative. With
        no tolerance the steps are as many as were asked for, and 0.
        """
        if settings.tolerance is None:
            return settings, 0.0
        for n_steps in steps_up_to(settings.n_steps, settings.rule):
            trial = replace(settings, n_steps=n_steps, tolerance=None)
            residual = self._residual(path, trial)
            if residual <= settings.tolerance:
                break
        return trial, residual

    def _residual(self, path: BaselinePath, settings: Integration) -> float:
        """Relative distance of the quadrature from the difference it integrates."""
        target = path.embedding - path.baseline_embedding
        nodes, weights = settings.nodes(path)
        points = [Points(path, nodes, weights[None])]
        size = settings.internal_batch_size
        try:
            found = forward_products(points, [[path.difference]], size)[0]
        except NotTwiceDifferentiableError:
            found = feature_products(points, [path.difference], "reverse", size)[0]
        distance = torch.linalg.vector_norm(found[0].sum(dim=0) - target)
        return float(distance / _or_one(torch.linalg.vector_norm(target)))

    # ---- what is found -----------------------------------------------------

    def contributions(self, path: BaselinePath, settings: Integration) -> Tensor:
        """(G, k), from a product per feature or one per embedding dimension."""
        found = self.shares(path, settings)
        self.check_shares(path, found, settings)
        return found.values

    def readings(
        self, path: BaselinePath, directions: Tensor, settings: Integration
    ) -> Optional[Tensor]:
        """(G, m): one vector-Jacobian product for each of m directions, if fewer."""
        if not self._reads(path, directions):
            return None
        found = self.shares_along(path, directions, settings)
        self.check_shares(path, found, settings)
        return found.values

    def set_out(self, side: Side, settings: Integration) -> Side:
        is_free = settings.internal_batch_size is None
        if is_free and self._multiply_by_inputs and _is_placed(settings):
            return replace(side, scanned=True)
        return side

    def shares(self, path: BaselinePath, settings: Integration) -> Shares:
        return self.shares_of([path], [settings])[0]

    def shares_along(
        self, path: BaselinePath, directions: Tensor, settings: Integration
    ) -> Shares:
        return self.shares_of_along([path], [directions], [settings])[0]

    def shares_of(
        self, paths: Sequence[BaselinePath], settings: Sequence[Integration]
    ) -> list[Shares]:
        return self._integrated([Wanted(*each) for each in zip(paths, settings)])

    def shares_of_along(
        self,
        paths: Sequence[BaselinePath],
        directions: Sequence[Tensor],
        settings: Sequence[Integration],
    ) -> list[Shares]:
        wanted, products = [], []
        for path, along, own in zip(paths, directions, settings):
            along = along.to(path.embedding)
            reads = self._reads(path, along)
            wanted.append(Wanted(path, own, along if reads else None))
            products.append(None if reads else along)
        return [
            found if along is None else found._replace(values=found.values @ along.T)
            for found, along in zip(self._integrated(wanted), products)
        ]

    def _reads(self, path: BaselinePath, directions: Tensor) -> bool:
        """Whether a product for each direction costs less than all contributions."""
        count, width = path.features.count, path.embedding.numel()
        fewest = width if self.direction == "reverse" else min(count, width)
        return self.direction != "forward" and len(directions) <= fewest

    def expected_steps(
        self, path: BaselinePath, settings: Integration
    ) -> Optional[int]:
        """How many steps a scan expects a tolerance to take, by a few forward passes;
        None if no scan chooses them."""
        wanted = Wanted(path, settings)
        return scanned([wanted])[0].n if self._is_placed(wanted) else None

    def at_points(self, settings: Integration, number: int) -> Integration:
        """Settings that take exactly so many points, whatever they leave."""
        return replace(settings, n_steps=number, tolerance=None, method=_RULE)

    def most_together(self, path: BaselinePath) -> int:
        # as many as have room in a pass of the costlier kind
        return max(1, path.chunk_size(None, GRAPHS_FORWARD) // _POINTS_OF_EXAMPLE)

    def check_shares(
        self, path: BaselinePath, found: Shares, settings: Integration
    ) -> None:
        """Warn of an integral that did not reach its tolerance."""
        if settings.tolerance is not None and found.residual > settings.tolerance:
            warn_caller(
                f"the path integral{path.side.in_words} has a residual of "
                f"{found.residual:.1e} after n_steps={found.n_steps}, above "
                f"tolerance={settings.tolerance:.1e}"
            )

    # ---- the integral ------------------------------------------------------

    def _integrated(self, wanted: Sequence["Wanted"]) -> list[Shares]:
        """What is wanted of each path, those that can in passes that they share."""
        found: list[Any] = [None] * len(wanted)
        placed = [at for at, each in enumerate(wanted) if self._is_placed(each)]
        by_rule = [at for at in range(len(wanted)) if at not in placed]
        for part, integrate in ((by_rule, self._by_rule), (placed, self._placed)):
            own = [wanted[at] for at in part]
            for at, shares in zip(part, integrate(own) if own else []):
                found[at] = shares
        for each, shares in zip(wanted, found):
            target = each.path.embedding - each.path.baseline_embedding
            along = target if each.along is None else each.along @ target
            check_slope(shares.values, along)
        return found

    def _is_placed(self, wanted: "Wanted") -> bool:
        """Whether nodes go where the embedding moves, and not where a rule has them."""
        return self._multiply_by_inputs and _is_placed(wanted.settings)

    def _by_rule(self, wanted: Sequence["Wanted"]) -> list[Shares]:
        """By a named rule, in as many steps as were asked for or as it takes."""
        settled = [self.refined(each.path, each.settings) for each in wanted]
        points = []
        for each, (settings, _) in zip(wanted, settled):
            nodes, weights = settings.nodes(each.path)
            points.append(Points(each.path, nodes, weights[None]))
        results = []
        for each, (settings, residual), sums in zip(
            wanted, settled, self._products(wanted, points)
        ):
            ends = each.path.embedding, each.path.baseline_embedding
            results.append(Shares(sums[0], *ends, settings.n_steps, residual))
        return results

    def _placed(self, wanted: Sequence["Wanted"]) -> list[Shares]:
        """At nodes where the embedding moves, as many as the tolerance takes."""
        trials = [Trial(*each) for each in zip(wanted, scanned(wanted))]
        waiting = trials
        while waiting:
            own = [trial.wanted for trial in waiting]
            points = [trial.points() for trial in waiting]
            for trial, sums in zip(waiting, self._products(own, points)):
                trial.take(sums)
            waiting = [trial for trial in waiting if not trial.is_done]
        return [trial.shares() for trial in trials]

    def _products(
        self, wanted: Sequence["Wanted"], points: Sequence[Points]
    ) -> list[Tensor]:
        """(s, G, k) of each path, or (s, G, m) along its directions."""
        results: list[Any] = [None] * len(wanted)
        size = _size_of(wanted)
        for reads in (False, True):
            part = [at for at, w in enumerate(wanted) if (w.along is not None) == reads]
            own = [points[at] for at in part]
            scales = [self._scale(wanted[at].path) for at in part]
            if reads:
                asked = (wanted[at].along for at in part)
                along = [each for each in asked if each is not None]
                found = reverse_products(own, along, scales, size)
            else:
                found = feature_products(own, scales, self.direction, size)
            for at, sums in zip(part, found):
                results[at] = sums
        return results

    def _scale(self, path: BaselinePath) -> Tensor:
        """What a Jacobian is multiplied by: (*value)."""
        if self._multiply_by_inputs:
            return path.difference
        return torch.ones_like(path.value)


class Wanted(NamedTuple):
    """Of a path all contributions, or their products with directions (m, k)."""

    path: BaselinePath
    settings: Integration
    along: Optional[Tensor] = None

    @property
    def equations(self) -> int:
        """How many sums of its features are known."""
        return self.path.embedding.numel() if self.along is None else len(self.along)


class Placed(NamedTuple):
    """Where the nodes of a path go and how many are expected to do, by a scan."""

    scan: Scan
    density: Density
    n: int


def _size_of(wanted: Sequence[Wanted]) -> Optional[int]:
    """The most points of a pass: what was said is said for all examples of a call."""
    return next((each.settings.internal_batch_size for each in wanted), None)


class Trial:
    """
    An integral whose steps are doubled until its error is within the tolerance.

    The error is the larger of what is missing of the sums that are known, along every
    direction, and of a share of the change from the rule of every second node, feature
    by feature: a phrase alone is a single equation, which holds by accident too.
    """

    def __init__(self, wanted: Wanted, placed: Placed) -> None:
        self.wanted, self.n = wanted, placed.n
        self.is_done = False
        self._placed = placed
        self._sums: Optional[Tensor] = None
        self._known: Optional[tuple[Tensor, Tensor]] = None
        self._error = float("inf")

    def points(self) -> Points:
        """The nodes that come next, and their weights in the sums that are made."""
        path = self.wanted.path
        density = self._placed.density
        rule = density.rule(self.n)
        nodes, weights = rule.nodes, np.stack([rule.weights])
        if self._known is not None:  # the others were there before
            nodes, weights = nodes[::2], weights[:, ::2]
        else:
            weights = np.stack([rule.weights, rule.half])
            if self._may_double(self.n):
                double = density.rule(2 * self.n + 1)
                weights = np.stack([*weights, double.weights[1::2]])
        device = path.value.device
        return Points(
            path,
            torch.tensor(nodes, dtype=path.dtype, device=device),
            torch.tensor(weights, dtype=path.dtype, device=device),
        )

    def take(self, sums: Tensor) -> None:
        """The products at those nodes, (s, G, k or m)."""
        if self._known is not None:
            half, begun = self._known
            total, self._known = begun + sums[0], None
        else:
            total, half = sums[0], sums[1]
            if len(sums) > 2:
                self._known = total, sums[2]
        self._sums = total
        self._error = self._estimated(total, half)
        settings = self.wanted.settings
        assert settings.tolerance is not None  # only then nodes are placed
        larger = 2 * self.n + 1
        if self._error <= settings.tolerance or larger > settings.n_steps:
            self.is_done = True
        else:
            self.n = larger

    def _may_double(self, n: int) -> bool:
        return n > 2 and 2 * n + 1 <= self.wanted.settings.n_steps

    def _estimated(self, total: Tensor, half: Tensor) -> float:
        path, along = self.wanted.path, self.wanted.along
        target = path.embedding - path.baseline_embedding
        if along is None:
            # k equations: of the embedding's difference, and of all contributions
            sizes = _or_one(torch.linalg.vector_norm(target))
            missing, missing_of_half = (
                torch.linalg.vector_norm(each.sum(dim=0) - target)[None] / sizes
                for each in (total, half)
            )
            size = _or_one(torch.linalg.vector_norm(total))
            moved = torch.linalg.vector_norm(total - half)[None] / size
        else:
            # m equations, each beside the size of its readings, a typical one if its
            # own are next to nothing; of these relative errors the root mean square
            sizes = torch.linalg.vector_norm(total, dim=0)
            sizes = _or_one(torch.maximum(sizes, sizes.median()))
            missing, missing_of_half = (
                (each.sum(dim=0) - along @ target).abs() / sizes
                for each in (total, half)
            )
            moved = torch.linalg.vector_norm(total - half, dim=0) / sizes
        if self.n < 3:  # no rule of every second node
            moved = torch.zeros_like(moved)
        share = self._share(_mean(missing), _mean(missing_of_half))
        return _mean(
            torch.from_numpy(
                error_estimate(missing.cpu().numpy(), moved.cpu().numpy(), share)
            )
        )

    def _share(self, missing: float, missing_of_half: float) -> float:
        """The part of the change that is an error: the larger one of what the scan
        expected and of what was seen of the sums."""
        scan, density, _ = self._placed
        expected = scan.share(density, self.n, self.wanted.equations)
        return max(expected, share_of_change(missing, missing_of_half))

    def shares(self) -> Shares:
        """What was found."""
        path = self.wanted.path
        assert self._sums is not None  # it is done
        ends = path.embedding, path.baseline_embedding
        return Shares(self._sums, *ends, self.n, self._error)


def _mean(errors: Tensor) -> float:
    """The root of their mean square; of none, 0."""
    return float(errors.double().square().mean().sqrt()) if errors.numel() else 0.0


def _or_one(sizes: Tensor) -> Tensor:
    """Sizes to divide by: of nothing, one."""
    return torch.where(sizes > 0, sizes, torch.ones_like(sizes))


def scanned(wanted: Sequence[Wanted]) -> list[Placed]:
    """
    Where nodes go on each path and how many, from as few forward passes as the curve
    and the tolerance allow, shared where they can be.
    """
    size = _size_of(wanted)
    found: list[Any] = [None] * len(wanted)
    waiting, done = list(range(len(wanted))), set()
    for count in SCANS:
        if not waiting:
            break
        _scan([wanted[at].path for at in waiting], count, size)
        for at in waiting:
            scan = Scan(wanted[at].path.scans[count])
            settings = wanted[at].settings
            tolerance = settings.tolerance or 1.0
            most, equations = settings.n_steps, wanted[at].equations
            found[at] = Placed(scan, *scan.nodes_within(tolerance, most, equations))
            if scan.is_trusted(found[at].n, tolerance):
                done.add(at)
        waiting = [at for at in waiting if at not in done]
    return found


def _scan(paths: Sequence[BaselinePath], count: int, size: Optional[int]) -> None:
    """Scan paths at so many points, if they were not, and at half as many before."""
    # copies of a path have theirs in common
    by_scans = {id(path.scans): path for path in paths if count not in path.scans}
    unknown = list(by_scans.values())
    # every second point of a scan is one of the scan before it
    step = 1 if count == SCANS[0] else 2
    new = scan_nodes(count)[1:-1:step]
    for path, embeddings in zip(unknown, embedded(unknown, new, size)):
        if step == 1:
            ends = torch.stack([path.baseline_embedding, path.embedding])
            known = ends.double().cpu().numpy()
            path.scans[count] = np.concatenate([known[:1], embeddings, known[1:]])
            continue
        known = path.scans[count // 2 + 1]
        grown = np.empty((count, known.shape[1]))
        grown[::2], grown[1::2] = known, embeddings
        path.scans[count] = grown


def embedded(
    paths: Sequence[BaselinePath], nodes: Any, size: Optional[int]
) -> Iterator[Any]:
    """The embeddings (n, k) of each path at nodes (n,), in float64."""
    points = []
    for path in paths:
        own = torch.tensor(nodes, dtype=path.dtype, device=path.value.device)
        points.append(Points(path, own, own[None]))
    results: list[list[Tensor]] = [[] for _ in paths]
    for parts in passes(points, GRAPHS_SCAN, size):
        whole, values = together(parts)
        counts = [len(part.values) for part in parts]
        found = torch.split(whole.embed(values), counts)
        for part, embeddings in zip(parts, found):
            results[part.place].append(embeddings)
    return (torch.cat(each).double().cpu().numpy() for each in results)
