"""Captions of scenes: what they claim, how they are worded, whether they are true.

A :class:`Description` is what a caption claims. Whether it holds of a scene is decided
by :func:`is_true` from the scene alone, so a caption made for one scene has a known
truth for every other. A :class:`Caption` is a description in words, with the place of
each word that matters.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np
from captum_pairs.scenes.arguments import check, check_kinds
from captum_pairs.scenes.scene import Kind, Scene
from captum_pairs.scenes.vocabulary import (
    COLORS,
    COUNTS,
    OPPOSITES,
    PLURALS,
    PREFIXES,
    RELATIONS,
    SHAPES,
    SIZES,
    SUFFIXES,
)

__all__ = [
    "Caption",
    "Description",
    "HardNegative",
    "Phrase",
    "PhraseSpans",
    "Span",
    "hard_negative",
    "is_true",
    "matching_objects",
    "sample_caption",
    "write",
]

# Half-open character offsets in the caption's text.
Span = tuple[int, int]


@dataclass(frozen=True)
class Phrase:
    """A noun phrase. None says nothing of that attribute; without a shape the noun is
    "thing". count 1 ("a") claims at least one such object, more claim exactly so
    many."""

    shape: str | None
    color: str | None = None
    size: str | None = None
    count: int = 1


@dataclass(frozen=True)
class Description:
    """What a caption claims, and the choices of its wording.

    Args:
        phrases: one to three; those of count 1 claim different objects.
        relation: how the first object stands to the second; None: nothing claimed.
        wording, prefix, suffix: indices into RELATIONS[relation], PREFIXES, SUFFIXES.
        joiner: the word between the last two phrases, "and" or "with".
    """

    phrases: tuple[Phrase, ...]
    relation: str | None = None
    wording: int = 0
    prefix: int = 0
    suffix: int = 0
    joiner: str = "and"


@dataclass(frozen=True)
class PhraseSpans:
    """Where a phrase stands in the text: all of it without its article, and its words
    by slot ("count", "size", "color", "shape"; a slot without a word is missing)."""

    span: Span
    words: dict[str, Span]


@dataclass(frozen=True)
class Caption:
    """A worded description.

    Args:
        text: the caption.
        description: what it claims.
        phrases: for each phrase of the description, where it stands.
        relation: the relation's word, where there is one.
        objects: for each phrase, the indices of the objects it was written for in its
            scene; empty for a caption that was not written for one.
    """

    text: str
    description: Description
    phrases: tuple[PhraseSpans, ...]
    relation: Span | None
    objects: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class HardNegative:
    """A caption that is false of the scene, one word away from a true one.

    Args:
        caption: the false caption.
        slot: what was changed: "color", "shape", "size", "count" or "relation".
        phrase: the index of the changed phrase; None if the relation was changed.
        changed: where the changed word stands in the false caption.
        right: where the word that it replaced stands in the true caption.
    """

    caption: Caption
    slot: str
    phrase: int | None
    changed: Span
    right: Span


def matching_objects(phrase: Phrase, scene: Scene) -> list[int]:
    """The indices of the scene's objects that a phrase fits, its count aside."""
    check(phrase=(phrase, Phrase), scene=(scene, Scene))
    return [
        index
        for index, item in enumerate(scene.objects)
        if phrase.shape in (None, item.shape)
        and phrase.color in (None, item.color)
        and phrase.size in (None, item.size)
    ]


def is_true(description: Description, scene: Scene) -> bool:
    """Whether everything that a description claims holds of a scene."""
    check(description=(description, Description), scene=(scene, Scene))
    matches = [matching_objects(phrase, scene) for phrase in description.phrases]
    for phrase, fitting in zip(description.phrases, matches):
        if phrase.count > 1 and len(fitting) != phrase.count:
            return False
    single = [
        fitting
        for phrase, fitting in zip(description.phrases, matches)
        if phrase.count == 1
    ]
    relation = description.relation
    for chosen in permutations(range(len(scene.objects)), len(single)):
        if any(index not in fitting for index, fitting in zip(chosen, single)):
            continue
        if relation is None or scene.relation_holds(relation, chosen[0], chosen[1]):
            return True
    return False


