"""Every public function with arguments that nobody means: an error of ours that names
what is wrong, or a result. What a caller's own function raises is the caller's."""

import functools
import inspect
import traceback
import warnings
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import captum_pairs
import numpy as np
import pytest
import torch
from captum_pairs import attr, metrics, models, scenes, testing
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.cli import main
from captum_pairs.explain import methods
from captum_pairs.models import registry
from captum_pairs.testing import BrokenContractError
from click.testing import CliRunner
from hypothesis import given, HealthCheck, settings, strategies as st
from PIL import Image
from strange import anything, arrays, odd
from torch import nn, Tensor

# A function, and keywords that it takes.
Call = tuple[Callable[..., Any], dict[str, Any]]

some = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
many = settings(some, max_examples=4000)
values = st.one_of(anything, arrays(), odd)

# What runs a caller's function, whose own errors are the caller's.
OF_THE_CALLER = {"attribute", "additional_forward_args", "score", "make", "prepare"}
# An input is called what it is; of two that don't fit each other either is named, and
# what a network gives for an argument is the network's.
ALSO = {
    "attributions": {"feature_mask", "n_samples"},
    "baselines": {"forward_func", "inputs"},
    "encode_first": {"encode"},
    "encode_second": {"encode"},
    "feature_mask": {"n_samples", "attributions", "inputs"},
    "first": {"image", "region", "merge", "name", "second"},
    "inputs": {"baselines", "forward_func", "feature_mask", "image", "text", "keys"},
    "method": {"n_steps", "n_samples", "tolerance"},
    "name": {"directory"},
    "other": {"text"},
    "images": {"image", "first"},
    "phrase": {"occurrence"},
    "preferred": {"text"},
    "query": {"image", "text"},
    "raw": {"image", "text"},
    "region": {"side"},
    "second": {"text", "phrase", "merge", "name", "region"},
    "source": {"image"},
    "stride": {"grid"},
    "texts": {"text", "second"},
    "wanted": {"layer"},
    "where": {"region"},
    "window": {"grid"},
    "contributions_first": {"contributions_second"},
    "boxes": {"masks", "image_size"},
    "masks": {"boxes", "image_size"},
}


