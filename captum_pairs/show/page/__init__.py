"""A page to explore explanations: one HTML file that needs nothing else.

>>> write_page(load("scenes").explain("scene.png", "a red circle"), "out.html")
"""

import base64
import hashlib
import html
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Union

from captum_pairs.show.page._content import content_of
from captum_pairs.show.page._script import joined_script, part
from captum_pairs.show.results import (
    ComparisonLike,
    ContrastLike,
    HitsLike,
    PairLike,
    ZeroShotLike,
)

__all__ = ["page_frame", "page_html", "write_page"]

Explained = Union[PairLike, ContrastLike, ComparisonLike, ZeroShotLike, HitsLike]
_TITLE = "Feature-pair attribution"
# In pixels, until the page has said how tall it is.
_FRAME_HEIGHT = 820
# The page says so, since nobody can look into its frame. Those that are kept without
# scripts stay as they are.
_FIT = """<script>addEventListener("message", ({data, source}) => {
  const height = data && data.captumPairsHeight;
  if (typeof height !== "number" || !(height > 0 && height < 20000)) return;
  for (const frame of document.querySelectorAll("iframe[title='%s']")) {
    if (frame.contentWindow === source) frame.style.height = `${Math.ceil(height)}px`;
  }
});</script>"""


def write_page(
    explanations: Union[Explained, Sequence[Explained]], path: Union[str, Path]
) -> Path:
    """
    Writes a page to explore explanations, contrasts, comparisons and classifications
    with mouse or keyboard.

    Args:
        explanations: one, or several to step through; or hits of a search.
        path: of the file, such as "out.html"; folders are made.

    Raises:
        InvalidArgumentError: if there are none, or one has a number that is not finite.
    """
    target = Path(path)
    content = page_html(explanations)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Half of a surrogate pair is no character, and can't be written as one.
    target.write_bytes(content.encode("utf-8", "replace"))
    return target


def page_html(explanations: Union[Explained, Sequence[Explained]]) -> str:
    """The page as a string: its data, style and script are in it, it loads nothing.

    Args, Raises: see :func:`write_page`.
    """
    several = explanations if isinstance(explanations, Sequence) else [explanations]
    content = content_of(several)
    style, script = part("page.css"), joined_script()
    policy = (
        f"default-src 'none'; script-src {_digest(script)}; "
        f"style-src {_digest(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    parts = {
        "policy": policy,
        "title": html.escape(content["title"]),
        "style": style,
        "summary": html.escape("\n\n".join(_in_words(content, several))),
        "data": _json(content),
        "script": script,
    }
    pieces = part("template.html").split("{{")
    page = [pieces[0]]
    for piece in pieces[1:]:
        name, rest = piece.split("}}", 1)
        page += [parts[name], rest]
    return "".join(page)


def page_frame(explanation: Union[Explained, Sequence[Explained]]) -> str:
    """The page inside another one, as notebooks show and keep it: a frame that has all
    of it, is as tall as that, and can reach nothing of what is around."""
    inside = html.escape(page_html(explanation).encode("utf-8", "replace").decode())
    return (
        f'<iframe sandbox="allow-scripts allow-downloads" title="{_TITLE}" '
        f'style="width: 100%; height: {_FRAME_HEIGHT}px; border: 0" '
        f'srcdoc="{inside}"></iframe>{_FIT % _TITLE}'
    )


def _in_words(content: dict[str, Any], several: Sequence[Explained]) -> Iterator[str]:
    """What is there without scripts."""
    if isinstance(several[0], HitsLike):
        yield f"{content['title']}\n{several[0].summary()}"
        return
    entries = iter(content["entries"])
    for each in several:
        own = each.compared if isinstance(each, ComparisonLike) else [each]
        first, *_ = [next(entries) for _ in own]
        yield f"{first['label']}\n{each.summary()}"


def _digest(text: str) -> str:
    """By which a content security policy allows this text only."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _json(content: object) -> str:
    """JSON that can stand inside of a script element: nothing ends it, or opens a
    comment; ASCII, so that no line separator is in it."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text
