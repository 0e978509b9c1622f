"""Guarantees hold at their stated rate in simulation, and are rejected where they are impossible."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom
from tests.helpers import toy

from manylabel.errors import InputError, UnknownLabel
from manylabel_export.pipeline import export
from manylabel_train.calibration.fit import fit_calibration
from manylabel_train.data.dataset import Dataset
from manylabel_train.data.splits import GUARANTEE_SPLIT, hold_out_for_guarantees
from manylabel_train.data.training_run import read_run
from manylabel_train.thresholds.constraints import find_constrained_threshold
from manylabel_train.thresholds.learn_then_test import (
    guarantee_precision,
    guarantee_recall,
    lower_confidence_bound,
    min_sample_size,
)
from manylabel_train.thresholds.objectives import Objective, Objectives
from manylabel_train.thresholds.selection import ScoredTexts, select_thresholds
from manylabel_train.training.config import TrainConfig
from manylabel_train.training.train import train

CONFIDENCE, DRAWS = 0.9, 400
TOO_MANY = int(binom.ppf(0.999, DRAWS, 1 - CONFIDENCE))
"""Violations that a valid guarantee exceeds in at most one of a thousand such simulations."""
NOISE = 0.7  # standard deviation of a text's evidence

Column = tuple[np.ndarray, np.ndarray]


def draw(rng: np.random.Generator, n: int, *, prior: float = 0.3) -> Column:
    """Draw one label's uncalibrated scores, and its truth."""
    truth = rng.random(n) < prior
    logits = rng.normal(size=n) / NOISE + 3 * truth - 2
    return (1 / (1 + np.exp(-logits))).astype(np.float32), truth


POPULATION = draw(np.random.default_rng(0), 400_000)


def true_value(name: str, threshold: float) -> float:
    """Compute precision or recall on a very large sample."""
    scores, truth = POPULATION
    decided = scores >= np.float32(threshold)
    return float((decided & truth).sum() / (decided if name == "precision" else truth).sum())


def guarantee(name: str, learned: Column, holdout: Column, minimum: float) -> float:
    if name == "recall":
        return guarantee_recall(*holdout, minimum, CONFIDENCE).threshold
    return guarantee_precision(*holdout, learned, minimum, CONFIDENCE).threshold


@pytest.mark.parametrize(
    ("name", "minimum"), [("recall", 0.9), ("recall", 0.8), ("precision", 0.8), ("precision", 0.7)]
)
def test_guarantee_fails_at_most_at_its_stated_rate(name: str, minimum: float) -> None:
    rng = np.random.default_rng(1)
    violations = uncorrected = 0
    for _ in range(DRAWS):
        learned, holdout = draw(rng, 250), draw(rng, 250)
        violations += true_value(name, guarantee(name, learned, holdout, minimum)) < minimum
        together = np.concatenate([learned[0], holdout[0]]), np.concatenate([learned[1], holdout[1]])
        uncorrected += true_value(name, find_constrained_threshold(*together, name, minimum).threshold) < minimum  # type: ignore[arg-type]
    assert violations <= TOO_MANY
    assert uncorrected > 2 * TOO_MANY  # the control: in the same simulation a plain constraint fails


@pytest.mark.parametrize("name", ["recall", "precision"])
def test_guarantee_survives_tuning_on_other_texts(name: str) -> None:
    """Calibration and the order of tests use the validation texts, the guarantee only the held-out texts."""
    rng = np.random.default_rng(3)
    objectives, violations = Objectives(Objective(name, 0.8, CONFIDENCE)), 0  # type: ignore[arg-type]  # one of two
    draws = DRAWS // 4
    for _ in range(draws):
        learned, holdout = draw(rng, 250), draw(rng, 250)
        calibration = fit_calibration(learned[0][:, None], learned[1][:, None].astype(np.float32), "platt")
        rows, held_out = (
            ScoredTexts(calibration.apply(s[:, None]), t[:, None].astype(np.float32)) for s, t in (learned, holdout)
        )
        chosen = select_thresholds(rows, ["x"], objectives, holdout=held_out)
        before = calibration.undo(chosen.thresholds[:, None])
        violations += not chosen.unmet and true_value(name, float(before[0, 0])) < 0.8
    assert violations <= binom.ppf(0.999, draws, 1 - CONFIDENCE)


