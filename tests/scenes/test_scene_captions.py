"""Captions: spans, truth decided by hand, hard negatives."""

from collections import Counter

import numpy as np
import pytest
from captum_pairs.scenes.captions import (
    Description,
    hard_negative,
    is_true,
    matching_objects,
    Phrase,
    sample_caption,
    write,
)
from captum_pairs.scenes.scene import Background, sample_scene, Scene, SceneObject
from captum_pairs.scenes.vocabulary import COLORS

GREY = Background(((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), None, 0.0, 8, 0)


def _object(shape: str, color: str, size: str, x: float, y: float) -> SceneObject:
    return SceneObject(shape, color, size, (x, y), 0.3, 0.0, COLORS[color])


# red circle (small, left), red circle (large, right), blue star (small, below)
SCENE = Scene(
    (
        _object("circle", "red", "small", 0.2, 0.2),
        _object("circle", "red", "large", 0.8, 0.3),
        _object("star", "blue", "small", 0.5, 0.8),
    ),
    GREY,
)
RED_CIRCLE = Phrase("circle", "red")
BLUE_STAR = Phrase("star", "blue")


@pytest.mark.parametrize(
    "phrases, relation, expected",
    [
        ((RED_CIRCLE,), None, True),
        ((Phrase("circle", "blue"),), None, False),
        ((Phrase("star", "red"),), None, False),
        ((Phrase(None, "blue"),), None, True),
        ((Phrase(None, "green"),), None, False),
        ((Phrase("circle", "red", "large"),), None, True),
        ((Phrase("star", "blue", "large"),), None, False),
        # two phrases of count one need two objects
        ((RED_CIRCLE, RED_CIRCLE), None, True),
        ((BLUE_STAR, BLUE_STAR), None, False),
        ((Phrase("star"), Phrase(None, "blue")), None, False),
        ((RED_CIRCLE, Phrase("circle"), BLUE_STAR), None, True),
        ((Phrase("circle"), Phrase("circle"), RED_CIRCLE), None, False),
        # counts are exact
        ((Phrase("circle", "red", count=2),), None, True),
        ((Phrase("circle", count=3),), None, False),
        ((Phrase("circle", "red", "small", count=2),), None, False),
        ((Phrase(None, "red", count=2), BLUE_STAR), None, True),
        # relations hold of some pair of different objects
        ((RED_CIRCLE, BLUE_STAR), "above", True),
        ((RED_CIRCLE, BLUE_STAR), "below", False),
        ((BLUE_STAR, RED_CIRCLE), "left", True),
        ((BLUE_STAR, RED_CIRCLE), "right", True),
        ((Phrase("circle", "red", "large"), BLUE_STAR), "left", False),
        ((RED_CIRCLE, RED_CIRCLE), "left", True),
        ((BLUE_STAR, Phrase(None, "blue")), "left", False),
        # the third phrase needs an object that the related two leave
        ((BLUE_STAR, RED_CIRCLE, RED_CIRCLE), "right", True),
        ((RED_CIRCLE, Phrase("circle"), RED_CIRCLE), "left", False),
    ],
)
def test_truth(
    phrases: tuple[Phrase, ...], relation: str | None, expected: bool
) -> None:
    assert is_true(Description(phrases, relation), SCENE) is expected


def test_matching_objects() -> None:
    assert matching_objects(RED_CIRCLE, SCENE) == [0, 1]
    assert matching_objects(Phrase("circle", "red", "large"), SCENE) == [1]
    assert matching_objects(Phrase(None), SCENE) == [0, 1, 2]


def test_wording_and_spans() -> None:
    description = Description(
        (Phrase("circle", "red", "small"), BLUE_STAR, Phrase(None, "cyan")),
        relation="left",
        wording=1,
        prefix=1,
        suffix=1,
        joiner="with",
    )
    caption = write(description)
    assert caption.text == (
        "a photo of a small red circle to the left of a blue star "
        "with a cyan thing in the picture"
    )

    def words(span: tuple[int, int] | None) -> str:
        assert span is not None
        return caption.text[slice(*span)]

    assert words(caption.relation) == "left"
    assert [words(phrase.span) for phrase in caption.phrases] == [
        "small red circle",
        "blue star",
        "cyan thing",
    ]
    assert [
        {slot: words(span) for slot, span in phrase.words.items()}
        for phrase in caption.phrases
    ] == [
        {"size": "small", "color": "red", "shape": "circle"},
        {"color": "blue", "shape": "star"},
        {"color": "cyan"},
    ]


def test_counts_and_lists() -> None:
    description = Description((Phrase("cross", "red", count=2), Phrase("ring")))
    assert write(description).text == "two red crosses and a ring"
    listed = Description((RED_CIRCLE, BLUE_STAR, Phrase("moon")))
    assert write(listed).text == "a red circle, a blue star and a moon"


def test_sampled_captions_are_true_and_point_at_their_objects() -> None:
    rng = np.random.default_rng(0)
    prefixed = relations = counts = 0
    for _ in range(500):
        scene = sample_scene(rng)
        caption = sample_caption(rng, scene)
        assert is_true(caption.description, scene)
        for phrase, objects in zip(caption.description.phrases, caption.objects):
            assert len(objects) == phrase.count
            assert set(objects) <= set(matching_objects(phrase, scene))
        prefixed += caption.description.prefix > 0
        relations += caption.relation is not None
        counts += any(phrase.count > 1 for phrase in caption.description.phrases)
    assert min(prefixed, relations, counts) > 25


def test_plain_captions_name_every_object() -> None:
    rng = np.random.default_rng(1)
    for _ in range(100):
        scene = sample_scene(rng, 3, distinct=True)
        caption = sample_caption(rng, scene, plain=True)
        assert sorted(caption.objects) == [(0,), (1,), (2,)]
        for phrase, (index,) in zip(caption.phrases, caption.objects):
            item = scene.objects[index]
            text = caption.text[slice(*phrase.span)]
            assert text == f"{item.color} {item.shape}"


def test_hard_negatives_are_false_by_one_word() -> None:
    rng = np.random.default_rng(2)
    slots: Counter[str] = Counter()
    for _ in range(500):
        scene = sample_scene(rng)
        caption = sample_caption(rng, scene)
        negative = hard_negative(rng, scene, caption)
        if negative is None:
            continue
        slots[negative.slot] += 1
        assert not is_true(negative.caption.description, scene)
        true, false = caption.text.split(), negative.caption.text.split()
        assert len(true) == len(false)
        ((right, wrong),) = [(a, b) for a, b in zip(true, false) if a != b]
        assert caption.text[slice(*negative.right)] == right.strip(",")
        assert negative.caption.text[slice(*negative.changed)] == wrong.strip(",")
    assert set(slots) == {"color", "shape", "size", "count", "relation"}
    assert sum(slots.values()) > 490


def test_hard_negatives_do_not_name_withheld_kinds() -> None:
    rng = np.random.default_rng(3)
    withheld = [("heart", None), ("star", "red")]
    for _ in range(500):
        scene = sample_scene(rng, withheld=withheld)
        caption = sample_caption(rng, scene)
        negative = hard_negative(rng, scene, caption, withheld)
        for text in [caption.text, negative.caption.text if negative else ""]:
            assert "heart" not in text
            assert "red star" not in text
