"""Threshold objectives: F-beta or a minimum, for all or single labels, from command-line options to the bundle."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers import toy

from manylabel import Bundle
from manylabel.cli.main import main
from manylabel.errors import CheckpointError, InputError, UnknownLabel
from manylabel_export.cli import export as export_command
from manylabel_export.pipeline import export
from manylabel_train.cli.objective_options import FIGURES, parse_objective_options
from manylabel_train.cli.train import train as train_command
from manylabel_train.data.training_run import read_run
from manylabel_train.thresholds.constraints import find_constrained_threshold
from manylabel_train.thresholds.objectives import Objective, Objectives, parse_objectives
from manylabel_train.thresholds.selection import ScoredTexts, select_thresholds
from manylabel_train.thresholds.tuning import find_best_threshold, tune_thresholds
from manylabel_train.training.config import TrainConfig
from manylabel_train.training.train import train

NAN = float("nan")
LABELS = ("app", "price", "support")


def draw(n: int, *, seed: int = 0, priors: tuple[float, ...] = (0.3, 0.2, 0.1)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = (rng.random((n, len(priors))) < priors).astype(np.float32)
    logits = rng.normal(size=targets.shape) * 1.5 + 3 * targets - 2.5
    return (1 / (1 + np.exp(-logits))).astype(np.float32), targets


def figures(scores: np.ndarray, target: np.ndarray, threshold: float) -> dict[str, float]:
    decided, truth = scores >= np.float32(threshold), target > 0.5
    hits = (decided & truth).sum()
    return {"precision": hits / max(decided.sum(), 1), "recall": hits / max(truth.sum(), 1)}


def options(**given: tuple[str, ...]) -> dict[str, Any]:
    return {**dict.fromkeys(FIGURES, ()), "confidence": 0.95, **given}


# Options


def test_objective_options_for_all_or_single_labels() -> None:
    objectives = parse_objective_options(options(beta=("2", "a=b=0.5"), min_recall=("price=0.95",)))
    assert objectives is not None
    assert objectives.for_labels(("app", "price", "a=b")) == (
        Objective("f_beta", 2),
        Objective("recall", 0.95),
        Objective("f_beta", 0.5),
    )
    assert parse_objective_options(options()) is None
    minimums = parse_objective_options(options(min_precision=("0.9",), min_recall=("price=0.95",)))
    assert minimums is not None
    assert [str(objective) for objective in minimums.for_labels(LABELS)] == [
        "precision at least 0.9", "recall at least 0.95", "precision at least 0.9",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given_options", "message"),
    [
        (options(beta=("high",)), "--beta 'high' is neither a number nor LABEL=number"),
        (options(min_recall=("price=",)), "--min-recall 'price=' is neither"),
        (options(beta=("0",)), "beta is 0; it must be above 0"),
        (options(beta=("nan",)), "beta is nan"),
        (options(min_precision=("90",)), "the minimum precision is 90; it must be above 0 and at most 1"),
        (options(beta=("2",), min_recall=("0.9",)), "all labels have two objectives, F2 and recall at least 0.9"),
        (options(min_precision=("price=0.9",), min_recall=("price=0.9",)), "'price' has two objectives"),
    ],
)
def test_invalid_objective_options(given_options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        parse_objective_options(given_options)


def test_unknown_label_in_objective_suggests_nearest() -> None:
    with pytest.raises(UnknownLabel, match=r"'prise'\. Did you mean 'price'"):
        Objectives(named={"prise": Objective("recall", 0.9)}).for_labels(LABELS)


def test_objectives_json_round_trip_and_damage() -> None:
    objectives = Objectives(Objective("f_beta", 2.0), {"price": Objective("precision", 0.9)})
    assert parse_objectives(json.loads(json.dumps(objectives.as_dict())), where="run.json") == objectives
    for damaged in (None, {}, {"default": {"figure": "f_beta", "value": -1.0, "confidence": 0.0}, "named": {}}):
        with pytest.raises(CheckpointError, match="retrain"):
            parse_objectives(damaged, where="run.json")


# Selection


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0]), st.booleans()), min_size=1, max_size=12),
    st.sampled_from([0.25, 0.5, 1.0, 2.0]),
)
def test_f_beta_threshold_is_optimal(rows: list[tuple[float, bool]], beta: float) -> None:
    scores, truth = np.array([score for score, _ in rows]), np.array([positive for _, positive in rows])

    def f_beta(threshold: float) -> float:
        decided = scores >= threshold
        return (1 + beta**2) * (decided & truth).sum() / max(decided.sum() + beta**2 * truth.sum(), 1e-9)

    found = find_best_threshold(scores, truth, beta=beta)
    assert f_beta(found) == max(f_beta(at) for at in np.unique([0.5, *scores])) or not truth.any()


@given(
    st.lists(st.tuples(st.sampled_from([1e-5, 0.1, 0.25, 0.5, 0.75, 0.9]), st.booleans()), min_size=1, max_size=12),
    st.sampled_from(["precision", "recall"]),
    st.sampled_from([0.3, 0.5, 0.8, 1.0]),
)
def test_minimum_precision_maximises_recall(rows: list[tuple[float, bool]], figure: str, minimum: float) -> None:
    scores = np.array([score for score, _ in rows], dtype=np.float32)
    truth = np.array([positive for _, positive in rows])
    if not truth.any():
        return
    found = find_constrained_threshold(scores, truth, figure, minimum)  # type: ignore[arg-type]  # one of two
    reached, other = figures(scores, truth, found.threshold), "recall" if figure == "precision" else "precision"
    assert reached == {"precision": found.precision, "recall": found.recall}
    every = [figures(scores, truth, at) for at in np.unique(scores)]
    holding = [at[other] for at in every if at[figure] >= minimum]
    if holding:
        assert reached[figure] >= minimum
        assert reached[other] == max(holding)
    else:
        assert reached[figure] == max(at[figure] for at in every)


def test_minimum_with_scores_one_float32_ulp_apart() -> None:
    low = np.float32(0.9)
    scores = np.array([np.nextafter(low, np.float32(1)), low], dtype=np.float32)
    assert find_constrained_threshold(scores, np.array([True, False]), "precision", 1.0).precision == 1.0


def test_larger_beta_favours_recall() -> None:
    scores, targets = draw(800)
    low, one, high = (
        select_thresholds(ScoredTexts(scores, targets), LABELS, Objectives(Objective("f_beta", b))) for b in (0.5, 1, 2)
    )
    assert (low.thresholds >= one.thresholds).all()
    assert (one.thresholds >= high.thresholds).all()
    assert (low.thresholds > high.thresholds).all()
    np.testing.assert_array_equal(one.thresholds, tune_thresholds(scores, targets))


def test_threshold_depends_on_its_own_objective_only() -> None:
    scores, targets = draw(800)
    named = {"price": Objective("f_beta", 2.0), "support": Objective("recall", 0.9)}
    mixed = select_thresholds(ScoredTexts(scores, targets), LABELS, Objectives(named=named)).thresholds
    for column, goal in enumerate((Objective(), named["price"], named["support"])):
        alone = select_thresholds(ScoredTexts(scores, targets), LABELS, Objectives(goal)).thresholds
        assert mixed[column] == alone[column]


@pytest.mark.parametrize("figure", ["precision", "recall"])
def test_minimum_holds_on_the_selection_texts(figure: str) -> None:
    scores, targets = draw(800)
    chosen = select_thresholds(ScoredTexts(scores, targets), LABELS, Objectives(Objective(figure, 0.9)))  # type: ignore[arg-type]  # one of two
    assert chosen.unmet == {}
    assert all(figures(*column)[figure] >= 0.9 for column in zip(scores.T, targets.T, chosen.thresholds, strict=True))


def test_unreachable_minimum_reports_the_best_value() -> None:
    scores, targets = draw(300)
    scores[0], targets[0] = 0.9999, (0, 1, 1)  # the highest score of 'app' is wrong
    scores[1:, 0] = np.where(targets[1:, 0] > 0, 0.6, 0.6)  # and all its other scores are equal
    chosen = select_thresholds(ScoredTexts(scores, targets), LABELS, Objectives(Objective("precision", 0.9)))
    positives = int(targets[:, 0].sum())
    assert list(chosen.unmet) == ["app"]
    assert chosen.unmet["app"] == (
        f"precision at least 0.9: {positives / 300:.3f} at most, with precision {positives / 300:.3f} and recall "
        f"1.000; {positives} validation texts have the label"
    )
    assert figures(scores[:, 0], targets[:, 0], chosen.thresholds[0])["recall"] == 1


def test_unknown_labels_do_not_affect_minimums() -> None:
    scores, targets = draw(600)
    hidden = np.random.default_rng(1).random(targets.shape) < 0.4
    targets = np.where(hidden, np.float32(NAN), targets)
    objectives = Objectives(Objective("precision", 0.9), {"price": Objective("recall", 0.9)})
    other = np.where(hidden, np.random.default_rng(2).random(scores.shape, dtype=np.float32), scores)
    found = [select_thresholds(ScoredTexts(one, targets), LABELS, objectives).thresholds for one in (scores, other)]
    np.testing.assert_array_equal(*found)


def test_label_without_positives_keeps_f1_threshold() -> None:
    scores, targets = draw(600)
    targets[:, 2] = 0
    chosen = select_thresholds(ScoredTexts(scores, targets), LABELS, Objectives(Objective("recall", 0.9)))
    assert chosen.unmet == {
        "support": "recall at least 0.9: no validation text has the label, so its threshold is tuned for F1"
    }
    assert chosen.thresholds[2] == tune_thresholds(scores, targets)[2]


# From a run to a bundle


OBJECTIVES = Objectives(Objective("f_beta", 2.0), {"price": Objective("precision", 0.8)})


@pytest.fixture(scope="module")
def objective_run(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run with its own objectives; do not modify it."""
    folder = tmp_path_factory.mktemp("goals") / "run"
    train(toy.dataset(480), folder, model=str(encoder), config=TrainConfig(**toy.RECIPE), objectives=OBJECTIVES)
    return folder


