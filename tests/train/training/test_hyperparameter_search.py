"""A search tries recipes on validation alone, the default first, and trains by the best as if it had been typed."""

import json
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tests.helpers import toy

from manylabel.errors import InputError, MissingDependency, OutOfMemory, OutputExists
from manylabel_train.cli.train import train as train_command
from manylabel_train.training.callbacks import Progress, evaluations
from manylabel_train.training.hyperparameter_search import search_recipe
from manylabel_train.training.train import Recipe, Search, read_run, train
from manylabel_train.training.trials import Watcher, table

needs_optuna = pytest.mark.skipif(find_spec("optuna") is None, reason="optuna is absent")
SHORT = replace(Recipe(**toy.RECIPE), epochs=2)
FULL = replace(SHORT, max_length=32)


class State:
    """What the Trainer hands a callback, as far as it is looked at."""

    def __init__(self) -> None:
        self.log_history: list[dict[str, float]] = []


def pretend(curves: list[list[float] | Exception], tried: list[Recipe], metric: str = "macro_f1"):  # type: ignore[no-untyped-def]
    """A training that gives the next curve, an epoch a value."""

    def run(recipe: Recipe, folder: Path, watcher: Watcher) -> None:
        assert folder.is_dir()
        tried.append(recipe)
        curve, state = curves[len(tried) - 1], State()
        if isinstance(curve, Exception):
            raise curve
        for value in curve:
            state.log_history.append({f"eval_{metric}": value})
            watcher.on_evaluate(None, state, None)

    return run


@needs_optuna
def test_the_run_is_what_the_found_values_give_and_no_worse_than_the_default(encoder: Path, tmp_path: Path) -> None:
    data = toy.dataset(200)
    of_test = np.array(data.split) == "test"
    turned = replace(data, targets=np.where(of_test[:, None], 1 - data.targets, data.targets))
    found = train(data, tmp_path / "run", model=str(encoder), recipe=SHORT, search=Search(3))
    kept = read_run(tmp_path / "run").details["search"]
    first, best = kept["trials"][0], kept["trials"][kept["best"] - 1]
    assert [first[name] for name in ("trial", "learning_rate", "epochs", "batch_size")] == [1, 1e-3, 2, 16]
    assert best["score"] >= first["score"]
    assert max(evaluations(found.details["log"], "macro_f1")) == best["score"]
    typed = replace(SHORT, **{name: best[name] for name in ("learning_rate", "epochs", "batch_size")})
    train(data, tmp_path / "typed", model=str(encoder), recipe=typed)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("run", "typed")]
    assert weights[0] == weights[1]
    train(turned, tmp_path / "turned", model=str(encoder), recipe=SHORT, search=Search(3))
    assert read_run(tmp_path / "turned").details["search"] == kept  # nothing of it comes from test
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "turned", "typed"]


@needs_optuna
@pytest.mark.parametrize("added", [False, True])
def test_a_search_starts_from_a_checkpoint_too(elsewhere: Path, tmp_path: Path, added: bool) -> None:
    data = toy.dataset(200)
    if added:
        data = replace(data, labels=(*data.labels[:3], "new"))
    options = {"add_labels": ["new"]} if added else {}
    run = train(
        data, tmp_path / "run", start_from=str(elsewhere), recipe=SHORT, search=Search(2, ("epochs",)), **options
    )
    best = run.details["search"]["trials"][run.details["search"]["best"] - 1]
    assert max(evaluations(run.details["log"], "macro_f1")) == best["score"]


@needs_optuna
def test_values_stay_in_their_ranges_and_fixed_ones_stay_fixed(tmp_path: Path) -> None:
    tried: list[Recipe] = []
    search_recipe(Search(12), FULL, pretend([[0.5]] * 12, tried), tmp_path / "run")
    assert tried[0] == FULL
    assert len(set(tried)) > 6
    for recipe in tried:
        assert 1e-3 / 4 <= recipe.learning_rate <= 4e-3  # type: ignore[operator]
        assert recipe.epochs in (1, 2, 3)
        assert recipe.batch_size in (16, 32, 64)
    held: list[Recipe] = []
    search_recipe(Search(6, ("epochs",)), FULL, pretend([[0.5]] * 6, held), tmp_path / "run")
    assert {replace(recipe, epochs=2) for recipe in held} == {FULL}
    again: list[Recipe] = []
    search_recipe(Search(12), FULL, pretend([[0.5]] * 12, again), tmp_path / "run")
    assert again == tried


