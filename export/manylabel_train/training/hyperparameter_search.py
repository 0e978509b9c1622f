"""A small hyperparameter search with Optuna: `manylabel train --search N`.

Optuna's sampler (TPE, Bergstra et al. 2011, sec. 4) proposes values, a callback of the Trainer reports each epoch's
validation metric, and Optuna's median rule prunes trials that fall behind. The first trial is the given configuration,
so the best one is at least as good by that metric. Test texts are not used.
docs/decisions/0015-drive-optuna-directly.md explains why this is not the Trainer's own search.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState

from manylabel.errors import InputError, MissingDependency, OutOfMemory
from manylabel_train.evaluation.metrics import LOWER_IS_BETTER
from manylabel_train.training.callbacks import metric_history
from manylabel_train.training.checkpoints import PLAN_FILE, partial_run_folder
from manylabel_train.training.config import TrainConfig
from manylabel_train.training.resource_errors import explain_training_shortage

if TYPE_CHECKING:
    import optuna

SEARCHABLE = ("learning_rate", "epochs", "batch_size")
"""What is searched: few, because trials are few, and all options, so that the best values can be passed again."""
RATE_FACTOR = 4
"""How far the encoder's rate may be from the given one, up and down."""
BATCH_SIZES = (16, 32, 64)
COMPLETE_TRIALS = 3
"""Trials that finish before others are compared with them; the first is never pruned."""
UNPRUNED_EPOCHS = 1
"""Epochs after which no trial is pruned: while the rate still rises, their metrics say little."""

TrainTrial = Callable[[TrainConfig, Path, TrainerCallback], None]
"""Trains with a configuration, with checkpoints in a folder, and with a callback."""


@dataclass(frozen=True)
class SearchConfig:
    """The size and space of a search.

    Attributes:
        trials: Number of configurations to try, two or more; the first is the given one.
        over: The hyperparameters that may change, some of `SEARCHABLE`.

    Raises:
        InputError: There is nothing to search over, or no second trial.
        MissingDependency: optuna is not installed.

    Example:
        >>> SearchConfig(trials=10, over=("learning_rate",))
        SearchConfig(trials=10, over=('learning_rate',))
    """

    trials: int
    over: tuple[str, ...] = SEARCHABLE

    def __post_init__(self) -> None:
        if self.trials < 2:
            raise InputError(f"search has {self.trials} trial; it needs 2 or more, as the first is the default.")
        if not self.over or not set(self.over) <= set(SEARCHABLE):
            raise InputError(
                f"a search is over some of {', '.join(SEARCHABLE)}; this one is over {', '.join(self.over) or 'none'}. "
                "Leave out one of --learning-rate, --epochs and --batch-size, or leave out --search."
            )
        try:
            import optuna  # noqa: F401
        except ImportError as exc:
            raise MissingDependency(
                'optuna is required for --search. pip install "manylabel[export,search,cpu]"'
            ) from exc


@dataclass(frozen=True)
class Trial:
    """One configuration and its result.

    Attributes:
        trial: Its number, from 1.
        learning_rate: The encoder's.
        epochs: Planned epochs.
        batch_size: Texts per step.
        score: The best validation metric of its epochs; None without a finished epoch.
        epochs_run: Number of evaluations.
        outcome: `"whole"` (also if patience ended it), `"pruned"`, `"diverged"` or `"out of memory"`.
    """

    trial: int
    learning_rate: float
    epochs: int
    batch_size: int
    score: float | None
    epochs_run: int
    outcome: str


class PruningCallback(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Reports a trial's metric after every epoch, and ends the trial if it falls behind.

    Optuna and optuna-integration have such callbacks for other training loops, but none for the Trainer.
    """

    def __init__(self, trial: "optuna.Trial", best_by: str) -> None:
        self._trial, self._best_by = trial, best_by
        self.scores: list[float] = []

    def on_evaluate(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Report this evaluation.

        Raises:
            TrialPruned: The trial falls behind others.
        """
        import optuna

        self.scores = metric_history(state.log_history, self._best_by)
        self._trial.report(self.scores[-1], step=len(self.scores) - 1)  # from 0
        if self._trial.should_prune():
            raise optuna.TrialPruned


def check_not_resuming(output: Path, *, resume: bool) -> None:
    """Refuse to resume an interrupted run with a search.

    Raises:
        InputError: Both were requested.
    """
    plan = partial_run_folder(output) / PLAN_FILE
    if resume and plan.exists():
        raise InputError(
            "--search starts over, so it cannot be combined with --resume. Resume with the values of the interrupted "
            f"run instead, --learning-rate, --epochs and --batch-size as in {plan}, or search again with --force."
        )
    if resume:
        raise InputError("--search starts over, so it cannot be combined with --resume. Leave --resume out.")


def search_config(
    search: SearchConfig, config: TrainConfig, train: TrainTrial, output: Path
) -> tuple[TrainConfig, dict[str, Any]]:
    """Try configurations, and return the best by `config.best_by` on validation.

    Args:
        search: The size and space of the search.
        config: A completed configuration, the first trial.
        train: Trains a configuration from the same start each time.
        output: The folder of the run; trials write to a temporary folder next to it.

    Returns:
        The best configuration, and the `search` section of `run.json`: metric, all trials, the best one's number.

    Raises:
        InputError: No trial finished.
        CannotWrite: The disk is full, or cannot be written to.
    """
    import optuna

    with _quiet_optuna():
        study = optuna.create_study(
            direction="minimize" if config.best_by in LOWER_IS_BETTER else "maximize",
            sampler=optuna.samplers.TPESampler(seed=config.seed),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=COMPLETE_TRIALS, n_warmup_steps=UNPRUNED_EPOCHS),
        )
        study.enqueue_trial({name: getattr(config, name) for name in search.over})
        trials = [_run_trial(study, search, config, train, output) for _ in range(search.trials)]
    finished = [trial for trial in trials if trial.score is not None and trial.outcome == "whole"]
    if not finished:
        raise InputError(
            f"none of {len(trials)} trials finished: {count_outcomes(trials)}. Lower --learning-rate or --batch-size."
        )
    sign = -1 if config.best_by in LOWER_IS_BETTER else 1
    best = max(finished, key=lambda trial: sign * (trial.score or 0.0))  # of equal trials the first: the default
    _print_line(f"trial {best.trial} is the best; training with {format_options(asdict(best))}")
    record = {"metric": config.best_by, "trials": [asdict(trial) for trial in trials], "best": best.trial}
    return replace(config, **{name: getattr(best, name) for name in SEARCHABLE}), record


