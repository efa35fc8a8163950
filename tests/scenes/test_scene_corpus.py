"""The corpus: its truth is the captions' own, and it is the same each time."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from captum_pairs.scenes.captions import (
    Description,
    hard_negative,
    is_true,
    Phrase,
    sample_caption,
    write,
)
from captum_pairs.scenes.corpus import (
    blank,
    Corpus,
    encode_claims,
    encode_objects,
    generate,
    truth,
)
from captum_pairs.scenes.model import new_tokenizer
from captum_pairs.scenes.scene import sample_scene, twin


def test_truth_of_all_pairs_is_that_of_each() -> None:
    rng = np.random.default_rng(0)
    scenes, captions = [], []
    for _ in range(60):
        scene = sample_scene(rng)
        scenes += [scene, twin(rng, scene)]
        for _ in range(4):
            caption = sample_caption(rng, scene)
            captions.append(caption)
            negative = hard_negative(rng, scene, caption)
            if negative is not None:
                captions.append(negative.caption)
    claims = np.array([encode_claims(c.description) for c in captions], np.int8)
    holds = truth(claims, *encode_objects(scenes))
    expected = [[is_true(c.description, scene) for scene in scenes] for c in captions]
    assert np.array_equal(holds, expected)
    assert 0.01 < holds.mean() < 0.2


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return generate(seed=9, scenes=1100, captions=2)


def test_shapes(corpus: Corpus) -> None:
    assert len(corpus) == 1100
    assert corpus.images.shape == (1100, 64, 64, 3)
    assert corpus.objects.shape == (1100, 4, 3)
    assert corpus.centers.shape == (1100, 4, 2)
    assert corpus.tokens.shape[:3] == corpus.claims.shape[:3] == (1100, 2, 2)


def test_captions_are_true_and_negatives_false(corpus: Corpus) -> None:
    for start in range(0, 1100, 100):
        rows = slice(start, start + 100)
        for which in (0, 1):
            for caption in (0, 1):
                holds = truth(
                    corpus.claims[rows, caption, which],
                    corpus.objects[rows],
                    corpus.centers[rows],
                )
                assert (holds.diagonal() == (which == 0)).all()


def test_token_ids_are_the_tokenizers(corpus: Corpus) -> None:
    tokenizer = new_tokenizer()
    for ids in corpus.tokens[:100, 0, 0].astype(int):
        text = tokenizer.decode(ids[ids > 0], skip_special_tokens=True)
        assert tokenizer(text)["input_ids"] == ids[ids > 0].tolist()
        assert tokenizer.unk_token_id not in ids


def test_same_whatever_the_workers(corpus: Corpus) -> None:
    again = generate(seed=9, scenes=1100, captions=2, workers=2)
    for field in fields(Corpus):
        assert np.array_equal(getattr(again, field.name), getattr(corpus, field.name))


def test_saved_and_loaded(corpus: Corpus, tmp_path: Path) -> None:
    corpus.save(tmp_path / "corpus")
    loaded = Corpus.load(tmp_path / "corpus")
    for field in fields(Corpus):
        assert np.array_equal(getattr(loaded, field.name), getattr(corpus, field.name))


@pytest.mark.parametrize("scenes", [0, 3])
def test_bad_number(scenes: int) -> None:
    with pytest.raises(ValueError, match="scenes"):
        generate(0, scenes)


def _blanked(
    text: str, description: Description, words: list[str]
) -> tuple[str, list[int]]:
    """The caption after blanking, and what it claims then."""
    tokenizer = new_tokenizer()
    ids = np.array([tokenizer(text)["input_ids"]], np.uint8)
    names = tokenizer.convert_ids_to_tokens(ids[0].tolist())
    chosen = np.array([[name in words for name in names]])
    claims = np.array([encode_claims(description)], np.int8)
    tokens, claims = blank(ids, claims, chosen)
    return str(tokenizer.decode(tokens[0])), claims[0].tolist()


@pytest.mark.parametrize(
    "words, text, phrases, relation",
    [
        (
            ["red", "left"],
            "a [PAD] circle to the [PAD] of a large blue star",
            (Phrase("circle"), Phrase("star", "blue", "large")),
            None,
        ),
        (
            ["circle", "large", "a"],
            "[PAD] red [PAD] to the left of [PAD] [PAD] blue star",
            (Phrase(None, "red"), Phrase("star", "blue")),
            "left",
        ),
        ([], "", (Phrase("circle", "red"), Phrase("star", "blue", "large")), "left"),
    ],
)
def test_blanked_captions_claim_less(
    words: list[str], text: str, phrases: tuple[Phrase, ...], relation: str | None
) -> None:
    whole = Description(
        (Phrase("circle", "red"), Phrase("star", "blue", "large")), "left", wording=1
    )
    written = write(whole).text
    blanked, claims = _blanked(written, whole, words)
    assert blanked == f"[BOS] {text or written} [EOS]"
    assert claims == encode_claims(Description(phrases, relation))


def test_counting_phrases_are_not_blanked() -> None:
    whole = Description((Phrase("circle", "red", count=2), Phrase("star", "blue")))
    words = ["two", "red", "circles", "star"]
    blanked, claims = _blanked(write(whole).text, whole, words)
    assert blanked == "[BOS] two red circles and a blue [PAD] [EOS]"
    left = (Phrase("circle", "red", count=2), Phrase(None, "blue"))
    assert claims == encode_claims(Description(left))
