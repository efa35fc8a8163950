"""The walk-throughs of docs/extending.md, as they stand there."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from captum_pairs.cli import main
from captum_pairs.explain import methods
from captum_pairs.grounding import STUDIES
from captum_pairs.models import registry
from captum_pairs.scenes import render, sample_scene
from click.testing import CliRunner
from PIL import Image

TEXT = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture(autouse=True)
def _nothing_stays_registered() -> Iterator[None]:
    tables: list[Any] = [methods._METHODS, registry._TABLE, STUDIES]
    kept = [dict(table) for table in tables]
    yield
    for table, before in zip(tables, kept):
        table.clear()
        table.update(before)
    for name in ("my_method", "my_adapter", "my_study", "my_reader"):
        sys.modules.pop(name, None)


def _file(name: str, folder: Path) -> str:
    """Writes the block that is that file, and returns what comes after it."""
    index = next(i for i, b in enumerate(BLOCKS) if b.startswith(f"# {name}"))
    (folder / name).write_text(BLOCKS[index])
    return BLOCKS[index + 1]


def test_a_new_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use = _file("my_method.py", tmp_path)
    code = (tmp_path / "my_method.py").read_text()
    assert len(code.splitlines()) < 40
    assert not re.findall(r"captum_pairs[\w.]*\._|import _", code)
    monkeypatch.syspath_prepend(tmp_path)
    scene = sample_scene(np.random.default_rng(0), 2, distinct=True)
    image = render(scene).image
    names: dict[str, Any] = {"image": image}
    exec(compile(use, "extending.md", "exec"), names)
    model = names["model"]
    found = model.explain(image, "a red circle", method="inclusion")
    by_class = model.explain(
        image, "a red circle", method=sys.modules["my_method"].FeaturePairInclusion
    )
    assert found.method == by_class.method == "inclusion"
    kept = model.contributions([image], method="inclusion", dtype="float32")
    again = model.explain(kept[0], "a red circle")
    np.testing.assert_allclose(again.interactions, found.interactions, atol=1e-6)
    Image.fromarray(image).save(tmp_path / "scene.png")
    options = ["--image", str(tmp_path / "scene.png"), "--text", "a red circle"]
    options += ["--model", "scenes", "--out", str(tmp_path)]
    options += ["--method", "my_method:FeaturePairInclusion"]
    result = CliRunner().invoke(main, ["explain", *options])
    assert result.exit_code == 0, result.output
    assert "inclusion" in result.output


def test_a_new_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use = _file("my_adapter.py", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(use, "extending.md", "exec"), names)
    found = names["model"].explain("cat", "hat")
    assert found.first.names == ("c", "a", "t")
    strongest = found.top_pairs(1)[0]
    assert {strongest.first, strongest.second} <= set("cath")
    assert found.convergence_delta == pytest.approx(0, abs=1e-2)


def test_a_new_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use = _file("my_study.py", tmp_path).replace("scenes:20", "scenes:4")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(use, "extending.md", "exec"), names)
    rows = names["results"].rows.to_pylist()
    assert len(rows) == 4 and all(row["error"] is None for row in rows)
    table = names["results"].tables()["by_length"].to_pydict()
    of_length = [row["score"] for row in rows if row["words"] == table["words"][0]]
    assert table["score"][0] == pytest.approx(np.mean(of_length))


def test_a_new_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use = _file("my_reader.py", tmp_path)
    use = use.replace("Drawn(4)", "Drawn(1)").replace("=1)", "=1, **options)")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    # the last blocks, coarsely: the reader is what is looked at
    names: dict[str, Any] = {"options": {"layer": (-1, -1), "tolerance": 0.3}}
    exec(compile(use, "extending.md", "exec"), names)
    (row,) = names["results"].rows.to_pylist()
    assert row["id"] == "drawn-0" and row["error"] is None
    assert row["phrase"] in row["caption"]
