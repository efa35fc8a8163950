"""The engine as Captum's other tools and a reader of its interface meet it."""

import ast
import copy
import doctest
import inspect
import pickle
import sys
from pathlib import Path

import captum_pairs.attr
import pytest
import torch
from captum.attr import (
    Attribution,
    FeatureAblation,
    IntegratedGradients,
    LayerAttribution,
    NoiseTunnel,
)
from captum.metrics import sensitivity_max
from captum_pairs.attr import (
    FeaturePairIntegratedGradients,
    IntegratedJacobian,
    InvalidArgumentError,
    LayerFeaturePairIntegratedGradients,
    LayerIntegratedJacobian,
    PairDecomposition,
)
from torch import nn, Tensor


def close(found, expected, atol=1e-12):
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


METHODS = [
    FeaturePairIntegratedGradients,
    LayerFeaturePairIntegratedGradients,
    IntegratedJacobian,
    LayerIntegratedJacobian,
]
PAIR_METHODS = METHODS[:2]


class Weighted(nn.Module):
    """(b, 3, 2) and weights (b, 3) -> (b, 4)."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(2, 3), nn.Linear(3, 4)

    def forward(self, x, weights=None):
        hidden = torch.tanh(self.layer(x))
        if weights is None:
            weights = x.new_ones(1, 3)
        return self.head((weights.unsqueeze(-1) * hidden).sum(1))


@pytest.fixture
def both():
    return Weighted().double(), Weighted().double()


@pytest.fixture
def xy():
    return torch.randn(2, 3, 2).double(), torch.randn(2, 3, 2).double()


@pytest.fixture
def weights():
    return torch.rand(2, 3).double(), torch.rand(2, 3).double()


def make(method, both, **options):
    forward = both if method in PAIR_METHODS else both[0]
    layers = {
        LayerFeaturePairIntegratedGradients: tuple(net.layer for net in both),
        LayerIntegratedJacobian: both[0].layer,
    }
    layer = {"layer": layers[method]} if method in layers else {}
    return method(forward, **layer, **options)


# ---- what it is ----------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_is_a_captum_attribution(method, both):
    attribution = make(method, both)
    assert isinstance(attribution, Attribution)
    assert isinstance(attribution, LayerAttribution) is method.__name__.startswith("L")
    assert attribution.has_convergence_delta() and attribution.multiplies_by_inputs
    assert "attribute_future" not in vars(method)
    local = make(method, both, multiply_by_inputs=False)
    assert not local.has_convergence_delta() and not local.multiplies_by_inputs


def test_layer_is_the_pair(both):
    fpig = make(LayerFeaturePairIntegratedGradients, both)
    assert fpig.layer == (both[0].layer, both[1].layer)
    one_sided = LayerFeaturePairIntegratedGradients(both, (None, both[1].layer))
    assert one_sided.layer == (None, both[1].layer)


@pytest.mark.parametrize(
    "method, name",
    [
        (FeaturePairIntegratedGradients, "Feature Pair Integrated Gradients"),
        (
            LayerFeaturePairIntegratedGradients,
            "Layer Feature Pair Integrated Gradients",
        ),
        (IntegratedJacobian, "Integrated Jacobian"),
        (LayerIntegratedJacobian, "Layer Integrated Jacobian"),
    ],
)
def test_name(method, name):
    assert method.get_name() == name


ATTRIBUTE = (
    "self inputs baselines feature_mask additional_forward_args n_steps method "
    "tolerance internal_batch_size return_convergence_delta attribute_to_layer_input"
).split()
DEFAULTS = [inspect.Parameter.empty] * 2 + [None] * 3
# Captum's method is "gausslegendre": so is ours, unless a tolerance chooses the nodes.
DEFAULTS += [50, None, None, None, False, False]


def names(function):
    return list(inspect.signature(function).parameters)


@pytest.mark.parametrize("method", METHODS)
def test_attribute_has_the_contracts_signature(method):
    assert names(method.attribute) == ATTRIBUTE
    parameters = inspect.signature(method.attribute).parameters.values()
    assert [parameter.default for parameter in parameters] == DEFAULTS
    assert names(method.decompose) == ATTRIBUTE[:-2] + ATTRIBUTE[-1:]
    if method not in PAIR_METHODS:
        read = [*ATTRIBUTE[:2], "directions", *ATTRIBUTE[2:-2], ATTRIBUTE[-1]]
        assert names(method.read) == read
    # Captum's own order, for those who call it by position.
    delta = "self attributions start_point end_point target additional_forward_args"
    assert names(method.compute_convergence_delta) == [*delta.split(), ATTRIBUTE[-1]]
    assert names(IntegratedGradients.compute_convergence_delta) == delta.split()


@pytest.mark.parametrize(
    "method, expected",
    [
        (
            FeaturePairIntegratedGradients,
            "forward_func similarity scale multiply_by_inputs direction layer "
            "channel_dim",
        ),
        (
            LayerFeaturePairIntegratedGradients,
            "forward_func layer similarity scale multiply_by_inputs direction "
            "channel_dim",
        ),
        (
            IntegratedJacobian,
            "forward_func normalize multiply_by_inputs direction layer channel_dim",
        ),
        (
            LayerIntegratedJacobian,
            "forward_func layer normalize multiply_by_inputs direction channel_dim",
        ),
    ],
)
def test_constructor_has_the_contracts_signature(method, expected):
    assert names(method.__init__) == ["self", *expected.split()]
    parameters = inspect.signature(method).parameters
    defaults = {
        "similarity": "cosine",
        "scale": 1.0,
        "multiply_by_inputs": True,
        "normalize": False,
        "direction": None,
        "channel_dim": None,
        "layer": inspect.Parameter.empty if "Layer" in method.__name__ else None,
    }
    for name in expected.split():
        assert parameters[name].default == defaults.get(name, inspect.Parameter.empty)


@pytest.mark.parametrize("method", METHODS)
def test_calls_are_logged_as_captums_are(method):
    for name in ("attribute", "compute_convergence_delta"):
        function = getattr(method, name)
        assert function.__wrapped__ is not function
        assert function.__wrapped__.__name__ == name


# ---- Captum's tools ------------------------------------------------------------------


def twice(value, samples):
    """A tensor of batch 2 for each of its examples' samples; anything else as is."""
    if not isinstance(value, Tensor) or value.shape[0] == 1:
        return value
    return value.repeat_interleave(samples, dim=0)


