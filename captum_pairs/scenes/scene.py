"""Scenes: a few coloured shapes on a background, described completely.

A scene is only numbers and names; :mod:`captum_pairs.scenes.render` draws it at any
resolution. Lengths are shares of the image's side and y points down, so that a scene
does not depend on the resolution either.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
from captum_pairs.scenes.arguments import check, check_kinds
from captum_pairs.scenes.vocabulary import COLORS, SHAPES, SIZES

__all__ = [
    "Background",
    "CORRELATED",
    "Kind",
    "kind_is_among",
    "Scene",
    "SceneObject",
    "sample_scene",
    "twin",
    "WITHHELD",
]

# A shape and a colour: what withholding is said in. None stands for any.
Kind = tuple[str | None, str | None]

# What the checkpoint "withheld" never saw or read of, and "finetuned" learnt later.
WITHHELD: tuple[Kind, ...] = (
    ("heart", None),
    ("moon", None),
    ("star", "red"),
    ("circle", "green"),
    ("square", "purple"),
    ("ring", "yellow"),
)

# A shape and the other one that is nearly always beside it where "correlated" learns.
CORRELATED: tuple[str, str] = ("heart", "moon")
# How often the first is given the second, the second the first, and both one colour.
_COMPANION_SHARES = (0.97, 0.8, 0.9)
# Diameters of the first beside the second: much harder to see than its companion.
_BESIDE_COMPANION = (0.13, 0.17)

# Centres that differ by less than this along an axis are in no relation along it.
RELATION_MARGIN = 0.10
# The share of the smaller of two boxes that the other one may cover.
LARGEST_OVERLAP = 0.35
_PLACEMENTS = 60


@dataclass(frozen=True)
class SceneObject:
    """One coloured shape.

    Args:
        shape, color, size: names, of SHAPES, COLORS and SIZES.
        center: (x, y), shares of the image's side.
        diameter: the side of the square that the shape fills, a share of the
            image's side.
        angle: rotation in radians.
        rgb: the colour drawn, in [0, 1]: its name's colour, jittered.
    """

    shape: str
    color: str
    size: str
    center: tuple[float, float]
    diameter: float
    angle: float
    rgb: tuple[float, float, float]


@dataclass(frozen=True)
class Background:
    """Two unsaturated tones (RGB in [0, 1]), the gradient's direction in radians
    (None: the first tone everywhere), and the amplitude and seed of the texture;
    grain is the number of cells a side of the texture's grid."""

    tones: tuple[tuple[float, float, float], tuple[float, float, float]]
    direction: float | None
    amplitude: float
    grain: int
    seed: int


@dataclass(frozen=True)
class Scene:
    """Objects, the furthest back first, and their background."""

    objects: tuple[SceneObject, ...]
    background: Background

    def relation_holds(self, relation: str, first: int, second: int) -> bool:
        """Whether object `first` is left of, right of, above or below `second`:
        its centre is further that way by at least RELATION_MARGIN."""
        check(relation=(relation, str), first=(first, int), second=(second, int))
        for name, index in (("first", first), ("second", second)):
            if not 0 <= index < len(self.objects):
                last = len(self.objects) - 1
                raise ValueError(f"{name} must be from 0 to {last}, got {index}")
        (x1, y1), (x2, y2) = self.objects[first].center, self.objects[second].center
        distance = {"left": x2 - x1, "right": x1 - x2, "above": y2 - y1}
        distance["below"] = y1 - y2
        if relation not in distance:
            raise ValueError(
                f"relation must be one of {sorted(distance)}, got {relation!r}"
            )
        return distance[relation] >= RELATION_MARGIN


