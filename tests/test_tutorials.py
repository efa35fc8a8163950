"""The tutorials run as they are, and find what they say that they find."""

import os
import subprocess
import sys
from pathlib import Path

TUTORIALS = Path(__file__).parents[1] / "tutorials"


def test_two_sentences(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, str(TUTORIALS / "two_sentences.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = result.stdout.splitlines()
    strongest = lines[lines.index("the strongest pairs:") + 1]
    assert strongest.split(":")[0].strip() == "guitar - instrument"
    picture = (tmp_path / "two_sentences.png").read_bytes()
    assert picture.startswith(b"\x89PNG")


def test_visualization(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-W", "error", str(TUTORIALS / "visualization.py")],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        check=True,
    )
    names = [line for line in result.stdout.splitlines() if line.endswith(".png")]
    assert len(names) == 8
    for name in names:
        picture = (tmp_path / "visualization" / name).read_bytes()
        assert picture.startswith(b"\x89PNG")
    page = (tmp_path / "visualization" / "page.html").read_text()
    assert "we see a red moon, a red triangle and a pink cross" in page
