"""Feature-pair attributions against closed forms and independent computations."""

import warnings

import pytest
import torch
from captum_pairs.attr import FeaturePairIntegratedGradients, pair
from captum_pairs.attr._utils.quadrature import quadrature, QUADRATURES
from torch import nn
from torch.autograd.functional import hessian, jacobian


def close(found, expected, atol=1e-10):
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


def f64(*values):
    return torch.tensor(values, dtype=torch.float64)


def unit(embeddings):
    return embeddings / embeddings.norm(dim=-1, keepdim=True)


# ---- oracles -------------------------------------------------------------------------


def dense(encode, x, r, steps, method="gausslegendre", normalize=False, times=True):
    """Integrated Jacobian of one example, (d, k): a VJP for each embedding dimension
    at each step, as the published code does it."""
    total = torch.zeros_like(encode(x[None])[0]).expand(x.numel(), -1).clone()
    for alpha, weight in zip(*quadrature(steps, method)):
        point = (r + alpha * (x - r)).requires_grad_()
        embedding = encode(point[None])[0]
        embedding = unit(embedding) if normalize else embedding
        for dim, value in enumerate(embedding):
            (gradient,) = torch.autograd.grad(value, point, retain_graph=True)
            total[:, dim] += weight * gradient.flatten()
    return total.detach() * (x - r).reshape(-1, 1) if times else total.detach()


def dense_pairs(encoders, inputs, baselines, similarity, *args, **options):
    """The published algorithm: one matrix of all scalars with all scalars."""
    rows = []
    for x, y, r, q in zip(*inputs, *baselines):
        normalize = similarity == "cosine"
        first = dense(encoders[0], x, r, *args, normalize=normalize, **options)
        second = dense(encoders[1], y, q, *args, normalize=normalize, **options)
        table = first @ second.T
        if similarity == "frozen_cosine":
            norms = [encode(z[None]).norm() for encode, z in zip(encoders, (x, y))]
            table = table / (norms[0] * norms[1])
        rows.append(table.detach().reshape(*x.shape, *y.shape))
    return torch.stack(rows)


def corners(fpig, inputs, baselines):
    """s(x, y) - s(r_x, y) - s(x, r_y) + s(r_x, r_y), of each example."""
    (x, y), (r, q) = inputs, baselines
    s = fpig.forward_func
    return (s(x, y) - s(r, y) - s(x, q) + s(r, q)).detach()


def start(baselines, inputs):
    """Baselines at the inputs' batch."""
    return tuple(r.expand_as(x) for r, x in zip(baselines, inputs))


# ---- by hand -------------------------------------------------------------------------


@pytest.fixture
def bilinear():
    """g(x) = W x, h(y) = V y, inputs and baselines of one example."""
    first, second = nn.Linear(2, 2, bias=False), nn.Linear(3, 2, bias=False)
    W, V = f64([1, 2], [3, 4]), f64([1, 0, -1], [2, 1, 0])
    first.weight, second.weight = nn.Parameter(W), nn.Parameter(V)
    inputs = f64([2, 3]), f64([1, 5, 2])
    baselines = f64([1, -1]), f64([0, 3, 1])
    return (first, second), inputs, baselines


# (x - r) = (1, 4), (y - q) = (1, 2, 1); W_:i . V_:j = [[7, 3, -1], [10, 4, -2]]
BILINEAR = f64([[7.0, 6.0, -1.0], [40.0, 32.0, -8.0]])


@pytest.mark.parametrize("direction", [None, "forward", "reverse"])
@pytest.mark.parametrize("method", QUADRATURES)
@pytest.mark.parametrize("n_steps", [2, 7])
def test_bilinear_model_in_closed_form(bilinear, direction, method, n_steps):
    encoders, inputs, baselines = bilinear
    fpig = FeaturePairIntegratedGradients(encoders, "dot", direction=direction)
    found, delta = fpig.attribute(
        inputs, baselines, n_steps=n_steps, method=method, return_convergence_delta=True
    )
    close(found, BILINEAR, 1e-12)
    close(delta, f64(0.0), 1e-12)