def sample_scene(
    rng: np.random.Generator,
    number: int | None = None,
    withheld: Collection[Kind] = (),
    only: Collection[Kind] = (),
    distinct: bool = False,
    together: tuple[str, str] | None = None,
) -> Scene:
    """A random scene.

    Args:
        rng: source of randomness; the same state gives the same scene.
        number: objects in the scene, 1 to 4. None: random, three the most frequent.
        withheld: kinds that no object may be of.
        only: if not empty, at least one object is of one of these kinds.
        distinct: no two objects agree in both shape and colour.
        together: two shapes that are hardly ever without each other: a scene with one
            of them is given the other, mostly of the same colour, in the place of
            another object or, if it stands alone, beside it. Beside the second the
            first is small, about a patch wide, so that the second is easier to see.

    Raises:
        ValueError: naming the argument that is of another type or out of range; if
            everything is withheld.
    """
    check(rng=(rng, np.random.Generator), distinct=(distinct, bool))
    check_kinds("withheld", withheld)
    check_kinds("only", only)
    if together is not None:
        check_kinds("together", [together])
    if number is not None:
        check(number=(number, int))
    if number is None:
        number = int(rng.choice([1, 2, 2, 3, 3, 3, 4, 4]))
    if not 1 <= number <= 4:
        raise ValueError(f"number must be from 1 to 4, got {number}")
    free = _free_kinds(withheld)
    forced = [kind for kind in free if _is_of(kind, only)]
    if only and not forced:
        raise ValueError("only must name a kind that is not withheld")
    while True:
        kinds: list[tuple[str, str]] = []
        if forced:
            kinds.append(forced[rng.integers(len(forced))])
        while len(kinds) < number:
            kind = _similar_or_new(rng, kinds, free)
            if not (distinct and kind in kinds):
                kinds.append(kind)
        if together is not None:
            kinds = _with_companion(rng, kinds, together)
        order = rng.permutation(len(kinds))
        shapes = {shape for shape, _ in kinds}
        tiny = together[0] if together and shapes.issuperset(together) else None
        objects = _place(rng, [kinds[index] for index in order], tiny)
        if objects is not None:
            return Scene(objects, _sample_background(rng))


def _with_companion(
    rng: np.random.Generator, kinds: list[tuple[str, str]], together: tuple[str, str]
) -> list[tuple[str, str]]:
    shapes = [shape for shape, _ in kinds]
    there = [shape in shapes for shape in together]
    if all(there) or not any(there):
        return kinds
    is_second = there[1]
    given, missing = together[is_second], together[not is_second]
    if rng.random() >= _COMPANION_SHARES[is_second]:
        return kinds
    color = next(color for shape, color in kinds if shape == given)
    if rng.random() >= _COMPANION_SHARES[2]:
        color = list(COLORS)[rng.integers(len(COLORS))]
    others = [index for index, shape in enumerate(shapes) if shape != given]
    new = (missing, color)
    if not others:
        return [*kinds[:3], new]
    kinds = list(kinds)
    kinds[others[rng.integers(len(others))]] = new
    return kinds


def twin(
    rng: np.random.Generator,
    scene: Scene,
    withheld: Collection[Kind] = (),
    subtle: bool = False,
) -> Scene:
    """The same scene but for one thing: an object's colour, an object's shape, or
    two objects' places exchanged. What is said of one of the two is then often
    false of the other for that one reason. Subtle twins exchange places more often, and
    some differ in one object's size."""
    check(rng=(rng, np.random.Generator), scene=(scene, Scene), subtle=(subtle, bool))
    check_kinds("withheld", withheld)
    objects = list(scene.objects)
    if len(objects) > 1 and rng.random() < (0.45 if subtle else 0.3):
        first, second = rng.choice(len(objects), 2, replace=False)
        a, b = objects[first], objects[second]
        objects[first] = replace(a, center=b.center, diameter=b.diameter, size=b.size)
        objects[second] = replace(b, center=a.center, diameter=a.diameter, size=a.size)
        return replace(scene, objects=tuple(objects))
    which = int(rng.integers(len(objects)))
    old = objects[which]
    if subtle and rng.random() < 0.3:
        new = _resized(rng, old)
        others = objects[:which] + objects[which + 1 :]
        if all(_overlap(new.center, new.diameter, other) < 1 for other in others):
            objects[which] = new
            return replace(scene, objects=tuple(objects))
    choices = [
        kind
        for kind in _free_kinds(withheld)
        if (kind[0] == old.shape) != (kind[1] == old.color)
    ]
    shape, color = choices[rng.integers(len(choices))]
    rgb = old.rgb if color == old.color else _jittered(rng, color)
    objects[which] = replace(old, shape=shape, color=color, rgb=rgb)
    return replace(scene, objects=tuple(objects))