def test_guarantee_costs_less_with_more_texts() -> None:
    rng = np.random.default_rng(4)
    few, many = (
        np.mean([guarantee_recall(*draw(rng, n), 0.9, CONFIDENCE).threshold for _ in range(20)]) for n in (200, 5_000)
    )
    best = find_constrained_threshold(*POPULATION, "recall", 0.9).threshold
    assert few < many < best


def test_confidence_bound_meets_the_minimum() -> None:
    for hits, of in ((59, 59), (58, 58), (180, 185), (95, 100)):
        passes = binom.sf(hits - 1, of, 0.95) <= 0.05
        assert (lower_confidence_bound(hits, of, 0.95) >= 0.95) == passes
    assert lower_confidence_bound(0, 10, 0.95) == 0


@pytest.mark.parametrize(("minimum", "confidence", "needed"), [(0.95, 0.95, 59), (0.9, 0.95, 29), (0.5, 0.5, 1)])
def test_min_sample_size_is_the_smallest_sufficient_number(minimum: float, confidence: float, needed: int) -> None:
    assert min_sample_size(minimum, confidence) == needed
    assert lower_confidence_bound(needed, needed, confidence) >= minimum - 1e-12
    assert needed == 1 or lower_confidence_bound(needed - 1, needed - 1, confidence) < minimum


def test_tied_scores_share_a_threshold_side() -> None:
    scores = np.repeat(np.float32([0.2, 0.6, 0.9]), 100)
    truth = np.repeat([False, True, True], 100)
    found = guarantee_recall(scores, truth, 0.9, 0.95)
    assert 0.2 < found.threshold <= 0.6


def test_guarantee_ignores_unknown_and_validation_labels() -> None:
    rng = np.random.default_rng(5)
    holdout, hidden = draw(rng, 600), np.random.default_rng(6).random(600) < 0.3
    targets = np.where(hidden, np.nan, holdout[1]).astype(np.float32)[:, None]
    objectives = Objectives(Objective("recall", 0.9, 0.95))
    found = []
    for seed in (7, 8):
        other = np.where(hidden, np.random.default_rng(seed).random(600, dtype=np.float32), holdout[0])
        rows = ScoredTexts(*(each[:, None].astype(np.float32) for each in draw(np.random.default_rng(seed), 200)))
        found.append(select_thresholds(rows, ["x"], objectives, holdout=ScoredTexts(other[:, None], targets)))
    assert found[0].thresholds == found[1].thresholds
    assert found[0].bounds["x"] >= 0.9


# The hold-out split


