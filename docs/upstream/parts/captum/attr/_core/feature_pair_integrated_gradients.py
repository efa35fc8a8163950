#!/usr/bin/env python3

# pyre-strict
import typing
from typing import Any, Callable, Literal, Optional, Tuple, Union

import torch
from captum.attr._core.integrated_jacobian import IntegratedJacobian
from captum.attr._utils.attribution import GradientAttribution
from captum.attr._utils.feature_pairs import (
    check_norm,
    check_tensor,
    different_widths,
    InvalidArgumentError,
    make_similarity,
    optional_pair_of,
    pair_of,
)
from captum.attr._utils.jacobian import EncoderPath
from captum.log import log_usage
from torch import Tensor


class FeaturePairIntegratedGradients(GradientAttribution):
    r"""
    Attributes the similarity that a dual encoder computes, such as CLIP, to pairs of
    features, one from each of its two inputs: which word matched which region.

    For :math:`s(x, y) = \langle g(x), h(y) \rangle` it integrates the mixed second
    derivative along both straight lines from baseline to input. That is the inner
    product of the contribution vectors of :class:`IntegratedJacobian`:

    .. math::
        A_{ij} = \langle c_i, c_j \rangle, \qquad
        \sum_{ij} A_{ij} = s(x, y) - s(r_x, y) - s(x, r_y) + s(r_x, r_y).

    Contributions are computed on the side with fewer features. For each of them one
    vector-Jacobian product a step gives the attributions to all features of the other
    side.

    More details can be found in the original paper:
    https://arxiv.org/abs/2408.14153
    """

    def __init__(
        self,
        forward_func: Union[
            Callable[..., Tensor], Tuple[Callable[..., Tensor], Callable[..., Tensor]]
        ],
        similarity: str = "cosine",
        scale: float = 1.0,
        multiply_by_inputs: bool = True,
    ) -> None:
        r"""
        Args:

            forward_func (Callable or tuple of Callable): The forward functions of two
                        encoders, or of one for both inputs (a Siamese network). Each
                        maps a batch of inputs to embeddings of shape (b, k), each
                        example by itself.
            similarity (str, optional): `cosine` (the normalization is part of the
                        path), `dot`, or `frozen_cosine` (the dot product divided by the
                        two norms at the inputs, as in the paper's code).
                        Default: `cosine`
            scale (float, optional): A factor on the similarity, such as a logit scale.
                        Default: 1.0
            multiply_by_inputs (bool, optional): Indicates whether to factor
                        model inputs' multipliers of both sides in the final
                        attribution scores (global attribution).
                        Default: True
        """
        score = make_similarity(forward_func, similarity, scale)
        GradientAttribution.__init__(self, score)
        self.similarity = score
        self._multiply_by_inputs = multiply_by_inputs
        encoders = score.encode_first, score.encode_second
        self.sides: Tuple[IntegratedJacobian, IntegratedJacobian] = (
            self._side(encoders[0], 0),
            self._side(encoders[1], 1),
        )

    def _side(self, encoder: Callable[..., Tensor], index: int) -> IntegratedJacobian:
        normalize = self.similarity.kind == "cosine"
        return IntegratedJacobian(encoder, normalize, self._multiply_by_inputs)

    @typing.overload
    def attribute(
        self,
        inputs: Tuple[Tensor, Tensor],
        baselines: Any = None,
        feature_mask: Any = None,
        additional_forward_args: Any = None,
        n_steps: int = 50,
        method: str = "gausslegendre",
        internal_batch_size: Union[None, int] = None,
        return_convergence_delta: Literal[False] = False,
    ) -> Tensor: ...

    @typing.overload
    def attribute(
        self,
        inputs: Tuple[Tensor, Tensor],
        baselines: Any = None,
        feature_mask: Any = None,
        additional_forward_args: Any = None,
        n_steps: int = 50,
        method: str = "gausslegendre",
        internal_batch_size: Union[None, int] = None,
        *,
        return_convergence_delta: Literal[True],
    ) -> Tuple[Tensor, Tensor]: ...

    @log_usage(part_of_slo=True)
    def attribute(
        self,
        inputs: Tuple[Tensor, Tensor],
        baselines: Any = None,
        feature_mask: Any = None,
        additional_forward_args: Any = None,
        n_steps: int = 50,
        method: str = "gausslegendre",
        internal_batch_size: Union[None, int] = None,
        return_convergence_delta: bool = False,
    ) -> Union[Tensor, Tuple[Tensor, Tensor]]:
        r"""
        This method attributes the similarity of two inputs to pairs of their features,
        using the approach described above. Each of the first four arguments is a pair,
        one element for each input; None stands for (None, None).

        Args:

            inputs (tuple[Tensor, Tensor]): Floating point inputs of the two encoders,
                        of one batch size: example i of the first is compared with
                        example i of the second.
            baselines (tuple of scalar or Tensor, optional): The starting points of the
                        integrals: for each input a scalar, or a tensor of its shape or
                        with a first dimension of one.
                        Default: zeros
            feature_mask (tuple of Tensor, optional): For each input, ids 0...G-1 of its
                        features, of as many dimensions as the input; each dimension has
                        the input's size or one. The axes of these features are then one
                        of size G. Ids of the two inputs have nothing to do with each
                        other. If None, each scalar is a feature.
                        Default: None
            additional_forward_args (tuple, optional): For each input, one further
                        argument of its encoder, or a tuple of them. Tensors have the
                        examples in dimension 0 and are repeated for each of `n_steps`.
                        Default: None
            n_steps (int, optional): The number of steps used by the approximation
                        method on each side.
                        Default: 50
            method (str, optional): Method for approximating the integral,
                        one of `riemann_right`, `riemann_left`, `riemann_middle`,
                        `riemann_trapezoid` or `gausslegendre`.
                        Default: `gausslegendre`
            internal_batch_size (int, optional): Divides total #steps * #examples
                        data points of a side into chunks of size at most
                        internal_batch_size, which are computed sequentially.
                        internal_batch_size must be at least equal to #examples.
                        Default: None
            return_convergence_delta (bool, optional): Indicates whether to return
                        convergence delta or not.
                        Default: False

        Returns:
            **attributions** or 2-element tuple of **attributions**, **delta**:
            - **attributions** (*Tensor*):
                One tensor for the two inputs, of the shape
                (b, \*features of the first, \*features of the second).
            - **delta** (*Tensor*, returned if return_convergence_delta=True):
                (b,): the sum of the attributions minus
                :math:`s(x, y) - s(r_x, y) - s(x, r_y) + s(r_x, r_y)`.

        Examples::

            >>> # ImageEncoder maps images Nx3x32x32 to embeddings Nx64, and
            >>> # AudioEncoder maps spectrograms Nx40x100 to embeddings Nx64.
            >>> images, sounds = ImageEncoder(), AudioEncoder()
            >>> fpig = FeaturePairIntegratedGradients((images, sounds))
            >>> inputs = torch.randn(2, 3, 32, 32), torch.randn(2, 40, 100)
            >>> # Patches of 8 x 8 pixels, and blocks of ten columns.
            >>> rows = torch.arange(32) // 8
            >>> patches = (4 * rows[:, None] + rows)[None, None]
            >>> blocks = (torch.arange(100) // 10)[None, None]
            >>> # Attributions have the shape 2x16x10.
            >>> attributions = fpig.attribute(inputs, feature_mask=(patches, blocks))
        """
        paths = self._paths(inputs, baselines, feature_mask, additional_forward_args)
        return self._attribute_paths(
            paths,
            inputs,
            n_steps,
            method,
            internal_batch_size,
            return_convergence_delta,
        )

    def _attribute_paths(
        self,
        paths: Tuple[EncoderPath, EncoderPath],
        inputs: Tuple[Tensor, Tensor],
        n_steps: int,
        method: str,
        internal_batch_size: Optional[int],
        return_convergence_delta: bool,
    ) -> Union[Tensor, Tuple[Tensor, Tensor]]:
        if return_convergence_delta:
            self._require_multiplied("return_convergence_delta")
        factor, target = self._factor_and_target(paths)
        counts = [path.features[0].count for path in paths]
        few, many = (0, 1) if counts[0] < counts[1] else (1, 0)
        asked = n_steps, method, internal_batch_size
        known = self.sides[few]._integrate(paths[few], *asked)
        # (b, many, few)
        known = known.to(paths[many].end.device)
        table = self.sides[many]._integrate(paths[many], *asked, directions=known)
        table = (table.transpose(1, 2) if many else table).to(factor)
        table = factor[:, None, None] * table
        shapes = (path.features[0].shape for path in paths)
        dtype = _result_dtype(inputs, table.dtype)
        found = table.reshape(len(table), *sum(shapes, ())).to(dtype)
        if return_convergence_delta:
            return found, (table.flatten(1).sum(dim=1) - target).to(dtype)
        return found

    def _paths(
        self,
        inputs: Tuple[Tensor, Tensor],
        baselines: Any,
        feature_mask: Any,
        additional_forward_args: Any,
        **kwargs: Any,
    ) -> Tuple[EncoderPath, EncoderPath]:
        """Of each side what the arguments say."""
        values = pair_of("inputs", inputs)
        starts = optional_pair_of("baselines", baselines)
        masks = optional_pair_of("feature_mask", feature_mask)
        args = optional_pair_of("additional_forward_args", additional_forward_args)
        first, second = (
            check_tensor(f"inputs[{index}]", value)
            for index, value in enumerate(values)
        )
        if len(first) != len(second):
            raise InvalidArgumentError(
                "inputs",
                "two batches of the same size",
                f"batches of {len(first)} and {len(second)}",
            )
        return (
            self._path(0, (first, starts[0], masks[0], args[0]), **kwargs),
            self._path(1, (second, starts[1], masks[1], args[1]), **kwargs),
        )

    def _path(
        self, index: int, given: Tuple[Tensor, Any, Any, Any], **kwargs: Any
    ) -> EncoderPath:
        return self.sides[index]._path(*given, f"[{index}]", **kwargs)

    def _factor_and_target(
        self, paths: Tuple[EncoderPath, EncoderPath]
    ) -> Tuple[Tensor, Tensor]:
        """What inner products are multiplied by, and what attributions sum to, (b,)."""
        (x, x_start), (y, y_start) = (path.ends for path in paths)
        if x.shape[1] != y.shape[1]:
            raise different_widths(x.shape[1], y.shape[1])
        y, y_start = y.to(x), y_start.to(x)
        if self.similarity.kind == "frozen_cosine":
            for embeddings, path in zip((x, y), paths):
                for embedding in embeddings:
                    check_norm(embedding, "inputs" + path.suffix)
        factor = torch.stack([self.similarity.factor(*ends) for ends in zip(x, y)])
        return factor, factor * ((x - x_start) * (y - y_start)).sum(dim=1)

    def compute_convergence_delta(  # type: ignore
        self,
        attributions: Tensor,
        start_point: Any,
        end_point: Tuple[Tensor, Tensor],
        target: None = None,
        additional_forward_args: Any = None,
        **kwargs: Any,
    ) -> Tensor:
        r"""
        Args:

            attributions (Tensor): (b, \*features of the first, \*features of the
                        second).
            start_point (tuple, optional): The pair of baselines.
            end_point (tuple[Tensor, Tensor]): The pair of inputs.
            target (None, optional): A similarity has none.
            additional_forward_args (tuple, optional): As for `attribute`.

        Returns:
            *Tensor* (b,): the sum of the attributions minus
            :math:`s(x, y) - s(r_x, y) - s(x, r_y) + s(r_x, r_y)`.
        """
        self._require_multiplied("attributions")
        paths = self._paths(
            end_point, start_point, None, additional_forward_args, **kwargs
        )
        expected = self._factor_and_target(paths)[1]
        return attributions.flatten(1).sum(dim=1) - expected.to(attributions)

    def _require_multiplied(self, argument: str) -> None:
        self.sides[0]._require_multiplied(argument)

    def has_convergence_delta(self) -> bool:
        return self._multiply_by_inputs

    @property
    def multiplies_by_inputs(self) -> bool:
        return self._multiply_by_inputs

    def attribute_future(self) -> None:
        r"""
        This method is not implemented for FeaturePairIntegratedGradients.
        """
        raise NotImplementedError(
            "attribute_future is not implemented for FeaturePairIntegratedGradients"
        )


def _result_dtype(inputs: Tuple[Tensor, Tensor], computed: torch.dtype) -> torch.dtype:
    """The floating inputs' dtype; of integer ids, that in which they were computed."""
    dtypes = [
        value.dtype if value.is_floating_point() else computed for value in inputs
    ]
    return torch.promote_types(*dtypes)
