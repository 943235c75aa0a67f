"""Sphinx builds the documentation: ``python -m sphinx -W -b html docs exp/docs``."""

from asr_bn import __version__

project = "asr_bn"
author = "The asr_bn maintainers"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
# Files outside docs/ are read where the repository is.
suppress_warnings = ["myst.xref_missing"]

# Single backticks in docstrings are code.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"members": True}

html_theme = "furo"
html_title = "asr_bn"
