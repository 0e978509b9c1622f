"""An interrupted run leaves the old output or none, and resumes to the same result as an uninterrupted one."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.helpers import toy

from manylabel.errors import InputError, OutputExists
from manylabel_train.data.training_run import read_run
from manylabel_train.training import train as training
from manylabel_train.training.callbacks import ProgressBar, has_stalled
from manylabel_train.training.checkpoints import last_checkpoint
from manylabel_train.training.config import TrainConfig
from manylabel_train.training.train import train

CONFIG = replace(TrainConfig(**toy.RECIPE), epochs=6, patience=6)


class Died(BaseException):
    """Stands for anything that ends a process."""


def die_after(epochs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the next training die in the middle of an evaluation, before its checkpoint is written."""
    seen: list[None] = []

    def on_evaluate(*_: object, **__: object) -> None:
        seen.append(None)
        if len(seen) > epochs:
            raise Died

    monkeypatch.setattr(ProgressBar, "on_evaluate", on_evaluate)


def interrupt(
    output: Path, encoder: Path, epochs: int = 3, config: TrainConfig = CONFIG, *, force: bool = False
) -> Path:
    """Interrupt a training, and return the folder of its unfinished run."""
    with pytest.MonkeyPatch.context() as patch:
        die_after(epochs, patch)
        with pytest.raises(Died):
            train(toy.dataset(300), output, model=str(encoder), config=config, force=force)
    return output.with_name(f".{output.name}.partial")


def same(left: Path, right: Path) -> None:
    """Check that weights are bit-identical, and thresholds and metrics equal."""
    assert (left / "model.safetensors").read_bytes() == (right / "model.safetensors").read_bytes()
    ours, theirs = read_run(left), read_run(right)
    assert ours.thresholds == theirs.thresholds
    assert ours.metrics == theirs.metrics


