"""Loading encoders, and that their explanations account for the model's own score."""

import json
import shutil
from pathlib import Path
from typing import Any

import captum_pairs.models
import numpy as np
import pytest
import torch
from captum_pairs import load
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.models import ModelUnavailableError
from captum_pairs.models.hugging_face import AutoConfig
from captum_pairs.scenes import checkpoint_path
from PIL import Image
from transformers import AutoModel, AutoProcessor

TEXT = "A red circle, not a square!"


def _photo(width: int = 33, height: int = 21) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_public_names_exist_and_are_sorted() -> None:
    names = captum_pairs.models.__all__
    assert names == sorted(names, key=str.casefold)
    assert all(hasattr(captum_pairs.models, name) for name in names)


def test_parameters_are_frozen_and_the_model_evaluates(tiny_clip: Path) -> None:
    encoders = load(tiny_clip)
    blocks = [*encoders.first.blocks, *encoders.second.blocks]
    assert len(blocks) == 4
    for block in blocks:
        assert not block.training
        assert not any(parameter.requires_grad for parameter in block.parameters())


@pytest.mark.parametrize("layer", [0, 1, -1, "input", (1, "input"), (-1, -1)])
def test_the_parts_are_the_models_own_cosine(tiny_clip: Path, layer: Any) -> None:
    photo = _photo()
    found = load(tiny_clip).explain(photo, TEXT, layer=layer, tolerance=1e-5)
    model = AutoModel.from_pretrained(tiny_clip).train(False)
    processor = AutoProcessor.from_pretrained(tiny_clip)
    inputs = processor(images=photo, text=TEXT, return_tensors="pt")
    with torch.no_grad():
        logit = model(**inputs).logits_per_image.item()
    scale = model.logit_scale.exp().item()
    parts = found.parts()
    assert found.score == pytest.approx(logit / scale, abs=1e-5)
    assert found.logit == pytest.approx(logit, abs=1e-4)
    assert found.logits == {"logits_per_image": found.logit}
    assert sum(parts.values()) == pytest.approx(logit / scale, abs=1e-5)
    assert abs(parts["error of the path integral"]) < 1e-4
    # something was found, and not only in special tokens
    assert found.maps().abs().max() > 1e-3


def test_a_module_is_attributed_to_at_its_output(tiny_clip: Path) -> None:
    encoders = load(tiny_clip)
    layer = encoders.first.blocks[0], encoders.second.blocks[0]
    at_output = encoders.explain(_photo(), TEXT, layer=layer)
    at_input = encoders.explain(_photo(), TEXT, layer=(1, 1))
    assert at_output.first.layer == "output of block 0 of 2"
    assert torch.allclose(at_output.interactions, at_input.interactions, atol=1e-6)


def test_shapes_and_order_of_the_features(tiny_clip: Path) -> None:
    found = load(tiny_clip).explain(_photo(), TEXT, layer=0)
    words = ("A", "red", "circle", ",", "not", "a (2)", "square", "!")
    assert found.second.names[:8] == words
    assert [words[index] for index in found.second.content] == [
        "red",
        "circle",
        "not",
        "square",
    ]
    assert found.first.grid == (5, 5)
    assert found.maps().shape == (8, 5, 5)
    assert [f.special for f in found.first.features] == [False] * 25 + [True]
    assert found.second.names[8:] == ("<|startoftext|>", "<|endoftext|>")
    assert found.maps()[1][2, 3] == found.interactions[13, 1]


def test_words_are_the_sums_of_their_tokens(tiny_clip: Path) -> None:
    encoders = load(tiny_clip)
    words = encoders.explain(_photo(), "square red", tolerance=1e-6)
    tokens = encoders.explain(_photo(), "square red", tolerance=1e-6, tokens=True)
    assert words.second.names[:2] == ("square", "red")
    assert [f.span for f in tokens.second.features[:5]] == [
        (0, 3),
        (3, 4),
        (4, 5),
        (5, 6),
        (7, 10),
    ]
    summed = tokens.interactions[:, :4].sum(1)
    assert torch.allclose(words.interactions[:, 0], summed, atol=1e-6)


