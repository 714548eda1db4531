"""The site's own tools: forms of pages, the guide's pages, the check of links, which can fail."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs/guide").glob("*.md"))


def load(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


page_form = load("docs/_ext/page_form.py")
check_links = load("dev/check_links.py")


def test_forms_of_a_page() -> None:
    source = "a = 1\n    epochs = 40  # short: 4\nrest  # short story\n"
    assert page_form.in_form(source, "long") == "a = 1\n    epochs = 40\nrest  # short story\n"
    assert page_form.in_form(source, "short") == "a = 1\n    epochs = 4\nrest  # short story\n"
    with pytest.raises(ValueError, match=r"`pages_form` must be one of .* Received: 'quick'"):
        page_form.in_form(source, "quick")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_pages_of_the_guide(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    listed = (ROOT / "docs/guide/index.md").read_text(encoding="utf-8")
    if page.stem == "index":
        return
    assert re.search(rf"^{page.stem}$", listed, re.MULTILINE)
    assert text.startswith("---\nfile_format: mystnb\n")
    for form in page_form.FORMS:
        for cell in re.findall(r"^```\{code-cell\}\n(?::.*\n)*(.*?)^```$", text, re.M | re.S):
            compile(page_form.in_form(cell, form), str(page), "exec")
    assert ":tags: [remove-cell]\n\n" in text, "no cell that asserts what the text says"


def test_broken_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.html").write_text(
        '<p id="top"><a href="sub/b.html#there">b</a> <a href="#top">top</a> '
        '<a href="https://example.org/x">elsewhere</a> <a href="sub/b.html">b</a></p>'
    )
    (tmp_path / "sub/b.html").write_text('<p id="there"><a href="../a.html#top">a</a></p>')
    assert check_links.broken_links(tmp_path) == []
    assert check_links.main(str(tmp_path)) == 0

    (tmp_path / "sub/b.html").write_text(
        '<a href="../c.html">c</a><img src="p.png"><a href="../a.html#bottom">a</a>'
    )
    assert check_links.broken_links(tmp_path) == [
        "a.html: no place for sub/b.html#there",
        "sub/b.html: no file for ../c.html",
        "sub/b.html: no file for p.png",
        "sub/b.html: no place for ../a.html#bottom",
    ]
    assert check_links.main(str(tmp_path)) == 1
    assert check_links.main(str(tmp_path / "sub/none")) == 1
