"""A real browser, and explanations made by hand."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lacking import lacking

HERE = Path(__file__).parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """The Chromium of the system, headless."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        lacking("the page is tested with playwright: pip install playwright")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        lacking("the page is tested in Chromium: apt-get install chromium")
    # root, as in containers, has no sandbox
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=arguments)
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def axe() -> str:
    """The script that looks for what a screen reader or an eye can't use."""
    path = HERE / "node_modules" / "axe-core" / "axe.min.js"
    if not path.is_file():
        lacking("accessibility is tested with axe-core: npm ci --prefix tests/page")
    return path.read_text(encoding="utf-8")


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens explanations from disk; in the end nothing may have been written to the
    console, and nothing asked of the network."""
    from captum_pairs.show.page import write_page

    contexts, complaints, asked, opened = [], [], [], []

    def open_page(
        explanations: Any, width: int = 1200, height: int = 900, **options: Any
    ) -> Any:
        path = write_page(explanations, tmp_path / "page.html")
        size = {"width": width, "height": height}
        contexts.append(browser.new_context(viewport=size, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        opened.append(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    # pictures are in the page, which may be opened anew and write files
    named = {url.split("#")[0] for url in asked if not url.startswith("data:image/")}
    assert {url for url in named if not url.startswith("blob:")} == set(opened)
