"""What can be asked of an explanation, against sums written out."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum_pairs import DualEncoder, load, PairExplanation
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.inputs import ExplainedInput, find_phrase
from captum_pairs.models import Feature, Head, Source
from captum_pairs.scenes import checkpoint_path
from PIL import Image
from safetensors.torch import load_file, save_file

TEXT = "a red circle on a Red square"
needs_scenes = pytest.mark.skipif(
    not checkpoint_path().is_dir(), reason="the embedded checkpoint is not here"
)


def _photo(width: int = 32, height: int = 20) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def model(tiny_clip: Path) -> DualEncoder:
    return load(tiny_clip)


@pytest.fixture(scope="module")
def found(model: DualEncoder) -> PairExplanation:
    # 32 x 20 pixels: columns 6 to 26 are seen, in 5 x 5 patches of 4 x 4
    return model.explain(_photo(), TEXT)


def _text_input(text: str) -> ExplainedInput:
    words = text.split()
    features, start = [], 0
    for word in words:
        start = text.index(word, start)
        features.append(Feature(word, span=(start, start + len(word))))
        start += len(word)
    source = Source("text", text=text)
    return ExplainedInput(source, tuple(features), None, "input", "nothing", 4, 0.0)


def _texts(first: str, second: str, table: Any) -> PairExplanation:
    values = torch.tensor(table)
    return PairExplanation(
        model="none",
        method="integrated_gradients",
        first=_text_input(first),
        second=_text_input(second),
        similarity="cosine",
        score=float(values.sum()),
        heads=(Head(),),
        constant=0.0,
        first_effects=torch.zeros(len(values)),
        second_effects=torch.zeros(values.shape[1]),
        interactions=values,
        convergence_delta=0.0,
        tolerance=0.01,
    )


def test_a_phrase_is_the_sum_of_its_words(found: PairExplanation) -> None:
    table = found.interactions[:25].reshape(5, 5, -1)
    names = found.second.names
    assert names[:7] == ("a", "red", "circle", "on", "a (2)", "Red (2)", "square")
    torch.testing.assert_close(found.phrase("RED circle"), table[..., 1:3].sum(-1))
    torch.testing.assert_close(found.phrase("square"), table[..., 6])
    torch.testing.assert_close(found.phrase("red", occurrence=2), table[..., 5])


def test_a_phrase_in_pixels_has_the_same_sum(found: PairExplanation) -> None:
    patches, pixels = found.phrase("circle"), found.phrase("circle", upsampled=True)
    assert pixels.shape == (20, 32)
    torch.testing.assert_close(pixels.sum(), patches.sum())
    assert not pixels[:, :6].any() and not pixels[:, 26:].any()  # cropped away
    for row, column in ((0, 0), (2, 3), (4, 4)):
        block = pixels[4 * row : 4 * row + 4, 6 + 4 * column : 10 + 4 * column]
        torch.testing.assert_close(block, (patches[row, column] / 16).expand(4, 4))


def test_a_region_counts_patches_by_their_share(found: PairExplanation) -> None:
    table = found.interactions[:25].reshape(5, 5, -1)[..., :7]
    # a whole patch, half of the one beside it, a quarter of the one below that
    expected = table[1, 1] + 0.5 * table[1, 2] + 0.5 * table[2, 1] + 0.25 * table[2, 2]
    torch.testing.assert_close(found.region((10, 4, 16, 10)), expected)
    torch.testing.assert_close(found.region((10, 7)), table[1, 1])
    torch.testing.assert_close(found.region((0, 0, 32, 20)), table.sum((0, 1)))
    mask = np.zeros((20, 32), dtype=bool)
    mask[4:10, 10:16] = True
    torch.testing.assert_close(found.region(mask), expected)
    torch.testing.assert_close(found.region(torch.from_numpy(mask)), expected)


@pytest.mark.parametrize(
    "where, message",
    [
        ((0, 0, 33, 20), "0 <= left < right <= 32"),
        ((5, 5, 5, 9), "left < right"),
        ((-1, 3), "a point inside 32 x 20"),
        ((0, 0, 6, 20), "of what the model saw, .6, 0, 26, 20."),
        ((1, 2, 3), "a box .left, top, right, bottom., a point .x, y. or a mask"),
        (np.ones((20, 20)), "a mask of shape .20, 32."),
        (np.zeros((20, 32)), "of what the model saw"),
    ],
)
def test_regions_that_are_none(
    found: PairExplanation, where: Any, message: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=f"region: expected .*{message}"):
        found.region(where)


def test_phrases_that_are_none(found: PairExplanation) -> None:
    with pytest.raises(InvalidArgumentError, match="nearest match is “red circle”"):
        found.phrase("red circles")
    with pytest.raises(InvalidArgumentError, match="occurrence: .*from 1 to 2.*None"):
        found.phrase("red")
    with pytest.raises(InvalidArgumentError, match="occurrence: .*from 1 to 2.*got 3"):
        found.phrase("red", occurrence=3)
    with pytest.raises(InvalidArgumentError, match="phrase: expected at least one"):
        found.phrase(" ")
    with pytest.raises(InvalidArgumentError, match="side: "):
        found.phrase("red", occurrence=1, side="first")
    # nothing like it: no nearest match is made up
    with pytest.raises(InvalidArgumentError) as error:
        found.phrase("xylophone")
    assert "nearest" not in str(error.value)


@pytest.mark.parametrize(
    "text, phrase, span",
    [
        ("the brown dog", "brown dog", (4, 13)),
        ("the  Brown\ndog.", "brown dog", (5, 14)),
        ("a dogged dog", "dog", (9, 12)),
        ("it's a dog's ball", "dog's", (7, 12)),
        ("ein Hund", "HUND", (4, 8)),
    ],
)
def test_where_a_phrase_stands(text: str, phrase: str, span: tuple[int, int]) -> None:
    assert find_phrase(text, phrase) == span


def test_only_a_phrase(model: DualEncoder) -> None:
    # integrals that are exact: a phrase alone takes steps of its own
    exact: Any = {"tolerance": 1e-7, "n_steps": 64}
    found = model.explain(_photo(), TEXT, **exact)
    part = model.explain(_photo(), TEXT, phrase="red circle", **exact)
    assert part.second.names == ("red circle",)
    expected = found.phrase("red circle")
    torch.testing.assert_close(part.phrase("circle"), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(part.maps()[0], part.phrase("red circle"))
    assert sum(part.parts().values()) == pytest.approx(found.score, abs=1e-6)
    assert part.rest != 0 and "what was not asked for" in part.summary()
    effects = found.second_effects
    assert part.second_effects is not None and effects is not None
    assert float(part.second_effects) == pytest.approx(
        float(effects[1:3].sum()), abs=1e-6
    )
    with pytest.raises(InvalidArgumentError, match="words that were explained"):
        part.phrase("square")
    third = model.explain(_photo(), TEXT, phrase="red", occurrence=2)
    assert third.second.features[0].span == (18, 21)


def test_only_a_region(model: DualEncoder) -> None:
    box = (10, 4, 16, 10)
    exact: Any = {"tolerance": 1e-7, "n_steps": 64}
    found = model.explain(_photo(), TEXT, **exact)
    part = model.explain(_photo(), TEXT, region=box, **exact)
    expected = found.region(box)
    torch.testing.assert_close(part.maps("first")[0], expected, atol=1e-6, rtol=0)
    assert sum(part.parts().values()) == pytest.approx(found.score, abs=1e-6)
    for asked in ({"phrase": "red"}, {"side": "second"}):
        with pytest.raises(InvalidArgumentError):
            model.explain(_photo(), TEXT, region=box, **asked)


def test_only_a_phrase_is_one_backward_pass_a_step(
    model: DualEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from captum_pairs.attr import Example

    calls = []
    gradient = Example.gradient

    def counted(self: Any, outputs: Any, *rest: Any) -> Any:
        calls.append((self.side.names[0], len(outputs)))
        return gradient(self, outputs, *rest)

    monkeypatch.setattr(Example, "gradient", counted)

    def number(phrase: str | None) -> int:
        calls.clear()
        found = model.explain(_photo(), TEXT, phrase=phrase, n_steps=8, tolerance=1e-9)
        steps = sum(rows for _, rows in calls)
        chosen = 4 + 8  # the steps that were tried, on each side
        assert found.first.n_steps == found.second.n_steps == 8
        return (steps - 2 * chosen) // 8

    assert number("red circle") == 1 + 1  # the text's and the image's
    # 9 features and the rest would be 1 + 10, but the embedding has 8 dimensions only
    assert number(None) == 8 + 8


def test_top_pairs_of_an_image(found: PairExplanation) -> None:
    pairs = found.top_pairs(50)
    values = [abs(pair.value) for pair in pairs]
    assert values == sorted(values, reverse=True)
    content = {"red", "circle", "Red (2)", "square"}
    assert {pair.second for pair in pairs} == content
    for pair in pairs:
        table = found.interactions[list(pair.first_features)]
        total = table[:, list(pair.second_features)].sum()
        assert pair.value == pytest.approx(float(total), abs=1e-6)
        assert pair.first_box is not None and "px)" in str(pair)
        strongest = max((float(v) for v in table[:, pair.second_features[0]]), key=abs)
        column = found.interactions[:25, pair.second_features[0]]
        extreme = column.max() if pair.value > 0 else column.min()
        assert strongest == pytest.approx(float(extreme))


def test_top_pairs_of_texts_are_content_words() -> None:
    found = _texts("the dog", "a hound", [[9.0, 8.0], [7.0, -1.0]])
    assert [str(pair) for pair in found.top_pairs()] == ["“dog” – “hound”: -1.000"]
    only = _texts("the", "a", [[2.0]])
    assert str(only.top_pairs()[0]) == "“the” – “a”: +2.000"
    assert found.phrase("dog").tolist() == [7.0, -1.0]
    assert found.phrase("hound").tolist() == [8.0, -1.0]
    both = _texts("dog", "dog", [[1.0]])
    with pytest.raises(InvalidArgumentError, match="side: .*both have “dog”"):
        both.phrase("dog")
    assert both.phrase("dog", side="first").tolist() == [1.0]
    with pytest.raises(InvalidArgumentError, match="an input with regions"):
        found.region((0, 0, 1, 1))


def test_the_frame_adds_up_to_the_score(
    found: PairExplanation, model: DualEncoder
) -> None:
    pytest.importorskip("pandas", reason="to_frame needs pandas")
    frame = found.to_frame()
    assert frame["attribution"].sum() == pytest.approx(found.score, abs=1e-6)
    pairs = frame[frame["part"] == "pair"]
    assert len(pairs) == found.interactions.numel()
    row = pairs[(pairs["first"] == "patch (2, 3)") & (pairs["second"] == "circle")]
    assert row["attribution"].item() == pytest.approx(float(found.interactions[13, 2]))
    assert not row["special"].item()
    assert frame[frame["part"] == "second"]["second"].tolist() == list(
        found.second.names
    )
    part = model.explain(_photo(), TEXT, phrase="circle").to_frame()
    assert part["attribution"].sum() == pytest.approx(found.score, abs=1e-6)


def test_merged_features_are_sums(found: PairExplanation) -> None:
    merged = found.merge(
        first={"left": (6, 0, 14, 20)}, second=["red circle", "Red square"]
    )
    assert merged.second.names[:5] == ("red circle", "Red square", "a", "on", "a (2)")
    assert merged.first.names == ("left", "elsewhere", "class token")
    left = [5 * row + column for row in range(5) for column in (0, 1)]
    expected = found.interactions[left][:, [1, 2]].sum()
    torch.testing.assert_close(merged.interactions[0, 0], expected)
    torch.testing.assert_close(merged.interactions.sum(), found.interactions.sum())
    assert sum(merged.parts().values()) == pytest.approx(found.score, abs=1e-6)
    assert merged.first.features[0].box == (6, 0, 14, 20)
    assert merged.second.features[0].span == (2, 12)
    assert merged.summary()
    by_index = found.merge(second=[[1, 2], [5, 6]])
    torch.testing.assert_close(
        by_index.interactions,
        found.merge(second=["red circle", "Red square"]).interactions,
    )
    # what the first group has, the second one has not
    twice = found.merge(second=["red circle", "circle on"])
    torch.testing.assert_close(twice.interactions.sum(), found.interactions.sum())
    for wrong in (["blue"], [[99]]):
        with pytest.raises(InvalidArgumentError, match="merge"):
            found.merge(second=wrong)


def test_files(found: PairExplanation, model: DualEncoder, tmp_path: Path) -> None:
    for number, one in enumerate((found, model.explain(_photo(), TEXT, phrase="on"))):
        name = f"n{number}"
        files = one.save(tmp_path / "new", name)
        assert [file.name for file in files] == [f"{name}.json", f"{name}.safetensors"]
        loaded = PairExplanation.load(tmp_path / "new", name)
        assert torch.equal(loaded.interactions, one.interactions)
        assert (loaded.first_effects is None) == (one.first_effects is None)
        assert loaded.second == one.second
        assert replace(loaded.first, source=one.first.source) == one.first
        assert np.array_equal(loaded.first.source.picture, one.first.source.picture)
        assert loaded.parts() == one.parts() and loaded.logits == one.logits
        assert loaded.summary() == one.summary()
    content = json.loads(files[0].read_text())
    assert "the" in content["stop_words"] and len(content["top_pairs"]) == 2
    content["format"] = 0
    files[0].write_text(json.dumps(content))
    with pytest.raises(InvalidArgumentError, match="another version"):
        PairExplanation.load(tmp_path / "new", "n1")
    with pytest.raises(
        InvalidArgumentError, match="directory: expected a file no.json"
    ):
        PairExplanation.load(tmp_path, "no")


@pytest.mark.parametrize(
    "method",
    ["occlusion", "banzhaf", "shapley", "jacobian_x_input", "token_similarity"],
)
def test_other_methods(model: DualEncoder, method: str) -> None:
    from captum_pairs import attr

    pairs = {
        "occlusion": attr.FeaturePairOcclusion,
        "banzhaf": attr.FeaturePairBanzhaf,
        "shapley": attr.FeaturePairShapley,
        "jacobian_x_input": attr.FeaturePairJacobianXInput,
        "token_similarity": attr.FeaturePairTokenSimilarity,
    }[method]
    has_baseline = method in ("occlusion", "banzhaf", "shapley")
    text = "a red"  # few enough features of the text to be enumerated
    found = model.explain(_photo(), text, method=method, layer=(1, 0))
    sides = model.first, model.second
    prepared = [side.prepare(raw) for side, raw in zip(sides, (_photo(), text))]
    layouts = [
        one.layout((1, size, 16), False, False)
        for one, size in zip(prepared, (26, prepared[1].inputs.shape[1]))
    ]
    arguments: dict[str, Any] = {
        "feature_mask": tuple(layout.mask for layout in layouts),
        "additional_forward_args": tuple(one.arguments for one in prepared),
        "attribute_to_layer_input": True,
    }
    if has_baseline:
        arguments["baselines"] = tuple(one.baseline for one in prepared)
    attribution = pairs(
        tuple(side.embed for side in sides),
        layer=(sides[0].blocks[1], sides[1].blocks[0]),
    )
    torch.manual_seed(0)
    expected = attribution.attribute(tuple(one.inputs for one in prepared), **arguments)
    torch.manual_seed(0)
    if method in ("banzhaf", "shapley"):  # the image is sampled: other chances
        size = expected.abs().max()
        assert (found.interactions - expected[0]).abs().max() < 0.3 * size
        again = model.explain(_photo(), text, method=method, layer=(1, 0))
        assert torch.equal(again.interactions, found.interactions)
        other = model.explain(_photo(), text, method=method, layer=(1, 0), seed=1)
        assert not torch.equal(other.interactions, found.interactions)
    else:
        torch.testing.assert_close(found.interactions, expected[0], atol=1e-6, rtol=0)
    assert sum(found.parts().values()) == pytest.approx(found.score, abs=1e-5)
    assert "what the method leaves out" in found.parts()
    assert (
        method.replace("_", " ") in found.summary()
        and "completeness" not in found.summary()
    )
    if not has_baseline:
        assert found.constant == 0 and not found.first_effects.any()
        assert found.first.baseline == "none"
    part = model.explain(_photo(), text, method=method, layer=(1, 0), phrase="red")
    assert part.maps().shape == (1, 5, 5)
    torch.testing.assert_close(part.maps()[0], found.phrase("red"), atol=1e-6, rtol=0)
    assert sum(part.parts().values()) == pytest.approx(found.score, abs=1e-5)


def test_lists_are_pairs(model: DualEncoder, found: PairExplanation) -> None:
    photos = [_photo(), _photo(20, 20)]
    both = model.explain(photos, [TEXT, "red"])
    assert [one.first.source.size for one in both] == [(32, 20), (20, 20)]
    torch.testing.assert_close(both[0].interactions, found.interactions)
    assert len(model.explain(photos, "red")) == len(model.explain(_photo(), ["a", "b"]))
    with pytest.raises(InvalidArgumentError, match="second: .*as many .*2, got 1"):
        model.explain(photos, ["red"])


def test_options_that_are_none(model: DualEncoder) -> None:
    with pytest.raises(InvalidArgumentError, match="method: expected one of"):
        model.explain(_photo(), TEXT, method="magic")
    with pytest.raises(InvalidArgumentError, match="steps: expected one of layer"):
        model.explain(_photo(), TEXT, steps=3)
    with pytest.raises(InvalidArgumentError, match="tolerance"):
        model.explain(_photo(), TEXT, tolerance=0.0)
    with pytest.raises(InvalidArgumentError, match="text: expected a string"):
        model.explain(_photo(), 3)


@needs_scenes
def test_a_phrase_points_at_its_object() -> None:
    from captum_pairs.scenes import render, sample_caption, sample_scene

    model = load("scenes")
    inside = total = 0
    for seed in range(3):
        rng = np.random.default_rng(seed)
        scene = sample_scene(rng, 3, distinct=True)
        drawing, caption = render(scene), sample_caption(rng, scene, plain=True)
        found = model.explain(drawing.image, caption.text, tolerance=0.1)
        for phrase, objects in zip(caption.phrases, caption.objects):
            words = caption.text[slice(*phrase.span)]
            row, column = divmod(int(found.phrase(words, 1).argmax()), 8)
            left, top, right, bottom = drawing.boxes[objects[0]].tolist()
            inside += left <= 8 * column + 4 < right and top <= 8 * row + 4 < bottom
            total += 1
    assert inside / total > 0.6  # chance is about 0.11


def test_nothing_is_left_in_the_model(tiny_clip: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_clip, tmp_path / "copy")
    model = load(tmp_path / "copy")
    before = model.fingerprint
    model.explain(_photo(), TEXT, layer=("input", "input"))
    assert load(tmp_path / "copy").fingerprint == before
    module = model.first.module
    assert module is not None
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())
    assert not any(p.requires_grad or p.grad is not None for p in module.parameters())


# ---- what it is as a Python object -------------------------------------------


def test_a_repr_is_short(found: PairExplanation) -> None:
    said = repr(found)
    assert len(said) < 500 and len(repr([found] * 4)) < 2000
    assert "image of 32 x 20 px and “a red circle on a Red square”" in said
    assert f"cosine {found.score:+.3f}" in said
    assert all(str(pair) in said for pair in found.top_pairs(3))
    long = _texts("a " + "very " * 500 + "dog", "dog", [[1.0]] * 502)
    assert len(repr(long)) < 500


def test_equal_is_what_has_equal_content(
    found: PairExplanation, model: DualEncoder, tmp_path: Path
) -> None:
    found.save(tmp_path)
    loaded = PairExplanation.load(tmp_path)
    assert loaded == found and hash(loaded) == hash(found)
    assert {found, loaded} == {found}
    changed = found.interactions.clone()
    changed[0, 0] += 1
    assert replace(found, interactions=changed) != found
    assert replace(found, first_effects=None) != found
    assert replace(found, interactions=changed.double()) != found
    assert found != "an explanation" and found in [None, loaded]
    # another picture of the same size
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (20, 32, 3), dtype=np.uint8)
    other = replace(found.first.source, picture=pixels)
    assert replace(found, first=replace(found.first, source=other)) != found


def test_inputs_are_equal_by_what_they_hold(model: DualEncoder) -> None:
    """Pictures and tensors included, which `==` alone can't compare."""
    raw = model.first.prepare(_photo())
    again, another = model.first.prepare(_photo()), model.first.prepare(_photo(33))
    layouts = [p.layout(p.inputs.shape, True, False) for p in (raw, again, another)]
    kept = [model.contributions([each])[0] for each in (_photo(), _photo(), _photo(33))]
    for one, same, other in (
        (raw, again, another),
        (raw.source, again.source, another.source),
        (layouts[0], layouts[1], replace(layouts[2], grid=None)),
        (kept[0], kept[1], kept[2]),
        (kept[0].input, kept[1].input, kept[2].input),
    ):
        assert one == same and hash(one) == hash(same) and len({one, same}) == 1
        assert one != other and not one == other
        assert one != "an input"


