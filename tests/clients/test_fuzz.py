"""Fuzzing: for any request, the server conforms to its OpenAPI document and never responds with 5xx."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

if importlib.util.find_spec("schemathesis") is None:
    pytest.skip("needs schemathesis", allow_module_level=True)

EXAMPLES = 20
"""Examples per operation and kind of data; all of them take less than a minute on one core."""

CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")


def test_server_conforms_to_its_openapi_document(url: str, tmp_path: Path) -> None:
    """Run schemathesis as a command, since its plugin does not support every version of pytest."""
    command = [sys.executable, "-W", "ignore", "-c", "from schemathesis.cli import schemathesis; schemathesis()"]
    command += ["run", f"{url}/openapi.json", "--max-examples", str(EXAMPLES), "--checks", ",".join(CHECKS)]
    command += ["--seed", "0", "--phases", "examples,coverage,fuzzing", "--mode", "all", "--no-color"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
