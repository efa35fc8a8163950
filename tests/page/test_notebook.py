"""An explanation in a notebook that is run, saved, and converted to HTML."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from explanations import image, pair, text
from lacking import lacking

CELL = """
from captum_pairs import PairExplanation
PairExplanation.load({folder!r})
"""
TEXT = "a <b> & \"quoted\" 'dog'"


def _notebook(source: str, outputs: list[Any]) -> dict[str, Any]:
    """A notebook of one cell."""
    cell = {
        "cell_type": "code",
        "id": "one",
        "execution_count": None,
        "metadata": {},
        "outputs": outputs,
        "source": source,
    }
    return {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def test_what_a_notebook_keeps_works(browser: Any, tmp_path: Path) -> None:
    _needs("nbconvert")
    from nbconvert import HTMLExporter
    from nbformat import from_dict

    shown = pair(image(), text(TEXT))._repr_html_()
    output = {"output_type": "display_data", "metadata": {}, "data": {}}
    output["data"] = {"text/html": shown, "text/plain": "an explanation"}
    body, _ = HTMLExporter().from_notebook_node(from_dict(_notebook("", [output])))
    path = tmp_path / "kept.html"
    path.write_text(body, encoding="utf-8")
    _works(browser, path)


@pytest.mark.slow
def test_a_saved_notebook_still_works(browser: Any, tmp_path: Path) -> None:
    _needs("nbconvert", "ipykernel")
    pair(image(), text(TEXT)).save(tmp_path / "found")
    source = CELL.format(folder=str(tmp_path / "found"))
    notebook = tmp_path / "made.ipynb"
    notebook.write_text(json.dumps(_notebook(source, [])), encoding="utf-8")
    saved = _convert(notebook, "notebook", "saved.ipynb", "--execute")
    _works(browser, _convert(saved, "html", "saved.html"))


def _needs(*packages: str) -> None:
    for package in packages:
        if importlib.util.find_spec(package) is None:
            lacking(f"notebooks are tested with {package}: pip install {package}")


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


def _works(browser: Any, path: Path) -> None:
    """What is pointed at in the converted notebook is told, without the network."""
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto(path.as_uri())
    frame = page.frame_locator("iframe[title='Feature-pair attribution']")
    words = frame.locator(".words")
    assert words.inner_text() == TEXT
    frame.locator(".word", has_text="dog").click()
    assert "dog" in frame.locator(".what").inner_text()
    assert frame.locator("#readout-title").inner_text() == "Pinned"
    # the frame is as tall as what is in it, and stays so
    for _ in range(2):
        page.wait_for_timeout(100)
        height = page.locator("iframe").bounding_box()["height"]
        inside = frame.locator("body").bounding_box()["height"]
        assert inside <= height < inside + 2
    context.close()