def test_bilinear_model_local(bilinear):
    encoders, inputs, baselines = bilinear
    fpig = FeaturePairIntegratedGradients(
        encoders, "dot", scale=3.0, multiply_by_inputs=False
    )
    expected = 3 * f64([[7.0, 3.0, -1.0], [10.0, 4.0, -2.0]])
    close(fpig.attribute(inputs, baselines, n_steps=2), expected, 1e-12)


@pytest.mark.parametrize("direction", [None, "forward", "reverse"])
def test_bilinear_model_decomposed(bilinear, direction):
    encoders, inputs, baselines = bilinear
    # g(x) = (8, 18), g(r) = (-1, -1); h(y) = (-1, 7), h(q) = (-1, 3)
    fpig = FeaturePairIntegratedGradients(encoders, "dot", direction=direction)
    found = fpig.decompose(inputs, baselines, n_steps=2)
    close(found.score, f64(118.0), 1e-12)
    close(found.constant, f64(-2.0), 1e-12)
    # c_i = (1, 3), (8, 16) against (-1, 3); c_j = (1, 2), (0, 2), (-1, 0)
    close(found.first, f64([8.0, 40.0]), 1e-12)
    close(found.second, f64([-3.0, -2.0, 1.0]), 1e-12)
    close(found.interactions, BILINEAR, 1e-12)
    close(found.convergence_delta, f64(0.0), 1e-12)


def test_bilinear_model_with_frozen_norms(bilinear):
    encoders, inputs, baselines = bilinear
    norms = (8**2 + 18**2) ** 0.5 * (1 + 7**2) ** 0.5
    fpig = FeaturePairIntegratedGradients(encoders, "frozen_cosine", scale=2.0)
    found = fpig.decompose(inputs, baselines, n_steps=1)
    close(found.interactions, 2 * BILINEAR / norms, 1e-12)
    close(found.first, 2 * f64([8.0, 40.0]) / norms, 1e-12)
    close(found.second, 2 * f64([-3.0, -2.0, 1.0]) / norms, 1e-12)
    close(found.score, f64(2 * 118 / norms), 1e-12)
    close(found.constant, f64(2 * -2 / norms), 1e-12)
    close(found.convergence_delta, f64(0.0), 1e-12)
    close(fpig.forward_func(*inputs), found.score, 1e-12)


def quadratic_first(x):
    return torch.stack([x[:, 0] * x[:, 1], x[:, 0] ** 2], dim=-1)


def quadratic_second(y):
    return torch.stack([y[:, 0] ** 2, y[:, 0]], dim=-1)


@pytest.mark.parametrize("direction", [None, "forward", "reverse"])
def test_quadratic_model_by_hand(direction):
    # From zero to (2, 3): c_1 = 2 (3/2, 2) = (3, 4), c_2 = 3 (1, 0) = (3, 0);
    # from one to 3: c = 2 (4, 1) = (8, 2). The rule is exact with one node.
    fpig = FeaturePairIntegratedGradients(
        (quadratic_first, quadratic_second), "dot", direction=direction
    )
    inputs, options = (f64([2, 3]), f64([3])), dict(baselines=(None, 1.0), n_steps=1)
    close(fpig.attribute(inputs, **options), f64([[32.0], [24.0]]), 1e-12)
    found = fpig.decompose(inputs, **options)
    # h(q) = (1, 1), g(r) = 0; the score is (6, 4) . (9, 3)
    close(found.first, f64([7.0, 3.0]), 1e-12)
    close(found.second, f64([0.0]), 1e-12)
    close(found.score, f64(66.0), 1e-12)


