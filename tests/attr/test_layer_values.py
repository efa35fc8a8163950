"""
What layers take in and give out: tuples, mappings, keyword arguments, other axes.

The oracle is the rest of the encoder as an encoder of its own: the path at a layer is
the path at the input of what comes after it.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple, Optional

import pytest
import torch
from captum_pairs.attr import (
    IntegratedJacobian,
    LayerFeaturePairIntegratedGradients,
    LayerIntegratedJacobian,
)
from torch import nn, Tensor
from transformers.modeling_outputs import BaseModelOutput, BaseModelOutputWithPooling

TOKENS, WIDTH = 3, 4


class Named(NamedTuple):
    ids: Tensor
    hidden: Tensor
    weights: Optional[Tensor] = None


def numbers(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


class Mix(nn.Module):
    """A smooth map of (b, tokens, d) that mixes tokens and channels."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.channels = nn.Parameter(numbers(WIDTH, WIDTH, seed=seed))
        self.tokens = nn.Parameter(numbers(TOKENS, TOKENS, seed=seed + 1))

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + torch.tanh(self.tokens @ hidden @ self.channels)


# How a layer packs its value, and how the encoder takes it out again.
PACKINGS: dict[str, tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]] = {
    "tensor": (lambda hidden: hidden, lambda out: out),
    "tuple": (lambda hidden: (hidden, None), lambda out: out[0]),
    # Ids come first: they are no floating tensor.
    "tuple with ids": (
        lambda hidden: (torch.arange(3), hidden, 7),
        lambda out: out[1],
    ),
    "list": (lambda hidden: [hidden, hidden.detach() * 2], lambda out: out[0]),
    "dict": (
        lambda hidden: {"mask": torch.ones(1, dtype=torch.long), "hidden": hidden},
        lambda out: out["hidden"],
    ),
    "ordered dict": (
        lambda hidden: OrderedDict(hidden=hidden, other=None),
        lambda out: out["hidden"],
    ),
    "named tuple": (
        lambda hidden: Named(torch.arange(3), hidden),
        lambda out: out.hidden,
    ),
    "Hugging Face output": (
        lambda hidden: BaseModelOutput(last_hidden_state=hidden),
        lambda out: out.last_hidden_state,
    ),
    "Hugging Face output with more": (
        lambda hidden: BaseModelOutputWithPooling(
            last_hidden_state=hidden, pooler_output=None, attentions=(hidden * 2,)
        ),
        lambda out: out[0],
    ),
}


class Packing(nn.Module):
    def __init__(self, packing: str) -> None:
        super().__init__()
        self.mix = Mix(4)
        self.pack, _ = PACKINGS[packing]

    def forward(self, hidden: Tensor) -> Any:
        return self.pack(self.mix(hidden))


class Encoder(nn.Module):
    """front -> layer -> back -> mean over tokens, (b, tokens, d) -> (b, d)."""

    def __init__(self, layer: nn.Module, call: Callable[[nn.Module, Tensor], Tensor]):
        super().__init__()
        self.front, self.layer, self.back = Mix(1), layer, Mix(8)
        self.call = call

    def tail(self, hidden: Tensor) -> Tensor:
        """The encoder from its layer's output on."""
        return (self.back(hidden) ** 2).mean(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.call(self.layer, self.front(x)))


def check(
    encoder: Callable[[Tensor], Tensor],
    layer: nn.Module,
    value: Callable[[Tensor], Tensor],
    tail: Callable[[Tensor], Tensor],
    **options: Any,
) -> None:
    """Attributions at ``layer``, whose value is ``value(x)``, are those of ``tail``."""
    at_input = options.pop("attribute_to_layer_input", False)
    x, baseline = numbers(2, TOKENS, WIDTH, seed=20), numbers(1, TOKENS, WIDTH, seed=21)
    with torch.no_grad():
        end, start = value(x), value(baseline)
    for direction in ("forward", "reverse"):
        found, delta = LayerIntegratedJacobian(
            encoder, layer, True, direction=direction, **options
        ).attribute(
            x,
            baseline,
            n_steps=24,
            attribute_to_layer_input=at_input,
            return_convergence_delta=True,
        )
        scalars = IntegratedJacobian(tail, True, direction=direction).attribute(
            end, start, n_steps=24
        )
        # (b, tokens, d, k) -> (b, tokens, k)
        torch.testing.assert_close(found, scalars.sum(dim=2), rtol=0, atol=1e-12)
        assert found.abs().max() > 1e-3 and delta.abs().max() < 0.1


