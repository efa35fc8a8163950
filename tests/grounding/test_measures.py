"""Measures against the metrics room, and chance against all orders of a map's cells."""

from itertools import permutations

import numpy as np
import pytest
import torch
from captum_pairs.grounding.measures import center_prior, measured
from captum_pairs.metrics import (
    pointing_game_accuracy,
    pointing_game_chance,
    pointing_game_energy,
)
from grounding_rows import grid


def test_hit_energy_and_chance_are_the_metrics() -> None:
    rng = np.random.default_rng(0)
    maps = grid(6, 6)
    for number in range(30):
        values = rng.normal(size=36).round(1 if number % 2 else 9)  # some tie
        left, top = rng.integers(0, 16, 2)
        box = (float(left), float(top), float(left + 6), float(top + 8))
        inside = maps.inside((box,))
        found = measured(values, inside, maps.overlap((box,)))
        tensor = torch.from_numpy(values).reshape(1, 6, 6)
        arguments = {"boxes": torch.tensor([box]), "image_size": (24, 24)}
        assert found.hit == pytest.approx(
            float(pointing_game_accuracy(tensor, **arguments))
        )
        assert found.energy == pytest.approx(
            float(pointing_game_energy(tensor, **arguments))
        )
        assert found.chance == pytest.approx(
            float(pointing_game_chance(tensor, **arguments))
        )


def test_chance_is_the_mean_over_all_orders_of_the_cells() -> None:
    values = np.array([3.0, -1.0, 2.0, 2.0, -0.5])
    inside = np.array([True, False, True, False, False])
    overlap = np.array([0.5, 0.25, 1.0, 0.0, 0.0])
    every = [
        measured(np.array(order), inside, overlap) for order in permutations(values)
    ]
    one = measured(values, inside, overlap)
    for measure, chance in {
        "hit": one.chance,
        "energy": one.chance,
        "rank": one.chance,
        "mass": one.mass_chance,
        "energy_overlap": one.chance_overlap,
        "mass_overlap": one.mass_chance_overlap,
    }.items():
        mean = np.mean([getattr(found, measure) for found in every])
        assert mean == pytest.approx(chance), measure


def test_values_by_hand() -> None:
    values = np.array([3.0, -1.0, 2.0, 2.0, -2.0])
    inside = np.array([True, False, True, False, False])
    overlap = np.array([0.5, 0.0, 1.0, 0.5, 0.0])
    found = measured(values, inside, overlap)
    assert found.hit == 1
    assert found.energy == pytest.approx(5 / 7)
    assert found.mass == pytest.approx((5 + 3) / 10)
    # the two strongest cells: the first, and a half of each of those that tie
    assert found.rank == pytest.approx((1 + 0.5) / 2)
    assert found.energy_overlap == pytest.approx((1.5 + 2 + 1) / 7)
    assert found.mass_overlap == pytest.approx((4.5 + 3) / 10)


def test_an_object_without_a_centre_is_measured_by_overlap_alone() -> None:
    found = measured(np.array([1.0, 3.0]), np.zeros(2, bool), np.array([0.2, 0.0]))
    assert (found.hit, found.energy, found.mass, found.rank) == (None,) * 4
    assert found.mass_chance is None and found.chance == 0
    assert found.energy_overlap == pytest.approx(0.05)
    assert found.chance_overlap == pytest.approx(0.1)


def test_a_map_of_nothing_has_no_mass() -> None:
    found = measured(np.zeros(4), np.array([True] * 2 + [False] * 2), np.ones(4))
    assert found.hit == 0.5 and found.energy == 0
    assert found.mass is None and found.mass_chance is None


def test_the_centre_prior_is_highest_in_the_middle() -> None:
    odd = center_prior(grid(5, 5)).reshape(5, 5)
    assert odd.argmax() == 12 and (odd == odd.max()).sum() == 1
    even = center_prior(grid(4, 4)).reshape(4, 4)
    assert (even == even.max()).sum() == 4
    np.testing.assert_array_equal(even, even.T)
    # one deviation, a quarter of the side, from the middle
    view = grid(1, 4, view=(0.0, 0.0, 16.0, 4.0))
    assert center_prior(view)[0] == pytest.approx(np.exp(-(1.5**2) / 2))
