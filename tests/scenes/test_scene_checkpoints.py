"""The checkpoints that come with the package do what their card says."""

import pytest
from captum_pairs.scenes import checkpoint_path, CHECKPOINTS, WITHHELD
from captum_pairs.scenes.evaluate import (
    Encoders,
    grounding,
    hard_negatives,
    held_out_examples,
    neutrality,
    retrieval,
)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoint_is_small_and_loads(name: str) -> None:
    directory = checkpoint_path(name)
    assert sum(file.stat().st_size for file in directory.iterdir()) <= 8 * 2**20
    encoders = Encoders(directory)
    assert len(encoders.vision_blocks) == 4


def test_default_points_at_what_is_named() -> None:
    figures = grounding(Encoders(checkpoint_path()), held_out_examples(2024, 5), 2)
    assert figures["objects"] == 15
    assert figures["chance"] < 0.2
    assert figures["accuracy"] >= 0.75


@pytest.mark.slow
def test_default_points_at_what_is_named_in_20_scenes() -> None:
    figures = grounding(Encoders(checkpoint_path()), held_out_examples(2024, 20), 1)
    assert figures["objects"] == 60
    assert figures["chance"] < 0.2
    assert figures["accuracy"] >= 0.75


def test_default_retrieves() -> None:
    figures = retrieval(Encoders(checkpoint_path()), seed=2024, sets=1)
    assert min(figures.values()) >= 0.8


def _gap(seed: int, scenes: int, block: int) -> float:
    """By how much fine-tuning makes withheld shapes' names point at them more often."""
    examples = held_out_examples(seed, scenes, only=WITHHELD)
    shapes = [kind for kind in WITHHELD if kind[1] is None]
    before, after = (
        grounding(
            Encoders(checkpoint_path(name), "black"),
            examples,
            block,
            0,
            shapes,
            True,
        )
        for name in ("withheld", "finetuned")
    )
    return after["shape"] - before["shape"]


@pytest.mark.slow
def test_fine_tuning_closes_the_gap() -> None:
    assert _gap(2024, 40, 1) >= 0.2


def test_neutral_is_similar_to_nothing_where_it_sees_nothing() -> None:
    """So that pairs carry what a score is above that of unrelated pairs."""
    figures = neutrality(Encoders(checkpoint_path("neutral")), 2024, 64)
    for blank in ("empty text", "blank image", "both"):
        assert abs(figures[blank] - figures["unrelated"]) <= 0.05
    assert figures["true"] > 0.1
    assert 0.8 <= figures["share, median"] <= 1.2


@pytest.mark.slow
def test_neutral_tells_left_from_right_and_points() -> None:
    encoders = Encoders(checkpoint_path("neutral"))
    relations = hard_negatives(encoders, 2024, 40, "relation")["all"]
    assert relations["word"] >= 0.8
    figures = grounding(encoders, held_out_examples(2024, 20), 1)
    assert figures["accuracy"] >= 0.85
