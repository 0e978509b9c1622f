"""How training went, from the Trainer's log."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Learning:
    """Curves over epochs.

    Attributes:
        training_loss, validation_loss: By epoch; the first is the mean since the point before.
        macro_f1, micro_f1: On validation texts at 0.5, by epoch.
        best_epoch: The one that was kept; None where the log does not say.
        kept_by: The metric by which it was.
    """

    training_loss: Points
    validation_loss: Points
    macro_f1: Points
    micro_f1: Points
    best_epoch: float | None
    kept_by: str


def learning_of(details: Mapping[str, Any]) -> Learning | None:
    """The curves of a run; None where it keeps no log.

    Args:
        details: Of the run: its log and its recipe.
    """
    log = details.get("log", [])
    if not log:
        return None
    kept_by = str(details.get("recipe", {}).get("best_by", "macro_f1"))
    values = _points(log, f"eval_{kept_by}")
    choose = min if kept_by == "hamming_loss" else max
    return Learning(
        training_loss=_points(log, "loss"),
        validation_loss=_points(log, "eval_loss"),
        macro_f1=_points(log, "eval_macro_f1"),
        micro_f1=_points(log, "eval_micro_f1"),
        best_epoch=choose(values, key=lambda point: point[1])[0] if values else None,
        kept_by=kept_by,
    )


def _points(log: Sequence[Mapping[str, Any]], name: str) -> Points:
    """A quantity by epoch; entries without it, or where it was no number, are left out."""
    return [
        (float(entry["epoch"]), float(entry[name]))
        for entry in log
        if entry.get(name) is not None and entry.get("epoch") is not None
    ]
