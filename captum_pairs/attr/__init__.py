#!/usr/bin/env python3
"""Feature-pair attributions of dual encoders, in the manner of ``captum.attr``."""

from captum_pairs.attr._core.embedding_attribution import (
    blocks_of,
    EmbeddingAttribution,
    EmbeddingDecomposition,
    EmbeddingReading,
    Shares,
)
from captum_pairs.attr._core.expected_jacobian import ExpectedJacobian
from captum_pairs.attr._core.feature_pair_expected_gradients import (
    FeaturePairExpectedGradients,
)
from captum_pairs.attr._core.feature_pair_integrated_gradients import (
    FeaturePairIntegratedGradients,
)
from captum_pairs.attr._core.integrated_hessians import FeaturePairIntegratedHessians
from captum_pairs.attr._core.integrated_jacobian import Convergence, IntegratedJacobian
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
from captum_pairs.attr._core.semivalues import (
    EmbeddingBanzhaf,
    EmbeddingShapley,
    FeaturePairBanzhaf,
    FeaturePairShapley,
)
from captum_pairs.attr._core.token_similarity import (
    FeaturePairTokenSimilarity,
    TokenDecomposition,
)
from captum_pairs.attr._utils import validation, visualization
from captum_pairs.attr._utils.example import BaselinePath, Example
from captum_pairs.attr._utils.hooks import Place, Session
from captum_pairs.attr._utils.references import ReferencePaths, ReferenceValues
from captum_pairs.attr._utils.spread import confidence_factor
from captum_pairs.attr._utils.subsets import Subsets
from captum_pairs.attr._utils.validation import InvalidArgumentError

__all__ = [
    "BaselinePath",
    "blocks_of",
    "confidence_factor",
    "Convergence",
    "EmbeddingAttribution",
    "EmbeddingBanzhaf",
    "EmbeddingDecomposition",
    "EmbeddingLime",
    "EmbeddingLRP",
    "EmbeddingOcclusion",
    "EmbeddingReading",
    "EmbeddingShapley",
    "Example",
    "ExpectedJacobian",
    "FeaturePairBanzhaf",
    "FeaturePairBiLRP",
    "FeaturePairExpectedGradients",
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
    "Place",
    "ReferencePaths",
    "ReferenceValues",
    "Session",
    "Shares",
    "Subsets",
    "TokenDecomposition",
    "validation",
    "visualization",
]
