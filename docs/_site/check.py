"""
Whether every link of the built site leads somewhere: pages, anchors, pictures, frames.

    python docs/_site/check.py docs/_build/html

Addresses of other sites are not asked for: no check needs a network.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Where an address may stand.
_ADDRESSES = {"href", "src", "poster", "data-src"}


class _Page(HTMLParser):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.addresses: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value is not None:
                if name == "id" or name == "name" and tag == "a":
                    self.anchors.add(value)
                elif name in _ADDRESSES:
                    self.addresses.append(value)


def broken_links(site: Path) -> list[str]:
    """What leads nowhere: "page: address"."""
    site = site.resolve()
    pages = {path: _Page(path) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        for address in dict.fromkeys(page.addresses):
            if not _leads_somewhere(address, path, site, pages):
                found.append(f"{path.relative_to(site)}: {address}")
    return found


def _leads_somewhere(
    address: str, source: Path, site: Path, pages: dict[Path, _Page]
) -> bool:
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return True
    target = source
    if parts.path:
        target = (source.parent / unquote(parts.path)).resolve()
        if target.is_dir():
            target /= "index.html"
    if not target.is_file() or not target.is_relative_to(site):
        return False
    anchor = unquote(parts.fragment)
    # a page to explore reads its own address, which names no anchor
    if not anchor or target not in pages or "=" in anchor:
        return True
    return anchor in pages[target].anchors


def main() -> None:
    """Prints what leads nowhere; the exit code says whether there is anything."""
    site = Path(sys.argv[1])
    pages = len(list(site.rglob("*.html")))
    if not pages:
        sys.exit(f"{site} has no pages")
    found = broken_links(site)
    print("\n".join(found) or f"{pages} pages, no broken link")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
