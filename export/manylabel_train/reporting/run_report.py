"""The report of a run: `report.html`, rendered from what the run keeps."""

from collections.abc import Sequence
from pathlib import Path

from manylabel.system.atomic_write import atomic_write_text
from manylabel_train.data.label_review import LabelSuggestion
from manylabel_train.data.training_run import TrainingRun
from manylabel_train.reporting.heldout_scores import read_heldout_scores
from manylabel_train.reporting.html_report import REPORT_FILE, ReportContent, render_report


def write_report(folder: Path, run: TrainingRun, review: Sequence[LabelSuggestion] = (), *, title: str = "") -> Path:
    """Write a run's report, replacing an existing one.

    Args:
        folder: The run.
        run: The content of its `run.json`.
        review: Rows to review, most likely wrong first.
        title: The page's title, if it is not the folder's name.

    Returns:
        The path of the page.

    Raises:
        CheckpointError: The run's scores are missing or damaged.
        CannotWrite: The report cannot be written.

    Example:
        >>> from manylabel_train import read_run
        >>> write_report(Path("run"), read_run(Path("run"))).name
        'report.html'
    """
    content = ReportContent(
        title=title or folder.absolute().name,
        labels=run.labels,
        thresholds=run.thresholds,
        splits=read_heldout_scores(folder, run.labels),
        details=run.details,
        review=tuple(review),
    )
    atomic_write_text(folder / REPORT_FILE, render_report(content))
    return folder / REPORT_FILE
