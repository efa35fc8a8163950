"""Interaction-CAM by hand, and against its equations written out."""

from typing import Any

import pytest
import torch
from captum_pairs.attr import FeaturePairInteractionCam, InvalidArgumentError
from torch import nn, Tensor


def close(found: Tensor, expected: Any, atol: float = 1e-10) -> None:
    expected = torch.as_tensor(expected, dtype=found.dtype)
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


@pytest.fixture
def net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 3, 1),
        nn.Tanh(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(3, 4),
    ).double()


def test_by_hand() -> None:
    # two channels, one row of two places; the embedding is their sum over places
    keep = nn.Identity()

    def encode(x: Tensor) -> Tensor:
        return keep(x).sum((2, 3))

    x = torch.tensor([[[[1.0, 2.0]], [[3.0, -1.0]]]])  # sums 3 and 2
    y = torch.tensor([[[[-4.0, 1.0]], [[1.0, 1.0]]]])  # sums -3 and 2
    pairs = FeaturePairInteractionCam(encode, keep, similarity="dot")
    # gradients: of x by channel (-3, 2), of y (3, 2): the negative one does not count
    # weighted: x (0, 0), (6, -2); y (-12, 3), (2, 2)
    close(pairs.attribute((x, y))[0, 0, :, 0], [[12, 12], [-4, -4]])
    # means: x (1.5, 1), y (-1.5, 1): joint (-2.25, 1)
    first, second = pairs.maps((x, y))
    close(first[0, 0], [6.0, -2.0])
    close(second[0, 0], [27 + 2, -6.75 + 2])
    # largest: x (2, 3), y (1, 1): joint (2, 3)
    first, second = pairs.maps((x, y), reduction="max")
    close(first[0, 0], [18.0, -6.0])
    close(second[0, 0], [-24 + 6, 6 + 6])


@pytest.mark.parametrize("reduction", ["mean", "max", "attention"])
def test_equations(net: nn.Sequential, reduction: str) -> None:
    x, y = torch.randn(2, 2, 3, 2).double(), torch.randn(2, 2, 2, 2).double()
    pairs = FeaturePairInteractionCam(net, net[1], "cosine", scale=2.0)
    found, maps = pairs.attribute((x, y)), pairs.maps((x, y), reduction=reduction)
    assert found.shape == (2, 3, 2, 2, 2)
    for row in range(2):
        values = [net[:2](each[row : row + 1]).detach() for each in (x, y)]
        for each in values:
            each.requires_grad_(True)
        score = 2 * torch.cosine_similarity(net[2:](values[0]), net[2:](values[1]))
        gradients = torch.autograd.grad(score.sum(), values)
        weighted = [
            (v.detach() * g.clamp_min(0))[0].flatten(1)
            for v, g in zip(values, gradients)
        ]
        close(found[row].reshape(6, 4), weighted[0].T @ weighted[1])
        flat = [v.detach()[0].flatten(1) for v in values]  # (d, places)
        if reduction == "mean":
            pooled = [each.mean(1) for each in flat]
        elif reduction == "max":
            pooled = [each.amax(1) for each in flat]
        else:
            pooled = [each @ (each.T @ each.mean(1)).softmax(0) for each in flat]
        joint = pooled[0] * pooled[1]
        for side in (0, 1):
            close(maps[side][row].flatten(), joint @ weighted[side])


def test_tokens_and_what_is_left_behind() -> None:
    class Text(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(9, 4), nn.Linear(4, 3)

        def forward(self, ids: Tensor) -> Tensor:
            return self.head(torch.tanh(self.table(ids)).mean(1))

    net = Text()
    ids = torch.tensor([[1, 2, 3]]), torch.tensor([[4, 5, 6, 7]])
    pairs = FeaturePairInteractionCam(net, net.table)
    assert pairs.attribute(ids).shape == (1, 3, 4)
    assert [each.shape for each in pairs.maps(ids)] == [(1, 3), (1, 4)]
    assert net.table.weight.grad is None and not net.table._forward_hooks


def test_errors(net: nn.Sequential) -> None:
    inputs = torch.rand(1, 2, 3, 3).double(), torch.rand(1, 2, 3, 3).double()
    other = nn.Sequential(*net)
    with pytest.raises(InvalidArgumentError, match="^forward_func: expected one"):
        FeaturePairInteractionCam((net, other), net[1])
    FeaturePairInteractionCam((net, net), net[1]).attribute(inputs)
    with pytest.raises(InvalidArgumentError, match="^layer: expected one module"):
        FeaturePairInteractionCam(net, (net[1], net[1]))
    with pytest.raises(
        InvalidArgumentError, match=r"^layer\[0\]: expected a value with"
    ):
        FeaturePairInteractionCam(net, net[4]).attribute(inputs)
    with pytest.raises(InvalidArgumentError, match="^reduction: "):
        FeaturePairInteractionCam(net, net[1]).maps(inputs, reduction="sum")
    with pytest.raises(InvalidArgumentError, match="^inputs: "):
        FeaturePairInteractionCam(net, net[1]).attribute(inputs[:1])


@pytest.mark.parametrize("kind", ["dot", "cosine", "frozen_cosine"])
def test_a_negative_scale_turns_gradients_before_their_positive_part(kind: str) -> None:
    net = nn.Sequential(nn.Conv2d(2, 6, 1), nn.Tanh(), nn.Flatten(), nn.Linear(24, 5))
    net = net.double()
    x, y = torch.randn(1, 2, 2, 2).double(), torch.randn(1, 2, 2, 2).double()
    values = [net[:2](each).detach().requires_grad_() for each in (x, y)]
    g, h = (net[2:](each) for each in values)
    norms = g.norm() * h.norm()
    norms = {"dot": torch.ones(()), "frozen_cosine": norms.detach()}.get(kind, norms)
    score = -3.0 * (g * h).sum() / norms
    gradients = torch.autograd.grad(score, values)
    weighted = [(v * k.clamp_min(0))[0].flatten(1) for v, k in zip(values, gradients)]
    pairs = FeaturePairInteractionCam(net, net[1], kind, scale=-3.0)
    expected = (weighted[0].T @ weighted[1]).detach()
    assert float(expected.abs().max()) > 1e-4
    close(pairs.attribute((x, y)).reshape(4, 4), expected)
    joint = values[0].mean((2, 3))[0] * values[1].mean((2, 3))[0]
    for found, each in zip(pairs.maps((x, y)), weighted):
        close(found.flatten(), (joint @ each).detach())


class Unread(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.side, self.head = nn.Conv2d(2, 3, 1), nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        self.side(x)
        return self.head(x.mean((2, 3)))


def test_a_layer_that_the_embedding_does_not_depend_on() -> None:
    net, x = Unread(), torch.rand(1, 2, 3, 3)
    with pytest.raises(InvalidArgumentError, match="^forward_func: .*depend"):
        FeaturePairInteractionCam(net, net.side).attribute((x, x))


def test_channels_that_are_not_shared() -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    pairs = FeaturePairInteractionCam(net, net[0], channel_dim=-1)
    with pytest.raises(InvalidArgumentError, match="^channel_dim: .*share, got 4 of"):
        pairs.attribute((torch.rand(1, 2, 4, 4), torch.rand(1, 2, 3, 3)))
