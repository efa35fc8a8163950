"""
Behind the layer only rows that reach the embedding are mapped, and what is zero is not
multiplied: what is found is what it is with all of them, or where that can't be told
all of them are mapped.
"""

import gc
import warnings
import weakref
from collections.abc import Callable, Iterator
from functools import partial, reduce
from typing import Any, Optional

import numpy as np
import pytest
import torch
from captum_pairs.attr import (
    ExpectedJacobian,
    IntegratedJacobian,
    JacobianXInput,
    LayerIntegratedJacobian,
)
from captum_pairs.attr._core.integrated_jacobian import Integration, scanned, Wanted
from captum_pairs.attr._utils import example, forward_pass, products, rows
from captum_pairs.attr._utils.rows import Attention, in_common, Kept, only
from torch import nn, Tensor
from torch.nn.attention import sdpa_kernel, SDPBackend
from torch.utils.checkpoint import checkpoint

B, T, D, K = 3, 8, 6, 4
ALL, NEVER = 1, 10**9
EXACT = dict(rtol=0, atol=1e-11)


class Counter(nn.Module):
    """Notes how many rows of how many points it maps."""

    def __init__(self, axis: int = 1) -> None:
        super().__init__()
        self.axis, self.rows = axis, []

    def forward(self, hidden: Tensor) -> Tensor:
        self.rows.append(hidden.shape[self.axis])
        return hidden.tanh()


def mlp(axis: int = 1) -> nn.Sequential:
    layers = nn.Linear(D, 2 * D), Counter(axis), nn.Linear(2 * D, D)
    return nn.Sequential(*layers)


class Tower(nn.Module):
    """(b, T, D) -> (b, K): a layer, attention, normalisation and an MLP with residuals
    around them, and what is read of the rows."""

    def __init__(
        self,
        read: Callable[..., Tensor],
        batch: int = 0,
        block: Optional[nn.Module] = None,
    ) -> None:
        super().__init__()
        self.read, self.batch = read, batch
        self.layer = nn.Linear(D, D)
        self.query, self.key = nn.Linear(D, D), nn.Linear(D, D)
        self.norm = nn.LayerNorm(D)
        self.mlp = mlp(1 - batch) if block is None else block
        self.head = nn.Linear(D, K)
        self.double().eval()

    def rows(self, hidden: Tensor) -> Tensor:
        """From the layer on, (b, T, D)."""
        scores = self.query(hidden) @ self.key(hidden).transpose(-1, -2)
        hidden = hidden + scores.softmax(-1) @ hidden
        hidden = hidden.transpose(0, self.batch)
        return (hidden + self.mlp(self.norm(hidden))).transpose(0, self.batch)

    def tail(self, hidden: Tensor, *args: Any) -> Tensor:
        return self.head(self.read(self.rows(hidden), *args))

    def forward(self, x: Tensor, *args: Any) -> Tensor:
        return self.tail(self.layer(x), *args)

    @property
    def counter(self) -> Counter:
        return next(each for each in self.mlp.modules() if isinstance(each, Counter))


def first(hidden: Tensor) -> Tensor:
    return hidden[:, 0]


def at(hidden: Tensor, place: Tensor) -> Tensor:
    return hidden[torch.arange(len(hidden)), place.expand(len(hidden))]


def chosen(hidden: Tensor, scores: Tensor, count: int, largest: bool) -> Tensor:
    places = scores.topk(count, dim=1, largest=largest).indices
    return hidden.gather(1, places[..., None].expand(-1, -1, D)).mean(1)


def counted(hidden: Tensor) -> Tensor:
    """Of the row that Python chooses."""
    scores = hidden.detach().norm(dim=-1)
    return torch.stack(
        [
            own[min(range(T), key=lambda t: row[t].item())]
            for own, row in zip(hidden, scores)
        ]
    )


X = torch.randn(B, T, D, generator=torch.Generator().manual_seed(5)).double()
PLACES = torch.tensor([2, 5, 7])


@pytest.fixture(autouse=True)
def always_looked_for(monkeypatch: Any) -> Iterator[None]:
    monkeypatch.setattr(example, "_WORTH", ALL)
    yield


def found(encoder: Any, x: Tensor = X, args: Any = None, **options: Any) -> Tensor:
    options = {"n_steps": 6, "method": "gausslegendre", **options}
    direction = options.pop("direction", None)
    attribution = LayerIntegratedJacobian(encoder, encoder.layer, direction=direction)
    values: Tensor = attribution.attribute(x, additional_forward_args=args, **options)
    return values


def with_all_rows(
    monkeypatch: Any, function: Callable[..., Tensor], *args: Any
) -> Tensor:
    with monkeypatch.context() as changed:
        changed.setattr(example, "_WORTH", NEVER)
        return function(*args)


