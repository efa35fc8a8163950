"""The base classes carry another method in one small file: occlusion."""

from typing import Any, Optional

import pytest
import torch
from captum.log import log_usage
from captum_pairs.attr import EmbeddingAttribution, pair, PairAttribution
from captum_pairs.attr._utils.path import Path
from captum_pairs.attr._utils.similarity import make_similarity
from torch import nn, Tensor

# ---- the method ----------------------------------------------------------------------


class Occlusion(EmbeddingAttribution[None]):
    """c_i = g(x) - g(x without i)."""

    needs_gradients = False

    def _contributions(self, path: Path, settings: None) -> Tensor:
        without = [
            path.end - path.features.part(path.difference, i)
            for i in range(path.features.count)
        ]
        return path.embedding - path.embed(torch.stack(without))

    @log_usage()
    def attribute(self, inputs: Tensor, baselines: Any = None, **others: Any) -> Tensor:
        names = "feature_mask", "additional_forward_args"
        side = self._side(inputs, baselines, *(others.get(name) for name in names))
        return self._run(side, None).values


class PairOcclusion(PairAttribution[None]):
    """f(x, y) - f(x without i, y) - f(x, y without j) + f(without both)."""

    def __init__(self, forward_func: Any, similarity: str = "cosine") -> None:
        score = make_similarity(forward_func, similarity, 1.0)
        first, second = (
            Occlusion(encoder, score.kind == "cosine")
            for encoder in (score.encode_first, score.encode_second)
        )
        super().__init__(score, first, second)

    @log_usage()
    def attribute(
        self,
        inputs: Any,
        baselines: Any = None,
        feature_mask: Any = None,
        additional_forward_args: Any = None,
    ) -> Tensor:
        sides = self._sides(inputs, baselines, feature_mask, additional_forward_args)
        return self._pairs(sides, None, effects=False).interactions


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
    method, images = Occlusion(cnn), torch.randn(2, 2, 8, 8).double()
    method.layer = cnn[0]
    found = method.attribute(images, 0.25)
    assert found.shape == (2, 4, 4, 4)
    value, start = cnn[0](images), cnn[0](torch.full_like(images, 0.25))
    value[:, :, 1, 2] = start[:, :, 1, 2]
    close(found[:, 1, 2], (cnn(images) - cnn[1:](value)).detach())


def test_a_method_without_its_rule_says_so(encoders, inputs):
    class Unfinished(EmbeddingAttribution[None]):
        pass

    method = Unfinished(encoders[0])
    with pytest.raises(NotImplementedError, match="Unfinished._contributions"):
        method._run(method._side(inputs[0], None, None, None), None)


def test_encoders_without_gradients_can_be_occluded():
    linear = nn.Linear(3, 4).double()
    encode = torch.no_grad()(lambda x: linear(x.round()))
    x = torch.randn(2, 3).double() * 3
    found = Occlusion(encode).attribute(x)
    left = x.clone()
    left[:, 1] = 0
    close(found[:, 1], encode(x) - encode(left))
