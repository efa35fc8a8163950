"""What the next person finds at the root of the project agrees with the package."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import captum_pairs
import pytest
import yaml

ROOT = Path(__file__).parents[1]
GATES = ROOT / ".ci" / "gates"
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def _read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def _gates() -> list[str]:
    all_of_them = re.search(r"^all=\((.*)\)$", GATES.read_text(), re.MULTILINE)
    assert all_of_them is not None
    return all_of_them[1].split()


def _copyright_holder() -> str:
    """Who the licence says has the copyright."""
    line = re.search(r"Copyright \(c\) \d+,? (.*)", (ROOT / "LICENSE").read_text())
    assert line is not None
    return line[1].rstrip(". ").replace("the ", "The ", 1)


def test_the_citation_is_this_package() -> None:
    found, project = _read("CITATION.cff"), PROJECT["project"]
    # what the format 1.2.0 requires
    assert {"cff-version", "message", "title", "authors"} <= set(found)
    assert found["cff-version"] == "1.2.0" and found["type"] == "software"
    assert found["authors"] == project["authors"] == [{"name": _copyright_holder()}]
    assert found["license"] == project["license"]
    (paper,) = found["references"]
    assert {"type", "title", "authors"} <= set(paper)
    assert paper["url"] == "https://arxiv.org/abs/2408.14153"
    assert all({"family-names", "given-names"} == set(a) for a in paper["authors"])


def test_the_changelog_has_the_released_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(.*?)\]", text, re.MULTILINE)
    assert versions[0] == "Unreleased"
    cited = _read("CITATION.cff")
    assert f"## [{cited['version']}] - {cited['date-released']}" in text
    assert versions[1] == cited["version"]
    assert captum_pairs.__version__ in text


def test_hooks_need_no_network_and_run_gates() -> None:
    hooks = []
    for repository in _read(".pre-commit-config.yaml")["repos"]:
        assert repository["repo"] == "local"
        hooks += repository["hooks"]
    ran = [hook["entry"].split() for hook in hooks if hook["language"] == "system"]
    assert [entry for entry in ran if entry[0] != ".ci/gates"] == []
    assert {gate for entry in ran for gate in entry[1:]} <= set(_gates())
    for hook in hooks:
        if hook["language"] == "pygrep":
            re.compile(hook["entry"])
        else:
            assert hook["language"] == "system"


def test_ci_runs_every_gate() -> None:
    text = (ROOT / ".ci" / "run").read_text()
    ran = {
        gate
        for line in re.findall(r"^\.ci/gates (.+)$", text, re.M)
        for gate in line.split()
    }
    # the plain tests are the README's own line
    assert ran | {"tests"} == set(_gates())
    assert "tests() { pytest; }" in GATES.read_text()


@pytest.mark.parametrize("gate", ["no-such-gate", "lint no-such-gate"])
def test_a_gate_that_there_is_not(gate: str) -> None:
    command = ["bash", str(GATES), *gate.split()]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert "no gate is called no-such-gate" in done.stderr


def test_what_is_slow_is_left_out_by_default() -> None:
    options = PROJECT["tool"]["pytest"]["ini_options"]
    assert "-m 'not slow'" in options["addopts"]
    assert options["markers"][0].startswith("slow:")