def test_a_model_says_what_it_is(model: DualEncoder) -> None:
    assert repr(model) == (
        f"<{model.name}: image (2 blocks, explained from block 0) and text (2 blocks, "
        "explained from block 0); cosine, logits_per_image>"
    )
    twice = DualEncoder("twice", model.first, model.first)
    assert "image (2 blocks, explained from block 0) in both places" in repr(twice)


# ---- files -------------------------------------------------------------------


def test_files_can_be_read_by_whom_the_mask_lets(
    found: PairExplanation, tmp_path: Path
) -> None:
    (tmp_path / "other").write_text("")
    modes = {path.stat().st_mode for path in found.save(tmp_path)}
    assert modes == {(tmp_path / "other").stat().st_mode}
    assert len(list(tmp_path.iterdir())) == 3  # nothing is left beside them


def test_the_halves_of_a_result_know_each_other(
    found: PairExplanation, model: DualEncoder, tmp_path: Path
) -> None:
    found.save(tmp_path, "one")
    model.explain(_photo(), "on Red circle a a red square").save(tmp_path, "other")
    shutil.copy(tmp_path / "other.safetensors", tmp_path / "one.safetensors")
    with pytest.raises(InvalidArgumentError, match="directory: .* belong to"):
        PairExplanation.load(tmp_path, "one")
    # as version 0.1 wrote it, whose halves did not
    path = tmp_path / "other.json"
    content = json.loads(path.read_text())
    del content["tensors"]
    path.write_text(json.dumps(content))
    assert PairExplanation.load(tmp_path, "other").summary()


