"""Check the links of a built site: each leads to a file of it, and to a place in that file.

Usage: python dev/check_links.py build/docs/html

Links to other sites are not followed.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """Where a page's links lead, and the places that links may lead to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value is None:
                continue
            if name in ("id", "name"):
                self.places.add(value)
            elif name in ("href", "src"):
                self.links.append(value)


def broken_links(site: Path) -> list[str]:
    """Return one line for each link of the site's pages that leads nowhere."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            place = unquote(parts.fragment)
            if not target.is_file():
                found.append(f"{path.relative_to(site)}: no file for {link}")
            elif place and target in pages and place not in pages[target].places:
                found.append(f"{path.relative_to(site)}: no place for {link}")
    return found


def main(site: str) -> int:
    folder = Path(site).resolve()
    pages = len(list(folder.rglob("*.html")))
    if not pages:
        print(f"{site}: no pages")
        return 1
    found = broken_links(folder)
    print(*found, sep="\n", end="\n" if found else "")
    print(f"{pages} pages, {len(found)} broken links")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