def test_export_uses_the_objectives_of_the_run(objective_run: Path, tmp_path: Path) -> None:
    bundle, run = export(objective_run, tmp_path / "bundle", precisions=["fp32"]), read_run(objective_run)
    assert parse_objectives(run.details["thresholds"]["goals"], where="run.json") == OBJECTIVES
    assert bundle.manifest.source["thresholds"] == run.details["thresholds"]
    np.testing.assert_allclose(bundle.variants["fp32"].thresholds, run.thresholds, atol=1e-5)
    assert bundle.manifest.metrics == run.metrics
    card = (bundle.path / "README.md").read_text()
    assert "selected on validation data for the objectives below" in card
    assert "| price | precision at least 0.8 | met |" in card
    assert "| billing | F2 |  |" in card


def test_export_with_other_objectives_reselects_thresholds(objective_run: Path, tmp_path: Path) -> None:
    bundle = export(objective_run, tmp_path / "bundle", precisions=["fp32"], objectives=Objectives())
    assert bundle.manifest.source["thresholds"]["goals"] == Objectives().as_dict()
    assert bundle.manifest.metrics == {}
    assert bundle.variants["fp32"].thresholds != pytest.approx(read_run(objective_run).thresholds)
    assert "tuned for F1 on validation data" in (bundle.path / "README.md").read_text()


