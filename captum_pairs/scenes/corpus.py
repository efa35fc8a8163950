"""Generated scenes and captions as arrays: what training reads."""

from collections.abc import Collection
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from itertools import permutations
from pathlib import Path

import numpy as np
from captum_pairs.scenes.captions import (
    Caption,
    Description,
    hard_negative,
    sample_caption,
)
from captum_pairs.scenes.model import BOS, EOS, filler_ids, PAD, SPECIAL_TOKENS, UNKNOWN
from captum_pairs.scenes.render import render
from captum_pairs.scenes.scene import Kind, RELATION_MARGIN, sample_scene, Scene, twin
from captum_pairs.scenes.vocabulary import (
    COLORS,
    FILLERS,
    PLURALS,
    RELATIONS,
    SHAPES,
    SIZES,
    vocabulary,
)
from numpy.typing import NDArray

__all__ = ["blank", "Corpus", "encode_claims", "encode_objects", "generate", "truth"]

MAX_OBJECTS = 4
MAX_PHRASES = 3
# The longest caption has 25 words; two more tokens begin and end it.
CAPTION_TOKENS = 28
# A phrase's claims are count (0: no phrase), size, color, shape (-1: not said); a
# caption's are those of its phrases, and the relation (-1: none).
CLAIMS = 4 * MAX_PHRASES + 1

_WORD_IDS = {w: i + len(SPECIAL_TOKENS) for i, w in enumerate(vocabulary())}
_NOUNS = [*SHAPES, *PLURALS.values(), "thing", "things"]
_NOUN_IDS = [_WORD_IDS[word] for word in _NOUNS]
# ids of the words for each attribute of an uncounted phrase, as claims order them
_ATTRIBUTE_IDS = [
    [_WORD_IDS[word] for word in words] for words in (SIZES, COLORS, SHAPES)
]
_RELATION_WORDS = {w for texts in RELATIONS.values() for t in texts for w in t.split()}
_RELATION_WORD_IDS = [_WORD_IDS[word] for word in sorted(_RELATION_WORDS - FILLERS)]
_SIZE_IDS = {name: index for index, name in enumerate(SIZES)}
_COLOR_IDS = {name: index for index, name in enumerate(COLORS)}
_SHAPE_IDS = {name: index for index, name in enumerate(SHAPES)}
_RELATION_IDS = {name: index for index, name in enumerate(RELATIONS)}


@dataclass(frozen=True)
class Corpus:
    """s scenes, with c true captions and a hard negative of each. Scenes 2 i and
    2 i + 1 are twins.

    Args:
        images: (s, h, w, 3), uint8.
        objects: (s, 4, 3), int8: size, colour and shape of each object; -1: none.
        centers: (s, 4, 2), float32: x and y of each object's centre.
        tokens: (s, c, 2, 28), uint8: token ids, [:, :, 0] of the true captions,
            [:, :, 1] of their hard negatives.
        claims: (s, c, 2, 13), int8: what the captions claim.
    """

    images: NDArray[np.uint8]
    objects: NDArray[np.int8]
    centers: NDArray[np.float32]
    tokens: NDArray[np.uint8]
    claims: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.images)

    def save(self, directory: Path) -> None:
        """Writes the arrays as .npy files."""
        directory.mkdir(parents=True, exist_ok=True)
        for field in fields(self):
            np.save(directory / f"{field.name}.npy", getattr(self, field.name))

    @classmethod
    def load(cls, directory: Path) -> "Corpus":
        """Reads what :meth:`save` wrote."""
        return cls(*(np.load(directory / f"{f.name}.npy") for f in fields(cls)))


