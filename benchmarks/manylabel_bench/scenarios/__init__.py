"""What is measured: one module a scenario, each with a `measure` that gives the samples of each contender.

It takes the `Field`, and where contenders that have loaded take turns, these too. Samples are lists: measuring again
adds to them, and every figure is computed of them afterwards (`figures`).
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from manylabel_bench.contenders import Kind, Setting
from manylabel_bench.runner.process import ContenderFailed, Turn, started
from manylabel_bench.runner.workload import Workload

TURNS = ("bulk", "single", "scaling")
"""Scenarios in which contenders that have loaded take turns."""
ALONE = ("cold", "memory", "size", "server")
"""The others."""

MODULES = {
    "bulk": "throughput",
    "single": "latency",
    "scaling": "scaling",
    "cold": "cold_start",
    "memory": "memory",
    "size": "disk_size",
    "server": "server_latency",
}
"""The module of each scenario."""

Samples = dict[str, list[Any]]
"""By contender."""


@dataclass(frozen=True)
class Field:
    """Who is compared, on what, and for how long.

    Attributes:
        kinds: The contenders.
        setting: What each of them is given.
        workload: The texts.
        texts: Their file, for the contenders' processes.
        scratch: A folder to write to.
        rounds: How often each has its turn.
        seconds: That a contender takes a turn at most, where the measurement can be cut short.
        skipped: Why a contender is not measured; those that fail are added.
    """

    kinds: Sequence[Kind]
    setting: Setting
    workload: Workload
    texts: Path
    scratch: Path
    rounds: int
    seconds: float
    skipped: dict[str, str]

    @contextmanager
    def turns(self, setting: Setting | None = None) -> Iterator[list[Turn]]:
        """Every contender in a fresh process, loaded one after the other; who fails to load is skipped."""
        with ExitStack() as stack:
            up = []
            for kind in tqdm(self.kinds, desc="loading", unit="contender", leave=False):
                try:
                    up.append(stack.enter_context(started(kind, setting or self.setting, self.texts)))
                except ContenderFailed as exc:
                    self.skipped[kind.name] = str(exc)
            yield up

    def in_turns(self, up: Sequence[Turn], what: str) -> Iterator[tuple[int, Turn]]:
        """Round by round, each round beginning with another contender."""
        rounds = [(number, number % max(1, len(up))) for number in range(self.rounds)]
        order = [(number, turn) for number, first in rounds for turn in (*up[first:], *up[:first])]
        yield from tqdm(order, desc=what, unit="turn")
