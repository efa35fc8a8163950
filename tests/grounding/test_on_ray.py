"""Past one machine: the same rows and values, whatever is killed."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from captum_pairs import grounding
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.grounding.results import Results
from captum_pairs.grounding.studies.gaps import Gaps
from grounding_rows import row_of
from PIL import Image
from test_study_running import same

QUICK: dict[str, Any] = {"layer": (-1, -1), "tolerance": 0.3}
ROWS = "scenes:80"

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
    for table in (pyarrow.table(batch), pyarrow.table(batch).to_pandas()):
        again = step(table)
        assert again["word_energy"].equals(found["word_energy"])
    # without a picture there would be nothing to say, of any row
    with pytest.raises(InvalidArgumentError, match="batch: .*'image', got caption"):
        step({"caption": ["red circle"]})


def test_rows_of_a_pipeline_are_told_apart(tiny_clip: Path, tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    Image.fromarray(row_of().image).save(picture)
    step = Gaps().as_udf(str(tiny_clip))()

    def named(image: Any, caption: str) -> Any:
        found = step({"image": [image], "caption": [caption]})
        assert "nothing to study" in found["error"][0].as_py()  # it has no spans
        return found["id"][0].as_py(), found["group"][0].as_py()

    # batches without ids: the same row is the same, and no other one is
    first = named(str(picture), "red circle")
    assert first == named(str(picture), "red circle")
    assert first[0] != named(str(picture), "square")[0]
    assert first[1] == named(str(picture), "square")[1] == str(picture)
    other = named(picture.read_bytes(), "red circle")
    assert other[0] != first[0]
    assert other == named({"bytes": picture.read_bytes(), "path": None}, "red circle")


def test_without_ray(
    tiny_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InvalidArgumentError, match=r"pip install .captum-pairs\[ray\]"):
        grounding.run("gaps", "scenes:2", str(tiny_clip), tmp_path, on="ray")


def _run(out: Path, data: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", _SCRIPT, str(out), data])


def _descendants(pid: int) -> list[int]:
    """Of a process, whichever of its threads started them."""
    found = []
    for file in Path("/proc").glob(f"{pid}/task/*/children"):
        try:
            children = [int(each) for each in file.read_text().split()]
        except OSError:
            continue  # it ended meanwhile
        for child in children:
            found += [child, *_descendants(child)]
    return found


def _actors(driver: "subprocess.Popen[bytes]") -> list[int]:
    """The processes of a driver in which rows are studied."""
    found = []
    for pid in _descendants(driver.pid):
        try:
            title = Path(f"/proc/{pid}/cmdline").read_text()
        except OSError:
            continue
        if title.startswith("ray::") and "StudiedPlaces" in title:
            found.append(pid)
    return found


def _an_actor(driver: "subprocess.Popen[bytes]", killed: set[int]) -> int | None:
    """One that was not killed before, as soon as there is one."""
    while driver.poll() is None:
        there = [pid for pid in _actors(driver) if pid not in killed]
        if there:
            return there[-1]
        time.sleep(0.05)
    return None


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What this process finds, undisturbed."""
    pytest.importorskip("ray", reason='an extra: pip install "captum-pairs[ray]"')
    out = tmp_path_factory.mktemp("here")
    return grounding.run("gaps", ROWS, "scenes", out, processes=1, **QUICK)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are found in /proc")
def test_ray_finds_the_same_whatever_actors_are_killed(
    here: Results, tmp_path: Path
) -> None:
    chance, killed = random.Random(0), set[int]()
    driver = _run(tmp_path, ROWS)
    while len(killed) < 5:
        victim = _an_actor(driver, killed)
        if victim is None:  # it was done: the next one goes on, or begins
            assert driver.wait() == 0
            assert len(killed) >= 2, "the run is too short to kill anybody"
            driver = _run(tmp_path / f"{len(killed)}", ROWS)
            continue
        time.sleep(chance.uniform(0, 2))
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
            killed.add(victim)
    assert driver.wait(600) == 0
    for out in (tmp_path, *tmp_path.glob("[0-9]")):
        same(here, grounding.load(out))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are found in /proc")
def test_ray_finds_the_same_after_kills_of_the_driver(
    here: Results, tmp_path: Path
) -> None:
    chance = random.Random(0)
    for _ in range(5):
        driver = _run(tmp_path, ROWS)
        _an_actor(driver, set())  # before that there is nothing to lose
        time.sleep(chance.uniform(0, 12))
        driver.kill()
        driver.wait(60)
    assert _run(tmp_path, ROWS).wait(600) == 0
    same(here, grounding.load(tmp_path))
