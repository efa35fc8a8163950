#!/usr/bin/env python3

import typing
from typing import Any, Literal, Optional, Union

from captum.log import log_usage
from captum_pairs.attr._core.integrated_jacobian import (
    Convergence,
    IntegratedJacobian,
    Integration,
)
from captum_pairs.attr._core.pair_attribution import PairAttribution
from captum_pairs.attr._utils.validation import flag
from torch import Tensor


class FeaturePairIntegratedGradients(PairAttribution):
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

    embedding_attribution = IntegratedJacobian
    first: IntegratedJacobian
    second: IntegratedJacobian

    def __init__(
        self,
        forward_func: Any,
        similarity: str = "cosine",
        scale: float = 1.0,
        multiply_by_inputs: bool = True,
        direction: Optional[str] = None,
        layer: Any = None,
        channel_dim: Any = None,
    ) -> None:
        r"""
        Args:

            forward_func, scale, layer, channel_dim: As for :class:`PairAttribution`.
            similarity (str, optional): ``cosine`` (the normalisation is part of the
                        path), ``dot``, or ``frozen_cosine`` (the dot product divided
                        by the two norms at the inputs, as the paper's code does; its
                        ``forward_func`` is the cosine). Default: ``cosine``
            multiply_by_inputs (bool, optional): Whether attributions are global
                        (multiplied by input minus baseline on both sides) or local.
                        Default: True
            direction (str, optional): ``forward`` (one Jacobian-vector product for
                        each feature, on both sides) or ``reverse`` (vector-Jacobian
                        products only) instead of what costs least. Default: None
        """
        one = {"multiply_by_inputs": multiply_by_inputs, "direction": direction}
        self._build(forward_func, similarity, scale, layer, channel_dim, (one, one))

    @typing.overload
    def attribute(
        self,
        inputs: tuple[Tensor, Tensor],
        baselines: Any = None,
        feature_mask: Any = None,
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
        inputs: tuple[Tensor, Tensor],
        baselines: Any = None,
        feature_mask: Any = None,
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
        inputs: tuple[Tensor, Tensor],
        baselines: Any = None,
        feature_mask: Any = None,
        additional_forward_args: Any = None,
        n_steps: int = 50,
        method: Optional[str] = None,
        tolerance: Optional[float] = None,
        internal_batch_size: Optional[int] = None,
        return_convergence_delta: bool = False,
        attribute_to_layer_input: bool = False,
    ) -> Union[Tensor, tuple[Tensor, Tensor]]:
        r"""
        Every argument but the last six is a pair, one element for each side; None
        stands for (None, None).

        Args:

            inputs (tuple[Tensor, Tensor]): Floating tensors (b, ...) of one batch size;
                        at a layer they may hold integers (token ids).
            baselines (tuple, optional): Where the paths start: for each side a
                        number, or a tensor of the input's shape or of batch 1; at a
                        layer it is propagated there. Default: zeros
            feature_mask (tuple, optional): Ids 0...G-1 for each side that sum its
                        scalars into G features; of the dimensions of the input, or of
                        the layer's value, each its own size or 1. Default: every scalar
                        is a feature, at a layer every position
            additional_forward_args (tuple, optional): For each side one further
                        argument of its encoder, or a tuple of them; tensors of batch 1
                        or b stay with their example. Default: None
            n_steps (int, optional): Quadrature steps on each path; with a tolerance,
                        the most that are tried. Default: 50
            method (str, optional): ``gausslegendre``, ``riemann_right``,
                        ``riemann_left``, ``riemann_middle`` or ``riemann_trapezoid``.
                        Default: ``gausslegendre``; with a tolerance, nodes where the
                        embedding moves (see :mod:`captum_pairs.attr._utils.placement`)
            tolerance (float, optional): Each side of every example takes as few steps
                        as bring its residual (see :class:`Convergence`) within it, of a
                        named method 4, 8, 16, .... Default: None
            internal_batch_size (int, optional): The most points run at once.
                        Default: chosen by the memory that a point needs
            return_convergence_delta (bool, optional): Default: False
            attribute_to_layer_input (bool, optional): The layers' inputs instead of
                        their outputs. Default: False

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
        if flag("return_convergence_delta", return_convergence_delta):
            self.first._require_multiplied("return_convergence_delta")
        given = (inputs, baselines, feature_mask, additional_forward_args)
        sides = self._sides(*given, attribute_to_layer_input)
        names = "n_steps", "method", "tolerance", "internal_batch_size"
        asked = zip(names, (n_steps, method, tolerance, internal_batch_size))
        found = self._pairs(sides, dict(asked), effects=False)
        if return_convergence_delta:
            return found.interactions, found.convergence_delta
        return found.interactions

    @log_usage()
    def choose_steps(
        self,
        inputs: tuple[Tensor, Tensor],
        baselines: Any = None,
        additional_forward_args: Any = None,
        n_steps: int = 50,
        method: Optional[str] = None,
        tolerance: Optional[float] = 1e-3,
        attribute_to_layer_input: bool = False,
    ) -> tuple[Convergence, Convergence]:
        r"""
        The steps that a tolerance takes on each side for all features as one
        (``attribute`` may take more), and their residual, at the cost of one
        Jacobian-vector product a step. With ``tolerance=None`` the residual of exactly
        ``n_steps``.

        Returns:
            *tuple* of two :class:`Convergence` (n_steps (b,), residual (b,)).
        """
        given = (inputs, baselines, None, additional_forward_args)
        sides = self._sides(*given, attribute_to_layer_input)
        settings = Integration(n_steps, method, tolerance)
        return (
            self.first._converge(self.first._examples(sides[0]), settings),
            self.second._converge(self.second._examples(sides[1]), settings),
        )
