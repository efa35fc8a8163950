"""The part of an encoder before the layer runs for input and baseline only."""

import pytest
import torch
from captum_pairs.attr import (
    FeaturePairIntegratedGradients,
    LayerFeaturePairIntegratedGradients,
    LayerIntegratedJacobian,
)
from torch import nn


class Counting(nn.Module):
    """A module that counts how often it really runs, and on how many examples."""

    def __init__(self, module):
        super().__init__()
        self.module = module
        self.batches = []

    def forward(self, *args):
        self.batches.append(len(args[0]))
        return self.module(*args)


class Net(nn.Module):
    """(b, 3) -> (b, 4): stem, block, block, head, with a residual around the first."""

    def __init__(self):
        super().__init__()
        self.stem = Counting(nn.Sequential(nn.Linear(3, 6), nn.Tanh()))
        self.blocks = nn.ModuleList(
            Counting(nn.Sequential(nn.Linear(6, 6), nn.Tanh())) for _ in range(3)
        )
        self.head = Counting(nn.Linear(6, 4))
        self.double()

    def forward(self, x):
        hidden = self.stem(x)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return self.head(hidden)

    def counters(self):
        return [self.stem, *self.blocks, self.head]


@pytest.fixture
def net():
    return Net().eval()


X = torch.linspace(-1, 1, 6).reshape(2, 3).double()
BOTH_PLAIN = [1, 1]  # the input and the baseline
OF_TWO = [1, 1, 1]  # two inputs and the baseline that they have in common


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("tolerance", [None, 1e-8])
@pytest.mark.parametrize("size", [1, 4, None])
def test_front_runs_for_input_and_baseline_only(net, direction, tolerance, size):
    attribution = LayerIntegratedJacobian(net, net.blocks[1], direction=direction)
    options = dict(n_steps=16, tolerance=tolerance, internal_batch_size=size)
    attribution.attribute(X[:1], **options)
    for counter in net.counters()[:2]:  # finished when the layer is reached
        assert counter.batches == BOTH_PLAIN
    for counter in net.counters()[3:]:
        # the input's own pass, both ends, the points; the baseline's ends at the layer
        assert sum(counter.batches) >= 1 + 2 + (16 if tolerance is None else 4)
        assert counter.batches[:2] == [1, 2]
        assert max(counter.batches[2:]) <= max(2, size or 16)


def test_front_runs_once_for_each_example_of_a_batch(net):
    attribution = LayerIntegratedJacobian(net, net.blocks[1])
    attribution.attribute(X, n_steps=8, internal_batch_size=1)
    assert net.stem.batches == OF_TWO


def test_at_a_layers_input_what_ran_before_it_is_the_front(net):
    attribution = LayerIntegratedJacobian(net, net.blocks[1])
    attribution.attribute(X[:1], n_steps=8, attribute_to_layer_input=True)
    assert [len(counter.batches) for counter in net.counters()[:2]] == [2, 2]
    assert sum(net.blocks[1].batches) == 1 + 2 + 8


def test_fronts_of_both_sides(net):
    other = Net().eval()
    fpig = LayerFeaturePairIntegratedGradients(
        (net, other), (net.blocks[2], other.blocks[0])
    )
    fpig.decompose((X, X), n_steps=8, internal_batch_size=1)
    for counter in [*net.counters()[:3], other.stem]:
        assert counter.batches == OF_TWO


def test_replay_changes_no_number(net):
    found = LayerIntegratedJacobian(net, net.blocks[1]).attribute(X, n_steps=8)
    stem, blocks, head = net.stem, net.blocks, net.head

    def start(x):
        hidden = stem(x)
        return hidden + blocks[0](hidden)

    class Tail(nn.Module):
        """From the value of blocks[1] on, the residual stream beside it as it is."""

        def forward(self, value, stream):
            hidden = stream + value
            return head(hidden + blocks[2](hidden))

    expected = []
    for row in range(2):
        x = X[row : row + 1]
        stream = start(x).detach()
        value, baseline = (blocks[1](start(z)).detach() for z in (x, 0 * x))
        tail = FeaturePairIntegratedGradients(Tail(), "dot").first
        expected.append(
            tail.attribute(value, baseline, additional_forward_args=stream, n_steps=8)[
                0
            ]
        )
    torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=1e-13)


class InPlace(nn.Module):
    """Writes into what its first module gave out."""

    def __init__(self):
        super().__init__()
        self.first, self.layer = nn.Linear(3, 4), nn.Linear(4, 4)
        self.last = nn.Linear(4, 4)
        self.double()

    def forward(self, x):
        hidden = self.first(x)
        hidden += 1
        hidden.mul_(x.mean(-1, keepdim=True))
        value = self.layer(hidden).tanh()
        return self.last(value + hidden.tanh())


class InPlaceAfter(InPlace):
    """Writes into what its first module gave out, after the layer."""

    def forward(self, x):
        hidden = self.first(x)
        hidden += self.layer(hidden).tanh()
        return self.last(hidden.tanh())


class Twice(nn.Module):
    """Calls one front module twice, with two results."""

    def __init__(self):
        super().__init__()
        self.front, self.layer = nn.Linear(3, 3), nn.Linear(3, 4)
        self.double()

    def forward(self, x):
        first = self.front(x)
        second = self.front(torch.tanh(first))
        return self.layer(second).tanh() + first.sum(-1, keepdim=True)


@pytest.mark.parametrize("make", [InPlace, InPlaceAfter, Twice])
def test_fronts_that_can_not_be_replayed_run_again(make):
    encoder = make()
    found, delta = LayerIntegratedJacobian(encoder, encoder.layer).attribute(
        X, n_steps=32, return_convergence_delta=True
    )
    # By hand: the layer's value goes from the baseline's to the input's.
    values = {}
    handle = encoder.layer.register_forward_hook(
        lambda module, args, output: values.get("given")
    )
    seen = encoder.layer.register_forward_hook(
        lambda module, args, output: values.update(seen=output.detach())
    )
    for row in range(2):
        x = X[row : row + 1]
        ends = []
        for z in (0 * x, x):
            values["given"] = None
            encoder(z)
            ends.append(values["seen"])
        embeddings = []
        for end in ends:
            values["given"] = end
            embeddings.append(encoder(x).detach())
        target = (embeddings[1] - embeddings[0])[0]
        torch.testing.assert_close(found[row].sum(0), target, rtol=0, atol=1e-9)
        torch.testing.assert_close(delta[row], 0 * target, rtol=0, atol=1e-9)
    handle.remove()
    seen.remove()
