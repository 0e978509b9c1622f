"""How long does one text take? Texts come one at a time, as from users who wait, everyone's turn short."""

from collections.abc import Sequence
from typing import Any

from manylabel_bench.runner.process import Turn
from manylabel_bench.scenarios import Field, Samples

TEXTS = 2000
"""Of each contender, where the time is enough: some twenty beyond the 99th percentile."""
WARM = 20


def measure(field: Field, up: Sequence[Turn]) -> dict[str, Samples]:
    """Seconds of each text."""
    found: dict[str, list[Any]] = {}
    share = -(-TEXTS // field.rounds)
    for turn in up:
        turn.ask("single", field.texts, 0, WARM, field.seconds)
    for number, turn in field.in_turns(up, "single"):
        answer = turn.ask("single", field.texts, number * share, share, field.seconds)
        found.setdefault(turn.name, []).extend(round(each, 7) for each in answer["seconds"])
    return {"single": found}
