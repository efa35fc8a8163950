"""Why A beat B: the parts of a difference, against the two explanations written out."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum_pairs import Contrast, DualEncoder, load
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.scenes import checkpoint_path
from PIL import Image

A, B = "a red circle", "a blue circle"


def _photo(seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def model(tiny_clip: Path) -> DualEncoder:
    return load(tiny_clip)


def _matches_separate_explanations(model: DualEncoder, found: Contrast) -> None:
    """Also that a query which is read once gives what two explanations give."""
    assert sum(found.parts().values()) == pytest.approx(found.difference, abs=1e-6)
    scale = model.heads[0].scale
    assert found.logit_difference == pytest.approx(scale * found.difference, rel=1e-6)


def test_two_captions_of_an_image(model: DualEncoder) -> None:
    found = model.contrast(_photo(), A, B, tolerance=1e-4)
    _matches_separate_explanations(model, found)
    assert found.query_side == "first" and found.query.kind == "image"
    for one, text in ((found.preferred, A), (found.other, B)):
        alone = model.explain(_photo(), text, tolerance=1e-4)
        assert one.score == pytest.approx(alone.score, abs=1e-6)
        # the image takes other steps for a caption than for two, to the tolerance
        torch.testing.assert_close(
            one.interactions, alone.interactions, atol=1e-5, rtol=0
        )
    tables = [one.interactions[:25] for one in (found.preferred, found.other)]
    expected = found.preferred.interactions.sum(1) - found.other.interactions.sum(1)
    torch.testing.assert_close(found.by_query(), expected[:25].reshape(5, 5))
    # "blue" is four tokens, "red" is one: the lengths and so the baselines differ
    assert found.remainder != 0
    changes = found.changes()
    assert [(c.preferred, c.other, c.is_changed) for c in changes] == [
        ("a", "a", False),
        ("red", "blue", True),
        ("circle", "circle", False),
    ]
    torch.testing.assert_close(changes[1].values, tables[0][:, 1] - tables[1][:, 1])
    assert "“red” instead of “blue”" in found.summary()
    assert "word by word" in found.summary()


def test_two_images_for_a_caption(model: DualEncoder) -> None:
    found = model.contrast(A, _photo(1), _photo(2))
    _matches_separate_explanations(model, found)
    assert found.query_side == "second" and found.query.source.text == A
    for one, seed in ((found.preferred, 1), (found.other, 2)):
        alone = model.explain(_photo(seed), A)
        torch.testing.assert_close(
            one.interactions, alone.interactions, atol=1e-5, rtol=0
        )
    # images of one size have one baseline: nothing but what was seen differs
    assert found.remainder == pytest.approx(0.0, abs=1e-6)
    words = found.preferred.interactions.sum(0) - found.other.interactions.sum(0)
    torch.testing.assert_close(found.by_query(), words[:3])
    maps = found.by_candidate()
    torch.testing.assert_close(
        maps[0], found.preferred.interactions.sum(1)[:25].reshape(5, 5)
    )
    with pytest.raises(InvalidArgumentError, match="candidates that are texts"):
        found.changes()


def test_captions_of_like_length_have_no_remainder(model: DualEncoder) -> None:
    found = model.contrast(_photo(), "red circle", "circle red")
    assert found.remainder == pytest.approx(0.0, abs=1e-6)
    assert sum(found.parts().values()) == pytest.approx(found.difference, abs=1e-6)


def test_words_that_only_one_has(model: DualEncoder) -> None:
    changes = model.contrast(_photo(), "a red circle", "a circle here").changes()
    assert [(c.preferred, c.other) for c in changes if c.is_changed] == [
        ("red", ""),
        ("", "here"),
    ]
    assert "nothing" in str(changes[1])
    total = sum(change.total for change in changes)
    found = model.contrast(_photo(), "a red circle", "a circle here")
    sums = [one.interactions[:25, :-2].sum() for one in (found.preferred, found.other)]
    assert total == pytest.approx(float(sums[0] - sums[1]), abs=1e-6)


def test_the_frame_adds_up_to_the_difference(model: DualEncoder) -> None:
    pytest.importorskip("pandas", reason="to_frame needs pandas")
    found = model.contrast(_photo(), A, B)
    frame = found.to_frame()
    assert frame["attribution"].sum() == pytest.approx(found.difference, abs=1e-6)
    assert set(frame["candidate"]) == {"preferred", "other"}


def test_files(model: DualEncoder, tmp_path: Path) -> None:
    found = model.contrast(_photo(), A, B)
    files = found.save(tmp_path)
    assert len(files) == 5 and all(file.is_file() for file in files)
    loaded = Contrast.load(tmp_path)
    assert loaded.summary() == found.summary()
    assert torch.equal(loaded.by_query(), found.by_query())
    with pytest.raises(InvalidArgumentError, match="directory"):
        Contrast.load(tmp_path, "no")
    content = json.loads(files[0].read_text())
    for difference in (None, "0.1", float("nan")):
        files[0].write_text(json.dumps({**content, "difference": difference}))
        with pytest.raises(InvalidArgumentError, match="^directory: .*damaged"):
            Contrast.load(tmp_path)
    files[0].write_text('{"format": 0}')
    with pytest.raises(InvalidArgumentError, match="another version"):
        Contrast.load(tmp_path)


def test_an_object_among_others(model: DualEncoder, tmp_path: Path) -> None:
    found = model.contrast(_photo(), A, B)
    found.save(tmp_path)
    loaded = Contrast.load(tmp_path)
    assert loaded == found and hash(loaded) == hash(found)
    assert found != model.contrast(_photo(1), A, B)
    said = repr(found)
    assert len(said) < 500
    assert "image of 20 x 20 px: “a red circle” or “a blue circle”" in said
    assert f"difference of cosine {found.difference:+.3f}" in said
    assert str(found.changes()[1]) in said and "circle”: " not in said
    changes = found.changes()
    assert changes == loaded.changes() and len(set(changes)) == 3
    assert len(repr(changes)) < 500 and "tensor" not in repr(changes)
    images = model.contrast("a red circle", _photo(), _photo(1))
    assert str(images.preferred.top_pairs()[0]) in repr(images)
    assert images._repr_html_().startswith("<iframe")


def test_explanations_of_another_contrast(model: DualEncoder, tmp_path: Path) -> None:
    model.contrast(_photo(), A, B).save(tmp_path)
    model.explain(_photo(1), B).save(tmp_path, "contrast_other")
    with pytest.raises(InvalidArgumentError, match="directory: .*that differ by"):
        Contrast.load(tmp_path)


def test_candidates_that_are_equal(model: DualEncoder) -> None:
    verdict, said = model.contrast(_photo(), A, A).summary().splitlines()[:2]
    image = "the image of 20 x 20 px"
    assert verdict == "Both texts are as similar, to the last digit."
    assert said.startswith(f"“{A}” is as similar to {image} as “{A}”: ")
    verdict, said = model.contrast(_photo(), A, B).summary().splitlines()[:2]
    assert verdict.startswith("The preferred text is ")
    more = f"“{A}” is (more|less) similar to {image} than “{B}”: "
    assert re.match(more, said)


def test_stored_contributions(model: DualEncoder) -> None:
    direct = model.contrast(_photo(), A, B)
    images = model.contributions([_photo()], dtype="float32")
    texts = model.contributions([A, B], dtype="float32")
    for arguments in (
        (images[0], A, B),
        (images[0], texts[0], texts[1]),
        (_photo(), texts[0], texts[1]),
        (_photo(), texts[0], B),
    ):
        found = model.contrast(*arguments)
        assert found.query_side == "first"
        torch.testing.assert_close(
            found.by_query(), direct.by_query(), atol=1e-5, rtol=0
        )


@pytest.mark.parametrize("side", ["third", 1])
def test_no_such_side(model: DualEncoder, side: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="side"):
        model.contrast(_photo(), A, B, side=side)


def test_the_query_is_told_by_what_it_is(model: DualEncoder, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    _photo().save(path)
    assert model.contrast(str(path), A, B).query_side == "first"
    assert model.contrast(path, A, B).query_side == "first"
    assert model.contrast("red", path, _photo()).query_side == "second"
    missing = str(tmp_path / "missing.jpg")
    with pytest.raises(InvalidArgumentError, match="no such file"):
        model.contrast(missing, A, B)


@pytest.mark.skipif(
    not checkpoint_path().is_dir(), reason="the embedded checkpoint is not here"
)
def test_the_changed_word_makes_the_difference() -> None:
    from captum_pairs.scenes import render, sample_scene

    model = load("scenes")
    rng = np.random.default_rng(0)
    drawing = render(sample_scene(rng, 3, distinct=True))
    right = "a pink star and a green star"
    wrong = right.replace("pink", "red")
    found = model.contrast(drawing.image, right, wrong, tolerance=0.1)
    assert found.difference > 0
    changes = found.changes()
    strongest = max(changes, key=lambda change: change.total)
    assert (strongest.preferred, strongest.other) == ("pink", "red")
    assert found.remainder == pytest.approx(0.0, abs=1e-6)
