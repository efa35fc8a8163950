"""Nodes and weights against integrals that the rules must give exactly."""

import math

import pytest
import torch
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.attr._utils.quadrature import quadrature, QUADRATURES, steps_up_to

LEFT, MIDDLE = [0.0, 0.25, 0.5, 0.75], [0.125, 0.375, 0.625, 0.875]


@pytest.mark.parametrize(
    "method, n_steps, nodes, weights",
    [
        ("riemann_left", 4, LEFT, [0.25] * 4),
        ("riemann_middle", 4, MIDDLE, [0.25] * 4),
        ("riemann_right", 4, [0.25, 0.5, 0.75, 1.0], [0.25] * 4),
        ("riemann_trapezoid", 5, [*LEFT, 1.0], [0.125, 0.25, 0.25, 0.25, 0.125]),
        ("riemann_trapezoid", 2, [0.0, 1.0], [0.5, 0.5]),
        ("gausslegendre", 1, [0.5], [1.0]),
        (
            "gausslegendre",
            2,
            [0.5 - math.sqrt(3) / 6, 0.5 + math.sqrt(3) / 6],
            [0.5, 0.5],
        ),
        (
            "gausslegendre",
            3,
            [0.5 - math.sqrt(15) / 10, 0.5, 0.5 + math.sqrt(15) / 10],
            [5 / 18, 8 / 18, 5 / 18],
        ),
    ],
)
def test_nodes_and_weights_are_the_rules(method, n_steps, nodes, weights):
    found = quadrature(n_steps, method)
    for values, expected in zip(found, (nodes, weights)):
        expected = torch.tensor(expected, dtype=torch.float64)
        torch.testing.assert_close(values, expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("method", QUADRATURES)
@pytest.mark.parametrize("n_steps", [2, 3, 10, 50, 513])
def test_weights_sum_to_one_on_increasing_nodes_within_the_path(method, n_steps):
    nodes, weights = quadrature(n_steps, method)
    assert nodes.shape == weights.shape == (n_steps,)
    assert abs(float(weights.sum()) - 1) < 1e-13
    assert bool((weights > 0).all())
    assert 0 <= nodes[0] and nodes[-1] <= 1 and bool((nodes.diff() > 0).all())


def _error(method, n_steps, f, integral):
    nodes, weights = quadrature(n_steps, method)
    return abs(float((weights * f(nodes)).sum()) - integral)


@pytest.mark.parametrize(
    "method, n_steps, degree",
    [("gausslegendre", n, 2 * n - 1) for n in (1, 2, 3, 5, 8, 16)]
    + [("riemann_middle", 5, 1), ("riemann_trapezoid", 5, 1)]
    + [("riemann_left", 5, 0), ("riemann_right", 5, 0)],
)
def test_polynomials_up_to_the_rules_degree_are_exact_and_no_further(
    method, n_steps, degree
):
    for power in range(degree + 1):
        assert _error(method, n_steps, lambda a: a**power, 1 / (power + 1)) < 1e-14
    # In the rule's own middle, since the Gauss-Legendre error at the next degree
    # is (n!)^4 / ((2n + 1) ((2n)!)^2), too small to see for many nodes.
    if n_steps <= 5:
        next_power = degree + 1
        error = _error(method, n_steps, lambda a: a**next_power, 1 / (next_power + 1))
        assert error > 1e-7


@pytest.mark.parametrize(
    "method, order",
    [
        ("riemann_left", 1),
        ("riemann_right", 1),
        ("riemann_middle", 2),
        ("riemann_trapezoid", 2),
    ],
)
def test_error_falls_with_the_rules_order(method, order):
    # The trapezoid has n - 1 intervals: 33 and 65 nodes for 32 and 64.
    more = method == "riemann_trapezoid"
    coarse, fine = (_error(method, n + more, torch.exp, math.e - 1) for n in (32, 64))
    assert coarse / fine == pytest.approx(2**order, rel=0.02)


def test_gauss_legendre_error_falls_geometrically():
    errors = [_error("gausslegendre", n, torch.exp, math.e - 1) for n in (1, 2, 3, 4)]
    assert all(fine < coarse / 50 for coarse, fine in zip(errors, errors[1:]))
    assert _error("gausslegendre", 8, torch.exp, math.e - 1) < 1e-15


@pytest.mark.parametrize("method", QUADRATURES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_dtype_is_the_one_asked_for_and_rounded_once(method, dtype):
    exact = quadrature(7, method)
    for values, reference in zip(quadrature(7, method, dtype), exact):
        assert values.dtype == dtype
        torch.testing.assert_close(values, reference.to(dtype), rtol=0, atol=0)


def test_a_caller_who_writes_into_a_rule_does_not_spoil_the_next():
    nodes, weights = quadrature(3)
    expected = nodes.clone(), weights.clone()
    nodes.zero_()
    weights.zero_()
    torch.testing.assert_close(quadrature(3), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    "ceiling, ladder",
    [
        (64, [4, 8, 16, 32, 64]),
        (50, [4, 8, 16, 32, 50]),
        (33, [4, 8, 16, 32, 33]),
        (8, [4, 8]),
        (5, [4, 5]),
        (4, [4]),
        (3, [3]),
        (2, [2]),
    ],
)
@pytest.mark.parametrize("method", ["gausslegendre", "riemann_trapezoid"])
def test_tolerance_climbs_a_ladder_that_ends_at_the_ceiling(method, ceiling, ladder):
    assert steps_up_to(ceiling, method) == ladder


@pytest.mark.parametrize("method, n_steps", [(m, 0) for m in QUADRATURES])
def test_no_rule_has_no_nodes(method, n_steps):
    with pytest.raises(InvalidArgumentError, match="n_steps"):
        quadrature(n_steps, method)
    with pytest.raises(InvalidArgumentError, match="n_steps"):
        steps_up_to(n_steps, method)


def test_a_trapezoid_needs_two_nodes():
    with pytest.raises(InvalidArgumentError, match="at least 2"):
        quadrature(1, "riemann_trapezoid")