def test_delta_is_the_sum_minus_what_the_corners_say():
    # The right Riemann rule with one node overestimates: c_1 = (6, 8), c_2 = (6, 0),
    # c = 2 (6, 1): 80 + 16 + 72 against (6, 4) . (8, 2) = 56.
    fpig = FeaturePairIntegratedGradients((quadratic_first, quadratic_second), "dot")
    inputs, baselines = (f64([2, 3]), f64([3])), (None, 1.0)
    found, delta = fpig.attribute(
        inputs,
        baselines,
        n_steps=1,
        method="riemann_right",
        return_convergence_delta=True,
    )
    close(found, f64([[88.0], [72.0]]), 1e-12)
    close(delta, f64(104.0), 1e-12)
    close(fpig.compute_convergence_delta(found, baselines, inputs), delta, 1e-12)


# ---- against the mixed Hessian -------------------------------------------------------


@pytest.mark.parametrize("direction", [None, "forward", "reverse"])
@pytest.mark.parametrize("similarity", ["cosine", "dot", "frozen_cosine"])
def test_equals_the_integrated_mixed_hessian(
    encoders, inputs, baselines, similarity, direction
):
    fpig = FeaturePairIntegratedGradients(
        encoders, similarity, scale=2.5, direction=direction
    )
    starts = start(baselines, inputs)
    expected = torch.zeros(2, 3, 2, dtype=torch.float64)
    nodes = list(zip(*quadrature(5, "gausslegendre")))
    for row, (x, y, r, q) in enumerate(zip(*inputs, *starts)):
        g, h = (lambda z, f=f: f(z[None])[0] for f in encoders)
        norms = g(x).norm().detach(), h(y).norm().detach()

        def score(u, v):
            if similarity == "cosine":
                return 2.5 * unit(g(u)) @ unit(h(v))
            product = 2.5 * g(u) @ h(v)
            return product if similarity == "dot" else product / norms[0] / norms[1]

        for alpha, weight in nodes:
            for beta, other in nodes:
                points = r + alpha * (x - r), q + beta * (y - q)
                mixed = hessian(score, points)[0][1]
                expected[row] += weight * other * mixed * torch.outer(x - r, y - q)
    close(fpig.attribute(inputs, baselines, n_steps=5), expected)


# ---- against the dense algorithm -----------------------------------------------------


@pytest.mark.parametrize("method", QUADRATURES)
@pytest.mark.parametrize("similarity", ["cosine", "dot", "frozen_cosine"])
@pytest.mark.parametrize("multiply", [True, False])
def test_equals_the_dense_algorithm(
    encoders, inputs, baselines, method, similarity, multiply
):
    expected = dense_pairs(
        encoders,
        inputs,
        start(baselines, inputs),
        similarity,
        6,
        method,
        times=multiply,
    )
    for direction in (None, "forward", "reverse"):
        fpig = FeaturePairIntegratedGradients(
            encoders, similarity, multiply_by_inputs=multiply, direction=direction
        )
        assert fpig.multiplies_by_inputs is multiply
        assert fpig.has_convergence_delta() is multiply
        found = fpig.attribute(inputs, baselines, n_steps=6, method=method)
        close(found, expected, 1e-12)
        assert found.is_contiguous() and not found.requires_grad


@pytest.mark.parametrize("sizes", [(9, 2), (2, 9), (9, 8), (3, 3)])
@pytest.mark.parametrize("effects", [False, True])
def test_every_way_of_counting_gives_the_same(mlp, sizes, effects):
    # More or fewer features than the embedding's 4 dimensions on either side.
    encoders = mlp(sizes[0]), mlp(sizes[1])
    inputs = tuple(torch.randn(1, size).double() for size in sizes)
    expected = dense_pairs(encoders, inputs, start((f64(0), f64(0)), inputs), "dot", 5)
    for direction in (None, "forward", "reverse"):
        fpig = FeaturePairIntegratedGradients(encoders, "dot", direction=direction)
        if not effects:
            close(fpig.attribute(inputs, n_steps=5), expected, 1e-12)
            continue
        found = fpig.decompose(inputs, n_steps=5)
        close(found.interactions, expected, 1e-12)
        vectors = [dense(g, x[0], 0 * x[0], 5) for g, x in zip(encoders, inputs)]
        ends = [g(0 * x).detach()[0] for g, x in zip(encoders, inputs)]
        close(found.first[0], vectors[0] @ ends[1], 1e-12)
        close(found.second[0], vectors[1] @ ends[0], 1e-12)


