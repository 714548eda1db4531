"""The site of this package: ``nox -s docs`` builds it, ``nox -s docs_long`` with long trainings."""

import os
import sys
from pathlib import Path

import fusednn

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "fusednn"
copyright = "the authors of fusednn, Apache-2.0"
version = release = fusednn.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "api_pages",
    "mathml",
    "page_form",
    "page_kernel",
]
exclude_patterns = ["_build", "_ext"]
nitpicky = True
# Names in single backticks are linked where there is something to link to: most are arguments.
default_role = "py:obj"
# So are types, in the words of NumPy's style ("ndarray, shape (n,)").
nitpick_ignore_regex = [("py:obj", ".*"), ("py:class", "[^.]*")]
suppress_warnings = ["ref.python"]  # an argument `shape` is an attribute of two classes

# --- Pages that are programs ------------------------------------------------------------------

#: "short": trainings of a few epochs, for CI; "long": those that the pages are about.
pages_form = os.environ.get("FUSEDNN_DOCS", "long")
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
nb_output_stderr = "warn"  # a page says what it says on purpose
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

# --- Reference from docstrings ----------------------------------------------------------------

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"members": True}
autodoc_inherit_docstrings = False
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_param = False
napoleon_use_ivar = False
napoleon_preprocess_types = False
toc_object_entries_show_parents = "hide"

# --- Looks ------------------------------------------------------------------------------------

html_math_renderer = "mathml"
html_theme = "furo"
html_title = f"fusednn {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