@pytest.mark.parametrize(
    "change",
    [
        {"score": "high"},
        {"first": None},
        {"heads": [{"nose": 1}]},
        {"second": {"features": []}},
        {"model": 3},
        {"similarity": ""},
        {"heads": []},
        {"score": float("nan")},
        {"rest": float("inf")},
        {"tolerance": True},
        {"heads": [{"name": "logit", "scale": "1", "bias": 0.0}]},
        {"heads": [{"name": "logit", "scale": 1.0, "bias": float("-inf")}]},
    ],
)
def test_damaged_files(found: PairExplanation, tmp_path: Path, change: Any) -> None:
    path, tensors = found.save(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InvalidArgumentError, match="^directory: expected .* saved"):
        PairExplanation.load(tmp_path)
    path.write_text(path.read_text()[:200])
    with pytest.raises(InvalidArgumentError, match="^directory: expected .* saved"):
        PairExplanation.load(tmp_path)
    found.save(tmp_path)
    tensors.unlink()
    with pytest.raises(InvalidArgumentError, match="explanation.safetensors"):
        PairExplanation.load(tmp_path)


@pytest.mark.parametrize(
    "name, value",
    [
        ("residual", float("nan")),
        ("residual", None),
        ("n_steps", 2.5),
        ("grid", [5]),
        ("grid", [5, -5]),
        ("layer", 3),
        ("features", "abc"),
        ("source", {"kind": "smell"}),
        ("source", {"kind": "image", "size": [1, 2, 3]}),
        ("source", {"kind": "image", "visible": ["a", "b", "c", "d"]}),
    ],
)
def test_damaged_inputs(
    found: PairExplanation, tmp_path: Path, name: str, value: Any
) -> None:
    path, _ = found.save(tmp_path)
    content = json.loads(path.read_text())
    content["first"][name] = value
    path.write_text(json.dumps(content))
    with pytest.raises(InvalidArgumentError, match="^directory: expected .* saved"):
        PairExplanation.load(tmp_path)


