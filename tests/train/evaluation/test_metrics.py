"""Metrics have their usual names, and equal scikit-learn's where both define them alike."""

import numpy as np
import pytest
from sklearn import metrics as sk

from manylabel_train.evaluation.metrics import METRICS, multilabel_metrics, per_label_metrics

RNG = np.random.default_rng(0)
TARGETS = (RNG.random((300, 5)) < (0.5, 0.3, 0.2, 0.1, 0.05)).astype(np.float32)
SCORES = (1 / (1 + np.exp(-(RNG.normal(size=TARGETS.shape) + 2 * TARGETS - 1)))).astype(np.float32)
THRESHOLDS = (0.5, 0.4, 0.3, 0.6, 0.2)


def test_every_metric_has_its_name_and_lies_between_0_and_1() -> None:
    found = multilabel_metrics(SCORES, TARGETS)
    assert tuple(found) == METRICS
    assert all(0 < value < 1 for value in found.values())
    assert all(type(value) is float for value in found.values())


@pytest.mark.parametrize("thresholds", [0.5, THRESHOLDS])
def test_metrics_match_scikit_learn(thresholds: float | tuple[float, ...]) -> None:
    found = multilabel_metrics(SCORES, TARGETS, thresholds)
    decided = np.array(np.asarray(thresholds, dtype=np.float32) <= SCORES)
    for average in ("micro", "macro", "weighted"):
        assert found[f"{average}_f1"] == pytest.approx(sk.f1_score(TARGETS, decided, average=average))
    assert found["macro_roc_auc"] == pytest.approx(sk.roc_auc_score(TARGETS, SCORES))
    assert found["macro_average_precision"] == pytest.approx(sk.average_precision_score(TARGETS, SCORES))
    assert found["ranking_average_precision"] == pytest.approx(
        sk.label_ranking_average_precision_score(TARGETS, SCORES)
    )
    assert found["hamming_loss"] == pytest.approx(sk.hamming_loss(TARGETS, decided))
    assert found["subset_accuracy"] == pytest.approx(sk.accuracy_score(TARGETS, decided))


def test_per_label_metrics_match_scikit_learn() -> None:
    found = per_label_metrics(SCORES, TARGETS, list("abcde"), THRESHOLDS)
    decided = np.array(np.float32(THRESHOLDS) <= SCORES)
    expected = sk.precision_recall_fscore_support(TARGETS, decided)
    for at, label in enumerate("abcde"):
        assert list(found[label].values()) == pytest.approx([column[at] for column in expected])


def test_samples_f1_counts_correct_empty_prediction() -> None:
    scores, targets = np.array([[0.9, 0.1], [0.1, 0.2]], np.float32), np.array([[1, 0], [0, 0]], np.float32)
    assert multilabel_metrics(scores, targets)["samples_f1"] == 1
    assert multilabel_metrics(np.float32([[0.9, 0.1], [0.1, 0.7]]), targets)["samples_f1"] == 0.5


def test_label_without_positives_is_0_in_macro_f1_only() -> None:
    scores, targets = np.array([[0.9, 0.1], [0.1, 0.2]], np.float32), np.array([[1, 0], [0, 0]], np.float32)
    found = multilabel_metrics(scores, targets)
    assert found["macro_f1"] == 0.5
    assert found["macro_roc_auc"] == found["macro_average_precision"] == 1
    assert per_label_metrics(scores, targets, ["a", "b"])["b"] == {"precision": 0, "recall": 0, "f1": 0, "support": 0}


def test_metrics_without_positives_give_no_warning() -> None:
    found = multilabel_metrics(np.full((3, 2), 0.1, np.float32), np.zeros((3, 2), np.float32))
    assert found["micro_f1"] == found["macro_average_precision"] == 0
    assert found["subset_accuracy"] == found["samples_f1"] == 1


def test_single_label_is_not_treated_as_binary_classes() -> None:
    scores, targets = np.array([[0.9], [0.8], [0.1], [0.2]], np.float32), np.array([[1], [0], [0], [0]], np.float32)
    found = multilabel_metrics(scores, targets)
    assert found["micro_f1"] == found["macro_f1"] == found["weighted_f1"] == pytest.approx(2 / 3)
    assert per_label_metrics(scores, targets, ["a"])["a"]["precision"] == 0.5


def test_probability_equal_to_threshold_is_positive() -> None:
    on_it = np.array([[0.3]], np.float32)
    assert multilabel_metrics(on_it, np.ones((1, 1), np.float32), 0.3)["micro_f1"] == 1
