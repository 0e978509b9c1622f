"""However a training is interrupted, a message says what is kept, and the resumed run is bit-identical."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.helpers import command_faults, toy

from manylabel_train.data.training_run import read_run
from manylabel_train.training.checkpoints import describe_progress, is_complete, last_checkpoint, partial_run_folder

EPOCHS = 4
SMALLER_THAN_A_MODEL = 4_000
LARGER_THAN_A_MODEL = 96_000
"""Bytes; the toy model's weights take about 90,000, AdamW's state twice as much."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.write_csv(tmp_path_factory.mktemp("data") / "data.csv", toy.dataset(140, per_split=30))


def command(data: Path, encoder: Path, output: Path, *more: str) -> list[object]:
    config = ("--epochs", EPOCHS, "--patience", EPOCHS, "--learning-rate", "1e-3", "--train-precision", "fp32")
    return ["train", data, "--model", encoder, "--output", output, *config, *more]


@pytest.fixture(scope="module")
def whole(encoder: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that was not interrupted."""
    output = tmp_path_factory.mktemp("whole") / "run"
    code, shown = command_faults.run(command(data, encoder, output), output.parent)
    assert code == 0, shown
    return output


def check_resume(data: Path, encoder: Path, output: Path, whole: Path) -> str:
    """Resume, check that the run is bit-identical and no files are left over, and return the output."""
    code, shown = command_faults.run(command(data, encoder, output, "--resume"), output.parent)
    assert code == 0, shown
    assert (output / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert read_run(output).metrics == read_run(whole).metrics
    assert {path.name for path in output.parent.iterdir()} == {"run", "stderr.txt"}
    return shown


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_keeps_the_last_checkpoint(
    encoder: Path, data: Path, whole: Path, tmp_path: Path, number: int, code: int
) -> None:
    found, shown = command_faults.run(command(data, encoder, tmp_path / "run"), tmp_path, "send", 3, number)
    assert found == code, shown
    last = shown.splitlines()[-1]
    assert last.startswith(f"Interrupted: stopped by {signal.Signals(number).name}. Epoch 2 of {EPOCHS} is kept in ")
    assert "--resume" in last
    assert "Traceback" not in shown
    shown = check_resume(data, encoder, tmp_path / "run", whole)
    assert f"epoch 3 of {EPOCHS}" in shown
    assert f"epoch 2 of {EPOCHS}" not in shown


def test_signal_in_first_epoch_keeps_nothing(encoder: Path, data: Path, whole: Path, tmp_path: Path) -> None:
    code, shown = command_faults.run(command(data, encoder, tmp_path / "run"), tmp_path, "send", 1, signal.SIGINT)
    assert code == 130
    assert "No epoch was finished" in shown
    check_resume(data, encoder, tmp_path / "run", whole)


def test_signal_before_training_starts(tmp_path: Path) -> None:
    """The data comes from a pipe, so that the signal arrives while it is read."""
    os.mkfifo(tmp_path / "data.csv")
    arguments = ["train", str(tmp_path / "data.csv"), "--output", str(tmp_path / "run")]
    process = subprocess.Popen(
        [sys.executable, "-m", "manylabel", *arguments], env=toy.environment(), stderr=subprocess.PIPE, text=True
    )
    writer = os.open(tmp_path / "data.csv", os.O_WRONLY)  # waits until the command reads
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, shown = process.communicate(timeout=60)
    os.close(writer)
    assert process.returncode == 130, shown
    assert shown == "Interrupted: stopped by SIGINT. Training had not started; rerun the command.\n"


@pytest.mark.parametrize("size", [SMALLER_THAN_A_MODEL, LARGER_THAN_A_MODEL])
def test_full_disk_error_and_resume(encoder: Path, data: Path, whole: Path, tmp_path: Path, size: int) -> None:
    """safetensors raises if the weights do not fit, and torch if the optimiser's state does not."""
    code, shown = command_faults.run(command(data, encoder, tmp_path / "run"), tmp_path, "limit_files", 3, size, 0)
    assert code == 2, shown
    last = shown.splitlines()[-1]
    assert last.startswith(f"CannotWrite: {tmp_path} has no room for the run (")
    assert "MB are free" in last
    assert f"Epoch 2 of {EPOCHS} is kept" in last
    assert "Traceback" not in shown
    check_resume(data, encoder, tmp_path / "run", whole)


@pytest.mark.parametrize("size", [SMALLER_THAN_A_MODEL, LARGER_THAN_A_MODEL])
def test_resume_after_death_within_a_file_write(
    encoder: Path, data: Path, whole: Path, tmp_path: Path, size: int
) -> None:
    code, shown = command_faults.run(command(data, encoder, tmp_path / "run"), tmp_path, "limit_files", 3, size, 1)
    assert code == -signal.SIGXFSZ, shown
    half = partial_run_folder(tmp_path / "run") / "checkpoints" / "checkpoint-9"
    assert half.exists()
    assert not is_complete(half)
    check_resume(data, encoder, tmp_path / "run", whole)


@pytest.mark.parametrize("nth", [1, 4, 6, 9, 12, 15, 20])
def test_resume_after_kill_during_checkpoint(encoder: Path, data: Path, whole: Path, tmp_path: Path, nth: int) -> None:
    code, shown = command_faults.run(command(data, encoder, tmp_path / "run"), tmp_path, "kill_while_writing", 3, nth)
    assert code == -signal.SIGKILL, shown
    assert last_checkpoint(partial_run_folder(tmp_path / "run") / "checkpoints") is not None
    check_resume(data, encoder, tmp_path / "run", whole)


def test_resume_after_kill_during_final_rename(encoder: Path, data: Path, whole: Path, tmp_path: Path) -> None:
    for nth in (12, 30):
        output = tmp_path / str(nth) / "run"
        output.parent.mkdir()
        code, shown = command_faults.run(
            command(data, encoder, output), output.parent, "kill_while_writing", EPOCHS, nth
        )
        assert code == -signal.SIGKILL, shown
        assert not output.exists()
        check_resume(data, encoder, output, whole)


def test_out_of_memory_error(encoder: Path, data: Path, whole: Path, tmp_path: Path) -> None:
    code, shown = command_faults.run(command(data, encoder, tmp_path / "run"), tmp_path, "limit_memory", 3, 10**9)
    assert code == 2, shown
    assert "OutOfMemory: memory ran out over batches of 32 texts of up to 32 tokens. Lower --batch-size" in shown
    assert f"Epoch 2 of {EPOCHS} is kept" in shown
    assert "Traceback" not in shown
    check_resume(data, encoder, tmp_path / "run", whole)


def test_unwritable_output_error(encoder: Path, data: Path, tmp_path: Path) -> None:
    code, shown = command_faults.run(command(data, encoder, Path("/sys/run")), tmp_path)
    assert code == 2
    assert "CannotWrite: /sys cannot be written to" in shown
    assert "Choose another output" in shown


def test_incomplete_checkpoint_is_skipped(encoder: Path, data: Path, tmp_path: Path) -> None:
    command_faults.run(command(data, encoder, tmp_path / "run"), tmp_path, "send", 3, signal.SIGKILL)
    found = last_checkpoint(partial_run_folder(tmp_path / "run") / "checkpoints")
    assert found is not None
    for name in ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"):
        before = (found / name).read_bytes()
        for damaged in (before[:-2], b""):
            (found / name).write_bytes(damaged)
            assert not is_complete(found), name
        (found / name).write_bytes(before)
        assert is_complete(found)
    (found / "optimizer.pt").unlink()
    assert not is_complete(found)
    assert "No epoch" not in describe_progress(tmp_path / "run")  # the one before is used