def written_out(encoder: Tower, args: Any = None, n: int = 6) -> Tensor:
    """(b, T, K): the Jacobian behind the layer, at Gauss and Legendre's nodes."""
    nodes, weights = np.polynomial.legendre.leggauss(n)
    rows = []
    with torch.no_grad():
        ends, start = encoder.layer(X), encoder.layer(torch.zeros_like(X[0]))
    for row, end in enumerate(ends):
        own = [args[row : row + 1]] if args is not None else []
        total = torch.zeros(T, K).double()
        for node, weight in zip((nodes + 1) / 2, weights / 2):
            point = start + node * (end - start)
            jacobian = torch.func.jacrev(lambda h: encoder.tail(h[None], *own)[0])(
                point
            )
            total += weight * torch.einsum("ktd,td->tk", jacobian, end - start)
        rows.append(total)
    return torch.stack(rows)


# ---- what is not mapped --------------------------------------------------------


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("batch", [0, 1])
@pytest.mark.parametrize("size", [1, None])
def test_one_row_is_mapped_where_one_is_read(direction, batch, size):
    encoder = Tower(first, batch)
    values = found(encoder, direction=direction, internal_batch_size=size)
    assert encoder.counter.rows[-1] == 1
    torch.testing.assert_close(values, written_out(encoder), **EXACT)


class Causal(Tower):
    """With attention as OpenAI's ``clip`` has it: (tokens, b, d), and a mask."""

    def __init__(self, read: Callable[..., Tensor]) -> None:
        super().__init__(read, batch=1)
        self.attention = nn.MultiheadAttention(D, 2).double()

    def rows(self, hidden: Tensor) -> Tensor:
        hidden = hidden.transpose(0, 1)
        mask = hidden.new_full((T, T), -torch.inf).triu(1)
        near = self.norm(hidden)
        kept = dict(need_weights=False, attn_mask=mask)
        hidden = hidden + self.attention(near, near, near, **kept)[0]
        return (hidden + self.mlp(hidden)).transpose(0, 1)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_the_end_of_a_text(monkeypatch, direction):
    encoder = Causal(at)

    def run():
        return found(encoder, args=PLACES, direction=direction)

    values = run()
    assert encoder.counter.rows[-1] == len(PLACES)
    assert not values[0, int(PLACES[0]) + 1 :].any()
    torch.testing.assert_close(values, with_all_rows(monkeypatch, run), **EXACT)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_rows_of_examples_that_share_a_pass(direction):
    encoder = Tower(at)
    values = found(encoder, args=PLACES, direction=direction)
    # each by itself is asked about its own, and all together are mapped for each
    assert encoder.counter.rows[-1] == len(PLACES)
    torch.testing.assert_close(values, written_out(encoder, PLACES), **EXACT)
    for row in range(B):
        own = found(encoder, X[row : row + 1], PLACES[row : row + 1])
        assert encoder.counter.rows[-1] == 1
        torch.testing.assert_close(own[0], values[row], **EXACT)


def test_at_a_layers_input():
    encoder = Tower(first)
    attribution = LayerIntegratedJacobian(encoder, encoder.norm)
    for at_input in (False, True):
        encoder.counter.rows.clear()
        options = dict(n_steps=6, attribute_to_layer_input=at_input)
        attribution.attribute(X, **options)
        assert encoder.counter.rows[-1] == 1


def test_of_the_input_itself(monkeypatch):
    encoder = Tower(first)
    attribution = IntegratedJacobian(encoder)
    values = attribution.attribute(X, n_steps=6)
    assert encoder.counter.rows[-1] == 1
    expected = with_all_rows(monkeypatch, lambda: attribution.attribute(X, n_steps=6))
    torch.testing.assert_close(values, expected, **EXACT)


def test_of_references(monkeypatch):
    encoder = Tower(first)
    attribution = ExpectedJacobian(encoder, layer=encoder.layer)

    def run():
        return attribution.attribute(X, X.flip(0), n_steps=3)

    values = run()
    assert encoder.counter.rows[-1] == 1
    torch.testing.assert_close(values, with_all_rows(monkeypatch, run), **EXACT)


def test_placed_nodes_with_a_tolerance(monkeypatch):
    encoder = Tower(at)
    options = dict(args=PLACES, n_steps=128, tolerance=1e-6, method=None)
    values = found(encoder, **options)
    assert encoder.counter.rows[-1] <= len(PLACES)
    expected = with_all_rows(monkeypatch, lambda: found(encoder, **options))
    torch.testing.assert_close(values, expected, **EXACT)


def test_a_little_work_is_not_worth_looking(monkeypatch):
    encoder = Tower(first)
    with_all_rows(monkeypatch, found, encoder)
    assert set(encoder.counter.rows) == {T}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision(monkeypatch, dtype):
    encoder = Tower(first).to(dtype)
    values = found(encoder, X.to(dtype))
    assert encoder.counter.rows[-1] == 1
    expected = with_all_rows(monkeypatch, found, encoder, X.to(dtype))
    size = float(expected.abs().max())
    close = 1e-5 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(values, expected, rtol=0, atol=close * size)


def test_under_autocast(monkeypatch):
    encoder = Tower(first).float()
    with torch.autocast("cpu", torch.bfloat16):
        values = found(encoder, X.float())
        assert encoder.counter.rows[-1] == 1
        expected = with_all_rows(monkeypatch, found, encoder, X.float())
    size = float(expected.abs().max())
    torch.testing.assert_close(values, expected, rtol=0, atol=0.05 * size)