def rows(n: int) -> Dataset:
    return toy.dataset(n, per_split=n // 3)


def test_half_of_validation_is_held_out() -> None:
    data, objectives = rows(900), Objectives(named={"price": Objective("recall", 0.8, 0.9)})
    found = hold_out_for_guarantees(data, objectives)
    assert [found.split.count(name) for name in ("train", "validation", "test", GUARANTEE_SPLIT)] == [
        300,
        150,
        300,
        150,
    ]
    assert found.texts == data.texts
    assert hold_out_for_guarantees(data, objectives).split == found.split
    assert hold_out_for_guarantees(data, Objectives(Objective("recall", 0.8))) is data


def test_too_few_held_out_texts_error_has_the_number() -> None:
    data = rows(90)
    with pytest.raises(InputError, match="15 held-out texts") as caught:
        hold_out_for_guarantees(data, Objectives(named={"price": Objective("recall", 0.95, 0.95)}))
    assert re.search(
        r"'price' \(recall at least 0.95 with confidence 0.95\) needs 59 and has \d+, enough for", str(caught.value)
    )
    assert "'billing'" not in str(caught.value)
    with pytest.raises(UnknownLabel, match="Did you mean 'price'"):
        hold_out_for_guarantees(data, Objectives(named={"prise": Objective("recall", 0.95, 0.95)}))


@pytest.mark.parametrize(("value", "confidence", "message"), [(1.0, 0.9, "recall of 1"), (0.9, 1.0, "confidence is 1")])
def test_impossible_guarantee_is_rejected(value: float, confidence: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Objective("recall", value, confidence)


# From a run to a bundle


OBJECTIVES = Objectives(named={"price": Objective("recall", 0.8, 0.9), "billing": Objective("recall", 0.7, 0.9)})


@pytest.fixture(scope="module")
def guaranteed_run(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run with guarantees; do not modify it."""
    folder = tmp_path_factory.mktemp("guaranteed") / "run"
    train(
        toy.dataset(1000, per_split=240),
        folder,
        model=str(encoder),
        config=TrainConfig(**toy.RECIPE),
        objectives=OBJECTIVES,
    )
    return folder


def test_run_keeps_held_out_texts_for_the_bundle(guaranteed_run: Path, tmp_path: Path) -> None:
    run = read_run(guaranteed_run)
    record = run.details["thresholds"]
    assert set(record["bounds"]) == {"price", "billing"}
    assert record["unmet"] == {}
    assert record["bounds"]["price"] >= 0.8
    assert record["bounds"]["billing"] >= 0.6
    texts = [
        [json.loads(line)["text"] for line in (guaranteed_run / name).read_text().splitlines()]
        for name in ("validation.jsonl", "aside.jsonl")
    ]
    assert sorted(texts[0] + texts[1]) == sorted(toy.dataset(1000, per_split=240).part("validation").texts)
    assert [len(part) for part in texts] == [120, 120]
    bundle = export(guaranteed_run, tmp_path / "bundle", precisions=["fp32", "int8"])
    assert bundle.manifest.source["thresholds"]["bounds"] == pytest.approx(record["bounds"])
    np.testing.assert_allclose(bundle.variants["fp32"].thresholds, run.thresholds, atol=1e-5)
    card = (bundle.path / "README.md").read_text()
    assert "exchangeable" in card
    assert f"at least {record['bounds']['price']:.3f}" in card
    certificate = bundle.manifest.certificate
    assert certificate.texts == 240
    assert certificate.parity["fp32"].quality.macro_f1.value == pytest.approx(
        run.metrics["validation"]["tuned"]["macro_f1"], abs=1e-6
    )


def test_guarantee_needs_held_out_texts(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"held out no texts for guarantees.*--validation DATA"):
        export(run, tmp_path / "bundle", objectives=OBJECTIVES, precisions=["fp32"])
    assert list(tmp_path.iterdir()) == []


def test_external_checkpoint_gets_guarantees(elsewhere: Path, tmp_path: Path) -> None:
    fresh = toy.dataset(500, seed=11, per_split=0)
    bundle = export(elsewhere, tmp_path / "bundle", validation=fresh, objectives=OBJECTIVES, precisions=["fp32"])
    assert bundle.manifest.source["thresholds"]["bounds"]["price"] >= 0.8
    with pytest.raises(InputError, match="needs 11 and has"):
        export(elsewhere, tmp_path / "b", validation=fresh.take(range(30)), objectives=OBJECTIVES)


def test_too_few_texts_error_comes_before_training(encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too few"):
        train(toy.dataset(200, per_split=20), tmp_path / "run", model=str(encoder), objectives=OBJECTIVES)
    assert list(tmp_path.iterdir()) == []


def test_missing_held_out_texts_error(guaranteed_run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(guaranteed_run, tmp_path / "run"))
    (folder / "aside.jsonl").unlink()
    with pytest.raises(InputError, match="held out no texts for guarantees"):
        export(folder, tmp_path / "bundle", precisions=["fp32"])
