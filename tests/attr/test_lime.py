"""Linear and bilinear models near the inputs, against regressions written out."""

from typing import Any

import numpy as np
import pytest
import torch
from captum_pairs.attr import (
    EmbeddingBanzhaf,
    EmbeddingLime,
    FeaturePairLime,
    InvalidArgumentError,
)
from torch import Tensor


def close(found: Tensor, expected: Any, atol: float = 1e-8) -> None:
    torch.testing.assert_close(found, torch.as_tensor(expected), rtol=0, atol=atol)


@pytest.fixture
def both(mlp: Any) -> Any:
    inputs = torch.randn(2, 5).double(), torch.randn(2, 3).double()
    return (mlp(5), mlp(3)), inputs, (torch.randn(1, 5).double(), 0.0)


def _every(count: int) -> Tensor:
    return torch.cartesian_prod(*[torch.tensor([False, True])] * count)


def _weights(subsets: Tensor, width: float) -> np.ndarray:
    """LIME's: the cosine distance of a subset to the whole input."""
    ones = np.ones(subsets.shape[1])
    weights = []
    for subset in subsets.double().numpy():
        norm = np.linalg.norm(subset) * np.linalg.norm(ones)
        distance = 1 - (subset @ ones / norm if norm else 0.0)
        weights.append(np.exp(-(distance**2) / width**2))
    return np.array(weights)


@pytest.mark.parametrize("intercept", [True, False])
def test_all_pairs_of_subsets_in_one_regression(both: Any, intercept: bool) -> None:
    nets, inputs, starts = both
    found = FeaturePairLime(nets).attribute(
        inputs, starts, kernel_width=0.4, intercept=intercept
    )
    subsets = _every(5), _every(3)
    weights = [_weights(each, 0.4) for each in subsets]
    for row in range(2):
        rows, wanted, counts = [], [], []
        embedded = []
        for side in (0, 1):
            start = starts[0] if side == 0 else torch.zeros(1, 3).double()
            points = torch.where(subsets[side], inputs[side][row], start)
            embedded.append(nets[side](points).detach())
        for s, first in enumerate(subsets[0]):
            for t, second in enumerate(subsets[1]):
                z, u = first.double().numpy(), second.double().numpy()
                pairs = np.outer(z, u).flatten()
                # with the constant and main effects, or the bilinear form alone
                rows.append(
                    np.concatenate([pairs, z, u, [1.0]]) if intercept else pairs
                )
                cosine = torch.cosine_similarity(embedded[0][s], embedded[1][t], dim=0)
                wanted.append(float(cosine))
                counts.append(weights[0][s] * weights[1][t])
        roots = np.sqrt(np.array(counts))[:, None]
        fit = np.linalg.lstsq(
            roots * np.array(rows), roots[:, 0] * np.array(wanted), rcond=None
        )[0]
        close(found[row], fit[:15].reshape(5, 3))


def test_a_wide_kernel_is_banzhaf(both: Any) -> None:
    nets, inputs, starts = both
    lime = EmbeddingLime(nets[0])
    model = lime.decompose(inputs[0], starts[0], kernel_width=1e6)
    expected = EmbeddingBanzhaf(nets[0]).decompose(inputs[0], starts[0])
    for one, other in zip(model, expected):
        close(one, other)
    close(lime.attribute(inputs[0], starts[0], kernel_width=1e6), model.contributions)


def test_sampled_subsets(both: Any) -> None:
    nets, inputs, starts = both
    seen: list[Tensor] = []

    def embed_subsets(present: Tensor) -> Tensor:
        seen.append(present)
        return nets[0](torch.where(present, inputs[0][:1], starts[0]))

    def found(**options: Any) -> Tensor:
        return EmbeddingLime(nets[0]).attribute(
            inputs[0][:1],
            starts[0],
            n_samples=20,
            generator=torch.Generator().manual_seed(0),
            **options,
        )

    before = torch.random.get_rng_state()
    first = found(embed_subsets=embed_subsets)
    close(first, found())
    assert torch.equal(before, torch.random.get_rng_state())
    subsets = torch.cat(seen)
    assert subsets.shape == (20, 5) and bool(subsets[0].all())
    roots = np.sqrt(_weights(subsets, 0.25))[:, None]
    design = np.concatenate([subsets.double().numpy(), np.ones((20, 1))], 1)
    wanted = nets[0](torch.where(subsets, inputs[0][:1], starts[0])).detach().numpy()
    fit = np.linalg.lstsq(roots * design, roots * wanted, rcond=None)[0]
    close(first[0], fit[:5])


def test_at_a_layer_with_masks(token_encoder: Any) -> None:
    net = token_encoder()
    x = torch.randn(1, 4, 3).double()
    mask = torch.tensor([0, 0, 1, 2]).reshape(1, 4, 1)
    lime = EmbeddingLime(net, True, net.front)
    found = lime.decompose(x, feature_mask=mask)
    assert found.contributions.shape == (1, 3, 5)
    close(found.embedding, torch.nn.functional.normalize(net(x), dim=-1))


@pytest.mark.parametrize(
    "options, argument",
    [
        ({"n_samples": 1}, "n_samples"),
        ({"n_samples": 6}, "n_samples"),
        ({"kernel_width": 0.0}, "kernel_width"),
        ({"kernel_width": "wide"}, "kernel_width"),
        ({"kernel_width": 1e-3}, "kernel_width"),
        ({"internal_batch_size": 0}, "internal_batch_size"),
        ({"intercept": 1}, "intercept"),
        ({"generator": 1}, "generator"),
    ],
)
def test_errors(both: Any, options: Any, argument: str) -> None:
    nets, inputs, _ = both
    with pytest.raises(InvalidArgumentError, match=f"^{argument}: "):
        FeaturePairLime(nets).attribute(inputs, **options)
