#!/usr/bin/env python3

import typing
from typing import Any, Literal, Optional, Union

from captum.log import log_usage
from captum_pairs.attr._core.integrated_jacobian import (
    Convergence,
    IntegratedJacobian,
    Integration,
)
from captum_pairs.attr._core.pair_attribution import PairAttribution, PairDecomposition
from captum_pairs.attr._utils.path import Side
from captum_pairs.attr._utils.similarity import make_similarity
from captum_pairs.attr._utils.validation import InvalidArgumentError
from torch import Tensor


class FeaturePairIntegratedGradients(PairAttribution[Integration]):
    r"""
    Attributes the similarity that a dual encoder computes to pairs of features, one
    from each input: *which word matched which region*.

    For :math:`s(x, y) = \langle g(x), h(y) \rangle` it integrates the mixed second
    derivative over both paths from baseline to input, which is the inner product of
    the features' contribution vectors (see :class:`IntegratedJacobian`):

    .. math::
        A_{ij} = \langle c_i, c_j \rangle, \qquad
        \sum_{ij} A_{ij} = s(x, y) - s(r_x, y) - s(x, r_y) + s(r_x, r_y).

    Contributions are computed on the side with fewer features, and for each of them
    one vector-Jacobian product gives the attributions to all features of the other
    side, so that single pixels cost no more than patches.

    More details: Möller et al., "Explaining Caption-Image Interactions in CLIP Models
    with Second-Order Attributions", TMLR 2025, https://arxiv.org/abs/2408.14153.
    """

    first: IntegratedJacobian
    second: IntegratedJacobian

    def __init__(
        self,
        forward_func: Any,
        similarity: str = "cosine",
        scale: float = 1.0,
        multiply_by_inputs: bool = True,
        direction: Optional[str] = None,
    ) -> None:
        r"""
        Args:

            forward_func (Callable or tuple of Callable): (encode_first,
                        encode_second), or one encoder for both sides; each maps
                        (b, ...) to embeddings (b, k).
            similarity (str, optional): ``cosine`` (the normalisation is part of the
                        path), ``dot``, or ``frozen_cosine`` (the dot product divided
                        by the two norms at the inputs, as the paper's code does; its
                        ``forward_func`` is the cosine). Default: ``cosine``
            scale (float, optional): A factor on the similarity, such as a logit
                        scale. Default: 1.0
            multiply_by_inputs (bool, optional): Whether attributions are global
                        (multiplied by input minus baseline on both sides) or local.
                        Default: True
            direction (str, optional): ``forward`` (one Jacobian-vector product for
                        each feature, on both sides) or ``reverse`` (vector-Jacobian
                        products only) instead of what costs least. Default: None
        """
        score = make_similarity(forward_func, similarity, scale)
        first, second = (
            IntegratedJacobian(
                encoder, score.kind == "cosine", multiply_by_inputs, direction
            )
            for encoder in (score.encode_first, score.encode_second)
        )
        super().__init__(score, first, second)

    @typing.overload
    def attribute(
        self,
        inputs: tuple[Tensor, Tensor],
        baselines: Any = None,
        feature_mask: Any = None,
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
        inputs: tuple[Tensor, Tensor],
        baselines: Any = None,
        feature_mask: Any = None,
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
        inputs: tuple[Tensor, Tensor],
        baselines: Any = None,
        feature_mask: Any = None,
        additional_forward_args: Any = None,
        n_steps: int = 50,
        method: str = "gausslegendre",
        tolerance: Optional[float] = None,
        internal_batch_size: Optional[int] = None,
        return_convergence_delta: bool = False,
    ) -> Union[Tensor, tuple[Tensor, Tensor]]:
        r"""
        Every argument but the last five is a pair, one element for each side; None
        stands for (None, None).

        Args:

            inputs (tuple[Tensor, Tensor]): Floating tensors (b, ...) of one batch size.
            baselines (tuple, optional): Where the paths start: for each side a
                        number, or a tensor of the input's shape or of batch 1.
                        Default: zeros
            feature_mask (tuple, optional): Ids 0...G-1 for each side that sum its
                        scalars into G features; of the input's dimensions, each its
                        own size or 1. Default: every scalar is a feature
            additional_forward_args (tuple, optional): For each side one further
                        argument of its encoder, or a tuple of them; tensors of batch 1
                        or b stay with their example. Default: None
            n_steps (int, optional): Quadrature steps on each path; with a tolerance,
                        the most that are tried. Default: 50
            method (str, optional): ``gausslegendre``, ``riemann_right``,
                        ``riemann_left``, ``riemann_middle`` or ``riemann_trapezoid``.
            tolerance (float, optional): Each side takes as few of 4, 8, 16, ... steps
                        as bring its residual (see :meth:`choose_steps`), worst over
                        the batch, within it. Default: None
            internal_batch_size (int, optional): The most points run at once.
                        Default: chosen by the memory that a point needs
            return_convergence_delta (bool, optional): Default: False

        Returns:
            **attributions** or 2-element tuple of **attributions**, **delta**:

            - **attributions** (*Tensor*): (b, \*features of x, \*features of y), in
              units of the similarity; a side with a feature mask has one axis.
            - **delta** (*Tensor*): the sum of the attributions minus
              :math:`s(x,y) - s(r_x,y) - s(x,r_y) + s(r_x,r_y)`, (b,).

        Raises:
            InvalidArgumentError: a ``ValueError`` that names the argument.

        Examples::

            >>> images, texts = nn.Linear(6, 3), nn.Linear(4, 3)
            >>> fpig = FeaturePairIntegratedGradients((images, texts))
            >>> x, y = torch.randn(2, 6), torch.randn(2, 4)
            >>> fpig.attribute((x, y), n_steps=16).shape
            torch.Size([2, 6, 4])
        """
        sides = self._sides(inputs, baselines, feature_mask, additional_forward_args)
        settings = Integration.of(n_steps, method, tolerance, internal_batch_size)
        return self._finish(sides, settings, return_convergence_delta)

    @log_usage()
    def decompose(
        self,
        inputs: tuple[Tensor, Tensor],
        baselines: Any = None,
        feature_mask: Any = None,
        additional_forward_args: Any = None,
        n_steps: int = 50,
        method: str = "gausslegendre",
        tolerance: Optional[float] = None,
        internal_batch_size: Optional[int] = None,
    ) -> PairDecomposition:
        r"""
        The whole score: constant, main effects of each side, and interactions. The
        arguments are those of :meth:`attribute`.

        Returns:
            :class:`PairDecomposition`
        """
        sides = self._sides(inputs, baselines, feature_mask, additional_forward_args)
        settings = Integration.of(n_steps, method, tolerance, internal_batch_size)
        return self._decompose(sides, settings)

    @log_usage()
    def choose_steps(
        self,
        inputs: tuple[Tensor, Tensor],
        baselines: Any = None,
        additional_forward_args: Any = None,
        n_steps: int = 50,
        method: str = "gausslegendre",
        tolerance: Optional[float] = 1e-3,
    ) -> tuple[Convergence, Convergence]:
        r"""
        The steps that each side would take for a tolerance, and their residual, at the
        cost of one Jacobian-vector product a step. With ``tolerance=None`` the
        residual of exactly ``n_steps``.

        Returns:
            *tuple* of two :class:`Convergence` (n_steps, residual (b,)).
        """
        sides = self._sides(inputs, baselines, None, additional_forward_args)
        settings = Integration.of(n_steps, method, tolerance, None)
        return self._converge(sides, settings)

    @log_usage()
    def compute_convergence_delta(
        self,
        attributions: Tensor,
        start_point: Any,
        end_point: tuple[Tensor, Tensor],
        target: None = None,
        additional_forward_args: Any = None,
    ) -> Tensor:
        r"""
        Args:

            attributions (Tensor): (b, \*features of x, \*features of y).
            start_point (tuple, optional): The pair of baselines.
            end_point (tuple[Tensor, Tensor]): The pair of inputs.
            target (None, optional): As in Captum; a similarity has none.
            additional_forward_args (tuple, optional): As for :meth:`attribute`.

        Returns:
            *Tensor* (b,): the sum of the attributions minus
            :math:`s(x,y) - s(r_x,y) - s(x,r_y) + s(r_x,r_y)`.
        """
        self._require_multiplied("attributions")
        sides = self._sides(end_point, start_point, None, additional_forward_args)
        return self._interaction_delta(sides, attributions)

    def has_convergence_delta(self) -> bool:
        return self.multiplies_by_inputs

    @property
    def multiplies_by_inputs(self) -> bool:
        return self.first.multiplies_by_inputs

    def _require_multiplied(self, argument: str) -> None:
        if not self.multiplies_by_inputs:
            raise InvalidArgumentError(
                argument,
                "multiply_by_inputs=True, without which nothing is complete",
                "multiply_by_inputs=False",
            )

    def _finish(
        self,
        sides: tuple[Side, Side],
        settings: Integration,
        return_convergence_delta: bool,
    ) -> Union[Tensor, tuple[Tensor, Tensor]]:
        if return_convergence_delta:
            self._require_multiplied("return_convergence_delta")
        found = self._pairs(sides, settings, effects=False)
        if return_convergence_delta:
            return found.interactions, found.convergence_delta
        return found.interactions

    def _decompose(
        self, sides: tuple[Side, Side], settings: Integration
    ) -> PairDecomposition:
        self._require_multiplied("decompose")
        return self._pairs(sides, settings, effects=True)

    def _converge(
        self, sides: tuple[Side, Side], settings: Integration
    ) -> tuple[Convergence, Convergence]:
        return (
            self.first._converge(sides[0], settings),
            self.second._converge(sides[1], settings),
        )
