"""Results on disk: each row exactly once, whoever wrote it and however often."""

import json
from pathlib import Path

import pyarrow.parquet as parquet
import pytest
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.grounding.results import load, read_plan, Shards, write_plan
from captum_pairs.grounding.studies import study_of
from captum_pairs.grounding.studies.gaps import Gaps
from captum_pairs.grounding.studies.retrieval import Retrieval
from grounding_rows import MakeResults, plan_of

STUDY = Gaps()


def _record(place: int, span: int = 0, **fields: object) -> dict[str, object]:
    common = {"id": f"row-{place}", "group": "g", "image": "", "caption": "c"}
    return {"place": place, "span": span, **common, "error": None, **fields}


def test_each_row_counts_once_as_its_first_shard_has_it(tmp_path: Path) -> None:
    write_plan(tmp_path, plan_of(STUDY, 3))
    shards = Shards(tmp_path, STUDY.columns)
    shards.add([_record(2, 0, score=1.0), _record(2, 1, score=1.0)])
    shards.add([_record(0, score=2.0), _record(2, 0, score=9.0)])
    shards.add([_record(1, error="broken")])
    results = load(tmp_path)
    assert results.rows["place"].to_pylist() == [0, 1, 2, 2]
    assert results.rows["score"].to_pylist() == [2.0, None, 1.0, 1.0]
    assert shards.done() == {0, 1, 2}
    assert results.errors == {"row-1": "broken"}
    assert results.counts == {"planned": 3, "done": 3, "failed": 1, "records": 3}
    assert results.column("score").tolist() == [2.0, 1.0, 1.0]
    frame = results.to_frame()
    assert list(frame["span"]) == [0, 0, 0, 1] and len(frame.columns) == len(
        shards.schema.names
    )


def test_rows_without_a_place_are_told_apart_by_their_ids(tmp_path: Path) -> None:
    write_plan(tmp_path, plan_of(STUDY))
    shards = Shards(tmp_path, STUDY.columns)
    shards.add([{**_record(-1), "id": "a"}, {**_record(-1), "id": "b"}])
    shards.add([{**_record(-1), "id": "b"}, {**_record(-1), "id": "c"}])
    assert sorted(load(tmp_path).rows["id"].to_pylist()) == ["a", "b", "c"]


def test_a_shard_that_is_being_written_is_none(tmp_path: Path) -> None:
    write_plan(tmp_path, plan_of(STUDY))
    shards = Shards(tmp_path, STUDY.columns)
    shards.add([_record(0)])
    (written,) = shards.files()
    half = written.read_bytes()[: written.stat().st_size // 2]
    (written.parent / f".{written.name}").write_bytes(half)
    assert len(load(tmp_path).rows) == 1
    assert parquet.read_table(written).num_rows == 1


def test_a_plan_is_written_once_and_has_to_be_the_same(tmp_path: Path) -> None:
    plan = plan_of(STUDY)
    write_plan(tmp_path, {**plan, "created": "yesterday"})
    write_plan(tmp_path, {**plan, "created": "today"})
    assert read_plan(tmp_path)["created"] == "yesterday"
    with pytest.raises(InvalidArgumentError, match='results of model = "other"'):
        write_plan(tmp_path, {**plan, "model": "other"})
    assert not list(tmp_path.glob(".plan*"))


@pytest.mark.parametrize("content", ["", "[]", '{"format": 99}'])
def test_what_is_no_plan_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "plan.json").write_text(content)
    with pytest.raises(InvalidArgumentError, match="directory: expected"):
        load(tmp_path)


def test_a_directory_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="directory: .*No such file"):
        load(tmp_path / "none")


def test_studies_are_made_again_from_their_plans() -> None:
    plan = json.loads(json.dumps(plan_of(Gaps({"layer": [1, 0]}, "energy"))))
    assert study_of(plan["study"], plan["parameters"]) == Gaps(
        {"layer": [1, 0]}, "energy"
    )
    with pytest.raises(InvalidArgumentError, match="study: expected one of"):
        study_of("guesses", {})
    with pytest.raises(InvalidArgumentError, match="parameters of gaps"):
        study_of("gaps", {"colour": 1})
    with pytest.raises(InvalidArgumentError, match="measure: expected one of"):
        study_of("gaps", {"measure": "luck"})


def test_lists_are_arrays(make_results: MakeResults) -> None:
    vectors = [[1.0, 2.0], [3.0, 4.0]]
    records = [
        {"image_embedding": each, "text_embedding": each, "score": 1.0}
        for each in vectors
    ]
    results = make_results(Retrieval(), records)
    assert len(results) == 2
    assert [list(each) for each in results.column("image_embedding")] == vectors
