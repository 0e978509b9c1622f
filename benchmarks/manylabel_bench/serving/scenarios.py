"""Does the server hold its load? Steady, at twice what it can do, in a spike, and among clients that dawdle."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from manylabel_bench.serving.openloop import (
    ANSWERED,
    REFUSED,
    Outcome,
    Target,
    at_rate,
    percentiles,
    saturated,
    summary,
)
from manylabel_bench.serving.servers import HOST, Server
from manylabel_bench.serving.speed import sequential

UNDER_WAY = 32
"""Requests that are always under way while capacity is measured."""
STEADY, NORMAL = 0.7, 0.5
"""Shares of capacity: a load that is to be carried without a refusal, and the one around a surge."""
SLOW = 500
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


Spent = tuple[float, float, float]
"""A moment, and the processor seconds of the server and of the generator until then."""


@dataclass(frozen=True)
class Plan:
    """How long things are measured, and the deadline of every request, in seconds."""

    seconds: float = 15.0
    recovery: float = 15.0
    deadline: float = 1.0
    rounds: int = 3


def run(server: Server, texts: Sequence[str], plan: Plan) -> dict[str, Any]:
    """All scenarios on one server.

    Args:
        server: Freshly started.
        texts: Sent in turn, one a request.
        plan: How long.
    """
    target = server.target(texts, **{"X-Timeout-Ms": str(round(plan.deadline * 1000))})
    before = server.memory()[0]
    capacity = asyncio.run(saturated(target, UNDER_WAY, plan.seconds))
    return {
        "capacity_per_second": capacity,
        "deadline_ms": plan.deadline * 1000,
        "one_text_ms": float(np.median(sequential(server, texts[:100]))) * 1000,
        "steady": _phase(target, STEADY * capacity, plan.seconds),
        "overload": _surge(server, target, 2.0, plan),
        "spike": _surge(server, target, 10 * STEADY, plan),
        "slow_sockets": _among_slow(server, target, 0.5 * capacity, plan),
        "memory_mb": dict(zip(("before", "after", "peak"), (before, *server.memory()), strict=True)),
    }


def _phase(target: Target, rate: float, seconds: float) -> dict[str, Any]:
    return summary(asyncio.run(at_rate(target, [(rate, seconds)])), seconds)


def _surge(server: Server, target: Target, share: float, plan: Plan) -> dict[str, Any]:
    """Normal load, a surge, normal load again, while someone keeps asking whether the server lives.

    Capacity is measured right before and right after: on a machine that is shared it moves within a minute.
    """
    before = asyncio.run(saturated(target, UNDER_WAY, plan.seconds / 3))
    calm = min(3.0, plan.seconds)
    phases = [(NORMAL * before, calm), (share * before, plan.seconds), (NORMAL * before, plan.recovery)]
    outcomes, live, spent = asyncio.run(_with_probe(server, target, phases))
    end = calm + plan.seconds
    first = [each for each in outcomes if each.due < calm]
    surge = [each for each in outcomes if calm <= each.due < end]
    after = [each for each in outcomes if each.due >= end]
    usual = float(np.percentile([each.latency for each in first], 99))
    memory = server.memory()[0]
    return {
        **summary(surge, plan.seconds),
        "rate": share * before,
        "capacity": {"before": before, "after": asyncio.run(saturated(target, UNDER_WAY, plan.seconds / 3))},
        "cores": _cores([each for each in spent if calm <= each[0] < end]),
        "live_ms": percentiles(live),
        "live_unanswered": sum(each == float("inf") for each in live),
        "normal_after_seconds": _normal_after(after, end, 2 * usual, plan.recovery),
        "lost_in_all": sum(each.status not in (ANSWERED, *REFUSED) for each in outcomes),
        "memory_mb": memory,
    }


async def _with_probe(
    server: Server, target: Target, phases: Sequence[tuple[float, float]]
) -> tuple[list[Outcome], list[float], list[Spent]]:
    load = asyncio.create_task(at_rate(target, phases))
    begin = time.perf_counter()
    live: list[float] = []
    spent: list[Spent] = []
    while not load.done():
        spent.append((time.perf_counter() - begin, server.cpu_seconds(), time.process_time()))
        live.append(await _live(server.port))
        await asyncio.sleep(0.1)
    return load.result(), live, spent


def _cores(spent: Sequence[Spent]) -> dict[str, float]:
    """Cores that the server and the generator kept busy between the first and the last."""
    seconds, server, generator = (last - first for first, last in zip(spent[0], spent[-1], strict=True))
    return {"server": server / seconds, "generator": generator / seconds} if seconds else {}


async def _live(port: int) -> float:
    """Seconds until the server said that it lives, over a connection of its own; infinite where it did not."""
    begin = time.perf_counter()
    try:
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(LIVE)
            status = await reader.readline()
            writer.close()
    except (OSError, TimeoutError):
        return float("inf")
    return time.perf_counter() - begin if b" 200 " in status else float("inf")


def _normal_after(after: Sequence[Outcome], end: float, limit: float, seconds: float) -> float | None:
    """Seconds from a surge's end until everything is answered, and nine in ten of it below the limit, for good.

    A second has some hundred requests: a single stall of the machine decides about their 99th percentile.
    """
    bad = [
        second
        for second in range(int(seconds))
        if not _is_normal([each for each in after if second <= each.due - end < second + 1], limit)
    ]
    back = max(bad) + 1.0 if bad else 0.0
    return back if back < int(seconds) else None


def _is_normal(outcomes: Sequence[Outcome], limit: float) -> bool:
    answered = all(each.status == ANSWERED for each in outcomes)
    return answered and (not outcomes or float(np.percentile([each.latency for each in outcomes], 90)) <= limit)


def _among_slow(server: Server, target: Target, rate: float, plan: Plan) -> dict[str, Any]:
    """The same load without and with sockets that send a byte a second, in turns."""
    p99: dict[str, list[float]] = {"without": [], "with": []}
    lost = 0
    for _ in range(plan.rounds):
        for name in p99:
            with _slow_sockets(server.port, SLOW if name == "with" else 0):
                found = _phase(target, rate, plan.seconds)
            p99[name].append(found["latency_ms"]["p99"])
            lost += found["lost"]
    medians = {name: float(np.median(each)) for name, each in p99.items()}
    return {"sockets": SLOW, "p99_ms": p99, "rise": medians["with"] / medians["without"] - 1, "lost": lost}


@contextmanager
def _slow_sockets(port: int, number: int) -> Iterator[None]:
    command = [sys.executable, "-m", "manylabel_bench.serving.slow", str(port), str(number)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        process.stdout.readline()  # all are connected
        yield
    finally:
        process.kill()
        process.communicate()
