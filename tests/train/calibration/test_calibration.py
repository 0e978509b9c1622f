"""Calibration: fitted by log-loss, decided on held-out folds, folded into the head."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from tests.helpers import toy
from tests.helpers.architectures import CONFIGURATIONS, VOCABULARY, make_classifier
from tests.helpers.toy import LABELS

from manylabel import Bundle, Classifier
from manylabel.errors import InputError
from manylabel.inference.tokenizer import LongText
from manylabel_export.pipeline import export
from manylabel_train.calibration.fit import Calibration, calibrate_held_out, fit_calibration, parse_calibration
from manylabel_train.calibration.platt import fit_platt_scaling, fit_temperature, log_loss, to_logits, to_probabilities
from manylabel_train.data.training_run import read_run
from manylabel_train.evaluation.metrics import calibration_errors, expected_calibration_error
from manylabel_train.models import checkpoint
from manylabel_train.models.classification_head import output_layer
from manylabel_train.training.config import TrainConfig
from manylabel_train.training.train import train

NAN = float("nan")
SCALE, SHIFT = np.array([1.0, 0.5, 2.0]), np.array([0.0, 1.0, -1.0])


def draw(
    n: int, *, seed: int = 0, scale: np.ndarray = SCALE, shift: np.ndarray = SHIFT
) -> tuple[np.ndarray, np.ndarray]:
    """Draw targets, and probabilities that scaling and shifting their logits would calibrate."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1, 1.5, (n, len(scale)))
    targets = (rng.random(logits.shape) < to_probabilities(logits)).astype(np.float32)
    return to_probabilities((logits - shift) / scale), targets


def loss(scores: np.ndarray, targets: np.ndarray) -> float:
    return float(log_loss(to_logits(scores), targets).mean())


# Fits


def test_platt_recovers_scale_and_shift() -> None:
    found = fit_calibration(*draw(20_000), "platt")
    np.testing.assert_allclose(found.scale, SCALE, rtol=0.07)
    np.testing.assert_allclose(found.shift, SHIFT, atol=0.07)
    assert found.changed.tolist() == [False, True, True]  # the first is calibrated already, and is not changed
    assert (found.scale[0], found.shift[0]) == (1, 0)


def test_temperature_scaling_recovers_the_temperature() -> None:
    found = fit_calibration(*draw(20_000, scale=np.full(3, 0.5), shift=np.zeros(3)), "temperature")
    np.testing.assert_allclose(found.scale, [0.5] * 3, rtol=0.03)
    assert len(set(found.scale)) == 1
    assert (found.shift == 0).all()


def test_platt_fit_matches_scipy_minimize() -> None:
    scores, targets = draw(200, seed=3)
    targets[:40, 1] = NAN
    logits = to_logits(scores)
    scales, shifts = fit_platt_scaling(logits, targets)
    for column in range(3):
        known = ~np.isnan(targets[:, column])
        z, truth = logits[known, column], targets[known, column] > 0.5
        positives, negatives = truth.sum(), (~truth).sum()
        smoothed = np.where(truth, (positives + 1) / (positives + 2), 1 / (negatives + 2))

        def objective(x: np.ndarray, z: np.ndarray = z, smoothed: np.ndarray = smoothed) -> float:
            at = x[0] * z + x[1]
            return float((np.logaddexp(0, at) - smoothed * at).sum())

        best = minimize(objective, [1.0, 0.0]).x
        np.testing.assert_allclose([scales[column], shifts[column]], best, atol=5e-3)


def test_temperature_fit_matches_grid_search() -> None:
    scores, targets = draw(300, seed=4, scale=np.full(3, 0.4), shift=np.zeros(3))
    logits = to_logits(scores)
    found = fit_temperature(logits, targets)
    losses = {scale: log_loss(scale * logits, targets).sum() for scale in np.linspace(0.05, 3, 2_000)}
    assert found == pytest.approx(min(losses, key=losses.__getitem__), abs=3e-3)


@pytest.mark.parametrize("separable", [True, False])
def test_separable_and_constant_scores_give_finite_parameters(separable: bool) -> None:
    truth = np.arange(40) % 2
    scores = np.where(truth, 1 - 1e-9, 1e-9) if separable else np.full(40, 0.3)
    found = fit_calibration(scores[:, None].astype(np.float32), truth[:, None].astype(np.float32), "platt")
    assert np.isfinite(found.scale).all()
    assert (found.scale > 0).all()


# Decisions


def test_calibrated_probabilities_mostly_stay_unchanged() -> None:
    """Of 60 labels that cannot gain, few are changed, and those lose little."""
    scores, targets = draw(400, scale=np.ones(60), shift=np.zeros(60))
    found = fit_calibration(scores, targets, "platt")
    assert found.changed.sum() <= 6
    fresh = draw(20_000, seed=1, scale=np.ones(60), shift=np.zeros(60))
    assert loss(found.apply(fresh[0]), fresh[1]) < loss(*fresh) + 0.001


