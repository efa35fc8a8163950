"""
Layer normalisation in Jacobian-vector products, where its backward pass is transposed
by one kernel: against vector-Jacobian products, which are the model's own, and against
Jacobians at the same points.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Optional

import numpy as np
import pytest
import torch
from captum_pairs.attr import LayerIntegratedJacobian
from captum_pairs.attr._utils import layer_norm
from torch import nn, Tensor
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint

B, T, D, K = 2, 4, 6, 5
X = torch.randn(B, T, D, generator=torch.Generator().manual_seed(7)).double()
EXACT = dict(rtol=0, atol=1e-11)


class Encoder(nn.Module):
    """(b, T, D) -> (b, K), with normalisation between what is not linear."""

    def __init__(self, norm: nn.Module, apply: Optional[Callable[..., Any]] = None):
        super().__init__()
        self.layer, self.mix = nn.Linear(D, D), nn.Linear(D, D)
        self.norm, self.head = norm, nn.Linear(D, K)
        self.apply_norm = apply or (lambda norm, hidden: norm(hidden))
        self.double().eval()
        for parameter in self.norm.parameters():
            nn.init.normal_(parameter, 1.0, 0.3)

    def tail(self, hidden: Tensor) -> Tensor:
        hidden = hidden + 2.0 * self.mix(hidden.tanh())
        hidden = self.apply_norm(self.norm, hidden)
        return self.head(hidden.sin().mean(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.layer(x))


class InFloat32(nn.LayerNorm):
    """As OpenAI's ``clip`` has it."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float()).to(x.dtype)


class OneMore(nn.LayerNorm):
    """Weights that are computed, of parameters alone."""

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, self.weight + 1, self.bias)


class Adaptive(nn.LayerNorm):
    """Weights that are computed from the input."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * x.mean((0, 1)).cos()
        bias = self.bias * x.sum((0, 1)).sin()
        return F.layer_norm(x, self.normalized_shape, weight, bias, self.eps)


class Named(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(
            input=x,
            normalized_shape=self.normalized_shape,
            bias=self.bias,
            weight=self.weight,
            eps=0.1,
        )


class Twofold(nn.LayerNorm):
    """Two of them in one module, one of what does not depend on the input."""

    def forward(self, x: Tensor) -> Tensor:
        own = super().forward(self.weight.detach().expand(2, -1)).mean(0)
        return super().forward(super().forward(x).exp() + own)


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2.0 * weight


def parametrized() -> nn.Module:
    norm = nn.LayerNorm(D)
    parametrize.register_parametrization(norm, "weight", Doubled())
    return norm


def frozen(norm: nn.Module) -> nn.Module:
    return norm.requires_grad_(False)


def replaced() -> nn.Module:
    norm = nn.LayerNorm(D)
    own = norm.forward
    norm.forward = lambda x: own(x) + own(2.0 * x.cos())  # type: ignore[method-assign]
    return norm


NORMS = {
    "plain": lambda: nn.LayerNorm(D),
    "frozen": lambda: frozen(nn.LayerNorm(D)),
    "no weights": lambda: nn.LayerNorm(D, elementwise_affine=False),
    "no bias": lambda: nn.LayerNorm(D, bias=False),
    "two dimensions": lambda: nn.LayerNorm((T, D)),
    "large epsilon": lambda: nn.LayerNorm(D, eps=0.5),
    "one more": lambda: OneMore(D),
    "one more, frozen": lambda: frozen(OneMore(D)),
    "named": lambda: Named(D),
    "twofold": lambda: Twofold(D),
    "parametrized": parametrized,
    "replaced": replaced,
}
CALLS = {
    "transposed": lambda n, h: n(h.transpose(0, 1)).transpose(0, 1),
    "expanded": lambda n, h: n(h[:, :1].expand(-1, T, -1)) + h,
    "strided": lambda n, h: n(torch.stack([h, h.cos()], -1)[..., 0]),
    "twice": lambda n, h: n(n(h).exp()),
    "of a row": lambda n, h: n(h[:, 0])[:, None] + h,
    "checkpointed": lambda n, h: checkpoint(n, h, use_reentrant=False),
    "vmap": lambda n, h: torch.vmap(n)(h),
    "no rows": lambda n, h: torch.cat([n(h), n(h[:, :0])], 1),
    "without derivatives": lambda n, h: n(h.detach()) + h,
    "as a weight": lambda n, h: n(h) * n(h.detach().cos()),
}


def found(encoder: Any, direction: str, x: Tensor = X) -> Tensor:
    attribution = LayerIntegratedJacobian(encoder, encoder.layer, direction=direction)
    values: Tensor = attribution.attribute(x, n_steps=4, method="gausslegendre")
    return values


def written_out(encoder: Encoder) -> Tensor:
    """(b, T, K): the Jacobian behind the layer, at Gauss and Legendre's nodes."""
    nodes, weights = np.polynomial.legendre.leggauss(4)
    results = torch.zeros(B, T, K).double()
    with torch.no_grad():
        ends, start = encoder.layer(X), encoder.layer(torch.zeros_like(X[0]))
    for row, end in enumerate(ends):
        for node, weight in zip((nodes + 1) / 2, weights / 2):
            point = start + node * (end - start)
            jacobian = torch.func.jacrev(lambda h: encoder.tail(h[None])[0])(point)
            own = torch.einsum("ktd,td->tk", jacobian, end - start)
            results[row] += weight * own.detach()
    return results


