"""The tutorials run as they are, and find what they say that they find."""

import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from matplotlib import pyplot as plt

TUTORIALS = Path(__file__).parents[1] / "tutorials"
Run = Callable[..., list[str]]


@pytest.fixture
def run_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """Runs a tutorial in this process, and gives what it prints."""
    monkeypatch.chdir(tmp_path)

    def run(name: str, *arguments: str) -> list[str]:
        path = str(TUTORIALS / name)
        monkeypatch.setattr(sys, "argv", [path, *arguments])
        runpy.run_path(path, run_name="__main__")
        return capsys.readouterr().out.splitlines()

    yield run
    plt.close("all")


@pytest.fixture
def run_alone(tmp_path: Path) -> Run:
    """Runs a tutorial as a user does, where every warning is an error."""

    def run(name: str, *arguments: str) -> list[str]:
        result = subprocess.run(
            [sys.executable, "-W", "error", str(TUTORIALS / name), *arguments],
            cwd=tmp_path,
            env={**os.environ, "MPLBACKEND": "agg"},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout.splitlines()

    return run


def check_two_sentences(run: Run, folder: Path) -> None:
    lines = run("two_sentences.py")
    strongest = lines[lines.index("the strongest pairs:") + 1]
    assert strongest.split(":")[0].strip() == "guitar - instrument"
    picture = (folder / "two_sentences.png").read_bytes()
    assert picture.startswith(b"\x89PNG")


def check_visualization(run: Run, folder: Path, *arguments: str) -> None:
    lines = run("visualization.py", *arguments)
    names = [line for line in lines if line.endswith(".png")]
    assert len(names) == 8
    for name in names:
        picture = (folder / "visualization" / name).read_bytes()
        assert picture.startswith(b"\x89PNG")
    page = (folder / "visualization" / "page.html").read_text(encoding="utf-8")
    assert "we see a red moon, a red triangle and a pink cross" in page


def test_two_sentences(run_here: Run, tmp_path: Path) -> None:
    check_two_sentences(run_here, tmp_path)


@pytest.mark.slow
def test_visualization(run_here: Run, tmp_path: Path) -> None:
    check_visualization(run_here, tmp_path, "--tolerance", "0.1")


@pytest.mark.slow
def test_two_sentences_alone(run_alone: Run, tmp_path: Path) -> None:
    check_two_sentences(run_alone, tmp_path)


@pytest.mark.slow
def test_visualization_alone(run_alone: Run, tmp_path: Path) -> None:
    check_visualization(run_alone, tmp_path)


@pytest.mark.slow
def test_the_lines_of_the_gallery_draw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One block after the other, as they stand beside the pictures."""
    page = TUTORIALS.parent / "docs" / "visualization.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    assert len(blocks) == 11
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks:
        assert len(block.strip().splitlines()) <= 15
        names.pop("figure", None)
        exec(compile(block, str(page), "exec"), names)
        if "v.visualize_" in block or "plot_pairs" in block:
            assert "figure" in names or "sheet" in names
    assert (tmp_path / "phrase.png").is_file() and (tmp_path / "sheet.png").is_file()
    plt.close("all")
