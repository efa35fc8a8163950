"""Nodes where the embedding moves: rules, maps and scans against closed forms."""

import numpy as np
import pytest
from captum_pairs.attr._utils.placement import (
    Density,
    EVEN,
    fejer,
    Scan,
    scan_nodes,
    SCANS,
)
from captum_pairs.attr._utils.quadrature import quadrature
from numpy.typing import NDArray


def burst(alphas: NDArray[np.float64], center: float, width: float) -> NDArray:
    """A curve (n, 3) that races around a place, and hardly moves elsewhere."""
    turned = np.tanh((alphas - center) / width)
    return np.stack([turned, 0.5 * turned**2, 0.1 * alphas], axis=1)


def speed(alphas: NDArray[np.float64], center: float, width: float) -> NDArray:
    """What the burst's first coordinate is the integral of."""
    return 1.0 / (width * np.cosh((alphas - center) / width) ** 2)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 12, 31])
def test_rule_is_exact_for_polynomials(n: int) -> None:
    nodes, weights = fejer(n)
    assert np.all(weights > 0) and np.all((nodes > 0) & (nodes < 1))
    for degree in range(n):
        assert weights @ nodes**degree == pytest.approx(1 / (degree + 1), abs=1e-14)


@pytest.mark.parametrize("n", [3, 5, 9])
def test_doubling_keeps_every_node(n: int) -> None:
    np.testing.assert_allclose(fejer(2 * n + 1)[0][1::2], fejer(n)[0], atol=1e-15)
    scan = Scan(burst(scan_nodes(9), 0.3, 0.1))
    density, _ = scan.nodes_within(1e-2, 64)
    small, large = density.rule(n), density.rule(2 * n + 1)
    np.testing.assert_allclose(large.nodes[1::2], small.nodes, atol=1e-13)
    # and the half rule of the larger one is the smaller one
    np.testing.assert_allclose(large.half[1::2], small.weights, atol=1e-13)
    assert not large.half[::2].any()


def test_scans_are_nested() -> None:
    for few, many in zip(SCANS, SCANS[1:]):
        np.testing.assert_allclose(scan_nodes(many)[::2], scan_nodes(few), atol=1e-15)


def test_a_map_has_its_density() -> None:
    """dt/d alpha = 1 + alpha, whose t is (alpha + alpha^2 / 2) / 1.5."""
    density = Density(np.linspace(1.0, 2.0, 5))
    nodes, weights, _ = density.rule(9)
    places, plain = fejer(9)
    np.testing.assert_allclose((nodes + nodes**2 / 2) / 1.5, places, atol=1e-14)
    np.testing.assert_allclose(weights, plain * 1.5 / (1 + nodes), atol=1e-14)
    assert weights @ (1 + nodes) == pytest.approx(1.5, abs=1e-14)


def test_a_straight_curve_has_even_nodes() -> None:
    for length in (1.0, 1e-6):
        curve = np.outer(scan_nodes(5), [length, -length])
        density, n = Scan(curve).nodes_within(1e-12, 64)
        assert density is EVEN and n == 3
    rule = EVEN.rule(7)
    np.testing.assert_allclose(rule.nodes, fejer(7)[0], atol=1e-15)
    assert rule.weights.sum() == pytest.approx(1.0, abs=1e-14)


def test_a_curve_that_stands_still() -> None:
    density, n = Scan(np.ones((5, 4))).nodes_within(1e-3, 64)
    assert density is EVEN and n == 3


@pytest.mark.parametrize("center", [0.0, 0.2, 0.5, 0.7, 0.97])
@pytest.mark.parametrize("width", [0.02, 0.05, 0.2])
def test_half_as_many_nodes_for_a_burst(center: float, width: float) -> None:
    """Against Gauss and Legendre's rule, to an error of 1e-2 of a known integral."""
    edges = np.tanh((np.array([0.0, 1.0]) - center) / width)
    exact = float(edges[1] - edges[0])

    def missed(nodes: NDArray, weights: NDArray) -> float:
        return abs(float(weights @ speed(nodes, center, width)) - exact) / exact

    def fewest(rule: "object") -> int:
        tried = list(range(1, 200))
        bad = [n for n in tried if missed(*rule(n)) > 1e-2]  # type: ignore[operator]
        return max(bad, default=0) + 1

    def gauss(n: int) -> tuple[NDArray, NDArray]:
        nodes, weights = quadrature(n)
        return nodes.numpy(), weights.numpy()

    scan = Scan(burst(scan_nodes(17), center, width))
    density, _ = scan.nodes_within(1e-2, 200)
    ours, theirs = fewest(lambda n: density.rule(n)[:2]), fewest(gauss)
    if width > 0.05:  # of a smooth curve there is less to win
        assert ours <= theirs + 2, (ours, theirs)
    elif 0.1 < center < 0.9:
        assert ours <= 0.6 * theirs, (ours, theirs)
    else:  # Gauss and Legendre's nodes are close at the ends already
        assert ours <= 1.75 * theirs, (ours, theirs)


def test_a_finer_tolerance_takes_more_nodes() -> None:
    scan = Scan(burst(scan_nodes(17), 0.4, 0.1))
    counts = [scan.nodes_within(tolerance, 500)[1] for tolerance in (0.1, 1e-2, 1e-3)]
    assert counts == sorted(counts) and counts[0] < counts[-1]
    assert scan.nodes_within(1e-9, 20)[1] <= 20
    assert [scan.nodes_within(1e-9, most)[1] for most in (1, 2, 3)] == [1, 2, 3]


def test_a_scan_is_grown_where_it_is_not_trusted() -> None:
    steep, smooth = (burst(scan_nodes(5), 0.4, width) for width in (0.01, 2.0))
    for curve, expected in ((steep, False), (smooth, True)):
        scan = Scan(curve)
        assert scan.is_trusted(scan.nodes_within(1e-2, 128)[1], 1e-2) == expected