def test_baselines(tiny_clip: Path) -> None:
    encoders = load(tiny_clip)
    photo, caption = encoders.first.prepare(_photo()), encoders.second.prepare("red")
    assert not photo.baseline.any()
    black = encoders.first.prepare(Image.new("RGB", (20, 20)))
    assert torch.equal(encoders.first.prepare(_photo(), "black").baseline, black.inputs)
    blurred = encoders.first.prepare(_photo(), "blur")
    assert blurred.baseline.std() < 0.5 * blurred.inputs.std()
    assert torch.allclose(blurred.baseline.mean(), blurred.inputs.mean(), atol=0.1)
    ids, baseline = caption.inputs[0].tolist(), caption.baseline[0].tolist()
    end = ids[-1]  # CLIP pads with its end token
    assert baseline == [ids[0], end, end]
    found = encoders.explain(_photo(), "red", baseline="black")
    assert "a black image" in found.summary()
    for wrong in ("white", "mask", ("black", "black"), (None, "mask"), 3):
        with pytest.raises(InvalidArgumentError, match="baseline: expected one of"):
            encoders.explain(_photo(), "red", baseline=wrong)
    known = "'blur' for image or 'padding' for text, got .*'mask'"
    with pytest.raises(InvalidArgumentError, match=known):
        encoders.explain(_photo(), "red", baseline="mask")


def test_a_plain_image_explains_nothing(tiny_clip: Path) -> None:
    # the mean colour is the baseline: only rounding to 8 bits is left
    color = tuple(round(255 * value) for value in (0.48145466, 0.4578275, 0.40821073))
    plain = Image.new("RGB", (30, 30), color)
    found = load(tiny_clip).explain(plain, "a red circle", layer=0)
    assert found.maps().abs().max() < 0.02


def test_a_tolerance_out_of_reach_is_said_in_the_summary(tiny_clip: Path) -> None:
    found = load(tiny_clip).explain(_photo(), TEXT, tolerance=1e-12, n_steps=4)
    assert "ABOVE the tolerance" in found.summary()


@pytest.mark.parametrize("layer", [2, -3, "output", 1.0, (0, 2)])
def test_no_such_block(tiny_clip: Path, layer: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="layer: expected a block from 0 to"):
        load(tiny_clip).explain(_photo(), TEXT, layer=layer)


def test_a_directory_that_is_not_there() -> None:
    for name in ("./no/such", "no/such/model", "/no_such"):
        with pytest.raises(ModelUnavailableError, match="no such directory"):
            load(name)


def test_a_name_that_the_hub_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str, **settings: Any) -> None:
        raise OSError(f"{name} is not a local folder\nand a long story")

    monkeypatch.setattr(AutoConfig, "from_pretrained", unknown)
    with pytest.raises(ModelUnavailableError, match="nobody/nothing is not a local"):
        load("nobody/nothing")


def test_damaged_directories(tiny_clip: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailableError):
        load(tmp_path)  # empty
    shutil.copytree(tiny_clip, tmp_path / "a")
    weights = tmp_path / "a" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelUnavailableError):
        load(tmp_path / "a")
    shutil.copytree(tiny_clip, tmp_path / "b")
    (tmp_path / "b" / "processor_config.json").unlink()
    with pytest.raises(ModelUnavailableError):
        load(tmp_path / "b")


def test_a_model_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(
        ModelUnavailableError,
        match="a dual encoder of one of the kinds.*from_functions.*'bert'",
    ):
        load(tmp_path)


def test_missing_weights(tiny_clip: Path, tmp_path: Path) -> None:
    directory = tmp_path / "more"
    shutil.copytree(tiny_clip, directory)
    config = json.loads((directory / "config.json").read_text())
    config["vision_config"]["num_hidden_layers"] = 3
    (directory / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelUnavailableError, match="are missing"):
        load(directory)


@pytest.mark.skipif(
    not checkpoint_path().is_dir(), reason="the embedded checkpoint is not here"
)
def test_the_embedded_model() -> None:
    encoders = load("scenes")
    assert encoders.name == "scenes"
    found = encoders.explain(_photo(64, 64), "a red circle and a blue star", layer=-1)
    assert sum(found.parts().values()) == pytest.approx(found.score, abs=1e-6)
    words = ("a", "red", "circle", "and", "a (2)", "blue", "star")
    assert found.second.names[:7] == words
