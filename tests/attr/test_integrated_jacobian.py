"""Contribution vectors of inputs and layers against autograd's full Jacobian."""

from typing import NamedTuple

import pytest
import torch
from captum_pairs.attr import (
    FeaturePairIntegratedGradients,
    IntegratedJacobian,
    LayerFeaturePairIntegratedGradients,
    LayerIntegratedJacobian,
    pair,
)
from captum_pairs.attr._utils.quadrature import quadrature, QUADRATURES
from torch import nn
from torch.autograd.functional import jacobian


def close(found, expected, atol=1e-11):
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


def unit(embeddings):
    return embeddings / embeddings.norm(dim=-1, keepdim=True)


def integrated(encode, values, starts, steps, method="gausslegendre", normalize=False):
    """(b, *value, k) by autograd's Jacobian of (1, *value) -> (1, k) at each node."""

    def one(value):
        embedding = encode(value[None])[0]
        return unit(embedding) if normalize else embedding

    results = []
    for x, r in zip(values.detach(), starts.detach().expand_as(values)):
        total = sum(
            weight * jacobian(one, r + alpha * (x - r)).movedim(0, -1)
            for alpha, weight in zip(*quadrature(steps, method))
        )
        results.append((x - r).unsqueeze(-1) * total)
    return torch.stack(results)


# ---- inputs --------------------------------------------------------------------------


@pytest.mark.parametrize("direction", [None, "forward", "reverse"])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("method", QUADRATURES)
def test_equals_the_quadrature_of_the_jacobian(
    encoders, inputs, baselines, direction, normalize, method
):
    g, x, r = encoders[0], inputs[0], baselines[0]
    attribution = IntegratedJacobian(g, normalize, direction=direction)
    found, delta = attribution.attribute(
        x, r, n_steps=4, method=method, return_convergence_delta=True
    )
    close(found, integrated(g, x, r, 4, method, normalize))
    read = unit if normalize else torch.clone
    close(delta, (found.sum(1) - (read(g(x)) - read(g(r)))).detach())
    assert delta.shape == (2, 4) and found.is_contiguous()
    close(attribution.compute_convergence_delta(found, r, x), delta, 1e-13)


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_feature_pair_attributions_are_its_pairs(encoders, inputs, similarity):
    fpig = FeaturePairIntegratedGradients(encoders, similarity)
    sides = [
        IntegratedJacobian(encode, similarity == "cosine").attribute(x, n_steps=5)
        for encode, x in zip(encoders, inputs)
    ]
    close(fpig.attribute(inputs, n_steps=5), pair(*sides))
    # Every image against every text, from the same vectors.
    table = pair(*sides, all_pairs=True)
    for i in range(2):
        for j in range(2):
            both = inputs[0][i : i + 1], inputs[1][j : j + 1]
            close(fpig.attribute(both, n_steps=5)[0], table[i, j])


def test_masked_contributions_are_sums(encoders, inputs):
    attribution = IntegratedJacobian(encoders[0])
    whole = attribution.attribute(inputs[0], n_steps=3)
    mask = torch.tensor([[0, 2, 0], [1, 1, 0]])
    found = attribution.attribute(inputs[0], feature_mask=mask, n_steps=3)
    zero = torch.zeros(4, dtype=torch.float64)
    close(found[0], torch.stack([whole[0, 0] + whole[0, 2], zero, whole[0, 1]]))
    close(found[1], torch.stack([whole[1, 2], whole[1, 0] + whole[1, 1], zero]))


def test_local_contributions_are_the_averaged_jacobian(encoders, inputs):
    g, x = encoders[0], inputs[0]
    attribution = IntegratedJacobian(g, multiply_by_inputs=False)
    found = attribution.attribute(x, n_steps=4)
    close(found * x.unsqueeze(-1), integrated(g, x, 0 * x, 4))
    assert not attribution.multiplies_by_inputs
    assert not attribution.has_convergence_delta()


