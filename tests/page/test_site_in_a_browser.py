"""The built site in a real browser: on a phone, in the dark, with a screen reader."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lacking import lacking

ROOT = Path(__file__).parents[2]
# One of each kind; the reference by its smallest page with classes and functions.
PAGES = (
    "index",
    "start",
    "models",
    "concepts",
    "visualization",
    "from_captum",
    "limitations",
    "report_key",
    "questions/wrong_word",
    "retrieval",
    "tutorials/07_which_method_can_i_trust",
    "api/show",
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def site() -> Path:
    """Where .ci/gates docs builds it, too: what is there already is not made anew."""
    try:
        import myst_nb  # noqa: F401
    except ImportError:
        lacking('the site is made with the extra docs: pip install ".[docs]"')
    made = ROOT / "docs" / "_build" / "html"
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-j", "2"]
    done = subprocess.run(
        [*command, "docs", str(made)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture(params=[("light", 1200), ("dark", 360)], ids=lambda each: each[0])
def opened(request: pytest.FixtureRequest, browser: Any) -> Iterator[Any]:
    """A page of that scheme and width."""
    scheme, width = request.param
    size = {"width": width, "height": 900}
    context = browser.new_context(viewport=size, color_scheme=scheme)
    yield context.new_page()
    context.close()


def test_no_link_is_broken(site: Path) -> None:
    command = [sys.executable, str(ROOT / "docs" / "_site" / "check.py"), str(site)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert int(done.stdout.split()[0]) > 40  # pages


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing(site: Path, opened: Any, axe: str, name: str) -> None:
    asked: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto((site / f"{name}.html").as_uri())
    opened.evaluate(axe)
    # the pages in frames have tests of their own
    found = opened.evaluate("axe.run({preload: false, iframes: false})")
    assert [(r["id"], r["nodes"][0]["html"]) for r in found["violations"]] == []
    # nothing sticks out of a phone, and nothing is asked of a network
    width = opened.viewport_size["width"]
    assert opened.evaluate("document.documentElement.scrollWidth") == width
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def test_a_page_to_explore_is_live(site: Path, opened: Any) -> None:
    opened.goto((site / "index.html").as_uri())
    inside = opened.frame_locator("iframe.explore")
    assert "a blue star" in inside.locator("#heading").inner_text()
    # it has told how tall it is: nothing in it has to be scrolled
    opened.wait_for_timeout(500)
    frame = opened.locator("iframe.explore")
    assert frame.bounding_box()["height"] > 500
    height = inside.locator("html").evaluate("each => each.scrollHeight")
    assert height <= frame.bounding_box()["height"] + 2
