"""Frames need pyarrow, and are compared with scored files."""

import importlib.util

from tests.runtime.scoring.conftest import score_here  # noqa: F401  # a fixture

if not importlib.util.find_spec("pyarrow"):
    collect_ignore_glob = ["test_*.py"]