def test_no_tolerance_reports_the_residual_of_exactly_the_steps(encoders, inputs):
    g, x = encoders[0], 3 * inputs[0]
    chosen = IntegratedJacobian(g).choose_steps(x, n_steps=3, tolerance=None)
    difference = (g(x) - g(0 * x)).detach()
    residual = integrated(g, x, 0 * x, 3).sum(1) - difference
    assert chosen.n_steps.tolist() == [3] * len(chosen.residual)
    close(chosen.residual, residual.norm(dim=1) / difference.norm(dim=1))


# ---- layers --------------------------------------------------------------------------


class Permute(nn.Module):
    def forward(self, x):
        return x.permute(0, 2, 3, 1)


class ChannelsLast(nn.Module):
    """``cnn`` with a layer whose value is (b, h, w, c)."""

    def __init__(self, cnn):
        super().__init__()
        self.front, self.last, self.tail = cnn[0], Permute(), cnn[1:]

    def forward(self, x):
        return self.tail(self.last(self.front(x)).permute(0, 3, 1, 2))


IMAGES = torch.linspace(-1, 2, 2 * 2 * 8 * 8).reshape(2, 2, 8, 8).double().cos()
GREY = torch.full((1, 2, 8, 8), 0.3).double()


@pytest.mark.parametrize("direction", [None, "forward", "reverse"])
@pytest.mark.parametrize("normalize", [False, True])
def test_feature_map_has_its_places_as_features(cnn, direction, normalize):
    front, tail = cnn[0], cnn[1:]
    expected = integrated(
        tail, front(IMAGES), front(GREY), 3, normalize=normalize
    )  # (b, c, h, w, k)
    attribution = LayerIntegratedJacobian(cnn, front, normalize, direction=direction)
    found, delta = attribution.attribute(
        IMAGES, GREY, n_steps=3, return_convergence_delta=True
    )
    assert found.shape == (2, 4, 4, 4)
    close(found, expected.sum(1))
    read = unit if normalize else torch.clone
    target = (read(cnn(IMAGES)) - read(cnn(GREY))).detach()
    close(delta, found.flatten(1, 2).sum(1) - target)
    close(attribution.compute_convergence_delta(found, GREY, IMAGES), delta, 1e-13)
    # Channels as features, of any place.
    mask = torch.tensor([2, 0, 1]).reshape(1, 3, 1, 1)
    channels = attribution.attribute(IMAGES, GREY, mask, n_steps=3)
    close(channels, expected.sum((2, 3))[:, [1, 2, 0]])
    # The input of the next layer is this one's output.
    after = LayerIntegratedJacobian(cnn, cnn[1], normalize, direction=direction)
    options = dict(n_steps=3, attribute_to_layer_input=True)
    close(after.attribute(IMAGES, GREY, **options), found, 1e-13)
    again = after.compute_convergence_delta(
        found, GREY, IMAGES, attribute_to_layer_input=True
    )
    close(again, delta, 1e-13)
    chosen = [
        attribution.choose_steps(IMAGES, GREY, n_steps=3, tolerance=None),
        after.choose_steps(IMAGES, GREY, tolerance=None, **options),
    ]
    close(chosen[0].residual, delta.norm(dim=1) / target.norm(dim=1))
    close(chosen[1].residual, chosen[0].residual, 1e-13)


@pytest.mark.parametrize(
    "channel_dim, axis, shape",
    [(None, 1, (4, 4)), (1, 1, (4, 4)), (-1, 3, (3, 4)), (2, 2, (3, 4))],
)
def test_channel_dim_says_what_is_summed(cnn, channel_dim, axis, shape):
    expected = integrated(cnn[1:], cnn[0](IMAGES), cnn[0](0 * IMAGES), 2).sum(axis)
    attribution = LayerIntegratedJacobian(cnn, cnn[0], channel_dim=channel_dim)
    found = attribution.attribute(IMAGES, n_steps=2)
    assert found.shape == (2, *shape, 4)
    close(found, expected)