# ---- completeness --------------------------------------------------------------------


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_completeness_to_1e9(encoders, inputs, baselines, similarity):
    fpig = FeaturePairIntegratedGradients(encoders, similarity, scale=10.0)
    options = dict(n_steps=512, tolerance=1e-10)
    found, delta = fpig.attribute(
        inputs, baselines, **options, return_convergence_delta=True
    )
    target = corners(fpig, inputs, start(baselines, inputs))
    close(found.sum(dim=(1, 2)), target, 1e-9)
    close(delta, found.sum(dim=(1, 2)) - target, 1e-12)
    close(fpig.compute_convergence_delta(found, baselines, inputs), delta, 1e-12)
    parts = fpig.decompose(inputs, baselines, **options)
    x, y = inputs
    close(parts.score, fpig.forward_func(x, y).detach(), 1e-12)
    r, q = start(baselines, inputs)
    close(parts.constant, fpig.forward_func(r, q).detach(), 1e-12)
    total = parts.constant + parts.first.sum(1) + parts.second.sum(1)
    close(total + parts.interactions.sum((1, 2)), parts.score, 1e-9)
    # A part each by the scores of three corners.
    s = fpig.forward_func
    close(parts.first.sum(1), (s(x, q) - s(r, q)).detach(), 1e-9)
    close(parts.second.sum(1), (s(r, y) - s(r, q)).detach(), 1e-9)
    close(parts.interactions, found, 1e-12)


def test_decomposition_delta_is_the_sum_minus_the_score(encoders, inputs):
    fpig = FeaturePairIntegratedGradients(encoders)
    found = fpig.decompose(inputs, baselines=(1.0, -1.0), n_steps=1)
    total = found.constant + found.first.sum(1) + found.second.sum(1)
    total = total + found.interactions.sum((1, 2))
    close(found.convergence_delta, total - found.score, 1e-12)
    assert bool((found.convergence_delta.abs() > 1e-3).all())


# ---- masks ---------------------------------------------------------------------------


@pytest.fixture
def token_pair(token_encoder):
    """Encoders of (b, 4, 3) and (b, 2, 3), and inputs of a batch of 2."""
    encoders = token_encoder(), token_encoder()
    return encoders, (torch.randn(2, 4, 3).double(), torch.randn(2, 2, 3).double())


def summed(table, masks, counts):
    """The unmasked attributions (b, *x, *y) summed by masks of one side each."""
    (b, *_), split = table.shape, table.ndim // 2 + 1
    shapes = table.shape[1:split], table.shape[split:]
    result = table.new_zeros(b, *counts)
    for row in range(b):
        ids = [
            mask[min(row, len(mask) - 1)].expand(shape).flatten()
            for mask, shape in zip(masks, shapes)
        ]
        values = table[row].reshape(ids[0].numel(), ids[1].numel())
        for i, a in enumerate(ids[0].tolist()):
            for j, c in enumerate(ids[1].tolist()):
                result[row, a, c] += values[i, j]
    return result


WORDS = torch.tensor([[[0], [1], [1], [4]]])  # 2 and 3 are gaps
CHANNELS = torch.tensor([[[1, 0, 1]]])
OWN = torch.tensor([[[0], [1]], [[3], [2]]])
FULL = torch.arange(12).reshape(1, 4, 3) % 5
WHOLE = torch.zeros(1, 1, 1, dtype=torch.uint8)