def format_trials(record: Mapping[str, Any]) -> str:
    """Format the trials of a search, as recorded in `run.json`, one per line.

    Example:
        >>> trial = Trial(1, 2e-4, 3, 32, score=0.5, epochs_run=3, outcome="whole")
        >>> print(format_trials({"metric": "macro_f1", "trials": [vars(trial)], "best": 1}))
        trial  learning rate  epochs  batch size  macro_f1  epochs run
            1       2.00e-04       3          32    0.5000           3  best
    """
    lines = [f"trial  learning rate  epochs  batch size  {record['metric']}  epochs run"]
    width = len(record["metric"])
    for trial in (Trial(**entry) for entry in record["trials"]):
        score = "-" if trial.score is None else f"{trial.score:.4f}"
        lines.append(
            f"{trial.trial:5}  {trial.learning_rate:13.2e}  {trial.epochs:6}  {trial.batch_size:10}  {score:>{width}}  "
            f"{trial.epochs_run:10}  {'best' if trial.trial == record['best'] else trial.outcome}"
        )
    return "\n".join(lines)


def format_options(trial: Mapping[str, Any]) -> str:
    """Format a trial's values as command-line options.

    Example:
        >>> format_options({"learning_rate": 0.0002, "epochs": 3, "batch_size": 32})
        '--learning-rate 0.0002 --epochs 3 --batch-size 32'
    """
    return " ".join(f"--{name.replace('_', '-')} {trial[name]!r}" for name in SEARCHABLE)


def count_outcomes(trials: Sequence[Trial]) -> str:
    """Count the outcomes of trials, such as `"2 pruned, 1 diverged"`."""
    names = [trial.outcome for trial in trials]
    return ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names))


def _run_trial(
    study: "optuna.Study", search: SearchConfig, config: TrainConfig, train: TrainTrial, output: Path
) -> Trial:
    """Run one trial, from proposed values to its result."""
    import optuna

    proposal = study.ask()
    candidate = _propose_config(proposal, config, search.over)
    values = {name: getattr(candidate, name) for name in SEARCHABLE}
    _print_line(f"trial {proposal.number + 1} of {search.trials}: {format_options(values)}")
    callback, outcome = PruningCallback(proposal, config.best_by), "whole"
    try:
        with explain_training_shortage(output, candidate), _temporary_folder(output) as folder:
            train(candidate, Path(folder), callback)
    except optuna.TrialPruned:
        outcome = "pruned"
    except OutOfMemory:
        outcome = "out of memory"
    except InputError as exc:
        if type(exc) is not InputError:  # such as a fault of the checkpoint, which other trials share
            raise
        outcome = "diverged"
    best = min if config.best_by in LOWER_IS_BETTER else max
    score = best(callback.scores, default=None)
    states = {"whole": optuna.trial.TrialState.COMPLETE, "pruned": optuna.trial.TrialState.PRUNED}
    state = states.get(outcome, optuna.trial.TrialState.FAIL)
    study.tell(proposal, score if outcome == "whole" else None, state)
    return Trial(proposal.number + 1, **values, score=score, epochs_run=len(callback.scores), outcome=outcome)


def _propose_config(proposal: "optuna.Trial", config: TrainConfig, over: Sequence[str]) -> TrainConfig:
    """Return the configuration with another rate (by a factor), number of epochs (by half) and batch size."""
    rate, epochs = config.learning_rate or 0.0, config.epochs or 1
    values: dict[str, Any] = {}
    if "learning_rate" in over:
        values["learning_rate"] = proposal.suggest_float(
            "learning_rate", rate / RATE_FACTOR, rate * RATE_FACTOR, log=True
        )
    if "epochs" in over:
        values["epochs"] = proposal.suggest_int("epochs", (epochs + 1) // 2, epochs + (epochs + 1) // 2)
    if "batch_size" in over:
        sizes = sorted({*BATCH_SIZES, config.batch_size})
        values["batch_size"] = proposal.suggest_categorical("batch_size", sizes)
    return replace(config, **values)


def _temporary_folder(output: Path) -> TemporaryDirectory[str]:
    """Create a folder on the output's disk: the system's temporary folder may have no room for checkpoints."""
    return TemporaryDirectory(prefix=f".{output.name}.trial-", dir=output.absolute().parent)


def _print_line(line: str) -> None:
    tqdm.write(line, file=sys.stderr)


@contextmanager
def _quiet_optuna() -> Iterator[None]:
    """Silence Optuna's own lines; this module prints what is needed."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
