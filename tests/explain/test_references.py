"""References of a model: what is drawn, what is compared, and what is kept of it."""

from pathlib import Path
from typing import Any

import captum_pairs
import numpy as np
import pytest
import torch
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.models.text_references import other_texts, other_words
from captum_pairs.scenes import render, sample_caption, sample_scene
from PIL import Image


@pytest.fixture(scope="module")
def model() -> Any:
    return captum_pairs.load("scenes")


@pytest.fixture(scope="module")
def scenes() -> list[tuple[np.ndarray, str]]:
    rng = np.random.default_rng(5)
    found = []
    for _ in range(6):
        scene = sample_scene(rng, 2, distinct=True)
        caption = sample_caption(rng, scene, plain=True)
        found.append((render(scene).image, caption.text))
    return found


@pytest.fixture(scope="module")
def photos(scenes: Any) -> list[np.ndarray]:
    return [image for image, _ in scenes]


@pytest.fixture(scope="module")
def captions(scenes: Any) -> list[str]:
    return [text for _, text in scenes]


LOOSE = {"tolerance": 0.5, "layer": (-1, -1)}


def embeddings(model: Any, at: int, inputs: Any) -> torch.Tensor:
    encoder = (model.first, model.second)[at]
    found = []
    with torch.no_grad():
        for each in inputs:
            prepared = encoder.prepare(each)
            found.append(encoder.embed(prepared.inputs, *prepared.arguments)[0])
    stacked = torch.stack(found)
    return stacked / stacked.norm(dim=1, keepdim=True)


# ---- what is compared --------------------------------------------------------


def test_pairs_are_what_is_specific_to_the_two(
    model: Any, photos: Any, captions: Any
) -> None:
    """The similarity, less that of each input to the other side's references."""
    references = model.references(images=photos[1:], texts=captions[1:], size=9)
    settings = {"tolerance": 0.02, "layer": (-1, -1)}
    found = model.explain(photos[0], captions[0], references=references, **settings)
    assert found.method == "expected_gradients"
    g, own = embeddings(model, 0, photos), embeddings(model, 1, captions[:1])[0]
    ids = references.second._of_text(model.second.prepare(captions[0]))
    assert len(ids) == 9
    with torch.no_grad():
        h = torch.nn.functional.normalize(model.second.embed(ids)).mean(0)
    mean = g[1:].mean(0)
    assert found.constant == pytest.approx(float(mean @ h), abs=1e-5)
    wanted = {
        "interactions": (g[0] - mean) @ (own - h),
        "first_effects": (g[0] - mean) @ h,
        "second_effects": mean @ (own - h),
    }
    for name, value in wanted.items():
        assert float(getattr(found, name).sum()) == pytest.approx(
            float(value), abs=0.03
        )
    assert sum(found.parts().values()) == pytest.approx(found.score, abs=1e-5)
    assert next(iter(found.parts())) == "what both are compared with"


def test_the_input_itself_is_never_among_them(
    model: Any, photos: Any, captions: Any, tmp_path: Path
) -> None:
    references = model.references(images=photos, texts=captions, size=6, seed=3)
    copy = tmp_path / "same.png"
    Image.fromarray(photos[2]).save(copy)
    found = model.explain(str(copy), captions[2], references=references, **LOOSE)
    others = [photo for at, photo in enumerate(photos) if at != 2]
    mean = embeddings(model, 0, others).mean(0)
    kept = model.contributions([copy], references=references, **LOOSE)[0]
    torch.testing.assert_close(kept.baseline_embedding, mean, atol=1e-3, rtol=0)
    assert found.first.baseline == "5 other images (of 6, seed 3)"
    assert found.second.baseline == "6 texts of other words (of 6, seed 3)"
    assert found.first.baseline in found.summary()


def test_where_one_takes_the_inputs_place(model: Any, photos: Any) -> None:
    references = model.references(images=photos, size=3)
    assert len(references.first.prepared) == 4
    named = []
    for photo in photos:
        prepared = model.first.prepare(photo)
        rows = references.first._others(prepared, list(range(4)))
        own = [
            row
            for row in rows
            if torch.equal(references.first.prepared[row].inputs, prepared.inputs)
        ]
        assert len(rows) == 3 and not own
        named.append(tuple(rows))
    assert len(set(named)) > 1


