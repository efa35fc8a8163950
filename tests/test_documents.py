"""The documents: their links lead somewhere, their Python is Python."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_local_links_lead_to_files(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", document.read_text())
    local = [target for target in targets if not target.startswith("http")]
    assert [link for link in local if not (document.parent / link).is_file()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_python_blocks_compile(document: Path) -> None:
    for block in re.findall(r"```python\n(.*?)```", document.read_text(), re.DOTALL):
        compile(block, str(document), "exec")


def test_the_readme_has_the_two_set_up_commands_that_ci_runs() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    commands = [line for line in lines if line.startswith("pip install ")]
    assert len(commands) == 2
    assert commands[1] == 'pip install ".[test]" && pytest'
