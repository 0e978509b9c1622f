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

from load_tests.throughput import sequential
from manylabel_bench.load.open_loop import ANSWERED, REFUSED, Outcome, Target, at_rate, percentiles, saturated, summary
from manylabel_bench.load.servers import HOST, Server

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
    """How long things are measured, the steady load and twice capacity among them, and every deadline; in seconds."""

    seconds: float = 15.0
    steady: float = 15.0
    overload: float = 15.0
    recovery: float = 11.0
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
        "steady": _phase(target, STEADY * capacity, plan.steady),
        "overload": _surge(server, target, 2.0, plan.overload, plan),
        "spike": _surge(server, target, 10 * STEADY, plan.seconds, plan),
        "slow_sockets": _among_slow(server, target, 0.5 * capacity, plan),
        "memory_mb": dict(zip(("before", "after", "peak"), (before, *server.memory()), strict=True)),
    }


def _phase(target: Target, rate: float, seconds: float) -> dict[str, Any]:
    return summary(asyncio.run(at_rate(target, [(rate, seconds)])), seconds)


def _surge(server: Server, target: Target, share: float, seconds: float, plan: Plan) -> dict[str, Any]:
    """Normal load, a surge, normal load again, several times: what one stall of the machine does decides nothing.

    Rates and times are medians over the rounds, counts are sums, and of what must never happen it is the worst.
    """
    rounds = [_one_surge(server, target, share, seconds, plan) for _ in range(plan.rounds)]

    def median(*path: str) -> float:
        return float(np.median([_at(each, path) for each in rounds]))

    def medians(name: str) -> dict[str, float]:
        return {key: median(name, key) for key in rounds[0][name] if all(key in each[name] for each in rounds)}

    return {
        **{name: median(name) for name in ("rate", "sent_per_second", "answered_per_second", "share", "memory_mb")},
        **{name: sum(each[name] for each in rounds) for name in ("sent", "refused", "lost_in_all", "live_unanswered")},
        **{name: medians(name) for name in ("latency_ms", "turned_away_ms", "capacity", "cores")},
        "live_ms": {"max": max(each["live_ms"]["max"] for each in rounds)},
        "normal_after_seconds": _median_or_never([each["normal_after_seconds"] for each in rounds]),
        "rounds": rounds,
    }


def _at(found: Any, path: Sequence[str]) -> float:
    for name in path:
        found = found[name]
    return float(found)


def _median_or_never(seconds: Sequence[float | None]) -> float | None:
    middle = sorted(float("inf") if each is None else each for each in seconds)[len(seconds) // 2]
    return None if middle == float("inf") else middle


def _one_surge(server: Server, target: Target, share: float, seconds: float, plan: Plan) -> dict[str, Any]:
    """One of its rounds, while someone keeps asking whether the server lives.

    Capacity is measured right before and right after: on a machine that is shared it moves within a minute.
    """
    before = asyncio.run(saturated(target, UNDER_WAY, plan.seconds / 3))
    calm = plan.seconds / 1.5
    phases = [(NORMAL * before, calm), (share * before, seconds), (NORMAL * before, plan.recovery)]
    outcomes, live, spent = asyncio.run(_with_probe(server, target, phases))
    end = calm + seconds
    surge = summary([each for each in outcomes if calm <= each.due < end], seconds)
    memory = server.memory()[0]
    after = asyncio.run(saturated(target, UNDER_WAY, plan.seconds / 3))
    return {
        **surge,
        "rate": share * before,
        "capacity": {"before": before, "after": after},
        "share": surge["answered_per_second"] / ((before + after) / 2),
        "cores": _cores([each for each in spent if calm <= each[0] < end]),
        "live_ms": percentiles(live),
        "live_unanswered": sum(each == float("inf") for each in live),
        "normal_after_seconds": _normal_after(
            [each for each in outcomes if each.due < calm], [each for each in outcomes if each.due >= end], end
        ),
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


def _normal_after(before: Sequence[Outcome], after: Sequence[Outcome], end: float) -> float | None:
    """Seconds from a surge's end until load is as before it; `None` where that is never seen.

    A second is as before where everything is answered, and its 99th percentile is at most the greatest that a second
    had before. Three such in a row are asked for, and not that all later ones are: on a shared machine some second or
    other is slow, surge or none.
    """
    limit = max((_p99(each) for each in _by_second(before, 0.0).values()), default=0.0)
    normal = {
        second
        for second, each in _by_second(after, end).items()
        if all(one.status == ANSWERED for one in each) and _p99(each) <= limit
    }
    return min((float(second) for second in normal if {second + 1, second + 2} <= normal), default=None)


def _by_second(outcomes: Sequence[Outcome], begin: float) -> dict[int, list[Outcome]]:
    seconds: dict[int, list[Outcome]] = {}
    for each in outcomes:
        seconds.setdefault(int(each.due - begin), []).append(each)
    return seconds


def _p99(outcomes: Sequence[Outcome]) -> float:
    return float(np.percentile([each.latency for each in outcomes], 99))


def _among_slow(server: Server, target: Target, rate: float, plan: Plan) -> dict[str, Any]:
    """The same load without and with sockets that send a byte a second, in turns.

    A slice with them is held against the mean of its neighbours without. The control is what these two differ by: as
    much is the machine's doing.
    """
    p99: dict[str, list[float]] = {"without": [], "with": []}
    lost = 0
    for number in range(4 * plan.rounds + 1):
        name = ("without", "with")[number % 2]
        with _slow_sockets(server.port, SLOW if name == "with" else 0):
            found = _phase(target, rate, plan.seconds / 2)
        p99[name].append(found["latency_ms"]["p99"])
        lost += found["lost"]
    neighbours = list(zip(p99["without"], p99["without"][1:], strict=False))
    rises = [2 * here / sum(two) - 1 for here, two in zip(p99["with"], neighbours, strict=True)]
    return {
        "sockets": SLOW,
        "p99_ms": p99,
        "rise": float(np.median(rises)),
        "control": [float(late / early - 1) for early, late in neighbours],
        "lost": lost,
    }


@contextmanager
def _slow_sockets(port: int, number: int) -> Iterator[None]:
    command = [sys.executable, "-m", "load_tests.slowloris", str(port), str(number)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        process.stdout.readline()  # all are connected
        yield
    finally:
        process.kill()
        process.communicate()
