"""Per-label decision thresholds, tuned for F1 or F-beta on validation data so that tuning does no harm.

A label with three positives on validation data has its best F1 there at a threshold that means nothing elsewhere: with
each label at its own best, micro-F1 of a German model fell from 0.90 to 0.58. So 0.5 is left in two steps, each by the
evidence of held-out folds alone: first for the best single threshold of all labels, then for a label's own best drawn
toward that one, the more so the fewer the label's positives. tests/train/thresholds/test_tuning.py simulates what
it does.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FLOOR, CEILING = 0.05, 0.95
SHRINKAGES = (0.0, 5.0, 10.0, 20.0, 40.0, 80.0)
"""Positives at which a label's own best threshold and the single one weigh the same."""
FOLDS, REPEATS = 5, 4

EVIDENCE, EVIDENCE_OF_A_LABEL = 1.0, 1.5
"""Standard errors that a held-out gain has to reach. One text more or less is a gain of one standard error, two are
1.4: a label moves for three. Without that a set for which 0.5 is right loses 0.0015 of F1 in simulation, with it
0.0003; on halves of goemotions' validation split macro-F1 gains 0.024 in place of 0.018."""
EVIDENT = 2.0
"""Standard deviations that a variant's own threshold has to be better by. With 1, noise moves some on goemotions."""

Scores = NDArray[np.float32]
Decisions = NDArray[np.float64]
"""Share of the repeats in which a label was given to a text, shape `(n_texts, n_labels)`."""


def tune_thresholds(probabilities: Scores, targets: Scores, *, beta: float = 1.0) -> NDArray[np.float32]:
    """Thresholds that raise F1, or F-beta, on texts not seen, by the evidence of held-out folds.

    Args:
        probabilities: Validation scores, shape `(n_texts, n_labels)`.
        targets: 0, 1, or NaN for unknown, same shape. Unknown entries have no say.
        beta: How many times as much recall weighs as precision.

    Returns:
        Shape `(n_labels,)`, each from 0.05 to 0.95; 0.5 for all labels where nothing better is proved, and for a label
        of which nothing is known.
    """
    known = ~np.isnan(targets)
    rows = known.any(axis=1)
    # At probability 0 an entry is never decided for, and being no positive either it is in no count of F1.
    tuned = _tuned(np.where(known, probabilities, 0)[rows], targets[rows] > 0.5, beta)
    return np.where(known.any(axis=0), tuned, np.float32(0.5))


def _tuned(probabilities: Scores, truth: NDArray[np.bool_], beta: float) -> NDArray[np.float32]:
    thresholds = np.full(truth.shape[1], 0.5)
    if len(truth) < 2 * FOLDS:
        return thresholds.astype(np.float32)
    folds = list(_folds(probabilities, truth, beta))
    best = _best(probabilities, truth, beta)
    decided: Decisions = (probabilities >= 0.5).astype(np.float64)
    together = _held_out(probabilities, folds, np.inf)
    if _gain(decided, together, truth, beta).holds:
        decided, thresholds = together, _drawn(best, np.inf)
    return _with_own(probabilities, truth, folds, decided, thresholds, beta).astype(np.float32)


def best_threshold(scores: NDArray[np.floating], truth: NDArray[np.bool_], *, beta: float = 1.0) -> float:
    """The threshold of greatest F-beta, halfway between two neighbouring scores; 0.5 without a positive.

    Halfway, so that the rounding of another machine or precision flips as few decisions as can be.

    Args:
        scores: Probabilities of one label, shape `(n,)`.
        truth: Whether each text has the label, shape `(n,)`.
        beta: How many times as much recall weighs as precision.
    """
    if not truth.any():
        return 0.5
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order].astype(np.float64)
    hits = np.cumsum(truth[order])
    f_beta = (1 + beta**2) * hits / (np.arange(1, len(ranked) + 1) + beta**2 * truth.sum())
    f_beta[:-1][ranked[:-1] == ranked[1:]] = -1  # no threshold parts equal scores
    last = int(np.argmax(f_beta))
    below = ranked[last + 1] if last + 1 < len(ranked) else 0.0
    return float((ranked[last] + below) / 2)


