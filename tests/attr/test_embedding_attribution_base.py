"""The base classes carry another method in one small file: occlusion."""

from typing import Any, Optional

import pytest
import torch
from captum_pairs.attr import (
    BaselinePath,
    EmbeddingAttribution,
    FeaturePairIntegratedGradients,
    IntegratedJacobian,
    pair,
    PairAttribution,
)
from torch import nn, Tensor

# ---- the method ----------------------------------------------------------------------


class Occlusion(EmbeddingAttribution[Any]):
    """c_i = g(x) - g(x without i)."""

    needs_gradients = False

    def contributions(self, example: BaselinePath, settings: Any) -> Tensor:
        without = [
            example.value - example.features.part(example.difference, i)
            for i in range(example.features.count)
        ]
        return example.embedding - example.embed(torch.stack(without))


class PairOcclusion(PairAttribution):
    """f(x, y) - f(x without i, y) - f(x, y without j) + f(without both)."""

    embedding_attribution = Occlusion


# ---- the tests -----------------------------------------------------------------------


def close(found, expected, atol=1e-12):
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


def without(x: Tensor, r: Tensor, mask: Optional[Tensor], feature: int) -> Tensor:
    ids = torch.arange(x[0].numel()).reshape(1, *x.shape[1:]) if mask is None else mask
    return torch.where(ids == feature, r, x)


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("swap", [False, True])
def test_pairs_are_four_forward_passes(encoders, inputs, similarity, masked, swap):
    # Both sides in turn are the one with fewer features.
    sides = [*zip(encoders, inputs, (0.5, -0.5), (torch.tensor([[0, 1, 1]]), None))]
    sides = sides[::-1] if swap else sides
    encode, (x, y), (r, q), masks = zip(*sides)
    masks = masks if masked else (None, None)
    method = PairOcclusion(encode, similarity)
    found = method.attribute((x, y), (r, q), feature_mask=masks)
    f = method.forward_func
    for i in range(found.shape[1]):
        for j in range(found.shape[2]):
            a = without(x, torch.full_like(x, r), masks[0], i)
            b = without(y, torch.full_like(y, q), masks[1], j)
            expected = f(x, y) - f(a, y) - f(x, b) + f(a, b)
            close(found[:, i, j], expected.detach())
    assert method.get_name() == "Pair Occlusion"


def test_vectors_are_pairs_of_their_own(encoders, inputs):
    vectors = [Occlusion(g).attribute(x) for g, x in zip(encoders, inputs)]
    expected = PairOcclusion(encoders, "dot").attribute(inputs)
    close(pair(*vectors), expected)
    assert vectors[0].shape == (2, 3, 4)


def test_arguments_stay_with_their_example(token_encoder):
    encoder, x = token_encoder(), torch.randn(2, 3, 3).double()
    mask = torch.tensor([[1.0, 1, 0], [1, 1, 1]]).double()
    tokens = torch.arange(3).reshape(1, 3, 1)
    method = Occlusion(encoder)
    found = method.attribute(x, feature_mask=tokens, additional_forward_args=mask)
    for i in range(3):
        left = torch.where(tokens == i, 0.0, x)
        close(found[:, i], (encoder(x, mask) - encoder(left, mask)).detach())


def test_at_a_layer(cnn):
    method = Occlusion(cnn, layer=cnn[0])
    images = torch.randn(2, 2, 8, 8).double()
    found = method.attribute(images, 0.25)
    assert found.shape == (2, 4, 4, 4)
    value, start = cnn[0](images), cnn[0](torch.full_like(images, 0.25))
    value[:, :, 1, 2] = start[:, :, 1, 2]
    close(found[:, 1, 2], (cnn(images) - cnn[1:](value)).detach())


def test_a_method_without_its_rule_says_so(encoders, inputs):
    class Unfinished(EmbeddingAttribution[Any]):
        pass

    method = Unfinished(encoders[0])
    with pytest.raises(NotImplementedError, match="Unfinished.contributions"):
        method.attribute(inputs[0])


def test_the_whole_score_is_accounted_for_by_any_method(encoders, inputs):
    """decompose: the delta is what the parts miss, none of them is lost."""
    method = PairOcclusion(encoders, scale=2.0)
    found = method.decompose(inputs, (0.5, -0.5))
    close(found.interactions, method.attribute(inputs, (0.5, -0.5)))
    close(found.score, method.forward_func(*inputs).detach())
    start = [torch.full_like(each, v) for each, v in zip(inputs, (0.5, -0.5))]
    close(found.constant, method.forward_func(*start).detach())
    parts = found.first, found.second, found.interactions
    total = found.constant + sum(part.flatten(1).sum(1) for part in parts)
    close(found.convergence_delta, total - found.score)


def test_readings_of_any_method(encoders, inputs):
    method, directions = Occlusion(encoders[0]), torch.eye(4).double()[:2]
    found = method.read(inputs[0], directions, baselines=0.5)
    whole = method.decompose(inputs[0], 0.5)
    close(found.attributions, whole.contributions @ directions.T)
    close(found.convergence_delta, whole.convergence_delta @ directions.T)


def test_every_example_takes_its_own_steps(encoders, inputs):
    """A batch is its examples: one that needs many steps gives none to the others."""
    x = torch.cat([inputs[0][:1] * 0.01, inputs[0][1:] * 30])
    y = torch.cat([inputs[1][:1] * 0.01, inputs[1][1:] * 30])
    fpig = FeaturePairIntegratedGradients(encoders)
    options = dict(tolerance=1e-6, n_steps=128)
    together = fpig.attribute((x, y), (0.5, 0.5), **options)
    for row in range(2):
        rows = slice(row, row + 1)
        close(together[rows], fpig.attribute((x[rows], y[rows]), (0.5, 0.5), **options))
    steps = IntegratedJacobian(encoders[0]).choose_steps(x, 0.5, **options).n_steps
    assert steps[0] < steps[1]


def test_encoders_without_gradients_can_be_occluded():
    linear = nn.Linear(3, 4).double()
    encode = torch.no_grad()(lambda x: linear(x.round()))
    x = torch.randn(2, 3).double() * 3
    found = Occlusion(encode).attribute(x)
    left = x.clone()
    left[:, 1] = 0
    close(found[:, 1], encode(x) - encode(left))
