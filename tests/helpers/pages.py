"""What reports are drawn from in tests: made-up scores, and texts that attack."""

from collections.abc import Sequence

import numpy as np

from manylabel_train.reporting.report import Material, Scored

HOSTILE = (
    "<script>document.title='owned'</script>",
    "</style></svg><img src=x onerror=\"document.title='owned'\">",
    "{{ 7 * 7 }} {% raw %}",
    "a\ud800b",
    "\u202eright to left \u05e9\u05dc\u05d5\u05dd",
    "nul \x00 and bell \x07",
    "parcel " * 150_000,
)


def scored(n: int = 60, labels: int = 3, *, seed: int = 0, split: str = "test", texts: Sequence[str] = ()) -> Scored:
    """Scores that are right most of the time."""
    draw = np.random.default_rng(seed)
    truth = draw.random((n, labels)) < 0.3
    scores = np.clip(np.where(truth, 0.75, 0.2) + draw.normal(scale=0.2, size=truth.shape), 0.001, 0.999)
    names = tuple(texts[row % len(texts)] if texts else f"text {row}" for row in range(n))
    return Scored(split, scores.astype(np.float32), truth.astype(np.float32), names)


def material(found: Scored, labels: Sequence[str] = (), **more: object) -> Material:
    n = found.scores.shape[1]
    names = tuple(labels) or tuple(f"label {at}" for at in range(n))
    return Material("model", names, (0.5,) * n, (found,), **more)  # type: ignore[arg-type]  # for tests