def matched_thresholds(expected: Scores, thresholds: Scores, found: Scores) -> Scores:
    """PyTorch's thresholds, but where a variant evidently needs another one to decide as PyTorch does.

    Tuned for F1 anew, or for the fewest differing decisions, thresholds follow the noise of those texts, and
    others are decided otherwise more often (docs/decisions/0007-keep-pytorch-thresholds-for-quantized-variants.md).

    Args:
        expected: PyTorch's probabilities, shape `(n_texts, n_labels)`.
        thresholds: What they are decided by, shape `(n_labels,)`.
        found: The variant's probabilities of the same texts, same shape.

    Returns:
        Shape `(n_labels,)`; another threshold is from 0.05 to 0.95.
    """
    decided = expected >= thresholds
    columns = zip(found.T.astype(np.float64), decided.T, thresholds.tolist(), strict=True)
    return np.array([_matched(*column) for column in columns], dtype=np.float32)


def _matched(scores: NDArray[np.float64], decided: NDArray[np.bool_], threshold: float) -> float:
    """Of the thresholds with which `scores` evidently agree with `decided` more often: the best, the nearest of those.

    Evident is a gain, in decisions, beyond `EVIDENT` standard deviations of a sum of as many coin tosses of 1 or -1 as
    there are decisions that change (a sign test).
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    flips = np.concatenate(([0], np.cumsum(np.where(decided[order], -1, 1)))) + decided.sum()
    halfway = np.concatenate(([(ranked[0] + 1) / 2], (ranked[:-1] + ranked[1:]) / 2, [ranked[-1] / 2]))
    parts = np.concatenate(([True], ranked[:-1] != ranked[1:], [True]))  # no threshold parts equal scores
    given = int((scores >= threshold).sum())
    gains = int(((scores >= threshold) != decided).sum()) - flips
    changed = np.abs(np.arange(len(flips)) - given)
    possible = parts & (halfway >= FLOOR) & (halfway <= CEILING) & (gains > EVIDENT * np.sqrt(changed))
    if not possible.any():
        return threshold
    best = halfway[possible & (gains == gains[possible].max())]
    return float(best[np.argmin(np.abs(best - threshold))])


@dataclass(frozen=True)
class _Best:
    """Thresholds of greatest F-beta on some texts: each label's own, the single one, and how many positives."""

    own: NDArray[np.float64]
    shared: float
    positives: NDArray[np.int64]


@dataclass(frozen=True)
class _Gain:
    """What F-beta gains by one set of decisions over another, with standard errors."""

    micro: float
    macro: float
    error: float
    of_label: NDArray[np.float64]
    error_of_label: NDArray[np.float64]

    @property
    def mean(self) -> float:
        """Of micro- and macro-F1: neither the frequent labels nor the rare ones are sold for the other."""
        return (self.micro + self.macro) / 2

    @property
    def holds(self) -> bool:
        """Whether the gain is more than noise and costs neither figure anything."""
        return self.micro >= 0 and self.macro >= 0 and self.mean > EVIDENCE * self.error


def _with_own(
    probabilities: Scores,
    truth: NDArray[np.bool_],
    folds: list[tuple[NDArray[np.intp], _Best]],
    decided: Decisions,
    thresholds: NDArray[np.float64],
    beta: float,
) -> NDArray[np.float64]:
    """Give labels that gain by it a threshold of their own, by the shrinkage under which all together gain most."""
    greatest, result, best = 0.0, thresholds, _best(probabilities, truth, beta)
    for shrinkage in SHRINKAGES:
        own = _held_out(probabilities, folds, shrinkage)
        alone = _gain(decided, own, truth, beta)
        moved = alone.of_label > EVIDENCE_OF_A_LABEL * alone.error_of_label
        gain = _gain(decided, np.where(moved, own, decided), truth, beta)
        if gain.holds and gain.mean > greatest:
            greatest, result = gain.mean, np.where(moved, _drawn(best, shrinkage), thresholds)
    return result


