"""What is true of every explanation, whatever the inputs: a batch is what each of it is
alone, in any order; what was saved is what is read; the score is the model's own; a
photo that is cropped has its boxes where they were in it; and a picture is the same in
every format."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum_pairs import DualEncoder, load, PairExplanation
from captum_pairs.models import TextLengthError
from hypothesis import assume, given, HealthCheck, settings, strategies as st
from PIL import Image

few = settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
many = settings(few, max_examples=60)

QUICK: dict[str, Any] = {"method": "jacobian_x_input", "layer": 0}
METHODS = ["integrated_gradients", "jacobian_x_input", "token_similarity", "occlusion"]

seeds = st.integers(0, 2**31)
sizes = st.tuples(st.integers(8, 60), st.integers(8, 60))
words = st.sampled_from("a red circle, and two squares of blue; cat dog's 犬 é".split())
texts = st.lists(words, min_size=1, max_size=5).map(" ".join)
photos = st.builds(lambda size, seed: _photo(*size, seed), sizes, seeds)


def _photo(width: int, height: int, seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def model(tiny_clip: Path) -> DualEncoder:
    return load(tiny_clip)


@pytest.fixture(scope="module")
def own(tiny_clip: Path) -> Any:
    """The model and the processor without this library."""
    from transformers import CLIPModel, CLIPProcessor

    model = CLIPModel.from_pretrained(tiny_clip).eval()
    return model, CLIPProcessor.from_pretrained(tiny_clip)


def _same(one: PairExplanation, other: PairExplanation) -> None:
    for mine, theirs in zip((one.first, one.second), (other.first, other.second)):
        # to the rounding that an error is known to
        assert mine.residual == pytest.approx(theirs.residual, rel=1e-2, abs=1e-5)
        assert replace(mine, residual=0.0) == replace(theirs, residual=0.0)
    torch.testing.assert_close(
        one.interactions, other.interactions, rtol=1e-4, atol=1e-6
    )
    assert one.score == pytest.approx(other.score, abs=1e-6)


# ---- a batch, and its order --------------------------------------------------


def _batch(
    model: DualEncoder, pairs: list[tuple[Any, str]], order: Any, method: str
) -> None:
    options = {**QUICK, "method": method}
    alone = [model.explain(*pair, **options) for pair in pairs]
    first, second = [list(each) for each in zip(*pairs)]
    for one, other in zip(alone, model.explain(first, second, **options)):
        _same(one, other)
    permuted = list(range(len(pairs)))
    order.shuffle(permuted)
    stored = model.contributions([first[at] for at in permuted], **options)
    found = model.explain(stored, [second[at] for at in permuted], **options)
    for at, other in zip(permuted, found):
        # stored numbers are rounded to half precision
        torch.testing.assert_close(
            alone[at].interactions, other.interactions, rtol=5e-3, atol=5e-4
        )
        assert alone[at].first.features == other.first.features


lists = st.lists(st.tuples(photos, texts), min_size=1, max_size=3)
orders = st.randoms(use_true_random=False)


@few
@given(lists, orders, st.sampled_from(METHODS))
def test_a_batch_is_what_each_is_alone_in_any_order(
    model: DualEncoder, pairs: list[tuple[Any, str]], order: Any, method: str
) -> None:
    _batch(model, pairs, order, method)


@pytest.mark.slow
@many
@given(lists, orders, st.sampled_from(METHODS))
def test_many_batches(
    model: DualEncoder, pairs: list[tuple[Any, str]], order: Any, method: str
) -> None:
    _batch(model, pairs, order, method)


# ---- files, and the score ----------------------------------------------------


def _saved_and_scored(
    model: DualEncoder, own: Any, photo: Image.Image, text: str, folder: Path
) -> None:
    try:
        found = model.explain(photo, text, **QUICK)
    except TextLengthError:
        assume(False)
    found.save(folder)
    assert PairExplanation.load(folder) == found
    network, processor = own
    inputs = processor(images=photo, text=text, return_tensors="pt")
    with torch.no_grad():
        score = float(network(**inputs).logits_per_image)
    assert found.logit == pytest.approx(score, abs=1e-4)
    assert sum(found.parts().values()) == pytest.approx(found.score, abs=1e-5)


@few
@given(photos, texts)
def test_saved_is_loaded_and_the_score_is_the_models_own(
    model: DualEncoder, own: Any, tmp_path: Path, photo: Image.Image, text: str
) -> None:
    _saved_and_scored(model, own, photo, text, tmp_path)


@pytest.mark.slow
@many
@given(photos, texts)
def test_many_saved_and_scored(
    model: DualEncoder, own: Any, tmp_path: Path, photo: Image.Image, text: str
) -> None:
    _saved_and_scored(model, own, photo, text, tmp_path)


# ---- a cropped photo ---------------------------------------------------------


def _cropped(model: DualEncoder, margin: int, cut: int, wide: bool, seed: int) -> None:
    """Of a photo of 20 pixels one way the middle 20 are seen as they are: what lies
    beside them can be cut off."""
    side = 20 + 2 * (margin + cut)
    photo = _photo(side, 20, seed) if wide else _photo(20, side, seed)
    size = side - 2 * cut
    box = (cut, 0, cut + size, 20) if wide else (0, cut, 20, cut + size)
    whole = model.explain(photo, "a red circle", **QUICK)
    part = model.explain(photo.crop(box), "a red circle", **QUICK)
    assert torch.equal(whole.interactions, part.interactions)
    across, down = (cut, 0) if wide else (0, cut)
    for one, other in zip(whole.first.features, part.first.features):
        if other.box is None:
            assert one.box is None
            continue
        left, top, right, bottom = other.box
        shifted = (left + across, top + down, right + across, bottom + down)
        assert one.box == pytest.approx(shifted)


crops = st.integers(0, 9), st.integers(1, 9), st.booleans(), seeds


@few
@given(*crops)
def test_a_cropped_photo_has_its_boxes_where_they_were(
    model: DualEncoder, margin: int, cut: int, wide: bool, seed: int
) -> None:
    _cropped(model, margin, cut, wide, seed)


@pytest.mark.slow
@many
@given(*crops)
def test_many_cropped_photos(
    model: DualEncoder, margin: int, cut: int, wide: bool, seed: int
) -> None:
    _cropped(model, margin, cut, wide, seed)


# ---- a picture in any format -------------------------------------------------

LOSSLESS = {
    "BMP": {},
    "PNG": {},
    "PPM": {},
    "TGA": {},
    "TIFF": {"compression": "tiff_lzw"},
    "WEBP": {"lossless": True},
}


def _formats(photo: Image.Image, folder: Path) -> dict[str, Any]:
    """The same pixels, however they come."""
    array = np.asarray(photo)
    found: dict[str, Any] = {
        "an array": array,
        "a tensor": torch.from_numpy(array.copy()).permute(2, 0, 1),
        "floating numbers": array / 255,
        "16 bits": array.astype(np.uint16) * 257,
        "a batch of one": array[None],
        "with an opaque layer": photo.convert("RGBA"),
    }
    for kind, options in LOSSLESS.items():
        path = folder / f"photo.{kind.lower()}"
        photo.save(path, kind, **options)
        found[kind] = path
        found[f"{kind} in memory"] = path.read_bytes()
        found[f"{kind}, open"] = BytesIO(path.read_bytes())
    return found


def _same_in_every_format(
    model: DualEncoder, photo: Image.Image, folder: Path, number: int
) -> None:
    expected = model.explain(photo, "a red circle", **QUICK)
    every = _formats(photo, folder)
    names = sorted(every)
    for at in range(4):
        name = names[(number + at) % len(names)]
        found = model.explain(every[name], "a red circle", **QUICK)
        assert torch.equal(found.interactions, expected.interactions), name
        assert found.first == expected.first, name


@few
@given(photos, st.integers(0, 30))
def test_a_picture_is_the_same_in_every_format(
    model: DualEncoder, tmp_path: Path, photo: Image.Image, number: int
) -> None:
    _same_in_every_format(model, photo, tmp_path, number)


@pytest.mark.slow
@many
@given(photos, st.integers(0, 30))
def test_many_pictures_are_the_same_in_every_format(
    model: DualEncoder, tmp_path: Path, photo: Image.Image, number: int
) -> None:
    _same_in_every_format(model, photo, tmp_path, number)
