"""What conftest.py promises of any order, on tests that break it on purpose."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import os
import pytest, torch
import matplotlib.pyplot as plt
F32 = torch.float32

@pytest.fixture(scope="module")
def shared():
    return torch.randn(3, dtype=F32)

@pytest.fixture(scope="module")
def other():
    return torch.randn(3, dtype=F32)

@pytest.mark.parametrize("at", range(4))
def test_numbers(at, request):
    names = ["shared", "other"] if at % 2 else ["other", "shared"]
    own = torch.randn(2, dtype=F32) if at < 2 else None
    print("found", [request.getfixturevalue(name).tolist() for name in sorted(names)])
    print("own", (torch.randn(2, dtype=F32) if own is None else own).tolist())

def test_leaves_threads(): torch.set_num_threads(2)
def test_leaves_a_dtype(): torch.set_default_dtype(torch.float64)
def test_leaves_gradients(): torch.set_grad_enabled(False)
def test_leaves_a_figure(): plt.figure()
def test_leaves_a_setting(): plt.rcParams["font.size"] = 3
def test_leaves_a_directory(tmp_path): os.chdir(tmp_path)
def test_leaves_the_environment(): os.environ["HF_HUB_OFFLINE"] = "0"
def test_leaves_nothing(monkeypatch): monkeypatch.setenv("HF_HUB_OFFLINE", "0")
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["1", "2"])
def test_what_is_left_changed_is_found(tmp_path: Path, seed: str) -> None:
    shutil.copy(Path(__file__).parent / "conftest.py", tmp_path)
    (tmp_path / "test_some.py").write_text(TESTS, encoding="utf-8")
    options = ["-p", "randomly", "--randomly-seed", seed, "-rA", "-c", "/dev/null"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "--rootdir=.", "."],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    errors = set(re.findall(r"^ERROR \S+::test_(\w+)", done.stdout, re.MULTILINE))
    left = ["threads", "a_dtype", "gradients", "a_figure", "a_setting", "a_directory"]
    assert errors == {f"leaves_{each}" for each in [*left, "the_environment"]}
    # shared or not, numbers are the same whatever ran before
    for name in ("found", "own"):
        lines = re.findall(rf"^{name} .*", done.stdout, re.MULTILINE)
        assert len(lines) == 4 and len(set(lines)) == 1, lines
