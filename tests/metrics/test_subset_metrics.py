"""Metrics of subsets against loops in which every pair of subsets is embedded."""

import doctest
import inspect
from typing import Any

import captum_pairs.metrics
import numpy as np
import pytest
import scipy.stats
import torch
from captum_pairs import attr, load
from captum_pairs.attr import (
    FeaturePairBanzhaf,
    FeaturePairIntegratedGradients,
    FeaturePairOcclusion,
    InvalidArgumentError,
    LayerFeaturePairIntegratedGradients,
)
from captum_pairs.metrics import (
    completeness_residual,
    faithfulness,
    insertion_deletion,
    parameter_randomization,
    rank_agreement,
    sensitivity,
)
from captum_pairs.scenes import checkpoint_path
from torch import nn, Tensor


def _net(d: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(d, 6), nn.Tanh(), nn.Linear(6, 4)).double()


class Pair:
    """A batch of two, with features of two scalars on the first side."""

    def __init__(self) -> None:
        self.nets = _net(10), _net(4)
        self.inputs = torch.randn(2, 10).double(), torch.randn(2, 4).double()
        self.starts = torch.randn(2, 10).double(), torch.zeros(1, 4).double()
        mask = torch.tensor([[0, 0, 1, 1, 2, 2, 3, 3, 4, 4]])
        self.arguments: dict[str, Any] = {
            "baselines": self.starts,
            "feature_mask": (mask, None),
        }
        self.groups = mask[0], torch.arange(4)
        self.method = FeaturePairIntegratedGradients(self.nets)
        self.parts = self.method.decompose(self.inputs, **self.arguments)

    def score(self, row: int, first: Tensor, second: Tensor) -> float:
        """The cosine with only some features there, one forward pass each."""
        embedded = []
        for side, subset in enumerate((first, second)):
            start = self.starts[side].expand_as(self.inputs[side])[row]
            there = subset[self.groups[side]]
            point = torch.where(there, self.inputs[side][row], start)
            embedded.append(self.nets[side](point[None])[0])
        return float(torch.cosine_similarity(*embedded, dim=0).detach())


@pytest.fixture
def pair() -> Pair:
    return Pair()


def _draws(p: float, counts: tuple[int, int], number: int) -> list[Any]:
    """The subsets of every example, drawn as the metric does."""
    generator = torch.Generator().manual_seed(5)
    return [
        [
            torch.bernoulli(
                torch.full((number, count), p, dtype=torch.float64), generator=generator
            ).bool()
            for count in counts
        ]
        for _ in range(2)
    ]


@pytest.mark.parametrize("rank", [False, True])
@pytest.mark.parametrize("p", [0.5, 0.8])
def test_faithfulness_is_that_of_naive_loops(pair: Pair, p: float, rank: bool) -> None:
    effects = pair.parts.first, pair.parts.second
    found = faithfulness(
        pair.nets,
        pair.inputs,
        pair.parts.interactions,
        main_effects=effects,
        p=p,
        n_samples=12,
        generator=torch.Generator().manual_seed(5),
        rank=rank,
        **pair.arguments,
    )
    correlate = scipy.stats.spearmanr if rank else scipy.stats.pearsonr
    for row, (firsts, seconds) in enumerate(_draws(p, (5, 4), 12)):
        truth, alone, whole = [], [], []
        for first in firsts:
            for second in seconds:
                truth.append(pair.score(row, first, second))
                table = pair.parts.interactions[row][first][:, second]
                alone.append(float(table.sum()))
                main = effects[0][row][first].sum() + effects[1][row][second].sum()
                whole.append(alone[-1] + float(main))
        expected = correlate(truth, alone)[0], correlate(truth, whole)[0]
        tables = [np.array(values).reshape(12, 12) for values in (truth, alone)]
        centred = [
            (t - t.mean(0) - t.mean(1)[:, None] + t.mean()).flatten() for t in tables
        ]
        pairs = correlate(*centred)[0]
        assert float(found.centered[row]) == pytest.approx(pairs, abs=1e-10)
        assert float(found.interactions[row]) == pytest.approx(expected[0], abs=1e-10)
        assert float(found.with_effects[row]) == pytest.approx(expected[1], abs=1e-10)


