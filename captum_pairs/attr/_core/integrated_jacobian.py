#!/usr/bin/env python3

import typing
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Callable, Literal, NamedTuple, Optional, Union

import torch
from captum.log import log_usage
from captum_pairs.attr._core.embedding_attribution import EmbeddingAttribution
from captum_pairs.attr._utils.example import BaselinePath
from captum_pairs.attr._utils.products import (
    check_slope,
    feature_products,
    forward_products,
    NotTwiceDifferentiableError,
    reverse_products,
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


@dataclass(frozen=True)
class Integration:
    """
    How the integral over the path is computed.

    Args:

        n_steps (int): Quadrature steps; with a tolerance, the most that are tried.
        method (str): Of quadrature, as Captum calls it.
        tolerance (float, optional): Take as few steps as bring the residual within it.
        internal_batch_size (int, optional): The most points run at once.
    """

    n_steps: int = 50
    method: str = "gausslegendre"
    tolerance: Optional[float] = None
    internal_batch_size: Optional[int] = None

    def __post_init__(self) -> None:
        n_steps, _ = validate_quadrature(self.n_steps, self.method)
        object.__setattr__(self, "n_steps", n_steps)
        if self.tolerance is not None:
            tolerance = positive_float("tolerance", self.tolerance)
            object.__setattr__(self, "tolerance", tolerance)
        check_chunk(self.internal_batch_size)

    def points(
        self, path: BaselinePath, graphs: float
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The path's points and their weights, as many at a time as memory allows."""
        nodes, weights = quadrature(
            self.n_steps, self.method, path.dtype, path.value.device
        )
        size = path.chunk_size(self.internal_batch_size, graphs)
        # Equal chunks: 3 + 3 + 2 + 2 and not 3 + 3 + 3 + 1.
        count = -(-self.n_steps // size)
        for some, weight in zip(nodes.tensor_split(count), weights.tensor_split(count)):
            yield path.points(some), weight


class Convergence(NamedTuple):
    r"""
    How far the integral of a side is from complete, at the steps that were chosen.

    Args:

        n_steps (Tensor): The number of steps of each example, (b,).
        residual (Tensor): :math:`\|\sum_i c_i - (g(x) - g(r_x))\| / \|g(x) - g(r_x)\|`
                    of each example, (b,).
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
        method: str = "gausslegendre",
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
        method: str = "gausslegendre",
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
        method: str = "gausslegendre",
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
            tolerance (float, optional): Of every example take as few of 4, 8, 16, ...
                        steps as bring its residual (see :class:`Convergence`) within
                        it; warn if ``n_steps`` do not. Default: None
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
        method: str = "gausslegendre",
        tolerance: Optional[float] = 1e-3,
        attribute_to_layer_input: bool = False,
    ) -> Convergence:
        r"""
        The steps that ``attribute`` would take for a tolerance, and their residual, at
        the cost of one Jacobian-vector product a step. With ``tolerance=None`` the
        residual of exactly ``n_steps``.

        Returns:
            :class:`Convergence` (n_steps (b,), residual (b,)).
        """
        given = (inputs, baselines, None, additional_forward_args)
        examples = self.examples(*given, attribute_to_layer_input)
        return self._converge(examples, Integration(n_steps, method, tolerance))

    def _converge(self, examples: Any, settings: Integration) -> Convergence:
        found = [self.refined(example, settings) for example in examples]
        steps = torch.tensor([chosen.n_steps for chosen, _ in found])
        return Convergence(steps, torch.stack([residual for _, residual in found]))

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
    ) -> tuple[Integration, Tensor]:
        """The fewest steps within the tolerance, chosen before the costly passes, and
        their residual."""
        ladder = [settings.n_steps]
        if settings.tolerance is not None:
            ladder = steps_up_to(settings.n_steps, settings.method)
        limit = settings.tolerance or float("inf")
        for n_steps in ladder:
            trial = replace(settings, n_steps=n_steps, tolerance=None)
            residual = self._residual(path, trial)
            if float(residual) <= limit:
                break
        return trial, residual

    def _settled(self, path: BaselinePath, settings: Integration) -> Integration:
        """Settings with steps that are known; a warning if they do not do."""
        if settings.tolerance is None:
            return settings
        chosen, residual = self.refined(path, settings)
        if float(residual) > settings.tolerance:
            name = path.side.names[0]
            side = f" of {name}" if name != "inputs" else ""
            warn_caller(
                f"the path integral{side} has a residual of {float(residual):.1e} "
                f"after n_steps={settings.n_steps}, above "
                f"tolerance={settings.tolerance:.1e}"
            )
        return chosen

    def _residual(self, path: BaselinePath, settings: Integration) -> Tensor:
        """Relative distance of the quadrature from the difference it integrates."""
        target = path.embedding - path.baseline_embedding
        points = partial(settings.points, path)
        try:
            total = forward_products(path, points, [path.difference])[0]
        except NotTwiceDifferentiableError:
            scale = path.difference
            total = feature_products(path, points, scale, "reverse").sum(dim=0)
        norm: Tensor = torch.linalg.vector_norm(target)
        distance: Tensor = torch.linalg.vector_norm(total - target)
        return distance / torch.where(norm > 0, norm, 1.0)

    # ---- the products ------------------------------------------------------

    def contributions(self, path: BaselinePath, settings: Integration) -> Tensor:
        """(G, k), from a product per feature or one per embedding dimension."""
        points = partial(self._settled(path, settings).points, path)
        found = feature_products(path, points, self._scale(path), self.direction)
        check_slope(found, path.embedding - path.baseline_embedding)
        return found

    def readings(
        self, path: BaselinePath, directions: Tensor, settings: Integration
    ) -> Optional[Tensor]:
        """(G, m): one vector-Jacobian product for each of m directions, if fewer."""
        count, width = path.features.count, path.embedding.numel()
        fewest = width if self.direction == "reverse" else min(count, width)
        if self.direction == "forward" or len(directions) > fewest:
            return None
        points = partial(self._settled(path, settings).points, path)
        found = reverse_products(path, points, directions, self._scale(path))
        check_slope(found, directions @ (path.embedding - path.baseline_embedding))
        return found

    def _scale(self, path: BaselinePath) -> Tensor:
        """What a Jacobian is multiplied by: (*value)."""
        if self._multiply_by_inputs:
            return path.difference
        return torch.ones_like(path.value)
