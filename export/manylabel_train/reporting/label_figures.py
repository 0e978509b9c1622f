"""The numbers behind the pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve

from manylabel_train.evaluation.metrics import per_label_metrics
from manylabel_train.reporting.heldout_scores import Scored

BINS = 15
CURVE_POINTS = 60
HISTOGRAM_BINS = 20
WORST = 25

Numbers = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LabelFigures:
    """How well one label is found.

    Attributes:
        label: Its name.
        threshold: From which probability on it is given.
        support: Texts that have it.
        known: Texts of which it is known whether they do.
        given: Texts to which it is given, among these.
        precision, recall, f1: At the threshold.
        average_precision: NaN where there is no positive or no negative.
        calibration_error: See `calibration_error`; NaN where nothing is known.
        recalls, precisions: The curve, by rising recall; empty where there is none.
        having, lacking: Share of the texts that have the label, and that lack it, by score; shape `(HISTOGRAM_BINS,)`.
        quantiles: Of the scores of texts that have it and of those that lack it at 10, 50 and 90 %, shape `(2, 3)`.
    """

    label: str
    threshold: float
    support: int
    known: int
    given: int
    precision: float
    recall: float
    f1: float
    average_precision: float
    calibration_error: float
    recalls: Numbers
    precisions: Numbers
    having: Numbers
    lacking: Numbers
    quantiles: Numbers


@dataclass(frozen=True)
class Bin:
    """Decisions whose probabilities are alike: what was said, what came true, how many there are."""

    said: float
    true: float
    count: int


@dataclass(frozen=True)
class Mistake:
    """A text with a wrong decision: `missed` and `invented` give the probability of each such label."""

    text: str
    labels: tuple[str, ...]
    missed: dict[str, float]
    invented: dict[str, float]


def label_figures(scored: Scored, labels: Sequence[str], thresholds: Sequence[float]) -> list[LabelFigures]:
    """All that is drawn of every label, in column order."""
    limits = np.asarray(thresholds, dtype=np.float32)
    at_threshold = per_label_metrics(scored.scores, scored.targets, labels, limits)
    result = []
    for column, label in enumerate(labels):
        known = scored.known[:, column]
        scores, truth = scored.scores[known, column], scored.truth[known, column]
        ranked = bool(truth.any() and not truth.all())
        recalls, precisions = _curve(scores, truth, limits[column]) if ranked else (np.empty(0), np.empty(0))
        metrics = at_threshold[label]
        result.append(
            LabelFigures(
                label=label,
                threshold=float(limits[column]),
                support=int(truth.sum()),
                known=len(truth),
                given=int((scores >= limits[column]).sum()),
                precision=metrics["precision"],
                recall=metrics["recall"],
                f1=metrics["f1"],
                average_precision=float(average_precision_score(truth, scores)) if ranked else float("nan"),
                calibration_error=calibration_error(scores, truth),
                recalls=recalls,
                precisions=precisions,
                having=_histogram(scores[truth]),
                lacking=_histogram(scores[~truth]),
                quantiles=np.stack([_quantiles(scores[truth]), _quantiles(scores[~truth])]),
            )
        )
    return result


def calibration_error(scores: NDArray[np.floating], truth: NDArray[np.bool_]) -> float:
    """Expected calibration error of one label over 15 bins of equally many texts (Nixon et al. 2019, binary form).

    Bins of equal width would hold nearly all texts of a rare label in the lowest one.

    Args:
        scores: Probabilities, shape `(n,)`.
        truth: Whether each text has the label, shape `(n,)`.

    Returns:
        From 0 to 1; NaN without texts.
    """
    if not len(scores):
        return float("nan")
    order = np.argsort(scores, kind="stable")
    parts = np.array_split(scores[order].astype(np.float64) - truth[order], min(BINS, len(scores)))
    return float(sum(abs(part.sum()) for part in parts) / len(scores))


def reliability(scored: Scored, bins: int = 10) -> list[Bin]:
    """Of all known entries together, by probability in parts of equal width; parts without any are left out."""
    scores, truth = scored.scores[scored.known].astype(np.float64), scored.truth[scored.known]
    place = np.minimum((scores * bins).astype(np.intp), bins - 1)
    return [
        Bin(float(scores[place == at].mean()), float(truth[place == at].mean()), int((place == at).sum()))
        for at in range(bins)
        if (place == at).any()
    ]


def cooccurrence(having: NDArray[np.bool_]) -> Numbers:
    """Of the texts with a row's label the share that has a column's label, too; shape `(n_labels, n_labels)`."""
    both = having.T.astype(np.float64) @ having
    return np.asarray(both / np.maximum(np.diag(both), 1)[:, None])


def mistakes(scored: Scored, labels: Sequence[str], thresholds: Sequence[float]) -> list[Mistake]:
    """The texts of the surest wrong decisions, missed labels and invented ones in turn, the surest first.

    In turn, because the model is surer of a rare label's absence than of anything else. None where the texts are not
    to be shown.
    """
    if not scored.texts:
        return []
    decided = scored.scores >= np.asarray(thresholds, dtype=np.float32)
    wrong = (decided != scored.truth) & scored.known
    surest = [
        _ranked(np.where(wrong & which, believed, np.inf).min(axis=1))
        for which, believed in ((scored.truth, scored.scores), (~scored.truth, 1 - scored.scores))
    ]
    rows = dict.fromkeys(row for pair in zip_longest(*surest) for row in pair if row is not None)
    return [_mistake(scored, row, wrong[row], labels) for row in list(rows)[:WORST]]


def _ranked(values: NDArray[np.floating]) -> list[int]:
    """The places of the least finite values, the least first."""
    return [int(row) for row in np.argsort(values, kind="stable")[:WORST] if np.isfinite(values[row])]


def _mistake(scored: Scored, row: int, wrong: NDArray[np.bool_], labels: Sequence[str]) -> Mistake:
    has, scores = scored.truth[row], scored.scores[row]
    return Mistake(
        text=scored.texts[row],
        labels=tuple(labels[column] for column in np.flatnonzero(has).tolist()),
        missed={labels[column]: float(scores[column]) for column in np.flatnonzero(wrong & has).tolist()},
        invented={labels[column]: float(scores[column]) for column in np.flatnonzero(wrong & ~has).tolist()},
    )


def _curve(scores: NDArray[np.floating], truth: NDArray[np.bool_], threshold: float) -> tuple[Numbers, Numbers]:
    """Recall, rising, and the greatest precision at it: at most `CURVE_POINTS` points, and that of the threshold."""
    precision, recall, limits = precision_recall_curve(truth, scores)
    order = np.argsort(recall[:-1], kind="stable")  # the last point is a convention, not a threshold
    levels, starts = np.unique(recall[order], return_index=True)
    best = np.maximum.reduceat(precision[order], starts)
    kept = np.unique(np.linspace(0, len(levels) - 1, CURVE_POINTS).round().astype(np.intp))
    points = list(zip(levels[kept].tolist(), best[kept].tolist(), strict=True))
    reached = np.flatnonzero(limits >= threshold)
    if len(reached):
        points.append((float(recall[reached[0]]), float(precision[reached[0]])))
    across, up = zip(*sorted(points, key=lambda point: (point[0], -point[1])), strict=True)
    return np.asarray(across), np.asarray(up)


def _histogram(scores: NDArray[np.floating]) -> Numbers:
    counts, _ = np.histogram(scores, bins=HISTOGRAM_BINS, range=(0, 1))
    return np.asarray(counts / max(len(scores), 1))


def _quantiles(scores: NDArray[np.floating]) -> Numbers:
    return np.asarray(np.quantile(scores, (0.1, 0.5, 0.9)) if len(scores) else np.full(3, np.nan))
