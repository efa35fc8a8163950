"""The checkpoints that come with the package do what their card says."""

from captum_pairs.scenes import checkpoint_path
from captum_pairs.scenes.evaluate import (
    Encoders,
    grounding,
    held_out_examples,
    retrieval,
)


def test_default_is_small_and_loads() -> None:
    directory = checkpoint_path()
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
