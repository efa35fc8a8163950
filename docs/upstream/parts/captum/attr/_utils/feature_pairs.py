#!/usr/bin/env python3

# pyre-strict
"""What attributions to pairs of features share: arguments, features, similarities."""

from captum_pairs.attr._core.embedding_attribution import check_finite
from captum_pairs.attr._utils.example import check_norm, normalized
from captum_pairs.attr._utils.features import (
    Features,
    mask_row,
    masked_features,
    position_features,
    scalar_features,
    validate_mask,
)
from captum_pairs.attr._utils.similarity import (
    different_widths,
    make_similarity,
    Similarity,
)
from captum_pairs.attr._utils.validation import (
    check_tensor,
    describe,
    InvalidArgumentError,
    optional_pair_of,
    pair_of,
)
