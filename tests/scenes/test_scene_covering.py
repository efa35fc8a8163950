"""Scenes in which one object covers most of another."""

import numpy as np
import pytest
from captum_pairs.scenes import cover, render, sample_scene, Scene, visible_shares
from captum_pairs.scenes.scene import Background, SceneObject


def _two_squares(offset: float) -> Scene:
    def square(x: float) -> SceneObject:
        return SceneObject("square", "red", "large", (x, 0.5), 0.4, 0.0, (1, 0, 0))

    plain = Background(((0, 0, 0), (0, 0, 0)), None, 0.0, 4, 0)
    return Scene((square(0.3), square(0.3 + offset)), plain)


def test_the_share_that_is_seen_is_what_the_masks_have() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        scene = sample_scene(rng)
        alone = [render(Scene((item,), scene.background)) for item in scene.objects]
        expected = render(scene).masks.sum((1, 2)) / [
            each.masks[0].sum() for each in alone
        ]
        np.testing.assert_allclose(visible_shares(scene), expected)


def test_half_of_a_square_is_seen_beside_another() -> None:
    # a square's side is 0.88 of its diameter
    shares = visible_shares(_two_squares(0.176), 400)
    assert shares[0] == pytest.approx(0.5, abs=0.01) and shares[1] == 1
    assert visible_shares(_two_squares(0.4)).tolist() == [1, 1]


def test_covering_adds_one_object_and_changes_nothing_else() -> None:
    rng = np.random.default_rng(1)
    found = 0
    for _ in range(20):
        scene = sample_scene(rng, int(rng.integers(1, 4)), distinct=True)
        which = int(rng.integers(len(scene.objects)))
        covered = cover(rng, scene, which)
        if covered is None:
            continue
        found += 1
        assert covered.objects[:-1] == scene.objects
        assert covered.background == scene.background
        new = covered.objects[-1]
        assert new.shape not in {item.shape for item in scene.objects}
        assert new.color not in {item.color for item in scene.objects}
        before, after = visible_shares(scene), visible_shares(covered)
        assert 0.15 <= after[which] <= 0.45 and after[-1] == 1
        others = np.arange(len(before)) != which
        assert (after[:-1][others] >= 0.9 * before[others]).all()
        render(covered)
    assert found >= 15


def test_what_is_withheld_covers_nothing() -> None:
    rng = np.random.default_rng(2)
    withheld = [("heart", None), ("moon", None)]
    for _ in range(20):
        covered = cover(rng, sample_scene(rng, 1), 0, withheld=withheld)
        assert covered is None or covered.objects[-1].shape not in ("heart", "moon")


def test_wrong_arguments_of_covering() -> None:
    rng = np.random.default_rng(0)
    scene = sample_scene(rng, 1)
    with pytest.raises(ValueError, match="which must be an object's index"):
        cover(rng, scene, 1)
    with pytest.raises(ValueError, match="visible must be a range"):
        cover(rng, scene, 0, (0.5, 0.2))
    with pytest.raises(ValueError, match="withheld must leave a kind"):
        cover(rng, scene, 0, withheld=[(None, None)])
    with pytest.raises(ValueError, match="at least 32 pixels"):
        visible_shares(scene, 8)
