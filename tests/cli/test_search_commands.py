"""``captum-pairs index`` and ``captum-pairs search``."""

from pathlib import Path

import numpy as np
import pytest
from captum_pairs import load
from captum_pairs.cli import main
from click.testing import CliRunner, Result
from PIL import Image

FAST = ("--layer=-1,-1", "--tolerance", "0.3")


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for at in range(3):
        pixels = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{at}.png")
    return folder


def test_index_and_search(tiny_clip: Path, photos: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    (photos / "broken.png").write_text("none")
    made = _run("index", kept, "--images", photos, "--model", tiny_clip)
    assert made.exit_code == 0, made.output
    assert "3 images can be searched" in made.output and "broken.png" in made.output
    index = load(tiny_clip).index(directory=kept)
    found = _run("search", kept, "a red circle", "-k", 2)
    assert found.exit_code == 0, found.output
    assert found.output.splitlines()[-2:] == [
        str(hit) for hit in index.search("a red circle", 2)
    ]
    # the model is known from then on
    again = _run("index", kept, "--images", photos)
    assert again.exit_code == 0 and "3 images" in again.output


@pytest.mark.slow
def test_reasons_and_a_page(tiny_clip: Path, photos: Path, tmp_path: Path) -> None:
    kept, page = tmp_path / "kept", tmp_path / "new" / "out.html"
    assert _run("index", kept, "--images", photos, "--model", tiny_clip).exit_code == 0
    start = ("search", kept, "a red circle", *FAST)
    found = _run(*start, "--why", "--page", page)
    assert found.exit_code == 0, found.output
    assert "is above" in found.output and str(page) in found.output
    assert page.is_file() and list(kept.glob("contributions-*"))
    last = load(tiny_clip).index(directory=kept).search("a red circle")[-1]
    more = ("--why-not", last.key, "-k", 1, "--paraphrase", "a blue circle", "--once")
    found = _run(*start, *more)
    assert found.exit_code == 0, found.output
    assert "What keeps it away" in found.output and "words that moved" in found.output
    found = _run("search", kept, photos / "1.png")
    assert found.exit_code == 0 and f"1. +1.000 {photos / '1.png'}" in found.output


def test_what_is_wrong(tiny_clip: Path, photos: Path, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    for arguments, code, said in (
        (("search", nowhere, "red"), 2, "no index there"),
        (("index", nowhere, "--images", photos), 2, "--model is needed"),
        (("index", nowhere, "--model", tiny_clip), 2, "one of --images"),
        (("search", photos), 2, "Missing argument"),
    ):
        result = _run(*arguments)
        assert result.exit_code == code and said in result.output, result.output
    texts = tmp_path / "texts.txt"
    texts.write_text("a red circle\nsquare\n")
    kept = tmp_path / "kept"
    made = _run("index", kept, "--texts", texts, "--model", tiny_clip)
    assert made.exit_code == 0 and "2 texts can be searched" in made.output
    for arguments, code, said in (
        (("search", kept, " "), 5, "an empty text"),
        (("search", kept, "red", "-k", 0), 2, "-k"),
        (("search", kept, "red", "--paraphrase", ""), 5, "--paraphrase: expected"),
        (("search", kept, "red", "--paraphrase", "red"), 2, "for --paraphrase: "),
        (("search", kept, "red", "--why-not", "square"), 2, "for --why-not: expected"),
        (("search", kept, "red", "--layer", 9), 2, "a block from 0"),
        (("search", kept, "red", "--page", texts / "x"), 2, "s.txt is no directory"),
        (("search", kept, "red", "--page", tmp_path), 2, "is a directory"),
        (("index", kept, "--images", photos), 2, "embeddings with"),
    ):
        result = _run(*arguments)
        assert result.exit_code == code and said in result.output, result.output
    # a name that is none is told before anything is searched
    result = _run("search", kept, "red", "--why", "--why-not", "green")
    assert result.exit_code == 2 and "1. " not in result.output
    assert "for --why-not: expected an item of this index, got 'green'" in result.output
    # what lies there and is no index is not taken for nothing
    file = kept / "index.json"
    for content, said in (
        (file.read_text()[:40], "index.json is damaged"),
        ("[]", "index.json is damaged"),
        ('{"format": 2}', "it holds contributions, and is no index"),
    ):
        file.write_text(content)
        for arguments in (("search", kept, "red"), ("index", kept, "--texts", texts)):
            result = _run(*arguments)
            assert result.exit_code == 2 and said in result.output, result.output
