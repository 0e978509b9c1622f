"""An export keeps about two copies of the weights in memory: measured on a model of 190 MB."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.helpers.toy import write_checkpoint

from experiments.export_memory.run import main

MOST = 4
"""Copies of the weights that the process may hold itself, with a margin for what does not grow with the model."""


def test_export_memory_is_a_few_copies_of_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    size = ["--layers", "2", "--width", "256", "--vocabulary", "180000", "--precision", "int8"]
    folders = ["--scratch", str(tmp_path / "scratch"), "--output", str(tmp_path / "result")]
    done = CliRunner().invoke(main, [str(write_checkpoint(tmp_path / "tiny")), *size, *folders])
    assert done.exit_code == 0, done.output
    (found,) = json.loads((tmp_path / "result" / "result.json").read_text())["sizes"].values()
    row = found["exports"]["int8"]
    assert 1 < row["copies"] < MOST
    assert row["files_mb"]["model_int8.onnx"] < found["weights_mb"] / 3
    assert row["export"]["own_mb"] < row["export"]["resident_mb"]
    page = (tmp_path / "result" / "README.md").read_text()
    assert f"| 2 x 256, 180,000 | {found['weights_mb']:,.0f} | int8 |" in page
