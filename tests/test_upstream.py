"""The bundle for Captum: made of our source, it computes what ours does, and is put
into what Captum distributes."""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import captum
import nbformat
import pytest
import torch
import transformers
from captum.attr._core import layer as captum_layer
from captum_pairs import attr as ours
from torch import nn, Tensor

ROOT = Path(__file__).parents[1]
UPSTREAM = ROOT / "docs" / "upstream"
INSTALLED = Path(captum.__file__).parent


@pytest.fixture(scope="module")
def upstream() -> Iterator[dict[str, ModuleType]]:
    """The scripts ``bundle`` and ``apply``, imported as they import one another."""
    names = ("bundle", "apply")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(UPSTREAM))
        yield {name: __import__(name) for name in names}
    for name in names:
        del sys.modules[name]


@pytest.fixture(scope="module")
def made(upstream: dict[str, ModuleType]) -> dict[str, str]:
    files: dict[str, str] = upstream["bundle"].make()
    return files


@pytest.fixture(scope="module")
def theirs(
    made: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ModuleType]:
    """The bundle's classes, imported as modules of the installed Captum."""
    folder = tmp_path_factory.mktemp("made")
    for name, text in made.items():
        if name.startswith("captum/"):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    packages = [captum.attr._core, captum_layer, captum.attr._utils]
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        for package in packages:
            own = folder / package.__name__.replace(".", "/")
            patch.setattr(package, "__path__", [*package.__path__, str(own)])
        found = ModuleType("made")
        for name in made:
            if "/_core/" in name:
                module = name.removesuffix(".py").replace("/", ".")
                exec(f"from {module} import *", found.__dict__)
        yield found
    for name in set(sys.modules) - before:
        if name.startswith("captum."):
            parent, _, own_name = name.rpartition(".")
            vars(sys.modules[parent]).pop(own_name, None)
            del sys.modules[name]


# ---- it computes what ours does ------------------------------------------------


class Texts(nn.Module):
    """Token ids (b, n) and a mask of them to embeddings, by attention."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6)
        self.mix, self.head = nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.mix(self.embedding(ids))
        allowed = None if mask is None else mask[:, None, :]
        x = x + nn.functional.scaled_dot_product_attention(x, x, x, allowed)
        return self.head(torch.tanh(x).mean(1))


def images() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 3, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(12, 4)
    )


def _same(found: Any, expected: Any) -> None:
    pairs = zip(found, expected) if isinstance(found, tuple) else [(found, expected)]
    for own, other in pairs:
        assert own.shape == other.shape and own.dtype == other.dtype
        assert float((own - other).abs().max()) <= 1e-10 * max(
            1.0, float(other.abs().max())
        )


@pytest.fixture()
def models() -> tuple[nn.Module, Texts]:
    return images().double(), Texts().double()


def _inputs() -> tuple[Tensor, Tensor]:
    return torch.randn(3, 2, 4, 4).double(), torch.randint(11, (3, 5))


HALVES = (torch.arange(4) // 2).reshape(1, 1, 1, 4)


@pytest.mark.parametrize(
    "asked",
    [
        {"normalize": True},
        {"feature_mask": HALVES, "baselines": 0.25, "internal_batch_size": 7},
        {"multiply_by_inputs": False, "feature_mask": HALVES},
        {"feature_mask": HALVES.expand(3, 1, 4, 4), "method": "gausslegendre"},
    ],
)
def test_jacobians_agree(
    theirs: ModuleType, models: tuple[nn.Module, Texts], asked: dict[str, Any]
) -> None:
    made_with = {
        k: asked.pop(k) for k in [*asked] if k in ("normalize", "multiply_by_inputs")
    }
    asked |= {"return_convergence_delta": made_with.get("multiply_by_inputs", True)}
    x, _ = _inputs()
    results = [
        package.IntegratedJacobian(models[0], **made_with).attribute(
            x, n_steps=6, **asked
        )
        for package in (theirs, ours)
    ]
    _same(*results)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"similarity": "dot", "scale": 3.0, "baselines": (0.25, None)},
        {"similarity": "frozen_cosine", "feature_mask": (HALVES, None)},
        {"multiply_by_inputs": False, "feature_mask": (HALVES, None)},
    ],
)
def test_feature_pairs_agree(
    theirs: ModuleType, models: tuple[nn.Module, Texts], asked: dict[str, Any]
) -> None:
    names = ("similarity", "scale", "multiply_by_inputs")
    made_with = {name: asked.pop(name) for name in [*asked] if name in names}
    asked |= {"return_convergence_delta": made_with.get("multiply_by_inputs", True)}
    second = nn.Sequential(nn.Linear(5, 6), nn.Sigmoid(), nn.Linear(6, 4)).double()
    inputs = _inputs()[0], torch.randn(3, 5).double()
    results = [
        package.FeaturePairIntegratedGradients(
            (models[0], second), **made_with
        ).attribute(inputs, n_steps=6, **asked)
        for package in (theirs, ours)
    ]
    _same(*results)


@pytest.mark.parametrize("sides", ["both", "first", "second"])
@pytest.mark.parametrize("at_input", [False, True])
def test_feature_pairs_at_layers_agree(
    theirs: ModuleType, models: tuple[nn.Module, Texts], sides: str, at_input: bool
) -> None:
    first, second = models
    layers = (first[1], second.mix)  # type: ignore[index]
    x, ids = _inputs()
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[0, 3:] = False
    inputs, args = [x, ids], [None, mask]
    encoders: list[nn.Module] = [first, second]
    if sides != "both":
        # an encoder against itself, once at its layer and once at its input
        encoders, args, inputs = [first, first], [None, None], [x, x.flip(0)]
        layer = first[1]  # type: ignore[index]
        layers = (layer, None) if sides == "first" else (None, layer)
    results = [
        package.LayerFeaturePairIntegratedGradients(tuple(encoders), layers).attribute(
            tuple(inputs),
            additional_forward_args=tuple(args),
            n_steps=6,
            return_convergence_delta=True,
            attribute_to_layer_input=at_input,
        )
        for package in (theirs, ours)
    ]
    _same(*results)


def test_layer_jacobians_agree(
    theirs: ModuleType, models: tuple[nn.Module, Texts]
) -> None:
    _, ids = _inputs()
    mask = (torch.arange(5) // 2)[None, :, None]
    results = [
        package.LayerIntegratedJacobian(models[1], models[1].embedding).attribute(
            ids,
            baselines=3,
            feature_mask=mask,
            n_steps=6,
            return_convergence_delta=True,
        )
        for package in (theirs, ours)
    ]
    _same(*results)


class Hidden(torch.autograd.Function):
    """A sine whose backward pass autograd doesn't see."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradient.detach() * x.detach().cos()


