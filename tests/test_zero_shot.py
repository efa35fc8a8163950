"""Classes of an image, and where it speaks for each."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum_pairs import DualEncoder, from_functions, load, ZeroShot
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.scenes import checkpoint_path
from captum_pairs.show.page._content import content_of
from PIL import Image
from torch import nn
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
    verdict, first = found.summary().splitlines()[:2]
    assert verdict.startswith(f"“{found.top(1)[0][0]}” is most probable, ")
    assert first.split()[1] == f"{found.top(1)[0][0]}:"


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
    # integrals that are exact: contributions take steps of their own
    exact: Any = {"tolerance": 1e-7, "n_steps": 64}
    direct = model.zero_shot(_photo(), CLASSES, **exact)
    stored = model.contributions([_photo()], dtype="float32", **exact)[0]
    found = model.zero_shot(stored, CLASSES, **exact)
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
    wrong: list[Any] = ["red", [], None, 3, b"red", [1, 2], ["red", None], {"red": 1}]
    wrong += [["red", "red"], iter(())]
    for prompts in wrong:
        with pytest.raises(InvalidArgumentError, match="^prompts: expected texts"):
            model.zero_shot(_photo(), prompts)
    templates: list[Any] = ["a photo", None, 3]
    for template in templates:
        with pytest.raises(InvalidArgumentError, match="^template: expected a text"):
            model.zero_shot(_photo(), CLASSES, template=template)


@pytest.mark.parametrize("value, reason", [(0.0, "norm zero"), (torch.nan, "finite")])
def test_a_prompt_whose_embedding_says_nothing(value: float, reason: str) -> None:
    image, text = nn.Linear(4, 3), nn.Linear(1, 3)
    prepare = None, lambda word: torch.tensor([[float(len(word))]])
    model = from_functions(
        image,
        lambda x: text(x) * torch.where(x == 3, value, 1.0),
        prepare=prepare,
    )
    assert model.zero_shot(torch.ones(1, 4), ["a", "to"]).scores.isfinite().all()
    with pytest.raises(InvalidArgumentError, match=f"(prompts|forward).*{reason}.*cat"):
        model.zero_shot(torch.ones(1, 4), ["a", "cat"])


def test_a_text_encoder_that_draws_is_told(tiny_clip: Path) -> None:
    drawing = load(tiny_clip)
    network: Any = drawing.second.module
    block = network.text_model.encoder.layers[0]
    block.mlp = nn.Sequential(block.mlp, nn.Dropout(0.5).train())
    with pytest.warns(UserWarning, match=r"has Dropout: .* chance; call model.eval"):
        drawing.zero_shot(_photo(), CLASSES, method="jacobian_x_input")


def test_classes_from_whatever_goes_through_them(model: DualEncoder) -> None:
    listed = model.zero_shot(_photo(), CLASSES)
    assert model.zero_shot(_photo(), (name for name in CLASSES)) == listed
    assert model.zero_shot(_photo(), tuple(CLASSES)) == listed


def test_an_object_among_others(model: DualEncoder) -> None:
    found = model.zero_shot(_photo(), CLASSES)
    again = model.zero_shot(_photo(), CLASSES)
    assert found == again and hash(found) == hash(again) and len({found, again}) == 1
    assert found != model.zero_shot(_photo(), CLASSES[:2])
    said = repr(found)
    assert len(said) < 400 and "image of 20 x 20 px" in said and model.name in said
    assert all(f"“{name}” {share:.1%}" in said for name, share in found.top(3))


def test_files(model: DualEncoder, tmp_path: Path) -> None:
    found = model.zero_shot(_photo(), CLASSES, template="a {}")
    text, tensors = found.save(tmp_path / "new")
    assert [text.name, tensors.name] == ["zero_shot.json", "zero_shot.safetensors"]
    loaded = ZeroShot.load(tmp_path / "new")
    assert loaded == found
    content = json.loads(text.read_text())
    assert [row["class"] for row in content["top"]] == [n for n, _ in found.top()]
    content["classes"] = ["red"]
    text.write_text(json.dumps(content))
    with pytest.raises(
        InvalidArgumentError, match="directory: .*saved, got .*attributi"
    ):
        ZeroShot.load(tmp_path / "new")
    with pytest.raises(InvalidArgumentError, match="a file no.json"):
        ZeroShot.load(tmp_path, "no")


def test_the_frame_adds_up_to_the_scores(model: DualEncoder) -> None:
    pytest.importorskip("pandas", reason="to_frame needs pandas")
    found = model.zero_shot(_photo(), CLASSES)
    frame = found.to_frame()
    sums = frame.groupby("class")["attribution"].sum()
    for name, score in zip(CLASSES, found.scores.tolist()):
        assert sums[name] == pytest.approx(score, abs=1e-6)
        assert sum(found.parts(name).values()) == pytest.approx(score, abs=1e-6)
    row = frame[(frame["class"] == "circle") & (frame["index"] == 7)]
    assert row["attribution"].item() == pytest.approx(float(found.map("circle")[1, 2]))


def test_a_page(model: DualEncoder, tmp_path: Path) -> None:
    found = model.zero_shot(_photo(), CLASSES)
    page = found.page(tmp_path / "page.html").read_text(encoding="utf-8")
    (best, share), *_ = found.top()
    assert f"“{best}”, {share:.1%}" in page and found.summary().splitlines()[0] in page
    assert found._repr_html_().startswith("<iframe")
    entry = content_of([found])["entries"][0]
    assert entry["score"] == pytest.approx(float(found.scores.max()))
    assert sum(value for _, value in entry["parts"]) == pytest.approx(entry["score"])
    assert entry["pairs"][0]["names"] == ["The image", "Classes"]
    table = found.by_class()
    assert table.second.names == tuple(CLASSES)
    torch.testing.assert_close(table.phrase("circle"), found.map("circle"))


def test_what_is_classified_is_called_what_it_is(model: DualEncoder) -> None:
    texts = DualEncoder("texts", model.second, model.second)
    said = texts.zero_shot("a red circle", CLASSES).summary()
    assert "(the text)" in said and "image" not in said


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