def test_one_reference_is_a_baseline(model: Any, photos: Any, captions: Any) -> None:
    single = model.references(images=[np.zeros_like(photos[0])], size=1)
    settings = {"layer": (-1, -1), "tolerance": 5e-3}
    found = model.explain(photos[0], captions[0], references=single, **settings)
    wanted = model.explain(photos[0], captions[0], baseline="black", **settings)
    assert found.constant == pytest.approx(wanted.constant, abs=1e-5)
    size = float(wanted.interactions.norm())
    assert float((found.interactions - wanted.interactions).norm()) < 0.02 * size


def test_seeds_and_sizes(model: Any, photos: Any, captions: Any) -> None:
    first, again, other = (
        model.references(images=photos, texts=captions, size=3, seed=seed)
        for seed in (0, 0, 1)
    )
    for at in ("first", "second"):
        digests = [getattr(each, at).digest for each in (first, again, other)]
        assert digests[0] == digests[1] != digests[2]
    # the two sides are not drawn as pairs
    many = model.references(images=photos, texts=captions, size=5)
    places = []
    for side, inputs in ((many.first, photos), (many.second, captions)):
        encoder = side.encoder
        every = [encoder.prepare(each).inputs for each in inputs]
        places.append(
            [
                next(
                    at
                    for at, each in enumerate(every)
                    if each.shape == one.inputs.shape and torch.equal(each, one.inputs)
                )
                for one in side.prepared
            ]
        )
    assert sorted(places[0]) == sorted(places[1]) and places[0] != places[1]


# ---- texts -------------------------------------------------------------------


def test_other_texts_are_cut_or_padded(model: Any) -> None:
    prepare = model.second.prepare
    text = prepare("a red circle")
    others = [prepare("a blue star and a green square"), prepare("a star")]
    ids = other_texts(text, others)
    assert ids.shape == (2, 5)
    start, end = text.inputs[0, 0], text.inputs[0, -1]
    assert bool((ids[:, 0] == start).all() and (ids[:, -1] == end).all())
    assert ids[0, 1:4].tolist() == others[0].inputs[0, 1:4].tolist()
    padding = text.baseline[0, 1]
    assert ids[1, 1:4].tolist() == [*others[1].inputs[0, 1:3].tolist(), padding]


def test_other_words_keep_the_number_of_tokens(model: Any) -> None:
    prepare = model.second.prepare
    text = prepare("a red circle")
    others = [prepare("a blue star and a green square"), prepare("a star")]
    ids = other_words(text, others, 400, np.random.default_rng(0))
    assert ids.shape == (400, 5)
    assert bool((ids[:, [0, -1]] == text.inputs[:, [0, -1]]).all())
    words = torch.cat([others[0].inputs[0, 1:-1], others[1].inputs[0, 1:-1]])
    for word in words.unique():
        share = float((ids[:, 1:4] == word).double().mean())
        often = float((words == word).double().mean())
        assert share == pytest.approx(often, abs=0.05)


def test_words_of_several_tokens_get_such(model: Any) -> None:
    """Where the others have none of as many tokens: so many in a row."""
    from captum_pairs.models.encoder import Feature, Source
    from captum_pairs.models.texts import PreparedText

    def text(words: list[list[int]]) -> PreparedText:
        ids, tokens, written = [1], [Feature("[BOS]", True)], ""
        for word in words:
            at = len(written)
            for number in word:
                tokens.append(
                    Feature(f"{number}", span=(len(written), len(written) + 2))
                )
                written += f"{number}"
                ids.append(number)
            assert at < len(written)
            written += " "
        ids.append(2)
        tokens.append(Feature("[EOS]", True))
        values = torch.tensor([ids])
        zero = torch.where(values > 2, 0, values)
        return PreparedText(
            values, zero, Source("text", written.strip()), "", (), tuple(tokens)
        )

    others = [text([[11, 12], [13]]), text([[14], [15, 16]])]
    ids = other_words(text([[21, 22], [23]]), others, 100, np.random.default_rng(0))
    pairs = {tuple(row) for row in ids[:, 1:3].tolist()}
    assert pairs == {(11, 12), (15, 16)}
    assert {int(i) for i in ids[:, 3]} == {13, 14}
    ids = other_words(text([[21, 22, 23]]), others, 200, np.random.default_rng(0))
    stream = [11, 12, 13, 14, 15, 16, 11, 12]
    runs = {tuple(stream[at : at + 3]) for at in range(6)}
    assert {tuple(row) for row in ids[:, 1:4].tolist()} == runs


