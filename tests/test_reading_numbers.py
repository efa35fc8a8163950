"""Pages that say what comes out: their examples are run as they stand there."""

import doctest
import re
from pathlib import Path

import pytest
from captum_pairs.scenes import checkpoint_path

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.skipif(
    not checkpoint_path().is_dir(), reason="the embedded checkpoint is not here"
)
@pytest.mark.parametrize(
    ("name", "number", "answers"), [("reading.md", 7, 12), ("start.md", 4, 5)]
)
def test_every_number_of_the_page_is_computed(
    name: str, number: int, answers: int
) -> None:
    page = DOCS / name
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"```pycon\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == text.count("```pycon") == number
    examples = doctest.DocTestParser().get_doctest(
        "".join(blocks), {}, page.name, str(page), 0
    )
    assert sum(bool(example.want) for example in examples.examples) == answers
    said: list[str] = []
    result = doctest.DocTestRunner(verbose=False).run(examples, out=said.append)
    assert result.failed == 0, "".join(said)
