"""Scenes in which one object covers most of another one."""

from collections.abc import Collection

import numpy as np
from captum_pairs.scenes.arguments import check, check_kinds
from captum_pairs.scenes.render import visible_shares
from captum_pairs.scenes.scene import Kind, Scene, SceneObject
from captum_pairs.scenes.vocabulary import COLORS, SHAPES, SIZES

__all__ = ["cover"]

_TRIES = 300
# Of what was visible of every other object, the least that has to stay so.
_LEFT_ALONE = 0.9


def cover(
    rng: np.random.Generator,
    scene: Scene,
    which: int,
    visible: tuple[float, float] = (0.15, 0.45),
    withheld: Collection[Kind] = (),
) -> Scene | None:
    """
    The same scene with one more object, in front, that covers most of one that is
    there.

    Nothing else differs: the new object shares neither shape nor colour with any other,
    and leaves the others as visible as they were, or nearly.

    Args:
        rng: source of randomness.
        scene: of one to four objects.
        which: the index of the object to be covered.
        visible: the share of its pixels that stays visible is in this range.
        withheld: kinds that the new object may not be of.

    Returns:
        the scene, or None if a few hundred tries found no such place.

    Raises:
        ValueError: if `which` or `visible` is out of range, or no kind is left.
    """
    check(
        rng=(rng, np.random.Generator),
        scene=(scene, Scene),
        which=(which, int),
        visible=(visible, tuple),
    )
    check_kinds("withheld", withheld)
    if not 0 <= which < len(scene.objects):
        raise ValueError(f"which must be an object's index, got {which}")
    numbers = [each for each in visible if isinstance(each, (int, float))]
    if len(numbers) != 2 or len(visible) != 2 or not 0 < visible[0] < visible[1] < 1:
        raise ValueError(f"visible must be a range inside (0, 1), got {visible}")
    shapes = {item.shape for item in scene.objects}
    colors = {item.color for item in scene.objects}
    target = scene.objects[which]
    before = visible_shares(scene)
    kinds = [
        (shape, color)
        for shape in SHAPES
        for color in COLORS
        if shape not in shapes
        and color not in colors
        and not any(s in (None, shape) and c in (None, color) for s, c in withheld)
    ]
    if not kinds:
        raise ValueError("withheld must leave a kind that is not in the scene")
    for _ in range(_TRIES):
        shape, color = kinds[rng.integers(len(kinds))]
        item = _drawn(rng, shape, color, target)
        covered = Scene((*scene.objects, item), scene.background)
        after = visible_shares(covered)[:-1]
        others = np.arange(len(after)) != which
        is_alone = (after >= _LEFT_ALONE * before)[others].all()
        if visible[0] <= after[which] <= visible[1] and is_alone:
            return covered
    return None


def _drawn(
    rng: np.random.Generator, shape: str, color: str, target: SceneObject
) -> SceneObject:
    """An object at a random place over another one."""
    size = list(SIZES)[rng.integers(len(SIZES))]
    diameter = float(rng.uniform(*SIZES[size]))
    margin = 0.5 * diameter + 0.01
    offset = rng.uniform(-0.4, 0.4, 2) * target.diameter
    x, y = np.clip(np.asarray(target.center) + offset, margin, 1 - margin).tolist()
    red, green, blue = COLORS[color]
    angle = float(rng.uniform(-0.2, 0.2))
    return SceneObject(shape, color, size, (x, y), diameter, angle, (red, green, blue))
