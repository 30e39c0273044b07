"""How the documentation is built: `make docs`, without a network."""

import sys
from pathlib import Path

import saddlepoint

sys.path.insert(0, str(Path(__file__).parent))
from generated import notebooks, write

project, author = "Saddlepoint", "The Saddlepoint developers"
version = release = saddlepoint.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
default_role = "py:obj"
smartquotes = False  # it would make one dash of the two before a flag
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring, napoleon_numpy_docstring = True, False
html_theme = "pydata_sphinx_theme"
html_title = "Saddlepoint"
html_show_sourcelink = False
html_show_search_summary = False  # a page that is opened from a disk cannot fetch the text around a hit
html_theme_options = {"show_prev_next": False, "navigation_with_keys": False, "secondary_sidebar_items": ["page-toc"]}

write(Path(__file__).parent / "reference")
notebooks(Path(__file__).parent)


def escaped(app, what, name, obj, options, lines):  # noqa: ANN001, ANN201 - as Sphinx calls it
    """Escape what the docstrings mean literally: |x| is no substitution, and a* is no emphasis."""
    lines[:] = [line.replace("\\", "\\\\").replace("|", "\\|").replace("*", "\\*") for line in lines]


def setup(app) -> None:  # noqa: ANN001 - as Sphinx calls it
    """Register what is done to docstrings."""
    app.connect("autodoc-process-docstring", escaped, priority=900)