@pytest.mark.parametrize("packing", PACKINGS)
def test_what_a_layer_gives_out(packing: str) -> None:
    _, unpack = PACKINGS[packing]
    encoder = Encoder(Packing(packing), lambda layer, hidden: unpack(layer(hidden)))
    check(
        encoder,
        encoder.layer,
        lambda x: unpack(encoder.layer(encoder.front(x))),
        encoder.tail,
    )


class Taking(nn.Module):
    """Takes its value among other arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = Mix(4)

    def forward(
        self,
        ids: Optional[Tensor] = None,
        hidden: Optional[Tensor] = None,
        scale: float = 1.0,
    ) -> Tensor:
        assert hidden is not None
        return self.mix(hidden) * scale


@pytest.mark.parametrize(
    "call",
    [
        lambda layer, hidden: layer(hidden=hidden),
        lambda layer, hidden: layer(scale=1.0, hidden=hidden, ids=torch.arange(2)),
        lambda layer, hidden: layer(torch.arange(2), hidden=hidden),
        lambda layer, hidden: layer(torch.arange(2), hidden),
        lambda layer, hidden: layer(None, hidden, scale=1.0),
    ],
    ids=["keyword", "keywords", "both", "positions", "none first"],
)
@pytest.mark.parametrize("at_input", [True, False])
def test_how_a_layer_is_called(
    call: Callable[[nn.Module, Tensor], Tensor], at_input: bool
) -> None:
    encoder = Encoder(Taking(), call)

    def from_input(hidden: Tensor) -> Tensor:
        return encoder.tail(encoder.layer.mix(hidden))  # type: ignore[operator]

    def output(x: Tensor) -> Tensor:
        return call(encoder.layer, encoder.front(x))

    check(
        encoder,
        encoder.layer,
        encoder.front if at_input else output,
        from_input if at_input else encoder.tail,
        attribute_to_layer_input=at_input,
    )


# ---- what surrounds the layer ------------------------------------------------


class InPlace(nn.Module):
    """Writes into what it gets, and gives it out."""

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden.mul_(0.5).add_(1.0)


@pytest.mark.parametrize("at_input", [True, False])
def test_a_layer_that_writes_into_its_input(at_input: bool) -> None:
    encoder = Encoder(InPlace(), lambda layer, hidden: layer(hidden))

    def halved(hidden: Tensor) -> Tensor:
        return hidden * 0.5 + 1.0

    check(
        encoder,
        encoder.layer,
        encoder.front if at_input else lambda x: halved(encoder.front(x)),
        (lambda hidden: encoder.tail(halved(hidden))) if at_input else encoder.tail,
        attribute_to_layer_input=at_input,
    )


@pytest.mark.parametrize("at_input", [True, False])
def test_a_layer_whose_output_is_written_into(at_input: bool) -> None:
    """As by ``nn.ReLU(inplace=True)`` after it, in every ResNet."""
    encoder = Encoder(Mix(4), lambda layer, hidden: layer(hidden).mul_(0.5).add_(1.0))

    def rest(hidden: Tensor) -> Tensor:
        return encoder.tail(hidden * 0.5 + 1.0)

    check(
        encoder,
        encoder.layer,
        encoder.front if at_input else lambda x: encoder.layer(encoder.front(x)),
        (lambda hidden: rest(encoder.layer(hidden))) if at_input else rest,
        attribute_to_layer_input=at_input,
    )


class Branches(nn.Module):
    """
    What ran before the layer is needed after it: a gate, and a shared module that runs
    on both sides of the layer; and a module's output is written into afterwards.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.shared = Mix(30), Mix(32)
        self.written, self.layer = Mix(34), Mix(36)

    def before(self, x: Tensor) -> tuple[Tensor, Tensor]:
        written = self.written(x)
        written *= 2.0
        return torch.sigmoid(self.gate(x)) + written, self.shared(x)

    def after(self, gate: Tensor, hidden: Tensor) -> Tensor:
        return (self.shared(hidden) * gate).mean(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        gate, hidden = self.before(x)
        return self.after(gate, self.layer(hidden))


def test_what_ran_before_the_layer_is_still_right_after_it() -> None:
    encoder = Branches()
    x, baseline = numbers(2, TOKENS, WIDTH, seed=20), numbers(1, TOKENS, WIDTH, seed=21)
    with torch.no_grad():
        gates, hidden = encoder.before(x)
        end, start = encoder.layer(hidden), encoder.layer(encoder.before(baseline)[1])
    found, delta = LayerIntegratedJacobian(encoder, encoder.layer).attribute(
        x, baseline, n_steps=24, return_convergence_delta=True
    )
    for row in range(2):
        # The gate is the input's own all along the path.
        expected = IntegratedJacobian(
            lambda hidden: encoder.after(gates[row : row + 1], hidden)
        ).attribute(end[row : row + 1], start, n_steps=24)
        torch.testing.assert_close(
            found[row], expected[0].sum(dim=1), rtol=0, atol=1e-12
        )
    assert delta.abs().max() < 0.1


# ---- other axes --------------------------------------------------------------


class TokensFirst(nn.Module):
    """Blocks of (tokens, b, d), as OpenAI's ``clip`` has them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = self.block(), self.block()

    @staticmethod
    def block() -> nn.Module:
        torch.manual_seed(3)
        return nn.TransformerEncoderLayer(
            WIDTH, 2, 8, dropout=0.0, activation="gelu", norm_first=True
        )

    def tail(self, hidden: Tensor) -> Tensor:
        return self.second(hidden.transpose(0, 1))[0]

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x.transpose(0, 1)))[0]


@pytest.mark.parametrize("training", [False, True])
def test_blocks_with_the_batch_in_dimension_1(training: bool) -> None:
    encoder = TokensFirst().double().train(training)
    check(
        encoder,
        encoder.first,
        lambda x: encoder.first(x.transpose(0, 1)).transpose(0, 1),
        encoder.tail,
    )


class ChannelsLast(nn.Module):
    """A map (b, h, w, c), as some convolutional networks pass them on."""

    def __init__(self) -> None:
        super().__init__()
        self.grow = nn.Conv2d(3, 5, 2, 2)
        self.last = nn.Identity()
        self.head = nn.Linear(5, 6)

    def features(self, x: Tensor) -> Tensor:
        return torch.tanh(self.grow(x)).permute(0, 2, 3, 1)

    def tail(self, hidden: Tensor) -> Tensor:
        return torch.tanh(self.head(hidden)).sum(dim=(1, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.last(self.features(x)))


@pytest.mark.parametrize("channel_dim", [3, -1])
def test_channels_last_maps(channel_dim: int) -> None:
    torch.manual_seed(0)
    encoder = ChannelsLast().double()
    images = numbers(2, 3, 8, 6, seed=9)
    with torch.no_grad():
        end = encoder.features(images)
        start = encoder.features(torch.zeros_like(images))
    found = LayerIntegratedJacobian(
        encoder, encoder.last, channel_dim=channel_dim
    ).attribute(images, n_steps=8)
    scalars = IntegratedJacobian(encoder.tail).attribute(end, start, n_steps=8)
    assert found.shape == (2, 4, 3, 6)
    torch.testing.assert_close(found, scalars.sum(dim=3), rtol=0, atol=1e-12)


def test_an_unpooled_layer_has_its_units_as_features() -> None:
    encoder = nn.Sequential(nn.Linear(4, 7), nn.Tanh(), nn.Linear(7, 3)).double()
    x = numbers(2, 4, seed=1)
    found = LayerIntegratedJacobian(encoder, encoder[1]).attribute(x, n_steps=8)
    with torch.no_grad():
        values, starts = encoder[:2](x), encoder[:2](torch.zeros_like(x))
        # Linear from there on: (b, 7, 1) * (7, 3).
        expected = (values - starts).unsqueeze(-1) * encoder[2].weight.T
    torch.testing.assert_close(found, expected)


# ---- PyTorch's transformer ---------------------------------------------------


# PyTorch's own inference kernel, in the test's plain forward passes.
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("at_input", [False, True])
@pytest.mark.parametrize("direction", [None, "forward", "reverse"])
def test_pytorch_transformer_encoder(
    direction: Optional[str], at_input: bool, padded: bool
) -> None:
    """Its inference kernel passes by the layers inside, and packs padded batches."""
    torch.manual_seed(1)
    block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    stack = nn.TransformerEncoder(block, 3).double().eval()
    for parameter in stack.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    stack.requires_grad_(False)
    padding = torch.tensor([[False] * 5, [False, False, False, True, True]])

    def embed(x: Tensor, padding: Optional[Tensor] = None) -> Tensor:
        hidden = stack(x, src_key_padding_mask=padding)
        if padding is None:
            return hidden.mean(dim=1)
        kept = ~padding.unsqueeze(-1)
        return (hidden * kept).sum(dim=1) / kept.sum(dim=1)

    x = numbers(2, 5, 8, seed=2)
    assert torch.backends.mha.get_fastpath_enabled()
    with torch.no_grad():
        fast = embed(x, padding if padded else None)
    found, delta = LayerIntegratedJacobian(
        embed, stack.layers[1], direction=direction
    ).attribute(
        x,
        additional_forward_args=padding if padded else None,
        tolerance=1e-3,
        n_steps=512,
        attribute_to_layer_input=at_input,
        return_convergence_delta=True,
    )
    assert torch.backends.mha.get_fastpath_enabled()
    with torch.no_grad():
        assert torch.equal(embed(x, padding if padded else None), fast)
    # ReLU's kinks: the sum is complete to the tolerance, for what the model gives.
    assert delta.norm() <= 2e-3 * fast.norm()
    assert found.shape == (2, 5, 8)
    if padded:
        assert found[1, 3:].abs().max() == 0.0
        # The example alone, without its padding.
        alone = LayerIntegratedJacobian(embed, stack.layers[1]).attribute(
            x[1:, :3], n_steps=16, attribute_to_layer_input=at_input
        )
        together = LayerIntegratedJacobian(embed, stack.layers[1]).attribute(
            x,
            additional_forward_args=padding,
            n_steps=16,
            attribute_to_layer_input=at_input,
        )
        torch.testing.assert_close(together[1, :3], alone[0], rtol=0, atol=1e-10)


def test_multihead_attention_as_the_layer() -> None:
    """It gives out a tuple of its value and its weights."""
    torch.manual_seed(2)
    attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True).double().eval()

    def call(layer: nn.Module, hidden: Tensor) -> Tensor:
        return layer(hidden, hidden, hidden)[0]

    encoder = Encoder(attention, call)
    check(encoder, attention, lambda x: call(attention, encoder.front(x)), encoder.tail)


# ---- one module for both sides -----------------------------------------------


@pytest.mark.parametrize("similarity", ["cosine", "dot", "frozen_cosine"])
@pytest.mark.parametrize("direction", [None, "forward", "reverse"])
def test_one_encoder_and_one_layer_for_both_sides(
    direction: Optional[str], similarity: str
) -> None:
    encoder = Encoder(Mix(4), lambda layer, hidden: layer(hidden))
    x, y = numbers(2, TOKENS, WIDTH, seed=1), numbers(2, TOKENS, WIDTH, seed=2)
    start = numbers(1, TOKENS, WIDTH, seed=3)
    fpig = LayerFeaturePairIntegratedGradients(
        encoder, encoder.layer, similarity, direction=direction
    )
    found = fpig.attribute((x, y), (start, 0.3), n_steps=10)
    # Two encoders that have nothing in common but their weights.
    twin = Encoder(Mix(4), encoder.call)
    apart = LayerFeaturePairIntegratedGradients(
        (encoder, twin), (encoder.layer, twin.layer), similarity
    ).attribute((x, y), (start, 0.3), n_steps=10)
    torch.testing.assert_close(found, apart, rtol=0, atol=1e-12)
    swapped = fpig.attribute((y, x), (0.3, start), n_steps=10)
    torch.testing.assert_close(found, swapped.transpose(1, 2), rtol=0, atol=1e-12)
    with torch.no_grad():
        ends, starts = [
            [encoder.layer(encoder.front(side)) for side in sides]
            for sides in ((x, y), (start, torch.full_like(start, 0.3)))
        ]
    scalars = [
        IntegratedJacobian(encoder.tail, similarity == "cosine").attribute(
            end, begin, n_steps=10
        )
        for end, begin in zip(ends, starts)
    ]
    # (b, tokens, d, k) twice -> (b, tokens, tokens)
    expected = torch.einsum("bidk,bjek->bij", *scalars)
    if similarity == "frozen_cosine":
        norms = [encoder(side).norm(dim=1) for side in (x, y)]
        expected = expected / (norms[0] * norms[1])[:, None, None]
    torch.testing.assert_close(found, expected.detach(), rtol=0, atol=1e-12)
