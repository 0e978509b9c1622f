"""A search evaluates configurations on validation only, the default first, and trains with the best."""

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
from manylabel_train.data.training_run import read_run
from manylabel_train.training.callbacks import ProgressBar, metric_history
from manylabel_train.training.config import TrainConfig
from manylabel_train.training.hyperparameter_search import PruningCallback, SearchConfig, format_trials, search_config
from manylabel_train.training.train import train

needs_optuna = pytest.mark.skipif(find_spec("optuna") is None, reason="optuna is absent")
SHORT = replace(TrainConfig(**toy.RECIPE), epochs=2)
FULL = replace(SHORT, max_length=32)


class State:
    """The part of the Trainer's state that the callback reads."""

    def __init__(self) -> None:
        self.log_history: list[dict[str, float]] = []


def pretend(curves: list[list[float] | Exception], tried: list[TrainConfig], metric: str = "macro_f1"):  # type: ignore[no-untyped-def]
    """Return a training that reports the next curve, one value per epoch."""

    def run(config: TrainConfig, folder: Path, watcher: PruningCallback) -> None:
        assert folder.is_dir()
        tried.append(config)
        curve, state = curves[len(tried) - 1], State()
        if isinstance(curve, Exception):
            raise curve
        for value in curve:
            state.log_history.append({f"eval_{metric}": value})
            watcher.on_evaluate(None, state, None)

    return run


@needs_optuna
def test_search_result_is_reproducible_and_not_worse(encoder: Path, tmp_path: Path) -> None:
    data = toy.dataset(200)
    of_test = np.array(data.split) == "test"
    turned = replace(data, targets=np.where(of_test[:, None], 1 - data.targets, data.targets))
    found = train(data, tmp_path / "run", model=str(encoder), config=SHORT, search=SearchConfig(3))
    kept = read_run(tmp_path / "run").details["search"]
    first, best = kept["trials"][0], kept["trials"][kept["best"] - 1]
    assert [first[name] for name in ("trial", "learning_rate", "epochs", "batch_size")] == [1, 1e-3, 2, 16]
    assert best["score"] >= first["score"]
    assert max(metric_history(found.details["log"], "macro_f1")) == best["score"]
    typed = replace(SHORT, **{name: best[name] for name in ("learning_rate", "epochs", "batch_size")})
    train(data, tmp_path / "typed", model=str(encoder), config=typed)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("run", "typed")]
    assert weights[0] == weights[1]
    train(turned, tmp_path / "turned", model=str(encoder), config=SHORT, search=SearchConfig(3))
    assert read_run(tmp_path / "turned").details["search"] == kept  # independent of the test split
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "turned", "typed"]


@needs_optuna
@pytest.mark.parametrize("added", [False, True])
def test_search_from_a_checkpoint(elsewhere: Path, tmp_path: Path, added: bool) -> None:
    data = toy.dataset(200)
    if added:
        data = replace(data, labels=(*data.labels[:3], "new"))
    options = {"add_labels": ["new"]} if added else {}
    run = train(
        data, tmp_path / "run", start_from=str(elsewhere), config=SHORT, search=SearchConfig(2, ("epochs",)), **options
    )
    best = run.details["search"]["trials"][run.details["search"]["best"] - 1]
    assert max(metric_history(run.details["log"], "macro_f1")) == best["score"]


@needs_optuna
def test_search_space_ranges_and_fixed_values(tmp_path: Path) -> None:
    tried: list[TrainConfig] = []
    search_config(SearchConfig(12), FULL, pretend([[0.5]] * 12, tried), tmp_path / "run")
    assert tried[0] == FULL
    assert len(set(tried)) > 6
    for config in tried:
        assert 1e-3 / 4 <= config.learning_rate <= 4e-3  # type: ignore[operator]
        assert config.epochs in (1, 2, 3)
        assert config.batch_size in (16, 32, 64)
    held: list[TrainConfig] = []
    search_config(SearchConfig(6, ("epochs",)), FULL, pretend([[0.5]] * 6, held), tmp_path / "run")
    assert {replace(config, epochs=2) for config in held} == {FULL}
    again: list[TrainConfig] = []
    search_config(SearchConfig(12), FULL, pretend([[0.5]] * 12, again), tmp_path / "run")
    assert again == tried