@pytest.mark.parametrize("direction", [None, "forward", "reverse"])
@pytest.mark.parametrize(
    "masks, counts",
    [
        ((WORDS, OWN), (5, 4)),
        ((WORDS.expand(2, 4, 3), CHANNELS), (5, 2)),
        ((CHANNELS, WHOLE), (2, 1)),
        ((FULL, OWN.int()), (5, 4)),
        ((FULL.repeat(2, 1, 1).flip(1), OWN[:1]), (5, 2)),
    ],
)
def test_masked_attributions_are_sums_of_unmasked_ones(
    token_pair, masks, counts, direction
):
    encoders, inputs = token_pair
    fpig = FeaturePairIntegratedGradients(encoders, direction=direction)
    options = dict(baselines=(0.1, -0.1), n_steps=3)
    whole = fpig.decompose(inputs, **options)
    assert whole.interactions.shape == (2, 4, 3, 2, 3)
    expected = summed(whole.interactions, masks, counts)
    found, delta = fpig.attribute(
        inputs, feature_mask=masks, return_convergence_delta=True, **options
    )
    close(found, expected, 1e-12)
    close(delta, found.flatten(1).sum(1) - corners_at(fpig, inputs), 1e-12)
    gaps = set(range(counts[0])) - set(masks[0].flatten().tolist())
    assert all(bool((found[:, gap] == 0).all()) for gap in gaps)
    # One side only: the other keeps its own axes.
    first = fpig.attribute(inputs, feature_mask=(masks[0], None), **options)
    assert first.shape == (2, counts[0], 2, 3)
    unmasked = torch.arange(6).reshape(1, 2, 3)
    expected = summed(whole.interactions, (masks[0], unmasked), (counts[0], 6))
    close(first.flatten(2), expected, 1e-12)
    parts = fpig.decompose(inputs, feature_mask=masks, **options)
    close(parts.interactions, found, 1e-12)
    close(parts.first.sum(1), whole.first.flatten(1).sum(1), 1e-12)
    close(parts.second.sum(1), whole.second.flatten(1).sum(1), 1e-12)


def corners_at(fpig, inputs):
    constant = torch.full_like(inputs[0], 0.1), torch.full_like(inputs[1], -0.1)
    return corners(fpig, inputs, constant)


# ---- baselines and arguments ---------------------------------------------------------


@pytest.mark.parametrize(
    "given, expected",
    [
        (None, (0.0, 0.0)),
        ((None, None), (0.0, 0.0)),
        ((None, 0.5), (0.0, 0.5)),
        ((1, -0.25), (1.0, -0.25)),
        ((torch.tensor(2.0), torch.tensor(-1)), (2.0, -1.0)),
        ((f64([1, 2, 3]), None), (f64([1, 2, 3]), 0.0)),
        ((torch.tensor([[1, 2, 3]]), None), (f64([1, 2, 3]), 0.0)),
        (
            (f64([1, 2, 3], [4, 5, 6]), f64([-1, 1])),
            (f64([1, 2, 3], [4, 5, 6]), f64([-1, 1])),
        ),
    ],
)
def test_baselines(encoders, inputs, given, expected):
    tensors = tuple(
        torch.as_tensor(r, dtype=torch.float64).expand_as(x)
        for r, x in zip(expected, inputs)
    )
    fpig = FeaturePairIntegratedGradients(encoders)
    found = fpig.attribute(inputs, given, n_steps=4)
    close(found, dense_pairs(encoders, inputs, tensors, "cosine", 4), 1e-12)


MASK = f64([1, 1, 0, 0], [1, 1, 1, 0])