def test_faithfulness_of_several_methods(pair: Pair) -> None:
    tables = [pair.parts.interactions, pair.parts.interactions**3]
    effects = [(pair.parts.first, pair.parts.second), None]

    def measured(attributions: Any, main: Any) -> Any:
        return faithfulness(
            pair.nets,
            pair.inputs,
            attributions,
            main_effects=main,
            generator=torch.Generator().manual_seed(1),
            **pair.arguments,
        )

    found = measured(tables, effects)
    for one, table, main in zip(found, tables, effects):
        alone = measured(table, main)
        torch.testing.assert_close(one.interactions, alone.interactions)
    assert found[1].with_effects is None
    assert measured(tables, None)[0].with_effects is None


def test_a_bilinear_score_is_predicted_exactly() -> None:
    nets = nn.Linear(5, 3).double(), nn.Linear(4, 3).double()
    inputs = torch.randn(1, 5).double(), torch.randn(1, 4).double()
    parts = FeaturePairIntegratedGradients(nets, "dot").decompose(inputs)
    found = faithfulness(
        nets,
        inputs,
        parts.interactions,
        main_effects=(parts.first, parts.second),
        similarity="dot",
    )
    assert float(found.with_effects) == pytest.approx(1.0, abs=1e-12)
    assert float(found.centered) == pytest.approx(1.0, abs=1e-12)
    assert float(found.interactions) < 0.999
    flat = torch.zeros_like(parts.interactions)
    nothing = faithfulness(nets, inputs, flat, similarity="dot")
    assert float(nothing.interactions) == 0.0


def test_features_that_are_always_there(pair: Pair) -> None:
    # with all but one feature a side always there, four scores are left
    found = faithfulness(
        pair.nets,
        pair.inputs,
        pair.parts.interactions,
        always=([0, 1, 2, 3], torch.tensor([0, 1, 3])),
        n_samples=40,
        generator=torch.Generator().manual_seed(0),
        **pair.arguments,
    )
    generator = torch.Generator().manual_seed(0)
    subsets = [
        torch.bernoulli(torch.full((40, n), 0.5).double(), generator=generator).bool()
        for n in (5, 4)
    ]
    subsets[0][:, :4], subsets[1][:, [0, 1, 3]] = True, True
    truth, alone = [], []
    for first in subsets[0]:
        for second in subsets[1]:
            truth.append(pair.score(0, first, second))
            alone.append(float(pair.parts.interactions[0][first][:, second].sum()))
    expected = scipy.stats.pearsonr(truth, alone)[0]
    assert float(found.interactions[0]) == pytest.approx(expected, abs=1e-10)
    scores = insertion_deletion(
        pair.nets,
        pair.inputs,
        pair.parts.interactions,
        always=([0, 1, 2, 3], [0, 1, 3]),
        **pair.arguments,
    )
    assert scores.insertion.shape == (2, 2, 2)
    subsets = torch.ones(2, 5).bool(), torch.ones(2, 4).bool()
    subsets[0][0, 4], subsets[1][0, 2] = False, False
    for row in range(2):
        for x in range(2):
            for y in range(2):
                expected = pair.score(row, subsets[0][x], subsets[1][y])
                assert float(scores.insertion[row, x, y]) == pytest.approx(expected)
                removed = scores.deletion[row, 1 - x, 1 - y]
                assert float(removed) == pytest.approx(expected)


