"""The methods by which an input's contributions are found."""

from dataclasses import dataclass
from typing import Any

from captum_pairs.attr import (
    EmbeddingBanzhaf,
    EmbeddingLime,
    EmbeddingOcclusion,
    EmbeddingShapley,
    InvalidArgumentError,
    JacobianXInput,
    TokenDecomposition,
)

__all__ = [
    "check_width",
    "INTEGRATED_GRADIENTS",
    "METHODS",
    "SUBSET_METHODS",
    "Vectors",
    "VECTORS",
]

INTEGRATED_GRADIENTS = "integrated_gradients"


@dataclass(frozen=True)
class Vectors:
    """
    A method whose pairs are inner products of one vector for each feature.

    Args:
        make: the embedding attribution.
        has_baseline: whether it starts from a baseline; without one, features add
            nothing on their own.
        has_subsets: whether it embeds subsets of the features.
        is_sampled: whether the subsets are drawn at random, and the vectors belong to a
            linear model of the embedding with a constant of its own.
        is_embedding: whether vectors are of the embedding's own width.
    """

    make: Any
    has_baseline: bool = True
    has_subsets: bool = False
    is_sampled: bool = False
    is_embedding: bool = True


VECTORS: dict[str, Vectors] = {
    "jacobian_x_input": Vectors(JacobianXInput, has_baseline=False),
    "occlusion": Vectors(EmbeddingOcclusion, has_subsets=True),
    "banzhaf": Vectors(EmbeddingBanzhaf, has_subsets=True, is_sampled=True),
    "shapley": Vectors(
        EmbeddingShapley, has_subsets=True, is_sampled=True, is_embedding=False
    ),
    "lime": Vectors(EmbeddingLime, has_subsets=True, is_sampled=True),
    "token_similarity": Vectors(TokenDecomposition, has_baseline=False),
}
# What `method=` may be.
METHODS = (INTEGRATED_GRADIENTS, *VECTORS)
# Those that leave out features.
SUBSET_METHODS = tuple(name for name, found in VECTORS.items() if found.has_subsets)


def check_width(method: str, what: str) -> None:
    """Refuse a method whose vectors are no embeddings for what reads embeddings."""
    vectors = VECTORS.get(method)
    if vectors is not None and not vectors.is_embedding:
        having = [n for n in METHODS if n not in VECTORS or VECTORS[n].is_embedding]
        raise InvalidArgumentError(
            "method", f"one of {', '.join(having)} for {what}", repr(method)
        )
