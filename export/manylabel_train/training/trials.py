"""What a search tries: a recipe's values, how they fared, and the Trainer's callback that ends what falls behind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState

from manylabel_train.training.callbacks import evaluations

if TYPE_CHECKING:
    import optuna

VALUES = ("learning_rate", "epochs", "batch_size")
"""What is searched over: few, as trials are, and each an option, so that what wins can be typed."""


@dataclass(frozen=True)
class Trial:
    """One recipe and how it fared.

    Attributes:
        trial: Its number, from 1.
        learning_rate: Of the encoder.
        epochs: That were planned.
        batch_size: Texts a step.
        score: The best validation metric of its epochs; None where there was none.
        epochs_run: Evaluations that were made.
        outcome: `"whole"`, also where patience ended it; `"pruned"`, `"diverged"` or `"out of memory"`.
    """

    trial: int
    learning_rate: float
    epochs: int
    batch_size: int
    score: float | None
    epochs_run: int
    outcome: str


class Watcher(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Tells a trial its metric after every epoch, and ends it where it falls behind."""

    def __init__(self, trial: "optuna.Trial", best_by: str) -> None:
        self._trial, self._best_by = trial, best_by
        self.scores: list[float] = []

    def on_evaluate(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Look at the log, this evaluation included."""
        import optuna

        self.scores = evaluations(state.log_history, self._best_by)
        self._trial.report(self.scores[-1], step=len(self.scores) - 1)  # from 0
        if self._trial.should_prune():
            raise optuna.TrialPruned


def table(found: Mapping[str, Any]) -> str:
    """The trials of a search, a line each, as `run.json` keeps them."""
    lines = [f"trial  learning rate  epochs  batch size  {found['metric']}  epochs run"]
    width = len(found["metric"])
    for one in (Trial(**entry) for entry in found["trials"]):
        score = "-" if one.score is None else f"{one.score:.4f}"
        lines.append(
            f"{one.trial:5}  {one.learning_rate:13.2e}  {one.epochs:6}  {one.batch_size:10}  {score:>{width}}  "
            f"{one.epochs_run:10}  {'best' if one.trial == found['best'] else one.outcome}"
        )
    return "\n".join(lines)


def typed(trial: Mapping[str, Any]) -> str:
    """The options that give a trial's values."""
    return " ".join(f"--{name.replace('_', '-')} {trial[name]!r}" for name in VALUES)


def outcomes(trials: Sequence[Trial]) -> str:
    """How many fared how, in words."""
    names = [trial.outcome for trial in trials]
    return ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names))
