"""What stands outside of docs/ and is on the site, and links to what is not."""

import os
import re
from pathlib import Path
from typing import Any

import jupytext
import nbformat

REPOSITORY = "https://github.com/captum-pairs/captum-pairs/"
# Pages that other work may bring, and their place in the table of contents.
OPTIONAL = ("retrieval", "late_interaction", "scores")
# Files at the root, and their pages.
PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "captum_pairs/scenes/checkpoints/MODEL_CARD.md": "model_card.md",
    # the site's own search has this name
    "docs/search.md": "retrieval.md",
}
# Between these the site has the same as the README, which says it once.
_INCLUDED = re.compile(
    r"<!-- README: ([^\n]*), first (block|table) -->.*?<!-- end -->", re.DOTALL
)
_KINDS = {"block": r"```.*?\n```\n", "table": r"(?:^\|[^\n]*\n)+"}
_LINK = re.compile(r"(?<=\]\()(?!\w+:|#|<)([^)\s#]*)((?:#[^)\s]*)?)(?=\))")


def copy(docs: Path) -> None:
    """Copies pages and notebooks into `docs`, their links as from there."""
    root = docs.parent
    for name, page in PAGES.items():
        if (root / name).is_file():
            text = (root / name).read_text("utf-8")
            _write(docs / page, _moved(text, root / name, docs))
    folder = docs / "tutorials"
    kept = set()
    for source in sorted((root / "tutorials").glob("[0-9]*.md")):
        executed = source.with_suffix(".ipynb")
        if executed.is_file():
            text = executed.read_text("utf-8")
        else:
            text = _without_outputs(source.read_text("utf-8"))
        kept.add(_write(folder / executed.name, _moved(text, source, folder)))
    for left in {*folder.glob("[0-9]*")} - kept:
        left.unlink()
    index = [*_TUTORIALS.splitlines(), *sorted(path.stem for path in kept), "```", ""]
    _write(folder / "index.md", "\n".join(index))


_TUTORIALS = """\
# Notebooks

Each tells one story in under a minute on two cores, offline, with the model that comes
with the package or real weights from a package, and says how to run it on yours. They
are in the folder [tutorials]({0}tree/main/tutorials) as text, and beside it with what
came out, which opens on GitHub; all are run before each release.

```{{toctree}}
:maxdepth: 1
""".format(
    REPOSITORY
)


def lead_out(app: Any, name: str, text: list[str]) -> None:
    """Of a page that Sphinx reads: links to files that are not on the site lead to the
    repository, and those to copied files to their pages."""
    docs = Path(app.srcdir)
    page = docs / name
    if page.is_relative_to(docs / "api") or page.parent.name == "tutorials":
        return
    text[0] = _INCLUDED.sub(lambda mark: _of_readme(page, *mark.groups()), text[0])
    text[0] = _moved(text[0], page, page.parent)
    if name == "index":
        for each in OPTIONAL:
            if not (docs / f"{each}.md").is_file():
                text[0] = text[0].replace(f"\n{each}\n", "\n")


def _without_outputs(source: str) -> str:
    """Of a notebook that was not run yet; the same source gives the same."""
    notebook = jupytext.reads(source, fmt="md:myst")
    for at, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{at:02d}"
    return nbformat.writes(notebook)


def _of_readme(page: Path, section: str, kind: str) -> str:
    """The first block or table below a heading of the README."""
    readme = Path(__file__).parents[2] / "README.md"
    _, _, below = readme.read_text("utf-8").partition(f"\n## {section}\n")
    found = re.search(_KINDS[kind], below, re.MULTILINE | re.DOTALL)
    if found is None:
        raise ValueError(f"{page}: the README has no {kind} below {section!r}")
    return _moved(found[0], readme, page.parent)


def _write(path: Path, text: str) -> Path:
    """Not touched if it is the same: Sphinx then need not read it again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or path.read_text("utf-8") != text:
        path.write_text(text, "utf-8")
    return path


def _moved(text: str, source: Path, folder: Path) -> str:
    """The text of `source` with its links as from a page in `folder`."""
    docs = next(each for each in (folder, *folder.parents) if each.name == "docs")
    root = docs.parent

    def moved(link: re.Match[str]) -> str:
        path, anchor = link.groups()
        target = (source.parent / path).resolve()
        if not path or not target.exists() or not target.is_relative_to(root):
            return link[0]
        name = target.relative_to(root).as_posix()
        if name in PAGES:
            target = docs / PAGES[name]
        elif target.is_dir() or not _is_page(target, docs):
            if re.fullmatch(r"tutorials/\d.*\.(md|ipynb)", name):
                target = (docs / name).with_suffix(".ipynb")
            elif target.suffix in (".jpg", ".png"):
                target = docs / name
                _copied(root / name, target)
            else:
                kind = "tree" if target.is_dir() else "blob"
                return f"{REPOSITORY}{kind}/main/{name}{anchor}"
        return f"{_relative(target, folder)}{anchor}"

    return _LINK.sub(moved, text)


def _is_page(target: Path, docs: Path) -> bool:
    """Whether the site has it; the bundle for Captum is no part of it."""
    bundle = docs / "upstream"
    return target.is_relative_to(docs) and not target.is_relative_to(bundle)


def _copied(picture: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(picture.read_bytes())


def _relative(target: Path, folder: Path) -> str:
    return Path(os.path.relpath(target, folder)).as_posix()
