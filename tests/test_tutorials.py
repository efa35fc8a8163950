"""The tutorials run as they are, and find what they say that they find."""

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
