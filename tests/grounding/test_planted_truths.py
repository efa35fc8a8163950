"""Studies of the models that come with the package find what was planted in them."""

import importlib
from pathlib import Path
from typing import Any

import pytest
from captum_pairs import grounding
from captum_pairs.scenes import checkpoint_path, CHECKPOINTS
from captum_pairs.scenes.scene import CORRELATED

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
# What "withheld" never saw or read of, and "finetuned" learnt later.
WITHHELD = {"heart", "moon"}
# Other scenes than those that they were evaluated on.
HELD_OUT: dict[str, Any] = {"data_options": {"seed": 1_000_003}, "processes": 1}


def _needs(checkpoint: str) -> Any:
    there = checkpoint in CHECKPOINTS and checkpoint_path(checkpoint).is_dir()
    return pytest.mark.skipif(not there, reason=f"without the checkpoint {checkpoint}")


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The pairs of scenes of the benchmark, and what it finds of them."""
    if not BENCHMARKS.is_dir():
        pytest.skip("without the benchmarks")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("studies")


@pytest.mark.slow
@_needs("withheld")
def test_the_words_of_withheld_shapes_are_last(tmp_path: Path) -> None:
    results = grounding.run(
        "gaps", "scenes:500", "scenes:withheld", tmp_path, **HELD_OUT
    )
    rows = results.tables()["classes"].to_pylist()
    assert len(rows) == 9
    last = rows[:2]  # the least known stands first
    assert {row["label"] for row in last} == WITHHELD
    assert all(row["word_less_others_high"] < 0 for row in last)


@pytest.mark.slow
@_needs("finetuned")
def test_withheld_shapes_improve_when_they_are_learnt(tmp_path: Path) -> None:
    runs = [
        grounding.run(
            "gaps", "scenes:300", f"scenes:{name}", tmp_path / name, **HELD_OUT
        )
        for name in ("withheld", "finetuned")
    ]
    rows = grounding.compare(*runs)["classes"].to_pylist()
    verdicts = {r["class"]: r["verdict"] for r in rows if r["measure"] == "word_hit"}
    assert {name for name, found in verdicts.items() if found == "improved"} == WITHHELD


@pytest.mark.slow
@_needs("correlated")
def test_words_light_what_was_learnt_together(planted: Any, tmp_path: Path) -> None:
    rows = planted.first_in_the_matrix(150, tmp_path, processes=1)
    first = rows[0]
    assert (first["label"], first["other"]) == CORRELATED
    assert first["low"] > 1.5


@pytest.mark.slow
@pytest.mark.parametrize(
    "cause, checkpoint, number",
    [
        pytest.param(cause, checkpoint, number, marks=_needs(checkpoint))
        for cause, checkpoint, number in (
            ("coverage", "withheld", 40),
            ("unusual scene", "withheld", 40),
            ("correlated context", "correlated", 120),
        )
    ],
)
def test_planted_causes_are_found(
    planted: Any, cause: str, checkpoint: str, number: int, tmp_path: Path
) -> None:
    assert planted.PLANTS[cause][0] == checkpoint
    found = planted.planted_cause(cause, number, tmp_path, processes=1)
    assert found["fail by it"] >= 5
    assert found[cause] >= 0.7
    assert found[f"{cause}, base"] < 0.5 * found[cause]


def test_pairs_of_scenes_differ_in_the_plant_only(planted: Any) -> None:
    import numpy as np

    for cause, (_, pairs_of) in planted.PLANTS.items():
        pairs = pairs_of(np.random.default_rng(0))
        for _ in range(5):
            without, with_plant, which = next(pairs)
            same = [
                one == other for one, other in zip(without.objects, with_plant.objects)
            ]
            if cause == "coverage":  # one more, in front
                assert all(same)
                assert len(with_plant.objects) == len(without.objects) + 1
            else:
                assert same.count(False) == 1
                assert same[which] == (cause == "correlated context")
            assert without.background == with_plant.background
