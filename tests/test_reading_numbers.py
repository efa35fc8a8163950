"""docs/reading.md says what comes out: its examples are run as they stand there."""

import doctest
import re
from pathlib import Path

import pytest
from captum_pairs.scenes import checkpoint_path

PAGE = Path(__file__).parents[1] / "docs" / "reading.md"


@pytest.mark.skipif(
    not checkpoint_path().is_dir(), reason="the embedded checkpoint is not here"
)
def test_every_number_of_the_page_is_computed() -> None:
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"```pycon\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == text.count("```pycon") == 7
    examples = doctest.DocTestParser().get_doctest(
        "".join(blocks), {}, PAGE.name, str(PAGE), 0
    )
    assert sum(bool(example.want) for example in examples.examples) == 12
    said: list[str] = []
    result = doctest.DocTestRunner(verbose=False).run(examples, out=said.append)
    assert result.failed == 0, "".join(said)
