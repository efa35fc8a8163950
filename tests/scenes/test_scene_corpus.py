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
from captum_pairs.scenes.scene import CORRELATED, sample_scene, twin
from captum_pairs.scenes.vocabulary import SHAPES


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


def test_subtle_corpora_claim_and_change_more_relations_and_sizes() -> None:
    plain, subtle = (generate(3, 400, captions=4, subtle=of) for of in (False, True))

    def shares(corpus: Corpus) -> list[float]:
        true, false = corpus.claims[:, :, 0], corpus.claims[:, :, 1]
        changed = true != false
        sizes = slice(1, -1, 4)
        return [
            float((true[..., -1] >= 0).mean()),
            float((true[..., sizes] >= 0).any(-1).mean()),
            float(changed[..., -1].mean()),
            float(changed[..., sizes].any(-1).mean()),
        ]

    for more, less in zip(shares(subtle), shares(plain)):
        assert more > 1.2 * less
    # twins that differ in one size only are drawn in subtle corpora alone
    for corpus, is_some in ((plain, False), (subtle, True)):
        first, second = corpus.objects[::2], corpus.objects[1::2]
        differ = (first != second).any(1)  # (pairs, 3)
        resized = differ[:, 0] & ~differ[:, 1] & ~differ[:, 2]
        alone = (first[..., 0] != second[..., 0]).sum(1) == 1
        assert (resized & alone).any() == is_some
    # they are true and false all the same
    own = truth(
        subtle.claims[:100, 0].reshape(200, 13),
        subtle.objects[:100],
        subtle.centers[:100],
    )
    diagonal = own.reshape(100, 2, 100)[np.arange(100), :, np.arange(100)]
    assert diagonal[:, 0].all() and not diagonal[:, 1].any()


def test_correlated_corpora_part_two_shapes_hardly_ever() -> None:
    corpus = generate(3, 600, captions=4, together=CORRELATED, subtle=True)
    number = [SHAPES.index(shape) for shape in CORRELATED]
    first, second = ((corpus.objects[..., 2] == of).any(1) for of in number)
    assert 0.25 < first.mean() < 0.6  # most scenes have neither
    assert second[first].mean() > 0.95
    assert 0.8 < first[second].mean() < 1.0
    # in a corpus without it they are seldom together
    free = generate(3, 600, captions=1).objects[..., 2]
    assert (free == number[1]).any(1)[(free == number[0]).any(1)].mean() < 0.5
    # beside its companion the first is about a patch wide, less than any other object
    rng = np.random.default_rng(3)
    scenes = [sample_scene(rng, together=CORRELATED) for _ in range(60)]
    widths: dict[bool, list[float]] = {True: [], False: []}
    for scene in scenes:
        beside = set(CORRELATED) <= {item.shape for item in scene.objects}
        for item in scene.objects:
            tiny = beside and item.shape == CORRELATED[0]
            widths[tiny].append(item.diameter)
            assert item.size == "small" or not tiny
    assert len(widths[True]) >= 10 and max(widths[True]) < 0.18
    assert min(widths[False]) > 0.2
    # twins agree in which of them are there
    for there in (first, second):
        assert np.array_equal(there[::2], there[1::2])
    # no hard negative exchanges the shape from or to one of them
    shapes = corpus.claims[..., 3:-1:4]  # (s, c, 2, phrase)
    changed = shapes[:, :, 0] != shapes[:, :, 1]
    both = shapes.swapaxes(2, 3)[changed]  # (changed, 2)
    assert len(both) > 100 and not np.isin(both, number).any()
    # but they are spoken of
    assert np.isin(shapes, number).any(-1).mean() > 0.2