@pytest.mark.parametrize(
    "feature",
    [
        {"name": 3},
        {"name": "a", "special": "no"},
        {"name": "a", "span": [0.5, 1]},
        {"name": "a", "span": [-1, 1]},
        {"name": "a", "box": [0, 0, 1]},
        {"name": "a", "box": [0, 0, 1, float("inf")]},
    ],
    ids=str,
)
def test_damaged_features(
    found: PairExplanation, tmp_path: Path, feature: dict[str, Any]
) -> None:
    path, _ = found.save(tmp_path)
    content = json.loads(path.read_text())
    content["first"]["features"][0] = feature
    path.write_text(json.dumps(content))
    with pytest.raises(InvalidArgumentError, match="^directory: expected .* saved"):
        PairExplanation.load(tmp_path)


def test_what_could_not_be_read_again_is_not_written(
    found: PairExplanation, tmp_path: Path
) -> None:
    broken = replace(found, interactions=found.interactions * torch.nan)
    with pytest.raises(InvalidArgumentError, match="interactions: .*finite"):
        broken.save(tmp_path / "a")
    with pytest.raises(InvalidArgumentError, match="score: .*finite"):
        replace(found, score=float("nan")).save(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_numbers_of_another_shape(found: PairExplanation, tmp_path: Path) -> None:
    wrong = replace(found, interactions=found.interactions[:-1])
    wrong.save(tmp_path)
    with pytest.raises(InvalidArgumentError, match="saved, got .*interactions"):
        PairExplanation.load(tmp_path)


def test_a_name_that_is_no_unicode(found: PairExplanation, tmp_path: Path) -> None:
    odd = replace(found, model="caf\udce9")
    odd.save(tmp_path)
    assert PairExplanation.load(tmp_path).model == "caf\udce9"


# ---- numbers that are none ---------------------------------------------------


def test_attributions_that_are_not_numbers(
    found: PairExplanation, tmp_path: Path
) -> None:
    some = found.interactions.clone()
    some[3], some[:, 2] = torch.nan, torch.nan
    for table in (some, torch.full_like(some, torch.nan)):
        broken = replace(found, interactions=table)
        assert "nan" not in "".join(map(str, broken.top_pairs(9))).lower()
        assert broken.summary() and repr(broken)
        text, tensors = found.save(tmp_path)
        numbers = load_file(tensors) | {"interactions": table.contiguous()}
        save_file(numbers, tensors)
        content = json.loads(text.read_text())
        del content["tensors"]  # the digest of those before
        text.write_text(json.dumps(content))
        with pytest.raises(InvalidArgumentError, match="numbers that are not finite"):
            PairExplanation.load(tmp_path)
    assert "Attributions are not numbers (NaN)" in broken.summary()
    texts = _texts("dog", "hound cat", [[torch.nan, 1.0]])
    assert [str(pair) for pair in texts.top_pairs()] == ["“dog” – “cat”: +1.000"]
    table, effects = some[:, :1].expand(-1, 26), found.first_effects
    images = replace(found, second=found.first, interactions=table)
    assert replace(images, second_effects=effects).summary()


# ---- regions and groups that are none ----------------------------------------


@pytest.mark.parametrize(
    "where",
    [
        ("a", "b"),
        ("a", "b", "c", "d"),
        [[1, 2], [3]],
        {"left": 1},
        None,
        (1 + 2j, 3),
        "box",
        object(),
    ],
)
def test_regions_that_are_no_numbers(found: PairExplanation, where: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="^region: expected a box"):
        found.region(where)


def test_a_mask_with_nan_is_refused(found: PairExplanation) -> None:
    mask = np.zeros((20, 32))
    mask[3, 8] = np.nan
    with pytest.raises(InvalidArgumentError, match="region: .*NaN"):
        found.region(mask)
    mask[3, 8] = 0.5
    assert found.region(mask).shape == (7,)


@pytest.mark.parametrize(
    "where", [(0.1, 0.2, 0.5, 0.6), (0, 0, 0.5, 1), (0.5, 0.5), (1.0, 0.3)]
)
def test_shares_of_an_image_are_no_pixels(found: PairExplanation, where: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="region: .*pixels.* shares of it"):
        found.region(where)


def test_the_first_pixel_is_a_region(model: DualEncoder) -> None:
    whole = model.explain(_photo(20, 20), "red")
    assert whole.region((0, 0, 1, 1)).shape == whole.region((0, 0)).shape == (1,)


@pytest.mark.parametrize(
    "groups, message",
    [
        ("red", "groups, or a mapping"),
        (3, "groups, or a mapping"),
        ([], "groups, or a mapping"),
        ({}, "groups, or a mapping"),
        ({1: "red circle"}, "names that are no texts"),
        (["red circle", "red circle"], "group 2 without"),
        ([[1, 2], [2, 1]], "group 2 without"),
        ([[]], "group 1 without"),
        ([["red"]], "features' indices"),
        ([[True]], "features' indices"),
        ([[1.5]], "features' indices"),
    ],
)
def test_groups_that_are_none(
    found: PairExplanation, groups: Any, message: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=f"^merge: .*{message}"):
        found.merge(second=groups)


def test_indices_that_come_twice_count_once(found: PairExplanation) -> None:
    once, twice = (found.merge(second=[group]) for group in ([1, 2], [1, 2, 1]))
    assert once == twice


@pytest.mark.parametrize(
    "text, phrase, nearest",
    [
        ("a dog", "cat", None),
        ("a look at a dog", "cat", None),
        ("a cats", "cat", "cats"),
        ("a red circle", "the", None),
        ("a brown dog", "browne dog", "brown dog"),
    ],
)
def test_the_nearest_match(text: str, phrase: str, nearest: str | None) -> None:
    with pytest.raises(InvalidArgumentError) as error:
        find_phrase(text, phrase)
    found = str(error.value).partition("nearest match is “")[2].partition("”")[0]
    assert found == (nearest or "")


def test_how_many_samples_it_takes(model: DualEncoder) -> None:
    with pytest.raises(
        InvalidArgumentError, match="n_samples: .*at least 27 .* got 12"
    ):
        model.explain(_photo(), "red", method="lime", n_samples=12)
    with pytest.raises(
        InvalidArgumentError, match="n_samples: .*at least 54 .* got 52"
    ):
        model.explain(_photo(), "red", method="banzhaf", n_samples=52)
    with pytest.raises(
        InvalidArgumentError, match="at least 108 .* each of 4 prob.*10"
    ):
        model.explain(_photo(), "red", method="shapley", n_samples=40)
    for method, enough in (("lime", 27), ("banzhaf", 54)):
        assert model.explain(_photo(), "red", method=method, n_samples=enough).score


def test_more_features_are_given_more_samples(
    model: DualEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forwards(**options: Any) -> int:
        found = model.compare(_photo(), "red", methods=["lime"], **options)
        return found.compared[0].forwards

    assert 2048 < forwards() < 2100
    monkeypatch.setattr("captum_pairs.explain.sides._SAMPLES", 100)
    assert 2600 < forwards() < 2700  # 26 features
    assert 300 < forwards(n_samples=300) < 350
