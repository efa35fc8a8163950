"""Loading encoders, and that their explanations account for the model's own score."""

import json
import shutil
from pathlib import Path

import captum_pairs.models
import numpy as np
import pytest
import torch
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.explanation import explain, PairExplanation
from captum_pairs.models import load, ModelUnavailableError
from captum_pairs.models.loading import AutoConfig
from captum_pairs.scenes import checkpoint_path
from PIL import Image
from transformers import AutoModel, AutoProcessor

TEXT = "A red circle, not a square!"


def _photo(width: int = 33, height: int = 21) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_public_names_exist_and_are_sorted() -> None:
    names = captum_pairs.models.__all__
    assert names == sorted(names)
    assert all(hasattr(captum_pairs.models, name) for name in names)


def test_parameters_are_frozen_and_the_model_evaluates(tiny_clip: Path) -> None:
    encoders = load(tiny_clip)
    blocks = [*encoders.image.blocks, *encoders.text.blocks]
    assert len(blocks) == 4
    for block in blocks:
        assert not block.training
        assert not any(parameter.requires_grad for parameter in block.parameters())


@pytest.mark.parametrize("layer", [0, 1, -1])
@pytest.mark.parametrize("text_layer", [None, 1])
def test_the_parts_are_the_models_own_cosine(
    tiny_clip: Path, layer: int, text_layer: int | None
) -> None:
    photo = _photo()
    found = explain(load(tiny_clip), photo, TEXT, layer, text_layer, tolerance=1e-5)
    model = AutoModel.from_pretrained(tiny_clip).train(False)
    processor = AutoProcessor.from_pretrained(tiny_clip)
    inputs = processor(images=photo, text=TEXT, return_tensors="pt")
    with torch.no_grad():
        logit = model(**inputs).logits_per_image.item()
    scale = model.logit_scale.exp().item()
    parts = found.parts()
    assert found.cosine == pytest.approx(logit / scale, abs=1e-5)
    assert found.logit == pytest.approx(logit, abs=1e-4)
    assert sum(parts.values()) == pytest.approx(logit / scale, abs=1e-5)
    assert abs(parts["error of the path integral"]) < 1e-4
    # something was found, and not only in special tokens
    assert found.maps().abs().max() > 1e-3
    assert found.layers == (layer % 2, text_layer or 0)


def test_shapes_and_order_of_the_features(tiny_clip: Path) -> None:
    found = explain(load(tiny_clip), _photo(), TEXT, layer=0)
    assert found.words == ("A", "red", "circle", ",", "not", "a (2)", "square", "!")
    assert [found.words[index] for index in found.content_words] == [
        "red",
        "circle",
        "not",
        "square",
    ]
    assert found.grid == (5, 5)
    assert found.maps().shape == (8, 5, 5)
    assert [f.special for f in found.image_features] == [False] * 25 + [True]
    assert [f.name for f in found.text_features[8:]] == [
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    word = found.maps()[1]
    assert word[2, 3] == found.interactions[13, 1]


def test_words_are_the_sums_of_their_tokens(tiny_clip: Path) -> None:
    encoders = load(tiny_clip)
    prepared = encoders.text.prepare("square")
    assert prepared.inputs.shape == (1, 6)  # four tokens and the special ones
    assert prepared.features[0].positions == (1, 2, 3, 4)
    assert prepared.feature_mask().flatten().tolist() == [1, 0, 0, 0, 0, 2]


def test_baselines(tiny_clip: Path) -> None:
    encoders = load(tiny_clip)
    photo, caption = encoders.image.prepare(_photo()), encoders.text.prepare("red")
    assert not photo.baseline.any()
    ids, baseline = caption.inputs[0].tolist(), caption.baseline[0].tolist()
    end = ids[-1]  # CLIP pads with its end token
    assert baseline == [ids[0], end, end]


def test_a_plain_image_explains_nothing(tiny_clip: Path) -> None:
    # the mean colour is the baseline: only rounding to 8 bits is left
    color = tuple(round(255 * value) for value in (0.48145466, 0.4578275, 0.40821073))
    plain = Image.new("RGB", (30, 30), color)
    found = explain(load(tiny_clip), plain, "a red circle", layer=0)
    assert found.maps().abs().max() < 0.02


def test_numbers_reload(tiny_clip: Path, tmp_path: Path) -> None:
    found = explain(load(tiny_clip), _photo(), TEXT)
    files = found.save(tmp_path / "new", "one")
    assert [file.name for file in files] == ["one.json", "one.safetensors"]
    loaded = PairExplanation.load(tmp_path / "new", "one")
    assert torch.equal(loaded.interactions, found.interactions)
    assert torch.equal(loaded.image_effects, found.image_effects)
    assert loaded.text_features == found.text_features
    assert loaded.image_features == found.image_features
    assert loaded.parts() == found.parts()
    assert loaded.summary() == found.summary()
    content = json.loads(files[0].read_text())
    assert content["content_words"] == ["red", "circle", "not", "square"]
    assert "the" in content["stop_words"]
    content["format"] = 0
    files[0].write_text(json.dumps(content))
    with pytest.raises(ValueError, match="another version"):
        PairExplanation.load(tmp_path / "new", "one")


def test_a_tolerance_out_of_reach_is_said_in_the_summary(tiny_clip: Path) -> None:
    found = explain(load(tiny_clip), _photo(), TEXT, 0, tolerance=1e-12, most_steps=4)
    assert "ABOVE the tolerance" in found.summary()


@pytest.mark.parametrize("layer", [2, -3])
def test_no_such_block(tiny_clip: Path, layer: int) -> None:
    with pytest.raises(InvalidArgumentError, match="layer: expected a block from 0 to"):
        explain(load(tiny_clip), _photo(), TEXT, layer=layer)


def test_a_directory_that_is_not_there() -> None:
    for name in ("./no/such", "no/such/model", "/no_such"):
        with pytest.raises(ModelUnavailableError, match="no such directory"):
            load(name)


def test_a_name_that_the_hub_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> None:
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
    with pytest.raises(ModelUnavailableError, match="expected a CLIP.*'bert'"):
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
    found = explain(encoders, _photo(64, 64), "a red circle and a blue star", layer=-1)
    assert sum(found.parts().values()) == pytest.approx(found.cosine, abs=1e-5)
    assert found.words == ("a", "red", "circle", "and", "a (2)", "blue", "star")
