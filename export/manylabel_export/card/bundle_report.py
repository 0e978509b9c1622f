"""A bundle's `report.html`: that of its run without users' texts, and the parity of its graphs.

Why without: docs/decisions/0006-use-our-own-texts-as-probes.md.
"""

import numpy as np
from numpy.typing import NDArray

from manylabel.bundle.bundle import Manifest
from manylabel_export.source import Subject
from manylabel_train.reporting.report import Material, Scored, render


def bundle_report(
    name: str, manifest: Manifest, subject: Subject, scores: NDArray[np.float32], thresholds: NDArray[np.float32]
) -> str:
    """Draw the page for a bundle.

    Args:
        name: What the bundle is called.
        manifest: All but the list of files.
        subject: What is exported; where it brings a test split with its scores, that is drawn.
        scores: PyTorch's probabilities of the subject's texts, shape `(n_texts, n_labels)`.
        thresholds: What these are decided by, shape `(n_labels,)`.
    """
    validation = [] if subject.targets is None else [Scored("validation", scores, subject.targets)]
    tested = [each.without_texts() for each in subject.evidence if each.split == "test"]
    return render(
        Material(
            title=name,
            labels=manifest.labels,
            thresholds=tuple(thresholds.tolist()),
            splits=(*validation, *tested),
            details=subject.details,
            variants=manifest.variants,
            certificate=manifest.certificate,
        )
    )