class Tokens(nn.Module):
    """(b, tokens, 2) to (b, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(2, 3), nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.b(torch.tanh(self.a(x)).mean(1))
        return found


def _photo(seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8))


def _taken(function: Callable[..., Any], given: dict[str, Any]) -> dict[str, Any]:
    """Those keywords that a function has, and its own defaults for the rest."""
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name in given:
            found[name] = given[name]
        elif parameter.default is not inspect.Parameter.empty:
            found[name] = parameter.default
    return found


# ---- the calls ---------------------------------------------------------------


def _of_attr() -> Iterator[tuple[str, Call]]:
    one, two = Tokens().double().eval(), Tokens().double().eval()
    double = {"dtype": torch.float64}
    x, y = torch.randn(2, 3, 2, **double), torch.randn(2, 4, 2, **double)
    masks = torch.tensor([[[0], [1], [0]]]), torch.tensor([[[0], [1], [1], [2]]])
    few = {"n_steps": 2, "n_samples": 16, "layer": one.a}
    pairs = {**few, "inputs": (x, y), "feature_mask": masks, "forward_func": (one, two)}
    pairs |= {"window": (1, 1), "stride": (1, 1)}
    sides = {**few, "inputs": x, "feature_mask": masks[0], "forward_func": one}
    sides["directions"] = torch.randn(1, 4, **double)
    for name in attr.__all__:
        kind = getattr(attr, name)
        is_pair = name.startswith("FeaturePair")
        # rules of a library, layers that both inputs pass, and a base have tests of
        # their own
        if not (isinstance(kind, type) and issubclass(kind, attr.EmbeddingAttribution)):
            if not is_pair or name in ("FeaturePairBiLRP", "FeaturePairInteractionCam"):
                continue
        if name in ("EmbeddingAttribution", "EmbeddingLRP"):
            continue
        given = pairs if is_pair else sides
        at_layer = "Token" in name or name.startswith("Layer")
        made: dict[str, Any] = {"forward_func": given["forward_func"]}
        if name == "FeaturePairIntegratedHessians":
            made["forward_func"] = lambda a, b=y: (one(a) * two(b[: len(a)])).sum(1)
        if at_layer:
            made["layer"] = (one.a, two.a) if is_pair else one.a
            given = {**given, "feature_mask": None}
        yield name, (kind, _taken(kind.__init__, made))
        for method in ("attribute", "decompose", "read", "choose_steps"):
            function = getattr(kind(**made), method, None)
            if function is not None:
                yield f"{name}.{method}", (function, _taken(function, given))
    vectors = torch.randn(2, 3, 4), torch.randn(2, 5, 4)
    both = {"contributions_first": vectors[0], "contributions_second": vectors[1]}
    yield "pair", (attr.pair, {**both, "all_pairs": False})
    measured = {**pairs, "attributions": torch.randn(2, 2, 3, **double), "layer": None}
    for measure in ("completeness_residual", "faithfulness", "insertion_deletion"):
        function = getattr(metrics, measure)
        yield measure, (function, _taken(function, measured))
    yield "parameter_randomization", (
        metrics.parameter_randomization,
        {"attribute": lambda: one(x), "modules": {"a": one.a}, "independent": False},
    )
    yield "sensitivity", (
        metrics.sensitivity,
        {
            "attribute": lambda inputs: one(inputs[0]),
            "inputs": (x, y),
            "perturb_radius": 0.02,
            "n_perturb_samples": 2,
            "generator": None,
        },
    )
    ranked = {"first": torch.rand(2, 4), "second": torch.rand(2, 4)}
    yield "rank_agreement", (metrics.rank_agreement, ranked)
    maps = {"attributions": torch.rand(2, 3, 4)}
    boxes = torch.tensor([[0.0, 0, 10, 10], [2, 2, 8, 9]])
    for regions in (
        {"boxes": boxes, "image_size": (20, 30)},
        {"masks": torch.ones(2, 20, 30, dtype=torch.bool)},
    ):
        for measure in ("accuracy", "chance", "energy"):
            function = getattr(metrics, f"pointing_game_{measure}")
            label = f"{function.__name__} of {' and '.join(regions)}"
            yield label, (function, _taken(function, {**maps, **regions}))


def _of_scenes() -> Iterator[tuple[str, Call]]:
    rng = np.random.default_rng(0)
    scene = scenes.sample_scene(rng)
    caption = scenes.sample_caption(rng, scene)
    given = {
        "rng": rng,
        "scene": scene,
        "caption": caption,
        "description": caption.description,
        "phrase": caption.description.phrases[0],
        "image_size": 32,
        "relation": "left",
        "first": 0,
        "second": 1,
        "number": 2,
        "which": 0,
    }
    functions = [each for each in map(scenes.__dict__.get, scenes.__all__)]
    for function in (*functions, scene.relation_holds):
        if inspect.isroutine(function):
            yield function.__name__, (function, _taken(function, given))


def _of_models(model: Any, directory: Path) -> Iterator[tuple[str, Call]]:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 4, stride=4), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).eval()
    one, two = Tokens().eval(), Tokens().eval()
    numbers = count()

    def register(prefix: Any, **more: Any) -> None:
        is_new = isinstance(prefix, str) and prefix == "p"
        models.register_loader(f"p{next(numbers)}" if is_new else prefix, **more)

    functools.update_wrapper(register, models.register_loader)
    given: dict[Any, dict[str, Any]] = {
        captum_pairs.from_functions: {
            "encode_first": one,
            "encode_second": two,
            "layers": (one.a, None),
            "names": (["a", "b"], None),
        },
        captum_pairs.from_score: {
            "score": lambda first, second: (one(first) * two(second)).sum(-1),
            "layers": (one.a, None),
            "names": (["a", "b"], None),
        },
        captum_pairs.siamese: {
            "backbone": net,
            "transform": (20, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        },
        captum_pairs.load: {"model": str(directory)},
        register: {"prefix": "p", "loader": lambda name, rest: None},
        captum_pairs.register_method: {"name": "x", "method": attr.EmbeddingOcclusion},
        models.read_image: {"source": _photo()},
        model.first.prepare: {"raw": _photo(), "baseline": "black"},
        model.second.prepare: {"raw": "a red circle"},
        model.first.layer: {"wanted": 0},
        testing.check_encoder: {
            "model": model,
            "inputs": ([_photo()], ["a circle"]),
            "tolerance": 1e-3,
        },
        testing.check_method: {"method": attr.JacobianXInput},
    }
    given[register] |= {"models": "sines", "write": "p:small"}
    for function, own in given.items():
        yield f"{function.__qualname__}", (function, _taken(function, own))


def _of_explanations(model: Any, folder: Path) -> Iterator[tuple[str, Call]]:
    text, quick = "a red circle", {"method": "jacobian_x_input", "layer": 0}
    options = {**quick, "baseline": "black", "tokens": False, "progress": False}
    options |= {"absent": "baseline", "seed": 0, "settings": {}}
    integrated = {**options, "method": "integrated_gradients", "layer": 1}
    drawn = {**options, "method": "lime", "layer": 1, "n_samples": 40}
    pair = {"first": _photo(), "second": text}
    several = ["jacobian_x_input", "token_similarity"]
    own = {k: v for k, v in options.items() if k != "method"}
    yield "explain", (model.explain, {**pair, **options})
    yield "explain by integrated gradients", (
        model.explain,
        {**pair, **integrated, "n_steps": 8, "tolerance": 0.1},
    )
    yield "explain by LIME", (model.explain, {**pair, **drawn})
    phrase = {"phrase": "red", "occurrence": 1, "side": None}
    yield "explain a phrase", (model.explain, {**pair, **options, **phrase})
    region = {"region": (2, 0, 20, 20), "side": "first"}
    yield "explain a region", (model.explain, {**pair, **options, **region})
    related = [(_photo(), text), (_photo(1), "a blue square")]
    yield "baseline_report", (
        functools.partial(captum_pairs.baseline_report, model),
        {"inputs": related, "layer": 0},
    )
    sampled = {"images": [_photo(), _photo(1)], "texts": [text, "a square"], "size": 2}
    yield "references", (model.references, {**sampled, "seed": 0})
    candidates = {"preferred": text, "other": "a square", "side": None}
    yield "contrast", (model.contrast, {"query": _photo(), **candidates, **options})
    yield "compare", (model.compare, {**pair, **own, "methods": several})
    corpus = {"inputs": [_photo()], "side": "first", "keys": ["k"], "dtype": "float16"}
    corpus["directory"] = None
    yield "contributions", (model.contributions, {**corpus, **options})
    classes = {"image": _photo(), "prompts": ["cat", "dog"], "template": "a {}"}
    yield "zero_shot", (model.zero_shot, {**classes, **options})
    explanation = model.explain(_photo(), text, **quick)
    contrast = model.contrast(_photo(), text, "a square", **quick)
    comparison = model.compare(_photo(), text, methods=several, layer=0)
    classified = model.zero_shot(_photo(), ["cat", "dog"], **quick)
    stored = model.contributions([_photo(), _photo(1)], **quick)
    model.contributions([_photo()], directory=folder / "kept", **quick)
    asked = {
        "phrase": "red",
        "where": (2, 0, 20, 20),
        "first": [[0, 1]],
        "second": ["red circle"],
        "key": "0",
        "directions": torch.randn(8),
        "other": stored[0],
        "method": several[0],
        "index": 0,
    }
    for result in (explanation, contrast, comparison, classified):
        kind = type(result)
        result.save(folder / "read")
        save = {"directory": folder / "written", "name": "n"}
        yield f"{kind.__name__}.save", (result.save, save)
        name = inspect.signature(kind.load).parameters["name"].default
        yield f"{kind.__name__}.load", (
            kind.load,
            {"directory": folder / "read", "name": name},
        )
        page = result.page if result is not comparison else explanation.page
        yield f"{kind.__name__}.page", (page, {"path": folder / "page.html"})
    functions = [
        *(explanation.phrase, explanation.region, explanation.maps, explanation.merge),
        *(explanation.top_pairs, comparison.__getitem__, stored.of, stored.read),
        *(stored.pair, stored[0].read),
    ]
    for function in functions:
        yield function.__qualname__, (function, _taken(function, asked))
    names = {"name": "cat", "first": "cat", "second": "dog"}
    for function in (classified.top, classified.map, classified.difference):
        yield function.__qualname__, (function, _taken(function, names))
    yield "Contributions.load", (
        captum_pairs.Contributions.load,
        {"directory": folder / "kept"},
    )


class Calls(dict[str, Call]):
    """By name, and not all written out when one of them fails."""

    def __repr__(self) -> str:
        return f"{len(self)} calls"


@functools.cache
def _calls(directory: Path, folder: Path) -> Calls:
    model = captum_pairs.load(directory)
    found = Calls(_of_attr())
    found.update(_of_scenes())
    found.update(_of_models(model, directory))
    found.update(_of_explanations(model, folder))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzzed")


@pytest.fixture
def calls(
    tiny_clip: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Call]]:
    """Where files of relative names may come to lie, and what is registered goes."""
    monkeypatch.chdir(folder)
    tables = registry._TABLE, methods._METHODS
    before = [dict(table) for table in tables]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a warning is no error here
        yield _calls(tiny_clip, folder)
    for table, content in zip(tables, before):
        table.clear()
        table.update(content)


# ---- what they do ------------------------------------------------------------


def test_every_public_function_is_among_them(calls: dict[str, Call]) -> None:
    tried = {name.split(" ")[0].split(".")[0] for name in calls}
    tried |= {name.split(".")[-1] for name in calls}
    for package in (captum_pairs, metrics, scenes, models, testing):
        for name in package.__all__:
            if inspect.isfunction(getattr(package, name)):
                assert name in tried, name
    questions = {"explain", "contrast", "compare", "contributions", "zero_shot"}
    assert questions < tried
    methods_of_pairs = {n for n in attr.__all__ if n.startswith("FeaturePair")}
    assert len(methods_of_pairs - tried) == 2


def test_as_they_are_meant_they_run(calls: dict[str, Call]) -> None:
    failed = {}
    for name, (function, keywords) in calls.items():
        try:
            function(**keywords)
        except Exception as error:
            failed[name] = error
    assert failed == {}


def _is_the_networks(error: Exception, argument: str) -> bool:
    """Whether a network raised it of what it was given, or is none itself."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame.filename for frame in frames]
    from_here = Path(__file__).name in [Path(name).name for name in inside[2:]]
    return from_here or argument == "forward_func" and "forward_pass.py" in str(inside)


