"""BiLRP against formulas, zennit's attributor, Captum's LRP and conservation."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from captum.attr import LRP
from captum.attr._utils.lrp_rules import EpsilonRule
from captum_pairs.attr import (
    EmbeddingLRP,
    FeaturePairBiLRP,
    InvalidArgumentError,
    JacobianXInput,
    pair,
)
from torch import nn, Tensor
from torchvision.models import resnet18

pytest.importorskip("zennit")
from zennit.attribution import Gradient  # noqa: E402
from zennit.canonizers import SequentialMergeBatchNorm  # noqa: E402
from zennit.composites import EpsilonGammaBox, EpsilonPlus, LayerMapComposite  # noqa
from zennit.core import Composite  # noqa: E402
from zennit.rules import Epsilon, Gamma, Norm, Pass, ZPlus  # noqa: E402
from zennit.torchvision import ResNetCanonizer  # noqa: E402
from zennit.types import Activation, AvgPool, Convolution, Linear  # noqa: E402


def close(found: Any, expected: Any, atol: float = 1e-12) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


def rules(linear: Any) -> LayerMapComposite:
    """One rule for all linear layers."""
    kinds = [(Activation, Pass()), (AvgPool, Norm(1e-13)), (Linear, linear)]
    return LayerMapComposite(kinds)


def mlp(bias: bool = False, d: int = 5, k: int = 3) -> nn.Sequential:
    layers = nn.Linear(d, 7, bias=bias), nn.ReLU(), nn.Linear(7, k, bias=bias)
    return nn.Sequential(*layers).double().eval()


def convolutional(bias: bool = True, k: int = 4) -> nn.Sequential:
    """(b, 3, 8, 8) -> (b, k), with everything that a VGG has."""
    net = nn.Sequential(
        nn.Conv2d(3, 5, 3, bias=bias),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(5, 12, 2, bias=bias),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, k, bias=bias),
    ).double()
    with torch.no_grad():  # outputs of a size beside which stabilisers are small
        for layer in (net[0], net[3], net[7]):
            layer.weight *= 3
    return net.eval()


def by_zennit(net: nn.Module, composite: Composite, x: Tensor, k: int) -> Tensor:
    """(b, *value, k): the library's own attributor, a dimension at a time."""
    columns = []
    with Gradient(net, composite) as attributor:
        for axis in torch.eye(k, dtype=x.dtype):
            _, relevance = attributor(x, lambda output, axis=axis: output * axis)
            columns.append(relevance.detach())
    return torch.stack(columns, dim=-1)