@pytest.fixture
def transposes(monkeypatch: Any) -> list[None]:
    """One for each product that went through the kernel."""
    calls: list[None] = []
    moved = layer_norm._moved

    def counted(*args: Any) -> Tensor:
        calls.append(None)
        return moved(*args)

    monkeypatch.setattr(layer_norm, "_moved", counted)
    return calls


@pytest.mark.parametrize("name", NORMS)
def test_kinds_of_normalisation(name, transposes):
    encoder = Encoder(NORMS[name]())
    values = found(encoder, "forward")
    # weights that are computed may have derivatives
    is_computed = {"one more", "parametrized"}
    assert bool(transposes) == (name not in is_computed)
    torch.testing.assert_close(values, found(encoder, "reverse"), **EXACT)
    torch.testing.assert_close(values, written_out(encoder), **EXACT)


@pytest.mark.parametrize("make", [lambda norm: norm, frozen])
def test_weights_that_are_computed_from_the_input(make, transposes):
    norm = make(Adaptive(D).double())
    x, probe = X[:1].clone().requires_grad_(), torch.ones_like(X[:1]).requires_grad_()
    (expected,) = torch.autograd.grad(norm(x).sin(), x, probe, create_graph=True)
    with layer_norm.transposed([norm]):
        (pulled,) = torch.autograd.grad(norm(x).sin(), x, probe, create_graph=True)
    torch.testing.assert_close(pulled, expected, **EXACT)
    pushes = (torch.autograd.grad(each, probe, X[:1])[0] for each in (pulled, expected))
    torch.testing.assert_close(*pushes, **EXACT)
    assert not transposes


@pytest.mark.parametrize("name", CALLS)
def test_ways_to_call_it(name):
    encoder = Encoder(nn.LayerNorm(D), CALLS[name])
    values = found(encoder, "forward")
    torch.testing.assert_close(values, found(encoder, "reverse"), **EXACT)


def test_one_kernel_for_each_product(transposes):
    encoder = Encoder(nn.LayerNorm(D))
    found(encoder, "forward", X[:1])
    # J^T u once, and J t for each position; all nodes in one pass
    assert len(transposes) == 1 + T


def test_reverse_products_and_other_functions_are_left_alone(transposes):
    found(Encoder(nn.LayerNorm(D)), "reverse")

    class Own(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.layer_norm(x, (D,))

    encoder = Encoder(Own())
    values = found(encoder, "forward")
    assert not transposes
    torch.testing.assert_close(values, written_out(encoder), **EXACT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["plain", "no weights", "two dimensions"])
def test_lower_precision(name, dtype, transposes):
    encoder = Encoder(NORMS[name]())
    expected = written_out(encoder)
    values = found(encoder.to(dtype), "forward", X.to(dtype)).double()
    assert bool(transposes) == (dtype == torch.float32)
    size = float(expected.abs().max())
    close = 1e-4 if dtype == torch.float32 else 0.1
    torch.testing.assert_close(values, expected, rtol=0, atol=close * size)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_cast_inside(dtype, transposes):
    encoder = Encoder(InFloat32(D))
    encoder.norm.float()
    expected = found(encoder, "reverse")
    encoder = encoder.to(dtype)
    encoder.norm.float()
    values = found(encoder, "forward", X.to(dtype)).double()
    assert transposes
    size = float(expected.abs().max())
    close = 1e-4 if dtype == torch.float32 else 0.1
    torch.testing.assert_close(values, expected, rtol=0, atol=close * size)


def test_under_autocast(transposes):
    encoder = Encoder(nn.LayerNorm(D))
    expected = written_out(encoder)
    with torch.autocast("cpu", torch.bfloat16):
        values = found(encoder.float(), "forward", X.float()).double()
    assert not transposes
    size = float(expected.abs().max())
    torch.testing.assert_close(values, expected, rtol=0, atol=0.1 * size)


class Fails(Exception):
    pass


def test_an_error_leaves_modules_as_they_were():
    calls: list[None] = []
    changed: list[bool] = []

    def fail(norm: nn.Module, hidden: Tensor) -> Tensor:
        calls.append(None)
        if len(calls) == fails_at:
            changed.append(vars(norm).get("forward") is not own)
            raise Fails
        out: Tensor = norm(hidden)
        return out

    for make in (NORMS["plain"], NORMS["replaced"]):
        encoder = Encoder(make(), fail)
        own = vars(encoder.norm).get("forward")
        changed.clear()
        for fails_at in range(1, 6):
            calls.clear()
            with suppress(Fails):
                found(encoder, "forward", X[:1])
            assert vars(encoder.norm).get("forward") is own
        assert set(changed) == {False, True}  # in passes of both kinds
