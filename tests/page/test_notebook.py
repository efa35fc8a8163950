"""An explanation in a notebook that is run, saved, and converted to HTML."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from explanations import image, pair, text
from lacking import lacking

CELL = """
from captum_pairs import PairExplanation
PairExplanation.load({folder!r})
"""


def _convert(notebook: Path, to: str, name: str, *options: str) -> Path:
    command = [sys.executable, "-m", "nbconvert", "--to", to, *options]
    command += ["--output", name, str(notebook)]
    folder = notebook.parent
    # nothing of the user's own settings
    places = ("HOME", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR")
    environment = os.environ | {place: str(folder) for place in places}
    root = str(Path(__file__).parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(
        [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return folder / name


def test_a_saved_notebook_still_works(browser: Any, tmp_path: Path) -> None:
    for package in ("nbconvert", "ipykernel"):
        if importlib.util.find_spec(package) is None:
            lacking(f"notebooks are tested with {package}: pip install {package}")
    found = pair(image(), text("a <b> & \"quoted\" 'dog'"))
    found.save(tmp_path / "found")
    cell = {
        "cell_type": "code",
        "id": "one",
        "execution_count": None,
        "metadata": {},
        "outputs": [],
        "source": CELL.format(folder=str(tmp_path / "found")),
    }
    written = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    notebook = tmp_path / "made.ipynb"
    notebook.write_text(json.dumps(written), encoding="utf-8")
    saved = _convert(notebook, "notebook", "saved.ipynb", "--execute")
    _works(browser, _convert(saved, "html", "saved.html"))


def _works(browser: Any, path: Path) -> None:
    """What is pointed at in the converted notebook is told, without the network."""
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto(path.as_uri())
    frame = page.frame_locator("iframe[title='Feature-pair attribution']")
    words = frame.locator(".words")
    assert words.inner_text() == "a <b> & \"quoted\" 'dog'"
    frame.locator(".word", has_text="dog").click()
    assert "dog" in frame.locator(".what").inner_text()
    assert frame.locator("#readout-title").inner_text() == "Pinned"
    context.close()
