"""What can be measured of an attribution."""

from captum_pairs.metrics._core.pointing_game import (
    pointing_game_accuracy,
    pointing_game_chance,
    pointing_game_energy,
)

__all__ = [
    "pointing_game_accuracy",
    "pointing_game_chance",
    "pointing_game_energy",
]
