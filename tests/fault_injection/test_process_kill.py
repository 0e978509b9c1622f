"""Killed commands finish as if they had never been killed, and faults of their naive versions are found."""

import random
import shutil
from pathlib import Path

import pytest
from tests.fault_injection import fuzz_report, process_kill
from tests.fault_injection.workloads import KillableCommand

MOMENTS = [0.2, 0.5, 0.9]
NAMES = ["scoring", "training", "exporting"]


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, KillableCommand]]:
    folder = tmp_path_factory.mktemp("commands")
    prepared = process_kill.prepare_commands(folder)
    return folder / "reference", {command.name: command for command in prepared}


@pytest.mark.parametrize("name", NAMES)
def test_killed_workload_ends_with_the_same_output(
    commands: tuple[Path, dict[str, KillableCommand]], tmp_path: Path, name: str
) -> None:
    command = commands[1][name]
    command.prepare(tmp_path)
    counts = process_kill.run_with_kills(command, tmp_path, MOMENTS, naive=False)
    assert (counts["faults"], counts["runs"], counts["wrong"]) == (0, 1, 0)
    assert command.is_done(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_output_check_detects_partial_output(
    commands: tuple[Path, dict[str, KillableCommand]], tmp_path: Path, name: str
) -> None:
    reference, command = commands[0], commands[1][name]
    copy = Path(shutil.copytree(reference, tmp_path / "copy"))
    assert command.find_fault(copy) == ""
    outputs = [path for path in copy.rglob("*") if path.name in {"out.jsonl", "model.safetensors", "model.onnx"}]
    for path in outputs:
        path.write_bytes(path.read_bytes()[: random.Random(0).randrange(1, path.stat().st_size)])
    assert command.find_fault(copy)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_kill_control_is_detected(commands: tuple[Path, dict[str, KillableCommand]], tmp_path: Path, name: str) -> None:
    counts = process_kill.kill_repeatedly(commands[1][name], tmp_path, 100, 0, naive=True)
    assert counts["wrong"] > 0


def test_fuzz_output_is_parsed() -> None:
    runs = [{"executions": 1000, "branches": 5, "features": 7, "findings": 0, "seconds": 1.6}] * 2
    assert fuzz_report.table_row("csv", runs) == {
        "target": "csv: the CSV reader",
        "CPU seconds": "3",
        "executions": "2,000",
        "branches": 5,
        "features": 7,
        "findings": 0,
    }
