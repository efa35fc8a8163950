"""Kinds of models that are registered, in the package and from outside."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import captum_pairs
import pytest
import torch
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.models import (
    EncoderPair,
    from_functions,
    ModelUnavailableError,
    register_loader,
    registry,
    SUPPORTED,
)
from torch import nn


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    before = dict(registry._TABLE)
    yield
    registry._TABLE.clear()
    registry._TABLE.update(before)


def _mine(name: str, rest: str) -> EncoderPair:
    return from_functions(torch.sin, torch.cos, name=f"{name} {rest}")


def test_an_adapter_of_ones_own() -> None:
    register_loader("mine", _mine, models="sines", write="mine:small")
    assert captum_pairs.load("mine:small").name == "mine:small small"
    assert captum_pairs.load("mine").name == "mine "
    last = list(SUPPORTED)[-1]
    assert (last.models, last.write, last.is_installed) == ("sines", "mine:small", True)


def test_an_adapter_that_is_imported_when_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "adapter_of_sines.py").write_text(
        "import torch\n"
        "from captum_pairs.models import from_functions\n"
        "def load(name, rest):\n"
        "    return from_functions(torch.sin, torch.sin, name=rest)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    register_loader("mine", "adapter_of_sines:load", models="sines", write="mine:small")
    assert "adapter_of_sines" not in sys.modules
    assert captum_pairs.load("mine:x").name == "x"
    # for good: monkeypatch would put it back after the test, and others have one
    del sys.modules["adapter_of_sines"]


class _Own(nn.Module):
    pass


def test_models_in_memory_and_directories_of_ones_own(tmp_path: Path) -> None:
    def adopt(module: nn.Module, processor: Any, name: str) -> EncoderPair:
        return from_functions(torch.sin, torch.sin, name=f"{name} with {processor}")

    register_loader(
        "mine",
        _mine,
        models="sines",
        write="mine:small",
        adopter=adopt,
        classes=(__name__,),
        claims=lambda source: (Path(source) / "sines.txt").is_file(),
    )
    assert captum_pairs.load(_Own(), "a processor").name == "_Own with a processor"
    (tmp_path / "sines.txt").touch()
    assert captum_pairs.load(tmp_path).name == f"{tmp_path} {tmp_path}"
    assert captum_pairs.load(f"mine:{tmp_path}").name == f"mine:{tmp_path} {tmp_path}"


@pytest.mark.parametrize("prefix", ["clip", "", "a:b", "a b", None])
def test_prefixes_that_can_not_be_used(prefix: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="prefix: expected a word"):
        register_loader(prefix, _mine, models="sines", write="x")


def test_a_package_that_is_not_installed() -> None:
    register_loader(
        "mine", _mine, models="sines", write="x", package="no-such", module="no_such"
    )
    assert not list(SUPPORTED)[-1].is_installed
    with pytest.raises(ModelUnavailableError, match="pip install no-such"):
        captum_pairs.load("mine:small")


@pytest.mark.slow
def test_optional_packages_are_imported_when_they_are_asked_for() -> None:
    code = (
        "import sys, captum_pairs.models\n"
        "optional = {'open_clip', 'clip', 'sentence_transformers', 'timm'}\n"
        "assert not optional & set(sys.modules), optional & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", [None, 3, {}, b"scenes", "", " ", ["scenes"]])
def test_names_that_are_none(name: Any) -> None:
    with pytest.raises(ModelUnavailableError, match="model: expected a directory"):
        captum_pairs.load(name)


@pytest.mark.parametrize(
    "name, meant",
    [
        ("scene", "scenes"),
        ("Scenes", "scenes"),
        ("torchvison:resnet18", "torchvision"),
        ("open-clip:ViT-B-32/openai", "open_clip"),
        ("mines", "mine"),
        ("a:b", ""),
    ],
)
def test_a_name_that_is_misspelt_is_told_before_a_hub_is_asked(
    name: str, meant: str
) -> None:
    asked = []

    def claims(source: str) -> bool:
        asked.append(source)
        return False

    register_loader("mine", _mine, models="sines", write="mine:small", claims=claims)
    with pytest.raises(ModelUnavailableError, match="model: expected one of") as told:
        captum_pairs.load(name)
    assert told.value.got == name + (f"; did you mean “{meant}”?" if meant else "")
    assert asked == []
    assert ("scenes" in told.value.expected) and ("mine:small" in told.value.expected)


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta", "", 3, True, {}])
def test_devices_that_are_none(device: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="device: .*such as 'cpu'"):
        captum_pairs.load("scenes", device=device)


@pytest.mark.parametrize(
    "name", ["x" * 300, "/" + "x" * 5000, "~nobody-of-that-name/x", "a\0b", "a\udc80b"]
)
def test_paths_that_can_not_be(name: str) -> None:
    with pytest.raises(ModelUnavailableError, match="model: expected"):
        captum_pairs.load(name)


def test_a_processor_for_a_model_that_has_its_own() -> None:
    with pytest.raises(InvalidArgumentError, match="processor: expected None"):
        captum_pairs.load("scenes", "cpu")