def test_rare_labels_do_not_get_worse_as_with_plain_platt() -> None:
    scale, shift = np.ones(40), np.zeros(40)

    def rare(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        logits = rng.normal(-5, 1.5, (n, 40))
        return to_probabilities(logits), (rng.random(logits.shape) < to_probabilities(logits)).astype(np.float32)

    scores, targets = rare(300, 0)
    fresh, found = rare(20_000, 1), fit_calibration(scores, targets, "platt")
    plain = Calibration(*fit_platt_scaling(to_logits(scores), targets))
    assert loss(plain.apply(fresh[0]), fresh[1]) > loss(*fresh) + 0.002
    assert loss(found.apply(fresh[0]), fresh[1]) < loss(*fresh) + 0.0005
    assert (found.scale >= scale * 0.1).all()
    assert found.shift.shape == shift.shape


def test_calibration_lowers_log_loss_and_ece_on_new_texts() -> None:
    scores, targets = draw(600)
    fresh = draw(20_000, seed=1)
    found = fit_calibration(scores, targets, "platt").apply(fresh[0])
    assert loss(found, fresh[1]) < loss(*fresh) - 0.02
    before, after = (calibration_errors(one, fresh[1], "abc")["mean"] for one in (fresh[0], found))
    assert after < before / 2


@pytest.mark.parametrize("method", ["platt", "temperature"])
def test_unknown_labels_do_not_affect_calibration(method: str) -> None:
    scores, targets = draw(600)
    hidden = np.random.default_rng(2).random(targets.shape) < 0.4
    targets = np.where(hidden, np.float32(NAN), targets)
    other = np.where(hidden, np.random.default_rng(3).random(scores.shape, dtype=np.float32), scores)
    ours, theirs = (fit_calibration(one, targets, method) for one in (scores, other))  # type: ignore[arg-type]
    np.testing.assert_array_equal(ours.scale, theirs.scale)
    np.testing.assert_array_equal(ours.shift, theirs.shift)
    assert ours.changed.any()


@pytest.mark.parametrize("method", ["platt", "temperature"])
def test_calibration_needs_texts_positives_and_known_labels(method: str) -> None:
    scores, targets = draw(60)
    for rows, values in ((slice(0, 9), targets), (slice(0, 60), targets * NAN)):
        found = fit_calibration(scores[rows], values[rows], method)  # type: ignore[arg-type]  # one of three
        assert not found.changed.any()


def test_calibration_keeps_ranking_within_a_label() -> None:
    rng = np.random.default_rng(0)
    upside_down = rng.random((500, 1)).astype(np.float32), None
    targets = (rng.random((500, 1)) > upside_down[0]).astype(np.float32)
    found = fit_calibration(upside_down[0], targets, "platt")
    assert (found.scale > 0).all()


# Expected calibration error


def test_ece_matches_manual_computation() -> None:
    scores, truth = np.array([0.1, 0.2, 0.8, 0.9]), np.array([False, True, True, True])
    assert expected_calibration_error(scores, truth, bins=2) == pytest.approx((abs(0.3 - 1) + abs(1.7 - 2)) / 4)
    assert expected_calibration_error(scores, truth, bins=1) == pytest.approx(abs(2.0 - 3) / 4)
    assert expected_calibration_error(scores, truth) == pytest.approx((0.1 + 0.8 + 0.2 + 0.1) / 4)


def test_ece_ignores_labels_without_known_values() -> None:
    scores, targets = draw(100)
    targets[:, 1] = NAN
    assert set(calibration_errors(scores, targets, "abc")["labels"]) == {"a", "c"}


def test_cross_calibration_excludes_the_held_out_text() -> None:
    """Invert one text's targets: its own probabilities stay the same."""
    scores, targets = draw(300)
    turned = targets.copy()
    turned[7] = 1 - turned[7]
    before, after = (calibrate_held_out(scores, one, "platt") for one in (targets, turned))
    np.testing.assert_array_equal(before[7], after[7])
    assert (before != after).any()


# Folding


@pytest.mark.parametrize("architecture", CONFIGURATIONS)
def test_folded_calibration_is_exact_for_every_architecture(architecture: str) -> None:
    model = make_classifier(architecture)
    ids = torch.from_numpy(np.random.default_rng(0).integers(3, VOCABULARY, (3, 20)))

    def probabilities() -> np.ndarray:
        with torch.inference_mode():
            return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.sigmoid().numpy()

    before = probabilities()
    calibration = Calibration(np.array([0.5, 1.0, 1.5, 2.0]), np.array([-1.0, 0.0, 0.5, 1.0]))
    calibration.fold(output_layer(model))
    np.testing.assert_allclose(probabilities(), calibration.apply(before), atol=1e-5)
    np.testing.assert_allclose(calibration.undo(calibration.apply(before)), before, atol=1e-5)


def test_calibration_json_round_trip() -> None:
    calibration = Calibration(np.array([1.0, 0.5, 1.0]), np.array([0.0, 0.0, -1.0]))
    content = json.loads(json.dumps(calibration.as_dict("abc")))
    assert set(content) == {"b", "c"}
    found = parse_calibration(content, "abc")
    np.testing.assert_array_equal(found.scale, calibration.scale)
    np.testing.assert_array_equal(found.shift, calibration.shift)


# From a run to a bundle


@pytest.fixture(scope="module")
def runs(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the same training with and without calibration."""
    config, data = TrainConfig(**toy.RECIPE), toy.dataset(1000, per_split=240)
    folders = {}
    for method in ("platt", "none"):
        folders[method] = tmp_path_factory.mktemp(method) / "run"
        train(data, folders[method], model=str(encoder), config=config, calibration=method)  # type: ignore[arg-type]
    return folders


def answers(folder: Path) -> np.ndarray:
    texts = [text for text, _ in toy.examples(40, seed=9)]
    model, _ = checkpoint.load_model(str(folder))
    reader = checkpoint.to_runtime_tokenizer(checkpoint.load_tokenizer(str(folder)), 32, LongText("window", overlap=2))
    return checkpoint.predict_proba(model, reader, texts)


def test_run_checkpoint_has_calibrated_probabilities(runs: dict[str, Path]) -> None:
    details = read_run(runs["platt"]).details["calibration"]
    assert details["method"] == "platt"
    assert details["labels"]
    applied = parse_calibration(details["labels"], LABELS).apply(answers(runs["none"]))
    np.testing.assert_allclose(answers(runs["platt"]), applied, atol=1e-4)
    for split in ("validation", "test"):
        error = details["error"][split]
        assert error["after"]["mean"] < error["before"]["mean"]
        assert set(error["after"]["labels"]) == set(LABELS)
    plain = read_run(runs["none"]).details["calibration"]
    assert plain["labels"] == {}
    assert plain["error"]["test"]["before"]["mean"] == pytest.approx(details["error"]["test"]["before"]["mean"])
    toy.every_json(runs["platt"])


def test_calibration_keeps_ranking_metrics(runs: dict[str, Path]) -> None:
    ours, theirs = (read_run(runs[method]).metrics["test"]["at_half"] for method in ("platt", "none"))
    assert ours["macro_roc_auc"] == pytest.approx(theirs["macro_roc_auc"], abs=1e-4)


def test_bundle_is_calibrated_and_its_card_reports_it(runs: dict[str, Path], tmp_path: Path) -> None:
    bundle = export(runs["platt"], tmp_path / "bundle", precisions=["fp32"])
    texts = [text for text, _ in toy.examples(40, seed=9)]
    found = Classifier.load(bundle.path, device="cpu").predict_proba(texts)
    np.testing.assert_allclose(found, answers(runs["platt"]), atol=1e-5)
    details = read_run(runs["platt"]).details["calibration"]
    assert bundle.manifest.source["calibration"] == details
    card = (bundle.path / "README.md").read_text()
    assert "## Calibration" in card
    mean = details["error"]["test"]["after"]["mean"]
    assert f"{mean:.4f}" in card.split("mean of all labels")[1].splitlines()[0]
    with pytest.raises(InputError, match="calibrated in training"):
        export(runs["platt"], tmp_path / "again", calibration="platt")


def test_external_checkpoint_is_calibrated_on_request(runs: dict[str, Path], tmp_path: Path) -> None:
    """Without its `run.json`, the uncalibrated run is such a checkpoint."""
    folder = Path(shutil.copytree(runs["none"], tmp_path / "checkpoint"))
    (folder / "run.json").unlink()
    validation = toy.dataset(1000, per_split=240).part("validation")
    bundle = export(folder, tmp_path / "bundle", validation=validation, precisions=["fp32"], calibration="platt")
    texts = [text for text, _ in toy.examples(40, seed=9)]
    found = Classifier.load(bundle.path, device="cpu").predict_proba(texts)
    np.testing.assert_allclose(found, answers(runs["platt"]), atol=1e-4)
    assert bundle.manifest.source["calibration"]["labels"]
    np.testing.assert_allclose(
        bundle.variants["fp32"].thresholds, read_run(runs["platt"]).thresholds, atol=1e-3
    )  # a bundle is the same whether training or export calibrates
    with pytest.raises(InputError, match="--validation DATA"):
        export(folder, tmp_path / "b", calibration="platt")
    assert not (tmp_path / "b").exists()


def test_uncalibrated_bundle_does_not_mention_calibration(elsewhere: Path, tmp_path: Path) -> None:
    bundle = export(elsewhere, tmp_path / "bundle", precisions=["fp32"])
    assert "calibration" not in bundle.manifest.source
    assert "## Calibration" not in (Bundle.open(bundle.path).path / "README.md").read_text()


def test_folded_weights_stay_finite_and_keep_dtype(runs: dict[str, Path]) -> None:
    model, _ = checkpoint.load_model(str(runs["platt"]))
    layer = output_layer(model)
    assert layer.weight.dtype == torch.float32
    assert math.isfinite(float(layer.weight.detach().abs().max()))