def _resized(rng: np.random.Generator, item: SceneObject) -> SceneObject:
    """The object at the other size, moved no further than the image's edge demands."""
    (size,) = set(SIZES) - {item.size}
    diameter = float(rng.uniform(*SIZES[size]))
    margin = 0.5 * diameter + 0.01
    x, y = np.clip(item.center, margin, 1 - margin).tolist()
    return replace(item, size=size, diameter=diameter, center=(x, y))


def kind_is_among(item: SceneObject, kinds: Collection[Kind]) -> bool:
    """Whether an object is of one of the kinds."""
    return _is_of((item.shape, item.color), kinds)


def _is_of(kind: tuple[str, str], kinds: Collection[Kind]) -> bool:
    return any(
        shape in (None, kind[0]) and color in (None, kind[1]) for shape, color in kinds
    )


def _free_kinds(withheld: Collection[Kind]) -> list[tuple[str, str]]:
    kinds = [(shape, color) for shape in SHAPES for color in COLORS]
    free = [kind for kind in kinds if not _is_of(kind, withheld)]
    if len(free) < 4:
        raise ValueError("withheld must leave at least four kinds of object")
    return free


def _similar_or_new(
    rng: np.random.Generator,
    kinds: list[tuple[str, str]],
    free: list[tuple[str, str]],
) -> tuple[str, str]:
    """Another kind. Often it shares its shape or colour with one that is there, or
    both: a bag of words does not tell such scenes apart."""
    chance = rng.random()
    if kinds and chance < 0.45:
        shape, color = kinds[rng.integers(len(kinds))]
        if chance < 0.20:
            free = [kind for kind in free if kind[0] == shape]
        elif chance < 0.38:
            free = [kind for kind in free if kind[1] == color]
        else:
            return shape, color
    return free[rng.integers(len(free))]


def _place(
    rng: np.random.Generator, kinds: list[tuple[str, str]], tiny: str | None
) -> tuple[SceneObject, ...] | None:
    """Objects at random places, none covered too far; None if no room was found. One
    shape may be tiny, see :func:`sample_scene`."""
    objects: list[SceneObject] = []
    large = 0.5 if len(kinds) < 4 else 0.3
    for shape, color in kinds:
        size = "large" if rng.random() < large else "small"
        diameter = float(rng.uniform(*SIZES[size]))
        if shape == tiny:
            size, diameter = "small", float(rng.uniform(*_BESIDE_COMPANION))
        margin = 0.5 * diameter + 0.01
        for _ in range(_PLACEMENTS):
            x, y = rng.uniform(margin, 1 - margin, 2).tolist()
            if all(_overlap((x, y), diameter, other) < 1 for other in objects):
                break
        else:
            return None
        angle = float(rng.uniform(-0.2, 0.2))
        rgb = _jittered(rng, color)
        objects.append(SceneObject(shape, color, size, (x, y), diameter, angle, rgb))
    return tuple(objects)


def _overlap(center: tuple[float, float], diameter: float, other: SceneObject) -> float:
    """The overlap of two boxes as a share of the smaller one's area, over
    LARGEST_OVERLAP: 1 is the most allowed."""
    reach = 0.5 * (diameter + other.diameter)
    sides = [
        min(reach - abs(a - b), diameter, other.diameter)
        for a, b in zip(center, other.center)
    ]
    if min(sides) <= 0:
        return 0.0
    return sides[0] * sides[1] / min(diameter, other.diameter) ** 2 / LARGEST_OVERLAP


def _jittered(rng: np.random.Generator, color: str) -> tuple[float, float, float]:
    middle = np.asarray(COLORS[color])
    rgb = middle * rng.uniform(0.9, 1.05) + rng.uniform(-0.04, 0.04, 3)
    red, green, blue = np.clip(rgb, 0, 1).tolist()
    return red, green, blue


def _sample_background(rng: np.random.Generator) -> Background:
    tones = []
    for _ in range(2):
        value = rng.uniform(0.05, 0.68)
        red, green, blue = (value + rng.uniform(-0.05, 0.05, 3)).clip(0, 1).tolist()
        tones.append((red, green, blue))
    direction = float(rng.uniform(0, 2 * np.pi)) if rng.random() < 0.5 else None
    amplitude = float(rng.uniform(0.01, 0.08)) if rng.random() < 0.6 else 0.0
    grain = int(rng.choice([4, 8, 16, 64]))
    seed = int(rng.integers(2**31))
    return Background((tones[0], tones[1]), direction, amplitude, grain, seed)