def test_a_backward_pass_without_a_graph_is_noticed(theirs: ModuleType) -> None:
    def encode(x: Tensor) -> Tensor:
        hidden: Tensor = Hidden.apply(x)
        return torch.cat([hidden, x**2], dim=1)

    x = torch.randn(2, 3).double()
    found, delta = theirs.IntegratedJacobian(encode).attribute(
        x, n_steps=8, return_convergence_delta=True
    )
    # of sin and square: what each scalar contributes to its own two dimensions
    expected = torch.cat([torch.diag_embed(x.sin()), torch.diag_embed(x**2)], dim=2)
    _same(found, expected)
    assert float(delta.abs().max()) < 1e-10


X = torch.arange(1.0, 16.0).reshape(3, 5)
REFUSED: list[tuple[str, str, Any, dict[str, Any]]] = [
    ("inputs", "a floating tensor", nn.Tanh(), {"inputs": X.long()}),
    ("forward_func", "maps 6 examples", lambda x: x.sum(1), {"inputs": X}),
    ("forward_func", "be differentiated", lambda x: x.detach(), {"inputs": X}),
    ("forward_func", "derivatives on the path", lambda x: x.round(), {"inputs": X}),
    ("feature_mask", "a tensor of integers", nn.Tanh(), {"feature_mask": X}),
    ("feature_mask", "2 dimensions", nn.Tanh(), {"feature_mask": torch.arange(5)}),
]


@pytest.mark.parametrize("argument, expected, encoder, given", REFUSED)
def test_bad_input_is_refused(
    theirs: ModuleType,
    argument: str,
    expected: str,
    encoder: Any,
    given: dict[str, Any],
) -> None:
    with pytest.raises(ValueError, match=expected) as raised:
        theirs.IntegratedJacobian(encoder).attribute(**{"inputs": X, **given})
    assert raised.value.argument == argument  # type: ignore[attr-defined]


