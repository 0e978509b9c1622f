"""A small search for a better recipe: `manylabel train --search N`.

Optuna's sampler (TPE, Bergstra et al. 2011, sec. 4) says what to try, a callback of the Trainer tells it each epoch's
validation metric, and its median rule ends trials that fall behind. The first trial is the recipe as it came, so that
what wins is no worse by that metric. Test texts are never looked at. Why not the Trainer's own search:
docs/decisions/0015-drive-optuna-directly.md.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tqdm import tqdm
from transformers import TrainerCallback

from manylabel.errors import InputError, MissingDependency, OutOfMemory
from manylabel_train.training.callbacks import LOWER_IS_BETTER
from manylabel_train.training.checkpoints import PLAN_FILE, remains_of
from manylabel_train.training.config import Recipe
from manylabel_train.training.resume import running_out
from manylabel_train.training.trials import VALUES, Trial, Watcher, outcomes, typed

if TYPE_CHECKING:
    import optuna

RATE_FACTOR = 4
"""How far the encoder's rate goes from the recipe's, up and down."""
BATCH_SIZES = (16, 32, 64)
WHOLE_TRIALS = 3
"""Trials that run to their end before others are measured by them; the first is never pruned."""
SPARED_EPOCHS = 1
"""Epochs that no trial is pruned by: while the rate still rises, they say little."""

Train = Callable[[Recipe, Path, TrainerCallback], None]
"""Trains by a recipe, checkpoints in a folder, a callback looking on."""


@dataclass(frozen=True)
class Search:
    """How much to search, and over what.

    Attributes:
        trials: Recipes to try, two or more; the first is the one that is searched around.
        over: Which of its values may change, some of `VALUES`.

    Raises:
        InputError: There is nothing to search over, or no second trial.
        MissingDependency: optuna is absent.
    """

    trials: int
    over: tuple[str, ...] = VALUES

    def __post_init__(self) -> None:
        if self.trials < 2:
            raise InputError(f"search has {self.trials} trial; it takes 2 or more, the first being the default.")
        if not self.over or not set(self.over) <= set(VALUES):
            raise InputError(
                f"a search is over some of {', '.join(VALUES)}; this one has {', '.join(self.over) or 'none left'}. "
                "Leave one of --learning-rate, --epochs and --batch-size open, or leave out --search."
            )
        try:
            import optuna  # noqa: F401
        except ImportError as exc:
            raise MissingDependency(
                'optuna is required for --search. pip install "manylabel[export,search,cpu]"'
            ) from exc


def require_no_resume(output: Path, *, resume: bool) -> None:
    """Refuse to go on with an interrupted run by a search.

    Raises:
        InputError: Both were asked for.
    """
    plan = remains_of(output) / PLAN_FILE
    if resume and plan.exists():
        raise InputError(
            "--search starts over, so it cannot --resume. In its place give the values that the interrupted run has, "
            f"--learning-rate, --epochs and --batch-size as in {plan}, or search anew with --force."
        )
    if resume:
        raise InputError("--search starts over, so it cannot --resume. Leave --resume out.")


def search_recipe(search: Search, recipe: Recipe, train: Train, output: Path) -> tuple[Recipe, dict[str, Any]]:
    """Try recipes, and take the best by `recipe.best_by` on validation.

    Args:
        search: How much, over what.
        recipe: A completed recipe, the first trial.
        train: Trains one from the start, always the same.
        output: Where the run is to lie; trials write into a temporary folder beside it.

    Returns:
        The best recipe, and what `run.json` keeps of the search: metric, all trials, the best one's number.

    Raises:
        InputError: No trial ran to its end.
        CannotWrite: The disk is full, or cannot be written to.
    """
    import optuna

    with _quiet():
        study = optuna.create_study(
            direction="minimize" if recipe.best_by in LOWER_IS_BETTER else "maximize",
            sampler=optuna.samplers.TPESampler(seed=recipe.seed),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=WHOLE_TRIALS, n_warmup_steps=SPARED_EPOCHS),
        )
        study.enqueue_trial({name: getattr(recipe, name) for name in search.over})
        trials = [_try(study, search, recipe, train, output) for _ in range(search.trials)]
    whole = [trial for trial in trials if trial.score is not None and trial.outcome == "whole"]
    if not whole:
        raise InputError(
            f"none of {len(trials)} trials ran to its end: {outcomes(trials)}. Lower --learning-rate or --batch-size."
        )
    sign = -1 if recipe.best_by in LOWER_IS_BETTER else 1
    best = max(whole, key=lambda trial: sign * (trial.score or 0.0))  # the first of equals: rather the default
    _say(f"trial {best.trial} is the best; training by it: {typed(asdict(best))}")
    found = {"metric": recipe.best_by, "trials": [asdict(trial) for trial in trials], "best": best.trial}
    return replace(recipe, **{name: getattr(best, name) for name in VALUES}), found


def _try(study: "optuna.Study", search: Search, recipe: Recipe, train: Train, output: Path) -> Trial:
    """One trial, from what to try to how it fared."""
    import optuna

    asked = study.ask()
    candidate = _suggest(asked, recipe, search.over)
    values = {name: getattr(candidate, name) for name in VALUES}
    _say(f"trial {asked.number + 1} of {search.trials}: {typed(values)}")
    watcher, outcome = Watcher(asked, recipe.best_by), "whole"
    try:
        with running_out(output, candidate), _scratch(output) as folder:
            train(candidate, Path(folder), watcher)
    except optuna.TrialPruned:
        outcome = "pruned"
    except OutOfMemory:
        outcome = "out of memory"
    except InputError as exc:
        if type(exc) is not InputError:  # a checkpoint's fault, say, which no other trial mends
            raise
        outcome = "diverged"
    best = min if recipe.best_by in LOWER_IS_BETTER else max
    score = best(watcher.scores, default=None)
    states = {"whole": optuna.trial.TrialState.COMPLETE, "pruned": optuna.trial.TrialState.PRUNED}
    study.tell(asked, score if outcome == "whole" else None, states.get(outcome, optuna.trial.TrialState.FAIL))
    return Trial(asked.number + 1, **values, score=score, epochs_run=len(watcher.scores), outcome=outcome)


def _suggest(asked: "optuna.Trial", recipe: Recipe, over: Sequence[str]) -> Recipe:
    """The recipe with other values: the rate by a factor, epochs by half, and the usual batch sizes."""
    rate, epochs = recipe.learning_rate or 0.0, recipe.epochs or 1
    found: dict[str, Any] = {}
    if "learning_rate" in over:
        found["learning_rate"] = asked.suggest_float("learning_rate", rate / RATE_FACTOR, rate * RATE_FACTOR, log=True)
    if "epochs" in over:
        found["epochs"] = asked.suggest_int("epochs", (epochs + 1) // 2, epochs + (epochs + 1) // 2)
    if "batch_size" in over:
        sizes = sorted({*BATCH_SIZES, recipe.batch_size})
        found["batch_size"] = asked.suggest_categorical("batch_size", sizes)
    return replace(recipe, **found)


def _scratch(output: Path) -> TemporaryDirectory[str]:
    """On the disk of the output, which has room for checkpoints where a system's own place for such may not."""
    return TemporaryDirectory(prefix=f".{output.name}.trial-", dir=output.absolute().parent)


def _say(line: str) -> None:
    tqdm.write(line, file=sys.stderr)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without optuna's own lines; what is worth saying is said here."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