@pytest.fixture(scope="module")
def whole(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that was not interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(toy.dataset(300), folder, model=str(encoder), config=CONFIG)
    return folder


def test_resume_after_kill_gives_identical_weights(encoder: Path, tmp_path: Path) -> None:
    output, config = tmp_path / "run", replace(CONFIG, epochs=30, patience=30)
    output.mkdir()
    (output / "old").write_text("still here")
    script = (
        "import sys\nfrom tests.helpers import toy\nfrom dataclasses import replace\n"
        "from manylabel_train import TrainConfig, train\n"
        "train(toy.dataset(300), sys.argv[1], model=sys.argv[2], force=True,"
        " config=replace(TrainConfig(**toy.RECIPE), epochs=30, patience=30))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(output), str(encoder)],
        env=toy.environment(),
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    partial = tmp_path / ".run.partial"
    deadline = time.monotonic() + 300
    while len(list(partial.glob("checkpoints/checkpoint-*/trainer_state.json"))) < 2:
        assert process.poll() is None, process.communicate()[1].decode()[-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert toy.content(output) == {"old": b"still here"}
    steps = json.loads((last_checkpoint(partial / "checkpoints") / "trainer_state.json").read_text())["global_step"]  # type: ignore[operator]
    assert 0 < steps < 30 * 12  # of 180 rows in batches of 16

    train(toy.dataset(300), output, model=str(encoder), config=config, force=True, resume=True)
    train(toy.dataset(300), tmp_path / "other", model=str(encoder), config=config)
    same(output, tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "run"]


def test_resume_from_the_last_checkpoint(
    encoder: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt(tmp_path / "run", encoder)
    assert not (tmp_path / "run").exists()
    capsys.readouterr()
    train(toy.dataset(300), tmp_path / "run", model=str(encoder), config=CONFIG, resume=True)
    shown = capsys.readouterr().err
    assert "epoch 4 of 6" in shown
    assert "epoch 3 of 6" not in shown
    same(tmp_path / "run", whole)


def test_incomplete_checkpoints_are_skipped(encoder: Path, whole: Path, tmp_path: Path) -> None:
    checkpoints = interrupt(tmp_path / "run", encoder) / "checkpoints"
    good = last_checkpoint(checkpoints)
    assert good is not None
    for name, state in (("checkpoint-900", None), ("checkpoint-901", '{"log_history": [')):
        shutil.copytree(good, checkpoints / name)
        (checkpoints / name / "model.safetensors").write_bytes(b"half")
        (checkpoints / name / "trainer_state.json").unlink()
        if state is not None:
            (checkpoints / name / "trainer_state.json").write_text(state)
    assert last_checkpoint(checkpoints) == good
    train(toy.dataset(300), tmp_path / "run", model=str(encoder), config=CONFIG, resume=True)
    same(tmp_path / "run", whole)


def test_resume_without_checkpoint_restarts(encoder: Path, whole: Path, tmp_path: Path) -> None:
    interrupt(tmp_path / "run", encoder, epochs=0)
    train(toy.dataset(300), tmp_path / "run", model=str(encoder), config=CONFIG, resume=True)
    same(tmp_path / "run", whole)


def test_resume_after_early_stopping_does_not_train(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = replace(CONFIG, epochs=40, patience=2, learning_rate=1e-7, best_by="micro_f1")
    train(toy.dataset(300), tmp_path / "other", model=str(encoder), config=config)
    with monkeypatch.context() as patch:
        patch.setattr(training, "write_run", lambda *_: (_ for _ in ()).throw(Died))
        with pytest.raises(Died):
            train(toy.dataset(300), tmp_path / "run", model=str(encoder), config=config)
    assert not (tmp_path / "run").exists()
    capsys.readouterr()
    train(toy.dataset(300), tmp_path / "run", model=str(encoder), config=config, resume=True)
    assert "epoch" not in capsys.readouterr().err
    same(tmp_path / "run", tmp_path / "other")


def test_patience_includes_epochs_before_resume(encoder: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=40, patience=4, learning_rate=1e-7, best_by="micro_f1")
    train(toy.dataset(300), tmp_path / "other", model=str(encoder), config=config)
    interrupt(tmp_path / "run", encoder, epochs=3, config=config)
    train(toy.dataset(300), tmp_path / "run", model=str(encoder), config=config, resume=True)
    logs = [read_run(tmp_path / name).details["log"] for name in ("run", "other")]
    ours, theirs = ([entry["eval_micro_f1"] for entry in log if "eval_micro_f1" in entry] for log in logs)
    assert ours == theirs
    assert len(ours) < 40


def test_stall_is_detected_from_the_log() -> None:
    log = [{"eval_micro_f1": value} for value in (0.1, 0.5, 0.4, 0.5)]
    assert has_stalled(log, TrainConfig(best_by="micro_f1", patience=2))
    assert not has_stalled(log, TrainConfig(best_by="micro_f1", patience=3))
    assert not has_stalled([], TrainConfig(patience=1))


def test_interrupted_checkpoints_are_not_discarded(encoder: Path, tmp_path: Path) -> None:
    partial = interrupt(tmp_path / "run", encoder, epochs=1)
    with pytest.raises(OutputExists, match="--resume, or start over with --force"):
        train(toy.dataset(300), tmp_path / "run", model=str(encoder), config=CONFIG)
    assert last_checkpoint(partial / "checkpoints") is not None


def test_force_starts_over(encoder: Path, whole: Path, tmp_path: Path) -> None:
    interrupt(tmp_path / "run", encoder, config=replace(CONFIG, seed=7))
    train(toy.dataset(300), tmp_path / "run", model=str(encoder), config=CONFIG, force=True)
    same(tmp_path / "run", whole)


def test_resume_rejects_changed_options_or_data(encoder: Path, tmp_path: Path) -> None:
    interrupt(tmp_path / "run", encoder, epochs=1)
    changed = replace(CONFIG, batch_size=8, seed=1)
    with pytest.raises(InputError, match=r"differs in recipe\.batch_size, recipe\.seed"):
        train(toy.dataset(300), tmp_path / "run", model=str(encoder), config=changed, resume=True)
    with pytest.raises(InputError, match=r"differs in data\.sha256"):
        train(toy.dataset(300, seed=1), tmp_path / "run", model=str(encoder), config=CONFIG, resume=True)


def test_nothing_to_resume(encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no interrupted run .* without --resume"):
        train(toy.dataset(300), tmp_path / "run", model=str(encoder), config=CONFIG, resume=True)


def test_damaged_resume_plan_error(encoder: Path, tmp_path: Path) -> None:
    partial = interrupt(tmp_path / "run", encoder, epochs=1)
    for damage in ("", "[]"):
        (partial / "plan.json").write_text(damage)
        with pytest.raises(InputError, match=r"plan\.json"):
            train(toy.dataset(300), tmp_path / "run", model=str(encoder), config=CONFIG, resume=True)
