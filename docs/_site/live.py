"""The pages to explore that the site shows: made by the package itself, at each build.

They are small, and show what the package writes today."""

import hashlib
from pathlib import Path

import scene
from captum_pairs.show.page import write_page

# What they are made of: the package's files, and this folder's.
_SOURCES = ("captum_pairs/**/*.py", "captum_pairs/show/page/*", "docs/_site/*.py")


def write(folder: Path) -> None:
    """Writes explanation.html, contrast.html and classes.html, unless they are made of
    these sources already."""
    root = Path(__file__).parents[2]
    files = sorted(path for each in _SOURCES for path in root.glob(each))
    mark = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    done = folder / "made_of.txt"
    if done.is_file() and done.read_text() == mark:
        return
    model, image = scene.model(), scene.scene().image
    right = model.explain(image, scene.RIGHT)
    wrong = model.contrast(image, scene.RIGHT, scene.WRONG)
    classes = ["blue star", "blue moon", "red star", "white heart"]
    found = model.zero_shot(image, classes, template="a {}")
    for name, result in (
        ("explanation", right),
        ("contrast", wrong),
        ("classes", found),
    ):
        write_page(result, folder / f"{name}.html")
    done.write_text(mark)