def test_channels_last_maps(cnn):
    encoder = ChannelsLast(cnn)
    expected = LayerIntegratedJacobian(cnn, cnn[0]).attribute(IMAGES, n_steps=2)
    attribution = LayerIntegratedJacobian(encoder, encoder.last, channel_dim=-1)
    close(attribution.attribute(IMAGES, n_steps=2), expected)


def test_layer_without_positions_has_its_units_as_features(cnn):
    fpig = LayerIntegratedJacobian(cnn, cnn[4])
    expected = integrated(cnn[5:], cnn[:5](IMAGES), cnn[:5](0 * IMAGES), 2)
    found = fpig.attribute(IMAGES, n_steps=2)
    assert found.shape == (2, 8, 4)
    close(found, expected)


# ---- tokens --------------------------------------------------------------------------

MASK = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]]).double()


def tail_of(encoder):
    """``TokenEncoder`` from the output of its block on."""

    def tail(value, mask):
        pooled = (mask.unsqueeze(-1) * value).sum(1) / mask.sum(-1, keepdim=True)
        return encoder.head(pooled)

    return tail


def block_value(encoder, x):
    hidden = torch.tanh(encoder.front(x))
    attention = (hidden @ hidden.transpose(-1, -2)).softmax(dim=-1)
    return encoder.block(hidden + attention @ hidden).detach()


@pytest.mark.parametrize("batched_baseline", [False, True])
def test_baseline_at_a_layer_keeps_the_inputs_mask(token_encoder, batched_baseline):
    encoder = token_encoder()
    x, r = torch.randn(2, 4, 3).double(), torch.randn(2, 4, 3).double()
    r = r if batched_baseline else r[:1]
    tail, attribution = tail_of(encoder), LayerIntegratedJacobian(
        encoder, encoder.block
    )
    found, delta = attribution.attribute(
        x,
        r,
        additional_forward_args=MASK,
        n_steps=2,
        return_convergence_delta=True,
    )
    values, starts = block_value(encoder, x), block_value(encoder, r).expand(2, -1, -1)
    for row in range(2):
        mask = MASK[row : row + 1]
        expected = integrated(
            lambda v: tail(v, mask), values[row : row + 1], starts[row : row + 1], 2
        )
        close(found[row], expected[0].sum(1))  # (t, d, k) -> (t, k)
    # From x's own forward pass with the baseline's value in it, padding and all.
    target = tail(values, MASK) - tail(starts, MASK)
    close(delta, (found.sum(1) - target).detach())
    assert found.shape == (2, 4, 5)
    close(found[0, 3], torch.zeros(5).double(), 0)


class Named(NamedTuple):
    step: torch.Tensor
    hidden: torch.Tensor


class Wrapped(nn.Module):
    """``TokenEncoder`` whose block is called and answers in another way."""

    def __init__(self, encoder, wrap, unwrap, keyword):
        super().__init__()
        self.encoder, self.wrap, self.unwrap = encoder, wrap, unwrap
        self.inner, self.keyword = encoder.block, keyword
        outer = self

        class Block(nn.Module):
            def forward(self, hidden=None, step=None):
                return outer.wrap(outer.inner(hidden))

        self.block = Block()

    def forward(self, x):
        encoder = self.encoder
        hidden = torch.tanh(encoder.front(x))
        attention = (hidden @ hidden.transpose(-1, -2)).softmax(dim=-1)
        hidden = hidden + attention @ hidden
        step = torch.arange(3)
        out = (
            self.block(step=step, hidden=hidden) if self.keyword else self.block(hidden)
        )
        return encoder.head(self.unwrap(out).mean(1))


WRAPPINGS = {
    "tuple": (lambda v: (torch.arange(2), v, v + 1), lambda out: out[1]),
    "list": (lambda v: [v, None], lambda out: out[0]),
    "dict": (lambda v: {"ids": torch.arange(2), "v": v}, lambda out: out["v"]),
    "named tuple": (lambda v: Named(torch.arange(2), v), lambda out: out.hidden),
    "tokens first": (lambda v: v.transpose(0, 1), lambda out: out.transpose(0, 1)),
}


