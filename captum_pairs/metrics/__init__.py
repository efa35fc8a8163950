"""What can be measured of an attribution."""

from captum_pairs.metrics._core.completeness import completeness_residual
from captum_pairs.metrics._core.correlation import rank_agreement
from captum_pairs.metrics._core.faithfulness import Faithfulness, faithfulness
from captum_pairs.metrics._core.insertion_deletion import (
    insertion_deletion,
    InsertionDeletion,
)
from captum_pairs.metrics._core.parameter_randomization import (
    parameter_randomization,
    ParameterRandomization,
)
from captum_pairs.metrics._core.pointing_game import (
    pointing_game_accuracy,
    pointing_game_chance,
    pointing_game_energy,
)
from captum_pairs.metrics._core.sensitivity import sensitivity

__all__ = [
    "completeness_residual",
    "Faithfulness",
    "faithfulness",
    "insertion_deletion",
    "InsertionDeletion",
    "parameter_randomization",
    "ParameterRandomization",
    "pointing_game_accuracy",
    "pointing_game_chance",
    "pointing_game_energy",
    "rank_agreement",
    "sensitivity",
]
