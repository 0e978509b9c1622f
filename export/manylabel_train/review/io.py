"""The suggestions as files: a table that a spreadsheet opens, and JSON for programs and for the run's report."""

import csv
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from manylabel.data.cell_validation import escape_formula
from manylabel.errors import CheckpointError, InputError, OutputExists
from manylabel.system.atomic_write import atomic_text_file, atomic_write_text
from manylabel.system.unicode import valid_unicode
from manylabel_train.models import checkpoint
from manylabel_train.review.suggestion import Suggestion

REVIEW_FILE = "review.json"
"""In a run: what was suggested last."""

COLUMNS = ("text", "given", "suggested", "confidence", "add", "remove", "split", "row")


def write_table(suggestions: Sequence[Suggestion], path: Path, *, separator: str = "|", raw: bool = False) -> None:
    """A CSV file that a spreadsheet opens as text.

    A cell that begins like a formula gets an apostrophe before it, as OWASP's "CSV injection" advises. The file starts
    with a byte order mark, without which Excel misreads umlauts.

    Args:
        suggestions: The rows, in order.
        path: The file.
        separator: Stands between labels.
        raw: Leave such cells as they are, for programs that read the table.
    """
    with atomic_text_file(path, encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for one in suggestions:
            named = [separator.join(names) for names in (one.given, one.suggested, one.add, one.remove)]
            text, given, suggested, add, remove = (cell if raw else escape_formula(cell) for cell in (one.text, *named))
            writer.writerow([text, given, suggested, f"{one.confidence:.4f}", add, remove, one.split, one.row])


def as_document(suggestions: Sequence[Suggestion], found: int) -> dict[str, Any]:
    """The same as JSON holds it, with all texts and labels as they are; lone surrogates become U+FFFD.

    Args:
        suggestions: Those that are shown.
        found: How many there are.
    """
    rows = [asdict(one) | {"text": valid_unicode(one.text), "confidence": one.confidence} for one in suggestions]
    return {"found": found, "suggestions": rows}


def write_review(document: Mapping[str, Any], folder: Path) -> None:
    """Keep the suggestions in the run, where its report finds them."""
    atomic_write_text(folder / REVIEW_FILE, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def read_review(folder: Path) -> list[Suggestion]:
    """What was suggested last for a run; nothing where no review has run.

    Raises:
        CheckpointError: The file is no review.
    """
    path = folder / REVIEW_FILE
    if not path.exists():
        return []
    try:
        return [_read(row) for row in checkpoint.read_json(path)["suggestions"]]
    except (KeyError, TypeError, AttributeError) as exc:
        raise CheckpointError(f"{path} is damaged. Remove it, or write it anew with manylabel review-labels.") from exc


def check_output(path: Path, *, force: bool) -> None:
    """Refuse an output before any work is done.

    Raises:
        OutputExists: It is there, and `force` was not given.
        InputError: It is a folder, or its folder is missing.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder. Name a file, such as {path / 'review.csv'}.")
    if os.path.lexists(path) and not force:
        raise OutputExists(f"{path} is there already. Choose another output, or replace it with --force.")
    if not path.absolute().parent.is_dir():
        raise InputError(f"the folder {path.absolute().parent} does not exist. Create it, or choose another output.")


def _read(row: Mapping[str, Any]) -> Suggestion:
    return Suggestion(
        row=int(row["row"]),
        split=str(row["split"]),
        text=str(row["text"]),
        given=tuple(row["given"]),
        suggested=tuple(row["suggested"]),
        add={str(label): float(value) for label, value in row["add"].items()},
        remove={str(label): float(value) for label, value in row["remove"].items()},
    )