def _folds(probabilities: Scores, truth: NDArray[np.bool_], beta: float) -> Iterator[tuple[NDArray[np.intp], _Best]]:
    """Texts that are held out, and the best thresholds on all others."""
    rng = np.random.default_rng(0)  # the same scores give the same thresholds
    for _ in range(REPEATS):
        for held_out in np.array_split(rng.permutation(len(truth)), FOLDS):
            rest = np.setdiff1d(np.arange(len(truth)), held_out)
            yield held_out, _best(probabilities[rest], truth[rest], beta)


def _best(probabilities: Scores, truth: NDArray[np.bool_], beta: float) -> _Best:
    own = np.array([best_threshold(*column, beta=beta) for column in zip(probabilities.T, truth.T, strict=True)])
    return _Best(own, best_threshold(probabilities.ravel(), truth.ravel(), beta=beta), truth.sum(axis=0))


def _drawn(best: _Best, shrinkage: float) -> NDArray[np.float64]:
    """Each label's own threshold drawn toward the single one, in logits; `inf` gives the single one to all.

    Returns:
        Shape `(n_labels,)`, each from 0.05 to 0.95.
    """
    weight = 0.0 if np.isinf(shrinkage) else best.positives / np.maximum(best.positives + shrinkage, 1)
    drawn = weight * _logit(best.own) + (1 - weight) * _logit(np.array(best.shared))
    return np.asarray(np.clip(1 / (1 + np.exp(-drawn)), FLOOR, CEILING))


def _held_out(probabilities: Scores, folds: list[tuple[NDArray[np.intp], _Best]], shrinkage: float) -> Decisions:
    """Decisions on every text by thresholds that come from others."""
    decided = np.zeros(probabilities.shape)
    for held_out, best in folds:
        decided[held_out] += probabilities[held_out] >= _drawn(best, shrinkage)
    return decided / REPEATS


def _gain(before: Decisions, after: Decisions, truth: NDArray[np.bool_], beta: float) -> _Gain:
    """Compare two sets of decisions on the same texts."""
    of_label, by_text = _difference(before, after, truth, beta)
    micro, by_decision = _difference(before.reshape(-1, 1), after.reshape(-1, 1), truth.reshape(-1, 1), beta)
    mean_by_text = (by_text.mean(axis=1) + by_decision.reshape(truth.shape).sum(axis=1)) / 2
    return _Gain(
        micro=float(micro[0]),
        macro=float(of_label.mean()),
        error=float(np.sqrt((mean_by_text**2).sum())),
        of_label=of_label,
        error_of_label=np.sqrt((by_text**2).sum(axis=0)),
    )


def _difference(
    before: Decisions, after: Decisions, truth: NDArray[np.bool_], beta: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The difference of F-beta in every column, and what each row has to do with it (its influence, summing to 0)."""
    found, influence = _f_beta(after, truth, beta)
    found_before, influence_before = _f_beta(before, truth, beta)
    return found - found_before, influence - influence_before


def _f_beta(
    decided: Decisions, truth: NDArray[np.bool_], beta: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """F-beta of every column, shape `(k,)`, and each row's influence on it, shape `(n, k)`."""
    total = decided.sum(axis=0) + beta**2 * truth.sum(axis=0)
    total = np.where(total > 0, total, 1)
    hits = decided * truth
    found = (1 + beta**2) * hits.sum(axis=0) / total
    return found, ((1 + beta**2) * hits - found * (decided + beta**2 * truth)) / total


def _logit(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    bounded = np.clip(probability, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(bounded / (1 - bounded)))
