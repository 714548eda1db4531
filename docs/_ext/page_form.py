"""Pages that are programs, in a long form and in a short one.

A line ``epochs = 40  # short: 4`` is ``epochs = 40`` in the long form of the page and
``epochs = 4`` in the short one, which CI builds: what a page shows is what has run.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_EITHER = re.compile(r"^( *\w+ = )(.*?)  # short: (.*)$", re.MULTILINE)
FORMS = ("long", "short")


def in_form(source: str, form: str) -> str:
    """Return the text of a page in one of its forms."""
    if form not in FORMS:
        raise ValueError(f"`pages_form` must be one of {FORMS}. Received: {form!r}")
    return _EITHER.sub(r"\1\2" if form == "long" else r"\1\3", source)


def _choose(app: Sphinx, docname: str, source: list[str]) -> None:
    source[0] = in_form(source[0], app.config.pages_form)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.add_config_value("pages_form", "long", "env", str)
    app.connect("source-read", _choose)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
