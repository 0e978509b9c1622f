"""Unknown labels: read from every form, left out of every metric, and kept by a run and its export."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from tests.helpers import toy

from manylabel.data.labeled_data import Columns
from manylabel.errors import DataError, UnknownLabel
from manylabel.inference.tokenizer import LongText
from manylabel_export.pipeline import export
from manylabel_export.source import load_export_source
from manylabel_train.data.dataset import Dataset, read_dataset
from manylabel_train.evaluation.metrics import multilabel_metrics, per_label_metrics
from manylabel_train.models import checkpoint
from manylabel_train.thresholds.tuning import tune_thresholds
from manylabel_train.training.config import TrainConfig
from manylabel_train.training.label_priors import estimate_priors, mean_labels_per_text, prior_mask
from manylabel_train.training.model_init import carry_over_model, fit_biases
from manylabel_train.training.train import train

NAN = float("nan")
SHORT = TrainConfig(**{**toy.RECIPE, "epochs": 2})


def rows_of(data: Dataset) -> list[list[float | None]]:
    """Return targets with None for unknown, because NaN does not equal itself."""
    return [[None if np.isnan(value) else float(value) for value in row] for row in data.targets]


def holes(data: Dataset, share: float, *, seed: int = 0) -> Dataset:
    """Return the data with some entries made unknown."""
    hidden = np.random.default_rng(seed).random(data.targets.shape) < share
    return replace(data, targets=np.where(hidden, np.float32(NAN), data.targets))


# Reading


@pytest.mark.parametrize("cell", ["", " ", "nan", "NaN"])
def test_empty_cell_or_nan_in_a_label_column_is_unknown(tmp_path: Path, cell: str) -> None:
    (tmp_path / "a.csv").write_text(f"text,app,price\nx,1,{cell}\ny,{cell},0\n")
    assert rows_of(read_dataset(tmp_path / "a.csv", Columns(indicators=("app", "price")))) == [[1, None], [None, 0]]


def test_null_and_nan_in_parquet_and_null_in_jsonl_are_unknown(tmp_path: Path) -> None:
    table = pyarrow.table({"text": ["x", "y"], "app": [True, None], "price": [NAN, 0.0]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    lines = [{"text": "x", "app": 1, "price": None}, {"text": "y", "app": None, "price": 0}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    for name in ("a.parquet", "a.jsonl"):
        assert rows_of(read_dataset(tmp_path / name, Columns(indicators=("app", "price")))) == [[1, None], [None, 0]]


def test_known_column_marks_other_labels_unknown(tmp_path: Path) -> None:
    lines = [
        {"text": "w", "labels": ["app"], "known": ["app", "price"]},
        {"text": "x", "labels": ["delivery"], "known": []},
        {"text": "y", "labels": ["price"], "known": None},
        {"text": "z", "labels": []},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    data = read_dataset(tmp_path / "a.jsonl")
    assert data.labels == ("app", "delivery", "price")
    assert rows_of(data) == [[1, None, 0], [None, 1, None], [0, 0, 1], [0, 0, 0]]
    unlisted = read_dataset(tmp_path / "a.jsonl", Columns(unlisted="unknown"))
    assert rows_of(unlisted)[2:] == [[None, None, 1], [None, None, None]]


def test_known_labels_in_parquet(tmp_path: Path) -> None:
    table = pyarrow.table({"text": ["x", "y"], "labels": [["a"], ["b"]], "known": [["b"], None]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert rows_of(read_dataset(tmp_path / "a.parquet")) == [[1, 0], [0, 1]]


def test_option_unlisted_unknown(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,labels\nx,app\ny,price\nz,\n")
    assert rows_of(read_dataset(tmp_path / "a.csv")) == [[1, 0], [0, 1], [0, 0]]
    data = read_dataset(tmp_path / "a.csv", Columns(unlisted="unknown"))
    assert rows_of(data) == [[1, None], [None, 1], [None, None]]
    assert not data.complete


def test_known_column_with_invalid_label(tmp_path: Path) -> None:
    for known, error, message in ((["delivry"], UnknownLabel, "Did you mean 'delivery'"), ([3], DataError, "'known'")):
        lines = [{"text": "x", "labels": ["delivery"]}, {"text": "y", "labels": [], "known": known}]
        (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
        with pytest.raises(error, match=f"line 2.*{message}"):
            read_dataset(tmp_path / "a.jsonl")


def test_invalid_value_of_option_unlisted() -> None:
    with pytest.raises(DataError, match="'maybe'; expected 'absent' or 'unknown'"):
        Columns(unlisted="maybe")  # type: ignore[arg-type]


def test_a_matrix_with_nan_or_none_and_its_digest() -> None:
    data = Dataset.from_matrix(["x", "y"], [[1, NAN], [0, 1]], ["a", "b"])
    assert rows_of(data) == [[1, None], [0, 1]]
    assert rows_of(Dataset.from_matrix(["x", "y"], [[1, None], [0, 1]], ["a", "b"])) == rows_of(data)
    digests = {replace(data, targets=np.float32([[1, x], [0, 1]])).digest() for x in (NAN, -NAN, 0, 1)}
    assert len(digests) == 3


# Metrics

RNG = np.random.default_rng(0)
TARGETS = (RNG.random((200, 4)) < (0.5, 0.3, 0.2, 0.1)).astype(np.float32)
SCORES = (1 / (1 + np.exp(-(RNG.normal(size=TARGETS.shape) + 2 * TARGETS - 1)))).astype(np.float32)


def test_unknown_rows_and_labels_change_only_macro_f1() -> None:
    expected = multilabel_metrics(SCORES, TARGETS)
    nothing = np.full((7, 4), NAN, np.float32)
    more_texts = np.vstack([TARGETS, nothing]), np.vstack([SCORES, np.full((7, 4), 0.9, np.float32)])
    assert multilabel_metrics(more_texts[1], more_texts[0]) == pytest.approx(expected)
    targets = np.hstack([TARGETS, np.full((200, 1), NAN, np.float32)])
    found = multilabel_metrics(np.hstack([SCORES, np.full((200, 1), 0.9, np.float32)]), targets)
    assert found.pop("macro_f1") == pytest.approx(expected.pop("macro_f1") * 4 / 5)
    assert found == pytest.approx(expected)


def test_label_metrics_use_known_texts_only() -> None:
    hidden = RNG.random(TARGETS.shape) < 0.3
    targets = np.where(hidden, np.float32(NAN), TARGETS)
    found = per_label_metrics(SCORES, targets, "abcd", (0.5, 0.4, 0.3, 0.6))
    whole = multilabel_metrics(SCORES, targets)
    aucs = []
    for at, label in enumerate("abcd"):
        column = ~hidden[:, at], slice(at, at + 1)
        known = TARGETS[column], SCORES[column]
        alone = per_label_metrics(known[1], known[0], [label], (0.5, 0.4, 0.3, 0.6)[at])
        assert found[label] == pytest.approx(alone[label])
        aucs.append(multilabel_metrics(known[1], known[0])["macro_roc_auc"])
    assert whole["macro_roc_auc"] == pytest.approx(np.mean(aucs))


def test_sample_metrics_use_known_labels_only() -> None:
    targets = np.float32([[1, NAN, 0], [NAN, NAN, NAN], [0, 1, NAN]])
    scores = np.float32([[0.8, 0.9, 0.1], [0.9, 0.9, 0.9], [0.7, 0.6, 0.9]])
    found = multilabel_metrics(scores, targets)
    assert found["ranking_average_precision"] == pytest.approx((1 + 1 / 2) / 2)
    assert found["samples_f1"] == pytest.approx((1 + 2 / 3) / 2)
    assert found["subset_accuracy"] == 0.5
    assert found["hamming_loss"] == pytest.approx(1 / 4)
    assert found["micro_f1"] == pytest.approx(2 * 2 / (3 + 2))


def test_metrics_without_known_values_give_no_warning() -> None:
    found = multilabel_metrics(np.full((3, 2), 0.9, np.float32), np.full((3, 2), NAN, np.float32))
    assert set(found.values()) == {0.0}


# Thresholds


def draw(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    targets = (rng.random((n, 3)) < (0.3, 0.2, 0.1)).astype(np.float32)
    logits = rng.normal(size=targets.shape) * 1.5 + 3 * targets - 3.5
    return (1 / (1 + np.exp(-logits))).astype(np.float32), targets


def test_unknown_labels_do_not_affect_thresholds() -> None:
    rng = np.random.default_rng(0)
    scores, targets = draw(rng, 400)
    hidden = rng.random(targets.shape) < 0.4
    targets = np.where(hidden, np.float32(NAN), targets)
    found = tune_thresholds(scores, targets)
    assert (found != 0.5).any()
    other = np.where(hidden, rng.random(scores.shape, dtype=np.float32), scores)
    np.testing.assert_array_equal(tune_thresholds(other, targets), found)


def test_texts_without_known_labels_do_not_affect_thresholds() -> None:
    scores, targets = draw(np.random.default_rng(0), 300)
    nothing = np.full((200, 3), NAN, np.float32)
    more = tune_thresholds(np.vstack([scores, np.full_like(nothing, 0.9)]), np.vstack([targets, nothing]))
    np.testing.assert_array_equal(more, tune_thresholds(scores, targets))


def test_label_without_known_values_keeps_threshold_0_5() -> None:
    scores, targets = draw(np.random.default_rng(0), 400)
    without = np.where([False, True, False], np.float32(NAN), targets)
    found = tune_thresholds(scores, without)
    assert found[1] == 0.5
    np.testing.assert_array_equal(found[[0, 2]], tune_thresholds(scores[:, [0, 2]], targets[:, [0, 2]]))
    assert (found[[0, 2]] < 0.5).all()


# Priors


def test_priors_are_the_shares_among_known_entries() -> None:
    targets = np.float32([[1, 0], [NAN, 0], [NAN, 1], [0, NAN]])
    assert estimate_priors(targets, "bce", None) == pytest.approx([2 / 4, 2 / 5])


def test_positive_only_priors_scale_to_labels_per_text() -> None:
    targets = np.full((98, 4), NAN, np.float32)
    targets[:49, 0] = targets[49:, 1] = 1
    assert estimate_priors(targets, "assume-negative", 2.0) == pytest.approx([0.5, 0.5, 0.01, 0.01])
    assert estimate_priors(targets, "role", 1.5) == pytest.approx([0.75, 0.75, 0.015, 0.015])
    assert estimate_priors(targets, "role", 4.0).max() == 0.9


def test_labels_per_text_use_fully_known_rows() -> None:
    targets = np.float32([[1, 1, 0], [1, NAN, 0], [1, 0, 0], [0, 0, 1]])
    data = Dataset(tuple("abcd"), targets, tuple("xyz"), ("validation", "validation", "validation", "train"))
    assert mean_labels_per_text(data) == 1.5
    assert mean_labels_per_text(data.take([1, 3])) is None


def test_warm_start_bias_uses_known_texts(multiclass: Path) -> None:
    data = toy.dataset(300, per_split=0)
    has_price = data.targets[:, 2] == 1
    targets = np.where((np.arange(4) == 0) & ~has_price[:, None], np.float32(NAN), data.targets)
    start = estimate_priors(targets, "bce", None)
    model, _, _ = carry_over_model(str(multiclass), data.labels, start)
    tokenizer = checkpoint.load_tokenizer(str(multiclass))
    reader = checkpoint.to_runtime_tokenizer(tokenizer, 32, LongText("truncate", overlap=0))
    fit_biases(model, reader, data.texts, start, prior_mask(targets))
    found = checkpoint.predict_proba(model, reader, data.texts)
    means = [found[has_price, 0].mean(), *found[:, 1:].mean(axis=0)]
    np.testing.assert_allclose(means, start, atol=1e-4)


# From training to a bundle


@pytest.fixture(scope="module")
def partly_known(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run on data with a third of all entries unknown."""
    folder = tmp_path_factory.mktemp("unknown") / "run"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(holes(toy.dataset(600), 0.3), folder, model=str(encoder), config=TrainConfig(**toy.RECIPE))
    return folder


