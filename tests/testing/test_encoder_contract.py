"""What breaks an adapter's promises is found, each by the check that is for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

import pytest
import torch
from captum_pairs.models import (
    Encoder,
    EncoderPair,
    Feature,
    Layout,
    Prepared,
    Source,
    TextLengthError,
)
from captum_pairs.testing import BrokenContractError, check_encoder
from torch import nn, Tensor


class _Net(nn.Module):
    """Letters (b, n) to the mean of their vectors."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.embedding = nn.Embedding(128, 6)
            self.block = nn.Linear(6, 4)
            self.drop = nn.Dropout(0.5)
            self.register_buffer("count", torch.zeros(()))

    def forward(self, ids: Tensor) -> Tensor:
        return torch.tanh(self.block(self.embedding(ids))).mean(1)


_TEXTS = ["abc", "letters"]


@dataclass(frozen=True)
class _Letters(Prepared):
    def layout(self, shape: Sequence[int], at_input: bool, tokens: bool) -> Layout:
        features = tuple(
            Feature(letter, span=(at, at + 1))
            for at, letter in enumerate(self.source.text)
        )
        return Layout(features, torch.arange(len(features)).reshape(1, -1, 1))


class _Reader(Encoder):
    kind = "text"

    def __init__(self) -> None:
        self.module = self.net = _Net().eval()
        self.blocks, self.default_block = [self.net.block], 0
        self.entrance = self.net.embedding

    def prepare(self, raw: Any, baseline: Optional[str] = None) -> Prepared:
        self.check_baseline(baseline)
        if not isinstance(raw, str) or not raw.strip():
            raise TextLengthError("text", "letters", "none")
        ids = torch.tensor([[ord(letter) for letter in raw]])
        start = torch.full_like(ids, ord("_"))
        return _Letters(ids, start, Source("text", text=raw), "lines")

    def embed(self, inputs: Tensor, *arguments: Any) -> Tensor:
        found: Tensor = self.net(inputs)
        return found


def _pair(encoder: Encoder) -> EncoderPair:
    return EncoderPair("letters", encoder, encoder)


def _score(first: str, second: str) -> float:
    net = _Net()
    with torch.no_grad():
        ends = [net(torch.tensor([[ord(c) for c in t]])) for t in (first, second)]
    return float(torch.cosine_similarity(*ends))


def test_what_keeps_its_promises() -> None:
    check_encoder(_pair(_Reader()), (_TEXTS, _TEXTS), score=_score)


def _prepared(change: Callable[[Prepared], Prepared]) -> type[_Reader]:
    class Changed(_Reader):
        def prepare(self, raw: Any, baseline: Optional[str] = None) -> Prepared:
            return change(super().prepare(raw, baseline))

    return Changed


def _laid_out(change: Callable[[Layout], Layout]) -> type[_Reader]:
    @dataclass(frozen=True)
    class Changed(_Letters):
        def layout(self, shape: Sequence[int], at_input: bool, tokens: bool) -> Layout:
            return change(super().layout(shape, at_input, tokens))

    return _prepared(lambda p: Changed(p.inputs, p.baseline, p.source, "lines"))


def _renamed(layout: Layout, **changes: Any) -> Layout:
    return replace(
        layout, features=(replace(layout.features[0], **changes), *layout.features[1:])
    )


class _Twice(_Reader):
    def embed(self, inputs: Tensor, *arguments: Any) -> Tensor:
        return super().embed(inputs) + super().embed(inputs.flip(1))


class _ByChance(_Reader):
    def embed(self, inputs: Tensor, *arguments: Any) -> Tensor:
        return self.net(inputs) + torch.rand(1)


class _OfTheBatch(_Reader):
    def embed(self, inputs: Tensor, *arguments: Any) -> Tensor:
        found = super().embed(inputs)
        return found - found.mean(0) / 2


class _Counts(_Reader):
    def embed(self, inputs: Tensor, *arguments: Any) -> Tensor:
        self.net.count.add_(1)
        return super().embed(inputs)


class _Trains(_Reader):
    def embed(self, inputs: Tensor, *arguments: Any) -> Tensor:
        found = super().embed(inputs)
        self.net.drop.train()
        return found


class _Hooks(_Reader):
    def embed(self, inputs: Tensor, *arguments: Any) -> Tensor:
        self.net.block.register_forward_hook(lambda *args: None)
        return super().embed(inputs)


class _Unfrozen(_Reader):
    def embed(self, inputs: Tensor, *arguments: Any) -> Tensor:
        self.net.block.requires_grad_(False)
        return super().embed(inputs)


class _Fragile(_Reader):
    def prepare(self, raw: Any, baseline: Optional[str] = None) -> Prepared:
        self.check_baseline(baseline)
        return super().prepare(raw.casefold(), baseline)


class _Lenient(_Reader):
    def prepare(self, raw: Any, baseline: Optional[str] = None) -> Prepared:
        return super().prepare(raw)


@pytest.mark.parametrize(
    "kind, promise",
    [
        (_prepared(lambda p: replace(p, inputs=p.inputs[0])), "a batch of one"),
        (_prepared(lambda p: replace(p, baseline=p.baseline[:, :1])), "input's shape"),
        (_prepared(lambda p: replace(p, baseline_name="")), "a name in words"),
        (_prepared(lambda p: replace(p, source=Source("image"))), "encoder's kind"),
        (_laid_out(lambda la: replace(la, mask=la.mask * 0)), "every position"),
        (_laid_out(lambda la: replace(la, mask=la.mask.float())), "of int64"),
        (_laid_out(lambda la: replace(la, mask=la.mask[0])), "value's dimensions"),
        (_laid_out(lambda la: _renamed(la, special=True)), "are the last"),
        (_laid_out(lambda la: _renamed(la, name="")), "feature has a name"),
        (_laid_out(lambda la: _renamed(la, span=(0, 99))), "characters of the text"),
        (_laid_out(lambda la: replace(la, grid=(1, 2))), "place of its grid"),
        (_Twice, "is reached once.*reached 2 times"),
        (_ByChance, "alike each time"),
        (_OfTheBatch, "as each of its examples alone"),
        (_Counts, "the buffers of the model"),
        (_Trains, "the modes of the model"),
        (_Hooks, "the hooks of the model"),
        (_Unfrozen, "the flags requires_grad"),
        (_Fragile, "None as text gets an Inv.*found AttributeError"),
        (_Lenient, "a baseline that there is not gets"),
    ],
)
def test_what_breaks_a_promise(kind: type[_Reader], promise: str) -> None:
    with pytest.raises(BrokenContractError, match=promise):
        check_encoder(_pair(kind()), (_TEXTS, _TEXTS))


def test_a_score_that_is_not_the_models() -> None:
    with pytest.raises(BrokenContractError, match="similarity is the model's own, 0.5"):
        check_encoder(
            _pair(_Reader()), (_TEXTS, _TEXTS), score=lambda first, second: 0.5
        )
