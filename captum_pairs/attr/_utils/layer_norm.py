#!/usr/bin/env python3
r"""
Layer normalisation whose vector-Jacobian product is transposed in one kernel.

A Jacobian-vector product is the derivative of :math:`u \mapsto J^T u` (see
:func:`captum_pairs.attr._utils.products.forward_products`). Of layer normalisation
autograd's derivative of that costs twenty small kernels, a third of all contributions
of a small vision transformer. With the rows' mean and scale known it is

.. math::
    J^T u = D(w \odot u), \qquad J t = w \odot D(t), \qquad
    D(t) = \frac{1}{\sigma} \left(t - \overline{t} - \hat x\,\overline{\hat x t}\right),

and D, which is its own transpose, is what the backward pass computes anyway.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, ExitStack
from typing import Any, Optional

import torch
from captum_pairs.attr._utils.hooks import answering
from torch import nn, Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


def _moved(
    cotangent: Tensor, like: tuple[Any, ...], weight: Optional[Tensor]
) -> Tensor:
    """D(w u) of a cotangent u, without w D(u) of a tangent."""
    x, shape, mean, scale = like
    wanted = [True, False, False]
    found: Tensor = torch.ops.aten.native_layer_norm_backward(
        cotangent, x, shape, mean, scale, weight, None, wanted
    )[0]
    return found


class _Pulled(torch.autograd.Function):
    """J^T u, linear in u; nothing else of it is ever differentiated."""

    @staticmethod
    def forward(
        ctx: Any,
        cotangent: Tensor,
        x: Tensor,
        shape: Sequence[int],
        mean: Tensor,
        scale: Tensor,
        weight: Optional[Tensor],
    ) -> Tensor:
        ctx.save_for_backward(x, mean, scale, weight)
        ctx.shape = shape
        return _moved(cotangent, (x, shape, mean, scale), weight)

    @staticmethod
    def backward(ctx: Any, tangent: Tensor) -> Any:
        x, mean, scale, weight = ctx.saved_tensors
        pushed = _moved(tangent.contiguous(), (x, ctx.shape, mean, scale), None)
        if weight is not None:
            pushed = pushed * weight
        return pushed, None, None, None, None, None


class _LayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        shape: Sequence[int],
        weight: Optional[Tensor],
        bias: Optional[Tensor],
        eps: float,
    ) -> Tensor:
        out, mean, scale = torch.native_layer_norm(x, shape, weight, bias, eps)
        ctx.save_for_backward(x, mean, scale, weight)
        ctx.shape = shape
        return out

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> Any:
        x, mean, scale, weight = (
            each if each is None else each.detach() for each in ctx.saved_tensors
        )
        pulled = _Pulled.apply(cotangent, x, ctx.shape, mean, scale, weight)
        return pulled, None, None, None, None


class _Transposed(TorchFunctionMode):
    """Layer normalisation by this module, for who calls PyTorch's function."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is F.layer_norm:
            return _normalized(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _answer(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with _Transposed():
        return forward(*args, **kwargs)


@contextmanager
def transposed(modules: Iterable[nn.Module]) -> Iterator[None]:
    """
    In this thread, layer normalisation whose derivative with respect to its input is
    linear in the cotangent and nothing else: for Jacobian-vector products only.

    Args:

        modules (iterable of nn.Module): All that an encoder runs.
    """
    owner = threading.get_ident()
    with ExitStack() as stack:
        for module in modules:
            if isinstance(module, nn.LayerNorm):
                stack.enter_context(answering(module, _answer, owner))
        yield


def _normalized(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Optional[Tensor] = None,
    bias: Optional[Tensor] = None,
    eps: float = 1e-5,
) -> Tensor:
    """``F.layer_norm``, by this module where that is the same."""
    given = [each for each in (input, weight, bias) if each is not None]
    is_plain = (
        input.dtype in (torch.float32, torch.float64)
        and all(each.dtype == input.dtype for each in given)
        # computed from the input, they have derivatives of their own
        and all(each.is_leaf for each in given[1:])
        and not torch.is_autocast_enabled(input.device.type)
        # vmap knows nothing of the function here
        and not torch._C._are_functorch_transforms_active()
    )
    if not is_plain:
        return F.layer_norm(input, normalized_shape, weight, bias, eps)
    fixed = (each if each is None else each.detach() for each in (weight, bias))
    shape = list(normalized_shape)
    found: Tensor = _LayerNorm.apply(input.contiguous(), shape, *fixed, eps)
    return found
