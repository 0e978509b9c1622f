"""What a training run shows and when it stops, both from the Trainer's own log."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState

from manylabel_train.training.config import Recipe

LOWER_IS_BETTER = ("hamming_loss",)


def evaluations(log: Sequence[Mapping[str, float]], best_by: str) -> list[float]:
    """The values of a metric in the Trainer's log, an evaluation each."""
    return [entry[f"eval_{best_by}"] for entry in log if f"eval_{best_by}" in entry]


def has_stalled(log: Sequence[Mapping[str, float]], recipe: Recipe) -> bool:
    """Whether the metric has not improved for `recipe.patience` evaluations."""
    values = evaluations(log, recipe.best_by)
    best = np.argmin if recipe.best_by in LOWER_IS_BETTER else np.argmax
    return bool(values) and len(values) - 1 - int(best(values)) >= recipe.patience


class EarlyStopping(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Stops when the metric stalls.

    Transformers' own counts in memory and starts again from none when a run is resumed; this one reads the log,
    which is part of a checkpoint.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe

    def on_evaluate(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Look at the log, this evaluation included."""
        if has_stalled(state.log_history, self._recipe):
            control.should_training_stop = True


class Progress(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """A bar on a terminal, and a line for every evaluation, both on standard error.

    Transformers' own writes its lines to standard output, and falls silent with its logging.
    """

    def __init__(self) -> None:
        self._bar = tqdm(desc="train", unit=" steps", dynamic_ncols=True, disable=None)

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start where a resumed run goes on."""
        self._bar.reset(total=state.max_steps)
        self._bar.update(state.global_step)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """One step further."""
        self._bar.update(1)

    def on_evaluate(
        self, args: Any, state: TrainerState, control: TrainerControl, metrics: Mapping[str, float], **_: Any
    ) -> None:
        """Print what was measured."""
        tqdm.write(
            f"epoch {state.epoch or 0:.0f} of {args.num_train_epochs:.0f}: validation loss {metrics['eval_loss']:.4f}, "
            f"macro average precision {metrics['eval_macro_average_precision']:.4f}, "
            f"at 0.5 micro-F1 {metrics['eval_micro_f1']:.4f}, macro-F1 {metrics['eval_macro_f1']:.4f}",
            file=sys.stderr,
        )

    def close(self) -> None:
        """Leave the bar as it ended, whatever ended it."""
        self._bar.close()
