"""The validation texts' scores as a bundle carries them, to hold later ones against."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from manylabel.drift.baseline import BASELINE_FILE, ScoreBaseline
from manylabel_export.source import Subject


def score_reference(
    subject: Subject, probabilities: NDArray[np.float32], thresholds: NDArray[np.float32]
) -> Mapping[str, bytes]:
    """The file for a bundle, by name; none where there are no validation texts.

    Args:
        subject: What is exported.
        probabilities: PyTorch's, of the subject's texts, shape `(n_texts, n_labels)`.
        thresholds: Shape `(n_labels,)`.
    """
    if subject.targets is None or not len(probabilities):  # half a dozen probes are no distribution
        return {}
    return {BASELINE_FILE: ScoreBaseline.from_scores(subject.labels, probabilities, thresholds).to_bytes()}
