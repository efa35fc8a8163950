"""The notebooks' sources, the copies with outputs, and what runs one to make the other.

That every notebook runs and finds what it says is the gate ``notebooks``."""

import json
import re
import runpy
from base64 import b64decode, b64encode
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import numpy as np
import pytest
from PIL import Image

TUTORIALS = Path(__file__).parents[1] / "tutorials"
SOURCES = sorted(TUTORIALS.glob("[0-9][0-9]_*.md"))
BYTES = 600_000
# names of real weights: each notebook says how to run it on some
HUB = re.compile(
    r"(cross-encoder|google|laion|lightonai|openai|sentence-transformers)/[\w.-]{4,}"
)
# what differs from machine to machine, or from run to run
LOCAL = re.compile(r"/(?:root|home|tmp|Users)/|0x[0-9a-f]{6,}|ipykernel_\d+")


@pytest.fixture(scope="module")
def runner() -> SimpleNamespace:
    """tutorials/run.py, which is no part of the package."""
    return SimpleNamespace(**runpy.run_path(str(TUTORIALS / "run.py")))


def _copy(source: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(source.with_suffix(".ipynb").read_text("utf-8"))
    return found


def _joined(value: Any) -> str:
    return value if isinstance(value, str) else "".join(value)


def _unseen(cell: Any) -> bool:
    return "remove-cell" in cell["metadata"].get("tags", [])


def test_each_copy_has_a_source() -> None:
    copies = {path.stem for path in TUTORIALS.glob("*.ipynb")}
    assert copies == {path.stem for path in SOURCES} != set()


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_copy_is_of_its_source(source: Path, runner: SimpleNamespace) -> None:
    cells = [cell for cell in runner.read_source(source).cells if not _unseen(cell)]
    wanted = [(cell.id, cell.cell_type, cell.source, cell.metadata) for cell in cells]
    found = [
        (cell["id"], cell["cell_type"], _joined(cell["source"]), cell["metadata"])
        for cell in _copy(source)["cells"]
    ]
    assert found == wanted, f"python tutorials/run.py {source.stem}"


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_copy_is_small_and_of_no_machine(source: Path) -> None:
    copy = _copy(source)
    code = [cell for cell in copy["cells"] if cell["cell_type"] == "code"]
    counts = [cell["execution_count"] for cell in code]
    assert counts == list(range(1, len(code) + 1))
    pictures = 0
    for cell in code:
        for output in cell["outputs"]:
            assert output["output_type"] != "error" and output.get("name") != "stderr"
            data = output.get("data", {"text/plain": output.get("text", "")})
            pictures += "image/png" in data
            texts = [_joined(v) for kind, v in data.items() if kind.startswith("text/")]
            assert [text for text in texts if LOCAL.search(text)] == []
    assert pictures >= 1
    assert source.with_suffix(".ipynb").stat().st_size < BYTES


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_notebook_says_what_it_is_and_checks_what_it_says(
    source: Path, runner: SimpleNamespace
) -> None:
    cells = runner.read_source(source).cells
    first = cells[0].source
    assert first.startswith("# ")
    assert re.search(r"\d+ minutes", first) and "pip install" in first
    assert HUB.search("".join(cell.source for cell in cells)), "no real weights"
    unseen = [cell.source for cell in cells if _unseen(cell)]
    assert unseen and all(re.search(r"^\s*assert ", s, re.M) for s in unseen)
    for cell in cells:
        if cell.cell_type == "code":
            compile(cell.source, f"{source.name}, {cell.id}", "exec")


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_what_a_notebook_links_to_is_there(source: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", source.read_text("utf-8"))
    targets += re.findall(r"[\"'](images/[^\"']+)[\"']", source.read_text("utf-8"))
    local = [target for target in targets if not target.startswith("http")]
    assert [link for link in local if not (TUTORIALS / link).is_file()] == []


# ---- the runner ----------------------------------------------------------------

SOURCE = """---
kernelspec:
  name: python3
  display_name: Python 3
---

# Sums

```{code-cell}
import sys
total = 1 + 1
print("on the error stream", file=sys.stderr)
print(total)
```

```{code-cell}
:tags: [remove-cell]

assert total == 2
```

```{code-cell}
total + 1
```
"""


def _source(directory: Path, text: str = SOURCE) -> Path:
    path = directory / "00_sums.md"
    path.write_text(text, encoding="utf-8")
    return path


def test_what_is_shown_is_the_same_each_time(
    tmp_path: Path, runner: SimpleNamespace
) -> None:
    def once(count: int, time: str) -> str:
        """As nbclient leaves a notebook."""
        notebook = runner.read_source(_source(tmp_path))
        for cell in notebook.cells[1:]:
            cell.metadata["execution"] = {"iopub.execute_input": time}
            cell.execution_count = count
            stream = {"output_type": "stream", "name": "stdout", "text": "2\n"}
            result = {"output_type": "execute_result", "execution_count": count}
            result |= {"data": {"text/plain": "3"}, "metadata": {}}
            error = {**stream, "name": "stderr", "text": time}
            cell.outputs = [nbformat.from_dict(o) for o in (error, stream, result)]
            count += 1
        written: str = nbformat.writes(runner.shown(notebook))
        return written

    text = once(1, "12:00")
    assert text == once(7, "13:00")
    shown = json.loads(text)
    assert [cell["id"] for cell in shown["cells"]] == ["cell-00", "cell-01", "cell-03"]
    assert "assert" not in text and "12:00" not in text
    for count, cell in enumerate(shown["cells"][1:], 1):
        assert cell["execution_count"] == cell["outputs"][1]["execution_count"] == count
    nbformat.validate(nbformat.reads(text, 4))


def test_pictures_keep_their_pixels(runner: SimpleNamespace) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8)
    pixels[..., 3] = 255
    pixels[0, 0] = (10, 20, 30, 0)  # nothing there: the page is white
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    smaller = runner._smaller(b64encode(file.getvalue()).decode())
    assert runner._smaller(smaller) == smaller
    found = np.asarray(Image.open(BytesIO(b64decode(smaller))))
    pixels[0, 0] = 255
    assert (found == pixels[..., :3]).all()


def test_a_notebook_that_there_is_not(
    runner: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        runner.main(["99_no_such"])
    assert left.value.code == 2
    assert f"no notebook 99_no_such; there are: {SOURCES[0].stem}" in (
        capsys.readouterr().err
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_kernel_runs_all_cells_and_writes_those_shown(
    tmp_path: Path, runner: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    written = runner.run(_source(tmp_path), tmp_path)
    shown = json.loads(written.read_text("utf-8"))
    outputs = [cell["outputs"] for cell in shown["cells"][1:]]
    assert _joined(outputs[0][0]["text"]) == "2\n" and len(outputs[0]) == 1
    assert _joined(outputs[1][0]["data"]["text/plain"]) == "3"
    assert capsys.readouterr().err == "on the error stream\n"

    written.unlink()
    wrong = SOURCE.replace("total == 2", "total == 3")
    with pytest.raises(runner.NotebookError) as failed:
        runner.run(_source(tmp_path, wrong), tmp_path)
    assert str(failed.value).startswith("00_sums, cell 2 (assert total == 3):\n")
    assert "AssertionError" in str(failed.value) and not written.exists()

    slow = runner.read_source(
        _source(tmp_path, SOURCE.replace("1 + 1", "1\nwhile 1: 0"))
    )
    with pytest.raises(runner.NotebookError, match="cell 1 .import sys.: .* than 2 s"):
        runner.execute(slow, "00_sums", seconds=2)