def grid(size: int, patch: int) -> Tensor:
    """Ids (1, 1, size, size) of square patches."""
    lines = torch.arange(size) // patch
    return (lines[:, None] * (size // patch) + lines)[None, None]


def patches(relevance: Tensor, patch: int) -> Tensor:
    """(b, c, h, w, k) -> (b, patches, k)."""
    sums = relevance.sum(1).unfold(1, patch, patch).unfold(2, patch, patch)
    return sums.sum((-1, -2)).flatten(1, 2)  # (b, rows, columns, k) -> (b, G, k)


# ---- what it is ----------------------------------------------------------------------


def test_the_rules_written_out() -> None:
    net, x, epsilon = mlp(bias=True), torch.randn(2, 5).double(), 0.1

    def propagated(a: Tensor, layer: nn.Linear, relevance: Tensor) -> Tensor:
        """R_j = a_j sum_o w_oj R_o / (z_o +- epsilon), of (b, o, m)."""
        z = layer(a)
        shares = relevance / (z + epsilon * z.sign())[..., None]
        return a[..., None] * torch.einsum("oj,bom->bjm", layer.weight, shares)

    def written_out(x: Tensor, first: Any, second: Any) -> Tensor:
        hidden, start = torch.relu(net[0](x)), torch.diag_embed(net(x))
        return propagated(x, first, propagated(hidden, second, start)).detach()

    found = EmbeddingLRP(net, rules(Epsilon(epsilon))).attribute(x)
    close(found, written_out(x, net[0], net[2]))
    # of a positive input: positive weights and biases only
    x, positive = x.abs(), copy.deepcopy(net)
    for parameter in positive.parameters():
        parameter.data.clamp_(min=0)
    found = EmbeddingLRP(net, rules(ZPlus(epsilon))).attribute(x)
    close(found, written_out(x, positive[0], positive[2]))


@pytest.mark.parametrize("make, shape", [(mlp, (5,)), (convolutional, (3, 8, 8))])
def test_lrp_0_without_biases_is_gradient_times_input(make: Any, shape: Any) -> None:
    net, x = make(bias=False), torch.randn(2, *shape).double()
    found = EmbeddingLRP(net, rules(Epsilon(epsilon=1e-13))).attribute(x)
    close(found, JacobianXInput(net).attribute(x), atol=1e-8)
    assert float(found.abs().max()) > 1e-3


@pytest.mark.parametrize("internal_batch_size", [None, 1, 3])
@pytest.mark.parametrize("layer", [None, 4])
def test_is_what_zennit_gives_for_every_dimension(
    layer: Any, internal_batch_size: Any
) -> None:
    net, x = convolutional(), torch.randn(2, 3, 8, 8).double()
    place, front, back = None, nn.Identity(), net
    if layer is not None:  # of a layer's value: the rest of the network alone
        place, front, back = net[layer], net[: layer + 1], net[layer + 1 :]
    lrp = EmbeddingLRP(net, EpsilonPlus(), layer=place)
    found = lrp.attribute(x, internal_batch_size=internal_batch_size)
    value = front(x).detach()
    expected = by_zennit(back, EpsilonPlus(), value, 4)
    if layer is not None:
        expected = expected.sum(1)  # positions: channels are summed
    assert float(expected.abs().max()) > 1e-3
    close(found, expected)


def test_is_what_captum_gives() -> None:
    net, x = mlp(bias=True), torch.randn(3, 5).double()
    found = EmbeddingLRP(net, rules(Epsilon(epsilon=1e-9))).attribute(x)
    captums = copy.deepcopy(net)
    for layer in (captums[0], captums[2]):
        layer.rule = EpsilonRule(1e-9)
    x = x.requires_grad_()
    expected = [LRP(captums).attribute(x, target=k).detach() for k in range(3)]
    close(found, torch.stack(expected, dim=-1), atol=1e-5)


def test_masks_batches_and_arguments() -> None:
    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = convolutional()

        def forward(self, x: Tensor, weights: Tensor) -> Tensor:
            return self.net(x * weights[:, None])

    module, x = Weighted().double().eval(), torch.randn(2, 3, 8, 8).double()
    weights = torch.rand(2, 8, 8).double()
    mask = grid(8, 4)

    def encode(z: Tensor, weights: Tensor) -> Tensor:
        return 1.0 * module(z, weights)

    lrp = EmbeddingLRP(encode, EpsilonPlus(), module)
    found = lrp.attribute(x, mask, weights)
    seen = (x * weights[:, None]).detach()
    inner = by_zennit(module.net, EpsilonPlus(), seen, 4)
    # a function outside of any layer is passed by its gradient
    expected = patches(inner * weights[:, None, ..., None], 4)
    assert found.shape == (2, 4, 4)
    close(found, expected)


def test_token_ids_at_a_layer() -> None:
    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.net = nn.Embedding(9, 5), mlp()

        def forward(self, ids: Tensor) -> Tensor:
            return self.net(self.words(ids).sum(1))

    bag = Bag().double().eval()
    ids = torch.tensor([[1, 2, 3], [4, 4, 8]])
    composite = rules(Epsilon(epsilon=1e-13))
    found, delta = EmbeddingLRP(bag, composite, layer=bag.words).attribute(
        ids, return_convergence_delta=True
    )
    assert found.shape == (2, 3, 3) and delta.shape == (2, 3)
    # the sum over words has no rule and is passed by its gradient, which copies
    one = EmbeddingLRP(bag.net, rules(Epsilon(epsilon=1e-13)))
    total = bag.words(ids).sum(1).detach()
    shares = one.attribute(total)
    close(found, torch.stack([shares.sum(1)] * 3, 1), atol=1e-8)
    close(delta, 2 * bag(ids).detach(), atol=1e-8)


# ---- conservation --------------------------------------------------------------------


@pytest.mark.parametrize("composite", [EpsilonPlus(), rules(ZPlus()), rules(Gamma())])
def test_relevance_is_conserved_without_biases(composite: Composite) -> None:
    net, x = convolutional(bias=False), torch.rand(2, 3, 8, 8).double()
    found, delta = EmbeddingLRP(net, composite).attribute(
        x, return_convergence_delta=True
    )
    embedding = net(x).detach()
    # what the rules' stabilisers of 1e-6 absorb
    close(found.flatten(1, -2).sum(1), embedding, atol=1e-4)
    close(delta, found.flatten(1, -2).sum(1) - embedding)
    assert float(embedding.abs().min()) > 1e-3


def test_delta_is_what_biases_keep() -> None:
    layer = nn.Linear(4, 3).double()
    _, delta = EmbeddingLRP(layer, rules(Epsilon(epsilon=1e-13))).attribute(
        torch.randn(2, 4).double(), return_convergence_delta=True
    )
    close(delta, -layer.bias.detach().expand(2, 3), atol=1e-9)


@pytest.mark.parametrize("similarity", ["cosine", "dot", "frozen_cosine"])
def test_pairs_sum_to_the_score(similarity: str) -> None:
    encoders = convolutional(bias=False), mlp(k=4)
    x, y = torch.rand(2, 3, 8, 8).double(), torch.rand(2, 5).double()
    pairs = FeaturePairBiLRP(
        encoders, rules(ZPlus(stabilizer=1e-12)), similarity=similarity, scale=3.0
    )
    found, delta = pairs.attribute(
        (x, y), feature_mask=(grid(8, 4), None), return_convergence_delta=True
    )
    score = pairs.forward_func(x, y).detach()
    assert found.shape == (2, 4, 5) and float(score.abs().min()) > 1e-2
    close(found.flatten(1).sum(1), score, atol=1e-8)
    close(delta, torch.zeros(2).double(), atol=1e-8)
    assert pairs.has_convergence_delta() and pairs.first.has_convergence_delta()


def test_relevance_of_a_norm_is_not_sent_through_it() -> None:
    net, x = mlp(), torch.randn(2, 5).double()
    plain = EmbeddingLRP(net, EpsilonPlus()).attribute(x)
    found = EmbeddingLRP(net, EpsilonPlus(), normalize=True).attribute(x)
    close(found, plain / net(x).detach().norm(dim=1)[:, None, None])


class Normed(nn.Module):
    """A batch norm, which needs a canonizer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4)
        self.act, self.pool = nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        with torch.no_grad():
            self.norm.running_mean.normal_()
            self.norm.running_var.fill_(1e-4)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.act(self.norm(self.conv(x)))).flatten(1)


def test_relevance_that_is_not_conserved_warns(recwarn: Any) -> None:
    net, x = Normed().double().eval(), torch.rand(1, 3, 5, 5).double()
    canonized = rules(Epsilon())
    canonized.canonizers = [SequentialMergeBatchNorm()]
    mask = grid(5, 5)
    EmbeddingLRP(net, canonized).attribute(x, mask)
    assert len(recwarn) == 0
    with pytest.warns(UserWarning, match="relevance is not conserved") as caught:
        EmbeddingLRP(net, rules(Epsilon())).attribute(x, mask)
    assert caught[0].filename == __file__


# ---- pairs ---------------------------------------------------------------------------


def test_pairs_are_bilrp() -> None:
    encoders = convolutional(), convolutional()
    x, y = torch.randn(2, 3, 8, 8).double(), torch.randn(2, 3, 8, 8).double()
    mine = EpsilonPlus(), EpsilonGammaBox(-4.0, 4.0)
    pairs = FeaturePairBiLRP(encoders, mine, similarity="dot", scale=2.0)
    masks = grid(8, 4), grid(8, 2)
    found = pairs.attribute((x, y), masks)
    # Eberle et al., eq. 5: an outer product for every embedding dimension
    expected = torch.zeros(2, 4, 16).double()
    first = patches(by_zennit(encoders[0], EpsilonPlus(), x, 4), 4)
    box = EpsilonGammaBox(-4.0, 4.0)
    second = patches(by_zennit(encoders[1], box, y, 4), 2)
    for k in range(4):
        expected += 2 * first[..., k, None] * second[:, None, :, k]
    close(found, expected)
    # whichever side has fewer features
    turned = FeaturePairBiLRP(encoders[::-1], mine[::-1], similarity="dot", scale=2.0)
    close(turned.attribute((y, x), masks[::-1]), expected.transpose(1, 2))
    close(pairs.attribute((x, y), masks, internal_batch_size=1), expected)


def test_siamese_encoder_at_a_layer() -> None:
    net = convolutional()
    x, y = torch.randn(2, 3, 8, 8).double(), torch.randn(2, 3, 8, 8).double()
    pairs = FeaturePairBiLRP(lambda z: net(z), EpsilonPlus(), net, layer=net[4])
    found = pairs.attribute((x, y))
    assert found.shape == (2, 2, 2, 2, 2)
    one = EmbeddingLRP(net, EpsilonPlus(), normalize=True, layer=net[4])
    close(found, pair(one.attribute(x), one.attribute(y)))


def test_channels_last() -> None:
    class Last(nn.Module):
        """(b, 3, h, w) -> (b, 4), by maps (b, h, w, c)."""

        def __init__(self) -> None:
            super().__init__()
            self.maps, self.head = nn.Linear(3, 6), nn.Linear(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            hidden = torch.relu(self.maps(x.movedim(1, -1)))
            return self.head(hidden.mean((1, 2)))

    net, x = Last().double().eval(), torch.randn(2, 3, 2, 5).double()
    one = EmbeddingLRP(net, EpsilonPlus(), layer=net.maps, channel_dim=-1)
    found = one.attribute(x)
    assert found.shape == (2, 2, 5, 4)
    pairs = FeaturePairBiLRP(
        net, EpsilonPlus(), layer=net.maps, similarity="dot", channel_dim=(-1, None)
    )
    by_default = EmbeddingLRP(net, EpsilonPlus(), layer=net.maps).attribute(x)
    close(pairs.attribute((x, x)), pair(found, by_default))


def test_single_precision_stays() -> None:
    net, x = convolutional(), torch.randn(1, 3, 8, 8).double()
    expected = EmbeddingLRP(net, EpsilonPlus()).attribute(x, grid(8, 2))
    found = EmbeddingLRP(net.float(), EpsilonPlus()).attribute(x.float(), grid(8, 2))
    assert found.dtype == torch.float32
    close(found.double(), expected, atol=1e-4)


# ---- nothing is left changed ---------------------------------------------------------


def state(net: nn.Module) -> Any:
    """Everything that a composite might leave behind, by identity and by value."""
    parts = []
    for name, part in net.named_modules():
        tables = {
            key: dict(value) if isinstance(value, dict) else value
            for key, value in vars(part).items()
        }
        parts.append((name, tables))
    tensors = [
        (each, each.data_ptr(), each.detach().clone(), each.requires_grad, each.grad)
        for each in (*net.parameters(), *net.buffers())
    ]
    return parts, tensors


def same(found: Any, expected: Any) -> None:
    for (name, now), (_, before) in zip(found[0], expected[0], strict=True):
        assert now.keys() == before.keys(), name
        for key, value in before.items():
            if isinstance(value, dict):
                assert now[key].keys() == value.keys(), (name, key)
                assert all(now[key][each] is value[each] for each in value), (name, key)
            else:
                assert now[key] is value, (name, key)
    for now, before in zip(found[1], expected[1], strict=True):
        assert now[0] is before[0] and now[1] == before[1] and now[3:] == before[3:]
        assert torch.equal(now[2], before[2])


@pytest.fixture
def resnet() -> nn.Module:
    net = resnet18(num_classes=4).double().eval()
    net.conv1.weight.requires_grad_(False)
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
    return net


def test_resnet(resnet: nn.Module) -> None:
    x = torch.randn(1, 3, 32, 32).double()
    composite = EpsilonPlus(canonizers=[ResNetCanonizer()])
    before = state(resnet)
    found, delta = EmbeddingLRP(resnet, composite).attribute(
        x, grid(32, 8), return_convergence_delta=True
    )
    same(state(resnet), before)
    again = EpsilonPlus(canonizers=[ResNetCanonizer()])
    expected = patches(by_zennit(copy.deepcopy(resnet), again, x, 4), 8)
    close(found, expected, atol=1e-10)
    # the rest is what the merged batch norms' shifts keep
    assert float(delta.norm() / resnet(x).detach().norm()) < 0.5
    at_layer = EmbeddingLRP(resnet, composite, layer=resnet.layer2).attribute(x)
    assert at_layer.shape == (1, 4, 4, 4)
    same(state(resnet), before)


class Careless:
    """A composite that leaves everything changed, and fails where it is told to."""

    def __init__(self, fails: str) -> None:
        self.fails = fails

    @contextmanager
    def context(self, module: Any) -> Iterator[nn.Module]:
        module[0].weight = nn.Parameter(2 * module[0].weight.detach())
        module[2].weight.data = module[2].weight.data + 1
        module[2].bias = None
        module.extra = nn.ReLU()
        module[1].forward = lambda z: z.clamp_min(0)
        module[1].register_forward_hook(lambda *_: None)
        if self.fails == "entering":
            raise RuntimeError("entering")
        if self.fails == "backward":
            module[1].register_forward_hook(self.hook)
        yield module

    def hook(self, module: nn.Module, args: Any, output: Tensor) -> None:
        def fail(gradient: Tensor) -> None:
            raise RuntimeError("backward")

        if output.requires_grad:
            output.register_hook(fail)


@pytest.mark.parametrize("fails", ["entering", "backward", "not"])
def test_a_careless_composite_changes_nothing(fails: str) -> None:
    net, x = mlp(bias=True), torch.randn(1, 5).double()
    handle = net[0].register_forward_hook(lambda *_: None)
    before, output = state(net), net(x)
    lrp = EmbeddingLRP(net, Careless(fails))
    if fails == "not":
        with pytest.warns(UserWarning, match="relevance is not conserved"):
            lrp.attribute(x)
    else:
        with pytest.raises(RuntimeError, match=fails):
            lrp.attribute(x)
    same(state(net), before)
    assert torch.equal(net(x), output)
    handle.remove()
    assert not net[0]._forward_hooks


def test_a_canonizer_that_does_not_fit_is_undone() -> None:
    # merges the first batch norm, and meets one of another width next
    class Crossed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.norm_a = nn.Linear(3, 4), nn.BatchNorm1d(4)
            self.b, self.norm_b = nn.Linear(4, 2), nn.BatchNorm1d(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.norm_b(self.norm_a(self.a(x))))

    net, x = Crossed().double().eval(), torch.randn(1, 3).double()
    net.norm_a.running_var.fill_(9.0)
    before = state(net)
    composite = EpsilonPlus(canonizers=[SequentialMergeBatchNorm()])
    with pytest.raises(RuntimeError):
        EmbeddingLRP(net, composite).attribute(x)
    same(state(net), before)


# ---- errors --------------------------------------------------------------------------


@pytest.mark.parametrize("composite", [None, "epsilon_plus", Epsilon(), EpsilonPlus])
def test_not_a_composite(composite: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="^composite: "):
        EmbeddingLRP(mlp(), composite)
    with pytest.raises(InvalidArgumentError, match=r"^composite\[1\]: "):
        FeaturePairBiLRP(mlp(), (EpsilonPlus(), composite))


def test_what_the_rules_are_for_has_to_be_a_module() -> None:
    net = mlp()
    with pytest.raises(InvalidArgumentError, match="^module: "):
        EmbeddingLRP(lambda x: net(x), EpsilonPlus())
    with pytest.raises(InvalidArgumentError, match="^module: "):
        EmbeddingLRP(net, EpsilonPlus(), "net")
    with pytest.raises(InvalidArgumentError, match=r"^module\[1\]: "):
        FeaturePairBiLRP((net, lambda x: net(x)), EpsilonPlus())
    with pytest.raises(InvalidArgumentError, match="^module: "):
        FeaturePairBiLRP(net, EpsilonPlus(), (net, net, net))
    with pytest.raises(InvalidArgumentError, match="^composite: "):
        FeaturePairBiLRP(net, (EpsilonPlus(),))


def test_rules_for_no_layer() -> None:
    only = LayerMapComposite([(Convolution, ZPlus())])
    net = mlp()
    before = state(net)
    with pytest.raises(InvalidArgumentError, match="^composite: .*at least one layer"):
        EmbeddingLRP(net, only).attribute(torch.randn(1, 5).double())
    same(state(net), before)


def test_other_arguments() -> None:
    lrp, x = EmbeddingLRP(mlp(), EpsilonPlus()), torch.randn(2, 5).double()
    with pytest.raises(InvalidArgumentError, match="^internal_batch_size: "):
        lrp.attribute(x, internal_batch_size=0)
    with pytest.raises(InvalidArgumentError, match="^feature_mask: "):
        lrp.attribute(x, feature_mask=torch.zeros(2, 4, dtype=torch.long))
    with pytest.raises(InvalidArgumentError, match="^inputs: "):
        lrp.attribute(x.long())
    pairs = FeaturePairBiLRP((mlp(), mlp(k=2)), EpsilonPlus())
    with pytest.raises(InvalidArgumentError, match="same width"):
        pairs.attribute((x, x))
