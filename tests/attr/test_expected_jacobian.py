"""Means over references, against averages that are written out."""

import math
import warnings
from typing import Any

import pytest
import torch
from captum_pairs.attr import (
    confidence_factor,
    ExpectedJacobian,
    FeaturePairExpectedGradients,
    FeaturePairIntegratedGradients,
    IntegratedJacobian,
    InvalidArgumentError,
    pair,
    ReferenceValues,
    Session,
)
from captum_pairs.attr._utils.quadrature import quadrature
from captum_pairs.attr._utils.spread import standard_error_of_products
from torch import nn, Tensor
from torch.autograd.functional import jacobian

STEPS = 6


def close(found: Tensor, wanted: Tensor, atol: float = 1e-10) -> None:
    torch.testing.assert_close(found, wanted, rtol=0, atol=atol)


def unit(embeddings: Tensor) -> Tensor:
    return embeddings / embeddings.norm(dim=-1, keepdim=True)


def written_out(encoder: Any, x: Tensor, references: Tensor) -> Tensor:
    """One example (1, t, d): contributions of its tokens (t, k), reference by
    reference, (M, t, k)."""
    nodes, weights = quadrature(STEPS)
    found = []
    for reference in references:
        total = torch.zeros(())
        for node, weight in zip(nodes, weights):
            point = reference + node * (x[0] - reference)
            slope = jacobian(lambda z: unit(encoder(z[None]))[0], point)  # (k, t, d)
            total = total + weight * (slope * (x[0] - reference)).sum(-1).T
        found.append(total)
    return torch.stack(found)


@pytest.fixture
def both(token_encoder: Any) -> tuple[nn.Module, nn.Module]:
    return token_encoder(), token_encoder()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 4, 3).double()


@pytest.fixture
def y() -> Tensor:
    return torch.randn(2, 2, 3).double()


@pytest.fixture
def references() -> tuple[Tensor, Tensor]:
    """Five of the first side, three of the second one."""
    return torch.randn(5, 4, 3).double(), torch.randn(3, 2, 3).double()


def by_token(count: int) -> Tensor:
    return torch.arange(count).reshape(1, count, 1)


@pytest.mark.parametrize("direction", [None, "forward", "reverse"])
def test_contributions_are_the_mean_that_is_written_out(
    both: Any, x: Tensor, references: Any, direction: Any
) -> None:
    expected = ExpectedJacobian(both[0], normalize=True, direction=direction)
    found, error = expected.attribute(
        x,
        references[0],
        feature_mask=by_token(4),
        n_steps=STEPS,
        return_standard_error=True,
        internal_batch_size=7,
    )
    for row in range(2):
        apart = written_out(both[0], x[row : row + 1], references[0])
        close(found[row], apart.mean(0))
        close(error[row], apart.std(0) / math.sqrt(5))


def test_readings_too(both: Any, x: Tensor, references: Any) -> None:
    directions = torch.randn(2, 5).double()
    read = ExpectedJacobian(both[0], normalize=True).read(
        x, directions, references[0], feature_mask=by_token(4), n_steps=STEPS
    )
    for row in range(2):
        apart = written_out(both[0], x[row : row + 1], references[0])
        close(read.attributions[row], apart.mean(0) @ directions.T)
    close(read.baseline_embedding[0], unit(both[0](references[0])).mean(0))


def test_pairs_are_the_mean_over_all_pairs_of_references(
    both: Any, x: Tensor, y: Tensor, references: Any
) -> None:
    pairs = FeaturePairExpectedGradients(both, scale=3.0)
    found, error, delta = pairs.attribute(
        (x, y),
        references,
        feature_mask=(by_token(4), by_token(2)),
        n_steps=STEPS,
        return_standard_error=True,
        return_convergence_delta=True,
    )
    for row in range(2):
        first, second = (
            written_out(encoder, each[row : row + 1], of)
            for encoder, each, of in zip(both, (x, y), references)
        )
        every = torch.stack([a @ b.T for a in first for b in second])
        close(found[row], 3.0 * every.mean(0))
        close(error[row], 3.0 * standard_error_of_products(first, second))
    g, h = (unit(encoder(each)) for encoder, each in zip(both, (x, y)))
    r, q = (unit(e(each)).mean(0) for e, each in zip(both, references))
    target = 3.0 * ((g - r) * (h - q)).sum(-1)
    close(delta, found.flatten(1).sum(1) - target)
    close(pairs.compute_convergence_delta(found, references, (x, y)).sum(), delta.sum())


