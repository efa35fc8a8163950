"""Results made of records that a test wrote down, and a model that is asked quickly."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import captum_pairs
import pytest
from captum_pairs.grounding.results import load, Results, Shards, write_plan
from captum_pairs.grounding.study import Study
from captum_pairs.model import DualEncoder
from grounding_rows import MakeResults, plan_of


@pytest.fixture
def make_results(tmp_path: Path) -> MakeResults:
    """A study's results from records; what COMMON has is filled in."""
    made = 0

    def make(study: Study, records: Sequence[dict[str, Any]]) -> Results:
        nonlocal made
        made += 1
        folder = tmp_path / f"results-{made}"
        write_plan(folder, plan_of(study, len(records)))
        common = {"image": "", "caption": "", "error": None}
        rows = [
            {**common, "place": at, "id": f"row-{at}", "group": f"row-{at}", **record}
            for at, record in enumerate(records)
        ]
        Shards(folder, study.columns).add(rows)
        return load(folder)

    return make


@pytest.fixture(scope="module")
def model(tiny_clip: Path) -> DualEncoder:
    return captum_pairs.load(str(tiny_clip))
