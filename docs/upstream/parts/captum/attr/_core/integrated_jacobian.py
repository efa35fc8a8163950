#!/usr/bin/env python3

# pyre-strict
import typing
from typing import Any, Callable, cast, Dict, List, Literal, Optional, Tuple, Union

from captum._utils.common import (
    _expand_additional_forward_args,
    _format_additional_forward_args,
    _run_forward,
)
from captum._utils.typing import BaselineType
from captum.attr._utils.approximation_methods import approximation_parameters
from captum.attr._utils.attribution import GradientAttribution
from captum.attr._utils.batching import _batch_attribution
from captum.attr._utils.common import (
    _format_input_baseline,
    _tensorize_baseline,
    _validate_input,
)
from captum.attr._utils.feature_pairs import (
    check_finite,
    check_tensor,
    describe,
    InvalidArgumentError,
)
from captum.attr._utils.jacobian import (
    EncoderPath,
    features_of,
    jacobian_products,
    require_slope,
)
from captum.log import log_usage
from torch import Tensor


class IntegratedJacobian(GradientAttribution):
    r"""
    Integrated Jacobian is Integrated Gradients of every dimension of an embedding at
    once: it assigns to each feature i of an input the vector

    .. math::
        c_i = \sum_{e \in i} (x - r)_e \int_0^1
              \frac{\partial g}{\partial x_e}(r + \alpha (x - r))\, d\alpha
        \in R^k,

    where g is an encoder with outputs in :math:`R^k`, r the baseline, and the sum is
    over the feature's scalars e. Contributions are complete in every dimension:
    :math:`\sum_i c_i = g(x) - g(r)`.

    It is the half of :class:`FeaturePairIntegratedGradients` that belongs to one input,
    and can be computed once per input however many pairs the input is part of.

    More details can be found in section 3 of the paper:
    https://arxiv.org/abs/2408.14153
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        normalize: bool = False,
        multiply_by_inputs: bool = True,
    ) -> None:
        r"""
        Args:

            forward_func (Callable): The forward function of an encoder: it maps a batch
                        of inputs to embeddings of shape (b, k), each example by itself.
            normalize (bool, optional): Whether embeddings are divided by their
                        Euclidean norms; the normalization is then part of the path.
                        Default: False
            multiply_by_inputs (bool, optional): Indicates whether to factor
                        model inputs' multiplier in the final contributions (global
                        attribution), or to return the averaged Jacobian, summed over
                        each feature (local attribution).
                        Default: True
        """
        GradientAttribution.__init__(self, forward_func)
        self.normalize = normalize
        self._multiply_by_inputs = multiply_by_inputs

    @typing.overload
    def attribute(
        self,
        inputs: Tensor,
        baselines: BaselineType = None,
        feature_mask: Optional[Tensor] = None,
        additional_forward_args: Optional[object] = None,
        n_steps: int = 50,
        method: str = "gausslegendre",
        internal_batch_size: Union[None, int] = None,
        return_convergence_delta: Literal[False] = False,
    ) -> Tensor: ...

    @typing.overload
    def attribute(
        self,
        inputs: Tensor,
        baselines: BaselineType = None,
        feature_mask: Optional[Tensor] = None,
        additional_forward_args: Optional[object] = None,
        n_steps: int = 50,
        method: str = "gausslegendre",
        internal_batch_size: Union[None, int] = None,
        *,
        return_convergence_delta: Literal[True],
    ) -> Tuple[Tensor, Tensor]: ...

    @log_usage(part_of_slo=True)
    def attribute(
        self,
        inputs: Tensor,
        baselines: BaselineType = None,
        feature_mask: Optional[Tensor] = None,
        additional_forward_args: Optional[object] = None,
        n_steps: int = 50,
        method: str = "gausslegendre",
        internal_batch_size: Union[None, int] = None,
        return_convergence_delta: bool = False,
    ) -> Union[Tensor, Tuple[Tensor, Tensor]]:
        r"""
        This method attributes all dimensions of the encoder's output to the features of
        its input, using the approach described above.

        Args:

            inputs (Tensor): Floating point input for which contributions are computed.
                        Dimension 0 corresponds to the number of examples.
            baselines (scalar or Tensor, optional): The starting point of the integral:
                        a scalar, or a tensor of the shape of inputs or with a first
                        dimension of one.
                        Default: zeros
            feature_mask (Tensor, optional): Ids 0...G-1 of features, of as many
                        dimensions as inputs; each dimension has its input's size or
                        one. The axes of the features are then one of size G. If None,
                        each scalar is a feature.
                        Default: None
            additional_forward_args (Any, optional): One further argument of the
                        encoder, or a tuple of them. Tensors have the examples in
                        dimension 0 and are repeated for each of `n_steps`.
                        Default: None
            n_steps (int, optional): The number of steps used by the approximation
                        method.
                        Default: 50
            method (str, optional): Method for approximating the integral,
                        one of `riemann_right`, `riemann_left`, `riemann_middle`,
                        `riemann_trapezoid` or `gausslegendre`.
                        Default: `gausslegendre`
            internal_batch_size (int, optional): Divides total #steps * #examples
                        data points into chunks of size at most internal_batch_size,
                        which are computed sequentially. internal_batch_size must be
                        at least equal to #examples.
                        Default: None
            return_convergence_delta (bool, optional): Indicates whether to return
                        convergence delta or not.
                        Default: False

        Returns:
            **contributions** or 2-element tuple of **contributions**, **delta**:
            - **contributions** (*Tensor*):
                (b, \*features, k): the contribution vector of each feature.
            - **delta** (*Tensor*, returned if return_convergence_delta=True):
                (b, k): the sum of the contributions minus
                forward_func(inputs) - forward_func(baselines).

        Examples::

            >>> # ImageEncoder maps images Nx3x32x32 to embeddings Nx64.
            >>> encoder = ImageEncoder()
            >>> jacobian = IntegratedJacobian(encoder, normalize=True)
            >>> input = torch.randn(2, 3, 32, 32)
            >>> # Patches of 8 x 8 pixels, counted row by row.
            >>> rows = torch.arange(32) // 8
            >>> mask = (4 * rows[:, None] + rows)[None, None]
            >>> # Contributions have the shape 2x16x64.
            >>> contributions = jacobian.attribute(input, feature_mask=mask)
        """
        path = self._path(inputs, baselines, feature_mask, additional_forward_args)
        return self._attribute_path(
            path,
            inputs,
            n_steps,
            method,
            internal_batch_size,
            return_convergence_delta,
        )

    def _attribute_path(
        self,
        path: EncoderPath,
        inputs: Tensor,
        n_steps: int,
        method: str,
        internal_batch_size: Optional[int],
        return_convergence_delta: bool,
    ) -> Union[Tensor, Tuple[Tensor, Tensor]]:
        if return_convergence_delta:
            self._require_multiplied("return_convergence_delta")
        found = self._integrate(path, n_steps, method, internal_batch_size)
        shape = (len(found), *path.features[0].shape, found.shape[-1])
        dtype = inputs.dtype if inputs.is_floating_point() else path.dtype
        contributions = found.reshape(shape).to(dtype)
        if return_convergence_delta:
            ends, starts = path.ends
            return contributions, (found.sum(dim=1) - (ends - starts)).to(dtype)
        return contributions

    def _integrate(
        self,
        path: EncoderPath,
        n_steps: int,
        method: str,
        internal_batch_size: Optional[int],
        directions: Optional[Tensor] = None,
    ) -> Tensor:
        """Contributions (b, G, k), or (b, G, m) along directions (b, m, k)."""
        _validate_input((path.end,), (path.start,), n_steps, method)
        asked: Dict[str, Any] = {
            "path": path,
            "directions": directions,
            "method": method,
        }
        if internal_batch_size is None:
            found = self._attribute(**asked, n_steps=n_steps)
        else:
            rows = len(path.end)
            size = internal_batch_size
            found = _batch_attribution(self, rows, size, n_steps, **asked)
        ends, starts = path.ends
        along = ends - starts
        if directions is not None:
            along = (directions.to(along) @ along.unsqueeze(-1)).squeeze(-1)
        require_slope(path, found, along)
        check_finite(found)
        return cast(Tensor, found)

    def _attribute(
        self,
        path: EncoderPath,
        directions: Optional[Tensor] = None,
        n_steps: int = 50,
        method: str = "gausslegendre",
        step_sizes_and_alphas: Union[None, Tuple[List[float], List[float]]] = None,
    ) -> Tensor:
        if step_sizes_and_alphas is None:
            step_sizes_func, alphas_func = approximation_parameters(method)
            step_sizes, alphas = step_sizes_func(n_steps), alphas_func(n_steps)
        else:
            step_sizes, alphas = step_sizes_and_alphas
        return jacobian_products(path, step_sizes, alphas, directions)

    def _path(
        self,
        inputs: Tensor,
        baselines: BaselineType = None,
        feature_mask: Optional[Tensor] = None,
        additional_forward_args: Optional[object] = None,
        suffix: str = "",
    ) -> EncoderPath:
        """What the arguments of a call say; suffix is that of a pair's side."""
        (end,), (start,) = self._ends(inputs, baselines, suffix)
        if not end.is_floating_point():
            raise InvalidArgumentError(
                "inputs" + suffix,
                "a floating tensor, since the path from the baseline runs through it "
                "(for token ids, attribute to a layer)",
                describe(inputs),
            )
        args = _format_additional_forward_args(additional_forward_args)

        def encode(values: Tensor) -> Tensor:
            expanded = _expand_additional_forward_args(args, len(values) // len(end))
            return cast(Tensor, _run_forward(self.forward_func, values, None, expanded))

        mask = features_of("feature_mask" + suffix, feature_mask, end, at_layer=False)
        is_global, normalize = self.multiplies_by_inputs, self.normalize
        return EncoderPath(encode, start, end, mask, is_global, normalize, suffix)

    def _ends(
        self, inputs: Tensor, baselines: Any, suffix: str
    ) -> Tuple[Tuple[Tensor, ...], Tuple[Tensor, ...]]:
        """Inputs, and baselines of their shape, as tuples of one tensor."""
        check_tensor("inputs" + suffix, inputs)
        formatted, starts = _format_input_baseline(inputs, baselines)
        _validate_input(formatted, starts)
        full = _tensorize_baseline(formatted, starts)
        return formatted, tuple(
            start.expand_as(end) for start, end in zip(full, formatted)
        )

    def compute_convergence_delta(  # type: ignore
        self,
        attributions: Tensor,
        start_point: BaselineType,
        end_point: Tensor,
        target: None = None,
        additional_forward_args: Optional[object] = None,
    ) -> Tensor:
        r"""
        Args:

            attributions (Tensor): Contributions (b, \*features, k).
            start_point (scalar or Tensor, optional): The baselines.
            end_point (Tensor): The inputs.
            target (None, optional): An embedding has none.
            additional_forward_args (Any, optional): As for `attribute`.

        Returns:
            *Tensor* (b, k): the sum of the contributions minus
            forward_func(end_point) - forward_func(start_point).
        """
        self._require_multiplied("attributions")
        path = self._path(end_point, start_point, None, additional_forward_args)
        ends, starts = path.ends
        return attributions.flatten(1, -2).sum(dim=1) - (ends - starts)

    def _require_multiplied(self, argument: str) -> None:
        if not self._multiply_by_inputs:
            raise InvalidArgumentError(
                argument,
                "multiply_by_inputs=True, without which nothing is complete",
                "multiply_by_inputs=False",
            )

    def has_convergence_delta(self) -> bool:
        return self._multiply_by_inputs

    @property
    def multiplies_by_inputs(self) -> bool:
        return self._multiply_by_inputs

    def attribute_future(self) -> None:
        r"""
        This method is not implemented for IntegratedJacobian.
        """
        raise NotImplementedError(
            "attribute_future is not implemented for IntegratedJacobian"
        )