def test_pairs_sum_to_the_doubly_centred_similarity(
    both: Any, x: Tensor, y: Tensor, references: Any
) -> None:
    pairs = FeaturePairExpectedGradients(both)
    found = pairs.decompose((x, y), references, n_steps=24)
    s = pairs.forward_func

    def mean(first: Tensor, second: Tensor) -> Tensor:
        every = [s(a[None], b[None]) for a in first for b in second]
        return torch.stack(every).mean()

    for row in range(2):
        one, other = x[row : row + 1], y[row : row + 1]
        centred = s(one, other)[0] - mean(references[0], other)
        centred += mean(references[0], references[1]) - mean(one, references[1])
        close(found.interactions[row].sum(), centred, 1e-8)
        close(found.score[row], s(one, other)[0])
        close(found.constant[row], mean(*references))
    close(found.convergence_delta, torch.zeros(2).double(), 1e-8)


def test_one_reference_is_a_baseline(both: Any, x: Tensor, y: Tensor) -> None:
    start = torch.randn(1, 4, 3).double(), 0.5
    found, error = FeaturePairExpectedGradients(both).attribute(
        (x, y), start, n_steps=STEPS, return_standard_error=True
    )
    wanted = FeaturePairIntegratedGradients(both).attribute(
        (x, y), start, n_steps=STEPS
    )
    close(found, wanted)
    assert not error.any()


def test_a_set_and_a_single_reference(
    both: Any, x: Tensor, y: Tensor, references: Any
) -> None:
    """Either side may have either."""
    mask = by_token(4), by_token(2)
    found = FeaturePairExpectedGradients(both, similarity="dot").attribute(
        (x, y), (references[0], 0.5), feature_mask=mask, n_steps=STEPS
    )
    first = ExpectedJacobian(both[0]).attribute(
        x, references[0], feature_mask=mask[0], n_steps=STEPS
    )
    second = IntegratedJacobian(both[1]).attribute(
        y, 0.5, feature_mask=mask[1], n_steps=STEPS
    )
    close(found, pair(first, second))


# ---- at layers ---------------------------------------------------------------


def test_at_a_layer_with_the_examples_own_mask(
    both: Any, x: Tensor, references: Any
) -> None:
    encoder, mask = both[0], torch.tensor([[1.0, 1, 1, 0], [1, 1, 1, 1]]).double()
    expected = ExpectedJacobian(encoder, True, layer=encoder.front)
    found = expected.decompose(
        x, references[0], additional_forward_args=mask, n_steps=16
    )
    single = IntegratedJacobian(encoder, True, layer=encoder.front)
    each = [
        single.decompose(x, r[None], additional_forward_args=mask, n_steps=16)
        for r in references[0]
    ]
    for name in ("contributions", "baseline_embedding"):
        wanted = torch.stack([getattr(one, name) for one in each]).mean(0)
        close(getattr(found, name), wanted)
    close(found.convergence_delta, torch.zeros(2, 5).double(), 1e-6)


