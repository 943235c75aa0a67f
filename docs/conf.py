"""Sphinx builds the documentation: ``python -m sphinx -W -c docs . exp/docs``, from ``docs/index.md`` on."""

from asr_bn import __version__

project = "asr_bn"
author = "The asr_bn maintainers"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
# The repository's own pages belong to it, so that links work here as they do there.
root_doc = "docs/index"
include_patterns = ["*.md", "docs/*.md", "recipes/*/README.md"]
exclude_patterns = ["LICENCES.md", ".*", "exp", "build", "dist", "tests", "asr_bn", "serve"]

# Single backticks in docstrings are code.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"members": True}

html_theme = "furo"
html_title = "asr_bn"
html_show_copyright = False
