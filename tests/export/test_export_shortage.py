"""An export that runs out of room or memory ends in a sentence, leaves nothing half-written, and can be begun anew."""

import resource
from pathlib import Path

import pytest

import dying
from manylabel import Bundle
from tiny import write_checkpoint

WITHIN_A_GRAPH = 9_000
"""Bytes; the graph that is traced has some 40,000."""


@pytest.fixture
def command(tmp_path: Path) -> list[object]:
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    return ["export", checkpoint, "--output", tmp_path / "bundle", "--precision", "fp32", "--precision", "int8"]


def test_no_room_for_a_bundle_is_a_sentence_and_leaves_nothing(command: list[object], tmp_path: Path) -> None:
    """Nor is the engine blamed, which could not write the graph that it traced."""
    code, shown = dying.run_limited(command, tmp_path, resource.RLIMIT_FSIZE, WITHIN_A_GRAPH)
    assert code == 2, shown
    assert "Traceback" not in shown
    last = shown.splitlines()[-1]
    assert last.startswith("CannotWrite: ")
    assert "has no room for the bundle (File too large; " in last
    assert "the same command begins anew." in last
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint", "stderr.txt"}
    code, shown = dying.run_limited(command, tmp_path, resource.RLIMIT_FSIZE, resource.RLIM_INFINITY)
    assert code == 0, shown
    Bundle.open(tmp_path / "bundle").verify()


def test_a_bundle_where_nothing_may_be_written_is_a_sentence(command: list[object], tmp_path: Path) -> None:
    command[3] = Path("/sys/bundle")
    code, shown = dying.run(command, tmp_path)
    assert code == 2
    assert "Traceback" not in shown
    assert "/sys/bundle cannot be made: " in shown.splitlines()[-1]
