"""Sphinx configuration. Sphinx reads from the repository's root, so links work on the site as in the repository."""

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
RESULTS = ["benchmarks/**.md", "tests/fault_injection/results/**.md"]
include_patterns = ["docs/**", *RESULTS, "examples/README.md", "*.md"]
exclude_patterns = [".*", "build", "dist", "runtime", "export", "tests/[!f]*", "deploy", "constraints"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}

myst_heading_anchors = 3
myst_disable_syntax = ["myst_line_comment"]  # a line may start with "%"
smartquotes = False  # quotes in help texts are part of commands
# A docstring's `name` is code, as in Markdown.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_mock_imports = ["ray", "pyspark"]  # half a gigabyte that only two signatures need
python_use_unqualified_type_names = True
# Names of third-party libraries in docstrings are not resolved: their indices are on the network.
nitpicky = True
suppress_warnings = ["ref.python"]  # the type `bytes` in a signature also matches attributes of that name
nitpick_ignore_regex = [("py:.*", r"(?!manylabel).*")]
nitpick_ignore = [  # internal types in public signatures
    ("py:class", "manylabel.scoring.planner.ShardPlan"),
    ("py:class", "manylabel.explain.occlusion.OcclusionInput"),
    ("py:class", "manylabel.inference.predictions.Predictor"),
]

html_theme = "furo"
html_title = f"manylabel {release}"
html_extra_path = ["_extra"]
html_copy_source = False
html_show_sphinx = False


def setup(app: Sphinx) -> None:
    """Register the functions that generate parts of pages."""
    app.connect("source-read", generated.complete)
    app.connect("autodoc-process-docstring", generated.keep_drawings)