@pytest.mark.parametrize("steps", [2, 32])
def test_insertion_and_deletion_are_naive_loops(pair: Pair, steps: int) -> None:
    found = insertion_deletion(
        pair.nets, pair.inputs, pair.parts.interactions, n_steps=steps, **pair.arguments
    )
    table = pair.parts.interactions
    orders = table.sum(2).argsort(descending=True), table.sum(1).argsort(
        descending=True
    )
    sizes = [[0, 2, 5], [0, 2, 4]] if steps == 2 else [range(6), range(5)]
    for row in range(2):
        for x, many_x in enumerate(sizes[0]):
            for y, many_y in enumerate(sizes[1]):
                first = torch.zeros(5).bool()
                first[orders[0][row][:many_x]] = True
                second = torch.zeros(4).bool()
                second[orders[1][row][:many_y]] = True
                score = pair.score(row, first, second)
                assert float(found.insertion[row, x, y]) == pytest.approx(
                    score, abs=1e-10
                )
                score = pair.score(row, ~first, ~second)
                assert float(found.deletion[row, x, y]) == pytest.approx(
                    score, abs=1e-10
                )
    shares = torch.tensor([size / 5 for size in sizes[0]], dtype=torch.float64)
    torch.testing.assert_close(found.shares_first, shares)
    ways = {
        "first": (found.insertion[:, :, -1], found.deletion[:, :, 0]),
        "second": (found.insertion[:, -1], found.deletion[:, 0]),
    }
    for of, curves in ways.items():
        along = found.shares_first if of == "first" else found.shares_second
        for area, curve in zip(found.areas(of), curves):
            expected = np.trapezoid(curve.numpy(), along.numpy(), axis=1)
            np.testing.assert_allclose(area.numpy(), expected, atol=1e-12)
    steps_both, inserted, deleted = found.curves("both")
    if steps == 32:  # five steps of one side, four of the other
        x, y = [0, 1, 2, 3, 4, 5], [0, 1, 2, 2, 3, 4]
        torch.testing.assert_close(inserted, found.insertion[:, x, y])
        torch.testing.assert_close(deleted, found.deletion[:, x, y])
        middle = [(a / 5 + b / 4) / 2 for a, b in zip(x, y)]
        np.testing.assert_allclose(steps_both.numpy(), middle, atol=1e-12)
    area = np.trapezoid(inserted.numpy(), steps_both.numpy(), axis=1)
    np.testing.assert_allclose(found.areas()[0].numpy(), area, atol=1e-12)
    torch.testing.assert_close(inserted[:, -1], found.insertion[:, -1, -1])
    torch.testing.assert_close(inserted[:, 0], deleted[:, -1])  # both baselines
    torch.testing.assert_close(inserted[:, -1], deleted[:, 0])  # both inputs
    assert steps_both[0] == 0 and steps_both[-1] == 1
    with pytest.raises(InvalidArgumentError, match="of: expected one of 'first'"):
        found.areas("third")


def test_worth_of_each_feature_and_several_methods(pair: Pair) -> None:
    table = pair.parts.interactions
    worth = table.sum(2), table.sum(1)
    found = insertion_deletion(
        pair.nets, pair.inputs, [table, worth, -table], **pair.arguments
    )
    torch.testing.assert_close(found[0].insertion, found[1].insertion)
    # the other way round, what is put in first is taken out last
    torch.testing.assert_close(
        found[2].insertion, found[0].deletion.flip(1).flip(2), atol=1e-12, rtol=0
    )


