"""How the site is made: Sphinx reads the repository from its root, so that a link is right here where it is there."""

import sys
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))

import generated

from manylabel import __version__

project = "manylabel"
release = __version__
copyright = "the authors of manylabel, Apache-2.0"
root_doc = "docs/index"
include_patterns = ["docs/**", "benchmarks/results/**.md", "examples/README.md", "*.md"]
exclude_patterns = [".*", "build", "dist", "runtime", "export", "tests", "deploy", "constraints"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}

myst_heading_anchors = 3
myst_disable_syntax = ["myst_line_comment"]  # a line may begin with "%"
smartquotes = False  # quotes in a command's help are typed
# A docstring's `name` is code, as in Markdown.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_mock_imports = ["ray", "pyspark"]  # half a gigabyte, for two signatures
python_use_unqualified_type_names = True
# What our docstrings name of other people's libraries is not looked up: their indices lie on the network.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!manylabel).*")]
nitpick_ignore = [("py:class", "manylabel.scoring.planner.ShardPlan")]  # what a job keeps to itself

html_theme = "furo"
html_title = f"manylabel {release}"
html_extra_path = ["_extra"]
html_copy_source = False
html_show_sphinx = False


def setup(app: Sphinx) -> None:
    """Pages, or ends of pages, that are made from the program and from the tree."""
    app.connect("source-read", generated.complete)
    app.connect("autodoc-process-docstring", generated.keep_drawings)