# ---- what all rows are mapped for ------------------------------------------------

READS = {
    "mean": lambda h: h.mean(1),
    "largest": lambda h: h.amax(1),
    "pooled": lambda h: nn.functional.max_pool1d(h.transpose(1, 2), T)[..., 0],
    "largest norm": lambda h: at(h, h.norm(dim=-1).argmax(1)),
    "smallest norm": lambda h: at(h, h.norm(dim=-1).argmin(1)),
    "largest norms": lambda h: chosen(h, h.norm(dim=-1), 3, True),
    # NaN is the largest of all: these never choose it
    "smallest norms": lambda h: chosen(h, h.norm(dim=-1), 3, False),
    "smallest of a channel": lambda h: chosen(h, h[..., 0], 3, False),
    # and what is compared with NaN is false
    "gated": lambda h: h[:, 0] + (h * (h[..., :1] > 2.0).to(h)).sum(1),
    "chosen by a gate": lambda h: h[:, 0]
    + torch.where(h[..., :1] > 2.0, h, torch.zeros_like(h)).sum(1),
    "short ones": lambda h: h[:, 0]
    + torch.where(h.norm(dim=-1, keepdim=True) < 1.4, h, torch.zeros_like(h)).sum(1),
    "made a number": lambda h: h.nan_to_num().amax(1),
    "largest number": lambda h: reduce(torch.fmax, h.unbind(1)),
    "signs": lambda h: h[:, 0] + 0.1 * h.sign().sum(1),
    "by Python": counted,
}


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("batch", [0, 1])
def test_all_rows_are_mapped_where_any_may_count(monkeypatch, name, batch):
    encoder = Tower(READS[name], batch)
    # some of several examples may have no derivative in most of their rows
    values = found(encoder)
    assert encoder.counter.rows[-1] == T
    expected = with_all_rows(monkeypatch, found, encoder)
    torch.testing.assert_close(values, expected, **EXACT)


class Steady(nn.Module):
    """An MLP that keeps what is inside, for who reads it elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.inner, self.leave = nn.Linear(D, D), Counter(), nn.Linear(D, D)

    def forward(self, hidden: Tensor) -> Tensor:
        self.kept = self.inner(self.enter(hidden))
        return self.leave(self.kept)


class Shifting(Counter):
    """Moves each row a position on."""

    def forward(self, hidden: Tensor) -> Tensor:
        return super().forward(hidden).roll(1, 1)


class Placing(Counter):
    """Adds something of each position."""

    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.randn(1, T, D))

    def forward(self, hidden: Tensor) -> Tensor:
        return super().forward(hidden) + self.places[:, : hidden.shape[1]]


class Scaling(Counter):
    """Divides by the number of rows, or by one of them, or by the largest of all."""

    def __init__(self, by: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.by = by

    def forward(self, hidden: Tensor) -> Tensor:
        return super().forward(hidden) / self.by(hidden)


BLOCKS = {
    "shifting": (Shifting, first),
    "by position": (Placing, lambda h: h[:, 3]),
    "by the last one": (lambda: Scaling(lambda h: 2 + h[:, -1:].cos()), first),
    "by the largest": (lambda: Scaling(lambda h: h.detach().abs().amax()), first),
    "by their number": (lambda: Scaling(lambda h: h.shape[1]), first),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_modules_that_do_not_map_each_row_for_itself(monkeypatch, name):
    make, read = BLOCKS[name]
    encoder = Tower(read, block=make())
    values = found(encoder)
    assert encoder.counter.rows[-1] == T
    expected = with_all_rows(monkeypatch, found, encoder)
    torch.testing.assert_close(values, expected, **EXACT)


@pytest.mark.parametrize("share", [1.0, 1e-9])
def test_what_is_kept_of_all_rows(monkeypatch, share):
    encoder = Tower(first, block=Steady())
    encoder.read = lambda h: h[:, 0] + share * encoder.mlp.kept.mean(1)
    values = found(encoder)
    assert encoder.counter.rows[-1] == T
    expected = with_all_rows(monkeypatch, found, encoder)
    torch.testing.assert_close(values, expected, rtol=0, atol=1e-15)


def test_what_is_kept_of_a_row_that_counts(monkeypatch):
    encoder = Tower(first, block=Steady())
    encoder.read = lambda h: h[:, 0] + encoder.mlp.kept[:, -1]
    values = found(encoder)
    expected = with_all_rows(monkeypatch, found, encoder)
    torch.testing.assert_close(values, expected, **EXACT)


class InPlace(nn.Module):
    """Writes into what it takes; its return value is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.act = nn.Linear(D, D), nn.ReLU(inplace=True)
        self.same = nn.Identity()

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = self.inner(hidden)
        same = self.same(hidden)
        same += 1.0
        self.act(hidden)
        return hidden.roll(1, 1)


class Writing(Counter):
    """Writes into the rows it takes, and gives others."""

    def forward(self, hidden: Tensor) -> Tensor:
        hidden.clamp_(max=self.most)
        return super().forward(hidden)

    most = 0.5