REFUSED_PAIRS: list[tuple[str, str, dict[str, Any]]] = [
    ("inputs", "two batches of the same size", {"inputs": (X, X[:2])}),
    ("inputs", "a pair", {"inputs": X}),
    ("forward_func", r"norm zero for baselines\[0\]", {"baselines": (0, 1)}),
    ("feature_mask[1]", "a tensor of integers", {"feature_mask": (None, X)}),
]


@pytest.mark.parametrize("argument, expected, given", REFUSED_PAIRS)
def test_bad_pairs_are_refused(
    theirs: ModuleType, argument: str, expected: str, given: dict[str, Any]
) -> None:
    pairs = theirs.FeaturePairIntegratedGradients(nn.Tanh())
    with pytest.raises(ValueError, match=expected) as raised:
        pairs.attribute(**{"inputs": (X, X), "baselines": (1, 1), **given})
    assert raised.value.argument == argument  # type: ignore[attr-defined]


def test_a_layer_that_is_reached_twice_is_refused(theirs: ModuleType) -> None:
    layer = nn.Linear(3, 3)
    encoder = nn.Sequential(layer, nn.Tanh(), layer)
    with pytest.raises(
        ValueError, match="layer: expected a layer that is reached once"
    ):
        theirs.LayerIntegratedJacobian(encoder, layer).attribute(torch.randn(2, 3))
    assert not layer._forward_hooks


# ---- it is made of our source ----------------------------------------------------


def test_what_is_taken_is_our_source(made: dict[str, str]) -> None:
    """Every function and class that a part takes stands in the bundle as in ours."""
    found = 0
    for name in made:
        if not name.startswith("captum/"):
            continue
        part = ast.parse((UPSTREAM / "parts" / name).read_text())
        written = {
            node.name: ast.dump(node)
            for node in ast.parse(made[name]).body
            if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        }
        for node in part.body:
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith(
                "captum_pairs"
            ):
                source = (ROOT / str(node.module).replace(".", "/")).with_suffix(".py")
                theirs = {
                    each.name: ast.dump(each)
                    for each in ast.parse(source.read_text()).body
                    if isinstance(each, (ast.FunctionDef, ast.ClassDef))
                }
                for alias in node.names:
                    if alias.name in theirs:
                        assert written[alias.name] == theirs[alias.name]
                        found += 1
    assert found >= 20


def test_the_bundle_is_captums_in_form_and_small(made: dict[str, str]) -> None:
    python = {name: text for name, text in made.items() if name.endswith(".py")}
    for name, text in python.items():
        assert text.startswith("#!/usr/bin/env python3\n\n# pyre-"), name
        assert "captum_pairs" not in text
        ast.parse(text, name, feature_version=(3, 10))  # the oldest that Captum takes
        assert max(map(len, text.splitlines())) <= 88
    assert sum(len(text.splitlines()) for text in python.values()) <= 3500


def test_the_tutorial_is_a_notebook_without_outputs(made: dict[str, str]) -> None:
    (name,) = [name for name in made if name.startswith("tutorials/")]
    notebook = nbformat.reads(made[name], as_version=4)
    nbformat.validate(notebook)
    kinds = [cell.cell_type for cell in notebook.cells]
    assert kinds.count("code") >= 8 and kinds[0] == "markdown"
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            compile(cell.source, name, "exec")
        else:
            assert not cell.source.startswith("#%") and cell.source.strip()
    config = (UPSTREAM / "edits.toml").read_text()
    assert f'"id": "{Path(name).stem}"' in config


@pytest.mark.slow
def test_the_clip_of_the_tutorial_runs(
    theirs: ModuleType, made: dict[str, str]
) -> None:
    """With a small random CLIP in the place of the one that it would download."""
    notebook = nbformat.reads(made["tutorials/Feature_Pair_Interpret.ipynb"], 4)
    (code,) = re.findall(r"```python\n(.*?)```", notebook.cells[-1].source, re.DOTALL)
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        text_config={**tower, "vocab_size": 60, "max_position_embeddings": 12}
        | {"bos_token_id": 58, "eos_token_id": 59, "pad_token_id": 0},
        vision_config={**tower, "image_size": 32, "patch_size": 8},
        projection_dim=24,
    )
    model = transformers.CLIPModel(config).double()
    given = {
        "pixel_values": torch.randn(2, 3, 32, 32).double(),
        "input_ids": torch.tensor([[58, 3, 4, 5, 59, 0], [58, 7, 8, 9, 6, 59]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]]),
    }
    names = {**vars(theirs), "image": None, "caption": None}
    for name, found in {"CLIPModel": model, "CLIPProcessor": lambda **_: given}.items():
        names[name] = SimpleNamespace(from_pretrained=lambda _, found=found: found)
    imports = "from transformers import CLIPModel, CLIPProcessor\n"
    assert imports in code
    exec(code.replace(imports, ""), names)
    assert names["attributions"].shape == (2, 4, 4, 6)
    pairs = ours.LayerFeaturePairIntegratedGradients(
        (names["encode_image"], names["encode_text"]), names["layers"]
    )
    expected = pairs.attribute(
        (given["pixel_values"], given["input_ids"]),
        additional_forward_args=(None, given["attention_mask"]),
    )
    _same(names["attributions"], expected)
    assert float(expected.abs().max()) > 1e-4