def test_run_without_objectives_is_exported_for_f1(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for name, content in toy.content(run).items():
        (folder / name).write_bytes(content)
    document = json.loads((folder / "run.json").read_text())
    del document["details"]["thresholds"]
    (folder / "run.json").write_text(json.dumps(document))
    bundle = export(folder, tmp_path / "bundle", precisions=["fp32"])
    np.testing.assert_allclose(bundle.variants["fp32"].thresholds, read_run(run).thresholds, atol=1e-5)


def test_objectives_need_labelled_texts(elsewhere: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--validation DATA"):
        export(elsewhere, tmp_path / "bundle", objectives=Objectives())
    assert list(tmp_path.iterdir()) == []


def test_unknown_objective_label_error_comes_before_training(encoder: Path, tmp_path: Path) -> None:
    objectives = Objectives(named={"prices": Objective("recall", 0.9)})
    with pytest.raises(UnknownLabel, match="Did you mean 'price'"):
        train(toy.dataset(200), tmp_path / "run", model=str(encoder), objectives=objectives)
    assert list(tmp_path.iterdir()) == []


# On the command line


def test_objectives_on_the_command_line(elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = {"train": train_command, "export": export_command}
    monkeypatch.setattr(type(main), "get_command", lambda _, __, name: commands[name])
    data = toy.write_csv(tmp_path / "data.csv", toy.dataset(200))
    base = ["export", str(elsewhere), "--validation", str(data), "--precision", "fp32", "--force"]

    def run(*more: str):  # type: ignore[no-untyped-def]
        return CliRunner().invoke(main, [*base, "--output", str(tmp_path / "bundle"), *more])

    done = run("--beta", "2", "--min-precision", "user experience=1")
    assert done.exit_code == 0, done.output
    objectives = Bundle.open(tmp_path / "bundle").manifest.source["thresholds"]["goals"]
    assert objectives["default"] == {"figure": "f_beta", "value": 2.0, "confidence": 0.0}
    assert objectives["named"] == {"user experience": {"figure": "precision", "value": 1.0, "confidence": 0.0}}
    failed = run("--min-recall", "delivry=0.9")
    assert failed.exit_code == 2
    assert failed.stderr == "UnknownLabel: there is no label 'delivry'. Did you mean 'delivery'?\n"
    assert Bundle.open(tmp_path / "bundle").labels == toy.LABELS
