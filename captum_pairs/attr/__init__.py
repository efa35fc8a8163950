#!/usr/bin/env python3
"""Feature-pair attributions of dual encoders, in the manner of ``captum.attr``."""

from captum_pairs.attr._core.embedding_attribution import EmbeddingAttribution
from captum_pairs.attr._core.feature_pair_integrated_gradients import (
    FeaturePairIntegratedGradients,
)
from captum_pairs.attr._core.games import (
    EmbeddingBanzhaf,
    EmbeddingShapley,
    FeaturePairBanzhaf,
    FeaturePairShapley,
)
from captum_pairs.attr._core.integrated_hessians import FeaturePairIntegratedHessians
from captum_pairs.attr._core.integrated_jacobian import (
    Convergence,
    EmbeddingDecomposition,
    EmbeddingReading,
    IntegratedJacobian,
)
from captum_pairs.attr._core.interaction_cam import FeaturePairInteractionCam
from captum_pairs.attr._core.jacobian_x_input import (
    FeaturePairJacobianXInput,
    JacobianXInput,
)
from captum_pairs.attr._core.layer.layer_feature_pair_integrated_gradients import (
    LayerFeaturePairIntegratedGradients,
)
from captum_pairs.attr._core.layer.layer_integrated_jacobian import (
    LayerIntegratedJacobian,
)
from captum_pairs.attr._core.lime import EmbeddingLime, FeaturePairLime
from captum_pairs.attr._core.lrp import EmbeddingLRP, FeaturePairBiLRP
from captum_pairs.attr._core.occlusion import EmbeddingOcclusion, FeaturePairOcclusion
from captum_pairs.attr._core.pair_attribution import (
    pair,
    PairAttribution,
    PairDecomposition,
)
from captum_pairs.attr._core.token_similarity import (
    FeaturePairTokenSimilarity,
    TokenDecomposition,
)
from captum_pairs.attr._utils import visualization
from captum_pairs.attr._utils.validation import InvalidArgumentError

__all__ = [
    "Convergence",
    "EmbeddingAttribution",
    "EmbeddingBanzhaf",
    "EmbeddingDecomposition",
    "EmbeddingLime",
    "EmbeddingLRP",
    "EmbeddingOcclusion",
    "EmbeddingReading",
    "EmbeddingShapley",
    "FeaturePairBanzhaf",
    "FeaturePairBiLRP",
    "FeaturePairIntegratedGradients",
    "FeaturePairIntegratedHessians",
    "FeaturePairInteractionCam",
    "FeaturePairJacobianXInput",
    "FeaturePairLime",
    "FeaturePairOcclusion",
    "FeaturePairShapley",
    "FeaturePairTokenSimilarity",
    "IntegratedJacobian",
    "InvalidArgumentError",
    "JacobianXInput",
    "LayerFeaturePairIntegratedGradients",
    "LayerIntegratedJacobian",
    "pair",
    "PairAttribution",
    "PairDecomposition",
    "TokenDecomposition",
    "visualization",
]
