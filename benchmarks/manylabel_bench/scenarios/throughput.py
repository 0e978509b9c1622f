"""How many texts a second, all of them at once, and where does the time go?

The first round's probabilities are those whose accuracy is told, beside the speed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from manylabel_bench.runner.process import Turn
from manylabel_bench.runner.workload import padding_share, write_texts
from manylabel_bench.scenarios import Field, Samples

WARM = 64
"""Texts scored first, so that nothing is set up, or compiled, in the first round."""


def measure(field: Field, up: Sequence[Turn]) -> dict[str, Samples]:
    """Seconds for all texts, and of one pass the stages and the memory."""
    warm = write_texts(field.scratch / "warm.json", field.workload.data.texts[:WARM])
    found: dict[str, dict[str, list[Any]]] = {name: {} for name in ("bulk", "stages", "load", "batching")}
    for turn in up:
        turn.ask("bulk", warm)
        found["load"][turn.name] = [turn.load_seconds]
        found["batching"][turn.name] = [_batching(field, turn.batching)]
    for _, turn in field.in_turns(up, "bulk"):
        found["bulk"].setdefault(turn.name, []).append(turn.ask("bulk", field.texts, scores_file(field, turn.name)))
    for turn in up:
        if stages := turn.ask("stages", field.texts)["stages"]:
            found["stages"][turn.name] = [stages]
    return found


def _batching(field: Field, batching: str) -> dict[str, Any]:
    """How a contender makes batches, and what that makes it compute."""
    lengths = np.minimum(field.workload.lengths, field.setting.max_length)
    return {
        "batching": batching,
        "tokens": field.workload.tokens(batching),
        "padding_share": padding_share(lengths, batching),
    }


def scores_file(field: Field, name: str) -> Path:
    """Where a contender's probabilities lie, shape `(n_texts, n_labels)`."""
    return field.scratch / f"{name.replace(' ', '-')}.npy"
