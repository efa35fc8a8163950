"""The checkpoints that come with the package do what their card says."""

import pytest
from captum_pairs.scenes import checkpoint_path, CHECKPOINTS, WITHHELD
from captum_pairs.scenes.evaluate import (
    Encoders,
    grounding,
    held_out_examples,
    retrieval,
)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoint_is_small_and_loads(name: str) -> None:
    directory = checkpoint_path(name)
    assert sum(file.stat().st_size for file in directory.iterdir()) <= 8 * 2**20
    encoders = Encoders(directory)
    assert len(encoders.vision_blocks) == 4


def test_default_points_at_what_is_named() -> None:
    examples = held_out_examples(2024, 20)
    figures = grounding(Encoders(checkpoint_path()), examples, 1)
    assert figures["chance"] < 0.2
    assert figures["accuracy"] >= 0.75


def test_default_retrieves() -> None:
    figures = retrieval(Encoders(checkpoint_path()), seed=2024, sets=1)
    assert min(figures.values()) >= 0.8


def test_fine_tuning_closes_the_gap() -> None:
    examples = held_out_examples(2024, 40, only=WITHHELD)
    shapes = [kind for kind in WITHHELD if kind[1] is None]
    before, after = (
        grounding(
            Encoders(checkpoint_path(name), "black"), examples, 1, 0, shapes, words=True
        )
        for name in ("withheld", "finetuned")
    )
    assert after["shape"] >= before["shape"] + 0.2
