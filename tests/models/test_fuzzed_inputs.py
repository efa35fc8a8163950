"""Inputs of any kind: an error of ours, or a result that satisfies what all do."""

import unicodedata
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum_pairs import load
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.models import read_image, UnreadableImageError, UnreadableSoundError
from captum_pairs.models.sound import read_sound
from captum_pairs.models.words import offsets_of, word_spans
from hypothesis import given, HealthCheck, settings, strategies as st
from PIL import Image
from strange import anything, arrays
from test_siamese import _made

few = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
many = settings(few, max_examples=120)


@many
@given(anything | arrays())
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_an_image_or_an_error(raw: Any) -> None:
    try:
        found = read_image(raw)
    except UnreadableImageError as error:
        assert error.argument == "image" and len(str(error)) < 700
        return
    assert found.mode == "RGB" and min(found.size) > 0
    # the same array again, in the other library
    other = raw.numpy() if isinstance(raw, torch.Tensor) else torch.from_numpy(raw)
    if raw.ndim == 2:
        assert np.array_equal(np.asarray(read_image(other)), np.asarray(found))


@many
@given(anything | arrays())
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_sound_or_an_error(raw: Any) -> None:
    try:
        found = read_sound(raw, 16000)
    except UnreadableSoundError as error:
        assert error.argument == "audio" and len(str(error)) < 700
        return
    assert found.ndim == 1 and found.dtype == np.float32 and np.isfinite(found).all()
    assert np.abs(found).max() <= 2


@st.composite
def damaged(draw: Any) -> bytes:
    kind = draw(
        st.sampled_from(["BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP", "TGA"])
    )
    held = BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(held, kind)
    data = bytearray(held.getvalue())
    for at in draw(st.lists(st.integers(0, 10**6), max_size=6)):
        data[at % len(data)] = draw(st.integers(0, 255))
    return bytes(
        data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data
    )


@many
@given(damaged())
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_damaged_file_is_read_or_refused(data: bytes) -> None:
    try:
        found = read_image(data)
    except UnreadableImageError:
        return
    # as by any way to hand it in
    assert np.array_equal(np.asarray(found), np.asarray(read_image(BytesIO(data))))


texts = st.text(
    st.characters(exclude_categories=["Cs"])
    | st.sampled_from(" \u200d\ufe0f👩🏽ก็ा-'’"),
    max_size=30,
)


@many
@given(texts)
def test_words_are_the_text_without_its_spaces(text: str) -> None:
    spans = word_spans(text)
    assert spans == sorted(spans)
    last = 0
    for start, stop in spans:
        assert last <= start < stop <= len(text)
        # between words there are spaces only
        assert not text[last:start].strip("\u200b\ufeff \t\n\r\x0b\x0c").strip()
        last = stop
        # no word begins with a mark unless nothing is there for it to be on
        if unicodedata.category(text[start])[0] == "M" and start:
            assert text[start - 1].isspace() or text[start - 1] in "\u200b\ufeff"


@many
@given(st.lists(st.text(min_size=1, max_size=8), max_size=8), st.randoms())
def test_offsets_are_in_the_text_and_in_order(parts: list[str], random: Any) -> None:
    text = " ".join(parts)
    kept = [part for part in parts if random.random() < 0.7]
    spans = offsets_of(text, kept)
    assert all(0 <= start <= stop <= len(text) for start, stop in spans)
    starts = [span[0] for span in spans]
    assert starts == sorted(starts)


@few
@given(texts)
def test_a_text_or_an_error(tiny_clip: Path, text: str) -> None:
    encoder = load_once(tiny_clip).second
    try:
        prepared = encoder.prepare(text)
    except InvalidArgumentError as error:
        assert error.argument == "text"
        return
    count = prepared.inputs.shape[1]
    for tokens in (False, True):
        layout = prepared.layout((1, count, 8), False, tokens)
        assert set(layout.mask.flatten().tolist()) == set(range(len(layout.features)))
        assert not layout.features[0].special


@few
@given(anything)
def test_what_is_no_model(raw: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        load(raw if not isinstance(raw, str) else f"./{raw}")


@few
@given(anything)
def test_a_layer_or_an_error(tiny_clip: Path, wanted: Any) -> None:
    encoder = load_once(tiny_clip).first
    try:
        assert encoder.layer(wanted).name
    except InvalidArgumentError as error:
        assert error.argument == "layer"


@few
@given(anything | arrays())
def test_a_baseline_or_an_error(tiny_clip: Path, wanted: Any) -> None:
    encoder = load_once(tiny_clip).first
    try:
        encoder.check_baseline(wanted)
    except InvalidArgumentError as error:
        assert error.argument == "baseline"


@few
@given(anything)
def test_a_transform_or_an_error(wanted: Any) -> None:
    from captum_pairs import siamese

    if wanted is not None:
        with pytest.raises(InvalidArgumentError):
            siamese(_made("plain"), wanted)


_LOADED: dict[Path, Any] = {}


def load_once(directory: Path) -> Any:
    if directory not in _LOADED:
        _LOADED[directory] = load(directory)
    return _LOADED[directory]
