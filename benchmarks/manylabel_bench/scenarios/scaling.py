"""What do more threads bring, what do longer texts cost, and how many texts should one call have?"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from manylabel_bench.runner.process import Turn
from manylabel_bench.runner.workload import LENGTHS, write_texts
from manylabel_bench.scenarios import Field, Samples

TOKENS = 8192
"""Of the texts of one length together."""
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SINGLES = 200


def measure(field: Field, up: Sequence[Turn]) -> dict[str, Samples]:
    """For each number of threads, length and size of a call: texts and seconds; by length single texts', too."""
    found: dict[str, list[Any]] = {}
    _lengths(field, up, found)
    _calls(field, up, found)
    for threads in _thread_counts(field.setting.threads):
        with field.turns(replace(field.setting, threads=threads)) as others:
            _threads(field, others, threads, found)
    return {"scaling": found}


def _threads(field: Field, up: Sequence[Turn], threads: int, found: dict[str, list[Any]]) -> None:
    for turn in up:
        turn.ask("bulk", field.texts)
    for _, turn in field.in_turns(up, f"{threads} threads"):
        seconds = turn.ask("bulk", field.texts)["seconds"]
        _note(found, turn, by="threads", at=threads, texts=len(field.workload.data), seconds=seconds)


def _lengths(field: Field, up: Sequence[Turn], found: dict[str, list[Any]]) -> None:
    for length in (each for each in LENGTHS if each <= field.workload.tokenizer.max_length):
        several = field.workload.of_length(length, max(8, TOKENS // length))
        if not several:
            continue
        texts = write_texts(field.scratch / f"length{length}.json", several)
        for turn in up:
            turn.ask("bulk", texts)
        for number, turn in field.in_turns(up, f"{length} tokens"):
            seconds = turn.ask("bulk", texts)["seconds"]
            share = -(-SINGLES // field.rounds)
            singles = turn.ask("single", texts, number * share, share, field.seconds / 4)["seconds"]
            _note(found, turn, by="length", at=length, texts=len(several), seconds=seconds, singles=singles)


def _calls(field: Field, up: Sequence[Turn], found: dict[str, list[Any]]) -> None:
    for size in (each for each in BATCHES if each <= len(field.workload.data)):
        for _, turn in field.in_turns(up, f"{size} a call"):
            _note(found, turn, by="call", at=size, **turn.ask("calls", field.texts, size, field.seconds / len(BATCHES)))


def _thread_counts(most: int) -> list[int]:
    """1, 2, 4 and so on, and all."""
    return sorted({*(2**power for power in range(most.bit_length()) if 2**power <= most), most})


def _note(found: dict[str, list[Any]], turn: Turn, **sample: Any) -> None:
    found.setdefault(turn.name, []).append(sample)
