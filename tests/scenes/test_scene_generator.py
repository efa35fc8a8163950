"""Scenes and their drawings: what is said of an object is what is drawn."""

import numpy as np
import pytest
from captum_pairs.scenes.render import render
from captum_pairs.scenes.scene import (
    Background,
    kind_is_among,
    LARGEST_OVERLAP,
    sample_scene,
    Scene,
    SceneObject,
    twin,
)
from captum_pairs.scenes.vocabulary import COLORS, SHAPES, SIZES

GREY = Background(((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), None, 0.0, 8, 0)


def _object(
    shape: str = "square",
    center: tuple[float, float] = (0.5, 0.5),
    diameter: float = 0.4,
    color: str = "red",
) -> SceneObject:
    return SceneObject(shape, color, "large", center, diameter, 0.0, COLORS[color])


def test_same_seed_same_scene() -> None:
    first, second = (sample_scene(np.random.default_rng(3)) for _ in range(2))
    assert first == second
    assert np.array_equal(render(first).image, render(second).image)
    assert sample_scene(np.random.default_rng(4)) != first


def test_objects_are_what_they_are_named() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        scene = sample_scene(rng)
        assert 1 <= len(scene.objects) <= 4
        for item in scene.objects:
            low, high = SIZES[item.size]
            assert low <= item.diameter <= high
            nearest = min(
                COLORS,
                key=lambda name: np.hypot.reduce(item.rgb - np.array(COLORS[name])),
            )
            assert nearest == item.color
            assert all(0 < x < 1 for x in item.center)


def test_all_shapes_and_colors_occur() -> None:
    rng = np.random.default_rng(0)
    items = [item for _ in range(200) for item in sample_scene(rng).objects]
    assert {item.shape for item in items} == set(SHAPES)
    assert {item.color for item in items} == set(COLORS)


def test_number_and_distinct() -> None:
    rng = np.random.default_rng(1)
    for number in range(1, 5):
        for _ in range(30):
            scene = sample_scene(rng, number, distinct=True)
            assert len({(o.shape, o.color) for o in scene.objects}) == number


def test_withheld_kinds_do_not_occur_and_only_ones_do() -> None:
    rng = np.random.default_rng(2)
    withheld = [("heart", None), (None, "red"), ("star", "blue")]
    for _ in range(200):
        scene = sample_scene(rng, withheld=withheld)
        changed = twin(rng, scene, withheld)
        assert not any(
            kind_is_among(item, withheld) for item in scene.objects + changed.objects
        )
        special = sample_scene(rng, only=withheld)
        assert any(kind_is_among(item, withheld) for item in special.objects)


def test_overlap_is_bounded_and_happens() -> None:
    rng = np.random.default_rng(5)
    shares = []
    for _ in range(200):
        scene = sample_scene(rng, 3)
        for a, b in [(0, 1), (0, 2), (1, 2)]:
            first, second = scene.objects[a], scene.objects[b]
            reach = 0.5 * (first.diameter + second.diameter)
            smaller = min(first.diameter, second.diameter)
            sides = [
                np.clip(reach - abs(p - q), 0, smaller)
                for p, q in zip(first.center, second.center)
            ]
            shares.append(sides[0] * sides[1] / smaller**2)
    assert max(shares) <= LARGEST_OVERLAP + 1e-9
    assert np.mean(np.array(shares) > 0.05) > 0.05


def test_twin_differs_in_one_thing() -> None:
    rng = np.random.default_rng(6)
    changes = set()
    for _ in range(200):
        scene = sample_scene(rng)
        changed = twin(rng, scene)
        assert changed.background == scene.background
        different = [(a, b) for a, b in zip(scene.objects, changed.objects) if a != b]
        if len(different) == 2:
            (a, b), (c, d) = different
            assert (a.center, c.center) == (d.center, b.center)
            assert (a.shape, a.color) == (b.shape, b.color)
            changes.add("place")
        else:
            ((a, b),) = different
            assert a.center == b.center
            assert (a.shape == b.shape) != (a.color == b.color)
            changes.add("shape" if a.color == b.color else "color")
    assert changes == {"place", "shape", "color"}


def test_relations() -> None:
    scene = Scene((_object(center=(0.2, 0.5)), _object(center=(0.7, 0.55))), GREY)
    assert scene.relation_holds("left", 0, 1)
    assert scene.relation_holds("right", 1, 0)
    assert not scene.relation_holds("left", 1, 0)
    # five hundredths apart: neither is above the other
    assert not scene.relation_holds("above", 0, 1)
    assert not scene.relation_holds("below", 1, 0)
    with pytest.raises(ValueError, match="relation"):
        scene.relation_holds("beside", 0, 1)


@pytest.mark.parametrize("number", [0, 5])
def test_bad_number(number: int) -> None:
    with pytest.raises(ValueError, match="number"):
        sample_scene(np.random.default_rng(0), number)


def test_bad_kinds() -> None:
    with pytest.raises(ValueError, match="withheld"):
        sample_scene(np.random.default_rng(0), withheld=[(None, None)])
    with pytest.raises(ValueError, match="only"):
        sample_scene(
            np.random.default_rng(0), withheld=[("star", None)], only=[("star", None)]
        )


def test_square_is_drawn_to_the_pixel() -> None:
    # 0.88 of half the diameter, 0.25, on 100 pixels: 22 pixels about the centre
    scene = Scene((_object(center=(0.5, 0.4), diameter=0.5),), GREY)
    drawn = render(scene, 100)
    assert drawn.boxes.tolist() == [[28, 18, 72, 62]]
    expected = np.zeros((100, 100), dtype=np.bool_)
    expected[18:62, 28:72] = True
    assert np.array_equal(drawn.masks[0], expected)
    red = (np.array(COLORS["red"]) * 255 + 0.5).astype(np.uint8)
    assert np.array_equal(drawn.image[40, 50], red)
    assert drawn.image[0, 0].tolist() == [128, 128, 128]


def test_edges_are_antialiased() -> None:
    # 22.22 pixels about the centre: the outer pixel is covered to 0.22
    scene = Scene((_object(diameter=0.505),), GREY)
    drawn = render(scene, 100)
    red, grey = 0.88, 0.5
    edge = drawn.image[50, 27, 0] / 255
    assert edge == pytest.approx(grey + 0.22 * (red - grey), abs=0.01)


def test_later_objects_cover_earlier_ones() -> None:
    back = _object(center=(0.4, 0.5), color="blue")
    front = _object(center=(0.5, 0.5), color="red")
    drawn = render(Scene((back, front), GREY), 100)
    assert not (drawn.masks[0] & drawn.masks[1]).any()
    alone = render(Scene((front,), GREY), 100)
    assert np.array_equal(drawn.masks[1], alone.masks[0])
    # what is left of the back is a strip of ten pixels
    assert drawn.boxes[0].tolist() == [22, 32, 32, 68]


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_fill_their_diameter(shape: str) -> None:
    drawn = render(Scene((_object(shape),), GREY), 200)
    left, top, right, bottom = drawn.boxes[0]
    assert 0.8 * 80 <= max(right - left, bottom - top) <= 80 + 4
    assert drawn.masks[0].sum() > 0.2 * 80 * 80
    assert drawn.boxes[0, 0] >= 58 and drawn.boxes[0, 3] <= 142


def test_shapes_differ() -> None:
    masks = [render(Scene((_object(shape),), GREY)).masks[0] for shape in SHAPES]
    for index, first in enumerate(masks):
        for second in masks[:index]:
            assert (first ^ second).sum() > 0.1 * (first | second).sum()


def test_boxes_are_tight_and_resolution_only_scales() -> None:
    rng = np.random.default_rng(7)
    for _ in range(50):
        scene = sample_scene(rng)
        small, large = render(scene, 64), render(scene, 256)
        for mask, (left, top, right, bottom) in zip(small.masks, small.boxes):
            rows, columns = np.nonzero(mask)
            assert (columns.min(), columns.max() + 1) == (left, right)
            assert (rows.min(), rows.max() + 1) == (top, bottom)
        # tips are thinner than half a pixel sooner at the lower resolution
        assert np.abs(large.boxes / 4 - small.boxes).max() < 3


def test_backgrounds_vary() -> None:
    rng = np.random.default_rng(8)
    backgrounds = [sample_scene(rng).background for _ in range(50)]
    assert len({b.direction is None for b in backgrounds}) == 2
    assert len({b.amplitude > 0 for b in backgrounds}) == 2


def test_bad_resolution() -> None:
    with pytest.raises(ValueError, match="image_size"):
        render(sample_scene(np.random.default_rng(0)), 16)
