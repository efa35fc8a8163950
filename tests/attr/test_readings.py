"""Embeddings and their linear readings, wholly accounted for."""

import pytest
import torch
from captum_pairs.attr import (
    IntegratedJacobian,
    InvalidArgumentError,
    LayerIntegratedJacobian,
)
from torch import nn


def _encoder() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5)
    return nn.Sequential(*layers).double()


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("at_layer", [False, True])
def test_the_parts_are_the_embedding(normalize: bool, at_layer: bool) -> None:
    encoder, x = _encoder(), torch.randn(3, 6, dtype=torch.float64)
    start = torch.randn(1, 6, dtype=torch.float64)
    if at_layer:
        jacobian = LayerIntegratedJacobian(encoder, encoder[0], normalize)
    else:
        jacobian = IntegratedJacobian(encoder, normalize)
    found = jacobian.decompose(x, start, n_steps=64)
    with torch.no_grad():
        g, g_start = encoder(x), encoder(start).expand(3, -1)
    if normalize:
        g, g_start = (e / e.norm(dim=1, keepdim=True) for e in (g, g_start))
    torch.testing.assert_close(found.embedding, g)
    torch.testing.assert_close(found.baseline_embedding, g_start)
    torch.testing.assert_close(found.baseline_embedding + found.contributions.sum(1), g)
    assert found.convergence_delta.abs().max() < 1e-10
    torch.testing.assert_close(
        found.contributions, jacobian.attribute(x, start, n_steps=64)
    )


@pytest.mark.parametrize("direction", [None, "forward", "reverse"])
@pytest.mark.parametrize("count", [1, 3, 12])
def test_readings_are_products_with_contributions(
    direction: str | None, count: int
) -> None:
    encoder, x = _encoder(), torch.randn(3, 6, dtype=torch.float64)
    jacobian = IntegratedJacobian(encoder, normalize=True, direction=direction)
    contributions = jacobian.attribute(x, n_steps=32)
    shared = torch.randn(count, 5, dtype=torch.float64)
    found = jacobian.read(x, shared, n_steps=32)
    expected = contributions @ shared.T
    torch.testing.assert_close(found.attributions, expected)
    own = torch.randn(3, count, 5, dtype=torch.float64)
    found = jacobian.read(x, own, n_steps=32)
    expected = torch.einsum("bik,bmk->bim", contributions, own)
    torch.testing.assert_close(found.attributions, expected)
    difference = found.embedding - found.baseline_embedding
    along = torch.einsum("bk,bmk->bm", difference, own)
    torch.testing.assert_close(
        found.convergence_delta, found.attributions.sum(1) - along
    )
    assert found.convergence_delta.abs().max() < 1e-9


def test_one_direction_is_captums_integrated_gradients() -> None:
    from captum.attr import IntegratedGradients

    encoder, x = _encoder(), torch.randn(3, 6, dtype=torch.float64)
    found = IntegratedJacobian(encoder).read(x, torch.eye(5).double()[2:3], n_steps=40)
    expected = IntegratedGradients(encoder).attribute(x, target=2, n_steps=40)
    torch.testing.assert_close(found.attributions[..., 0], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "directions",
    [
        None,
        torch.zeros(5),
        torch.zeros(1, 4),
        torch.zeros(2, 1, 5),
        torch.zeros(1, 5, dtype=torch.int64),
    ],
)
def test_wrong_directions(directions: object) -> None:
    jacobian = IntegratedJacobian(_encoder())
    with pytest.raises(InvalidArgumentError, match="directions"):
        jacobian.read(torch.ones(3, 6, dtype=torch.float64), directions)


def test_without_the_inputs_nothing_is_complete() -> None:
    jacobian = IntegratedJacobian(_encoder(), multiply_by_inputs=False)
    x = torch.ones(3, 6, dtype=torch.float64)
    with pytest.raises(InvalidArgumentError, match="decompose"):
        jacobian.decompose(x)
    with pytest.raises(InvalidArgumentError, match="read"):
        jacobian.read(x, torch.ones(1, 5))
