"""Content for reports in tests: made-up scores, and hostile texts."""

from collections.abc import Sequence

import numpy as np

from manylabel_train.reporting.heldout_scores import HeldOutScores
from manylabel_train.reporting.html_report import ReportContent

HOSTILE = (
    "<script>document.title='owned'</script>",
    "</style></svg><img src=x onerror=\"document.title='owned'\">",
    "{{ 7 * 7 }} {% raw %}",
    "a\ud800b",
    "\u202eright to left \u05e9\u05dc\u05d5\u05dd",
    "nul \x00 and bell \x07",
    "parcel " * 150_000,
)


def scored(
    n: int = 60, labels: int = 3, *, seed: int = 0, split: str = "test", texts: Sequence[str] = ()
) -> HeldOutScores:
    """Return scores that are right most of the time."""
    draw = np.random.default_rng(seed)
    truth = draw.random((n, labels)) < 0.3
    scores = np.clip(np.where(truth, 0.75, 0.2) + draw.normal(scale=0.2, size=truth.shape), 0.001, 0.999)
    names = tuple(texts[row % len(texts)] if texts else f"text {row}" for row in range(n))
    return HeldOutScores(split, scores.astype(np.float32), truth.astype(np.float32), names)


def content(held_out: HeldOutScores, labels: Sequence[str] = (), **more: object) -> ReportContent:
    n = held_out.scores.shape[1]
    names = tuple(labels) or tuple(f"label {column}" for column in range(n))
    return ReportContent("model", names, (0.5,) * n, (held_out,), **more)  # type: ignore[arg-type]  # for tests