@pytest.mark.parametrize("keyword", [False, True])
@pytest.mark.parametrize("wrapping", list(WRAPPINGS))
def test_layers_called_and_answering_in_every_way(token_encoder, wrapping, keyword):
    encoder, x = token_encoder(), torch.randn(2, 4, 3).double()
    wrapped = Wrapped(encoder, *WRAPPINGS[wrapping], keyword)
    for at_input in (False, True):
        options = dict(n_steps=3, attribute_to_layer_input=at_input)
        expected = LayerIntegratedJacobian(encoder, encoder.block).attribute(
            x, **options
        )
        found = LayerIntegratedJacobian(wrapped, wrapped.block).attribute(x, **options)
        close(found, expected, 1e-13)


@pytest.mark.parametrize("channel_dim, axis", [(0, 1), (2, 2), (-1, 2), (None, 2)])
def test_channel_dim_where_tokens_are_before_the_batch(
    token_encoder, channel_dim, axis
):
    encoder, x = token_encoder(), torch.randn(2, 4, 3).double()
    wrapped = Wrapped(encoder, *WRAPPINGS["tokens first"], False)
    values, starts = block_value(encoder, x), block_value(encoder, 0 * x)
    ones = torch.ones(1, 4).double()
    whole = integrated(lambda v: tail_of(encoder)(v, ones), values, starts, 2)
    attribution = LayerIntegratedJacobian(
        wrapped, wrapped.block, channel_dim=channel_dim
    )
    close(attribution.attribute(x, n_steps=2), whole.sum(axis))
    # A mask has the layer's dimensions, the batch's second.
    mask = torch.tensor([0, 1, 1, 0]).reshape(4, 1, 1)
    found = attribution.attribute(x, feature_mask=mask, n_steps=2)
    tokens = whole.sum(2)
    pairs = tokens[:, 0] + tokens[:, 3], tokens[:, 1] + tokens[:, 2]
    close(found, torch.stack(pairs, dim=1))
    # And of each example its own.
    masks = torch.cat([mask, 1 - mask], dim=1)
    found = attribution.attribute(x, feature_mask=masks, n_steps=2)
    swapped = pairs[1][1], pairs[0][1]
    close(found[1], torch.stack(swapped))
    close(found[0], torch.stack([pairs[0][0], pairs[1][0]]))


# ---- pairs at layers -----------------------------------------------------------------


@pytest.mark.parametrize("similarity", ["cosine", "dot", "frozen_cosine"])
def test_layer_pairs_are_pairs_of_layer_contributions(cnn, token_encoder, similarity):
    texts = token_encoder(k=4)
    y, args = torch.randn(2, 4, 3).double(), (None, MASK)
    options = dict(
        baselines=(GREY, None),
        additional_forward_args=args,
        n_steps=64,
        tolerance=1e-11,
    )
    normalize = similarity == "cosine"
    first = LayerIntegratedJacobian(cnn, cnn[0], normalize)
    second = LayerIntegratedJacobian(texts, texts.block, normalize)
    steps = dict(n_steps=64, tolerance=1e-11)
    c_x = first.attribute(IMAGES, GREY, **steps)
    c_y = second.attribute(y, additional_forward_args=MASK, **steps)
    scale = 1.0
    if similarity == "frozen_cosine":
        scale = (1 / cnn(IMAGES).norm(dim=1) / texts(y, MASK).norm(dim=1)).detach()
        scale = scale.reshape(2, 1, 1, 1)
    fpig = LayerFeaturePairIntegratedGradients(
        (cnn, texts), (cnn[0], texts.block), similarity
    )
    found, delta = fpig.attribute((IMAGES, y), **options, return_convergence_delta=True)
    assert found.shape == (2, 4, 4, 4)
    close(found, scale * pair(c_x, c_y))
    close(delta, torch.zeros(2).double(), 1e-9)
    parts = fpig.decompose((IMAGES, y), **options)
    close(parts.interactions, found)
    close(parts.score, fpig.forward_func(IMAGES, y, None, MASK).detach())
    total = parts.constant + parts.first.sum((1, 2)) + parts.second.sum(1)
    close(total + found.flatten(1).sum(1), parts.score, 1e-9)
    given = dict(additional_forward_args=args)
    again = fpig.compute_convergence_delta(found, (GREY, None), (IMAGES, y), **given)
    close(again, delta, 1e-13)
    chosen = fpig.choose_steps((IMAGES, y), (GREY, None), args, **steps)
    assert [c.n_steps.tolist() for c in chosen] == [
        first.choose_steps(IMAGES, GREY, **steps).n_steps.tolist(),
        second.choose_steps(y, None, MASK, **steps).n_steps.tolist(),
    ]


