"""A run's report: `report.html`, drawn from what the run keeps."""

from collections.abc import Sequence
from pathlib import Path

from manylabel.system.atomic_write import atomic_write_text
from manylabel_train.data.training_run import TrainingRun
from manylabel_train.reporting.report import REPORT_FILE, Material, read_evidence, render
from manylabel_train.review.suggestion import Suggestion


def write_report(folder: Path, run: TrainingRun, review: Sequence[Suggestion] = (), *, title: str = "") -> Path:
    """Write a run's report anew.

    Args:
        folder: The run.
        run: Its `run.json`.
        review: Rows to review, the likeliest wrong first.
        title: Heads the page, where that is not the folder's name.

    Returns:
        The page's path.

    Raises:
        CheckpointError: What it is drawn from is missing or damaged.
        InputError: It cannot be written.
    """
    material = Material(
        title=title or folder.absolute().name,
        labels=run.labels,
        thresholds=run.thresholds,
        splits=read_evidence(folder, run.labels),
        details=run.details,
        review=tuple(review),
    )
    atomic_write_text(folder / REPORT_FILE, render(material))
    return folder / REPORT_FILE