def write(
    description: Description, objects: tuple[tuple[int, ...], ...] = ()
) -> Caption:
    """A description in words."""
    check(description=(description, Description), objects=(objects, tuple))
    text = ""
    places: dict[tuple[int | None, str], Span] = {}
    for word, place in _words(description):
        text += word if not text or word == "," else " " + word
        if place is not None:
            places[place] = (len(text) - len(word), len(text))
    phrases = []
    for index in range(len(description.phrases)):
        words = {slot: span for (which, slot), span in places.items() if which == index}
        noun = words.pop("noun")
        start = min([span[0] for span in words.values()], default=noun[0])
        if description.phrases[index].shape is not None:
            words["shape"] = noun
        phrases.append(PhraseSpans((start, noun[1]), words))
    relation = places.get((None, "relation"))
    return Caption(text, description, tuple(phrases), relation, objects)


def _words(
    description: Description,
) -> Iterator[tuple[str, tuple[int | None, str] | None]]:
    """The caption's words in order; with each that matters, its phrase and slot."""
    for word in PREFIXES[description.prefix].split():
        yield word, None
    last = len(description.phrases) - 1
    for index, phrase in enumerate(description.phrases):
        if index == 1 and description.relation is not None:
            yield from _relation_words(description.relation, description.wording)
        elif index == last and index > 0:
            yield description.joiner, None
        elif index > 0:
            yield ",", None
        yield from _phrase_words(index, phrase)
    for word in SUFFIXES[description.suffix].split():
        yield word, None


def _relation_words(
    relation: str, wording: int
) -> Iterator[tuple[str, tuple[None, str] | None]]:
    words = RELATIONS[relation][wording].split()
    opposite = RELATIONS[OPPOSITES[relation]][wording].split()
    for word, other in zip(words, opposite):
        yield word, None if word == other else (None, "relation")


def _phrase_words(
    index: int, phrase: Phrase
) -> Iterator[tuple[str, tuple[int, str] | None]]:
    if phrase.count == 1:
        yield "a", None
    else:
        yield COUNTS[phrase.count], (index, "count")
    if phrase.size is not None:
        yield phrase.size, (index, "size")
    if phrase.color is not None:
        yield phrase.color, (index, "color")
    singular = "thing" if phrase.shape is None else phrase.shape
    plural = "things" if phrase.shape is None else PLURALS[phrase.shape]
    yield singular if phrase.count == 1 else plural, (index, "noun")


def sample_caption(
    rng: np.random.Generator, scene: Scene, plain: bool = False, subtle: bool = False
) -> Caption:
    """A random caption that is true of the scene.

    Args:
        rng: source of randomness.
        scene: what to write of.
        plain: name every one of the scene's first three objects by colour and shape,
            in a random order, and claim no more than one relation: the captions that
            grounding is measured on.
        subtle: claim relations and sizes more often, and count less.
    """
    check(rng=(rng, np.random.Generator), scene=(scene, Scene))
    check(plain=(plain, bool), subtle=(subtle, bool))
    number = len(scene.objects)
    order = rng.permutation(number).tolist()
    if plain:
        chosen, related = order[:3], rng.random() < 0.4
        phrases = [_full_phrase(scene, index) for index in chosen]
        return _worded(rng, scene, phrases, [(index,) for index in chosen], related)
    if number > 1 and rng.random() < (0.15 if subtle else 0.25):
        counted = _counted_caption(rng, scene, order)
        if counted is not None:
            return counted
    length = min(int(rng.choice([1, 2, 2, 2, 3, 3])), number)
    chosen = order[:length]
    sized = 0.6 if subtle else 0.4
    phrases = [_sampled_phrase(rng, scene, index, sized) for index in chosen]
    related = rng.random() < (0.75 if subtle else 0.5)
    return _worded(rng, scene, phrases, [(index,) for index in chosen], related)


def _full_phrase(scene: Scene, index: int) -> Phrase:
    item = scene.objects[index]
    return Phrase(item.shape, item.color)


def _sampled_phrase(
    rng: np.random.Generator, scene: Scene, index: int, sized: float
) -> Phrase:
    item = scene.objects[index]
    chance = rng.random()
    if chance < 0.10:
        return Phrase(item.shape)
    if chance < 0.20:
        return Phrase(None, item.color)
    if chance < sized:
        return Phrase(item.shape, item.color, item.size)
    return Phrase(item.shape, item.color)


