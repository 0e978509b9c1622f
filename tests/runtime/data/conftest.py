"""Files in Arrow, and file systems, need pyarrow."""

import importlib.util

if not importlib.util.find_spec("pyarrow"):
    collect_ignore = ["test_blocks.py", "test_filesystem.py"]