def test_texts_as_texts(model: Any, photos: Any, captions: Any) -> None:
    references = model.references(texts=captions, size=6, texts_as="texts")
    found = model.explain(photos[0], captions[0], references=references, **LOOSE)
    assert found.second.baseline == "5 other texts (of 6, seed 0)"
    assert found.first.baseline == "an image of the mean color"


# ---- everything that is asked of a model -------------------------------------


def test_a_corpus_with_references_on_one_side(
    model: Any, photos: Any, captions: Any, tmp_path: Path
) -> None:
    references = model.references(images=photos, size=4)
    stored = model.contributions(
        photos[:2], references=references, directory=tmp_path, dtype="float32", **LOOSE
    )
    again = captum_pairs.Contributions.load(tmp_path)
    assert again.settings["references"] == references.first.digest
    layer = LOOSE["layer"]
    found = model.explain(again, captions[0], references=references, layer=layer)
    alone = model.explain(photos[0], captions[0], references=references, **LOOSE)
    torch.testing.assert_close(
        found[0].interactions, alone.interactions, atol=1e-5, rtol=0
    )
    assert len(stored) == len(found) == 2
    other = model.references(images=photos, size=3)
    with pytest.raises(InvalidArgumentError, match="^references: expected"):
        model.explain(again, captions[0], references=other)
    with pytest.raises(InvalidArgumentError, match="^references: expected"):
        model.explain(again, captions[0])
    with pytest.raises(InvalidArgumentError, match="^directory: expected"):
        model.contributions(photos[:2], references=other, directory=tmp_path, **LOOSE)
    # of the other side only: what is stored stays as it was found
    texts = model.references(texts=captions, size=3)
    both = model.explain(again[0], captions[0], references=texts)
    assert both.first.baseline.startswith("4 other images")
    assert both.second.baseline.startswith("3 texts of other words")


def test_contrast_compare_zero_shot_and_a_phrase(
    model: Any, photos: Any, captions: Any, tmp_path: Path
) -> None:
    references = model.references(images=photos[2:], texts=captions[2:], size=3)
    given = {"references": references, **LOOSE}
    contrast = model.contrast(photos[0], captions[0], captions[1], **given)
    assert contrast.preferred.method == contrast.other.method == "expected_gradients"
    part = model.explain(photos[0], captions[0], phrase=captions[0].split()[1], **given)
    assert part.first.baseline == contrast.query.baseline
    zero = model.zero_shot(photos[0], ["circle", "star"], **given)
    assert zero.method == "expected_gradients" and "3 other" in zero.input.baseline
    total = zero.constants + zero.attributions.sum(1)
    torch.testing.assert_close(total, zero.scores, atol=0.2, rtol=0)
    names = ["integrated_gradients", "expected_gradients", "occlusion"]
    compared = model.compare(photos[0], captions[0], methods=names, **given)
    assert compared.methods == tuple(names) and not compared.failed
    starts = [each.first.baseline for each in compared.explanations]
    assert starts[0] == starts[2] == "an image of the mean color" != starts[1]
    saved = contrast.preferred
    saved.save(tmp_path)
    assert captum_pairs.PairExplanation.load(tmp_path) == saved
    page = saved.page(tmp_path / "page.html").read_text()
    assert "from 3 other images (of 4, seed 0)" in page
    drawn = saved.plot()
    said = [text.get_text() for text in drawn.findobj() if hasattr(text, "get_text")]
    assert any("compared with 3 other images" in each for each in said)


