"""What studies make of rows: planted truths, and the same computed otherwise."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.grounding.comparing import compare, curve
from captum_pairs.grounding.studies.failures import Failures
from captum_pairs.grounding.studies.faithfulness import Faithfulness
from captum_pairs.grounding.studies.gaps import Gaps, rank_correlation, verdict
from captum_pairs.grounding.studies.grounding import Grounding
from captum_pairs.grounding.studies.negatives import Negatives
from captum_pairs.grounding.studies.retrieval import Retrieval
from grounding_rows import MakeResults
from scipy.stats import spearmanr


def place(**fields: Any) -> dict[str, Any]:
    """An object in the middle that nothing is wrong with."""
    given = {
        "span": 0,
        "start": 0,
        "end": 1,
        "phrase": "a",
        "label": "a",
        "regions": 1,
        "left": 4.0,
        "top": 4.0,
        "right": 12.0,
        "bottom": 12.0,
        "width": 20.0,
        "height": 20.0,
        "area": 0.16,
        "x": 0.4,
        "y": 0.4,
        "in_view": 1.0,
        "visible": 1.0,
        "objects": 2,
        "cells": 4,
        "rows": 5,
        "columns": 5,
    }
    return {**given, **fields}


# ---- gaps --------------------------------------------------------------------


def _hits(rates: dict[str, float], images: int = 60) -> list[dict[str, Any]]:
    """Objects whose class word hits so often, at a chance of 0.1."""
    rng = np.random.default_rng(0)
    return [
        {
            **place(label=label),
            "word_hit": float(rng.random() < rate),
            "phrase_hit": float(rng.random() < 0.9),
            "chance": 0.1,
            "group": f"image-{at}",
        }
        for at in range(images)
        for label, rate in rates.items()
    ]


def test_gaps_finds_the_class_that_is_not_known(make_results: MakeResults) -> None:
    rates = {"a": 0.9, "b": 0.85, "c": 0.9, "gap": 0.1, "weak": 0.5}
    records = _hits(rates)
    records += [{**each, "label": "rare"} for each in _hits({"rare": 0.0}, 9)]
    results = make_results(Gaps(), records)
    rows = results.tables()["classes"].to_pylist()
    found = {row["label"]: row for row in rows}
    verdicts = {label: row["verdict"] for label, row in found.items()}
    assert verdicts == {
        "a": "known",
        "b": "known",
        "c": "known",
        "gap": "unknown",
        "weak": "shaky",
        "rare": "too few",
    }
    assert found["rare"]["word_g_low"] is None
    assert rows[1]["label"] == "gap"  # after the one of too few
    gap = found["gap"]
    hits = [r["word_hit"] for r in records if r["label"] == "gap"]
    assert gap["word_g"] == pytest.approx((np.mean(hits) - 0.1) / 0.9)
    assert gap["word_less_others_high"] < 0 < found["a"]["word_less_others_low"]
    others = [r["word_hit"] for r in records if r["label"] != "gap"]
    assert gap["word_less_others"] == pytest.approx(
        (np.mean(hits) - np.mean(others)) / 0.9
    )
    # colours find what the shape's word does not
    assert gap["phrase_g_low"] > 0.5


@pytest.mark.parametrize(
    "images, low, less_high, expected",
    [
        (9, 0.5, 0.5, "too few"),
        (10, 0.0, 0.5, "unknown"),
        (10, float("nan"), 0.5, "unknown"),
        (10, 0.1, -0.1, "shaky"),
        (10, 0.1, 0.0, "known"),
    ],
)
def test_the_rule(images: int, low: float, less_high: float, expected: str) -> None:
    assert verdict(images, low, less_high) == expected


def test_grounding_against_training_frequency(make_results: MakeResults) -> None:
    rates = {"a": 0.1, "b": 0.4, "c": 0.7, "d": 0.95}
    counts = {"a": 0, "b": 10, "c": 100, "d": 1000}
    tables = make_results(Gaps(trained_on=counts), _hits(rates)).tables()
    (word, phrase) = tables["against_training"].to_pylist()
    assert word["rank_correlation"] == pytest.approx(1) and word["classes"] == 4
    assert word["explained"] == pytest.approx(1)
    assert abs(phrase["rank_correlation"]) < 1
    seen = {r["label"]: r["trained_on"] for r in tables["classes"].to_pylist()}
    assert seen == counts


def test_rank_correlation_is_spearmans() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 5, 20).astype(float), rng.normal(size=20)
    assert rank_correlation(one, other) == pytest.approx(spearmanr(one, other)[0])
    assert np.isnan(rank_correlation(np.ones(3), np.arange(3.0)))


# ---- failures ----------------------------------------------------------------


def _failing(**fields: Any) -> dict[str, Any]:
    given = {
        **place(),
        "hit": 1.0,
        "energy_overlap": 0.6,
        "chance_overlap": 0.16,
        "touched": 1.0,
        "overlapped": 0.0,
        "at_edge": False,
        "other_labels": ["b"],
        "other_energy": [0.1],
        "other_chance": [0.1],
        "other_touched": [0.0],
        "image_embedding": [1.0, 0.0],
    }
    return {**given, **fields}


def test_failures_have_their_planted_causes(make_results: MakeResults) -> None:
    well = [_failing(label=label) for label in "aabbccdd" for _ in range(10)]
    # a's words light b, whether the object is found or not
    correlated = {"other_energy": [0.7], "energy_overlap": 0.2, "label": "a"}
    missed = {"hit": 0.0, "touched": 0.0}
    planted = {
        "small": _failing(cells=0, hit=None, touched=0.0, area=0.01),
        "cut": _failing(**missed, at_edge=True, label="c"),
        "covered": _failing(**missed, visible=0.3, label="c"),
        "overlapped": _failing(**missed, visible=None, overlapped=0.7, label="c"),
        "unusual picture": _failing(**missed, image_embedding=[-1.0, 0.5], label="c"),
        "unusual classes": _failing(**missed, other_labels=["z"], label="c"),
        "correlated context": _failing(**missed, **correlated),
        "strongest": _failing(
            **missed, label="a", other_energy=[0.3], other_touched=[0.9]
        ),
        "unexplained": _failing(**missed, label="c"),
    }
    records = well + [_failing(**correlated) for _ in range(12)]
    start = len(records)
    results = make_results(Failures(), records + list(planted.values()))
    tables = results.tables()
    objects = tables["objects"].to_pylist()
    assert sum(each["badly_grounded"] for each in objects) == len(planted)
    expected = {
        **{name: name for name in planted},
        "overlapped": "covered",
        "strongest": "correlated context",
    }
    for at, (name, kind) in enumerate(expected.items()):
        found = objects[start + at]
        kinds = {each for each in expected.values() if found[each]}
        assert kinds == {kind}, name
    causes = {row["kind"]: row for row in tables["causes"].to_pylist()}
    assert causes["covered"]["badly_grounded"] == 2
    assert causes["covered"]["rate"] == pytest.approx(2 / 9)
    assert causes["covered"]["base_rate"] == 0
    assert causes["correlated context"]["base_rate"] == pytest.approx(12 / start)
    assert causes["coverage"]["rate"] == pytest.approx(4 / 9)
    examples = {row["kind"]: row for row in tables["examples"].to_pylist()[::-1]}
    assert examples["covered"]["id"] == f"row-{start + 2}"  # 0.7 of it is not seen
    assert examples["correlated context"]["cause"] == "correlated context"


def test_the_matrix_has_the_planted_pair_first(make_results: MakeResults) -> None:
    rng = np.random.default_rng(0)
    records = []
    for at in range(300):
        a, b = (str(each) for each in rng.choice(list("abcd"), 2, replace=False))
        lights = 3.0 if (a, b) == ("a", "c") else 1.0
        noise = float(rng.uniform(0.5, 1.5))
        records.append(
            _failing(
                label=a,
                other_labels=[b],
                other_energy=[0.1 * lights * noise],
                other_chance=[0.1],
                group=f"image-{at}",
            )
        )
    matrix = make_results(Failures(), records).tables()["matrix"].to_pylist()
    first = matrix[0]
    assert (first["label"], first["other"]) == ("a", "c")
    assert first["low"] > 2 and first["lift"] == pytest.approx(3, rel=0.2)
    assert len(matrix) == 12 and all(row["low"] < 1.3 for row in matrix[1:])
    # by hand: per area in c's boxes, of a's phrases and of others'
    of_a = [r for r in records if (r["label"], r["other_labels"]) == ("a", ["c"])]
    rest = [r for r in records if r["label"] != "a" and r["other_labels"] == ["c"]]
    rates = [
        sum(r["other_energy"][0] for r in some)
        / sum(r["other_chance"][0] for r in some)
        for some in (of_a, rest)
    ]
    assert first["lift"] == pytest.approx(rates[0] / rates[1])


def test_how_often_a_cause_holds_is_not_told_of_few_images(
    make_results: MakeResults,
) -> None:
    # cut at the edge: 2 of 20 badly grounded, 1 of 20 well grounded
    few = [
        _failing(hit=float(at % 2), at_edge=at in (0, 1, 2), group=f"image-{at}")
        for at in range(40)
    ]
    many = [{**each, "at_edge": at < 24} for at, each in enumerate(few)]
    for records, lift, is_told in ((few, 2.0, False), (many, 1.0, True)):
        causes = make_results(Failures(), records).tables()["causes"].to_pylist()
        (cut,) = (row for row in causes if row["kind"] == "cut")
        assert cut["lift"] == pytest.approx(lift)
        assert (cut["lift_low"] is not None) == is_told


def test_a_class_that_was_not_trained_on_is_unusual(make_results: MakeResults) -> None:
    records = [_failing(label=label) for label in "aaab"]
    study = Failures(trained_on={"a": 5000, "b": 2})
    objects = make_results(study, records).tables()["objects"].to_pylist()
    assert [each["unusual classes"] for each in objects] == [False] * 3 + [True]


# ---- the others --------------------------------------------------------------


def test_grounding_has_its_nulls_and_groups(make_results: MakeResults) -> None:
    rng = np.random.default_rng(0)
    records = []
    for at in range(40):
        record = place(label="ab"[at % 2], area=(0.015, 0.3)[at % 2])
        for measure in ("hit", "energy", "mass", "rank"):
            record[measure] = 0.8
            for null in ("center", "other", "permuted"):
                record[f"{measure}_{null}"] = float(rng.random())
        record |= {"chance": 0.2, "mass_chance": 0.5, "cells": at % 4}
        if at % 4 == 0:
            record |= dict.fromkeys(("hit", "energy", "mass", "rank"))
        records.append(record)
    tables = make_results(Grounding(), records).tables()
    figures = {(r["measure"], r["of"]): r for r in tables["figures"].to_pylist()}
    assert figures["hit", "model"]["rows"] == 30
    assert figures["hit", "chance"]["value"] == pytest.approx(0.2)
    assert figures["hit", "model - chance"]["value"] == pytest.approx(0.6)
    assert {of for _, of in figures} >= {"center", "other", "permuted"}
    sizes = {row["area up to"]: row["rows"] for row in tables["sizes"].to_pylist()}
    assert sizes == {0.02: 10, 0.5: 20}
    cells = {row["cells"]: row for row in tables["cells"].to_pylist()}
    assert cells["none: can't be hit"]["hit"] is None
    assert [row["label"] for row in tables["classes"].to_pylist()] == ["a", "b"]
    assert tables["positions"].to_pylist()[0]["position"] == "middle middle"


def test_faithfulness_is_told_of_each_order(make_results: MakeResults) -> None:
    areas = ("image_insertion", "image_deletion", "text_insertion", "text_deletion")
    records = [
        {
            "method": method,
            "order": order,
            **dict.fromkeys(areas, value + 0.01 * at),
            "id": f"row-{at}",
            "group": f"row-{at}",
            "place": at,
        }
        for at in range(5)
        for method, order, value in (
            ("occlusion", "pairs", 0.5),
            ("random", "random", 0.2),
        )
    ]
    (table,) = make_results(Faithfulness(), records).tables().values()
    first, null = table.to_pylist()
    assert first["method"] == "occlusion" and first["pairs"] == 5
    assert first["image_insertion"] == pytest.approx(0.52)
    assert first["image_insertion_less_random"] == pytest.approx(0.3)
    assert first["image_insertion_less_random_low"] == pytest.approx(0.3)
    assert null["text_deletion_less_random"] == 0


def test_negatives_by_kind(make_results: MakeResults) -> None:
    records = [
        {"kind": "color", "score_lower": 1.0, "lowest": 0.0, "lowest_chance": 0.25},
        {"kind": "shape", "score_lower": 0.0, "lowest": 1.0, "lowest_chance": 0.5},
    ]
    tables = make_results(Negatives(), records).tables()
    kinds = {row["kind"]: row["score_lower"] for row in tables["kinds"].to_pylist()}
    assert kinds == {"color": 1.0, "shape": 0.0}
    figures = {(r["measure"], r["of"]): r for r in tables["figures"].to_pylist()}
    assert figures["lowest", "chance"]["value"] == pytest.approx(0.375)
    assert figures["score_lower", "model - chance"]["value"] == 0


def test_recall_counted_one_by_one(make_results: MakeResults) -> None:
    rng = np.random.default_rng(0)
    images = rng.normal(size=(12, 3))
    of = [at // 2 for at in range(24)]  # two captions an image
    texts = images[of] + rng.normal(size=(24, 3))
    records = [
        {
            "image_embedding": images[at].tolist(),
            "text_embedding": text.tolist(),
            "group": f"image-{at:02}",
        }
        for at, text in zip(of, texts)
    ]
    (table,) = make_results(Retrieval(), records).tables().values()
    recall = {(r["direction"], r["recall_at"]): r["value"] for r in table.to_pylist()}
    scores = texts @ images.T
    for k in (1, 5, 10):
        found = [of[i] in np.argsort(-scores[i])[:k] for i in range(24)]
        assert recall["text to image", k] == pytest.approx(np.mean(found))
        found = [
            any(of[i] == image for i in np.argsort(-scores[:, image])[:k])
            for image in range(12)
        ]
        assert recall["image to text", k] == pytest.approx(np.mean(found))


def test_recall_by_chance_is_that_of_every_order(make_results: MakeResults) -> None:
    own = [3, 1, 1]  # captions of three images
    records = [
        {
            "image_embedding": [1.0, float(image)],
            "text_embedding": [1.0, 0.0],
            "group": f"image-{image}",
        }
        for image, number in enumerate(own)
        for _ in range(number)
    ]
    (table,) = make_results(Retrieval(), records).tables().values()
    chance = {(r["direction"], r["recall_at"]): r["chance"] for r in table.to_pylist()}
    assert chance["text to image", 1] == pytest.approx(1 / 3)
    assert chance["text to image", 5] == chance["image to text", 5] == 1
    firsts = [order[0] for order in permutations([0, 0, 0, 1, 2])]
    found = [np.mean([first == image for first in firsts]) for image in range(3)]
    assert chance["image to text", 1] == pytest.approx(np.mean(found))


# ---- two runs ----------------------------------------------------------------


def test_what_improved_and_what_was_forgotten(make_results: MakeResults) -> None:
    before = _hits({"a": 0.9, "b": 0.2, "c": 0.9})
    after = _hits({"a": 0.9, "b": 0.9, "c": 0.3})
    for runs in (before, after):
        for at, record in enumerate(runs):
            record["span"] = 0
            record["word_energy"] = record["word_hit"]
    one, other = make_results(Gaps(), before), make_results(Gaps(), after[:-3])
    tables = compare(one, other)
    counts = {row["rows"]: row["number"] for row in tables["rows"].to_pylist()}
    assert counts == {"compared": 177, "only before": 3, "only after": 0}
    rows = tables["classes"].to_pylist()
    found = {r["class"]: r for r in rows if r["measure"] == "word_hit"}
    verdicts = {label: row["verdict"] for label, row in found.items()}
    assert verdicts == {"a": "not told", "b": "improved", "c": "forgotten"}
    differences = [
        y["word_hit"] - x["word_hit"]
        for x, y in zip(before[:-3], after)
        if x["label"] == "b"
    ]
    assert found["b"]["difference"] == pytest.approx(np.mean(differences))


def test_less_is_better_of_deletion(make_results: MakeResults) -> None:
    def records(value: float) -> list[dict[str, Any]]:
        return [
            {"method": "m", "order": "pairs", "image_deletion": value}
            for _ in range(12)
        ]

    runs = [make_results(Faithfulness(), records(value)) for value in (0.5, 0.1)]
    rows = {r["measure"]: r for r in compare(*runs)["overall"].to_pylist()}
    assert rows["image_deletion"]["verdict"] == "improved"
    assert rows["text_deletion"]["verdict"] == "too few"


def test_runs_over_other_data_are_compared_by_their_means(
    make_results: MakeResults,
) -> None:
    one = _hits({"a": 0.2})
    other = [{**each, "id": f"other-{at}"} for at, each in enumerate(_hits({"a": 0.9}))]
    found = compare(make_results(Gaps(), one), make_results(Gaps(), other))
    assert found["rows"].to_pylist()[0]["number"] == 0
    row = next(r for r in found["overall"].to_pylist() if r["measure"] == "word_hit")
    assert row["verdict"] == "improved" and row["low"] > 0.4


def test_rows_of_other_files_are_not_those_of_the_same_number(
    make_results: MakeResults,
) -> None:
    one = [{**each, "image": "old/a.jpg"} for each in _hits({"a": 0.2})]
    moved = [{**each, "image": "new\\a.jpg"} for each in _hits({"a": 0.9})]
    for change, shared in (({}, 60), ({"image": "b.jpg"}, 0), ({"caption": "b"}, 0)):
        other = [{**each, **change} for each in moved]
        found = compare(make_results(Gaps(), one), make_results(Gaps(), other))
        assert found["rows"].to_pylist()[0]["number"] == shared


def test_a_curve_over_checkpoints(make_results: MakeResults) -> None:
    runs = [make_results(Gaps(), _hits({"a": rate})) for rate in (0.1, 0.5, 0.9)]
    rows = [
        row
        for row in curve(runs, ["0", "100", "200"]).to_pylist()
        if row["measure"] == "word_hit" and row["class"] == "a"
    ]
    assert [row["name"] for row in rows] == ["0", "100", "200"]
    values = [row["value"] for row in rows]
    assert values == sorted(values) and values[0] < 0.3 < 0.8 < values[2]
    with pytest.raises(InvalidArgumentError, match="names: expected 3, got 1"):
        curve(runs, ["0"])
    with pytest.raises(InvalidArgumentError, match="results: expected one or more"):
        curve([])