class Counted(nn.Module):
    """A front of which is counted how many examples pass it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.seen = inner, 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        found: Tensor = self.inner(x)
        return found


def test_what_comes_before_the_layer_runs_once_for_each_reference(
    both: Any, x: Tensor, references: Any
) -> None:
    encoder = both[0]
    front = encoder.front = Counted(encoder.front)
    expected = ExpectedJacobian(encoder, layer=encoder.block)
    found = expected.attribute(x, references[0], n_steps=2)
    # both examples, and five references for both of them
    assert front.seen == 2 + 5
    front.seen = 0
    kept = expected.reference_values(references[0])
    assert isinstance(kept, ReferenceValues) and front.seen == 1 + 5
    front.seen = 0
    close(expected.attribute(x, kept, n_steps=2), found)
    assert front.seen == 2


# ---- points ------------------------------------------------------------------


def test_tolerance_is_kept_with_as_few_points_as_do(
    both: Any, x: Tensor, references: Any
) -> None:
    expected = ExpectedJacobian(both[0], normalize=True)
    with Session() as session:
        paths: Any = next(expected.examples(x, references[0], session=session))
        wanted = paths.embedding - paths.baseline_embedding
        residuals = {}
        tried = expected.refined(paths, expected.settings_type(2, tolerance=1e-9))
        for n_steps in (1, 2, 4, 8):
            total = expected.contributions(paths, _fixed(tried, 5, n_steps)).sum(0)
            residuals[n_steps] = float((total - wanted).norm() / wanted.norm())
        for tolerance in (1e-1, 1e-2, 1e-4):
            settings = expected.settings_type(64, tolerance=tolerance)
            split = expected.refined(paths, settings)
            residual = split.residual
            assert split.n_references == 5 and residual <= tolerance
            fewer = split.n_steps // 2
            assert residuals.get(fewer, 1.0) > tolerance
            if split.n_steps in residuals:
                assert residual == pytest.approx(residuals[split.n_steps])
    found = expected.decompose(x, references[0], n_steps=64, tolerance=1e-3)
    size = (found.embedding - found.baseline_embedding).norm(dim=-1)
    assert bool((found.convergence_delta.norm(dim=-1) <= 1e-3 * size).all())


def test_a_tolerance_that_is_missed_is_said(
    both: Any, x: Tensor, references: Any
) -> None:
    expected = ExpectedJacobian(both[0], normalize=True)
    with pytest.warns(UserWarning, match=r"2 points of each reference"):
        expected.attribute(x[:1], references[0], n_steps=2, tolerance=1e-9)


def test_points_are_split_by_the_measured_error(both: Any, x: Tensor) -> None:
    """Few points: with a tolerance fewer references, without it the least error."""
    generator = torch.Generator().manual_seed(3)
    references = torch.randn(32, 4, 3, generator=generator).double()
    expected = ExpectedJacobian(both[0], normalize=True)
    with Session() as session:
        paths: Any = next(expected.examples(x, references, session=session))
        make = expected.settings_type
        whole = expected.refined(paths, make(64, tolerance=1e-3))
        assert whole.n_references == 32
        few = expected.refined(paths, make(64, tolerance=1e-3, n_points=32))
        assert few.n_references < 32 and few.residual <= 1e-3
        assert few.n_references * few.n_steps <= 32
        free = expected.refined(paths, make(64, n_points=32))
        assert free.n_references * free.n_steps <= 32
        # the error that it chose by, of each split, from what is public
        errors = {}
        spread = float(paths.start_embeddings.var(0).sum())
        for count in (32, 16, 8, 4, 2, 1):
            found = expected.contributions(paths, _fixed(free, count, 32 // count))
            known = paths.start_embeddings[:count].mean(0)
            target = paths.embedding - known
            missed = float((found.sum(0) - target).norm() / target.norm())
            whole_norm = float((paths.embedding - paths.baseline_embedding).norm())
            sampling = math.sqrt(spread / count) / whole_norm
            errors[count] = math.hypot(missed, sampling)
        assert free.n_references == min(errors, key=lambda count: errors[count])
        shares = expected.shares(paths, few)
    used = paths.start_embeddings[: few.n_references]
    close(shares.baseline_embedding, used.mean(0))


def _fixed(split: Any, count: int, n_steps: int) -> Any:
    is_shifted = count > 1 and n_steps <= 8
    return type(split)(n_steps, split.method, None, None, None, count, is_shifted)


def test_different_places_in_each_path_are_a_finer_rule() -> None:
    """Of one point of each path, where all paths are steep in the same place."""
    steep = nn.Sequential(nn.Linear(3, 1), nn.Sigmoid(), nn.Linear(1, 4)).double()
    with torch.no_grad():
        steep[0].weight.fill_(8.0)
        steep[0].bias.fill_(-6.0)
    x, references = torch.ones(1, 3).double(), 0.02 * torch.randn(64, 3).double()
    expected = ExpectedJacobian(steep)
    missed = {}
    for name, settings in (
        ("middles", {"n_steps": 1}),
        ("shifted", {"n_steps": 1, "tolerance": 0.2}),
    ):
        found = expected.decompose(x, references, **settings)
        size = float((found.embedding - found.baseline_embedding).norm())
        missed[name] = float(found.convergence_delta.norm()) / size
    assert missed["shifted"] < 0.1 < 0.9 < missed["middles"]


def test_errors_are_of_the_points_that_were_chosen(both: Any, x: Tensor) -> None:
    """Each reference has its own, in the mean and alone."""
    references = torch.randn(6, 4, 3).double()
    expected = ExpectedJacobian(both[0], normalize=True)
    with Session() as session:
        paths: Any = next(expected.examples(x, references, session=session))
        settings = expected.settings_type(64, tolerance=0.2)
        split = expected.refined(paths, settings)
        assert split.is_shifted
        apart = expected.contributions_by_reference(paths, split)
        close(apart.mean(0), expected.contributions(paths, split))


# ---- intervals ---------------------------------------------------------------


def test_variance_of_products_is_the_formulas(both: Any) -> None:
    first, second = torch.randn(6, 2, 3).double(), torch.randn(4, 5, 3).double()
    means = first.mean(0), second.mean(0)
    for i in range(2):
        for j in range(5):
            one, other = first[:, i].T.cov(), second[:, j].T.cov()
            variance = means[1][j] @ one @ means[1][j] / 6
            variance += means[0][i] @ other @ means[0][i] / 4
            variance -= (one @ other).trace() / 24
            found = standard_error_of_products(first, second)[i, j]
            close(found**2, variance.clamp_min(0))


@pytest.mark.parametrize("count", [4, 16, 64])
def test_intervals_cover_what_they_say(count: int) -> None:
    """Linear encoders and normal references: the expected attribution is known."""
    draw = torch.Generator().manual_seed(count)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    trials, k = 300, 4
    weights = normal(3, k), normal(2, k)
    x, y = normal(3) + 1.5, normal(2) - 1.5
    factor = confidence_factor(count)
    covered = []
    for _ in range(trials):
        # c_i = (x_i - r_i) w_i, of each reference
        apart = [
            (each - normal(count, len(each)))[:, :, None] * w
            for each, w in zip((x, y), weights)
        ]
        estimate = apart[0].mean(0) @ apart[1].mean(0).T
        truth = (x[:, None] * weights[0]) @ (y[:, None] * weights[1]).T
        half = factor * standard_error_of_products(*apart)
        covered.append((estimate - truth).abs() <= half)
    share = float(torch.stack(covered).double().mean())
    assert 0.93 <= share <= (0.97 if count >= 16 else 0.99)


def test_the_method_has_these_errors_of_linear_encoders() -> None:
    first, second = nn.Linear(3, 4).double(), nn.Linear(2, 4).double()
    x, y = torch.randn(1, 3).double(), torch.randn(1, 2).double()
    references = torch.randn(16, 3).double(), torch.randn(16, 2).double()
    pairs = FeaturePairExpectedGradients((first, second), similarity="dot")
    _, error = pairs.attribute(
        (x, y), references, n_steps=1, return_standard_error=True
    )
    apart = [
        ((each - of)[:, :, None] * net.weight.T)
        for each, of, net in zip((x, y), references, (first, second))
    ]
    close(error[0], standard_error_of_products(*apart).detach())


def test_quantiles_of_students_t() -> None:
    """Values of any table."""
    for count, wanted in ((2, 12.706), (3, 4.303), (16, 2.131), (64, 1.998)):
        assert confidence_factor(count) == pytest.approx(wanted, abs=5e-4)
    assert confidence_factor(11, 0.99) == pytest.approx(3.169, abs=5e-4)
    assert confidence_factor(10**6) == pytest.approx(1.95996, abs=1e-4)
    for count, level in ((1, 0.95), (4, 0.0), (4, 1.0), (4, math.nan)):
        with pytest.raises(InvalidArgumentError):
            confidence_factor(count, level)


# ---- what bad references get -------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        torch.zeros(0, 4, 3),
        torch.zeros(5, 3, 3),
        torch.zeros(4, 3),
        torch.zeros(2, 5, 4, 3),
        "none",
    ],
)
def test_wrong_references_are_refused(both: Any, x: Tensor, wrong: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="^baselines: expected"):
        ExpectedJacobian(both[0]).attribute(x, wrong, n_steps=1)
    with pytest.raises(InvalidArgumentError, match=r"^baselines\[1\]: expected"):
        FeaturePairExpectedGradients(both).attribute((x, x), (None, wrong), n_steps=1)


def test_kept_references_of_another_layer_are_refused(both: Any, x: Tensor) -> None:
    kept = ReferenceValues(torch.zeros(5, 4, 7).double())
    with pytest.raises(InvalidArgumentError, match="value at the layer"):
        ExpectedJacobian(both[0], layer=both[0].front).attribute(x, kept, n_steps=1)


def test_a_reference_without_direction_has_no_cosine(x: Tensor) -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(12, 4, bias=False)).double()
    references = torch.cat([torch.ones(1, 4, 3), torch.zeros(1, 4, 3)]).double()
    with pytest.raises(InvalidArgumentError, match="norm zero for baselines"):
        ExpectedJacobian(flat, normalize=True).attribute(x, references, n_steps=1)


def test_no_tolerance_no_warning(both: Any, x: Tensor, references: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ExpectedJacobian(both[0]).attribute(x, references[0], n_steps=1)