@pytest.mark.parametrize("method", PAIR_METHODS)
@pytest.mark.parametrize("given", ["args", "baselines", "mask", "delta", "all"])
@pytest.mark.parametrize("batch_size", [None, 2])
def test_noise_tunnel(method, both, xy, weights, given, batch_size):
    shape = (1, 3, 1)
    mask = torch.arange(3).reshape(shape) // 2, torch.zeros(shape, dtype=torch.int64)
    options = {
        "args": dict(additional_forward_args=weights),
        "baselines": dict(baselines=(torch.rand(2, 3, 2).double(), 0.25)),
        "mask": dict(feature_mask=mask),
        "delta": dict(return_convergence_delta=True),
    }
    if given == "all":
        chosen = {
            key: value for part in options.values() for key, value in part.items()
        }
    else:
        chosen = options[given]
    fpig, samples = make(method, both), 3
    torch.manual_seed(1)
    found = NoiseTunnel(fpig).attribute(
        xy,
        nt_samples=samples,
        stdevs=(0.1, 0.2),
        nt_samples_batch_size=batch_size,
        n_steps=3,
        **chosen,
    )
    # The same noise, in the order in which it was drawn; each sample by itself.
    torch.manual_seed(1)
    parts, deltas = [], []
    for size in (samples,) if batch_size is None else (2, 1):
        noisy = [
            NoiseTunnel._add_noise_to_input(z, stdev, size)
            for z, stdev in zip(xy, (0.1, 0.2))
        ]
        for row in range(2 * size):
            of_row = {
                key: (
                    tuple(
                        (
                            value[row // size : row // size + 1]
                            if isinstance(value, Tensor) and len(value) == 2
                            else value
                        )
                        for value in pair_of_values
                    )
                    if isinstance(pair_of_values, tuple)
                    else pair_of_values
                )
                for key, pair_of_values in chosen.items()
            }
            of_row["return_convergence_delta"] = True
            sample = tuple(z[row : row + 1] for z in noisy)
            part, delta = fpig.attribute(sample, n_steps=3, **of_row)
            parts.append((row // size, part[0]))
            deltas.append(delta)
    if "return_convergence_delta" in chosen:
        found, delta = found
        close(delta, torch.cat(deltas))
    for example in range(2):
        own = [part for row, part in parts if row == example]
        close(found[example], torch.stack(own).mean(0))


@pytest.mark.parametrize("method", PAIR_METHODS)
@pytest.mark.parametrize("with_args", [False, True])
def test_sensitivity_max(method, both, xy, weights, with_args):
    fpig = make(method, both)
    options = dict(n_steps=3)
    if with_args:
        options.update(additional_forward_args=weights, baselines=(0.0, 0.0))

    def shifted(inputs):
        return tuple(z + 0.01 for z in inputs)

    found = sensitivity_max(
        lambda *args, **kwargs: (fpig.attribute(*args, **kwargs),),
        xy,
        perturb_func=shifted,
        n_perturb_samples=2,
        **options,
    )
    plain = fpig.attribute(xy, **options).flatten(1)
    moved = fpig.attribute(shifted(xy), **options).flatten(1)
    close(found, (plain - moved).norm(dim=1) / plain.norm(dim=1))
    assert bool((found > 1e-4).all())


def score(fpig, both, x, y, weights, scale=1.0):
    first = both[0](x, weights[0])
    second = both[1](y, weights[1])
    return scale * nn.functional.cosine_similarity(first, second)


@pytest.mark.parametrize("method", PAIR_METHODS)
@pytest.mark.parametrize("with_args", [False, True])
def test_forward_func_serves_captums_methods(method, both, xy, weights, with_args):
    fpig = make(method, both, scale=5.0)
    options = dict(additional_forward_args=weights) if with_args else {}
    weights = weights if with_args else (None, None)
    expected = score(fpig, both, *xy, weights, 5.0)
    close(fpig.forward_func(*xy, *(w for w in weights if with_args)), expected)
    assert expected.shape == (2,)
    ablations = FeatureAblation(fpig.forward_func).attribute(xy, **options)
    for side in (0, 1):
        without = [z.clone() for z in xy]
        without[side][:, 1, 0] = 0
        difference = expected - score(fpig, both, *without, weights, 5.0)
        close(ablations[side][:, 1, 0], difference.detach())
    gradients, delta = IntegratedGradients(fpig.forward_func).attribute(
        xy, n_steps=100, return_convergence_delta=True, **options
    )
    zeros = tuple(torch.zeros_like(z) for z in xy)
    target = expected - score(fpig, both, *zeros, weights, 5.0)
    total = sum(part.flatten(1).sum(1) for part in gradients)
    # Captum's quadrature weights are float32.
    close(total, target.detach(), 1e-5)
    close(delta, torch.zeros(2).double(), 1e-5)


@pytest.mark.parametrize("similarity", ["cosine", "dot", "frozen_cosine"])
def test_forward_func_is_the_similarity(both, xy, similarity):
    fpig = make(FeaturePairIntegratedGradients, both, similarity=similarity, scale=2.0)
    first, second = both[0](xy[0]), both[1](xy[1])
    expected = 2 * (first * second).sum(-1)
    if similarity != "dot":
        expected = expected / first.norm(dim=-1) / second.norm(dim=-1)
    close(fpig.forward_func(*xy), expected)


# ---- copies --------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "copied", [copy.deepcopy, copy.copy, lambda z: pickle.loads(pickle.dumps(z))]
)
def test_copies_give_the_same(method, both, xy, copied):
    attribution = make(method, both)
    inputs = xy if method in PAIR_METHODS else xy[0]
    expected = attribution.attribute(inputs, n_steps=3)
    for _ in range(2):  # before and after it has been used
        close(copied(attribution).attribute(inputs, n_steps=3), expected, 0)


def test_results_can_be_pickled(both, xy):
    fpig = make(FeaturePairIntegratedGradients, both)
    found = fpig.decompose(xy, n_steps=2)
    again = pickle.loads(pickle.dumps(found))
    assert type(again) is PairDecomposition
    close(tuple(again), tuple(found), 0)
    chosen = fpig.choose_steps(xy)
    again = pickle.loads(pickle.dumps(chosen))
    close(tuple(again), tuple(chosen), 0)


# ---- the package ---------------------------------------------------------------------

PUBLIC = {
    "BaselinePath",
    "blocks_of",
    "Convergence",
    "EmbeddingAttribution",
    "EmbeddingBanzhaf",
    "EmbeddingDecomposition",
    "EmbeddingLime",
    "EmbeddingLRP",
    "EmbeddingOcclusion",
    "EmbeddingReading",
    "EmbeddingShapley",
    "Example",
    "FeaturePairBanzhaf",
    "FeaturePairBiLRP",
    "FeaturePairInteractionCam",
    "FeaturePairJacobianXInput",
    "FeaturePairLime",
    "FeaturePairOcclusion",
    "FeaturePairShapley",
    "FeaturePairTokenSimilarity",
    "JacobianXInput",
    "confidence_factor",
    "ExpectedJacobian",
    "FeaturePairExpectedGradients",
    "FeaturePairIntegratedGradients",
    "FeaturePairIntegratedHessians",
    "IntegratedJacobian",
    "InvalidArgumentError",
    "LayerFeaturePairIntegratedGradients",
    "LayerIntegratedJacobian",
    "pair",
    "PairAttribution",
    "PairDecomposition",
    "Place",
    "ReferencePaths",
    "ReferenceValues",
    "Session",
    "Shares",
    "Subsets",
    "TokenDecomposition",
    "validation",
    "visualization",
}


def test_public_names_are_these():
    assert set(captum_pairs.attr.__all__) == PUBLIC
    assert len(captum_pairs.attr.__all__) == len(PUBLIC)
    for name in PUBLIC:
        found = getattr(captum_pairs.attr, name)
        assert found.__name__.split(".")[-1] == name and found.__doc__


ROOM = Path(captum_pairs.attr.__file__).parent
ALLOWED = {"torch", "numpy", "matplotlib", "captum", *sys.stdlib_module_names}


@pytest.mark.parametrize(
    "path", sorted(ROOM.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOM))
)
def test_imports_nothing_of_ours_from_outside(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "absolute imports, as in Captum"
            modules = [node.module]
        else:
            continue
        for module in modules:
            own = module.split(".")[:2] == ["captum_pairs", "attr"]
            assert own or module.split(".")[0] in ALLOWED, module


def documented():
    """Public objects and their own methods, with their docstrings."""
    for name in captum_pairs.attr.__all__:
        found = getattr(captum_pairs.attr, name)
        yield name, found.__doc__
        for key, member in vars(found).items():
            if callable(member) and not key.startswith("__") and member.__doc__:
                yield f"{name}.{key}", member.__doc__


EXAMPLES = {name: text for name, text in documented() if ">>>" in text}


def test_every_method_has_an_example():
    having = {name.split(".")[0] for name in EXAMPLES}
    bases = {"EmbeddingAttribution", "PairAttribution"}
    methods = {name for name in captum_pairs.attr.__all__ if is_method(name)}
    assert methods - bases | {"pair"} <= having


def is_method(name):
    found = getattr(captum_pairs.attr, name)
    return isinstance(found, type) and issubclass(found, Attribution)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_examples_run_as_they_stand(name):
    namespace = {"torch": torch, "nn": nn}
    for public in captum_pairs.attr.__all__:
        namespace[public] = getattr(captum_pairs.attr, public)
    example = doctest.DocTestParser().get_doctest(
        inspect.cleandoc(EXAMPLES[name]), namespace, name, None, 0
    )
    report = []
    result = doctest.DocTestRunner().run(example, out=report.append)
    assert result.attempted > 0 and result.failed == 0, "".join(report)


def test_noise_on_token_ids_is_refused():
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.block = nn.Embedding(9, 4), nn.Linear(4, 3)

        def of_vectors(self, vectors):
            return torch.tanh(self.block(vectors)).mean(1)

        def forward(self, ids):
            return self.of_vectors(self.embedding(ids))

    words = Words().double().eval()
    ids = torch.tensor([[1, 2, 3]]), torch.tensor([[4, 5]])
    method = LayerFeaturePairIntegratedGradients(words, words.embedding)
    nothing = tuple(torch.zeros_like(each) for each in ids)
    assert method.attribute(ids, baselines=nothing).shape == (1, 3, 2)
    with pytest.raises(InvalidArgumentError, match="inputs: .*whole.*NoiseTunnel"):
        NoiseTunnel(method).attribute(ids, baselines=nothing, nt_samples=2)
    # what the message says to do
    vectors = tuple(words.embedding(each).detach() for each in ids)
    method = FeaturePairIntegratedGradients(words.of_vectors)
    masks = tuple(torch.arange(each.shape[1])[None, :, None] for each in ids)
    found = NoiseTunnel(method).attribute(
        vectors, feature_mask=masks, nt_samples=2, stdevs=0.1
    )
    assert found.shape == (1, 3, 2)
