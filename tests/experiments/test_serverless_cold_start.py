"""The cold start experiment measures each step from before the process to its first answer."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from experiments.serverless_cold_start import run


def test_cold_start_steps_add_up(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dropped: list[Path] = []
    monkeypatch.setattr(run, "drop_from_page_cache", dropped.extend)  # what the other tests read stays in memory
    arguments = [bundle, "--python", sys.executable, "--rounds", 2, "--output", tmp_path / "result", "--title", "Tiny"]
    done = CliRunner().invoke(run.main, [str(each) for each in arguments])
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "result" / "result.json").read_text())
    assert {state: len(starts) for state, starts in result["starts"].items()} == {"in memory": 2, "not in memory": 2}
    for start in (*result["starts"]["in memory"], *result["starts"]["not in memory"]):
        assert sum(start[step] for step in run.STEPS) == pytest.approx(start["total"])
        assert start["load"] > 0
        assert start["peak_mb"] > 10
    assert result["precision"] == "int8"
    assert bundle / "model_int8.onnx" in dropped
    assert any("numpy" in path.parts for path in dropped)
    page = (tmp_path / "result" / "README.md").read_text()
    assert page.count("| in memory |") == page.count("| not in memory |") == 1


def test_python_without_manylabel_error(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "python").write_text("#!/bin/sh\necho no such thing >&2\nexit 1\n")
    (tmp_path / "python").chmod(0o755)
    arguments = [bundle, "--python", tmp_path / "python", "--output", tmp_path / "result", "--title", "Tiny"]
    done = CliRunner().invoke(run.main, [str(each) for each in arguments])
    assert done.exit_code == 1
    assert "failed: no such thing" in done.output
