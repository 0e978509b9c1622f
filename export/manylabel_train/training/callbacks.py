"""Callbacks of the Trainer: early stopping, progress, and which checkpoints stay on the disk."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState

from manylabel.errors import CannotWrite
from manylabel.system.atomic_write import sync_to_disk
from manylabel_train.evaluation.metrics import LOWER_IS_BETTER
from manylabel_train.training.checkpoints import STATE_FILE, is_complete, list_checkpoints, read_step
from manylabel_train.training.config import TrainConfig


def metric_history(log: Sequence[Mapping[str, float]], metric: str) -> list[float]:
    """Return the values of a metric in the Trainer's log, one per evaluation.

    Example:
        >>> metric_history([{"loss": 0.7}, {"eval_macro_f1": 0.4}, {"eval_macro_f1": 0.5}], "macro_f1")
        [0.4, 0.5]
    """
    return [entry[f"eval_{metric}"] for entry in log if f"eval_{metric}" in entry]


def has_stalled(log: Sequence[Mapping[str, float]], config: TrainConfig) -> bool:
    """Return whether the metric has not improved for `config.patience` evaluations."""
    values = metric_history(log, config.best_by)
    best = np.argmin if config.best_by in LOWER_IS_BETTER else np.argmax
    return bool(values) and len(values) - 1 - int(best(values)) >= config.patience


class EarlyStopping(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Stops training when the metric stalls.

    Transformers' own callback counts in memory and starts from zero when a run is resumed; this one reads the log,
    which is part of a checkpoint.
    """

    def __init__(self, config: TrainConfig) -> None:
        self._config = config

    def on_evaluate(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Check the log, including this evaluation."""
        if has_stalled(state.log_history, self._config):
            control.should_training_stop = True


class ProgressBar(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """A progress bar on a terminal, and one line per evaluation, both on standard error.

    Transformers' own callback writes to standard output, and stops when its logging is silenced.
    """

    def __init__(self) -> None:
        self._bar = tqdm(desc="train", unit=" steps", dynamic_ncols=True, disable=None)

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start at the step from which a run resumes."""
        self._bar.reset(total=state.max_steps)
        self._bar.update(state.global_step)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Advance by one step."""
        self._bar.update(1)

    def on_evaluate(
        self, args: Any, state: TrainerState, control: TrainerControl, metrics: Mapping[str, float], **_: Any
    ) -> None:
        """Print the validation metrics."""
        tqdm.write(
            f"epoch {state.epoch or 0:.0f} of {args.num_train_epochs:.0f}: validation loss {metrics['eval_loss']:.4f}, "
            f"macro average precision {metrics['eval_macro_average_precision']:.4f}, "
            f"at 0.5 micro-F1 {metrics['eval_micro_f1']:.4f}, macro-F1 {metrics['eval_macro_f1']:.4f}",
            file=sys.stderr,
        )

    def close(self) -> None:
        """Leave the bar at its last state."""
        self._bar.close()


class CheckpointRotation(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Keeps the last checkpoint, and the best or the one before; deletes others once a later one is on the disk.

    The Trainer's own `save_total_limit` deletes before the system has flushed the new checkpoint to the disk: after a
    power failure both could be lost.
    """

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Flush and verify the new checkpoint, then delete older ones.

        Raises:
            CannotWrite: The checkpoint is incomplete on the disk.
        """
        folder = Path(args.output_dir)
        last = folder / f"checkpoint-{state.global_step}"
        for path in (*last.iterdir(), last, folder):
            sync_to_disk(path)
        if not is_complete(last):
            raise CannotWrite(f"{last} is incomplete. Free space on its disk and rerun with --resume.")
        former = sorted((path for path in list_checkpoints(folder) if path != last), key=read_step)
        best = Path(state.best_model_checkpoint or last)
        # always two, in case one is damaged later
        kept = {last.name, former[-1].name if former and best == last else best.name}
        for path in former:
            if path.name not in kept:
                (path / STATE_FILE).unlink(missing_ok=True)  # first: from now on the checkpoint counts as incomplete
                shutil.rmtree(path, ignore_errors=True)