class Beside(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.writing = nn.Linear(D, D), Writing()

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = self.inner(hidden)
        # rolled, so that all of it does not map each row for itself
        return (self.writing(hidden) + hidden).roll(1, 1)


def test_modules_that_write_where_nothing_shows_it(monkeypatch):
    encoder = Tower(first, block=Beside())
    encoder.mlp.writing.most = 99.0  # at neither end
    values = found(encoder)
    assert encoder.mlp.writing.rows[-1] == T
    expected = with_all_rows(monkeypatch, found, encoder)
    torch.testing.assert_close(values, expected, **EXACT)


@pytest.mark.parametrize("make", [InPlace, Beside])
def test_modules_that_write_into_what_they_take(monkeypatch, make):
    encoder = Tower(first, block=make())
    values = found(encoder)
    expected = with_all_rows(monkeypatch, found, encoder)
    torch.testing.assert_close(values, expected, **EXACT)


class Called(nn.Module):
    """Of modules that are called in a way of their own."""

    def __init__(self, call: Callable[..., Tensor]) -> None:
        super().__init__()
        self.scaled, self.inner, self.call = Scaled(), mlp(), call

    def forward(self, hidden: Tensor) -> Tensor:
        return self.call(self, hidden).roll(1, 1)


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(D, D)

    def forward(self, hidden: Tensor, scale: float = 1.0) -> Tensor:
        return self.linear(hidden) * scale


CALLS = {
    "twice": lambda m, h: m.inner(m.inner(h)),
    "once beside its hooks": lambda m, h: m.inner(m.inner.forward(h)),
    "keyword": lambda m, h: m.inner(m.scaled(h, scale=3.0)),
    "by keyword": lambda m, h: m.inner(m.scaled(hidden=h)),
    "two arguments": lambda m, h: m.inner(m.scaled(h, 3.0)),
    "checkpointed": lambda m, h: checkpoint(m.inner, h, use_reentrant=False),
    "without derivatives": lambda m, h: h + m.inner(h).detach(),
    "point by point": lambda m, h: torch.cat([m.inner(e[None]) for e in h]),
    "row by row": lambda m, h: torch.cat([m.inner(e) for e in h.split(1, 1)], 1),
    "all rows in a row": lambda m, h: m.inner(h.reshape(1, -1, D)).reshape(h.shape),
    "rows as examples": lambda m, h: m.inner(h.reshape(-1, 1, D)).reshape(h.shape),
    "vmap": lambda m, h: torch.vmap(m.inner)(h),
}


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("name", CALLS)
def test_ways_to_call_a_module(monkeypatch, name, direction):
    encoder = Tower(lambda h: h[:, 3], block=Called(CALLS[name]))

    def run():
        return found(encoder, direction=direction)

    torch.testing.assert_close(run(), with_all_rows(monkeypatch, run), **EXACT)


def test_rows_of_points_one_behind_the_other_without_a_baseline(monkeypatch):
    encoder = Tower(lambda h: h[:, 3], block=Called(CALLS["all rows in a row"]))
    attribution = JacobianXInput(encoder, layer=encoder.layer)

    def run():
        return attribution.attribute(X)

    torch.testing.assert_close(run(), with_all_rows(monkeypatch, run), **EXACT)


# ---- attention ---------------------------------------------------------------------

HEADS = 2
MASK = torch.ones(T, T, dtype=torch.bool).tril()
HIDDEN = torch.zeros(T, T).double().masked_fill(~MASK, -torch.inf)


def ask(*args: Any, **kwargs: Any) -> Tensor:
    return nn.functional.scaled_dot_product_attention(*args, **kwargs)


ASKED: dict[str, Callable[..., Tensor]] = {
    "plain": ask,
    "causal": partial(ask, is_causal=True),
    "causal by position": lambda q, k, v: ask(q, k, v, None, 0.0, True),
    "truth values": lambda q, k, v: ask(q, k, v, MASK),
    "numbers": partial(ask, attn_mask=HIDDEN, scale=0.7),
    "for all queries": partial(ask, attn_mask=HIDDEN[-3:-2]),
    "of heads": partial(ask, attn_mask=torch.stack([HIDDEN, HIDDEN / 2])),
    "by keyword": lambda q, k, v: ask(query=q, key=k, value=v),
    "three axes": lambda q, k, v: ask(*(e.flatten(0, 1) for e in (q, k, v))).unflatten(
        0, (-1, HEADS)
    ),
    "fewer keys": lambda q, k, v: ask(q, k[:, :, :5], v[:, :, :5]),
}


class Attending(nn.Module):
    """(b, T, D) -> (b, T, D): attention of two heads, by one projection or three."""

    def __init__(self, asked: Callable[..., Tensor], is_packed: bool) -> None:
        super().__init__()
        self.asked = asked
        widths = [3 * D] if is_packed else [D] * 3
        self.ins = nn.ModuleList(nn.Linear(D, width) for width in widths)
        self.out = nn.Linear(D, D)

    def forward(self, hidden: Tensor) -> Tensor:
        every = torch.cat([each(hidden) for each in self.ins], -1)
        heads = every.unflatten(-1, (3, HEADS, D // HEADS)).permute(2, 0, 3, 1, 4)
        answer: Tensor = self.asked(*heads).transpose(1, 2)
        return self.out(answer.flatten(2).expand_as(hidden))


@pytest.fixture
def queries(monkeypatch: Any) -> list[int]:
    """How many queries attention was asked when it was not asked all of them."""
    found, of = [], Attention.of

    def noted(self: Attention, own: Kept, given: Tensor) -> Tensor:
        found.append(given.shape[-2])
        return of(self, own, given)

    monkeypatch.setattr(Attention, "of", noted)
    return found


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("name", ASKED)
def test_queries_that_do_not_count_are_not_asked(
    monkeypatch, queries, name, is_packed, direction
):
    encoder = Tower(at, block=Attending(ASKED[name], is_packed))

    def run():
        return found(encoder, args=PLACES, direction=direction)

    values = run()
    assert queries[-1] == len(PLACES)
    del queries[:]
    torch.testing.assert_close(values, with_all_rows(monkeypatch, run), **EXACT)
    assert not queries
    with sdpa_kernel(SDPBackend.MATH):  # which vmap knows
        torch.testing.assert_close(values, written_out(encoder, PLACES), **EXACT)


ASKED_OTHERWISE: dict[str, Callable[..., Tensor]] = {
    "twice": lambda q, k, v: ask(q, k, v) + ask(k, q, v),
    "head by head": lambda q, k, v: torch.cat(
        [ask(*(e[:, h : h + 1] for e in (q, k, v))) for h in range(HEADS)], 1
    ),
    "and averaged": lambda q, k, v: ask(q, k, v).mean(2, keepdim=True).expand_as(q),
    "one query": lambda q, k, v: ask(q[:, :, :1], k, v).expand_as(q),
    "by hand": lambda q, k, v: (q @ k.transpose(-1, -2)).softmax(-1) @ v,
    "two axes": lambda q, k, v: torch.stack(
        [torch.stack([ask(*one) for one in zip(*own)]) for own in zip(q, k, v)]
    ),
}


@pytest.mark.parametrize("name", ASKED_OTHERWISE)
def test_all_queries_are_asked_where_any_may_count(monkeypatch, queries, name):
    encoder = Tower(first, block=Attending(ASKED_OTHERWISE[name], False))
    values = found(encoder)
    assert not set(queries) & {1, 2}
    expected = with_all_rows(monkeypatch, found, encoder)
    torch.testing.assert_close(values, expected, **EXACT)


def test_attention_outside_of_modules(monkeypatch, queries):
    encoder = Tower(first)

    def forward(x: Tensor) -> Tensor:
        hidden = encoder.layer(x)
        return encoder.head(ask(hidden, hidden, hidden)[:, 0])

    attribution = LayerIntegratedJacobian(forward, encoder.layer)

    def run():
        return attribution.attribute(X, n_steps=4)

    torch.testing.assert_close(run(), with_all_rows(monkeypatch, run), **EXACT)
    assert not queries


# ---- what another call found -------------------------------------------------------


@pytest.fixture
def looked(monkeypatch: Any) -> list[int]:
    """How many modules were found, each time that they were looked for."""
    found, look = [], forward_pass.rows_that_count

    def noted(*args: Any) -> Any:
        found.append(len(look(*args)))
        return look(*args)

    monkeypatch.setattr(forward_pass, "rows_that_count", noted)
    return found


def test_the_next_call_proves_what_the_one_before_it_found(looked):
    encoder = Tower(first)
    values = found(encoder)
    assert len(looked) == 1 and looked[0] > 0
    torch.testing.assert_close(found(encoder), values, **EXACT)
    torch.testing.assert_close(found(encoder, X[:1]), values[:1], **EXACT)
    assert len(looked) == 1 and encoder.counter.rows[-1] == 1


@pytest.mark.parametrize("name", READS)
def test_a_model_that_was_changed_meanwhile(monkeypatch, name):
    encoder = Tower(first)
    found(encoder)
    encoder.read = READS[name]
    values = found(encoder)
    assert encoder.counter.rows[-1] == T
    expected = with_all_rows(monkeypatch, found, encoder)
    torch.testing.assert_close(values, expected, **EXACT)


def test_another_row_is_read_than_before(monkeypatch):
    encoder = Tower(at)
    for place in PLACES:
        values = found(encoder, X[:1], args=place[None])
        assert encoder.counter.rows[-1] == 1
        expected = with_all_rows(monkeypatch, found, encoder, X[:1], place[None])
        torch.testing.assert_close(values, expected, **EXACT)


def test_a_module_with_another_task(monkeypatch):
    encoder = Tower(first)
    found(encoder)
    encoder.mlp[2].forward = lambda hidden: hidden[..., :D].roll(1, 1)
    values = found(encoder)
    expected = with_all_rows(monkeypatch, found, encoder)
    torch.testing.assert_close(values, expected, **EXACT)


def test_where_none_was_found_none_is_looked_for(looked):
    encoder = Tower(READS["mean"])
    found(encoder, X[:1])
    assert looked == [0]
    found(encoder, X[:1])
    assert looked == [0]


def test_nothing_is_kept_of_a_model_that_is_gone():
    gc.collect()
    before = len(rows._GUESSES)
    encoder = Tower(first)
    found(encoder)
    assert len(rows._GUESSES) == before + 1
    del encoder
    gc.collect()
    assert len(rows._GUESSES) == before


def test_guesses_of_many_shapes_are_not_all_kept():
    encoder = Tower(first)
    for count in range(2, rows._MOST_GUESSES + 20):
        found(encoder, X[:1].expand(1, T, D).repeat(1, count, 1)[:, :count])
    (known,) = [
        each
        for module, each in rows._GUESSES.items()
        if module in set(encoder.modules())
    ]
    assert len(known) == rows._MOST_GUESSES


class InOneRow(nn.Module):
    """The tokens of all points one behind the other, (1, n * T, D)."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, hidden: Tensor) -> Tensor:
        answer: Tensor = self.block(hidden.reshape(1, -1, D))
        return answer.reshape(hidden.shape)


@pytest.mark.parametrize("n_steps, size", [(6, 1), (3, 2), (1, None)])
def test_tokens_of_all_points_in_one_row(monkeypatch, n_steps, size):
    encoder = Tower(at, block=InOneRow(mlp()))
    options = dict(args=PLACES, n_steps=n_steps, internal_batch_size=size)

    def run():
        return found(encoder, **options)

    torch.testing.assert_close(run(), with_all_rows(monkeypatch, run), **EXACT)


class Moving(nn.Module):
    """Adds something else to each row, from when it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.size = mlp(), 0.0

    def forward(self, hidden: Tensor) -> Tensor:
        rows = torch.arange(hidden.shape[1], dtype=hidden.dtype)[:, None]
        return self.inner(hidden) + self.size * rows


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_module_that_tells_rows_apart_since_the_call_before(monkeypatch, dtype):
    encoder = Tower(lambda h: h[:, 5], block=Moving()).to(dtype)
    x = X.to(dtype)
    found(encoder, x)
    # of an embedding about as much as its rounding
    encoder.mlp.size = 0.3 if dtype == torch.bfloat16 else 1e-3
    values = found(encoder, x).double()
    expected = with_all_rows(monkeypatch, found, encoder, x).double()
    size = float(expected.abs().max())
    limit = 1e-2 if dtype == torch.bfloat16 else 1e-6
    torch.testing.assert_close(values, expected, rtol=0, atol=limit * size)


class Watching(Counter):
    """Keeps the largest number that it saw, when it is switched on."""

    def __init__(self) -> None:
        super().__init__()
        self.is_on = False
        self.register_buffer("largest", torch.zeros(()).double())

    def forward(self, hidden: Tensor) -> Tensor:
        if self.is_on:
            self.largest.copy_(torch.maximum(self.largest, hidden.detach().max()))
        return hidden


def test_no_statistics_of_nan_since_the_call_before():
    encoder = Tower(first, block=nn.Sequential(mlp(), Watching()))
    found(encoder)
    encoder.mlp[1].is_on = True
    found(encoder)
    assert 0 < float(encoder.mlp[1].largest) < 10


def test_nothing_is_kept_of_a_class_that_is_gone():
    def call() -> Any:
        encoder = Tower(first)

        class Around(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                answer: Tensor = encoder(x)
                return answer

        LayerIntegratedJacobian(Around(), encoder.layer).attribute(X, n_steps=6)
        return weakref.ref(encoder)

    known = call()
    gc.collect()
    assert known() is None


class Gated(nn.Module):
    """Reads a fifth row through a gate that is shut at both ends of the path."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(D, D), nn.Linear(D, K)
        self.attention = Attending(lambda q, k, v: ask(q, k, v) + ask(q, v, k), False)
        self.lost: Callable[[Tensor], Tensor] = lambda hidden: hidden
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.layer(x)
        weight, bias = self.layer.weight[0].detach(), self.layer.bias[0].detach()
        ends = [X[0, 0].to(weight) @ weight + bias, bias]
        near = (hidden[:, 0, :1] - sum(ends) / 2).abs()
        gate = torch.relu(0.48 * (ends[0] - ends[1]).abs() - near)
        rows = self.lost(self.attention(hidden)) + 0 * hidden
        return self.head(rows[:, 0].tanh() + 9 * gate * rows[:, 5])


LOST: dict[str, Callable[[Tensor], Tensor]] = {
    "by the kernel": lambda h: h,
    "a number": lambda h: h.nan_to_num(),
    "a number in place": lambda h: h.clone().nan_to_num_(),
    "signs in place": lambda h: h + h.clone().sign_(),
    "steps": lambda h: h + torch.heaviside(h.detach(), torch.ones((), dtype=h.dtype)),
    "soft shrinkage": lambda h: nn.functional.softshrink(h, 0.01),
    "another's sign": lambda h: torch.copysign(h.abs() + 1, h),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", LOST)
def test_nan_that_is_lost_behind_a_gate(monkeypatch, name, dtype):
    encoder = Gated().to(dtype)
    encoder.lost = LOST[name]
    x = X[:1].to(dtype)
    values = found(encoder, x, n_steps=12)
    expected = with_all_rows(monkeypatch, lambda: found(encoder, x, n_steps=12))
    assert float(expected[:, 5].abs().max()) > 1e-3  # the gate was open
    limit = 1e-11 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(values, expected, rtol=0, atol=limit)


def test_rows_in_common_are_of_the_same_kind():
    one = nn.Identity()
    asked = {one: Kept(2, torch.tensor([1]), 8, asks=True)}
    for other in (Kept(1, torch.tensor([1]), 8), Kept(2, torch.tensor([1]), 8)):
        assert in_common([asked, {one: other}]) == {}
        assert in_common([{one: other}, asked]) == {}


# ---- a scan in the pass that settles how points are run -----------------------------


class AtMost(nn.Module):
    """Takes only so many examples at once, and notes how many."""

    def __init__(self, encoder: nn.Module, most: int) -> None:
        super().__init__()
        self.encoder, self.most, self.sizes = encoder, most, []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        if len(x) > self.most:
            raise ValueError(f"more than {self.most} examples")
        answer: Tensor = self.encoder(x)
        return answer


def test_no_more_points_at_once_than_were_asked_for():
    encoder = AtMost(Tower(first), 2)
    attribution = IntegratedJacobian(encoder)
    attribution.attribute(X[:1], tolerance=1e-2, internal_batch_size=2)
    assert max(encoder.sizes) == 2


def test_nothing_is_known_of_modules_that_map_no_rows():
    convolutions = nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(48, K)
    encoder = AtMost(nn.Sequential(*convolutions).double(), 100)
    IntegratedJacobian(encoder).attribute(X[:1, None], tolerance=1e-2)
    assert encoder.sizes[:2] == [1, 2]


@pytest.mark.parametrize("is_light", [False, True])
def test_a_scan_is_the_same_on_the_way(monkeypatch, is_light):
    encoder = AtMost(Tower(first), 100)
    monkeypatch.setattr(example, "_LIGHT_BYTES", 2**20 if is_light else 0)
    attribution = IntegratedJacobian(encoder)
    asked = Integration(tolerance=1e-2)
    (path,) = attribution.examples(X[:1], settings=asked)
    assert encoder.sizes == ([1, 9] if is_light else [1, 2])
    assert set(path.scans) == ({5, 9} if is_light else set())
    scanned([Wanted(path, asked)])
    for count, curve in path.scans.items():
        nodes = (1 - np.cos(np.pi * np.arange(count) / (count - 1))) / 2
        expected = encoder(torch.tensor(nodes)[:, None, None] * X[0]).detach()
        np.testing.assert_allclose(curve, expected, rtol=0, atol=1e-12)


# ---- what is not changed ---------------------------------------------------------


def state_of(module: nn.Module) -> Any:
    return [
        (name, sorted(vars(each)), len(each._forward_hooks), vars(each).get("forward"))
        for name, each in module.named_modules()
    ]


class Fails(Exception):
    pass


def test_an_error_leaves_nothing():
    encoder = Tower(first)
    own = encoder.mlp.forward
    encoder.mlp.forward = lambda hidden: own(hidden)  # a user's own
    read, passes = encoder.read, []
    before, failed = state_of(encoder), 0

    def fail(hidden):
        passes.append(len(hidden))
        if len(passes) == fails_at:
            raise Fails
        return read(hidden)

    encoder.read = fail
    for fails_at in range(1, 20):
        passes.clear()
        try:
            found(encoder, X[:1], internal_batch_size=2, direction="forward")
        except Fails:
            failed += 1
        assert state_of(encoder) == before
    # while rows are looked for all errors say that they all count
    assert failed >= 4 and failed < 19
    assert encoder.counter.rows[-1] == 1


def test_hooks_of_the_users_see_all_rows_outside():
    encoder = Tower(first)
    shapes = []
    handle = encoder.mlp.register_forward_hook(
        lambda module, args, output: shapes.append((args[0].shape, output.shape))
    )
    values = found(encoder)
    assert encoder.counter.rows[-1] == 1
    assert all(shape[1] == T for given, out in shapes[:2] for shape in (given, out))
    assert all(shape[1] in (1, T) for given, out in shapes for shape in (given, out))
    handle.remove()
    torch.testing.assert_close(values, found(encoder), **EXACT)


def test_hooks_of_the_users_that_change_a_row(monkeypatch):
    encoder = Tower(first)

    def steer(module, args, output):
        output = output.clone()
        output[:, 5] += 1.0
        output[:, 0] *= 2.0
        return output

    for part in (encoder.mlp, encoder.mlp[0]):
        handle = part.register_forward_hook(steer)
        values = found(encoder)
        expected = with_all_rows(monkeypatch, found, encoder)
        torch.testing.assert_close(values, expected, **EXACT)
        handle.remove()


class Observer(nn.Module):
    """Notes the largest value it ever met, in evaluation mode as well."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("largest", torch.zeros(()))

    def forward(self, hidden: Tensor) -> Tensor:
        self.largest.copy_(torch.maximum(self.largest, hidden.detach().amax()))
        return hidden.tanh()


def test_no_statistics_of_nan():
    encoder = Tower(first, block=nn.Sequential(Counter(), nn.Linear(D, D), Observer()))
    found(encoder)
    assert bool(encoder.mlp[2].largest.isfinite())
    assert set(encoder.counter.rows) == {T}


def test_dropout_in_training_mode_is_not_looked_behind():
    block = nn.Sequential(nn.Linear(D, D), nn.Dropout(0.5), Counter())
    encoder = Tower(first, block=block).train()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found(encoder)
    assert set(encoder.counter.rows) == {T}


def test_an_encoder_that_has_another_way_for_errors():
    encoder = Tower(first)

    class Careful(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside, self.layer = encoder, encoder.layer

        def forward(self, x):
            try:
                return self.inside(x)
            except Exception:
                return self.inside(x[:, :1])

    torch.testing.assert_close(found(Careful()), written_out(encoder), **EXACT)


# ---- of rows alone ------------------------------------------------------


def test_another_number_of_rows_is_mapped_as_it_is():
    module = nn.Linear(D, D).double()
    expected = module(X).detach()
    with only({module: Kept(1, torch.tensor([6]), T)}):
        values = module(X).detach()
        assert torch.equal(values[:, 6], expected[:, 6])
        assert torch.equal(values, values[:, 6:7].expand_as(values))
        for count in (2, T - 1):
            torch.testing.assert_close(module(X[:, :count]), expected[:, :count])
        longer = module(torch.cat([X, X], 1)).detach()
        torch.testing.assert_close(longer, torch.cat([expected, expected], 1))
    assert "forward" not in vars(module)


def test_rows_in_common():
    one, other = nn.Identity(), nn.Identity()
    kept = {one: Kept(1, torch.tensor([1, 4]), 8), other: Kept(1, torch.tensor([0]), 8)}
    more = {one: Kept(1, torch.tensor([4, 6]), 8)}
    longer = {one: Kept(1, torch.tensor([4]), 9)}
    assert in_common([kept, kept]) is kept
    both = in_common([kept, more])
    assert list(both) == [one] and both[one].index.tolist() == [1, 4, 6]
    assert in_common([kept, longer]) == {}  # of another number of rows
    assert in_common([kept, None]) == {} and in_common([None, kept]) == {}
    assert in_common([None, None]) == {}


# ---- zeros, and scans ------------------------------------------------------------


def test_tangents_of_zero_are_not_multiplied(monkeypatch):
    encoder = Tower(first)
    pushes = []
    push = products._push
    monkeypatch.setattr(
        products, "_push", lambda *args: pushes.append(None) or push(*args)
    )
    x = X.clone()
    x[0, [1, 4, 6]] = x[1, [0, 1]] = 0.0  # what the baseline is
    values = found(encoder, x, direction="forward", internal_batch_size=6)
    assert len(pushes) == (T - 3) + (T - 2) + T
    assert not values[0, [1, 4, 6]].any() and not values[1, [0, 1]].any()
    reverse = found(encoder, x, direction="reverse")
    torch.testing.assert_close(values, reverse, **EXACT)


def test_inputs_that_are_the_baseline():
    encoder = Tower(first)
    for direction in ("forward", "reverse"):
        values = found(encoder, torch.zeros_like(X), direction=direction)
        assert values.shape == (B, T, K) and not values.any()


@pytest.mark.parametrize("zeros", [[], [1], [0, 2, 4], [0, 1, 2, 3, 4]])
def test_directions_of_zero_are_not_multiplied(zeros):
    encoder = Tower(first)
    attribution = LayerIntegratedJacobian(encoder, encoder.layer)
    directions = torch.randn(5, K).double()
    directions[zeros] = 0.0
    read = attribution.read(X, directions, n_steps=6, method="gausslegendre")
    expected = written_out(encoder) @ directions.T
    torch.testing.assert_close(read.attributions, expected, **EXACT)


def test_a_path_is_scanned_once():
    encoder = Tower(first)
    attribution = LayerIntegratedJacobian(encoder, encoder.layer)
    path = next(iter(attribution.examples(X[:1])))
    settings = Integration(n_steps=64, tolerance=1e-8)
    whole = path.masked(torch.zeros(1, 1, 1, dtype=torch.long))
    once = scanned([Wanted(path, settings), Wanted(whole, settings)])
    rows = len(encoder.counter.rows)
    again = scanned([Wanted(whole, settings), Wanted(path, settings)])
    assert len(encoder.counter.rows) == rows  # nothing ran
    assert [each.n for each in again] == [each.n for each in once][::-1]
    # what was kept is the path's
    for count, curve in path.scans.items():
        nodes = (1 - torch.linspace(0, torch.pi, count, dtype=X.dtype).cos()) / 2
        expected = path.embed(path.points(nodes))
        torch.testing.assert_close(torch.from_numpy(curve), expected, **EXACT)