@needs_optuna
@pytest.mark.parametrize(("metric", "sign"), [("macro_f1", 1), ("hamming_loss", -1)])
def test_median_pruning_and_best_epoch(tmp_path: Path, metric: str, sign: int) -> None:
    good, peak, bad = ([sign * value for value in curve] for curve in ([0.5, 0.6, 0.6], [0.5, 0.9, 0.1], [0.2] * 3))
    tried: list[TrainConfig] = []
    config, found = search_config(
        SearchConfig(4),
        replace(FULL, best_by=metric),
        pretend([good, good, peak, bad], tried, metric),
        tmp_path / "run",
    )
    trials = found["trials"]
    assert found["best"] == 3
    assert config == tried[2]
    assert [trial["outcome"] for trial in trials] == ["whole", "whole", "whole", "pruned"]
    assert [trial["epochs_run"] for trial in trials] == [3, 3, 3, 2]
    assert trials[2]["score"] == sign * 0.9
    lines = format_trials(found).splitlines()
    assert len(lines) == 5
    assert lines[3].endswith("best")
    assert lines[4].endswith("pruned")


@needs_optuna
def test_failed_trials_do_not_end_the_search(tmp_path: Path) -> None:
    curves: list[list[float] | Exception] = [[0.5], InputError("training diverged"), OutOfMemory("memory ran out")]
    config, found = search_config(SearchConfig(3), FULL, pretend(curves, []), tmp_path / "run")
    assert config == FULL
    assert [trial["outcome"] for trial in found["trials"]] == ["whole", "diverged", "out of memory"]
    assert " - " in format_trials(found)
    with pytest.raises(InputError, match="none of 2 trials finished: 1 diverged, 1 out of memory"):
        search_config(SearchConfig(2), FULL, pretend(curves[1:], []), tmp_path / "run")


@needs_optuna
def test_tie_keeps_the_default(tmp_path: Path) -> None:
    assert search_config(SearchConfig(5), FULL, pretend([[0.5]] * 5, []), tmp_path / "run")[0] == FULL


@needs_optuna
def test_invalid_search_error_comes_before_training(encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1 trial; it needs 2 or more"):
        SearchConfig(1)
    with pytest.raises(InputError, match="over none"):
        SearchConfig(2, ())
    with pytest.raises(InputError, match="Leave --resume out"):
        train(toy.dataset(200), tmp_path / "run", model=str(encoder), search=SearchConfig(2), resume=True)
    (tmp_path / ".run.partial").mkdir()
    (tmp_path / ".run.partial" / "plan.json").write_text("{}")
    with pytest.raises(OutputExists, match="an interrupted run"):
        train(toy.dataset(200), tmp_path / "run", model=str(encoder), search=SearchConfig(2))


@needs_optuna
def test_resume_after_search_uses_found_values(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[None] = []

    def die(*_: object, **__: object) -> None:
        seen.append(None)
        if len(seen) > 5:  # two trials of two epochs, and one epoch of the run
            raise KeyboardInterrupt

    data, search = toy.dataset(200), SearchConfig(2, ("learning_rate",))
    with monkeypatch.context() as patch:
        patch.setattr(ProgressBar, "on_evaluate", die)
        with pytest.raises(KeyboardInterrupt):
            train(data, tmp_path / "run", model=str(encoder), config=SHORT, search=search)
    assert [path.name for path in tmp_path.iterdir()] == [".run.partial"]
    with pytest.raises(InputError, match=r"as in .*plan\.json, or search again with --force"):
        train(data, tmp_path / "run", model=str(encoder), config=SHORT, search=search, resume=True)
    kept = json.loads((tmp_path / ".run.partial" / "plan.json").read_text())["recipe"]
    typed = replace(SHORT, learning_rate=kept["learning_rate"])
    train(data, tmp_path / "run", model=str(encoder), config=typed, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@needs_optuna
def test_search_command_prints_a_table(encoder: Path, tmp_path: Path) -> None:
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


def test_missing_optuna_error_has_install_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    result = CliRunner().invoke(train_command, [str(tmp_path / "no.csv"), "-o", str(tmp_path / "run"), "--search", "2"])
    assert isinstance(result.exception, MissingDependency)
    assert str(result.exception) == 'optuna is required for --search. pip install "manylabel[export,search,cpu]"'