def _is_ours(error: Exception, argument: str) -> bool:
    """Whether an error names what was wrong."""
    if isinstance(error, InvalidArgumentError):
        named = error.argument.partition("[")[0]
        known = {argument, argument.removesuffix("s"), *ALSO.get(argument, ())}
        return named in known and len(str(error)) < 3000
    if isinstance(error, BrokenContractError):  # whose text says what does not hold
        return True
    if _is_the_networks(error, argument):
        return True
    # scenes are drawn without torch, and what is wrong is said by a plain ValueError
    return type(error) is ValueError and str(error).startswith(f"{argument} must ")


def _try(calls: dict[str, Call], name: str, argument: str, value: Any) -> None:
    function, given = calls[name]
    registered = dict(registry._TABLE)
    try:
        function(**{**given, argument: value})
    except Exception as error:
        assert _is_ours(error, argument), f"{name}({argument}={type(value)}): {error!r}"
    finally:
        registry._TABLE.clear()
        registry._TABLE.update(registered)


def _one_wrong(calls: dict[str, Call], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(calls)), "call")
    arguments = sorted(set(calls[name][1]) - OF_THE_CALLER)
    argument = data.draw(st.sampled_from(arguments), "argument")
    _try(calls, name, argument, data.draw(values, "value"))


@some
@given(st.data())
def test_an_error_that_names_the_argument_or_a_result(
    calls: dict[str, Call], data: st.DataObject
) -> None:
    _one_wrong(calls, data)


@pytest.mark.slow
@many
@given(st.data())
def test_many_errors_that_name_the_argument(
    calls: dict[str, Call], data: st.DataObject
) -> None:
    _one_wrong(calls, data)


# ---- the command -------------------------------------------------------------

_WORDS = st.sampled_from(
    "explain contrast compare contributions zero-shot models --model --image "
    "--text --layer --method --box --phrase --tolerance --n-steps --baseline --out "
    "--device --seed --settings --help scenes scene red circle 0 -1 1,2 x ./no/such "
    "nan 1e999 --".split()
)


@settings(some, max_examples=25)
@given(st.lists(_WORDS | st.text(max_size=6), max_size=9))
def test_the_command_ends_with_a_line_and_its_code(
    calls: dict[str, Call], arguments: list[str]
) -> None:
    found = CliRunner().invoke(main, arguments)
    assert found.exception is None or isinstance(found.exception, SystemExit)
    assert found.exit_code in (0, 2, 3, 4, 5), found.output
    assert "Traceback" not in found.output