def generate(
    seed: int,
    scenes: int,
    captions: int = 6,
    withheld: Collection[Kind] = (),
    only: Collection[Kind] = (),
    workers: int = 1,
    subtle: bool = False,
    together: tuple[str, str] | None = None,
) -> Corpus:
    """A corpus, the same for the same arguments whatever the number of workers.

    Args:
        seed: of everything.
        scenes: how many; even.
        captions: true captions for each scene.
        withheld: kinds that neither scenes nor captions hold.
        only: if not empty, every first twin holds one of these kinds.
        workers: processes to generate in.
        subtle: more of the twins, captions and hard negatives are about relations and
            sizes.
        together: two shapes that are hardly ever without each other, see
            :func:`sample_scene`. No twin parts them, and no hard negative changes the
            shape where one of them is the right or the wrong word.

    Raises:
        ValueError: if scenes is not even and positive.
    """
    if scenes < 2 or scenes % 2:
        raise ValueError(f"scenes must be even and positive, got {scenes}")
    shard = 500  # pairs
    sizes = [min(shard, scenes // 2 - i) for i in range(0, scenes // 2, shard)]
    jobs = [
        (
            np.random.SeedSequence((seed, index)),
            size,
            captions,
            withheld,
            only,
            subtle,
            together,
        )
        for index, size in enumerate(sizes)
    ]
    if workers > 1:
        with ProcessPoolExecutor(workers) as pool:
            parts = list(pool.map(_generate_shard, *zip(*jobs)))
    else:
        parts = [_generate_shard(*job) for job in jobs]
    return Corpus(
        *(
            np.concatenate([getattr(part, field.name) for part in parts])
            for field in fields(Corpus)
        )
    )


def _generate_shard(
    seed: np.random.SeedSequence,
    pairs: int,
    captions: int,
    withheld: Collection[Kind],
    only: Collection[Kind],
    subtle: bool,
    together: tuple[str, str] | None,
) -> Corpus:
    rng = np.random.default_rng(seed)
    scenes: list[Scene] = []
    for _ in range(pairs):
        scene = sample_scene(rng, withheld=withheld, only=only, together=together)
        other = twin(rng, scene, withheld, subtle)
        while _shapes_among(other, together) != _shapes_among(scene, together):
            other = twin(rng, scene, withheld, subtle)
        scenes += [scene, other]
    tokens, claims = [], []
    for scene in scenes:
        for _ in range(captions):
            pair = _caption_pair(rng, scene, withheld, subtle, together)
            tokens += [_token_ids(caption) for caption in pair]
            claims += [encode_claims(caption.description) for caption in pair]
    shape = (len(scenes), captions, 2, -1)
    objects, centers = encode_objects(scenes)
    return Corpus(
        np.stack([render(scene).image for scene in scenes]),
        objects,
        centers,
        np.array(tokens, dtype=np.uint8).reshape(shape),
        np.array(claims, dtype=np.int8).reshape(shape),
    )


def _caption_pair(
    rng: np.random.Generator,
    scene: Scene,
    withheld: Collection[Kind],
    subtle: bool,
    together: tuple[str, str] | None,
) -> tuple[Caption, Caption]:
    while True:
        caption = sample_caption(rng, scene, subtle=subtle)
        false = hard_negative(rng, scene, caption, withheld, subtle)
        if false is None:
            continue
        shapes = {
            each.description.phrases[false.phrase].shape
            for each in (caption, false.caption)
            if false.phrase is not None and false.slot == "shape"
        }
        if not shapes & set(together or ()):
            return caption, false.caption


def _shapes_among(scene: Scene, shapes: tuple[str, str] | None) -> set[str]:
    return {item.shape for item in scene.objects} & set(shapes or ())


def _token_ids(caption: Caption) -> list[int]:
    """The tokenizer's ids: generated words are lower case and apart but for commas."""
    words = caption.text.replace(",", " ,").split()
    ids = [BOS, *(_WORD_IDS.get(word, UNKNOWN) for word in words), EOS]
    return ids + [0] * (CAPTION_TOKENS - len(ids))


def encode_claims(description: Description) -> list[int]:
    """What a description claims, as CLAIMS numbers."""
    numbers: list[int] = []
    for phrase in description.phrases:
        numbers.append(phrase.count)
        numbers.append(-1 if phrase.size is None else _SIZE_IDS[phrase.size])
        numbers.append(-1 if phrase.color is None else _COLOR_IDS[phrase.color])
        numbers.append(-1 if phrase.shape is None else _SHAPE_IDS[phrase.shape])
    numbers += [0, -1, -1, -1] * (MAX_PHRASES - len(description.phrases))
    relation = description.relation
    return [*numbers, -1 if relation is None else _RELATION_IDS[relation]]


def blank(
    tokens: NDArray[np.uint8], claims: NDArray[np.int8], chosen: NDArray[np.bool_]
) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
    """Captions with some words replaced by padding, and what they claim then.

    Without its colour "a red circle" is "a circle". Words of phrases that count keep
    their place, for less said of the counted objects can be false ("two circles"), and
    so do the words that count and join.

    Args:
        tokens: (t, length), ids.
        claims: (t, 13).
        chosen: (t, length), bool: the words to replace where they can be.
    """
    tokens, claims = tokens.copy(), claims.copy()
    nouns = np.isin(tokens, _NOUN_IDS)
    phrase = (nouns.cumsum(1) - nouns).clip(max=MAX_PHRASES - 1)  # (t, length)
    uncounted = np.take_along_axis(claims[:, :-1:4], phrase, 1) == 1
    for column, ids in enumerate(_ATTRIBUTE_IDS, start=1):
        replaced = chosen & uncounted & np.isin(tokens, ids)
        rows, places = np.nonzero(replaced)
        claims[rows, 4 * phrase[rows, places] + column] = -1
        tokens[replaced] = PAD
    replaced = chosen & np.isin(tokens, _RELATION_WORD_IDS)
    claims[replaced.any(1), -1] = -1
    tokens[replaced | (chosen & np.isin(tokens, filler_ids()))] = PAD
    return tokens, claims


def encode_objects(
    scenes: list[Scene],
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """The objects' attributes (s, 4, 3) and centres (s, 4, 2) of s scenes."""
    objects = np.full((len(scenes), MAX_OBJECTS, 3), -1, dtype=np.int8)
    centers = np.zeros((len(scenes), MAX_OBJECTS, 2), dtype=np.float32)
    for row, scene in enumerate(scenes):
        for column, item in enumerate(scene.objects):
            objects[row, column] = (
                _SIZE_IDS[item.size],
                _COLOR_IDS[item.color],
                _SHAPE_IDS[item.shape],
            )
            centers[row, column] = item.center
    return objects, centers


def truth(
    claims: NDArray[np.int8],
    objects: NDArray[np.int8],
    centers: NDArray[np.float32],
) -> NDArray[np.bool_]:
    """Which captions are true of which scenes: :func:`is_true` for all pairs at once.

    Args:
        claims: (t, 13), of t captions.
        objects: (s, 4, 3), of s scenes.
        centers: (s, 4, 2).

    Returns:
        (t, s), bool.
    """
    phrases = claims[:, :-1].reshape(len(claims), MAX_PHRASES, 4)
    counts = phrases[:, :, 0]
    fitting = _fitting_objects(phrases[:, :, 1:], objects)  # (t, phrase, s)
    # a phrase of another count, or a missing one, claims no object of its own
    single = np.where(counts[:, :, None] == 1, fitting, np.uint8(ANY_OBJECT))
    holds: NDArray[np.bool_] = _DIFFERENT[tuple(single.swapaxes(0, 1))]  # (t, s)
    relation = claims[:, -1]
    related = np.flatnonzero(relation >= 0)
    stand = _relations(centers)[relation[related]]  # (related, s, first, second)
    holds[related] = _related_exist(single[related], stand)
    for index in range(MAX_PHRASES):
        counted = np.flatnonzero(counts[:, index] > 1)
        number = _BITS[fitting[counted, index]]
        holds[counted] &= number == counts[counted, index, None]
    return holds


# Sets of objects are bits of an integer: 0 to 15.
ANY_OBJECT = 2**MAX_OBJECTS - 1
_BITS = np.array([value.bit_count() for value in range(ANY_OBJECT + 1)])
_MEMBER = (np.arange(ANY_OBJECT + 1)[:, None] >> np.arange(MAX_OBJECTS) & 1) > 0


def _different_exist() -> NDArray[np.bool_]:
    """(16, 16, 16): whether three sets have members that are all different."""
    table = np.zeros((ANY_OBJECT + 1,) * 3, dtype=np.bool_)
    for a, b, c in permutations(range(MAX_OBJECTS), 3):
        first, second, third = _MEMBER[:, a], _MEMBER[:, b], _MEMBER[:, c]
        table |= first[:, None, None] & second[None, :, None] & third
    return table


_DIFFERENT = _different_exist()


def _fitting_objects(
    said: NDArray[np.int8], objects: NDArray[np.int8]
) -> NDArray[np.uint8]:
    """For each phrase's attributes (t, phrase, 3), the set of objects that it fits in
    each scene: (t, phrase, s)."""
    unique, inverse = np.unique(said.reshape(-1, 3), axis=0, return_inverse=True)
    match = objects[None, :, :, 0] >= 0
    for attribute in range(3):
        name = unique[:, attribute, None, None]
        match = match & ((name < 0) | (name == objects[None, :, :, attribute]))
    weights = (1 << np.arange(MAX_OBJECTS)).astype(np.uint8)
    sets = (match * weights).sum(-1, dtype=np.uint8)  # (unique, s)
    fitting: NDArray[np.uint8] = sets[inverse.reshape(said.shape[:2])]
    return fitting


def _relations(centers: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(relation, s, first, second), in the order of RELATIONS."""
    difference = centers[:, None, :, :] - centers[:, :, None, :]  # second - first
    x, y = difference[..., 0], difference[..., 1]
    margin = np.float32(RELATION_MARGIN)
    return np.stack([x >= margin, -x >= margin, y >= margin, -y >= margin])


def _related_exist(
    sets: NDArray[np.uint8], stand: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Whether members of three sets (t, 3, s) are all different and the first stands to
    the second as it should (t, s, first, second)."""
    first, second, third = sets.swapaxes(0, 1)
    holds = np.zeros(first.shape, dtype=np.bool_)
    for a, b in permutations(range(MAX_OBJECTS), 2):
        rest = ANY_OBJECT - (1 << a) - (1 << b)
        both = _MEMBER[first, a] & _MEMBER[second, b] & ((third & rest) > 0)
        holds |= both & stand[:, :, a, b]
    return holds
