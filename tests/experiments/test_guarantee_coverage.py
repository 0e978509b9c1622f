"""A guarantee is broken as rarely as its confidence says on the distribution, and more often on a small sample."""

import numpy as np
import pytest

from experiments.calibration.guarantee_coverage import broken_share_limit, check_guarantee, check_minimum
from manylabel_train.thresholds.objectives import Objective
from manylabel_train.thresholds.selection import ScoredTexts

LABELS, DRAWS = ("a", "b"), 300


def texts(n: int, seed: int) -> ScoredTexts:
    """Two labels, the first easier to separate than the second."""
    rng = np.random.default_rng(seed)
    targets = rng.random((n, 2)) < 0.3
    logits = rng.normal(size=(n, 2)) + targets * [4, 2.5] - 2
    return ScoredTexts((1 / (1 + np.exp(-logits))).astype(np.float32), targets.astype(np.float32))


@pytest.mark.parametrize("goal", [Objective("recall", 0.8, 0.9), Objective("precision", 0.8, 0.9)], ids=str)
def test_guarantee_coverage_in_simulation(goal: Objective) -> None:
    shares = check_guarantee(LABELS, texts(400, 1), texts(600, 2), goal, draws=DRAWS)
    assert shares["labels"] == 2
    assert shares["given"] > 0.9
    assert 0 < shares["broken"] <= shares["most"] <= broken_share_limit(goal, DRAWS)
    assert shares["short_elsewhere"] > shares["broken"]
    assert shares["mean"] > 0.8


def test_labels_with_too_few_texts_are_left_out() -> None:
    shares = check_guarantee(
        LABELS, texts(400, 1), texts(600, 2), Objective("recall", 0.99, 0.95), draws=2
    )  # needs 299
    assert shares["labels"] == 0
    assert shares["given"] is shares["broken"] is shares["most"] is None


def test_plain_minimum_fails_for_some_labels() -> None:
    shares = [check_minimum(LABELS, texts(100, seed), texts(5000, 2), Objective("recall", 0.9)) for seed in range(20)]
    assert all(each["labels"] == 2 for each in shares)
    assert 0.2 < np.mean([each["held"] for each in shares]) < 0.8
