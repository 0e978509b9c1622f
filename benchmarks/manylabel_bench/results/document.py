"""The result document, `result.json`: what was measured and on what, every sample, and the figures from them.

Measurements can be added to a result: another run appends rounds to the samples, or adds contenders and scenarios.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manylabel.errors import DataError
from manylabel.system.atomic_write import atomic_write_text
from manylabel_bench.results.metrics import compute_figures
from manylabel_train.evaluation.metrics import METRICS

RESULT = "result.json"
_NUMBER_LIST = re.compile(r"\[[-+.\deE,\s]+\]")
FIXED = ("threads", "texts")
"""Fields in which two results must agree to be merged."""
REPLACED = ("size", "batching", "stages", "memory")
"""Scenarios whose new samples replace the old ones; all others are appended."""
ACCURACY = (*METRICS, "at_half", "max_difference", "mean_difference", "decisions_as_pytorch")


def build_document(head: Mapping[str, Any], piece: Mapping[str, Any], measured: Mapping[str, Any]) -> dict[str, Any]:
    """Build the document of one measurement.

    Args:
        head: `machine`, `peak`, `threads`, `texts`, `bundle`, `workload`, `same_alone_and_in_company`.
        piece: When it was measured, by which command, and the load at that time.
        measured: What `compare_contenders` returned.
    """
    names = dict.fromkeys(name for samples in measured["samples"].values() for name in samples)
    contenders = {
        name: {
            "samples": {
                scenario: samples[name] for scenario, samples in measured["samples"].items() if name in samples
            },
            "accuracy": measured["accuracy"].get(name),
        }
        for name in names
    }
    return add_figures({**head, "pieces": [dict(piece)], "skipped": dict(measured["skipped"])}, contenders)


def merge_documents(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Merge the samples of two documents, with the newer head.

    Raises:
        DataError: They measure different things.
    """
    check_comparable(old, new)
    contenders = {row["name"]: {"samples": row["samples"], "accuracy": _accuracy(row)} for row in old["contenders"]}
    for row in new["contenders"]:
        known = contenders.setdefault(row["name"], {"samples": {}, "accuracy": None})
        known["accuracy"] = _accuracy(row) or known["accuracy"]
        for scenario, samples in row["samples"].items():
            before = [] if scenario in REPLACED else known["samples"].get(scenario, [])
            known["samples"][scenario] = [*before, *samples]
    skipped = {name: reason for name, reason in {**old["skipped"], **new["skipped"]}.items() if name not in contenders}
    head = {**new, "pieces": [*old["pieces"], *new["pieces"]], "skipped": skipped}
    peak = {operands: max(old["peak"][operands], rate) for operands, rate in new["peak"].items()}
    return add_figures({**head, "peak": peak}, contenders)


def check_comparable(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raise an error if two documents do not measure the same thing.

    Raises:
        DataError: Bundle, texts, threads, CPU or a package version differ.
    """
    fields = [(name, old.get(name), new[name]) for name in FIXED]
    fields += [("bundle", old["bundle"]["digest"], new["bundle"]["digest"])]
    fields += [("texts' digest", old.get("workload", {}).get("digest"), new["workload"]["digest"])]
    fields += [(name, old["machine"][name], new["machine"][name]) for name in ("cpu", "versions")]
    for name, before, now in fields:
        if before != now:
            raise DataError(
                f"the result in --output was measured with a different {name}: {before} there, {now} now. Start a new "
                "result without --add, or choose another --output."
            )


def add_figures(head: Mapping[str, Any], contenders: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the document with the figures computed from its samples."""
    rows = [
        {
            "name": name,
            **compute_figures(name, each["samples"], head),
            **(each["accuracy"] or {}),
            "samples": each["samples"],
        }
        for name, each in contenders.items()
    ]
    return {**head, "rounds": max((len(row["samples"].get("bulk", ())) for row in rows), default=0), "contenders": rows}


def read_document(folder: Path) -> dict[str, Any]:
    """Read the document in a folder.

    Raises:
        DataError: It is missing or cannot be parsed.
    """
    try:
        document: dict[str, Any] = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise DataError(f"{folder / RESULT} cannot be read: {exc}. Run once without --add first.") from exc
    return document


def write_document(document: Mapping[str, Any], folder: Path) -> None:
    """Write the document atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_text(folder / RESULT, _NUMBER_LIST.sub(_on_one_line, json.dumps(document, indent=1)) + "\n")


def _on_one_line(numbers: re.Match[str]) -> str:
    """Put a list of numbers on one line."""
    return "[" + ", ".join(numbers[0][1:-1].replace(",", " ").split()) + "]"


def _accuracy(row: Mapping[str, Any]) -> dict[str, Any] | None:
    return {name: row[name] for name in ACCURACY if name in row} or None