def test_training_learns_from_known_labels(partly_known: Path) -> None:
    figures = json.loads((partly_known / "run.json").read_text())
    assert figures["details"]["recipe"]["loss"] == "bce"
    assert figures["metrics"]["test"]["tuned"]["macro_average_precision"] > 0.8
    assert figures["details"]["data"]["unknown_entries"]["train"] > 400
    toy.every_json(partly_known)


def test_run_keeps_unknown_validation_labels(partly_known: Path, tmp_path: Path) -> None:
    expected = holes(toy.dataset(600), 0.3).part("validation")
    source = load_export_source(partly_known, None, "window")
    np.testing.assert_array_equal(source.targets, expected.targets)
    bundle = export(partly_known, tmp_path / "bundle", precisions=("fp32",))
    quality = bundle.manifest.certificate.parity["fp32"].quality
    measured = json.loads((partly_known / "run.json").read_text())["metrics"]["validation"]["tuned"]
    for name in ("micro_f1", "macro_f1"):
        assert getattr(quality, name).value == pytest.approx(measured[name], abs=1e-6)


def test_fully_known_row_is_written_unchanged(run: Path) -> None:
    assert '"known"' not in (run / "validation.jsonl").read_text()


def test_warns_of_label_unknown_in_validation(encoder: Path, tmp_path: Path) -> None:
    data = toy.dataset(200)
    hidden = (np.array(data.split) == "validation")[:, None] & (np.arange(4) == 2)
    data = replace(data, targets=np.where(hidden, np.float32(NAN), data.targets))
    with pytest.warns(
        UserWarning, match="for every text of the validation split it is unknown whether it has 'price'.*stays 0.5"
    ):
        run = train(data, tmp_path / "run", model=str(encoder), config=SHORT)
    assert run.thresholds[2] == 0.5


def test_warns_of_empty_labels_by_known_positives(encoder: Path, tmp_path: Path) -> None:
    data = toy.dataset(200)
    hidden = (np.array(data.split) == "test")[:, None] & (np.arange(4) == 2) & (data.targets == 1)
    data = replace(data, targets=np.where(hidden, np.float32(NAN), data.targets))
    with pytest.warns(UserWarning, match="no text of the test split has 'price'"):
        train(data, tmp_path / "run", model=str(encoder), config=SHORT)


def test_the_model_never_sees_nan(partly_known: Path) -> None:
    model, _ = checkpoint.load_model(str(partly_known))
    assert all(torch.isfinite(value).all() for value in model.parameters())
