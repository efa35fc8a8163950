"""The site: every public name is on it, and its links are looked at."""

import importlib
import re
from pathlib import Path

import captum_pairs
import check
import outside
import pytest
import reference

DOCS = Path(__file__).parents[2] / "docs"
PACKAGE = DOCS.parent / "captum_pairs"


FIGURES = "captum_pairs.attr.visualization"


def _public_modules() -> list[str]:
    """Those whose source has an ``__all__``: without the site's own code."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(DOCS.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        is_private = any(part.startswith("_") for part in name.split("."))
        if not is_private and re.search(r"^__all__ = ", path.read_text(), re.M):
            found.append(name)
    return [*found, FIGURES]


def test_every_public_module_is_on_a_page() -> None:
    modules = _public_modules()
    assert len(modules) > 50
    patterns = [pattern for page in reference.PAGES for pattern in page.modules]
    for module in modules:
        found = [
            each for each in patterns if module in reference._matching(each, [module])
        ]
        assert found, module


@pytest.mark.slow
def test_every_public_name_is_on_a_page(tmp_path: Path) -> None:
    reference.write(tmp_path)
    text = "\n".join(path.read_text() for path in sorted(tmp_path.glob("*.rst")))
    places = re.findall(
        r"^\.\. (?:autoclass|autofunction|py:data):: (\S+)$", text, re.M
    )
    assert len(places) == len(set(places))
    documented = set(places)
    # one thing that several modules export is in one place, and linked from the others
    linked = set(re.findall(r":any:`(\S+)`", text))
    assert linked <= documented
    names = {place.rpartition(".")[2] for place in documented}
    for module in _public_modules():
        if module == FIGURES:
            public = importlib.import_module("captum_pairs.attr").visualization.__all__
        else:
            public = importlib.import_module(module).__all__
        assert f"\n.. py:module:: {module}\n" in text
        for name in public:
            here = f"{module}.{name}" in documented
            elsewhere = name in names and f"``{name}``: :any:`" in text
            is_module = f"``{name}``: a module, :mod:`{module}.{name}`" in text
            assert here or elsewhere or is_module, f"{module}.{name}"
    # what a user imports is where a user looks for it
    for name in captum_pairs.__all__:
        assert f"captum_pairs.{name}" in documented


def test_what_is_new_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = {"captum_pair.new": outside}
    monkeypatch.setattr(reference, "exporting_modules", lambda: modules)
    with pytest.raises(AssertionError, match="on no page.*captum_pair.new"):
        reference.entries()


def test_broken_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "picture.png").write_bytes(b"")
    (tmp_path / "a.html").write_text(
        '<a href="in/b.html#there">x</a><a href="in/b.html#gone">x</a>'
        '<a href="no.html">x</a><img src="picture.png"><img src="no.png">'
        '<a href="https://example.org/no">x</a><a href="#">x</a>'
        '<iframe src="in/b.html#entry=2&pair=1"></iframe><a href="../up.html">x</a>'
    )
    (tmp_path / "in" / "b.html").write_text('<p id="there"><a href="../a.html">x</a>')
    assert check.broken_links(tmp_path) == [
        "a.html: in/b.html#gone",
        "a.html: no.html",
        "a.html: no.png",
        "a.html: ../up.html",
    ]


def test_links_of_what_stands_outside(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    for name in (
        "docs/start.md",
        "docs/images/a.png",
        "CHANGELOG.md",
        "captum_pairs/model.py",
        "tutorials/01_first.md",
        "tutorials/01_first.ipynb",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    found = outside._moved(
        "[a](docs/start.md#b) ![p](docs/images/a.png) [c](captum_pairs/model.py) "
        "[d](captum_pairs) [e](https://x.org/docs) [f](#here) [g](CHANGELOG.md) "
        "[h](docs/no.md) [i](tutorials/01_first.md)",
        tmp_path / "README.md",
        docs / "questions",
    )
    repository = outside.REPOSITORY
    assert found == (
        f"[a](../start.md#b) ![p](../images/a.png) "
        f"[c]({repository}blob/main/captum_pairs/model.py) "
        f"[d]({repository}tree/main/captum_pairs) [e](https://x.org/docs) [f](#here) "
        f"[g](../changelog.md) [h](docs/no.md) [i](../tutorials/01_first.ipynb)"
    )


def test_pictures_of_notebooks_come_along(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    picture = tmp_path / "tutorials" / "images" / "a.jpg"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"a picture")
    source = tmp_path / "tutorials" / "01_first.md"
    found = outside._moved("![a](images/a.jpg)", source, docs / "tutorials")
    assert found == "![a](images/a.jpg)"
    assert (docs / "tutorials" / "images" / "a.jpg").read_bytes() == b"a picture"


def test_the_readme_is_quoted() -> None:
    text = (DOCS / "index.md").read_text() + (DOCS / "models.md").read_text()
    quoted = outside._INCLUDED.findall(text)
    assert quoted == [
        ("Two commands", "block"),
        ("Which model do you have?", "table"),
    ]
    assert "captum-pairs demo" in outside._of_readme(DOCS / "index.md", *quoted[0])
    table = outside._of_readme(DOCS / "models.md", *quoted[1])
    assert table.startswith("| your model |") and '"scenes"' in table
    with pytest.raises(ValueError, match="no table below 'Nothing'"):
        outside._of_readme(DOCS / "models.md", "Nothing", "table")


def test_every_page_is_reached() -> None:
    """From the home page's table of contents, or that of the questions."""
    listed = set()
    for index in (DOCS / "index.md", DOCS / "questions" / "index.md"):
        for block in re.findall(r"```{toctree}\n(.*?)```", index.read_text(), re.S):
            for line in block.splitlines():
                if line and not line.startswith(":"):
                    listed.add((index.parent / line).relative_to(DOCS).as_posix())
    written = {
        path.relative_to(DOCS).with_suffix("").as_posix()
        for folder in (DOCS, DOCS / "questions")
        for path in folder.glob("*.md")
    }
    made = {page.removesuffix(".md") for page in outside.PAGES.values()}
    left = written - listed - {"index", "search"}
    assert left == set()
    others = {"api/index", "tutorials/index", *made, *outside.OPTIONAL}
    assert listed - written <= others
