"""Parity of a variant with its reference: differences, flips, ties, budgets and batch invariance."""

from collections.abc import Sequence

import numpy as np
import pytest

from manylabel.bundle.certificate import BatchInvariance, Budget, Parity
from manylabel.certify.parity import (
    MAX_INVARIANCE_TEXTS,
    VariantScores,
    check_batch_invariance,
    compute_parity,
    find_flips_and_ties,
)

LABELS = ("a", "b c")
HALF = np.array([0.5, 0.5], dtype=np.float32)
EXPECTED = np.array([[0.1, 0.9], [0.4, 0.6], [0.2, 0.3]], dtype=np.float32)


def compared(found: np.ndarray, thresholds: np.ndarray = HALF, targets: np.ndarray | None = None) -> Parity:
    return compute_parity(
        VariantScores(EXPECTED, HALF),
        VariantScores(found, thresholds),
        LABELS,
        batch_invariance=BatchInvariance(1, 1),
        targets=targets,
    )


def moved(row: int, column: int, to: float) -> np.ndarray:
    found = EXPECTED.copy()
    found[row, column] = to
    return found


def test_ties_are_not_flips() -> None:
    expected = VariantScores(np.float32([[0.50004, 0.7]]), HALF)
    found = VariantScores(np.float32([[0.49996, 0.3]]), HALF)
    flips, ties = find_flips_and_ties(expected, found)
    assert flips.tolist() == [[False, True]]
    assert ties.tolist() == [[True, False]]
    one = compute_parity(expected, found, LABELS, batch_invariance=BatchInvariance(0, 0))
    counts = [(each.given, each.gained, each.lost, each.ties) for each in one.labels.values()]
    assert counts == [(1, 0, 0, 1), (1, 0, 1, 0)]


def test_parity_uses_each_variants_thresholds() -> None:
    found = EXPECTED - np.float32(0.1)
    assert compared(found, HALF - np.float32(0.1)).flipped == 0
    assert compared(found, HALF + np.float32(0.05)).flipped == 1


def test_parity_figures() -> None:
    found = compared(moved(0, 1, 0.3))
    assert found.max_difference == pytest.approx(0.6)
    assert found.mean_difference == pytest.approx(0.1)
    assert 0.59 < found.p999_difference <= found.max_difference
    assert (found.flipped, found.ties, found.texts_flipped, found.texts_labelled) == (1, 0, 1, 2)
    assert found.labels["b c"].lost == 1
    assert found.quality is None


def test_parity_reports_flips_per_label() -> None:
    found = EXPECTED.copy()
    found[0, 1], found[2, 0], found[2, 1] = 0.3, 0.9, 0.8
    one = compared(found)
    counts = {name: (each.given, each.gained, each.lost, each.ties) for name, each in one.labels.items()}
    assert counts == {"a": (0, 1, 0, 0), "b c": (2, 1, 1, 0)}
    assert (one.flipped, one.texts_flipped, one.texts_labelled, one.ties) == (3, 2, 3, 0)


def test_parity_needs_a_label_per_column() -> None:
    with pytest.raises(ValueError, match="longer"):
        compute_parity(
            VariantScores(EXPECTED, HALF),
            VariantScores(EXPECTED, HALF),
            LABELS[:1],
            batch_invariance=BatchInvariance(0, 0),
        )


def test_parity_p999_difference() -> None:
    expected = np.zeros((1001, 1), np.float32)
    found = np.linspace(0, 1, 1001, dtype=np.float32).reshape(-1, 1)
    one = compute_parity(
        VariantScores(expected, HALF[:1]),
        VariantScores(found, HALF[:1]),
        LABELS[:1],
        batch_invariance=BatchInvariance(0, 0),
    )
    assert one.p999_difference == pytest.approx(0.999)


def test_flip_rate_is_over_labelled_texts() -> None:
    """Texts without any label on either side do not lower the rate."""
    quiet = np.vstack([EXPECTED, np.full((1000, 2), 0.1, np.float32)])
    found = quiet.copy()
    found[2, 0] = 0.9  # one more text that gets a label
    one = compute_parity(
        VariantScores(quiet, HALF), VariantScores(found, HALF), LABELS, batch_invariance=BatchInvariance(0, 0)
    )
    assert one.flips == pytest.approx(1 / 3)
    assert (
        compute_parity(
            VariantScores(quiet[3:], HALF),
            VariantScores(quiet[3:], HALF),
            LABELS,
            batch_invariance=BatchInvariance(0, 0),
        ).flips
        == 0
    )


def test_budget_lists_exceeded_figures() -> None:
    truth = (EXPECTED > 0.5).astype(np.float32)
    good, bad = compared(EXPECTED, targets=truth), compared(moved(0, 1, 0.3), targets=truth)
    assert Budget(0, 0).excess(good) == ""
    excess = Budget().excess(bad)
    assert excess == (
        "1 of 2 texts with at least one label get other labels, 50.00%, and 2.00% are allowed; "
        "micro-F1 changes by -0.3333 and macro-F1 by -0.1667, and a drop of 0.005 is allowed"
    )
    assert Budget(1, 0.5).excess(bad) == ""
    assert Budget(None, None).excess(bad) == ""
    assert "other labels" not in Budget(max_flips=None).excess(bad)
    assert Budget(max_f1_drop=0, max_flips=None).excess(compared(moved(0, 1, 0.3))) == ""  # no labels, no F1


def test_f1_gain_is_not_a_drop() -> None:
    truth = np.float32([[0, 0], [0, 1], [0, 0]])
    found = compared(moved(0, 1, 0.3), targets=truth)
    assert found.quality is not None
    assert found.quality.drop < 0
    assert Budget(max_f1_drop=0, max_flips=None).excess(found) == ""


def test_batch_invariance_check_detects_one_bit() -> None:
    items = list(range(100))
    found = np.arange(100, dtype=np.float32).reshape(-1, 1)
    assert check_batch_invariance(items, found, lambda some: np.float32([some])) == BatchInvariance(
        MAX_INVARIANCE_TEXTS, MAX_INVARIANCE_TEXTS
    )
    nearly = BatchInvariance(MAX_INVARIANCE_TEXTS, 0)
    assert (
        check_batch_invariance(items, found, lambda some: np.nextafter(np.float32([some]), np.float32(1e9))) == nearly
    )
    assert check_batch_invariance(items[:1], found[:1], lambda some: np.float32([some])) == BatchInvariance(1, 1)


def test_batch_invariance_sample_is_spread() -> None:
    asked: list[int] = []

    def answer(some: Sequence[int]) -> np.ndarray:
        asked.extend(some)
        return np.float32([some])

    check_batch_invariance(range(1000), np.arange(1000, dtype=np.float32).reshape(-1, 1), answer)
    assert (asked[0], asked[-1]) == (0, 999)
    assert set(np.diff(asked)) == {32, 33}
