"""Whatever is sent, the server keeps to its own OpenAPI document and never answers 5xx."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

if importlib.util.find_spec("schemathesis") is None:
    pytest.skip("needs schemathesis", allow_module_level=True)

EXAMPLES = 20
"""For each operation and kind of data: all of them together take less than a minute on one core."""
CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")


def test_server_conforms_to_its_openapi_document(url: str, tmp_path: Path) -> None:
    """By the command line: schemathesis' plugin does not run under every pytest."""
    command = [sys.executable, "-W", "ignore", "-c", "from schemathesis.cli import schemathesis; schemathesis()"]
    command += ["run", f"{url}/openapi.json", "--max-examples", str(EXAMPLES), "--checks", ",".join(CHECKS)]
    command += ["--seed", "0", "--phases", "examples,coverage,fuzzing", "--mode", "all", "--no-color"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
