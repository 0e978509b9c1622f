"""F1 and its bootstrap confidence intervals."""

import numpy as np
import pytest

from manylabel.certify import bootstrap_f1 as module
from manylabel.certify.bootstrap_f1 import estimate_quality, f1_score

RNG = np.random.default_rng(3)


def draw(texts: int, rates: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return targets, and decisions with a recall of 70 % and false positives at a third of each label's rate."""
    targets = generator.random((texts, len(rates))) < rates
    decided = np.where(targets, generator.random(targets.shape) < 0.7, generator.random(targets.shape) < rates / 3)
    return targets.astype(np.float32), decided


def test_f1_without_positives_is_0() -> None:
    none = np.zeros((3, 2), dtype=bool)
    assert f1_score(none, none, axis=None) == 0
    assert f1_score(none, none, axis=0).tolist() == [0, 0]
    assert f1_score(~none, ~none, axis=1).tolist() == [1, 1, 1]


def test_f1_value_lies_in_its_interval() -> None:
    targets, decided = draw(400, np.array([0.5, 0.2, 0.05]), RNG)
    found = estimate_quality(targets, decided, decided)
    assert found.micro_f1.value == pytest.approx(float(f1_score(targets > 0, decided, axis=None)))
    assert found.macro_f1.value == pytest.approx(f1_score(targets > 0, decided, axis=0).mean())
    for figure in (found.micro_f1, found.macro_f1):
        assert figure.low < figure.value < figure.high
    for change in (found.micro_f1_change, found.macro_f1_change):
        assert (change.low, change.value, change.high) == (0, 0, 0)


def test_f1_ignores_unknown_labels() -> None:
    targets, decided = draw(200, np.array([0.5, 0.2]), RNG)
    partly = targets.copy()
    partly[:, 1] = np.nan
    partly[100:] = np.nan
    found, alone = (
        estimate_quality(partly, decided, decided),
        estimate_quality(targets[:100, :1], decided[:100, :1], decided[:100, :1]),
    )
    assert found.micro_f1.value == pytest.approx(alone.micro_f1.value)
    assert found.macro_f1.value == pytest.approx(alone.macro_f1.value / 2)  # the other label is unknown everywhere


def test_f1_change_is_a_paired_bootstrap() -> None:
    """If two sides nearly agree, the uncertainty that comes from the texts cancels out in their difference."""
    targets, decided = draw(2000, np.array([0.5, 0.2, 0.05]), RNG)
    other = decided.copy()
    other[:5, 0] ^= True
    found = estimate_quality(targets, decided, other)
    width, of_change = (each.high - each.low for each in (found.micro_f1, found.micro_f1_change))
    assert found.micro_f1_change.low <= found.micro_f1_change.value <= found.micro_f1_change.high
    assert 0 < of_change < width / 5


def test_bootstrap_is_deterministic() -> None:
    targets, decided = draw(100, np.array([0.3, 0.1]), RNG)
    assert estimate_quality(targets, decided, decided) == estimate_quality(targets, decided, decided)


@pytest.mark.parametrize("at_once", [1, 70_000, 99_999])
def test_bootstrap_does_not_depend_on_chunk_size(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    targets, decided = draw(100, np.array([0.3, 0.1]), RNG)
    other = decided ^ (RNG.random(decided.shape) < 0.1)
    found = estimate_quality(targets, decided, other)
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", at_once)
    assert estimate_quality(targets, decided, other) == found


def test_interval_covers_95_percent_of_draws() -> None:
    """With a recall of 50 %, micro-F1 is nearly normal: the interval extends 1.96 standard deviations each way."""
    right = np.arange(1000).reshape(-1, 1) % 2 == 0
    found = estimate_quality(np.ones((1000, 1), np.float32), right, right).micro_f1
    assert found.value == pytest.approx(2 / 3)
    deviation = np.sqrt(0.25 / 1000) * 2 / 1.5**2  # of the recall r, propagated to F1 = 2r / (r + 1)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * deviation, rel=0.1)


def test_interval_coverage_in_simulation() -> None:
    """The interval covers the true F1 in about 95 % of the samples, even with a label that has only five texts."""
    generator, rates = np.random.default_rng(0), np.array([0.3, 0.1, 0.02])
    targets, decided = draw(400_000, rates, generator)
    micro, macro = (
        float(f1_score(targets > 0, decided, axis=None)),
        float(f1_score(targets > 0, decided, axis=0).mean()),
    )
    held = np.zeros(2)
    for _ in range(100):
        targets, decided = draw(250, rates, generator)
        found = estimate_quality(targets, decided, decided)
        held += found.micro_f1.low <= micro <= found.micro_f1.high, found.macro_f1.low <= macro <= found.macro_f1.high
    assert (held >= 85).all()
