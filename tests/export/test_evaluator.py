"""Parity of the fp32 graph with PyTorch: what is accepted, and what the error says."""

import numpy as np
import pytest

from manylabel.errors import ParityError
from manylabel_export.evaluator import require_fp32_parity

TEXTS, LABELS = ("first", "the second text"), ("a", "b c")
HALF = np.array([0.5, 0.5], dtype=np.float32)
EXPECTED = np.array([[0.1, 0.9], [0.4, 0.6]], dtype=np.float32)


def moved(row: int, column: int, to: float) -> np.ndarray:
    scores = EXPECTED.copy()
    scores[row, column] = to
    return scores


def test_parity_ignores_rounding() -> None:
    require_fp32_parity(TEXTS, LABELS, EXPECTED, EXPECTED + np.float32(9e-5), HALF)


@pytest.mark.parametrize("to", [0.6002, 0.0, float("nan")])
def test_parity_error_names_text_and_label(to: float) -> None:
    with pytest.raises(ParityError) as caught:
        require_fp32_parity(TEXTS, LABELS, EXPECTED, moved(1, 1, to), HALF)
    for part in ("'the second text'", "'b c'", "0.600000", "1 of 4 probabilities", "Nothing was written", "--engine"):
        assert part in str(caught.value)


def test_parity_error_shows_the_worst() -> None:
    scores = moved(1, 1, 0.5)
    scores[0, 0] = 0.102
    with pytest.raises(ParityError, match=r"'b c'.*2 of 4 probabilities"):
        require_fp32_parity(TEXTS, LABELS, EXPECTED, scores, HALF)


def test_parity_accepts_ties() -> None:
    expected, scores = np.float32([[0.50004]]), np.float32([[0.49996]])
    require_fp32_parity(TEXTS[:1], LABELS[:1], expected, scores, HALF[:1])
