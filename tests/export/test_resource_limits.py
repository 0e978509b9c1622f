"""An export that runs out of disk space or memory ends with a clear error and no partial output."""

import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.helpers import command_faults, toy
from tests.helpers.toy import write_checkpoint

from manylabel import Bundle
from manylabel.cli.main import main

WITHIN_A_GRAPH = 9_000
"""Bytes; the traced graph has about 40,000."""


@pytest.fixture
def command(tmp_path: Path) -> list[object]:
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    return ["export", checkpoint, "--output", tmp_path / "bundle", "--precision", "fp32", "--precision", "int8"]


def test_full_disk_during_export(command: list[object], tmp_path: Path) -> None:
    """The error does not blame the engine, which could not write the traced graph."""
    code, shown = command_faults.run_limited(command, tmp_path, resource.RLIMIT_FSIZE, WITHIN_A_GRAPH)
    assert code == 2, shown
    assert "Traceback" not in shown
    last = shown.splitlines()[-1]
    assert last.startswith("CannotWrite: ")
    assert "has no room for the bundle (File too large; " in last
    assert "the same command starts over." in last
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint", "stderr.txt"}
    code, shown = command_faults.run_limited(command, tmp_path, resource.RLIMIT_FSIZE, resource.RLIM_INFINITY)
    assert code == 0, shown
    Bundle.open(tmp_path / "bundle").verify()


def test_memory_limit_during_export(command: list[object], tmp_path: Path) -> None:
    """From too little to import PyTorch up to almost enough, where libraries abort the process."""
    asked = [sys.executable, "-m", "manylabel", *map(str, command)]
    for megabytes in (100, 600, 1150, 1155, 1160):
        done = subprocess.run(
            asked, capture_output=True, text=True, timeout=200, check=False, env={**toy.environment()},
            preexec_fn=lambda size=megabytes << 20: resource.setrlimit(resource.RLIMIT_AS, (size, size)),
        )  # fmt: skip
        if done.returncode == 0:  # enough on this machine
            Bundle.open(tmp_path / "bundle").verify()
            shutil.rmtree(tmp_path / "bundle")
            continue
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        last = done.stderr.splitlines()[-1]
        assert last.startswith("OutOfMemory: ")
        assert f"ulimit -v, now {megabytes:,} MB" in last
        assert not (tmp_path / "bundle").exists()
    code, shown = command_faults.run(command, tmp_path)
    assert code == 0, shown
    Bundle.open(tmp_path / "bundle").verify()


def test_python_memory_error_during_export(command: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a limit of the system, a library may be the first to fail instead of Python."""

    def export(*_: object, **__: object) -> Bundle:
        raise MemoryError

    monkeypatch.setattr("manylabel_export.pipeline.export", export)
    done = CliRunner().invoke(main, [str(part) for part in command])
    assert done.exit_code == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("OutOfMemory: memory ran out while the bundle was made. Free some, raise the limit (ulimit")
    assert last.endswith("Nothing was written; the same command starts over.")


def test_export_to_read_only_folder(command: list[object], tmp_path: Path) -> None:
    command[3] = Path("/sys/bundle")
    code, shown = command_faults.run(command, tmp_path)
    assert code == 2
    assert "Traceback" not in shown
    assert "/sys/bundle cannot be created: " in shown.splitlines()[-1]