def test_what_can_not_be_taken_is_said(
    upstream: dict[str, ModuleType], tmp_path: Path
) -> None:
    bundle = upstream["bundle"]
    part = tmp_path / "part.py"
    for line, message in {
        "from captum_pairs.attr._utils.features import no_such": "defines no no_such",
        "from captum_pairs.attr.no_such import a": "there is no",
        "import captum_pairs.attr": "import names from captum_pairs.attr",
        "from captum_pairs.attr._utils.validation import warn_caller": "still speak of",
    }.items():
        part.write_text(line + "\n")
        with pytest.raises(bundle.BundleError, match=message):
            bundle.make(tmp_path)
    part.write_text("from captum_pairs.attr._utils.features import Features\n")
    shutil.copy(part, tmp_path / "other.py")
    with pytest.raises(bundle.BundleError, match="is taken by other.py and part.py"):
        bundle.make(tmp_path)


# ---- it is put into what Captum distributes ---------------------------------------


@pytest.fixture()
def distribution(tmp_path: Path) -> Path:
    """Of the installed Captum what the bundle edits, as its source distribution."""
    for name in ("attr/__init__.py", "testing/attr/helpers/test_config.py"):
        path = tmp_path / "captum" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(INSTALLED / name, path)
    readme = "## References\n* `InputXGradient`: [Not Just a Black Box]\n* others\n"
    (tmp_path / "README.md").write_text(readme)
    return tmp_path


def _texts(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_it_is_applied_and_applied_again(
    upstream: dict[str, ModuleType], distribution: Path, made: dict[str, str]
) -> None:
    before = _texts(distribution)
    change = upstream["apply"].apply(distribution)
    once = _texts(distribution)
    assert "sphinx/source/layer.rst" in change.left_out
    assert set(before) == set(change.edited)
    assert {name for name in made if name.startswith(("captum/", "tests/"))} <= set(
        once
    )
    for name in before:
        # nothing of theirs is lost, and what is new stands in one piece or several
        old = iter(once[name].splitlines())
        assert all(line in old for line in before[name].splitlines())
        assert len(once[name]) > len(before[name])
    exported = ast.parse(once["captum/attr/__init__.py"])
    (names,) = [n.value for n in exported.body if isinstance(n, ast.Assign)]
    imported = {
        a.name for n in exported.body if isinstance(n, ast.ImportFrom) for a in n.names
    }
    classes = {"IntegratedJacobian", "FeaturePairIntegratedGradients"}
    classes |= {f"Layer{name}" for name in classes}
    assert classes <= imported & set(ast.literal_eval(names))
    upstream["apply"].apply(distribution)
    assert _texts(distribution) == once


def test_what_it_does_not_fit_is_left_as_it_is(
    upstream: dict[str, ModuleType], distribution: Path
) -> None:
    apply = upstream["apply"]
    with pytest.raises(apply.ApplyError, match="no checkout of Captum"):
        apply.apply(distribution / "captum")
    config = distribution / "captum" / "testing" / "attr" / "helpers" / "test_config.py"
    config.write_text(config.read_text().replace("FeatureAblation\n", "Other\n"))
    before = _texts(distribution)
    with pytest.raises(
        apply.ApplyError, match="test_config.py has 0 times, and not once"
    ):
        apply.apply(distribution)
    config.unlink()
    with pytest.raises(apply.ApplyError, match="which is to be edited"):
        apply.apply(distribution)
    del before[str(config.relative_to(distribution))]
    assert _texts(distribution) == before


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    command = [sys.executable, str(UPSTREAM / "apply.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("nothing was changed: ")