def test_what_comes_before_the_layer_is_kept(model: Any, photos: Any) -> None:
    references = model.references(images=photos, size=2)
    model.contributions(photos[:1], references=references, **LOOSE)
    (kept,) = references.first._kept.values()
    model.contributions(photos[1:2], references=references, **LOOSE)
    assert next(iter(references.first._kept.values())) is kept
    # other weights, other values
    weight = model.first.module.vision_model.embeddings.patch_embedding.weight
    with torch.no_grad():
        weight += 0.25
    try:
        model.contributions(photos[:1], references=references, **LOOSE)
        (changed,) = references.first._kept.values()
        assert not torch.equal(changed.values, kept.values)
    finally:
        with torch.no_grad():
            weight -= 0.25


# ---- where they come from ----------------------------------------------------


class Column:
    """A column of a data set: a sequence whose rows are read one by one."""

    def __init__(self, rows: list[Any]) -> None:
        self.rows, self.read = rows, 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, at: int) -> Any:
        self.read += 1
        return self.rows[at]


def test_folders_files_and_columns(
    model: Any, photos: Any, captions: Any, tmp_path: Path
) -> None:
    (tmp_path / "more").mkdir()
    for at, photo in enumerate(photos):
        folder = tmp_path / "more" if at % 2 else tmp_path
        Image.fromarray(photo).save(folder / f"{at}.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    (tmp_path / "captions.txt").write_text("\n".join(captions) + "\n\n")
    with pytest.warns(UserWarning, match="1 of the images could not be read"):
        found = model.references(images=tmp_path, texts=tmp_path, size=20)
    assert (found.first.available, len(found.first.prepared)) == (7, 6)
    assert (found.second.available, len(found.second.prepared)) == (6, 6)
    one = model.references(texts=tmp_path / "captions.txt")
    assert one.second.digest == model.references(texts=captions).second.digest
    column = Column([Image.fromarray(photo) for photo in photos] * 50)
    model.references(images=column, size=4)
    assert column.read == 5
    several = model.references(texts=[[text, "a red star"] for text in captions])
    texts = {each.text for each in several.second.prepared}
    assert texts - {*captions} == {"a red star"} and texts & {*captions}
    assert len(model.references(texts=iter(captions)).second.prepared) == 6


@pytest.mark.parametrize(
    "given, name",
    [
        ({}, "references"),
        ({"images": []}, "images"),
        ({"images": "no such folder"}, "images"),
        ({"texts": {"a": 1}}, "texts"),
        ({"texts": 3}, "texts"),
        ({"texts": [1, 2]}, "texts"),
        ({"sounds": ["a.wav"]}, "sounds"),
        ({"texts": ["a star"], "size": 0}, "size"),
        ({"texts": ["a star"], "seed": -1}, "seed"),
        ({"texts": ["a star"], "texts_as": "tokens"}, "texts_as"),
    ],
)
def test_what_can_not_be_drawn_is_refused(model: Any, given: Any, name: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"^{name}: expected"):
        model.references(**given)


def test_references_that_do_not_fit_are_refused(
    model: Any, photos: Any, captions: Any
) -> None:
    references = model.references(images=photos[:1], texts=captions[:1])
    explain = model.explain
    with pytest.raises(InvalidArgumentError, match="references: .*the input that is"):
        explain(photos[0], captions[1], references=references, **LOOSE)
    with pytest.raises(InvalidArgumentError, match="references: .*text that is"):
        explain(photos[1], captions[0], references=references, **LOOSE)
    for method in ("occlusion", "banzhaf"):
        with pytest.raises(InvalidArgumentError, match="^references: expected"):
            explain(photos[1], captions[1], references=references, method=method)
    with pytest.raises(InvalidArgumentError, match="^references: expected"):
        explain(photos[1], captions[1], method="expected_gradients")
    with pytest.raises(InvalidArgumentError, match="^references: expected"):
        explain(photos[1], captions[1], references=photos)
    with pytest.raises(InvalidArgumentError, match="^references: expected"):
        model.compare(
            photos[1], captions[1], methods=["occlusion"], references=references
        )
    other = captum_pairs.load("scenes")
    with pytest.raises(InvalidArgumentError, match="another model's"):
        other.explain(photos[1], captions[1], references=references)