@pytest.mark.skipif(
    not checkpoint_path().is_dir(), reason="the embedded checkpoint is not here"
)
def test_at_a_layer_of_a_trained_model() -> None:
    model = load("scenes")
    photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    prepared = model.first.prepare(photo), model.second.prepare("a red circle")
    encoders = model.first.embed, model.second.embed
    layers = model.first.blocks[2], model.second.blocks[0]
    masks = torch.arange(65).reshape(1, 65, 1) // 13, None
    arguments: dict[str, Any] = {
        "baselines": tuple(each.baseline for each in prepared),
        "feature_mask": masks,
        "additional_forward_args": tuple(each.arguments for each in prepared),
        "attribute_to_layer_input": True,
    }
    inputs = prepared[0].inputs, prepared[1].inputs
    count = inputs[1].shape[1]
    method = LayerFeaturePairIntegratedGradients(encoders, layers)
    table = method.attribute(inputs, n_steps=4, **arguments)
    found = insertion_deletion(encoders, inputs, table, layer=layers, **arguments)

    def value(side: int, ids: Tensor) -> Tensor:
        seen = []
        handle = layers[side].register_forward_pre_hook(
            lambda _, args, kwargs: seen.append(
                args[0] if args else kwargs["hidden_states"]
            ),
            with_kwargs=True,
        )
        encoders[side](ids, *prepared[side].arguments)
        handle.remove()
        return seen[0]

    def embedded(side: int, subset: Tensor) -> Tensor:
        end, start = value(side, inputs[side]), value(side, prepared[side].baseline)
        ids = masks[0].flatten() if side == 0 else torch.arange(count)
        mixed = torch.where(subset[ids][None, :, None], end, start)

        def replace(_: Any, args: Any, kwargs: Any) -> Any:
            if args:
                return (mixed, *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": mixed}

        handle = layers[side].register_forward_pre_hook(replace, with_kwargs=True)
        embedding = encoders[side](inputs[side], *prepared[side].arguments)[0]
        handle.remove()
        return embedding

    orders = table[0].sum(1).argsort(descending=True), table[0].sum(0).argsort(
        descending=True
    )
    with torch.no_grad():
        for x in (0, 2, 5):
            for y in (0, 1, count):
                subsets = torch.zeros(5).bool(), torch.zeros(count).bool()
                subsets[0][orders[0][:x]], subsets[1][orders[1][:y]] = True, True
                score = torch.cosine_similarity(
                    embedded(0, subsets[0]), embedded(1, subsets[1]), dim=0
                )
                assert float(found.insertion[0, x, y]) == pytest.approx(
                    float(score), abs=1e-5
                )


def test_completeness_residual(pair: Pair) -> None:
    tables = [
        pair.parts.interactions,
        FeaturePairOcclusion(pair.nets).attribute(pair.inputs, **pair.arguments),
    ]
    found = completeness_residual(pair.nets, pair.inputs, tables, **pair.arguments)
    ones = torch.ones(5).bool(), torch.ones(4).bool()
    for row in range(2):
        corners = [
            pair.score(row, *(one if there else ~one for one, there in zip(ones, both)))
            for both in ((1, 1), (0, 1), (1, 0), (0, 0))
        ]
        target = corners[0] - corners[1] - corners[2] + corners[3]
        for residual, table in zip(found, tables):
            expected = abs(float(table[row].sum()) - target) / abs(target)
            assert float(residual[row]) == pytest.approx(expected, abs=1e-9)
    assert found[0].max() < 1e-6 < found[1].min()


def test_sensitivity_is_captums_by_hand(pair: Pair) -> None:
    pairs = FeaturePairOcclusion(pair.nets)
    found = sensitivity(
        pairs.attribute,
        pair.inputs,
        perturb_radius=0.1,
        n_perturb_samples=3,
        generator=torch.Generator().manual_seed(2),
    )
    generator = torch.Generator().manual_seed(2)
    for row in range(2):
        values = [each[row : row + 1] for each in pair.inputs]
        noisy = []
        for each in values:
            shape = 3, each.shape[1]
            noise = torch.rand(shape, dtype=torch.float64, generator=generator)
            noisy.append(each + 0.1 * (2 * noise - 1))
        plain = pairs.attribute((values[0], values[1]))
        change = pairs.attribute((noisy[0], noisy[1])) - plain
        expected = change.flatten(1).norm(dim=1).amax() / plain.norm()
        torch.testing.assert_close(found[row], expected)


class Masked(nn.Module):
    """(b, t, 3) and a mask (b, t) to (b, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(3, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor, mask: Any = None) -> Tensor:
        hidden = torch.tanh(self.body(x))
        return self.head((hidden if mask is None else mask[..., None] * hidden).sum(1))


def test_sensitivity_with_arguments_in_pairs() -> None:
    net, mask = Masked().double(), torch.tensor([[1.0, 1, 0], [1, 1, 1]]).double()
    pairs = FeaturePairOcclusion(net)
    x, y = torch.randn(2, 3, 3).double(), torch.randn(2, 4, 3).double()
    arguments: dict[str, Any] = {
        "baselines": (torch.randn(2, 3, 3).double(), None),
        "feature_mask": (torch.arange(3).reshape(1, 3, 1), None),
    }

    def measured(rows: slice) -> Tensor:
        return sensitivity(
            pairs.attribute,
            (x[rows], y[rows]),
            n_perturb_samples=2,
            generator=torch.Generator().manual_seed(1),
            **{
                "baselines": (arguments["baselines"][0][rows], None),
                "feature_mask": arguments["feature_mask"],
                "additional_forward_args": ((mask[rows],), None),
            },
        )

    both = measured(slice(0, 2))
    torch.testing.assert_close(both[:1], measured(slice(0, 1)))
    assert float(both[0]) != float(both[1])


def test_token_ids_get_no_noise() -> None:
    table = nn.Embedding(9, 4).double()
    body = _net(4)

    class Text(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.body = table, body

        def forward(self, ids: Tensor) -> Tensor:
            return self.body(self.table(ids).mean(1))

    text, net = Text(), _net(3)
    pairs = LayerFeaturePairIntegratedGradients((net, text), (net[0], table))
    inputs = torch.randn(2, 3).double(), torch.tensor([[1, 2, 3], [4, 5, 6]])
    found = sensitivity(pairs.attribute, inputs, n_perturb_samples=2, n_steps=4)
    assert found.shape == (2,) and bool((found > 0).all())
    with pytest.raises(InvalidArgumentError, match="inputs: expected a floating one"):
        sensitivity(pairs.attribute, (inputs[1], inputs[1]))


def test_rank_agreement_is_scipys() -> None:
    first, second = torch.randn(3, 4, 5), torch.randn(3, 4, 5)
    first = first.round()  # ties
    found = rank_agreement(first, second)
    expected = [
        scipy.stats.spearmanr(a.flatten(), b.flatten())[0]
        for a, b in zip(first, second)
    ]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)
    assert float(rank_agreement(first, torch.ones_like(first))[0]) == 0.0
    with pytest.raises(InvalidArgumentError, match="second: expected shape"):
        rank_agreement(first, second[:2])


def _random_agreement(pair: Pair, **options: Any) -> Any:
    pairs = FeaturePairOcclusion(pair.nets)
    return parameter_randomization(
        lambda: pairs.attribute(pair.inputs),
        {"head": pair.nets[0][2], "body": pair.nets[0][0]},
        generator=torch.Generator().manual_seed(0),
        **options,
    )


@pytest.mark.parametrize("independent", [False, True])
def test_random_parameters_one_after_the_other(pair: Pair, independent: bool) -> None:
    pairs = FeaturePairOcclusion(pair.nets)
    trained = pairs.attribute(pair.inputs)
    before = [p.detach().clone() for net in pair.nets for p in net.parameters()]
    found = _random_agreement(pair, independent=independent)
    assert found.modules == ("head", "body")
    after = [p for net in pair.nets for p in net.parameters()]
    assert all(map(torch.equal, before, after))
    # the same by hand
    generator = torch.Generator().manual_seed(0)
    for row, at in enumerate((2, 0)):
        with torch.no_grad():
            if independent:
                for parameter, values in zip(after, before):
                    parameter.copy_(values)
            for parameter in pair.nets[0][at].parameters():
                order = torch.randperm(parameter.numel(), generator=generator)
                parameter.copy_(parameter.flatten()[order].reshape(parameter.shape))
        again = pairs.attribute(pair.inputs)
        torch.testing.assert_close(found.agreement[row], rank_agreement(trained, again))
        torch.testing.assert_close(
            found.absolute_agreement[row], rank_agreement(trained.abs(), again.abs())
        )


def test_parameters_are_back_after_an_error(pair: Pair) -> None:
    before = [p.detach().clone() for p in pair.nets[0].parameters()]
    calls = []

    def attribute() -> Tensor:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("stop")
        return torch.rand(1, 3)

    with pytest.raises(RuntimeError, match="stop"):
        parameter_randomization(attribute, {"net": pair.nets[0]})
    assert all(map(torch.equal, before, pair.nets[0].parameters()))


@pytest.mark.parametrize(
    "options, argument",
    [
        ({"attributions": torch.zeros(1, 5, 4)}, "attributions"),
        ({"attributions": torch.zeros(2, 5, 3)}, "attributions"),
        ({"attributions": torch.full((2, 5, 4), torch.nan)}, "attributions"),
        ({"attributions": []}, "attributions"),
        ({"attributions": torch.zeros(2, 4, 5)}, "attributions"),
        (
            {"main_effects": (torch.zeros(3, 5), torch.zeros(3, 4))},
            r"main_effects\[0\]",
        ),
        (
            {"attributions": [torch.zeros(2, 5, 4)] * 2, "main_effects": 3},
            "main_effects",
        ),
        ({"always": (3, None)}, r"always\[0\]"),
        ({"generator": 3}, "generator"),
        ({"embed_subsets": (lambda present: present, None)}, "embed_subsets"),
        (
            {"main_effects": (torch.zeros(2, 5), torch.zeros(2, 5))},
            r"main_effects\[1\]",
        ),
        ({"main_effects": torch.zeros(2, 5)}, "main_effects"),
        ({"p": 1.0}, "p"),
        ({"n_samples": 1}, "n_samples"),
        ({"always": ([5], None)}, r"always\[0\]"),
        ({"always": (None, [True])}, r"always\[1\]"),
        ({"similarity": "sum"}, "similarity"),
        ({"internal_batch_size": 0}, "internal_batch_size"),
    ],
)
def test_what_can_not_be_measured(pair: Pair, options: Any, argument: str) -> None:
    arguments = {"attributions": torch.zeros(2, 5, 4), **pair.arguments, **options}
    with pytest.raises(InvalidArgumentError, match=f"^{argument}: "):
        faithfulness(pair.nets, pair.inputs, **arguments)


@pytest.mark.parametrize(
    "call, argument",
    [
        (lambda net: parameter_randomization(3, {"net": net}), "attribute"),
        (lambda net: parameter_randomization(lambda: 0, {}), "modules"),
        (lambda net: parameter_randomization(lambda: 0, {"t": nn.Tanh()}), "modules"),
        (lambda net: sensitivity(3, (torch.zeros(1, 2),) * 2), "attribute"),
        (lambda net: sensitivity(net, torch.zeros(1, 2)), "inputs"),
        (
            lambda net: sensitivity(net, (torch.zeros(1, 2),) * 2, perturb_radius=0),
            "perturb_radius",
        ),
        (lambda net: rank_agreement(torch.zeros(1, 2).long(), 3), "second"),
        (lambda net: parameter_randomization(lambda: (1,), {"n": net}), "attribute"),
        (
            lambda net: parameter_randomization(lambda: torch.ones(1, 2), {"n": 3}),
            "modules",
        ),
        (
            lambda net: parameter_randomization(lambda: torch.ones(1) / 0, {"n": net}),
            "attribute",
        ),
        (
            lambda net: sensitivity(lambda x: x, (torch.ones(1, 2).double(),) * 2),
            "attribute",
        ),
    ],
)
def test_other_errors(call: Any, argument: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"^{argument}: "):
        call(_net(2))


def test_worths_that_are_none(pair: Pair) -> None:
    for worth in ((torch.zeros(2, 5),), (torch.zeros(2, 5), torch.zeros(2, 5))):
        with pytest.raises(InvalidArgumentError, match="^attributions"):
            insertion_deletion(pair.nets, pair.inputs, worth, **pair.arguments)
    with pytest.raises(InvalidArgumentError, match="^n_steps"):
        insertion_deletion(
            pair.nets, pair.inputs, pair.parts.interactions, n_steps=0, **pair.arguments
        )


def test_scale_and_frozen_norms(pair: Pair) -> None:
    table = pair.parts.interactions
    found = [
        insertion_deletion(
            pair.nets, pair.inputs, table, similarity=kind, scale=3.0, **pair.arguments
        )
        for kind in ("cosine", "frozen_cosine")
    ]
    for each in found:  # both inputs whole: three times the cosine
        whole = torch.cosine_similarity(*(n(x) for n, x in zip(pair.nets, pair.inputs)))
        torch.testing.assert_close(each.insertion[:, -1, -1], 3 * whole.detach())
    assert (found[0].insertion - found[1].insertion).abs().max() > 1e-3


def test_embeddings_of_subsets_by_another_function(pair: Pair) -> None:
    x, y = pair.inputs[0][:1], pair.inputs[1][:1]

    def twice(present: Tensor) -> Tensor:
        return pair.nets[1](2 * torch.where(present, y, torch.zeros_like(y)))

    table = torch.randn(1, 10, 4).double()
    found = insertion_deletion(
        pair.nets, (x, y), table, embed_subsets=(None, twice), similarity="dot"
    )
    none = pair.nets[0](torch.zeros_like(x)), pair.nets[1](torch.zeros_like(y))
    torch.testing.assert_close(
        found.insertion[0, 0, 0], (none[0] * none[1]).sum().detach()
    )
    whole = pair.nets[0](x), pair.nets[1](2 * y)
    torch.testing.assert_close(
        found.insertion[0, -1, -1], (whole[0] * whole[1]).sum().detach()
    )


def test_a_subset_without_a_cosine() -> None:
    def encode(x: Tensor) -> Tensor:
        return x * x[:, :1]  # zero where the first feature is not there

    inputs = torch.rand(1, 3).double() + 1, torch.rand(1, 3).double() + 1
    start = torch.tensor([[0.5, 0.0, 0.0]]).double()
    subset_start = (torch.tensor([[1.0, 0, 0]]).double(), start)

    def none(present: Tensor) -> Tensor:
        return encode(torch.where(present, inputs[0], torch.zeros(1, 3).double()))

    with pytest.raises(InvalidArgumentError, match="NaN or infinity for a subset"):
        insertion_deletion(
            encode,
            inputs,
            torch.rand(1, 3, 3),
            subset_start,
            embed_subsets=(none, None),
        )


def test_nothing_that_could_be_taken_out(pair: Pair) -> None:
    found = insertion_deletion(
        pair.nets,
        pair.inputs,
        pair.parts.interactions,
        always=(range(5), None),
        **pair.arguments,
    )
    whole = torch.cosine_similarity(*(n(x) for n, x in zip(pair.nets, pair.inputs)))
    torch.testing.assert_close(found.areas("first")[0], whole.detach())
    # what one side's features make of the score is no interaction
    fixed = faithfulness(
        pair.nets,
        pair.inputs,
        pair.parts.interactions,
        always=(range(5), range(4)),
        **pair.arguments,
    )
    assert not fixed.centered.any() and not fixed.interactions.any()


def test_parameters_that_stay_the_same_in_any_order() -> None:
    norm = nn.LayerNorm(3)
    with pytest.warns(
        UserWarning, match="the parameters of LayerNorm are all the same"
    ):
        found = parameter_randomization(lambda: torch.rand(1, 3), {"norm": norm})
    assert found.modules == ("norm",)


def test_nothing_is_left_behind(pair: Pair) -> None:
    pair.inputs[0].requires_grad_(True)
    table = FeaturePairBanzhaf(pair.nets).attribute(pair.inputs, **pair.arguments)
    state = torch.random.get_rng_state()
    generator = torch.Generator().manual_seed(0)
    faithfulness(pair.nets, pair.inputs, table, generator=generator, **pair.arguments)
    insertion_deletion(pair.nets, pair.inputs, table, **pair.arguments)
    assert torch.equal(state, torch.random.get_rng_state())
    assert pair.inputs[0].grad is None and pair.inputs[0].requires_grad
    layers = pair.nets[0][0], pair.nets[1][0]
    arguments = {"similarity": "dot", "layer": layers, "attribute_to_layer_input": True}
    found = FeaturePairOcclusion(pair.nets, layer=layers).attribute(
        pair.inputs, attribute_to_layer_input=True
    )
    faithfulness(pair.nets, pair.inputs, found, generator=generator, **arguments)
    with pytest.raises(InvalidArgumentError):
        insertion_deletion(pair.nets, pair.inputs, found[:, :1], **arguments)
    for net in pair.nets:
        for module in net.modules():
            assert not module._forward_hooks and not module._forward_pre_hooks


def _examples() -> list[Any]:
    named = [
        (name, getattr(captum_pairs.metrics, name))
        for name in captum_pairs.metrics.__all__
    ]
    return [
        pytest.param(value, id=name)
        for name, value in named
        if inspect.isfunction(value) and "pointing" not in name
    ]


@pytest.mark.parametrize("function", _examples())
def test_examples_run(function: Any) -> None:
    names = {**vars(attr), **vars(captum_pairs.metrics), "torch": torch, "nn": nn}
    finder = doctest.DocTestFinder(recurse=False)
    tests = finder.find(function, function.__name__, globs=names)
    assert tests and all(test.examples for test in tests)
    for test in tests:
        assert doctest.DocTestRunner().run(test).failed == 0


def test_public_names() -> None:
    names = captum_pairs.metrics.__all__
    assert names == sorted(names, key=str.casefold)
    assert all(hasattr(captum_pairs.metrics, name) for name in names)