@needs_optuna
@pytest.mark.parametrize(("metric", "sign"), [("macro_f1", 1), ("hamming_loss", -1)])
def test_trials_that_fall_behind_are_pruned_and_the_best_one_s_greatest_epoch_counts(
    tmp_path: Path, metric: str, sign: int
) -> None:
    good, peak, bad = ([sign * value for value in curve] for curve in ([0.5, 0.6, 0.6], [0.5, 0.9, 0.1], [0.2] * 3))
    tried: list[Recipe] = []
    recipe, found = search_recipe(
        Search(4), replace(FULL, best_by=metric), pretend([good, good, peak, bad], tried, metric), tmp_path / "run"
    )
    trials = found["trials"]
    assert found["best"] == 3
    assert recipe == tried[2]
    assert [trial["outcome"] for trial in trials] == ["whole", "whole", "whole", "pruned"]
    assert [trial["epochs_run"] for trial in trials] == [3, 3, 3, 2]
    assert trials[2]["score"] == sign * 0.9
    lines = table(found).splitlines()
    assert len(lines) == 5
    assert lines[3].endswith("best")
    assert lines[4].endswith("pruned")


@needs_optuna
def test_trials_that_fail_do_not_end_the_search_unless_all_do(tmp_path: Path) -> None:
    curves: list[list[float] | Exception] = [[0.5], InputError("training diverged"), OutOfMemory("memory ran out")]
    recipe, found = search_recipe(Search(3), FULL, pretend(curves, []), tmp_path / "run")
    assert recipe == FULL
    assert [trial["outcome"] for trial in found["trials"]] == ["whole", "diverged", "out of memory"]
    assert " - " in table(found)
    with pytest.raises(InputError, match="none of 2 trials ran to its end: 1 diverged, 1 out of memory"):
        search_recipe(Search(2), FULL, pretend(curves[1:], []), tmp_path / "run")


@needs_optuna
def test_equals_leave_the_default(tmp_path: Path) -> None:
    assert search_recipe(Search(5), FULL, pretend([[0.5]] * 5, []), tmp_path / "run")[0] == FULL


@needs_optuna
def test_what_a_search_cannot_do_is_said_before_any_training(encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1 trial; it takes 2 or more"):
        Search(1)
    with pytest.raises(InputError, match="none left"):
        Search(2, ())
    with pytest.raises(InputError, match="Leave --resume out"):
        train(toy.dataset(200), tmp_path / "run", model=str(encoder), search=Search(2), resume=True)
    (tmp_path / ".run.partial").mkdir()
    (tmp_path / ".run.partial" / "plan.json").write_text("{}")
    with pytest.raises(OutputExists, match="an interrupted run"):
        train(toy.dataset(200), tmp_path / "run", model=str(encoder), search=Search(2))


@needs_optuna
def test_an_interrupted_run_goes_on_by_the_values_that_were_found(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[None] = []

    def die(*_: object, **__: object) -> None:
        seen.append(None)
        if len(seen) > 5:  # two trials of two epochs, and one epoch of the run
            raise KeyboardInterrupt

    data, search = toy.dataset(200), Search(2, ("learning_rate",))
    with monkeypatch.context() as patch:
        patch.setattr(Progress, "on_evaluate", die)
        with pytest.raises(KeyboardInterrupt):
            train(data, tmp_path / "run", model=str(encoder), recipe=SHORT, search=search)
    assert [path.name for path in tmp_path.iterdir()] == [".run.partial"]
    with pytest.raises(InputError, match=r"as in .*plan\.json, or search anew with --force"):
        train(data, tmp_path / "run", model=str(encoder), recipe=SHORT, search=search, resume=True)
    kept = json.loads((tmp_path / ".run.partial" / "plan.json").read_text())["recipe"]
    typed = replace(SHORT, learning_rate=kept["learning_rate"])
    train(data, tmp_path / "run", model=str(encoder), recipe=typed, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@needs_optuna
def test_the_command_line_holds_what_was_given_and_ends_with_a_table(encoder: Path, tmp_path: Path) -> None:
    data = toy.write_csv(tmp_path / "data.csv", toy.dataset(200))
    options = ["--model", encoder, "--batch-size", "32", "--epochs", "2", "--train-precision", "fp32", "--search", "3"]
    result = CliRunner().invoke(train_command, [str(one) for one in (data, "-o", tmp_path / "run", *options)])
    assert result.exit_code == 0, result.output
    assert "trial 3 of 3" in result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].split()[0] == "trial"
    assert [line.split()[0] for line in lines[1:4]] == ["1", "2", "3"]
    trials = read_run(tmp_path / "run").details["search"]["trials"]
    assert {(trial["epochs"], trial["batch_size"]) for trial in trials} == {(2, 32)}
    assert len({trial["learning_rate"] for trial in trials}) == 3


def test_without_optuna_the_line_to_type_is_said_before_data_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    result = CliRunner().invoke(train_command, [str(tmp_path / "no.csv"), "-o", str(tmp_path / "run"), "--search", "2"])
    assert isinstance(result.exception, MissingDependency)
    assert str(result.exception) == 'optuna is required for --search. pip install "manylabel[export,search,cpu]"'
