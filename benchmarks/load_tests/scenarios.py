"""Load scenarios: steady load, twice the server's capacity, a spike, and slow clients."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from load_tests.throughput import time_requests
from manylabel_bench.load.open_loop import (
    OK,
    REFUSED,
    RequestOutcome,
    RequestStream,
    latency_percentiles,
    measure_saturation,
    send_at_rate,
    summarize_outcomes,
)
from manylabel_bench.load.servers import HOST, Server

CONCURRENT_REQUESTS = 32
"""Requests that are always in flight while capacity is measured."""
STEADY_SHARE, NORMAL_SHARE = 0.7, 0.5
"""Shares of capacity: the steady load, which must be carried without a refusal, and the load around a surge."""
SLOW_SOCKETS = 500
LIVENESS_REQUEST = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"

CpuSample = tuple[float, float, float]
"""A moment, and the CPU seconds that the server and the generator have used until then."""


@dataclass(frozen=True)
class LoadTestConfig:
    """How long each phase lasts, in seconds.

    Attributes:
        seconds: Duration of a phase.
        steady: Duration of the steady load.
        overload: Duration of the load of twice the capacity.
        recovery: How long the load after a surge is observed.
        deadline: Deadline of every request.
        rounds: How often each surge is repeated.
    """

    seconds: float = 15.0
    steady: float = 15.0
    overload: float = 15.0
    recovery: float = 11.0
    deadline: float = 1.0
    rounds: int = 3


def run_scenarios(server: Server, texts: Sequence[str], config: LoadTestConfig) -> dict[str, Any]:
    """Run all scenarios on one server.

    Args:
        server: A freshly started server.
        texts: Texts sent in turn, one per request.
        config: How long each phase lasts.
    """
    stream = server.request_stream(texts, **{"X-Timeout-Ms": str(round(config.deadline * 1000))})
    before = server.memory()[0]
    capacity = asyncio.run(measure_saturation(stream, CONCURRENT_REQUESTS, config.seconds))
    return {
        "capacity_per_second": capacity,
        "deadline_ms": config.deadline * 1000,
        "one_text_ms": float(np.median(time_requests(server, texts[:100]))) * 1000,
        "steady": _run_phase(stream, STEADY_SHARE * capacity, config.steady),
        "overload": _run_surges(server, stream, 2.0, config.overload, config),
        "spike": _run_surges(server, stream, 10 * STEADY_SHARE, config.seconds, config),
        "slow_sockets": _run_with_slow_clients(server, stream, 0.5 * capacity, config),
        "memory_mb": dict(zip(("before", "after", "peak"), (before, *server.memory()), strict=True)),
    }


def _run_phase(stream: RequestStream, rate: float, seconds: float) -> dict[str, Any]:
    return summarize_outcomes(asyncio.run(send_at_rate(stream, [(rate, seconds)])), seconds)


def _run_surges(
    server: Server, stream: RequestStream, share: float, seconds: float, config: LoadTestConfig
) -> dict[str, Any]:
    """Run normal load, a surge and normal load again, several times, so that one stall of the machine does not decide.

    Rates and times are medians over the rounds, counts are sums; for what must never happen the worst round counts.
    """
    rounds = [_one_surge(server, stream, share, seconds, config) for _ in range(config.rounds)]

    def median(*path: str) -> float:
        return float(np.median([_get_nested(each, path) for each in rounds]))

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


def _get_nested(document: Any, path: Sequence[str]) -> float:
    for name in path:
        document = document[name]
    return float(document)


def _median_or_never(seconds: Sequence[float | None]) -> float | None:
    middle = sorted(float("inf") if each is None else each for each in seconds)[len(seconds) // 2]
    return None if middle == float("inf") else middle


def _one_surge(
    server: Server, stream: RequestStream, share: float, seconds: float, config: LoadTestConfig
) -> dict[str, Any]:
    """Run one surge while another client polls the liveness probe.

    Capacity is measured right before and right after: on a shared machine it changes within a minute.
    """
    before = asyncio.run(measure_saturation(stream, CONCURRENT_REQUESTS, config.seconds / 3))
    calm = config.seconds / 1.5
    phases = [(NORMAL_SHARE * before, calm), (share * before, seconds), (NORMAL_SHARE * before, config.recovery)]
    outcomes, live, cpu_samples = asyncio.run(_send_with_liveness_probe(server, stream, phases))
    end = calm + seconds
    surge = summarize_outcomes([each for each in outcomes if calm <= each.due < end], seconds)
    memory = server.memory()[0]
    after = asyncio.run(measure_saturation(stream, CONCURRENT_REQUESTS, config.seconds / 3))
    return {
        **surge,
        "rate": share * before,
        "capacity": {"before": before, "after": after},
        "share": surge["answered_per_second"] / ((before + after) / 2),
        "cores": _cores_used([each for each in cpu_samples if calm <= each[0] < end]),
        "live_ms": latency_percentiles(live),
        "live_unanswered": sum(each == float("inf") for each in live),
        "normal_after_seconds": seconds_to_normal(
            [each for each in outcomes if each.due < calm], [each for each in outcomes if each.due >= end], end
        ),
        "lost_in_all": sum(each.status not in (OK, *REFUSED) for each in outcomes),
        "memory_mb": memory,
    }


async def _send_with_liveness_probe(
    server: Server, stream: RequestStream, phases: Sequence[tuple[float, float]]
) -> tuple[list[RequestOutcome], list[float], list[CpuSample]]:
    load = asyncio.create_task(send_at_rate(stream, phases))
    begin = time.perf_counter()
    live: list[float] = []
    cpu_samples: list[CpuSample] = []
    while not load.done():
        cpu_samples.append((time.perf_counter() - begin, server.cpu_seconds(), time.process_time()))
        live.append(await _probe_liveness(server.port))
        await asyncio.sleep(0.1)
    return load.result(), live, cpu_samples


def _cores_used(cpu_samples: Sequence[CpuSample]) -> dict[str, float]:
    """Return the cores that the server and the generator kept busy between the first and the last sample."""
    seconds, server, generator = (last - first for first, last in zip(cpu_samples[0], cpu_samples[-1], strict=True))
    return {"server": server / seconds, "generator": generator / seconds} if seconds else {}


async def _probe_liveness(port: int) -> float:
    """Return the seconds that the liveness probe took over a connection of its own; infinity if it failed."""
    begin = time.perf_counter()
    try:
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(LIVENESS_REQUEST)
            status = await reader.readline()
            writer.close()
    except (OSError, TimeoutError):
        return float("inf")
    return time.perf_counter() - begin if b" 200 " in status else float("inf")


def seconds_to_normal(before: Sequence[RequestOutcome], after: Sequence[RequestOutcome], end: float) -> float | None:
    """Return the seconds from the end of a surge until latency is back to normal; None if that never happens.

    A second is normal if every request is answered and its p99 is at most the highest of a second before the surge.
    Three normal seconds in a row are required, not that all later ones are normal: on a shared machine a second may be
    slow without a surge.
    """
    limit = max((_p99(each) for each in _by_second(before, 0.0).values()), default=0.0)
    normal = {
        second
        for second, outcomes in _by_second(after, end).items()
        if all(outcome.status == OK for outcome in outcomes) and _p99(outcomes) <= limit
    }
    return min((float(second) for second in normal if {second + 1, second + 2} <= normal), default=None)


def _by_second(outcomes: Sequence[RequestOutcome], begin: float) -> dict[int, list[RequestOutcome]]:
    seconds: dict[int, list[RequestOutcome]] = {}
    for each in outcomes:
        seconds.setdefault(int(each.due - begin), []).append(each)
    return seconds


def _p99(outcomes: Sequence[RequestOutcome]) -> float:
    return float(np.percentile([each.latency for each in outcomes], 99))


def _run_with_slow_clients(
    server: Server, stream: RequestStream, rate: float, config: LoadTestConfig
) -> dict[str, Any]:
    """Run the same load without and with sockets that send one byte per second, in turns.

    A slice with them is compared with the mean of its two neighbours without. The control is the difference between
    these neighbours, which is the noise of the machine.
    """
    p99: dict[str, list[float]] = {"without": [], "with": []}
    lost = 0
    for number in range(4 * config.rounds + 1):
        name = ("without", "with")[number % 2]
        with _slow_sockets(server.port, SLOW_SOCKETS if name == "with" else 0):
            summary = _run_phase(stream, rate, config.seconds / 2)
        p99[name].append(summary["latency_ms"]["p99"])
        lost += summary["lost"]
    neighbours = list(zip(p99["without"], p99["without"][1:], strict=False))
    rises = [2 * slow / sum(pair) - 1 for slow, pair in zip(p99["with"], neighbours, strict=True)]
    return {
        "sockets": SLOW_SOCKETS,
        "p99_ms": p99,
        "rise": float(np.median(rises)),
        "control": [float(later / earlier - 1) for earlier, later in neighbours],
        "lost": lost,
    }


@contextmanager
def _slow_sockets(port: int, number: int) -> Iterator[None]:
    """Keep slow clients connected until the block ends."""
    command = [sys.executable, "-m", "load_tests.slowloris", str(port), str(number)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        process.stdout.readline()  # printed once all are connected
        yield
    finally:
        process.kill()
        process.communicate()