def _counted_caption(
    rng: np.random.Generator, scene: Scene, order: list[int]
) -> Caption | None:
    """A caption that counts, if two of the objects have something in common."""
    item = scene.objects[order[0]]
    options = [
        Phrase(item.shape, item.color),
        Phrase(item.shape),
        Phrase(None, item.color),
    ]
    for phrase in options:
        counted = matching_objects(phrase, scene)
        if len(counted) > 1:
            break
    else:
        return None
    phrases, objects = [replace(phrase, count=len(counted))], [tuple(counted)]
    others = [index for index in order if index not in counted]
    if others and rng.random() < 0.6:
        phrases.append(_full_phrase(scene, others[0]))
        objects.append((others[0],))
    return _worded(rng, scene, phrases, objects, related=False)


def _worded(
    rng: np.random.Generator,
    scene: Scene,
    phrases: list[Phrase],
    objects: list[tuple[int, ...]],
    related: bool,
) -> Caption:
    relation = None
    if related and len(phrases) > 1:
        first, second = objects[0][0], objects[1][0]
        true = [r for r in RELATIONS if scene.relation_holds(r, first, second)]
        relation = true[rng.integers(len(true))] if true else None
    prefix = int(rng.integers(len(PREFIXES))) if rng.random() < 0.5 else 0
    suffix = int(rng.integers(len(SUFFIXES))) if rng.random() < 0.2 else 0
    wording = int(rng.integers(2))
    joiner = "with" if rng.random() < 0.25 else "and"
    description = Description(tuple(phrases), relation, wording, prefix, suffix, joiner)
    return write(description, tuple(objects))


def hard_negative(
    rng: np.random.Generator,
    scene: Scene,
    caption: Caption,
    withheld: Collection[Kind] = (),
    subtle: bool = False,
) -> HardNegative | None:
    """The caption with one word exchanged so that it is false of the scene.

    Args:
        rng: source of randomness.
        scene: the scene that the caption is true of.
        caption: a true caption.
        withheld: kinds that the false caption may not name either.
        subtle: change relations and sizes more often.

    Returns:
        The false caption, or None if a few tries found none.
    """
    check(rng=(rng, np.random.Generator), scene=(scene, Scene))
    check(caption=(caption, Caption), subtle=(subtle, bool))
    check_kinds("withheld", withheld)
    if len(caption.phrases) != len(caption.description.phrases) or not caption.phrases:
        raise ValueError("caption must be one that was written, with its phrases")
    description = caption.description
    slots: list[tuple[int | None, str]] = [
        (index, slot)
        for index, spans in enumerate(caption.phrases)
        for slot in spans.words
        for _ in range(2 if subtle and slot == "size" else 1)
    ]
    for _ in range(8):
        if caption.relation is not None and rng.random() < (0.5 if subtle else 0.3):
            index, slot = None, "relation"
        else:
            index, slot = slots[rng.integers(len(slots))]
        changed = _exchanged(rng, scene, description, index, slot)
        if not _names_withheld(changed, withheld) and not is_true(changed, scene):
            false = write(changed)
            places = _place_of(false, index, slot), _place_of(caption, index, slot)
            return HardNegative(false, slot, index, *places)
    return None


def _place_of(caption: Caption, index: int | None, slot: str) -> Span:
    if index is not None:
        return caption.phrases[index].words[slot]
    if caption.relation is None:
        raise ValueError("the caption claims no relation")
    return caption.relation


def _exchanged(
    rng: np.random.Generator,
    scene: Scene,
    description: Description,
    index: int | None,
    slot: str,
) -> Description:
    """The description with one slot changed. Half of the new colours and shapes are
    another object's: then every word of the false caption is true of something."""
    if index is None:
        relation = description.relation
        return replace(description, relation=OPPOSITES[relation] if relation else None)
    phrase = description.phrases[index]
    if slot == "count":
        counts = [count for count in COUNTS if count != phrase.count]
        new = replace(phrase, count=counts[rng.integers(len(counts))])
    else:
        names: list[str] = list({"color": COLORS, "shape": SHAPES, "size": SIZES}[slot])
        if rng.random() < 0.5:
            names = [getattr(item, slot) for item in scene.objects]
        name = names[rng.integers(len(names))]
        new = Phrase(
            name if slot == "shape" else phrase.shape,
            name if slot == "color" else phrase.color,
            name if slot == "size" else phrase.size,
            phrase.count,
        )
    phrases = list(description.phrases)
    phrases[index] = new
    return replace(description, phrases=tuple(phrases))


def _names_withheld(description: Description, withheld: Collection[Kind]) -> bool:
    return any(
        shape in (None, phrase.shape) and color in (None, phrase.color)
        for phrase in description.phrases
        for shape, color in withheld
    )