def test_layer_on_one_side_and_input_on_the_other(cnn, token_encoder):
    texts, y = token_encoder(k=4), torch.randn(2, 4, 3).double()
    layered = LayerFeaturePairIntegratedGradients((cnn, texts), (cnn[0], None), "dot")
    found = layered.attribute((IMAGES, y), n_steps=2)
    c_x = LayerIntegratedJacobian(cnn, cnn[0]).attribute(IMAGES, n_steps=2)
    c_y = IntegratedJacobian(texts).attribute(y, n_steps=2)
    close(found, pair(c_x, c_y))
    assert found.shape == (2, 4, 4, 4, 3)
    none = LayerFeaturePairIntegratedGradients((cnn, texts), (None, None), "dot")
    plain = FeaturePairIntegratedGradients((cnn, texts), "dot")
    close(
        none.attribute((IMAGES, y), n_steps=2),
        plain.attribute((IMAGES, y), n_steps=2),
        0,
    )


def test_one_layer_serves_both_sides(token_encoder):
    encoder = token_encoder()
    x, y = torch.randn(2, 4, 3).double(), torch.randn(2, 2, 3).double()
    single = LayerFeaturePairIntegratedGradients(encoder, encoder.block)
    double = LayerFeaturePairIntegratedGradients(
        (encoder, encoder), (encoder.block, encoder.block)
    )
    assert single.layer == (encoder.block, encoder.block)
    sides = [
        LayerIntegratedJacobian(encoder, encoder.block, True).attribute(z, n_steps=3)
        for z in (x, y)
    ]
    close(single.attribute((x, y), n_steps=3), pair(*sides))
    close(double.attribute((x, y), n_steps=3), pair(*sides))


def test_channel_dim_of_each_side(cnn, token_encoder):
    texts, y = token_encoder(k=4), torch.randn(2, 4, 3).double()
    inputs, layers = (IMAGES, y), (cnn[0], texts.block)
    for given, shape in (
        ((2, 1), (2, 3, 4, 4)),
        ((None, -1), (2, 4, 4, 4)),
        (1, (2, 4, 4, 4)),
    ):
        fpig = LayerFeaturePairIntegratedGradients(
            (cnn, texts), layers, channel_dim=given
        )
        assert fpig.attribute(inputs, n_steps=1).shape == shape


def test_integer_ids_at_an_embedding_layer():
    encoder = nn.Sequential(
        nn.Embedding(9, 3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 4)
    )
    encoder = encoder.double()
    ids, blank = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 7]]), torch.tensor(
        [[8, 8, 8, 8]]
    )
    attribution = LayerIntegratedJacobian(encoder, encoder[0])
    values, start = encoder[0](ids), encoder[0](blank)
    expected = integrated(encoder[1:], values, start, 4).sum(2)
    for baseline in (blank, 8, torch.tensor(8), blank.expand(2, 4)):
        found = attribution.attribute(ids, baseline, n_steps=4)
        close(found, expected)
        assert found.dtype == torch.float64
