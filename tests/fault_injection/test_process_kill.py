"""Works that are killed, and their careless twins: what is wrong is found, and only that."""

import random
import shutil
from pathlib import Path

import pytest
from tests.fault_injection import fuzz_report, process_kill
from tests.fault_injection.workloads import Work

MOMENTS = [0.2, 0.5, 0.9]


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Work]]:
    folder = tmp_path_factory.mktemp("works")
    return folder / "whole", {work.name: work for work in process_kill.works(folder)}


@pytest.mark.parametrize("name", ["scoring", "training", "exporting"])
def test_killed_workload_ends_with_the_same_output(
    works: tuple[Path, dict[str, Work]], tmp_path: Path, name: str
) -> None:
    work = works[1][name]
    work.prepare(tmp_path)
    found = process_kill._live(work, tmp_path, MOMENTS, careless=False)
    assert (found["faults"], found["ends"], found["wrong ends"]) == (0, 1, 0)
    assert work.done(tmp_path)


@pytest.mark.parametrize("name", ["scoring", "training", "exporting"])
def test_output_check_detects_partial_output(works: tuple[Path, dict[str, Work]], tmp_path: Path, name: str) -> None:
    whole, work = works[0], works[1][name]
    shutil.copytree(whole, tmp_path / "copy")
    assert work.fault(tmp_path / "copy") == ""
    files = [
        path for path in (tmp_path / "copy").rglob("*") if path.name in {"out.jsonl", "model.safetensors", "model.onnx"}
    ]
    for path in files:
        path.write_bytes(path.read_bytes()[: random.Random(0).randrange(1, path.stat().st_size)])
    assert work.fault(tmp_path / "copy")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["scoring", "training", "exporting"])
def test_kill_control_is_detected(works: tuple[Path, dict[str, Work]], tmp_path: Path, name: str) -> None:
    found = process_kill.strike(works[1][name], tmp_path, 100, 0, careless=True)
    assert found["wrong ends"] > 0


def test_fuzz_output_is_parsed() -> None:
    runs = [{"executions": 1000, "branches": 5, "features": 7, "findings": 0, "seconds": 1.6}] * 2
    assert fuzz_report.row("csv", runs) == {
        "target": "csv: the CSV reader",
        "seconds of a core": "3",
        "executions": "2,000",
        "branches": 5,
        "features": 7,
        "findings": 0,
    }