@pytest.mark.parametrize(
    "given, of_row",
    [
        (MASK, lambda row: (MASK[row : row + 1],)),
        ((MASK,), lambda row: (MASK[row : row + 1],)),
        (MASK[:1], lambda row: (MASK[:1],)),
        ((MASK, 2), lambda row: (MASK[row : row + 1], 2)),
        ((None, torch.tensor(2.0)), lambda row: (None, 2)),
        ((None, 2.0), lambda row: (None, 2)),
    ],
)
def test_additional_arguments_stay_with_their_example(token_pair, given, of_row):
    encoders, (x, y) = token_pair
    fpig = FeaturePairIntegratedGradients(encoders, "dot")
    found, delta = fpig.attribute(
        (x, y),
        additional_forward_args=(given, None),
        n_steps=4,
        return_convergence_delta=True,
    )
    for row in range(2):
        with_args = (lambda z: encoders[0](z, *of_row(row)), encoders[1])
        pairs = x[row : row + 1], y[row : row + 1]
        starts = tuple(torch.zeros_like(z) for z in pairs)
        expected = dense_pairs(with_args, pairs, starts, "dot", 4)
        close(found[row : row + 1], expected, 1e-12)
    again = fpig.compute_convergence_delta(
        found, None, (x, y), additional_forward_args=(given, None)
    )
    close(again, delta, 1e-12)
    scores = fpig.forward_func(x, y, given)
    expected = fpig.decompose((x, y), additional_forward_args=(given, None), n_steps=1)
    close(expected.score, scores.detach(), 1e-12)


