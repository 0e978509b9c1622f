"""Logits to probabilities, and probabilities with thresholds to labels."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from manylabel import InputError, UnknownLabel
from manylabel.inference.thresholding import decide, logit, rank_labels, resolve_thresholds, sigmoid

LABELS = ("billing", "delivery", "user experience")
OWN = (0.2, 0.5, 0.7)
ROWS = arrays.arrays(np.float32, 3, elements=st.floats(0, 1, width=32))


@pytest.mark.parametrize(
    ("given_thresholds", "expected"),
    [
        (None, OWN),
        (0.4, (0.4, 0.4, 0.4)),
        (0, (0, 0, 0)),
        (1, (1, 1, 1)),
        (np.float32(0.5), (0.5, 0.5, 0.5)),
        (np.float64(0.5), (0.5, 0.5, 0.5)),
        ([0.1, 0.2, 0.3], (0.1, 0.2, 0.3)),
        ((0.1, 0.2, 0.3), (0.1, 0.2, 0.3)),
        (np.array([0.1, 0.2, 0.3]), (0.1, 0.2, 0.3)),
        ({"delivery": 0.9}, (0.2, 0.9, 0.7)),
        ({}, OWN),
    ],
)
def test_threshold_formats(given_thresholds: Any, expected: tuple[float, ...]) -> None:
    found = resolve_thresholds(given_thresholds, LABELS, OWN)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array(expected, dtype=np.float32))


@pytest.mark.parametrize("wrong", [-0.1, 1.5, float("nan"), float("inf"), "0.5", "half", b"1", {0.5}, [[0.5]]])
def test_threshold_outside_0_to_1_is_rejected(wrong: Any) -> None:
    for thresholds in (wrong, [0.5, wrong, 0.5], {"delivery": wrong}):
        with pytest.raises(InputError, match=r"threshold"):
            resolve_thresholds(thresholds, LABELS, OWN)


def test_invalid_threshold_error_is_one_line() -> None:
    with pytest.raises(InputError) as caught:
        resolve_thresholds("0.5" * 100, LABELS, OWN)
    shown = repr("0.5" * 100)[:40]
    assert str(caught.value) == f"a threshold is a probability between 0 and 1; found {shown}."


@pytest.mark.parametrize("wrong", [[0.5], [0.5] * 4, [], np.full(4, 0.5)])
def test_threshold_count_must_match_labels(wrong: Any) -> None:
    with pytest.raises(InputError) as caught:
        resolve_thresholds(wrong, LABELS, OWN)
    assert str(caught.value) == (
        f"{len(wrong)} thresholds were given for 3 labels. Give one per label, or name them: {{label: threshold}}."
    )


def test_unknown_threshold_label_suggests_nearest() -> None:
    with pytest.raises(UnknownLabel, match=r"there is no label 'delivry'\. Did you mean 'delivery'"):
        resolve_thresholds({"delivry": 0.5}, LABELS, OWN)
    with pytest.raises(
        UnknownLabel, match=r"there is no label 'xyz'\. The labels are billing, delivery, user experience"
    ):
        resolve_thresholds({"xyz": 0.5}, LABELS, OWN)


def test_probability_equal_to_threshold_applies() -> None:
    """Also for thresholds in double precision: 0.2 is rounded up to float32, and 0.7 is rounded down."""
    thresholds = np.array([0.1, 0.2, 0.7], dtype=np.float32)
    just_below = np.nextafter(thresholds, np.float32(0))
    assert decide(np.stack([thresholds, just_below]), [0.1, 0.2, 0.7]).tolist() == [[True] * 3, [False] * 3]


@given(ROWS, ROWS, st.sampled_from([None, 1, 2, 3, 9]))
def test_labels_and_scores_are_sorted(
    row: NDArray[np.float32], thresholds: NDArray[np.float32], top_k: int | None
) -> None:
    labels, scores = rank_labels(row, thresholds, LABELS, top_k)
    assert list(scores.values()) == sorted(row.tolist(), reverse=True)[:top_k]
    assert set(labels) == {label for label, applies in zip(LABELS, row >= thresholds, strict=True) if applies}
    assert all(score == row[LABELS.index(label)] for label, score in scores.items())
    probabilities = [row[LABELS.index(label)] for label in labels]
    assert probabilities == sorted(probabilities, reverse=True)


def test_equal_scores_keep_column_order() -> None:
    half, labels = np.full(40, 0.5, dtype=np.float32), [f"label {n}" for n in range(40)]
    half[20] = 0.75
    labels, scores = rank_labels(half, np.full(40, 0.5, dtype=np.float32), labels)
    assert labels == list(scores) == ["label 20", *(f"label {n}" for n in range(40) if n != 20)]


def test_top_k_keeps_all_applying_labels() -> None:
    row = np.array([0.9, 0.8, 0.1], dtype=np.float32)
    labels, scores = rank_labels(row, np.full(3, 0.5, np.float32), LABELS, top_k=1)
    assert labels == ["billing", "delivery"]
    assert scores == pytest.approx({"billing": 0.9})


@given(arrays.arrays(np.float64, 5, elements=st.floats(-30, 30)))
def test_logit_inverts_sigmoid(logits: NDArray[np.float64]) -> None:
    probabilities = sigmoid(logits)
    np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-logits)), rtol=1e-15)
    np.testing.assert_allclose(logit(probabilities, clip=1e-15), logits, atol=0.1)


def test_sigmoid_does_not_overflow() -> None:
    np.testing.assert_array_equal(sigmoid([-1e6, 1e6]).astype(np.float32), [0, 1])
