"""Tuned thresholds raise F1 in simulation where there is potential, and do no harm where there is none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from manylabel_train.thresholds.tuning import find_best_threshold, match_thresholds, tune_thresholds

Scores = NDArray[np.float32]
REPEATS, FRESH = 8, 20_000
RARE = (0.3, 0.2, 0.1) + (0.006,) * 14
SKEWED = tuple(np.geomspace(0.3, 0.005, 28))


def draw(
    rng: np.random.Generator, n: int, priors: tuple[float, ...], *, distance: float, scale: float = 1, shift: float = 0
) -> tuple[Scores, Scores]:
    """Draw scores and targets of `n` texts; `scale` and `shift` of the logits make the scores uncalibrated."""
    prior = np.array(priors)
    targets = rng.random((n, len(prior))) < prior
    evidence = rng.normal(size=targets.shape) + distance * targets
    logits = distance * evidence - distance**2 / 2 + np.log(prior / (1 - prior))
    return (1 / (1 + np.exp(-(scale * logits + shift)))).astype(np.float32), targets.astype(np.float32)


def micro_and_macro_f1(scores: Scores, targets: Scores, thresholds: ArrayLike = 0.5) -> NDArray[np.float64]:
    decided, truth = scores >= np.asarray(thresholds, dtype=np.float32), targets > 0.5
    hits, total = (decided & truth).sum(axis=0), decided.sum(axis=0) + truth.sum(axis=0)
    return np.array([2 * hits.sum() / total.sum(), (2 * hits / np.maximum(total, 1)).mean()])


def gains(n: int, priors: tuple[float, ...], **how: float) -> NDArray[np.float64]:
    """Return the gain in micro- and macro-F1 on new texts of tuning on `n` texts; shape `(REPEATS, 2)`."""
    rng = np.random.default_rng(1)
    fresh = draw(rng, FRESH, priors, **how)
    tuned = [tune_thresholds(*draw(rng, n, priors, **how)) for _ in range(REPEATS)]
    return np.array([micro_and_macro_f1(*fresh, thresholds) for thresholds in tuned]) - micro_and_macro_f1(*fresh)


@pytest.mark.parametrize(
    ("n", "priors", "how"),
    [
        pytest.param(75, (0.3,) * 8, {"distance": 4.0}, id="75 texts, nearly all right at 0.5"),
        pytest.param(150, (0.5,) * 8, {"distance": 1.5, "scale": 3, "shift": 0.69}, id="150 texts, 0.5 is best"),
        pytest.param(500, RARE, {"distance": 2.5}, id="14 labels with three positives"),
        pytest.param(500, RARE, {"distance": 4.5}, id="14 labels with three positives, well separated"),
    ],
)
def test_tuning_does_not_lower_f1_without_potential(n: int, priors: tuple[float, ...], how: dict[str, float]) -> None:
    found = gains(n, priors, **how)
    assert (found.mean(axis=0) > -0.002).all(), found
    assert (found > -0.012).all(), found


@pytest.mark.parametrize(
    ("n", "priors", "how", "micro", "macro"),
    [
        pytest.param(75, (0.25,) * 8, {"distance": 2.0, "shift": -1.5}, 0.15, 0.15, id="75 texts, scores too low"),
        pytest.param(75, (0.25,) * 8, {"distance": 2.0}, 0.001, 0.001, id="75 texts, calibrated"),
        pytest.param(600, SKEWED, {"distance": 2.0}, 0.015, 0.04, id="skewed labels, calibrated"),
        pytest.param(500, RARE, {"distance": 2.5, "shift": -1.5}, 0.08, 0.1, id="rare labels, scores too low"),
    ],
)
def test_tuning_raises_f1_with_potential(
    n: int, priors: tuple[float, ...], how: dict[str, float], micro: float, macro: float
) -> None:
    found = gains(n, priors, **how).mean(axis=0)
    assert found[0] > micro
    assert found[1] > macro


def test_naive_per_label_thresholds_lower_f1() -> None:
    """The control: in these simulations the textbook rule lowers F1."""
    rng = np.random.default_rng(1)
    scores, targets = draw(rng, 500, RARE, distance=2.5)
    fresh = draw(rng, FRESH, RARE, distance=2.5)
    own = [find_best_threshold(*column) for column in zip(scores.T, targets.T > 0.5, strict=True)]
    half = micro_and_macro_f1(*fresh)[0]
    assert micro_and_macro_f1(*fresh, own)[0] < half - 0.03
    assert micro_and_macro_f1(*fresh, tune_thresholds(scores, targets))[0] > half - 0.012


def test_tuning_is_deterministic() -> None:
    scores, targets = draw(np.random.default_rng(0), 200, (0.3, 0.2, 0.1), distance=2, shift=-1)
    first = tune_thresholds(scores, targets)
    assert first.dtype == np.float32
    assert first.shape == (3,)
    np.testing.assert_array_equal(first, tune_thresholds(scores, targets))


def test_too_few_texts_keep_thresholds_at_0_5() -> None:
    scores, targets = draw(np.random.default_rng(0), 9, (0.3, 0.2), distance=2, shift=-3)
    assert tune_thresholds(scores, targets).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_constant_targets_give_valid_thresholds(value: float) -> None:
    scores, _ = draw(np.random.default_rng(0), 50, (0.3, 0.2), distance=2)
    found = tune_thresholds(scores, np.full_like(scores, value))
    assert ((found >= 0.05) & (found <= 0.95)).all()


def test_thresholds_stay_within_bounds() -> None:
    rng = np.random.default_rng(0)
    for shift in (-9.0, 9.0):
        found = tune_thresholds(*draw(rng, 300, (0.4, 0.3, 0.2), distance=3, shift=shift))
        assert ((found >= np.float32(0.05)) & (found <= np.float32(0.95))).all()


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0]), st.booleans()), min_size=1, max_size=12))
def test_best_threshold_is_optimal(rows: list[tuple[float, bool]]) -> None:
    scores, truth = np.array([score for score, _ in rows]), np.array([positive for _, positive in rows])

    def f1(threshold: float) -> float:
        decided = scores >= threshold
        return 2 * (decided & truth).sum() / max(decided.sum() + truth.sum(), 1)

    everywhere = np.unique([0.5, *scores])
    assert f1(find_best_threshold(scores, truth)) == max(f1(at) for at in everywhere) or not truth.any()


def test_variant_threshold_matches_pytorch_decisions() -> None:
    expected = np.linspace(0.05, 0.95, 100, dtype=np.float32)[:, None]
    found = expected - np.float32(0.1)  # a variant that scores everything lower
    (threshold,) = match_thresholds(expected, np.array([0.5], dtype=np.float32), found)
    assert threshold == pytest.approx(0.4, abs=0.005)
    assert ((found >= threshold) == (expected >= 0.5)).all()


@pytest.mark.parametrize(("lower", "moves"), [(4, False), (5, True)])
def test_variant_threshold_needs_evidence_to_move(lower: int, moves: bool) -> None:
    """Five decisions that all improve exceed two standard deviations of a sign test."""
    expected = np.repeat(np.array([0.2, 0.6, 0.9], dtype=np.float32), [50, lower, 50])[:, None]
    found = np.where(expected == np.float32(0.6), np.float32(0.45), expected)
    (threshold,) = match_thresholds(expected, np.array([0.5], dtype=np.float32), found)
    assert (threshold < 0.45) == moves
    assert (threshold == 0.5) != moves


def test_noise_does_not_move_thresholds() -> None:
    """With 28 labels and 5,000 texts, where choosing the best threshold would move nearly all."""
    rng = np.random.default_rng(0)
    expected = rng.beta(0.3, 3, (5000, 28)).astype(np.float32)
    found = np.clip(expected + rng.normal(0, 0.002, expected.shape), 0, 1).astype(np.float32)
    thresholds = np.full(28, 0.34, dtype=np.float32)
    np.testing.assert_array_equal(match_thresholds(expected, thresholds, found), thresholds)


def test_variant_keeps_pytorch_threshold_without_better_agreement() -> None:
    expected = np.random.default_rng(0).random((200, 3), dtype=np.float32)
    thresholds = np.array([0.3, 0.5, 0.9], dtype=np.float32)
    np.testing.assert_array_equal(match_thresholds(expected, thresholds, expected), thresholds)


@given(st.integers(0, 2**32 - 1), st.floats(0, 0.3))
def test_matching_never_adds_flips(seed: int, noise: float) -> None:
    rng = np.random.default_rng(seed)
    expected = rng.random((30, 4)).round(1).astype(np.float32)  # rounded: many equal scores
    found = np.clip(expected + rng.normal(0, noise, expected.shape), 0, 1).round(1).astype(np.float32)
    thresholds = rng.uniform(0.1, 0.9, 4).astype(np.float32)
    matched = match_thresholds(expected, thresholds, found)
    decided = expected >= thresholds
    assert (((found >= matched) != decided).sum(axis=0) <= ((found >= thresholds) != decided).sum(axis=0)).all()
    assert ((matched > 0) & (matched < 1)).all()
