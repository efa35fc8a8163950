"""Classes of an image, and where it speaks for each."""

from pathlib import Path

import numpy as np
import pytest
import torch
from captum_pairs import DualEncoder, load
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.scenes import checkpoint_path
from PIL import Image
from transformers import AutoModel, AutoProcessor

CLASSES = ["red", "circle", "square"]


def _photo() -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def model(tiny_clip: Path) -> DualEncoder:
    return load(tiny_clip)


def test_probabilities_are_the_models_own(model: DualEncoder, tiny_clip: Path) -> None:
    found = model.zero_shot(_photo(), CLASSES, template="a {}", tolerance=1e-4)
    assert found.prompts == ("a red", "a circle", "a square")
    own = AutoModel.from_pretrained(tiny_clip).train(False)
    processor = AutoProcessor.from_pretrained(tiny_clip)
    inputs = processor(
        images=_photo(), text=list(found.prompts), padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        expected = own(**inputs).logits_per_image[0].softmax(0)
    torch.testing.assert_close(found.probabilities, expected, atol=1e-5, rtol=0)
    order = expected.argsort(descending=True).tolist()
    assert [name for name, _ in found.top(2)] == [CLASSES[at] for at in order[:2]]
    # the parts are the score
    total = found.constants + found.attributions.sum(1)
    torch.testing.assert_close(total, found.scores, atol=1e-4, rtol=0)
    assert found.summary().splitlines()[0].split()[1] == f"{found.top(1)[0][0]}:"


def test_maps(model: DualEncoder) -> None:
    found = model.zero_shot(_photo(), CLASSES)
    assert found.map("circle").shape == (5, 5)
    torch.testing.assert_close(found.map("circle"), found.map(1))
    (first, _), (second, _) = found.top(2)
    expected = found.map(first) - found.map(second)
    torch.testing.assert_close(found.difference(), expected)
    torch.testing.assert_close(
        found.difference("red", "square"), found.map("red") - found.map("square")
    )
    with pytest.raises(InvalidArgumentError, match="name: expected one of the classes"):
        found.map("dog")


def test_stored_contributions_give_the_same(model: DualEncoder) -> None:
    direct = model.zero_shot(_photo(), CLASSES)
    stored = model.contributions([_photo()], dtype="float32")[0]
    found = model.zero_shot(stored, CLASSES)
    torch.testing.assert_close(
        found.attributions, direct.attributions, atol=1e-5, rtol=0
    )
    torch.testing.assert_close(found.probabilities, direct.probabilities)


def test_the_map_of_a_class_is_that_of_its_text(model: DualEncoder) -> None:
    """The whole text of a caption: interactions and the image's own effect."""
    found = model.zero_shot(_photo(), ["a red circle"], tolerance=1e-4)
    pair = model.explain(_photo(), "a red circle", tolerance=1e-4)
    assert pair.first_effects is not None
    expected = pair.interactions.sum(1) + pair.first_effects
    torch.testing.assert_close(found.attributions[0], expected, atol=1e-3, rtol=0)


def test_bad_input(model: DualEncoder) -> None:
    for prompts in ("red", []):
        with pytest.raises(InvalidArgumentError, match="prompts"):
            model.zero_shot(_photo(), prompts)
    with pytest.raises(InvalidArgumentError, match="template"):
        model.zero_shot(_photo(), CLASSES, template="a photo")


@pytest.mark.skipif(
    not checkpoint_path().is_dir(), reason="the embedded checkpoint is not here"
)
def test_a_scene_is_classified() -> None:
    from captum_pairs.scenes import render, sample_scene

    scene = sample_scene(np.random.default_rng(0), 3, distinct=True)
    drawing = render(scene)
    found = load("scenes").zero_shot(
        drawing.image, ["pink star", "red circle", "yellow heart"], template="a {}"
    )
    assert found.top(1)[0][0] == "pink star"
