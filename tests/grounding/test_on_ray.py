"""Past one machine: the same rows and values, whatever is killed."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from captum_pairs import grounding
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.grounding.studies.gaps import Gaps
from grounding_rows import row_of
from PIL import Image

QUICK: dict[str, Any] = {"layer": (-1, -1), "tolerance": 0.3}

_SCRIPT = """
import os, sys
os.environ["RAY_AUTH_MODE"] = "disabled"
import ray
from captum_pairs import grounding
ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
grounding.run("gaps", sys.argv[2], "scenes", sys.argv[1], on="ray", layer=(-1, -1),
              tolerance=0.3)
"""


def test_a_study_as_a_step_of_a_pipeline(tiny_clip: Path, tmp_path: Path) -> None:
    row = row_of()
    Image.fromarray(row.image).save(tmp_path / "a.png")
    batch = {
        "id": ["a", "b"],
        "image": [str(tmp_path / "a.png")] * 2,
        "caption": [row.caption, ""],
        "spans": [
            '[{"phrase": "red circle", "word": "circle", "label": "circle", '
            '"boxes": [[0, 0, 8, 8]]}]',
            None,
        ],
    }
    step = Gaps().as_udf(str(tiny_clip))()
    found = step(batch)
    assert isinstance(found, pyarrow.Table)
    assert found["id"].to_pylist() == ["a", "b"] and found["place"][0].as_py() == -1
    assert found["error"][0].as_py() is None
    assert "caption: expected a text" in found["error"][1].as_py()
    expected = Gaps().records(row, step.model)[0]
    assert found["word_energy"][0].as_py() == pytest.approx(expected["word_energy"])


def test_without_ray(
    tiny_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InvalidArgumentError, match=r"pip install .captum-pairs\[ray\]"):
        grounding.run("gaps", "scenes:2", str(tiny_clip), tmp_path, on="ray")


def _run(out: Path, data: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", _SCRIPT, str(out), data])


@pytest.mark.slow
def test_ray_finds_the_same_after_kills(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason='an extra: pip install "captum-pairs[ray]"')
    from test_study_running import same

    here = grounding.run(
        "gaps", "scenes:24", "scenes", tmp_path / "here", processes=1, **QUICK
    )
    out = tmp_path / "ray"
    driver = _run(out, "scenes:24")
    time.sleep(40)
    driver.kill()
    driver.wait(60)
    assert _run(out, "scenes:24").wait(600) == 0
    same(here, grounding.load(out))
