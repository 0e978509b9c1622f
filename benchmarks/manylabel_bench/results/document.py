"""The document of a measurement: what it was measured on, every sample, and the figures computed of them.

Measured in pieces, samples add up: one more round of everything is more rounds, one more contender is another row.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manylabel.errors import DataError
from manylabel.system.atomic_write import atomic_write_text
from manylabel_bench.results.metrics import figures
from manylabel_train.evaluation.metrics import METRICS

RESULT = "result.json"
_NUMBERS = re.compile(r"\[[-+.\deE,\s]+\]")
SAME = ("threads", "texts")
LATEST = ("size", "batching", "stages", "memory")
"""Samples that take the place of those that are there already."""
ACCURACY = (*METRICS, "at_half", "max_difference", "mean_difference", "decisions_as_pytorch")


def document(head: Mapping[str, Any], piece: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """The document of one measurement.

    Args:
        head: `machine`, `peak`, `threads`, `texts`, `bundle`, `workload`, `same_alone_and_in_company`.
        piece: When and by which command, and the load then.
        found: As `compare` gives it.
    """
    names = dict.fromkeys(name for samples in found["samples"].values() for name in samples)
    contenders = {
        name: {
            "samples": {kind: samples[name] for kind, samples in found["samples"].items() if name in samples},
            "accuracy": found["accuracy"].get(name),
        }
        for name in names
    }
    return with_figures({**head, "pieces": [dict(piece)], "skipped": dict(found["skipped"])}, contenders)


def added(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Both documents' samples, with the newer head.

    Raises:
        DataError: They measure different things.
    """
    check_same(old, new)
    contenders = {one["name"]: {"samples": one["samples"], "accuracy": _accuracy(one)} for one in old["contenders"]}
    for one in new["contenders"]:
        known = contenders.setdefault(one["name"], {"samples": {}, "accuracy": None})
        known["accuracy"] = _accuracy(one) or known["accuracy"]
        for kind, samples in one["samples"].items():
            before = [] if kind in LATEST else known["samples"].get(kind, [])
            known["samples"][kind] = [*before, *samples]
    skipped = {name: why for name, why in {**old["skipped"], **new["skipped"]}.items() if name not in contenders}
    head = {**new, "pieces": [*old["pieces"], *new["pieces"]], "skipped": skipped}
    return with_figures(
        {**head, "peak": {key: max(old["peak"][key], most) for key, most in new["peak"].items()}}, contenders
    )


def check_same(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Refuse to add up what was measured of different things.

    Raises:
        DataError: Bundle, texts, threads, CPU or a version differ.
    """
    kept = [(name, old.get(name), new[name]) for name in SAME]
    kept += [("bundle", old["bundle"]["digest"], new["bundle"]["digest"])]
    kept += [("texts' digest", old.get("workload", {}).get("digest"), new["workload"]["digest"])]
    kept += [(name, old["machine"][name], new["machine"][name]) for name in ("cpu", "versions")]
    for name, before, now in kept:
        if before != now:
            raise DataError(
                f"the result was measured with another {name}: {before} there, {now} now. Leave out --add to begin "
                "anew, or name another --output."
            )


def with_figures(head: Mapping[str, Any], contenders: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The document, its figures computed of the samples."""
    rows = [
        {"name": name, **figures(name, one["samples"], head), **(one["accuracy"] or {}), "samples": one["samples"]}
        for name, one in contenders.items()
    ]
    return {**head, "rounds": max((len(row["samples"].get("bulk", ())) for row in rows), default=0), "contenders": rows}


def read(folder: Path) -> dict[str, Any]:
    """The document in a folder.

    Raises:
        DataError: There is none.
    """
    try:
        found: dict[str, Any] = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise DataError(f"{folder / RESULT} cannot be read: {exc}. Measure without --add first.") from exc
    return found


def write(document: Mapping[str, Any], folder: Path) -> None:
    """Write the document, whole at any moment."""
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_text(folder / RESULT, _NUMBERS.sub(_on_one_line, json.dumps(document, indent=1)) + "\n")


def _on_one_line(numbers: re.Match[str]) -> str:
    return "[" + ", ".join(numbers[0][1:-1].replace(",", " ").split()) + "]"


def _accuracy(one: Mapping[str, Any]) -> dict[str, Any] | None:
    return {name: one[name] for name in ACCURACY if name in one} or None
