"""Means and intervals against formulas and against resampling written out."""

import numpy as np
import pytest
from captum_pairs.grounding.studies.summaries import by_group, figures, Resampling


def test_means_of_classes_and_of_the_others() -> None:
    groups = np.array(["a", "a", "b", "c"])
    values = np.array([1.0, 0.0, 1.0, np.nan])
    classes = np.array([0, 1, 1, 0])
    resampling = Resampling(groups)
    mean = resampling.mean(values, classes, 2)
    assert mean.value.tolist() == [1.0, 0.5]
    assert mean.rows.tolist() == [1, 2] and mean.images.tolist() == [1, 2]
    others = resampling.others(values, classes, 2)
    assert others.value.tolist() == [0.5, 1.0]
    assert np.isnan(resampling.mean(values, classes, 3).value[2])


def test_of_a_single_image_there_is_no_interval() -> None:
    groups = np.array(["a", "a", "b", "c"])
    classes = np.array([0, 0, 1, 1])
    estimate = Resampling(groups).mean(np.array([1.0, 1.0, 1.0, 0.0]), classes, 2)
    for end in estimate.interval():
        assert np.isnan(end[0]) and np.isfinite(end[1])


def test_intervals_are_as_wide_as_the_clustered_standard_error() -> None:
    rng = np.random.default_rng(0)
    images, rows = 400, 5
    # five rows of an image are nearly the same: they count as one
    values = rng.normal(size=(images, 1)) + 0.01 * rng.normal(size=(images, rows))
    groups = np.repeat(np.arange(images), rows).astype(str)
    estimate = Resampling(groups).mean(values.ravel())
    clustered = values.mean(1).std(ddof=1) / images**0.5
    assert estimate.error[0] == pytest.approx(clustered, rel=0.1)
    (low,), (high,) = estimate.interval()
    assert (high - low) / 2 == pytest.approx(1.96 * clustered, rel=0.15)


def test_many_images_are_resampled_in_bundles_with_the_same_error() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=20_000)
    estimate = Resampling(np.arange(20_000).astype(str)).mean(values)
    assert estimate.value[0] == pytest.approx(values.mean())
    assert estimate.error[0] == pytest.approx(20_000**-0.5, rel=0.1)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(2)
    covered, all_at_once = [], []
    classes = np.tile(np.arange(8), 40)
    groups = np.repeat(np.arange(40), 8).astype(str)
    resampling = Resampling(groups)
    for _ in range(150):
        estimate = resampling.mean(rng.normal(size=320), classes, 8)
        low, high = estimate.interval()
        covered += ((low < 0) & (0 < high)).tolist()
        low, high = estimate.simultaneous(np.ones(8, dtype=bool))
        all_at_once.append(((low < 0) & (0 < high)).all())
    assert 0.90 < np.mean(covered) < 0.98
    assert 0.88 < np.mean(all_at_once) <= 0.99
    assert np.mean(covered) ** 8 < np.mean(all_at_once)


def test_above_chance_is_zero_at_chance_and_one_at_the_most() -> None:
    resampling = Resampling(["a", "b"])
    chance = resampling.mean([0.2, 0.2])
    assert resampling.mean([1.0, 1.0]).above(chance).value[0] == 1
    assert resampling.mean([0.2, 0.2]).above(chance).value[0] == 0


def test_tables() -> None:
    resampling = Resampling(["a", "b"])
    table = figures(resampling, {"hit": {"model": [1.0, 1.0], "chance": [0.5, np.nan]}})
    rows = {row["of"]: row for row in table.to_pylist()}
    assert rows["model"]["value"] == 1 and rows["model"]["rows"] == 2
    assert rows["chance"]["rows"] == 1
    assert rows["model - chance"]["value"] == 0.5  # of the row that has both
    found = by_group(resampling, "of", ["x", "y"], {"m": [1.0, np.nan]}).to_pylist()
    assert found[0]["of"] == "x" and found[0]["m"] == 1
    assert found[1]["m"] is None and found[1]["rows"] == 0
    # no rows at all are no error
    assert len(figures(Resampling([]), {"hit": {"model": []}})) == 1
