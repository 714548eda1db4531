"""The IPython that runs the pages: pictures as SVG, output in one piece."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_CONFIG = """
c.InlineBackend.figure_formats = {"svg"}
# Where output is sent in several pieces, myst-nb joins them with blank lines.
c.InteractiveShellApp.exec_lines = ["__import__('sys').stdout.flush_interval = 1e6"]
"""

_folder = TemporaryDirectory()


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension; kernels inherit the environment."""
    profile = Path(_folder.name, "profile_default")
    profile.mkdir()
    (profile / "ipython_kernel_config.py").write_text(_CONFIG, encoding="utf-8")
    os.environ["IPYTHONDIR"] = _folder.name
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