class Strict(nn.Module):
    """Takes its second argument only at the first one's batch."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, x, mask):
        assert len(x) == len(mask)
        return self.encoder(x, mask)


def test_arguments_of_batch_one_are_expanded_where_the_encoder_needs_it(token_pair):
    (first, second), inputs = token_pair
    results = [
        FeaturePairIntegratedGradients((encoder, second)).attribute(
            inputs, additional_forward_args=(MASK, None), n_steps=4
        )
        for encoder in (first, Strict(first))
    ]
    close(*results, 1e-12)


# ---- batches and chunks --------------------------------------------------------------


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_any_internal_batch_size_gives_the_same(encoders, inputs, direction, size):
    fpig = FeaturePairIntegratedGradients(encoders, direction=direction)
    expected = fpig.attribute(inputs, n_steps=7)
    found = fpig.attribute(inputs, n_steps=7, internal_batch_size=size)
    close(found, expected, 1e-13)


def test_internal_batch_size_is_the_most_that_an_encoder_gets(encoders, inputs):
    sizes = []
    handle = encoders[0].register_forward_pre_hook(
        lambda _, args: sizes.append(len(args[0]))
    )
    fpig = FeaturePairIntegratedGradients(encoders)
    # Two ends of the path are embedded at once, before anything is chunked.
    fpig.attribute(inputs, n_steps=10, internal_batch_size=3)
    handle.remove()
    assert max(sizes) == 3 and sum(sizes) == 2 * (1 + 2 + 10)


def test_a_batch_is_its_examples(encoders, inputs, baselines):
    fpig = FeaturePairIntegratedGradients(encoders, scale=3.0)
    starts = start(baselines, inputs)
    whole = fpig.decompose(inputs, starts, n_steps=5)
    for row in range(2):
        alone = fpig.decompose(
            tuple(x[row : row + 1] for x in inputs),
            tuple(r[row : row + 1] for r in starts),
            n_steps=5,
        )
        for part, expected in zip(alone, whole):
            close(part, expected[row : row + 1], 1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_results_keep_the_inputs_dtype(encoders, inputs, dtype):
    expected = FeaturePairIntegratedGradients(encoders).attribute(inputs, n_steps=8)
    low = tuple(encoder.to(dtype) for encoder in encoders)
    fpig = FeaturePairIntegratedGradients(low)
    found, delta = fpig.attribute(
        tuple(x.to(dtype) for x in inputs), n_steps=8, return_convergence_delta=True
    )
    assert found.dtype == delta.dtype == dtype
    atol = {torch.float32: 1e-6, torch.float16: 3e-3, torch.bfloat16: 3e-2}[dtype]
    close(found.double(), expected, atol * float(expected.abs().max()) + atol)


def test_one_encoder_serves_both_sides(mlp):
    encoder, x, y = mlp(3), torch.randn(2, 3).double(), torch.randn(2, 3).double()
    found = FeaturePairIntegratedGradients(encoder).attribute((x, y), n_steps=4)
    twice = FeaturePairIntegratedGradients((encoder, encoder))
    close(found, twice.attribute((x, y), n_steps=4), 0)
    close(found, twice.attribute((y, x), n_steps=4).transpose(1, 2), 1e-12)


def test_inputs_of_images_and_texts_keep_their_axes(cnn, token_encoder):
    fpig = FeaturePairIntegratedGradients((cnn, token_encoder(k=4)))
    images, texts = torch.randn(2, 2, 8, 8).double(), torch.randn(2, 3, 3).double()
    assert fpig.attribute((images, texts), n_steps=2).shape == (2, 2, 8, 8, 3, 3)


class Counted(torch.autograd.Function):
    """The identity, which counts the points that go back through it."""

    points = 0

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        Counted.points += len(gradient)
        return gradient.clone()


@pytest.mark.parametrize("effects", [False, True])
@pytest.mark.parametrize("size", [None, 3])
def test_backward_passes_are_counted_by_the_other_sides_features(
    mlp, monkeypatch, effects, size
):
    # 2 words and an embedding of 16 dimensions: 2 passes at each step on the side of
    # the pixels, however many they are, and one for the main effects.
    words, x = mlp(2, k=16), torch.randn(1, 2).double()
    for pixels in (5, 50):
        image, y = mlp(pixels, k=16), torch.randn(1, pixels).double()

        def counted(z):
            return Counted.apply(image(z))

        for encoders, inputs in (
            ((words, counted), (x, y)),
            ((counted, words), (y, x)),
        ):
            fpig = FeaturePairIntegratedGradients(encoders)
            call = fpig.decompose if effects else fpig.attribute
            call(inputs, n_steps=1)
            monkeypatch.setattr(Counted, "points", 0)
            call(inputs, n_steps=1)
            overhead = Counted.points - (2 + effects)
            monkeypatch.setattr(Counted, "points", 0)
            call(inputs, n_steps=7, internal_batch_size=size)
            assert Counted.points - overhead == 7 * (2 + effects)


# ---- tolerance -----------------------------------------------------------------------


@pytest.fixture
def evaluated_steps(monkeypatch):
    """The quadratures that are asked for, in order."""
    from captum_pairs.attr._core import integrated_jacobian

    asked = []

    def counted(n_steps, *args):
        asked.append(n_steps)
        return quadrature(n_steps, *args)

    monkeypatch.setattr(integrated_jacobian, "quadrature", counted)
    return asked


def residuals(encode, inputs, starts, steps, method):
    """Relative distance of the dense integral from the difference of embeddings."""
    found = []
    for x, r in zip(inputs, starts):
        difference = (encode(x[None]) - encode(r[None]))[0].detach()
        total = dense(encode, x, r, steps, method).sum(dim=0)
        found.append((total - difference).norm() / difference.norm())
    return torch.stack(found)


@pytest.mark.parametrize("method", ["gausslegendre", "riemann_middle"])
@pytest.mark.parametrize("tolerance", [1e-1, 1e-2, 2e-3])
def test_tolerance_takes_the_first_rung_that_does(
    encoders, inputs, method, tolerance, evaluated_steps
):
    inputs = tuple(3 * x for x in inputs)
    starts = tuple(torch.zeros_like(x) for x in inputs)
    fpig = FeaturePairIntegratedGradients(encoders, "dot")
    chosen = fpig.choose_steps(inputs, n_steps=512, method=method, tolerance=tolerance)
    for convergence, encode, x, r in zip(chosen, encoders, inputs, starts):
        for row in range(2):
            for steps in (4, 8, 16, 32, 64, 128, 256, 512):
                expected = residuals(encode, x, r, steps, method)[row]
                if bool(expected <= tolerance):
                    break
            assert convergence.n_steps[row] == steps
            close(convergence.residual[row], expected, 1e-12)
    # And `attribute` takes exactly those, after the climb.
    evaluated_steps.clear()
    found = fpig.attribute(inputs, n_steps=512, method=method, tolerance=tolerance)
    taken = {int(steps) for of_side in chosen for steps in of_side.n_steps}
    assert set(evaluated_steps) == {
        4 * 2**rung for steps in taken for rung in range(steps.bit_length() - 2)
    }
    first, second = (
        torch.stack(
            [
                dense(g, a, b, int(steps), method)
                for a, b, steps in zip(x, r, of_side.n_steps)
            ]
        )
        for g, x, r, of_side in zip(encoders, inputs, starts, chosen)
    )
    close(found, first @ second.transpose(1, 2), 1e-12)


def test_ceiling_that_does_not_do_is_told_for_every_example(encoders, inputs):
    inputs = tuple(5 * x for x in inputs)
    fpig = FeaturePairIntegratedGradients(encoders, "dot")
    options = dict(n_steps=6, method="riemann_right", tolerance=1e-6)
    chosen = fpig.choose_steps(inputs, **options)
    with pytest.warns(UserWarning) as told:
        found = fpig.attribute(inputs, **options)
    assert {str(one.message) for one in told} == {
        f"the path integral of inputs[{index}] has a residual of "
        f"{float(residual):.1e} after n_steps=6, above tolerance=1.0e-06"
        for index, of_side in enumerate(chosen)
        for residual in of_side.residual
    }
    assert all(one.filename == __file__ for one in told)
    options.pop("tolerance")
    close(found, fpig.attribute(inputs, **options), 1e-13)


def test_no_tolerance_takes_exactly_the_steps(encoders, inputs, evaluated_steps):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FeaturePairIntegratedGradients(encoders).attribute(inputs, n_steps=3)
    assert set(evaluated_steps) == {3}


# ---- the product ---------------------------------------------------------------------


def test_pair_is_the_inner_product_of_contributions():
    first, second = torch.randn(2, 3, 4, 5).double(), torch.randn(2, 6, 5).double()
    close(pair(first, second), torch.einsum("bhwk,bjk->bhwj", first, second), 1e-13)
    others = torch.randn(7, 6, 5).double()
    table = pair(first, others, all_pairs=True)
    close(table, torch.einsum("mhwk,njk->mnhwj", first, others), 1e-13)
    assert table.is_contiguous() and pair(first, second).is_contiguous()
    assert pair(first[:, 0, 0], second).shape == (2, 6)
    for row in range(2):
        aligned = table[row, row]
        close(pair(first[row : row + 1], others[row : row + 1])[0], aligned, 1e-13)


def test_pair_accumulates_half_precision_in_float32():
    # In float16 the sum would stop growing at 2048, where 1 is half a unit.
    ones = torch.ones(1, 1, 4096, dtype=torch.float16)
    found = pair(ones, ones)
    assert found.dtype == torch.float16 and found.item() == 4096
    # Products that overflow, but whose sum does not.
    large = torch.tensor([[[300.0, 300.0, 1.0]]], dtype=torch.float16)
    signs = torch.tensor([[[300.0, -300.0, 1.0]]], dtype=torch.float16)
    assert pair(large, signs).item() == 1


def test_local_attributions_are_the_averaged_jacobian(encoders, inputs):
    fpig = FeaturePairIntegratedGradients(
        encoders, "dot", multiply_by_inputs=False, scale=2.0
    )
    mask = torch.tensor([[0, 1, 0]])
    found = fpig.attribute(inputs, feature_mask=(mask, None), n_steps=3)
    nodes, weights = quadrature(3)
    for row in range(2):
        means = [
            sum(
                w * jacobian(lambda z: encode(z[None])[0], a * x[row]).T
                for a, w in zip(nodes, weights)
            )
            for encode, x in zip(encoders, inputs)
        ]
        grouped = torch.stack([means[0][0] + means[0][2], means[0][1]])
        close(found[row], 2 * grouped @ means[1].T, 1e-12)
